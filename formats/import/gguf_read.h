/* The GGUF container, versions 2 and 3, one file or several: keys, values and tensors, checked; nothing about what they mean. */
#ifndef INFER_FORMATS_IMPORT_GGUF_READ_H
#define INFER_FORMATS_IMPORT_GGUF_READ_H

#include "core/core.h"
#include "import/gguf_types.h"
#include "strmap.h"

typedef enum infer_gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
} infer_gguf_type;

typedef struct infer_gguf_value {
    const char *key;
    uint64_t key_bytes;
    uint32_t type, element; /* element: of arrays */
    uint64_t count;         /* elements of an array, bytes of a string */
    const uint8_t *data;    /* the number, the string's bytes, the first element */
} infer_gguf_value;

typedef struct infer_gguf_tensor {
    char name[65];                         /* the format allows 64 bytes */
    const infer_gguf_number_type *numbers; /* its type, one that can be read */
    uint64_t rows, cols;                   /* vectors: rows = 1 */
    uint64_t offset;                       /* from the start of its file */
    uint64_t row_bytes;
    uint32_t file;
} infer_gguf_tensor;

typedef struct infer_gguf_file {
    char *path;
    infer_mapping map;
} infer_gguf_file;

typedef struct infer_gguf {
    infer_allocator allocator;
    infer_gguf_file *files; /* the parts of a model that is split, in order */
    uint32_t file_count;
    const char *path; /* of the first, whose keys and values these are */
    infer_gguf_value *values;
    size_t value_count, value_cap;
    infer_strmap keys;
    infer_gguf_tensor *tensors; /* of all files */
    uint32_t tensor_count;
    infer_strmap names;
} infer_gguf;

/* Fills *g; on failure everything is released again. `path` may be any part of a split model (NAME-00002-of-00003.gguf): the others are
 * looked for beside it. FORMAT names what is wrong and where, parts that do not belong together among it; IO a part that is missing;
 * UNSUPPORTED versions and tensor types. */
infer_status infer_gguf_open(const infer_allocator *a, const char *path, infer_gguf *g, infer_error *err);
void infer_gguf_close(infer_gguf *g);

/* A tensor's first byte. */
static inline const uint8_t *infer_gguf_data(const infer_gguf *g, const infer_gguf_tensor *t)
{
    return g->files[t->file].map.data + t->offset;
}
/* CORRUPT when the tensor's file has shrunk. */
infer_status infer_gguf_check(const infer_gguf *g, const infer_gguf_tensor *t, infer_error *err);

/* NULL when there is none. */
const infer_gguf_value *infer_gguf_find(const infer_gguf *g, const char *key);
const infer_gguf_tensor *infer_gguf_find_tensor(const infer_gguf *g, const char *name);

/* Numbers. A missing key leaves *out as it is, or is an error when `required`. A value of another kind or out of range is an error. */
infer_status infer_gguf_uint(const infer_gguf *g, const char *key, bool required, uint64_t most, uint64_t *out, infer_error *err);
infer_status infer_gguf_float(const infer_gguf *g, const char *key, bool required, double *out, infer_error *err);
infer_status infer_gguf_bool(const infer_gguf *g, const char *key, bool *out, infer_error *err);
/* Text, not NUL-terminated. A missing key gives NULL and 0. */
infer_status infer_gguf_string(const infer_gguf *g, const char *key, bool required, const char **out, uint64_t *bytes, infer_error *err);
/* An array of `element`s; a missing key gives NULL. */
infer_status infer_gguf_array(const infer_gguf *g, const char *key, infer_gguf_type element, bool required, const infer_gguf_value **out,
                              infer_error *err);
/* The string at *p in an array of strings, of which the reader checked the length; *p moves behind it. */
const char *infer_gguf_next_string(const uint8_t **p, uint64_t *bytes);

#endif
