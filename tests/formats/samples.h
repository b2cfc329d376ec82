/* Small files for the suites of formats/, made in memory, so that tests can break them byte by byte. */
#ifndef INFER_TESTS_SAMPLES_H
#define INFER_TESTS_SAMPLES_H

#include "core/core.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* For loops of thousands: Criterion reports every passed assertion to its runner, which takes longer than what is tested here. */
#define expect_that(condition, ...)                                                                                                        \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            cr_assert_fail(__VA_ARGS__);                                                                                                   \
    } while (0)

/* Bytes that grow. Running out of memory ends the test. */
typedef struct sample {
    uint8_t *data;
    size_t size, capacity;
} sample;
void sample_add(sample *s, const void *data, size_t bytes);
void sample_u8(sample *s, uint8_t v);
void sample_u32(sample *s, uint32_t v);
void sample_u64(sample *s, uint64_t v);
void sample_f32(sample *s, float v);
void sample_free(sample *s);

/* A path in a folder of this process, removed at its end; valid until the next call but seven. */
const char *sample_path(const char *name);
/* Writes the bytes to sample_path(name) and returns that path. */
const char *sample_write(const char *name, const void *data, size_t bytes);
/* How many files the folder holds. */
size_t sample_file_count(void);

/* A .infer file with a tokenizer and the tensors "norm" f32 rows [1][5], "w" q8g32 tile16x4 [17][33] and "z" q4g32 tile16x4 [3][32]. */
sample sample_infer(void);
/* "a" to "f": [20][70] in the sparse layouts, two types each; sample_sparse_rows are what was packed. */
sample sample_sparse(void);
void sample_sparse_rows(float rows[20 * 70]);
/* Makes the hashes of header, metadata, tokenizer and directory right again after a change inside them. */
void sample_infer_seal(sample *s);

/* A llama2.c checkpoint: dim 8, ffn 12, 2 layers, 2 heads, 1 KV head, 7 tokens, context 4; and its tokenizer. */
sample sample_llama2c(bool shared_head);
sample sample_tokenizer_bin(void);
/* A bitllama checkpoint of the same shape. Byte i of all matrices, counted through the file, is 157 i mod 256. */
sample sample_bitllama(void);
/* Float number `i` of all those in the sample models. */
float sample_weight(size_t i);

/* ---- GGUF ---- */

typedef struct sample_gguf_tensor {
    char name[64];
    uint64_t cols, rows; /* rows 0: a vector */
    uint32_t type;
    size_t first; /* number of its first weight */
} sample_gguf_tensor;

/* What sample_gguf writes; change it before, to make a bad file. */
typedef struct sample_gguf_parts {
    uint32_t version;
    uint64_t tensor_count, value_count; /* as stated; 0: the true count */
    sample values;                      /* keys and values, ready */
    size_t values_added;
    sample_gguf_tensor tensors[24];
    size_t tensors_added;
} sample_gguf_parts;

/* The same model as sample_llama2c, its matrices in `type` (0 F32, 1 F16, 2 Q4_0, 8 Q8_0, 30 BF16), with dim 32 and ffn 64 for Q4_0 and
 * Q8_0. */
void sample_gguf_model(sample_gguf_parts *p, uint32_t type);
void sample_gguf_key_u32(sample_gguf_parts *p, const char *key, uint32_t v);
void sample_gguf_key_f32(sample_gguf_parts *p, const char *key, float v);
void sample_gguf_key_string(sample_gguf_parts *p, const char *key, const char *v);
/* Head of an array; its elements follow with sample_add and so on into p->values. */
void sample_gguf_key_array(sample_gguf_parts *p, const char *key, uint32_t type, uint64_t count);
void sample_gguf_string(sample *s, const char *text);
void sample_gguf_tensor_add(sample_gguf_parts *p, const char *name, uint64_t cols, uint64_t rows, uint32_t type);
/* Lays out the file and frees the parts. */
sample sample_gguf(sample_gguf_parts *p);

#endif
