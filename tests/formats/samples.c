#include "samples.h"

#include "bytes.h"
#include "file.h"
#include "layout.h"
#include "pack/pack.h"
#include "sparse.h"
#include "vocab.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

/* ---- bytes and files ---- */

void sample_add(sample *s, const void *data, size_t bytes)
{
    if (s->size + bytes > s->capacity) {
        s->capacity = (s->size + bytes) * 2 + 64;
        s->data = realloc(s->data, s->capacity);
        expect_that(s->data, "out of memory");
    }
    if (bytes)
        memcpy(s->data + s->size, data, bytes);
    s->size += bytes;
}

void sample_u8(sample *s, uint8_t v) { sample_add(s, &v, sizeof v); }
void sample_u32(sample *s, uint32_t v) { sample_add(s, &v, sizeof v); }
void sample_u64(sample *s, uint64_t v) { sample_add(s, &v, sizeof v); }
void sample_f32(sample *s, float v) { sample_add(s, &v, sizeof v); }

void sample_free(sample *s)
{
    free(s->data);
    *s = (sample){0};
}

static char folder[] = "/tmp/infer-formats-XXXXXX";
static bool folder_made;

static void remove_folder(void)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    while (d && (e = readdir(d)))
        unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(folder);
}

const char *sample_path(const char *name)
{
    static char paths[8][256];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    if (!folder_made) {
        cr_assert(mkdtemp(folder));
        atexit(remove_folder);
        folder_made = true;
    }
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

const char *sample_write(const char *name, const void *data, size_t bytes)
{
    const char *path = sample_path(name);
    FILE *f = fopen(path, "wb");
    expect_that(f && fwrite(data, 1, bytes, f) == bytes && fclose(f) == 0, "cannot write %s", path);
    return path;
}

size_t sample_file_count(void)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    size_t n = 0;
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* ---- .infer ---- */

float sample_weight(size_t i) { return (float)((i * 2654435761u >> 7) % 2001) / 1000.0f - 1.0f; }

static sample read_whole(const char *path)
{
    sample s = {0};
    FILE *f = fopen(path, "rb");
    int c;

    cr_assert(f);
    while ((c = fgetc(f)) != EOF)
        sample_u8(&s, (uint8_t)c);
    fclose(f);
    unlink(path);
    return s;
}

sample sample_infer(void)
{
    static const char *const text[] = {"<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab"};
    static const uint32_t bytes[] = {5, 3, 4, 6, 1, 1, 2}, merges[][2] = {{4, 5}};
    static const uint8_t types[] = {INFER_TOKEN_UNKNOWN, INFER_TOKEN_CONTROL, INFER_TOKEN_CONTROL, INFER_TOKEN_BYTE,
                                    INFER_TOKEN_NORMAL,  INFER_TOKEN_NORMAL,  INFER_TOKEN_NORMAL};
    const infer_vocab_parts parts = {.kind = INFER_VOCAB_BPE,
                                     .flags = INFER_VOCAB_ADD_BOS,
                                     .unk = 0,
                                     .bos = 1,
                                     .eos = 2,
                                     .tokens = 7,
                                     .merges = 1,
                                     .text = text,
                                     .text_bytes = bytes,
                                     .types = types,
                                     .merge = merges};
    const struct {
        const char *name;
        infer_qtype type;
        infer_layout layout;
        uint32_t rows, cols;
    } tensors[] = {{"norm", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 5},
                   {"w", INFER_QTYPE_Q8G32, INFER_LAYOUT_TILE16X4, 17, 33},
                   {"z", INFER_QTYPE_Q4G32, INFER_LAYOUT_TILE16X4, 3, 32}};
    infer_writer_options options = {.metadata = "{\"architecture\":\"none\"}", .overwrite = true};
    const char *path = sample_path("sample.infer");
    infer_writer *w;
    infer_error err = {0};
    float rows[16 * 33];
    uint8_t panel[2048];
    void *vocab;

    cr_assert_eq(infer_vocab_build(NULL, &parts, &vocab, &options.vocab_bytes, &err), INFER_OK, "%s", err.message);
    options.vocab = vocab;
    cr_assert_eq(infer_writer_create(NULL, path, &options, &w, &err), INFER_OK, "%s", err.message);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(infer_writer_declare(w, tensors[i].name, tensors[i].type, tensors[i].layout, tensors[i].rows, tensors[i].cols, &err),
                     INFER_OK);
    for (size_t i = 0; i < 3; i++)
        for (uint32_t row = 0; row < tensors[i].rows; row += 16) {
            uint32_t n = tensors[i].rows - row < 16 ? tensors[i].rows - row : 16;
            for (size_t j = 0; j < (size_t)n * tensors[i].cols; j++)
                rows[j] = sample_weight(row * tensors[i].cols + j);
            if (tensors[i].layout == INFER_LAYOUT_ROWS) {
                cr_assert_eq(infer_writer_write(w, rows, n * tensors[i].cols * sizeof(float), &err), INFER_OK);
                continue;
            }
            cr_assert(infer_pack_panel(tensors[i].type, rows, n, tensors[i].cols, panel));
            cr_assert_eq(infer_writer_write(w, panel, infer_panel_bytes(tensors[i].type, tensors[i].cols), &err), INFER_OK);
        }
    cr_assert_eq(infer_writer_finish(w, &err), INFER_OK, "%s", err.message);
    infer_free(NULL, vocab);

    return read_whole(path);
}

void sample_sparse_rows(float rows[20 * 70])
{
    memset(rows, 0, 20 * 70 * sizeof *rows);
    for (uint32_t r = 0; r < 16; r++)
        for (uint32_t i = 0; i < 70; i++)
            if (i == 1 || i == 3 || i == 66 || i == 67 || i == 69)
                rows[r * 70 + i] = sample_weight(r * 70 + i);
}

sample sample_sparse(void)
{
    static const infer_layout layouts[] = {INFER_LAYOUT_BCSR16X1, INFER_LAYOUT_BCSR16X4, INFER_LAYOUT_CSR, INFER_LAYOUT_BITMASK};
    infer_writer_options options = {.metadata = "{\"architecture\":\"none\"}", .vocab = "", .overwrite = true};
    const char *path = sample_path("sparse.infer");
    float rows[20 * 70];
    void *data[8];
    uint64_t bytes[8];
    infer_writer *w;
    infer_error err = {0};

    sample_sparse_rows(rows);
    cr_assert_eq(infer_writer_create(NULL, path, &options, &w, &err), INFER_OK, "%s", err.message);
    for (size_t i = 0; i < 8; i++) {
        infer_qtype type = i % 2 ? INFER_QTYPE_Q4G64 : INFER_QTYPE_Q8G64;
        infer_layout layout = layouts[i / 2];
        uint64_t units = infer_sparse_count(layout, rows, 16, 70) + infer_sparse_count(layout, rows + 16 * 70, 4, 70);
        cr_assert(infer_sparse_bytes(type, layout, 20, 70, units, &bytes[i]));
        data[i] = infer_alloc(NULL, bytes[i]);
        infer_sparse_begin(type, layout, 20, 70, units, data[i]);
        cr_assert(infer_sparse_pack_panel(type, layout, 20, 70, 0, rows, data[i]));
        cr_assert(infer_sparse_pack_panel(type, layout, 20, 70, 1, rows + 16 * 70, data[i]));
        cr_assert_eq(infer_writer_declare_sparse(w, (const char[]){(char)('a' + i), 0}, type, layout, 20, 70, bytes[i], &err), INFER_OK, "%s", err.message);
    }
    cr_assert_eq(infer_writer_declare_sparse(w, "z", INFER_QTYPE_Q8G64, INFER_LAYOUT_CSR, 20, 70, bytes[4] + 20 * 70 * 4, &err),
                 INFER_ERROR_ARGUMENT);
    for (size_t i = 0; i < 8; i++) {
        cr_assert_eq(infer_writer_write(w, data[i], bytes[i], &err), INFER_OK, "%s", err.message);
        infer_free(NULL, data[i]);
    }
    cr_assert_eq(infer_writer_finish(w, &err), INFER_OK, "%s", err.message);
    return read_whole(path);
}

static void seal_part(sample *s, size_t offset_at, size_t bytes_at, size_t hash_at)
{
    uint64_t offset = get_u64(s->data + offset_at), bytes = get_u64(s->data + bytes_at);
    if (offset <= s->size && bytes <= s->size - offset)
        put_u64(s->data + hash_at, XXH3_64bits(s->data + offset, bytes));
}

void sample_infer_seal(sample *s)
{
    seal_part(s, HEADER_META_OFFSET, HEADER_META_BYTES, HEADER_META_HASH);
    seal_part(s, HEADER_VOCAB_OFFSET, HEADER_VOCAB_BYTES, HEADER_VOCAB_HASH);
    seal_part(s, HEADER_DIR_OFFSET, HEADER_DIR_BYTES, HEADER_DIR_HASH);
    put_u64(s->data + HEADER_HASH, XXH3_64bits(s->data, HEADER_HASH));
}

/* ---- llama2.c ---- */

#define TOKENS 7
static const char *const token_text[TOKENS] = {"<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab"};

sample sample_llama2c(bool shared_head)
{
    const int32_t header[7] = {8, 12, 2, 2, 1, shared_head ? TOKENS : -TOKENS, 4};
    /* tok_embed, attn_norm, q, k, v, o, ffn_norm, gate, down, up, out_norm, rotary tables, head */
    const size_t counts[] = {
        7 * 8, 2 * 8, 2 * 64, 2 * 32, 2 * 32, 2 * 64, 2 * 8, 2 * 96, 2 * 96, 2 * 96, 8, 2 * 4 * 2, shared_head ? 0 : 7 * 8};
    sample s = {0};
    size_t total = 0;

    sample_add(&s, header, sizeof header);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        total += counts[i];
    for (size_t i = 0; i < total; i++)
        sample_f32(&s, sample_weight(i));
    return s;
}

sample sample_bitllama(void)
{
    static const uint32_t header[] = {0x616b3432, 1, 8, 12, 2, 2, 1, 7, 4};
    static const uint32_t bytes[] = {64 / 4, 32 / 4, 32 / 4, 64 / 4, 96 / 4, 96 / 4, 96 / 4}; /* q k v o gate down up */
    sample s = {0};
    uint32_t next = 0;
    for (size_t i = 0; i < sizeof header / sizeof header[0]; i++)
        sample_u32(&s, header[i]);
    sample_u8(&s, 1);
    while (s.size < 256)
        sample_u8(&s, 0);
    for (size_t i = 0; i < 8 + 7 * 8; i++)
        sample_f32(&s, sample_weight(i));
    for (size_t kind = 0; kind < sizeof bytes / sizeof bytes[0]; kind++)
        for (uint32_t layer = 0; layer < 2; layer++) {
            sample_f32(&s, 0.5f + (float)kind + 0.25f * (float)layer);
            for (uint32_t i = 0; i < bytes[kind]; i++)
                sample_u8(&s, (uint8_t)(157 * next++));
        }
    return s;
}

sample sample_tokenizer_bin(void)
{
    sample s = {0};
    sample_u32(&s, 7);
    for (uint32_t i = 0; i < TOKENS; i++) {
        char text[16];
        snprintf(text, sizeof text, i == 1 || i == 2 ? "\n%s\n" : "%s", token_text[i]);
        sample_f32(&s, -(float)i);
        sample_u32(&s, (uint32_t)strlen(text));
        sample_add(&s, text, strlen(text));
    }
    return s;
}

/* ---- GGUF ---- */

void sample_gguf_string(sample *s, const char *text)
{
    sample_u64(s, strlen(text));
    sample_add(s, text, strlen(text));
}

static void key(sample_gguf_parts *p, const char *name, uint32_t type)
{
    sample_gguf_string(&p->values, name);
    sample_u32(&p->values, type);
    p->values_added++;
}

void sample_gguf_key_u32(sample_gguf_parts *p, const char *name, uint32_t v)
{
    key(p, name, 4);
    sample_u32(&p->values, v);
}

void sample_gguf_key_f32(sample_gguf_parts *p, const char *name, float v)
{
    key(p, name, 6);
    sample_f32(&p->values, v);
}

void sample_gguf_key_string(sample_gguf_parts *p, const char *name, const char *v)
{
    key(p, name, 8);
    sample_gguf_string(&p->values, v);
}

void sample_gguf_key_array(sample_gguf_parts *p, const char *name, uint32_t type, uint64_t count)
{
    key(p, name, 9);
    sample_u32(&p->values, type);
    sample_u64(&p->values, count);
}

void sample_gguf_tensor_add(sample_gguf_parts *p, const char *name, uint64_t cols, uint64_t rows, uint32_t type)
{
    sample_gguf_tensor *t = &p->tensors[p->tensors_added++];
    cr_assert(p->tensors_added <= sizeof p->tensors / sizeof p->tensors[0]);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->cols = cols;
    t->rows = rows;
    t->type = type;
}

void sample_gguf_model(sample_gguf_parts *p, uint32_t type)
{
    static const uint32_t types[TOKENS] = {2, 3, 3, 6, 1, 1, 1};
    bool blocks = type == 2 || type == 8;
    uint32_t dim = blocks ? 32 : 8, ffn = blocks ? 64 : 12, kv = dim / 2;
    size_t at = 0;

    *p = (sample_gguf_parts){.version = 3};
    sample_gguf_key_string(p, "general.architecture", "llama");
    sample_gguf_key_u32(p, "llama.context_length", 4);
    sample_gguf_key_u32(p, "llama.embedding_length", dim);
    sample_gguf_key_u32(p, "llama.feed_forward_length", ffn);
    sample_gguf_key_u32(p, "llama.attention.head_count", 2);
    sample_gguf_key_u32(p, "llama.attention.head_count_kv", 1);
    sample_gguf_key_u32(p, "llama.block_count", 2);
    sample_gguf_key_f32(p, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    sample_gguf_key_string(p, "tokenizer.ggml.model", "llama");
    sample_gguf_key_array(p, "tokenizer.ggml.tokens", 8, TOKENS);
    for (int i = 0; i < TOKENS; i++)
        sample_gguf_string(&p->values, token_text[i]);
    sample_gguf_key_array(p, "tokenizer.ggml.scores", 6, TOKENS);
    for (int i = 0; i < TOKENS; i++)
        sample_f32(&p->values, -(float)i);
    sample_gguf_key_array(p, "tokenizer.ggml.token_type", 5, TOKENS);
    for (int i = 0; i < TOKENS; i++)
        sample_u32(&p->values, types[i]);

    /* In llama2.c's order, which gives both files the same weights. */
    sample_gguf_tensor_add(p, "token_embd.weight", dim, TOKENS, type);
    static const char *const kinds[] = {"attn_norm", "attn_q",   "attn_k",   "attn_v", "attn_output",
                                        "ffn_norm",  "ffn_gate", "ffn_down", "ffn_up"};
    for (size_t k = 0; k < 9; k++)
        for (int layer = 0; layer < 2; layer++) {
            char name[64];
            bool vector = k == 0 || k == 5;
            uint64_t cols = k == 7 ? ffn : dim, rows = k == 2 || k == 3 ? kv : k == 6 || k == 8 ? ffn : dim;
            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, kinds[k]);
            sample_gguf_tensor_add(p, name, cols, vector ? 0 : rows, vector ? 0 : type);
        }
    sample_gguf_tensor_add(p, "output_norm.weight", dim, 0, 0);
    for (size_t i = 0; i < p->tensors_added; i++) {
        p->tensors[i].first = at;
        at += p->tensors[i].cols * (p->tensors[i].rows ? p->tensors[i].rows : 1);
    }
}

static void add_weights(sample *s, const sample_gguf_tensor *t)
{
    size_t count = t->cols * (t->rows ? t->rows : 1);
    for (size_t i = 0; i < count; i++) {
        float w = sample_weight(t->first + i);
        uint32_t bits;
        memcpy(&bits, &w, sizeof bits);
        switch (t->type) {
        case 1: /* F16 of a number of [-1, 1]: exact where the fraction is short, and always finite */
            sample_u8(s, (uint8_t)(i * 37));
            sample_u8(s, (uint8_t)(0x30 + i % 8));
            break;
        case 2:
        case 8: /* blocks of 32: scale 2^-7 x (1 + i/32 mod 3), then codes */
            if (i % 32 == 0) {
                sample_u8(s, 0);
                sample_u8(s, (uint8_t)(0x20 + i / 32 % 3 * 4));
            }
            if (t->type == 8)
                sample_u8(s, (uint8_t)(int8_t)(w * 127));
            else if (i % 2 == 0)
                sample_u8(s, (uint8_t)(i * 73));
            break;
        case 30:
            sample_u8(s, (uint8_t)(bits >> 16));
            sample_u8(s, (uint8_t)(bits >> 24));
            break;
        default: sample_f32(s, w);
        }
    }
}

static uint64_t data_bytes(const sample_gguf_tensor *t)
{
    uint64_t count = t->cols * (t->rows ? t->rows : 1);
    switch (t->type) {
    case 1:
    case 30: return count * 2;
    case 2: return count / 32 * 18;
    case 8: return count / 32 * 34;
    default: return count * 4;
    }
}

sample sample_gguf(sample_gguf_parts *p)
{
    sample s = {0};
    uint64_t at = 0;

    sample_add(&s, "GGUF", 4);
    sample_u32(&s, p->version);
    sample_u64(&s, p->tensor_count ? p->tensor_count : p->tensors_added);
    sample_u64(&s, p->value_count ? p->value_count : p->values_added);
    sample_add(&s, p->values.data, p->values.size);
    for (size_t i = 0; i < p->tensors_added; i++) {
        const sample_gguf_tensor *t = &p->tensors[i];
        sample_gguf_string(&s, t->name);
        sample_u32(&s, t->rows ? 2 : 1);
        sample_u64(&s, t->cols);
        if (t->rows)
            sample_u64(&s, t->rows);
        sample_u32(&s, t->type);
        sample_u64(&s, at);
        at += (data_bytes(t) + 31) / 32 * 32;
    }
    for (size_t i = 0; i < p->tensors_added; i++) {
        while (s.size % 32)
            sample_u8(&s, 0);
        add_weights(&s, &p->tensors[i]);
    }
    sample_free(&p->values);
    return s;
}
