/* A laptop's battery, while it is what feeds the machine: power where it is told, else the falling energy. Coarse: new values come every 1
 * to 60 s. */
#include "energy/energy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "/sys/class/power_supply"

static bool has(const infer_energy_place *place, const char *supply, const char *file, const char *value)
{
    char path[INFER_ENERGY_PATH], line[48];
    return infer_sysfs_path(path, place, FOLDER "/%s/%s", supply, file) && infer_first_line(path, line, sizeof line) &&
           (!value || strcmp(line, value) == 0);
}

/* A battery of the machine, not of a mouse. */
static bool is_battery(const infer_energy_place *place, const char *supply)
{
    return has(place, supply, "type", "Battery") && !has(place, supply, "scope", "Device");
}

static infer_status count_battery(void *user, const char *supply, infer_error *err)
{
    infer_energy_parts *parts = user;
    (void)err;
    parts->count += is_battery(&parts->place, supply);
    return INFER_OK;
}

static bool probe(const infer_energy_place *place)
{
    char folder[INFER_ENERGY_PATH];
    infer_energy_parts found = {.place = *place};
    infer_status s;
    return infer_sysfs_path(folder, place, FOLDER) && infer_sysfs_walk(folder, "", count_battery, &found, &s, NULL) && found.count;
}

/* What a battery may tell, best first: files, power or energy, and the factor to uW or uJ. */
static const struct way {
    const char *file, *other;
    bool power;
    double scale;
} ways[] = {
    {"power_now", NULL, true, 1},               /* uW */
    {"current_now", "voltage_now", true, 1e-6}, /* uA x uV */
    {"energy_now", NULL, false, 3600},          /* uWh */
    {"charge_now", "voltage_min_design", false, 3600e-6}, /* uAh x uV; the voltage of the moment would move the count */
};

static infer_status add_battery(void *user, const char *supply, infer_error *err)
{
    infer_energy_parts *parts = user;
    const infer_energy_place *place = &parts->place;
    infer_energy_part *part;
    double value;
    if (!is_battery(place, supply))
        return INFER_OK;
    if (!has(place, supply, "status", "Discharging")) {
        if (has(place, supply, "status", "Full") || has(place, supply, "status", "Not charging") ||
            has(place, supply, "status", "Charging"))
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "battery %.40s: it is not what feeds the machine; unplug the power supply",
                              supply);
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "battery %.40s: its status is not Discharging", supply);
    }
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        const struct way *w = &ways[i];
        if (!has(place, supply, w->file, NULL) || (w->other && !has(place, supply, w->other, NULL)))
            continue;
        if (!(part = infer_energy_add(parts, err)))
            return INFER_ERROR_UNSUPPORTED;
        snprintf(part->name, sizeof part->name, "%.47s", supply);
        part->power = w->power;
        part->falls = !w->power;
        part->scale = w->scale;
        if (!infer_sysfs_path(part->path, place, FOLDER "/%s/%s", supply, w->file) ||
            !infer_sysfs_path(part->other, place, FOLDER "/%s/%s", supply, w->other ? w->other : "status"))
            return infer_fail(err, INFER_ERROR_ARGUMENT, "the root folder's name is too long");
        return infer_energy_battery.read(parts, part, &value, err);
    }
    return infer_fail(err, INFER_ERROR_UNSUPPORTED, "battery %.40s: it tells neither power nor energy", supply);
}

static infer_status open_batteries(infer_energy_parts *parts, infer_error *err)
{
    char folder[INFER_ENERGY_PATH];
    infer_status s;
    if (!infer_sysfs_path(folder, &parts->place, FOLDER) || !infer_sysfs_walk(folder, "", add_battery, parts, &s, err))
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", folder, strerror(errno));
    if (s == INFER_OK && !parts->count)
        s = infer_fail(err, INFER_ERROR_UNSUPPORTED, "battery: there is none");
    return s;
}

static infer_status read_battery(const infer_energy_parts *parts, const infer_energy_part *part, double *value, infer_error *err)
{
    char status[48], supply[48];
    double factor = 1, raw;
    infer_status s;
    snprintf(supply, sizeof supply, "%s", part->name);
    if (!has(&parts->place, supply, "status", "Discharging"))
        return infer_fail(err, INFER_ERROR_IO, "battery %s: it is no longer discharging", supply);
    if ((s = infer_sysfs_number(part->path, &raw, err)) != INFER_OK)
        return s;
    snprintf(status, sizeof status, "%s", strrchr(part->other, '/'));
    if (strcmp(status, "/status") != 0 && (s = infer_sysfs_number(part->other, &factor, err)) != INFER_OK)
        return s;
    if (part->power && raw < 0)
        raw = -raw; /* some drivers give what flows out a minus sign */
    *value = raw * factor * part->scale;
    return INFER_OK;
}

const infer_energy_source infer_energy_battery = {
    .name = "battery", .automatic = true, .update_s = 60, .sample_ns = 1000000000,
    .probe = probe, .open = open_batteries, .read = read_battery,
};
