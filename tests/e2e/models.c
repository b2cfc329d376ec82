#include "models.h"

#include "convert/convert.h"
#include "import/import.h"
#include "model/model.h"
#include "ref/mathf.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char paths[16][256];
static size_t path_count;

static const char *new_path(void)
{
    const char *dir = getenv("TMPDIR");
    static unsigned number;
    cr_assert_lt(path_count, 16);
    snprintf(paths[path_count], sizeof paths[0], "%s/infer-e2e-%ld-%u.infer", dir ? dir : "/tmp", (long)getpid(), number++);
    return paths[path_count++];
}

void models_clean(void)
{
    while (path_count)
        unlink(paths[--path_count]);
}

/* ggml's Q8_0 of 32 numbers: scale = largest magnitude / 127, codes by it, halves away from 0; the scale is then stored as fp16. */
static void round_q8_0(float *x)
{
    float most = 0, step, stored;
    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[i]));
    step = most / 127;
    stored = infer_ref_f16_to_f32(infer_ref_f32_to_f16(step));
    for (int i = 0; i < 32; i++)
        x[i] = stored * roundf(x[i] * (step != 0 ? 1 / step : 0));
}

static const infer_importer *float_importer; /* of the source that is being rounded */

static infer_status read_rounded(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    infer_status status = float_importer->read_f32(s, index, row, n, out, err);
    for (uint64_t i = 0; status == INFER_OK && s->tensors[index].matrix && i < n * s->tensors[index].cols; i += 32)
        round_q8_0(out + i);
    return status;
}

const char *model_rounded_q8_0(const char *name)
{
    const char *found = check_data(name), *out;
    infer_convert_options options = {.type = INFER_QTYPE_F32, .overwrite = true};
    infer_importer rounding;
    infer_source source;
    infer_error err = {0};
    if (!found)
        return NULL;
    out = new_path();
    cr_assert_eq(infer_source_open(NULL, found, NULL, &source, &err), INFER_OK, "%s", err.message);
    float_importer = source.importer;
    rounding = *float_importer;
    rounding.read_f32 = read_rounded;
    source.importer = &rounding;
    cr_assert_eq(infer_convert(NULL, &source, out, &options, NULL, &err), INFER_OK, "%s", err.message);
    source.importer = float_importer;
    infer_source_close(&source);
    return out;
}

const char *model_converted(const char *name, const char *tokenizer, const char *type)
{
    char source_path[512], tokenizer_path[512];
    const char *found = check_data(name), *out;
    infer_convert_options options = {.type = type ? infer_qtype_find_name(type)->type : INFER_QTYPE_NONE, .overwrite = true};
    infer_source source;
    infer_error err = {0};
    if (!found)
        return NULL;
    snprintf(source_path, sizeof source_path, "%s", found);
    if (tokenizer) {
        if (!(found = check_data(tokenizer)))
            return NULL;
        snprintf(tokenizer_path, sizeof tokenizer_path, "%s", found);
    }
    out = new_path();
    cr_assert_eq(infer_source_open(NULL, source_path, tokenizer ? tokenizer_path : NULL, &source, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_convert(NULL, &source, out, &options, NULL, &err), INFER_OK, "%s", err.message);
    infer_source_close(&source);
    return out;
}

static void write_random(infer_writer *w, size_t bytes, uint64_t *random, bool scales)
{
    uint8_t block[32 + 512];
    while (bytes) {
        size_t n = bytes < sizeof block ? bytes : sizeof block;
        for (size_t i = 0; i < n; i++) {
            *random = *random * 6364136223846793005ull + 1442695040888963407ull;
            block[i] = (uint8_t)(*random >> 56);
            block[i] = block[i] == 0x80 ? 0 : block[i];
        }
        for (size_t i = 0; scales && i + 1 < 32; i += 2) /* fp16 0.0002: sums stay small */
            block[i] = 0x8e, block[i + 1] = 0x0a;
        cr_assert_eq(infer_writer_write(w, block, n, NULL), INFER_OK);
        bytes -= n;
    }
}

const char *model_random(size_t bytes)
{
    enum { DIM = 512, FFN = 2048, VOCAB = 512 };
    static const struct { const char *name; uint32_t rows, cols; } layer[] = {
        {"attn_norm", 1, DIM}, {"q", DIM, DIM}, {"k", DIM, DIM}, {"v", DIM, DIM}, {"o", DIM, DIM},
        {"ffn_norm", 1, DIM}, {"gate", FFN, DIM}, {"up", FFN, DIM}, {"down", DIM, FFN}};
    uint32_t layers = (uint32_t)(bytes / ((4 * DIM * DIM + 3 * DIM * FFN) / 32 * 34)) + 1;
    const char *path = new_path();
    char metadata[512], name[64];
    infer_writer_options options = {.metadata = metadata, .overwrite = true};
    infer_writer *w = NULL;
    infer_error err = {0};
    uint64_t random = 1;
    float ones[DIM];
    snprintf(metadata, sizeof metadata,
             "{\"architecture\":\"llama\",\"dim\":%d,\"layers\":%u,\"heads\":8,\"kv_heads\":8,\"ffn_dim\":%d,\"vocab\":%d,\"context\":64,"
             "\"norm_eps\":1e-5,\"rope\":{\"theta\":10000,\"pairs\":\"adjacent\"},\"tied_head\":true}", DIM, layers, FFN, VOCAB);
    for (int i = 0; i < DIM; i++)
        ones[i] = 1;
    cr_assert_eq(infer_writer_create(NULL, path, &options, &w, &err), INFER_OK, "%s", err.message);
    for (int pass = 0; pass < 2; pass++) { /* declare, then write */
        for (uint32_t l = 0; l < layers + 1; l++)
            for (size_t t = 0; t < (l < layers ? sizeof layer / sizeof *layer : 2); t++) {
                uint32_t rows = l < layers ? layer[t].rows : t == 0 ? VOCAB : 1, cols = l < layers ? layer[t].cols : DIM;
                if (l < layers)
                    snprintf(name, sizeof name, "layers.%u.%s", l, layer[t].name);
                else
                    snprintf(name, sizeof name, "%s", t == 0 ? "tok_embed" : "out_norm");
                if (pass == 0)
                    cr_assert_eq(infer_writer_declare(w, name, rows > 1 ? INFER_QTYPE_Q8G32 : INFER_QTYPE_F32,
                                                      rows > 1 ? INFER_LAYOUT_TILE16X4 : INFER_LAYOUT_ROWS, rows, cols, &err),
                                 INFER_OK, "%s", err.message);
                else if (rows > 1)
                    write_random(w, (size_t)rows / 16 * (cols / 32) * 544, &random, true);
                else
                    cr_assert_eq(infer_writer_write(w, ones, sizeof ones, &err), INFER_OK, "%s", err.message);
            }
    }
    cr_assert_eq(infer_writer_finish(w, &err), INFER_OK, "%s", err.message);
    return path;
}

model_open model_start(const char *path, const model_settings *s)
{
    infer_runtime_options rt = INFER_RUNTIME_DEFAULTS;
    infer_session_options so = INFER_SESSION_DEFAULTS;
    model_open m = {0};
    infer_error err = {0};
    rt.threads = s->threads;
    rt.cpu_level = s->level;
    so.batch = s->batch;
    so.logit_rows = s->logit_rows;
    so.context = s->context;
    so.kv_type = s->kv;
    cr_assert_eq(infer_runtime_create(&rt, &m.rt, &err), INFER_OK, "%s", err.message);
    if (s->threads > infer_runtime_threads(m.rt)) { /* more than there are CPUs, which the runtime itself would not start */
        infer_pool_destroy(m.rt->pool);
        cr_assert_eq(infer_pool_create(NULL, s->threads, &m.rt->pool, &err), INFER_OK, "%s", err.message);
    }
    cr_assert_eq(infer_model_open(m.rt, path, NULL, &m.model, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_session_create(m.model, &so, &m.session, &err), INFER_OK, "%s", err.message);
    return m;
}

void model_stop(model_open *m)
{
    infer_session_destroy(m->session);
    infer_model_close(m->model);
    infer_runtime_destroy(m->rt);
}

char *model_greedy(const char *path, const model_settings *s, const char *prompt, size_t n)
{
    model_open m = model_start(path, s);
    infer_decoder *decoder = NULL;
    int32_t ids[512];
    size_t count = 0, size = 0;
    char *out = calloc(1, 65536);
    infer_error err = {0};
    cr_assert_eq(infer_model_tokenize(m.model, prompt, strlen(prompt), INFER_TOKENIZE_BOS, ids, 256, &count, &err), INFER_OK, "%s",
                 err.message);
    cr_assert_eq(infer_decoder_create(m.model, &decoder, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_session_eval(m.session, ids, count, INFER_LOGITS_LAST, &err), INFER_OK, "%s", err.message);
    for (size_t i = 0; i < count + n; i++) {
        const char *text;
        size_t bytes;
        if (i >= count) {
            ids[i] = infer_argmax(infer_session_logits(m.session, 0), infer_model_vocab_size(m.model));
            if (infer_model_token_is_end(m.model, ids[i]))
                break;
            if (i + 1 < count + n)
                cr_assert_eq(infer_session_eval(m.session, ids + i, 1, INFER_LOGITS_LAST, &err), INFER_OK, "%s", err.message);
        }
        cr_assert_eq(infer_decoder_push(decoder, ids[i], &text, &bytes), INFER_OK);
        memcpy(out + size, text, bytes);
        size += bytes;
    }
    infer_decoder_destroy(decoder);
    model_stop(&m);
    return out;
}
