/* Importers: other people's files, one interface, one table (importers.c). Used by infer-convert only; the runtime reads .infer. */
#ifndef INFER_FORMATS_IMPORT_H
#define INFER_FORMATS_IMPORT_H

#include "file.h"

/* One tensor of the source, in the names and orientation of formats/file.h. */
typedef struct infer_source_tensor {
    char name[INFER_FILE_MAX_NAME + 1];
    uint64_t rows, cols;
    bool matrix;        /* a matmul weight or embedding: goes to tile16x4, cols or a sparse layout. Else rows/f32 */
    infer_qtype stored; /* what the source holds: F32, F16, BF16, Q8G32, Q4G32 or N4G32 when its codes can be carried over bit for bit, or T2R:
                         * rows of -s, 0 and s */
    infer_layout stored_layout; /* of what read_stored gives, and how much that is; 0: nothing */
    uint64_t stored_bytes;
} infer_source_tensor;

typedef struct infer_source {
    const char *metadata; /* JSON in the keys of formats/file.h */
    const void *vocab;    /* tokenizer section, ready to store */
    size_t vocab_bytes;
    size_t tensor_count;
    const infer_source_tensor *tensors;
    void *state; /* the importer's own */
    const struct infer_importer *importer;
    infer_allocator allocator;
} infer_source;

typedef struct infer_importer {
    const char *name;        /* "gguf" */
    const char *description; /* one line for --help */
    /* 1 when the file at `path`, whose first `bytes` bytes are `head`, is of this kind. */
    int (*probe)(const char *path, const uint8_t *head, size_t bytes);
    /* `tokenizer` may be NULL: a separate tokenizer file. out->allocator is set; everything else is zero, and left so on failure. */
    infer_status (*open)(const char *path, const char *tokenizer, infer_source *out, infer_error *err);
    /* Rows [row, row + n) of tensor `index` as floats [n][cols]. */
    infer_status (*read_f32)(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err);
    /* The same rows as stored codes, when tensors[index].stored has codes: int8 codes [n][cols] of infer_code_range (pack/pack.h) and fp16 scales
     * [n][cols / 32]. NULL: never. */
    infer_status (*read_codes)(const infer_source *s, size_t index, uint64_t row, uint64_t n, int8_t *codes, uint16_t *scales,
                               infer_error *err);
    /* The tensor's stored_bytes bytes as a .infer file has them, its hash checked. NULL: never. */
    infer_status (*read_stored)(const infer_source *s, size_t index, const void **out, infer_error *err);
    void (*close)(infer_source *s);
} infer_importer;

extern const infer_importer *const infer_importers[]; /* NULL-terminated; importers.c */

/* Tries every importer. FORMAT: none knows the file, with the list of those that exist. */
infer_status infer_source_open(const infer_allocator *a, const char *path, const char *tokenizer, infer_source *out, infer_error *err);
void infer_source_close(infer_source *s);

/* The tokenizer section alone, from any file that holds a vocabulary: .infer, .gguf, tokenizer.json, SentencePiece's .model, llama2.c's
 * tokenizer.bin, vocab.json or encoder.json with merges.txt or vocab.bpe beside it; or from a folder that has one of them. *section is
 * allocated with `a`. */
infer_status infer_vocab_import(const infer_allocator *a, const char *path, void **section, size_t *bytes, infer_error *err);

#endif
