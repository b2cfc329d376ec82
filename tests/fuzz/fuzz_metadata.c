/* JSON metadata, as the reader hands them on: one object, without a NUL. */
#include "fuzz.h"

#include "model/model.h"

#include <cjson/cJSON.h>

static void fuzz_one(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    infer_config config;
    cJSON *json;

    FUZZ_REQUIRE(text);
    memcpy(text, data, size);
    text[size] = 0;
    json = cJSON_ParseWithLengthOpts(text, size + 1, NULL, 1);
    if (cJSON_IsObject(json) && infer_config_parse(text, "fuzz", &config, NULL) == INFER_OK) {
        FUZZ_REQUIRE(config.dim >= 1 && config.dim <= INFER_MAX_DIM && config.layers >= 1 && config.layers <= INFER_MAX_LAYERS);
        FUZZ_REQUIRE(config.vocab >= 1 && config.vocab <= INFER_MAX_VOCAB && config.context >= 1 && config.context <= INFER_MAX_CONTEXT);
        FUZZ_REQUIRE(config.heads % config.kv_heads == 0 && config.eos_count <= 16);
    }
    cJSON_Delete(json);
    free(text);
}
