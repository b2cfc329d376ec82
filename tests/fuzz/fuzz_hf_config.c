/* config.json of a Hugging Face folder, up to the list of tensors and the metadata that follow from it. */
#include "fuzz.h"

#include "import/hf_config.h"
#include "import/json_file.h"

static void fuzz_one(const uint8_t *data, size_t size)
{
    infer_error err;
    infer_hf_files files = {0};
    infer_hf_model model;
    infer_source_tensor *tensors;
    infer_slot *slots;
    size_t count;
    char *metadata;

    if (infer_json_parse((const char *)data, size, &(infer_json_limits){1 << 20, 1 << 16}, "config.json", &files.config, &err) != INFER_OK)
        return;
    files.tokenizer = cJSON_Duplicate(files.config, 1);
    files.generation = cJSON_Duplicate(files.config, 1);
    if (infer_hf_model_read(&files, "folder", &model, &err) == INFER_OK) {
        if (infer_arch_metadata(NULL, &model.arch, &metadata, &err) == INFER_OK)
            infer_free(NULL, metadata);
        if (infer_arch_tensors(NULL, &model.arch, &tensors, &slots, &count, &err) == INFER_OK) {
            infer_place place;
            for (size_t i = 0; i < count; i++)
                infer_name_place(model.names, &model.arch, slots[i], &tensors[i], &place);
            infer_free(NULL, tensors);
            infer_free(NULL, slots);
        }
    }
    infer_hf_files_free(NULL, &files);
}
