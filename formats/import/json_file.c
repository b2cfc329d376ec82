#include "import/json_file.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How many values an array or object of the text begins or goes on with: all of them but the outermost, or more. */
static size_t count_values(const char *text, size_t bytes)
{
    size_t count = 0;
    bool quoted = false;

    for (size_t i = 0; i < bytes; i++)
        if (text[i] == '"')
            quoted = !quoted;
        else if (quoted)
            i += text[i] == '\\';
        else
            count += text[i] == ',' || text[i] == '[' || text[i] == '{';
    return count;
}

infer_status infer_json_parse(const char *text, size_t bytes, const infer_json_limits *most, const char *what, cJSON **out, infer_error *err)
{
    const char *end = NULL;
    size_t values;
    cJSON *json;

    if (bytes > most->bytes)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %zu bytes of JSON, expected at most %zu", what, bytes, most->bytes);
    values = count_values(text, bytes);
    if (values > most->values)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %zu values of JSON, expected at most %zu", what, values, most->values);
    json = cJSON_ParseWithLengthOpts(text, bytes, &end, 0);
    for (const char *p = end; json && p < text + bytes; p++)
        if (!strchr(" \t\r\n", *p) || *p == '\0') {
            cJSON_Delete(json);
            json = NULL;
        }
    if (cJSON_IsObject(json)) {
        *out = json;
        return INFER_OK;
    }
    cJSON_Delete(json);
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: not one JSON object (the error is near byte %zu)", what, end ? (size_t)(end - text) : 0);
}

infer_status infer_json_read(const char *folder, const char *name, const infer_json_limits *most, bool optional, cJSON **out, infer_error *err)
{
    char path[PATH_MAX];
    infer_mapping map;
    infer_status s;

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return infer_fail(err, INFER_ERROR_IO, "%s: the path is too long", folder);
    if (optional && access(path, F_OK) != 0 && errno == ENOENT) {
        *out = NULL;
        return INFER_OK;
    }
    if ((s = infer_map_file(path, &map, err)) != INFER_OK)
        return s;
    s = infer_json_parse((const char *)map.data, map.size, most, path, out, err);
    infer_unmap(&map);
    return s;
}

const cJSON *infer_json_find(const infer_json *j, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(j->object, key);
    return cJSON_IsNull(item) ? NULL : item;
}

/* NULL: not there, or an error has been noted. */
static const cJSON *find(infer_json *j, const char *key, bool required)
{
    const cJSON *item = j->status == INFER_OK ? infer_json_find(j, key) : NULL;
    if (!item && required && j->status == INFER_OK)
        j->status = infer_fail(j->err, INFER_ERROR_FORMAT, "%s: \"%s\" is missing", j->what, key);
    return item;
}

void infer_json_uint(infer_json *j, const char *key, bool required, uint64_t most, uint64_t *out)
{
    const cJSON *item = find(j, key, required);
    double d;

    if (!item)
        return;
    d = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(d >= 0 && d <= (double)most && d == floor(d)))
        j->status = infer_fail(j->err, INFER_ERROR_FORMAT, "%s: \"%s\": found %s%.9g, expected a whole number up to %" PRIu64, j->what, key,
                               cJSON_IsNumber(item) ? "" : "no number, ", cJSON_IsNumber(item) ? d : 0.0, most);
    else
        *out = (uint64_t)d;
}

void infer_json_float(infer_json *j, const char *key, bool required, double *out)
{
    const cJSON *item = find(j, key, required);

    if (!item)
        return;
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
        j->status = infer_fail(j->err, INFER_ERROR_FORMAT, "%s: \"%s\": expected a number", j->what, key);
    else
        *out = item->valuedouble;
}

void infer_json_bool(infer_json *j, const char *key, bool *out)
{
    const cJSON *item = find(j, key, false);

    if (!item)
        return;
    if (!cJSON_IsBool(item))
        j->status = infer_fail(j->err, INFER_ERROR_FORMAT, "%s: \"%s\": expected true or false", j->what, key);
    else
        *out = cJSON_IsTrue(item);
}

void infer_json_string(infer_json *j, const char *key, bool required, const char **out)
{
    const cJSON *item = find(j, key, required);

    if (!item)
        return;
    if (!cJSON_IsString(item))
        j->status = infer_fail(j->err, INFER_ERROR_FORMAT, "%s: \"%s\": expected a text", j->what, key);
    else
        *out = item->valuestring;
}
