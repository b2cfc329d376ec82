/* What the readers of JSON vocabularies share. */
#ifndef INFER_FORMATS_IMPORT_JSON_TEXT_H
#define INFER_FORMATS_IMPORT_JSON_TEXT_H

#include "core/core.h"

#include <cjson/cJSON.h>
#include <string.h>

static inline const cJSON *get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static inline bool text_is(const cJSON *item, const char *text)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0;
}

/* Parses a whole file; *out is to be given to cJSON_Delete. FORMAT for what is no JSON, or more than any vocabulary has: memory stays below
 * a gigabyte. */
infer_status infer_vocab_json_parse(const char *json, size_t bytes, const char *path, cJSON **out, infer_error *err);

#endif
