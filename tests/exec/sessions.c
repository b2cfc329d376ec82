/*
 * What sessions can do besides evaluating, on a small random Llama: embeddings. A plain TAP program, so that ThreadSanitizer can run it.
 */
#include "check_tap.h"
#include "model/session.h"
#include "shapes.h"

#include <infer/infer_experimental.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPT 40u
#define DIM 64u /* of stories260k */

static char path[64];
static int32_t prompt[PROMPT];

typedef struct opened {
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
} opened;

/* 0: defaults. */
static opened open_all(uint32_t threads, const char *level, uint32_t context, uint32_t batch, infer_kv_type kv)
{
    infer_runtime_options ro = INFER_RUNTIME_DEFAULTS;
    infer_session_options so = INFER_SESSION_DEFAULTS;
    infer_error err = {INFER_OK, ""};
    opened o = {0};
    ro.threads = threads;
    ro.cpu_level = level;
    so.context = context;
    so.batch = batch;
    so.kv_type = kv;
    if (infer_runtime_create(&ro, &o.rt, &err) || infer_model_open(o.rt, path, NULL, &o.model, &err) || infer_session_create(o.model, &so, &o.session, &err)) {
        printf("# %s\n", err.message);
        exit(1);
    }
    return o;
}

static void close_all(opened *o)
{
    infer_session_destroy(o->session);
    infer_model_close(o->model);
    infer_runtime_destroy(o->rt);
}

/* ---- embeddings ---- */

static void embeddings(void)
{
    static const struct { uint32_t threads, batch; const char *level; } cases[] = {{1, 1, "ref"}, {1, 7, NULL}, {2, 16, NULL}, {2, 512, NULL}};
    opened o = open_all(1, "ref", 0, 0, INFER_KV_AUTO);
    float last[DIM], mean[DIM], sum[DIM] = {0}, each[DIM], untouched[DIM] = {0};
    double squares = 0;
    infer_error err;
    bool right = infer_model_dim(o.model) == DIM;
    tap_ok(right && infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_LAST, last, &err) == INFER_OK &&
               infer_session_position(o.session) == PROMPT && !infer_session_logits(o.session, 0), "an embedding, without logits");
    for (uint32_t d = 0; d < DIM; d++)
        squares += (double)last[d] * last[d];
    tap_ok(squares / DIM > 0.98 && squares / DIM < 1, "it is normalized as the model says (norms of ones, and a small epsilon: mean square %.6f)", squares / DIM);
    infer_session_rewind(o.session, 0, NULL);
    for (uint32_t i = 0; i < PROMPT; i++) {
        right &= infer_session_embed(o.session, prompt + i, 1, INFER_POOLING_LAST, each, &err) == INFER_OK;
        for (uint32_t d = 0; d < DIM; d++)
            sum[d] += each[d];
    }
    for (uint32_t d = 0; d < DIM; d++)
        sum[d] /= PROMPT;
    tap_ok(right && memcmp(each, last, sizeof last) == 0, "token by token: the same bits");
    infer_session_rewind(o.session, 0, NULL);
    tap_ok(infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_MEAN, mean, &err) == INFER_OK && memcmp(mean, sum, sizeof mean) == 0 &&
               memcmp(mean, last, sizeof mean) != 0, "the mean is that of all tokens");
    infer_session_rewind(o.session, 0, NULL);
    tap_ok(infer_session_embed(o.session, prompt, 0, INFER_POOLING_LAST, each, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(o.session, NULL, 1, INFER_POOLING_LAST, each, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(NULL, prompt, 1, INFER_POOLING_LAST, each, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(o.session, prompt, 1, INFER_POOLING_LAST, NULL, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(o.session, prompt, 1, (infer_pooling)2, each, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(o.session, &(int32_t){1 << 20}, 1, INFER_POOLING_LAST, each, &err) == INFER_ERROR_ARGUMENT, "ARGUMENT");
    infer_session_cancel(o.session);
    tap_ok(infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_LAST, untouched, &err) == INFER_ERROR_CANCELLED &&
               infer_session_position(o.session) == 0, "CANCELLED");
    close_all(&o);
    o = open_all(1, NULL, PROMPT - 1, 0, INFER_KV_AUTO);
    tap_ok(infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_LAST, each, &err) == INFER_ERROR_CONTEXT, "CONTEXT");
    close_all(&o);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float got[2][DIM];
        o = open_all(cases[c].threads, cases[c].level, 0, cases[c].batch, INFER_KV_AUTO);
        right = infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_LAST, got[0], &err) == INFER_OK &&
                infer_session_rewind(o.session, 0, &err) == INFER_OK &&
                infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_MEAN, got[1], &err) == INFER_OK;
        tap_ok(right && memcmp(got[0], last, sizeof last) == 0 && memcmp(got[1], mean, sizeof mean) == 0, "%s, %u threads, batches of %u: the same bits",
               infer_runtime_cpu_level(o.rt), cases[c].threads, cases[c].batch);
        close_all(&o);
    }
}

int main(void)
{
    char folder[] = "/tmp/infer-sessions-XXXXXX";
    infer_error err = {INFER_OK, ""};
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/m.infer", folder);
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (int32_t)(i * 37 % 500 + 3);
    tap_ok(infer_shape_write(infer_shape_find("stories260k"), INFER_QTYPE_Q8G32, path, &(sig_atomic_t){0}, &err) == INFER_OK, "a model");
    embeddings();
    unlink(path);
    rmdir(folder);
    return tap_done();
}
