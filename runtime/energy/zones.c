#include "energy/zones.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "/sys/class/powercap"

typedef struct walk {
    infer_energy_parts *parts;
    bool (*wanted)(const infer_zone *zone);
    const char *prefix;
    uint32_t found;
} walk;

static infer_status count_zone(void *user, const char *entry, infer_error *err)
{
    walk *w = user;
    (void)entry;
    (void)err;
    w->found++;
    return INFER_OK;
}

bool infer_zones_exist(const infer_energy_place *place, const char *prefix)
{
    char folder[INFER_ENERGY_PATH];
    walk w = {0};
    infer_status s;
    return infer_sysfs_path(folder, place, FOLDER) && infer_sysfs_walk(folder, prefix, count_zone, &w, &s, NULL) && w.found > 0;
}

static infer_status add_zone(void *user, const char *entry, infer_error *err)
{
    walk *w = user;
    infer_zone zone = {.entry = entry, .depth = 1};
    char path[INFER_ENERGY_PATH];
    infer_energy_part *part;
    double range;
    for (const char *p = entry + strlen(w->prefix); *p; p++)
        zone.depth += *p == ':';
    if (!infer_sysfs_path(path, &w->parts->place, FOLDER "/%s/name", entry) || !infer_first_line(path, zone.name, sizeof zone.name))
        snprintf(zone.name, sizeof zone.name, "%.40s", entry);
    if (!w->wanted(&zone))
        return INFER_OK;
    if (!(part = infer_energy_add(w->parts, err)))
        return INFER_ERROR_UNSUPPORTED;
    snprintf(part->name, sizeof part->name, "%s", zone.name);
    if (!infer_sysfs_path(part->path, &w->parts->place, FOLDER "/%s/energy_uj", entry))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "the root folder's name is too long");
    if (!infer_first_line(part->path, path, sizeof path) && errno == EACCES)
        return infer_fail(err, INFER_ERROR_IO,
                          "%s: only root may read it (since CVE-2020-8694: power tells on secrets); perf's counters need no root where "
                          "perf_event_paranoid is 0 or less",
                          part->path);
    if (!infer_sysfs_path(path, &w->parts->place, FOLDER "/%s/max_energy_range_uj", entry) ||
        infer_sysfs_number(path, &range, NULL) != INFER_OK || range < 0)
        range = 0;
    part->range_uj = (uint64_t)range;
    return infer_sysfs_read(w->parts, part, &range, err); /* that it can be read is known now, not in the middle of a run */
}

infer_status infer_zones_add(infer_energy_parts *parts, const char *prefix, bool (*wanted)(const infer_zone *zone), infer_error *err)
{
    char folder[INFER_ENERGY_PATH];
    walk w = {parts, wanted, prefix, 0};
    infer_status s;
    if (!infer_sysfs_path(folder, &parts->place, FOLDER) || !infer_sysfs_walk(folder, prefix, add_zone, &w, &s, err))
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", folder, strerror(errno));
    return s;
}
