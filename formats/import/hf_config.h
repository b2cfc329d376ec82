/* config.json and its neighbours in a Hugging Face folder -> a model. */
#ifndef INFER_FORMATS_IMPORT_HF_CONFIG_H
#define INFER_FORMATS_IMPORT_HF_CONFIG_H

#include "import/arch.h"

#include <cjson/cJSON.h>

/* The JSON files of a folder; NULL where one is missing. */
typedef struct infer_hf_files {
    cJSON *config, *generation, *tokenizer;
    char *chat_template; /* chat_template.jinja, allocated */
    size_t chat_template_bytes;
} infer_hf_files;

infer_status infer_hf_files_read(const infer_allocator *a, const char *folder, infer_hf_files *out, infer_error *err);
void infer_hf_files_free(const infer_allocator *a, infer_hf_files *f);

typedef struct infer_hf_model {
    infer_arch arch;                 /* borrows texts of the files */
    const infer_name_style *names;
    bool norm_plus_one;              /* norms are stored less 1 (Gemma) */
} infer_hf_model;

/* UNSUPPORTED names what the model asks for and this library lacks. `path` is the folder, for messages. */
infer_status infer_hf_model_read(const infer_hf_files *f, const char *path, infer_hf_model *out, infer_error *err);

#endif
