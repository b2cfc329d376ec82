#include "small_model.h"

#include "file.h"
#include "vocab.h"

#include <stdio.h>
#include <string.h>

enum { DIM = 32, TOKENS = 7 };

static infer_status build_vocab(bool bad_map, void **out, size_t *bytes, infer_error *err)
{
    static const char *const text[TOKENS] = {"<unk>", "<s>", "</s>", "\xe2\x96\x81", "a", "b", "ab"};
    static const uint8_t map[] = {4, 0, 0, 0, 0, 0, 0, 0, 0}; /* one unit, behind which every text leads */
    uint32_t text_bytes[TOKENS];
    uint8_t types[TOKENS];
    infer_vocab_parts p = {.kind = INFER_VOCAB_SPM, .flags = INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_META_SPACE | INFER_VOCAB_ADD_BOS};
    p.bos = 1;
    p.eos = 2;
    p.tokens = TOKENS;
    p.text = text;
    p.text_bytes = text_bytes;
    p.types = types;
    for (uint32_t i = 0; i < TOKENS; i++) {
        text_bytes[i] = (uint32_t)strlen(text[i]);
        types[i] = i == 0 ? INFER_TOKEN_UNKNOWN : i < 3 ? INFER_TOKEN_CONTROL : INFER_TOKEN_NORMAL;
    }
    if (bad_map) {
        p.flags |= INFER_VOCAB_CHARSMAP;
        p.charsmap = map;
        p.charsmap_bytes = sizeof map;
    }
    return infer_vocab_build(NULL, &p, out, bytes, err);
}

static const struct tensor {
    const char *name;
    uint32_t rows, cols;
} tensors[] = {{"layers.0.attn_norm", 1, DIM}, {"layers.0.q", DIM, DIM},      {"layers.0.k", DIM, DIM},    {"layers.0.v", DIM, DIM},
               {"layers.0.o", DIM, DIM},       {"layers.0.ffn_norm", 1, DIM}, {"layers.0.gate", DIM, DIM}, {"layers.0.up", DIM, DIM},
               {"layers.0.down", DIM, DIM},    {"out_norm", 1, DIM},          {"tok_embed", SMALL_MODEL_VOCAB, DIM}};
enum { TENSORS = sizeof tensors / sizeof *tensors };

static infer_status write_tensors(infer_writer *w, bool cols, infer_error *err)
{
    float numbers[8 * DIM * DIM] = {0};
    infer_status s = INFER_OK;
    for (uint32_t i = 0; i < TENSORS && s == INFER_OK; i++) {
        bool other = cols && i + 1 == TENSORS, matrix = tensors[i].rows > 1;
        s = infer_writer_declare(w, tensors[i].name, other ? INFER_QTYPE_Q8G64 : INFER_QTYPE_F32,
                                 other    ? INFER_LAYOUT_COLS
                                 : matrix ? INFER_LAYOUT_TILE16X4
                                          : INFER_LAYOUT_ROWS,
                                 tensors[i].rows, tensors[i].cols, err);
    }
    for (uint32_t i = 0; i < TENSORS && s == INFER_OK; i++) {
        uint64_t bytes = tensors[i].rows * tensors[i].cols * sizeof(float);
        for (uint32_t k = 0; k < DIM * DIM; k++)
            numbers[k] = tensors[i].rows == 1 ? 1 : (float)((k * 37 + i * 11) % 101) / 101 - 0.5f;
        if (cols && i + 1 == TENSORS &&
            (!infer_tensor_bytes(INFER_QTYPE_Q8G64, INFER_LAYOUT_COLS, SMALL_MODEL_VOCAB, DIM, &bytes) || bytes > sizeof numbers))
            return infer_fail(err, INFER_ERROR_ARGUMENT, "the layout cols takes %llu bytes", (unsigned long long)bytes);
        s = infer_writer_write(w, numbers, bytes, err);
    }
    return s;
}

infer_status small_model_write(const char *path, const small_model *m, infer_error *err)
{
    char metadata[512];
    infer_writer_options o = {.metadata = metadata};
    infer_writer *w;
    void *vocab = NULL;
    infer_status s = m->tokenizer ? build_vocab(m->bad_map, &vocab, &o.vocab_bytes, err) : INFER_OK;
    if (s != INFER_OK)
        return s;
    o.vocab = vocab;
    snprintf(metadata, sizeof metadata,
             "{\"architecture\":\"%s\",\"dim\":%d,\"layers\":1,\"heads\":2,\"kv_heads\":2,\"ffn_dim\":%d,\"vocab\":%d,\"context\":64,"
             "\"norm_eps\":1e-5,\"rope\":{\"theta\":10000,\"pairs\":\"halves\"},\"tied_head\":true%s}",
             m->unknown ? "a brain" : "llama", DIM, DIM, SMALL_MODEL_VOCAB,
             m->events ? ",\"events\":{\"target\":0.5,\"rates\":[0.5],\"thresholds\":{}}" : "");
    s = infer_writer_create(NULL, path, &o, &w, err);
    infer_free(NULL, vocab);
    if (s != INFER_OK)
        return s;
    if ((s = write_tensors(w, m->cols, err)) != INFER_OK) {
        infer_writer_abort(w);
        return s;
    }
    return infer_writer_finish(w, err);
}
