/* JSON from files that may have been written by an enemy: bounded in size, one value, nothing behind it. */
#ifndef INFER_FORMATS_IMPORT_JSON_FILE_H
#define INFER_FORMATS_IMPORT_JSON_FILE_H

#include "core/core.h"

#include <cjson/cJSON.h>

/* What a text may have. A value, or the key of one, takes cJSON some 80 bytes. */
typedef struct infer_json_limits {
    size_t bytes, values;
} infer_json_limits;

/* An object, to be released with cJSON_Delete. `what` is for messages. FORMAT: no JSON object, or beyond the limits; MEMORY. */
infer_status infer_json_parse(const char *text, size_t bytes, const infer_json_limits *most, const char *what, cJSON **out, infer_error *err);
/* The object in the file FOLDER/NAME. A file that is not there gives IO, or *out NULL when it is optional. */
infer_status infer_json_read(const char *folder, const char *name, const infer_json_limits *most, bool optional, cJSON **out, infer_error *err);

/* Members of an object, which `what` names in messages. A missing or null one leaves *out as it is, or is an error when it is required; one of another
 * kind or out of range is an error: FORMAT names it, what was found and what was expected. */
typedef struct infer_json {
    const cJSON *object;
    const char *what;
    infer_error *err;
    infer_status status; /* the first failure; later calls do nothing then */
} infer_json;

void infer_json_uint(infer_json *j, const char *key, bool required, uint64_t most, uint64_t *out);
void infer_json_float(infer_json *j, const char *key, bool required, double *out);
void infer_json_bool(infer_json *j, const char *key, bool *out);
/* Borrowed from the object. */
void infer_json_string(infer_json *j, const char *key, bool required, const char **out);
/* NULL when it is missing or null. */
const cJSON *infer_json_find(const infer_json *j, const char *key);

#endif
