/* The safetensors container: one file, or several with an index; nothing about what the tensors mean. */
#ifndef INFER_FORMATS_IMPORT_SAFETENSORS_H
#define INFER_FORMATS_IMPORT_SAFETENSORS_H

#include "core/core.h"
#include "strmap.h"

typedef enum infer_safetensors_type {
    INFER_SAFETENSORS_F32,
    INFER_SAFETENSORS_F16,
    INFER_SAFETENSORS_BF16,
    INFER_SAFETENSORS_U8,
    INFER_SAFETENSORS_OTHER
} infer_safetensors_type;

typedef struct infer_safetensor {
    char *name;
    infer_safetensors_type type;
    char type_name[12];  /* as the file says it */
    uint64_t rows, cols; /* vectors: rows = 1; more than two dimensions: all but the last are rows */
    uint32_t file;
    uint64_t offset;     /* in that file */
    bool used;           /* for the caller */
} infer_safetensor;

typedef struct infer_safetensors_file {
    char *path;
    infer_mapping map;
} infer_safetensors_file;

typedef struct infer_safetensors {
    infer_allocator allocator;
    infer_safetensors_file *files;
    size_t file_count, file_cap;
    infer_safetensor *tensors;
    size_t tensor_count, tensor_cap;
    infer_strmap names;      /* to tensors, made when all files are open */
    infer_strmap file_names; /* of an index, while its files are opened */
} infer_safetensors;

/* Opens FOLDER/model.safetensors.index.json and every file it names, else FOLDER/model.safetensors; or one file, when `path` is one. Fills *s; on
 * failure everything is released again. FORMAT names file, tensor, found and expected. */
infer_status infer_safetensors_open(const infer_allocator *a, const char *path, bool folder, infer_safetensors *s, infer_error *err);
void infer_safetensors_close(infer_safetensors *s);
/* NULL when there is none. */
infer_safetensor *infer_safetensors_find(const infer_safetensors *s, const char *name);
static inline uint64_t infer_safetensors_element_bytes(infer_safetensors_type type)
{
    return type == INFER_SAFETENSORS_F32 ? 4 : type == INFER_SAFETENSORS_U8 ? 1 : 2;
}

/* Numbers [row][col..col + n) of a tensor of a known type as floats; out[i * stride]. They were checked to be there. */
void infer_safetensors_read(const infer_safetensors *s, const infer_safetensor *t, uint64_t row, uint64_t col, uint64_t n, float *out, size_t stride);
/* CORRUPT when a file became shorter than its map. */
infer_status infer_safetensors_check(const infer_safetensors *s, const infer_safetensor *t, infer_error *err);

#endif
