#include "energy/energy.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool infer_sysfs_path(char out[INFER_ENERGY_PATH], const infer_energy_place *place, const char *format, ...)
{
    va_list args;
    int n = snprintf(out, INFER_ENERGY_PATH, "%s", place->root), more;
    if (n < 0 || n >= (int)INFER_ENERGY_PATH)
        return false;
    va_start(args, format);
    more = vsnprintf(out + n, INFER_ENERGY_PATH - (size_t)n, format, args);
    va_end(args);
    return more >= 0 && n + more < (int)INFER_ENERGY_PATH;
}

infer_status infer_sysfs_number(const char *path, double *out, infer_error *err)
{
    char line[128], *end;
    double value;
    if (!infer_first_line(path, line, sizeof line))
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", path, strerror(errno));
    value = strtod(line, &end);
    if (end == line || !isfinite(value))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: found \"%.40s\", expected a number", path, line);
    *out = value;
    return INFER_OK;
}

infer_status infer_sysfs_read(const infer_energy_parts *parts, const infer_energy_part *part, double *value, infer_error *err)
{
    double raw;
    infer_status s = infer_sysfs_number(part->path, &raw, err);
    (void)parts;
    if (s == INFER_OK)
        *value = raw * part->scale;
    return s;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

bool infer_sysfs_walk(const char *folder, const char *prefix, infer_sysfs_each *each, void *user, infer_status *status, infer_error *err)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, by_name);
    *status = INFER_OK;
    if (n < 0)
        return false;
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (*status == INFER_OK && *name != '.' && strncmp(name, prefix, strlen(prefix)) == 0)
            *status = each(user, name, err);
        free(entries[i]);
    }
    free(entries);
    return true;
}

bool infer_sysfs_exists(const infer_energy_place *place, const char *path)
{
    char full[INFER_ENERGY_PATH];
    return infer_sysfs_path(full, place, "%s", path) && access(full, F_OK) == 0;
}

infer_energy_part *infer_energy_add(infer_energy_parts *parts, infer_error *err)
{
    infer_energy_part *part = &parts->part[parts->count];
    if (parts->count == INFER_ENERGY_MAX_PARTS) {
        infer_fail(err, INFER_ERROR_UNSUPPORTED, "more than %u energy counters", INFER_ENERGY_MAX_PARTS);
        return NULL;
    }
    *part = (infer_energy_part){.scale = 1, .fd = -1};
    parts->count++;
    return part;
}
