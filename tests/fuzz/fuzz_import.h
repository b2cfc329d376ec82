/* Opens the input as a model and reads every row of it. */
#ifndef INFER_TESTS_FUZZ_IMPORT_H
#define INFER_TESTS_FUZZ_IMPORT_H

#include "fuzz.h"

#include "bytes.h"
#include "import/import.h"

static inline void fuzz_import_path(const char *path, const char *tokenizer)
{
    infer_error err;
    infer_source s;
    if (infer_source_open(NULL, path, tokenizer, &s, &err) != INFER_OK)
        return;
    for (size_t i = 0; i < s.tensor_count; i++) {
        const infer_source_tensor *t = &s.tensors[i];
        float *row = malloc(t->cols * sizeof *row);
        int8_t *codes = malloc(t->cols);
        uint16_t *scales = malloc((t->cols / 32 + 1) * sizeof *scales);
        for (uint64_t r = 0; r < t->rows && s.importer->read_f32(&s, i, r, 1, row, &err) == INFER_OK; r++)
            if (s.importer->read_codes)
                s.importer->read_codes(&s, i, r, 1, codes, scales, &err);
        free(row);
        free(codes);
        free(scales);
    }
    infer_source_close(&s);
}

static inline void fuzz_import(const uint8_t *data, size_t size, const char *suffix, const char *tokenizer)
{
    fuzz_import_path(fuzz_file(data, size, suffix), tokenizer);
}

/* A checkpoint with its tokenizer: the first two bytes say how much of the input is the tokenizer, the rest is the checkpoint. */
static inline void fuzz_checkpoint(const uint8_t *data, size_t size)
{
    static char path[64];
    size_t tokenizer_bytes;

    if (size < 2)
        return;
    tokenizer_bytes = get_u16(data) < size - 2 ? get_u16(data) : size - 2;
    snprintf(path, sizeof path, "/tmp/infer-fuzz-%ld.tokenizer", (long)getpid());
    fuzz_write(path, data + 2, tokenizer_bytes);
    fuzz_import(data + 2 + tokenizer_bytes, size - 2 - tokenizer_bytes, ".bin", path);
}

#endif
