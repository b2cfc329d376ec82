/* RAPL through /sys/class/powercap (Intel and AMD share the driver's name): zones intel-rapl:0, and nested in it intel-rapl:0:1. */
#include "energy/zones.h"

#include <errno.h>
#include <string.h>

/* Packages (one a die where there are several) and, beside them, memory. psys holds them all and serves where there is no package. */
static bool is_package(const infer_zone *z) { return z->depth == 1 && strncmp(z->name, "package", 7) == 0; }
static bool is_memory(const infer_zone *z) { return strcmp(z->name, "dram") == 0; }
static bool is_platform(const infer_zone *z) { return z->depth == 1 && strcmp(z->name, "psys") == 0; }

static bool probe(const infer_energy_place *place)
{
    return infer_zones_exist(place, "intel-rapl:") || infer_zones_exist(place, "intel-rapl-mmio:");
}

/* The memory-mapped registers show the same counters again: they serve where the others are missing. */
static infer_status open_zones(infer_energy_parts *parts, infer_error *err)
{
    const char *prefix = infer_zones_exist(&parts->place, "intel-rapl:") ? "intel-rapl:" : "intel-rapl-mmio:";
    infer_status s = infer_zones_add(parts, prefix, is_package, err);
    if (s == INFER_OK && parts->count)
        s = infer_zones_add(parts, prefix, is_memory, err);
    else if (s == INFER_OK)
        s = infer_zones_add(parts, prefix, is_platform, err);
    if (s == INFER_OK && !parts->count)
        s = infer_fail(err, INFER_ERROR_UNSUPPORTED, "powercap: no zone named package or psys");
    return s;
}

const infer_energy_source infer_energy_powercap = {
    .name = "powercap", .automatic = true, .update_s = 0.001, .probe = probe, .open = open_zones, .read = infer_sysfs_read,
};
