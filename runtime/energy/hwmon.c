/* Sensor chips: amd_energy counts microjoules for each socket; an INA3221 tells volts and amperes of a board's rails (Jetson), integrated
 * by sampling. */
#include "energy/energy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "/sys/class/hwmon"
#define CHANNELS 4      /* of an INA3221, counted from 1; the fourth and later are sums of the others */
#define MAX_SENSORS 512 /* energy<N>_input of one chip: cores come before sockets */

static infer_status add_part(infer_energy_parts *parts, const char *label, const char *path, const char *other, bool power, double scale,
                             infer_error *err)
{
    infer_energy_part *part = infer_energy_add(parts, err);
    double value;
    if (!part)
        return INFER_ERROR_UNSUPPORTED;
    snprintf(part->name, sizeof part->name, "%.47s", label);
    snprintf(part->path, sizeof part->path, "%s", path);
    snprintf(part->other, sizeof part->other, "%s", other);
    part->power = power;
    part->scale = scale;
    return infer_energy_hwmon.read(parts, part, &value, err);
}

static infer_status add_amd(infer_energy_parts *parts, const char *chip, infer_error *err)
{
    infer_status s = INFER_OK;
    for (int i = 1; i <= MAX_SENSORS && s == INFER_OK; i++) {
        char path[INFER_ENERGY_PATH], label[48];
        if (!infer_sysfs_path(path, &parts->place, FOLDER "/%s/energy%d_label", chip, i) || !infer_first_line(path, label, sizeof label))
            break;
        if (strncmp(label, "Esocket", 7) == 0 && infer_sysfs_path(path, &parts->place, FOLDER "/%s/energy%d_input", chip, i))
            s = add_part(parts, label, path, "", false, 1, err); /* cores are inside of their socket */
    }
    return s;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* A rail called ..._IN feeds the others, so it is counted alone; else all rails are. */
static infer_status add_ina(infer_energy_parts *parts, const char *chip, infer_error *err)
{
    infer_status s = INFER_OK;
    bool has_input = false;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 1; i < CHANNELS && s == INFER_OK; i++) {
            char path[INFER_ENERGY_PATH], volts[INFER_ENERGY_PATH], amperes[INFER_ENERGY_PATH], label[48];
            if (!infer_sysfs_path(path, &parts->place, FOLDER "/%s/in%d_label", chip, i) || !infer_first_line(path, label, sizeof label) ||
                strcmp(label, "NC") == 0)
                continue;
            if (pass == 0) {
                has_input |= ends_with(label, "_IN");
                continue;
            }
            if (has_input && !ends_with(label, "_IN"))
                continue;
            if (!infer_sysfs_path(volts, &parts->place, FOLDER "/%s/in%d_input", chip, i) ||
                !infer_sysfs_path(amperes, &parts->place, FOLDER "/%s/curr%d_input", chip, i))
                return infer_fail(err, INFER_ERROR_ARGUMENT, "the root folder's name is too long");
            s = add_part(parts, label, volts, amperes, true, 1, err); /* mV x mA = uW */
        }
    return s;
}

static infer_status add_chip(void *user, const char *chip, infer_error *err)
{
    infer_energy_parts *parts = user;
    char path[INFER_ENERGY_PATH], name[48];
    if (!infer_sysfs_path(path, &parts->place, FOLDER "/%s/name", chip) || !infer_first_line(path, name, sizeof name))
        return INFER_OK;
    if (strcmp(name, "amd_energy") == 0)
        return add_amd(parts, chip, err);
    if (strcmp(name, "ina3221") == 0)
        return add_ina(parts, chip, err);
    return INFER_OK;
}

static infer_status find_chip(void *user, const char *chip, infer_error *err)
{
    infer_energy_parts *parts = user;
    char path[INFER_ENERGY_PATH], name[48];
    (void)err;
    if (infer_sysfs_path(path, &parts->place, FOLDER "/%s/name", chip) && infer_first_line(path, name, sizeof name))
        parts->count += strcmp(name, "amd_energy") == 0 || strcmp(name, "ina3221") == 0;
    return INFER_OK;
}

static bool probe(const infer_energy_place *place)
{
    char folder[INFER_ENERGY_PATH];
    infer_energy_parts found = {.place = *place};
    infer_status s;
    return infer_sysfs_path(folder, place, FOLDER) && infer_sysfs_walk(folder, "hwmon", find_chip, &found, &s, NULL) && found.count;
}

static infer_status open_chips(infer_energy_parts *parts, infer_error *err)
{
    char folder[INFER_ENERGY_PATH];
    infer_status s;
    if (!infer_sysfs_path(folder, &parts->place, FOLDER) || !infer_sysfs_walk(folder, "hwmon", add_chip, parts, &s, err))
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", folder, strerror(errno));
    if (s == INFER_OK && !parts->count)
        s = infer_fail(err, INFER_ERROR_UNSUPPORTED, "hwmon: neither sockets of amd_energy nor rails of an INA3221");
    return s;
}

static infer_status read_sensor(const infer_energy_parts *parts, const infer_energy_part *part, double *value, infer_error *err)
{
    double millivolts, milliamperes;
    infer_status s;
    if (!part->power)
        return infer_sysfs_read(parts, part, value, err);
    if ((s = infer_sysfs_number(part->path, &millivolts, err)) == INFER_OK &&
        (s = infer_sysfs_number(part->other, &milliamperes, err)) == INFER_OK)
        *value = millivolts * milliamperes * part->scale;
    return s;
}

const infer_energy_source infer_energy_hwmon = {
    .name = "hwmon", .automatic = true, .update_s = 0.1, .sample_ns = 100000000, .probe = probe, .open = open_chips, .read = read_sensor,
};
