/* Where there is no counter. The three coefficients come from the user's file or, README.md says from where, from published figures. */
#include "energy/energy.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGEST_FILE 65536u

static const struct key {
    const char *name;
    size_t offset;
    double fallback, high;
} keys[] = {
    {"watts_per_core", offsetof(infer_energy_model, watts_per_core), 4.0, 1000},
    {"joules_per_gigabyte", offsetof(infer_energy_model, joules_per_gigabyte), 0.24, 1000},
    {"idle_watts_per_core", offsetof(infer_energy_model, idle_watts_per_core), 2.0, 1000},
};
#define KEYS (sizeof keys / sizeof keys[0])

static bool users_file(char out[INFER_ENERGY_PATH])
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n;
    if (xdg && *xdg == '/') /* others are to be ignored: XDG Base Directory Specification 0.8 */
        n = snprintf(out, INFER_ENERGY_PATH, "%s/libinfer/energy.json", xdg);
    else if (home && *home == '/')
        n = snprintf(out, INFER_ENERGY_PATH, "%s/.config/libinfer/energy.json", home);
    else
        return false;
    return n > 0 && n < (int)INFER_ENERGY_PATH && access(out, F_OK) == 0;
}

static infer_status parse(const char *path, const char *text, size_t bytes, infer_energy_model *out, infer_error *err)
{
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    const cJSON *item;
    infer_status s = INFER_OK;
    if (!cJSON_IsObject(root))
        s = infer_fail(err, INFER_ERROR_FORMAT, "%s: expected a JSON object", path);
    cJSON_ArrayForEach(item, root)
    {
        size_t k = 0;
        if (s != INFER_OK)
            break;
        while (k < KEYS && strcmp(keys[k].name, item->string) != 0)
            k++;
        if (k == KEYS)
            s = infer_fail(err, INFER_ERROR_FORMAT,
                           "%s: found the key \"%.40s\", expected watts_per_core, joules_per_gigabyte or idle_watts_per_core", path,
                           item->string);
        else if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= keys[k].high))
            s = infer_fail(err, INFER_ERROR_FORMAT, "%s: %s: expected a number in 0..%g", path, keys[k].name, keys[k].high);
        else
            memcpy((char *)out + keys[k].offset, &item->valuedouble, sizeof(double));
    }
    cJSON_Delete(root);
    return s;
}

infer_status infer_energy_model_load(const char *path, infer_energy_model *out, infer_error *err)
{
    char found[INFER_ENERGY_PATH];
    infer_energy_model model;
    infer_mapping map;
    infer_status s;
    for (size_t k = 0; k < KEYS; k++)
        memcpy((char *)&model + keys[k].offset, &keys[k].fallback, sizeof(double));
    if (!path && users_file(found))
        path = found;
    if (path) {
        if ((s = infer_map_file(path, &map, err)) != INFER_OK)
            return s;
        s = map.size > LARGEST_FILE
                ? infer_fail(err, INFER_ERROR_FORMAT, "%s: found %zu bytes, expected at most %u", path, map.size, LARGEST_FILE)
                : parse(path, (const char *)map.data, map.size, &model, err);
        infer_unmap(&map);
        if (s != INFER_OK)
            return s;
    }
    *out = model;
    return INFER_OK;
}
