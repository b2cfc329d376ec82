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

/* How the matrices of the layers are stored when the model was trained with ternary weights (arXiv:2402.17764). */
typedef enum infer_hf_ternary {
    INFER_HF_TERNARY_NONE,
    INFER_HF_TERNARY_MASTER, /* the numbers that training rounds: each s = mean |w| times the nearest of -1, 0 and 1 to w / s */
    INFER_HF_TERNARY_TIMES,  /* four codes a byte, beside a scale that the codes are multiplied by */
    INFER_HF_TERNARY_OVER,   /* the same, divided by it */
} infer_hf_ternary;

typedef struct infer_hf_model {
    infer_arch arch;                 /* borrows texts of the files */
    const infer_name_style *names;
    bool norm_plus_one;              /* norms are stored less 1 (Gemma) */
    infer_hf_ternary ternary;
} infer_hf_model;

/* UNSUPPORTED names what the model asks for and this library lacks. `path` is the folder, for messages. */
infer_status infer_hf_model_read(const infer_hf_files *f, const char *path, infer_hf_model *out, infer_error *err);

#endif
