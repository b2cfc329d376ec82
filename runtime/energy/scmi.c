/* Power domains of an Arm system's firmware (SCMI powercap): zones arm-scmi:0, nested ones inside. */
#include "energy/zones.h"

#define PREFIX "arm-scmi:"

static bool probe(const infer_energy_place *place) { return infer_zones_exist(place, PREFIX); }
static bool is_outermost(const infer_zone *z) { return z->depth == 1; }

static infer_status open_zones(infer_energy_parts *parts, infer_error *err)
{
    infer_status s = infer_zones_add(parts, PREFIX, is_outermost, err);
    return s == INFER_OK && !parts->count ? infer_fail(err, INFER_ERROR_UNSUPPORTED, "scmi: no zone that is not nested in another") : s;
}

const infer_energy_source infer_energy_scmi = {
    .name = "scmi", .automatic = true, .update_s = 0.1, .probe = probe, .open = open_zones, .read = infer_sysfs_read,
};
