/* One model, several threads: sessions opened and run at the same time, a tensor's hash checked by whoever is first, tokenizers used
 * together, one session cancelled from outside. The logits are those of a session that has the model for itself. TAP, made for
 * ThreadSanitizer.
 *
 * usage: shared FOLDER (with model.infer) */
#include "check_tap.h"

#include "core/core.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 8, TOKENS = 5 };

typedef struct job {
    infer_model *model;
    float *logits;
    bool ok;
} job;

static bool run_session(infer_model *model, float *logits)
{
    infer_session_options o = INFER_SESSION_DEFAULTS;
    infer_session *session = NULL;
    int32_t ids[TOKENS];
    size_t n = 0;
    bool ok;
    o.context = 16;
    ok = infer_model_tokenize(model, "ab ab", 5, INFER_TOKENIZE_BOS, ids, TOKENS, &n, NULL) == INFER_OK &&
         infer_session_create(model, &o, &session, NULL) == INFER_OK &&
         infer_session_eval(session, ids, n, INFER_LOGITS_LAST, NULL) == INFER_OK;
    if (ok)
        memcpy(logits, infer_session_logits(session, 0), infer_model_vocab_size(model) * sizeof *logits);
    infer_session_destroy(session);
    return ok;
}

static void *work(void *arg)
{
    job *j = arg;
    j->ok = true;
    for (int i = 0; i < ROUNDS && j->ok; i++)
        j->ok = run_session(j->model, j->logits);
    return NULL;
}

static void *cancel_often(void *arg)
{
    for (int i = 0; i < 200; i++)
        infer_session_cancel(arg);
    return NULL;
}

/* Every evaluation ends well or cancelled, and after the last cancellation all end well. */
static bool cancel_from_outside(infer_model *model)
{
    infer_session *session;
    pthread_t thread;
    const int32_t id = 1;
    bool ok = infer_session_create(model, NULL, &session, NULL) == INFER_OK;
    if (!ok || pthread_create(&thread, NULL, cancel_often, session) != 0)
        return false;
    for (int i = 0; i < 100 && ok; i++) {
        infer_status s = infer_session_eval(session, &id, 1, INFER_LOGITS_LAST, NULL);
        ok = (s == INFER_OK || s == INFER_ERROR_CANCELLED) && infer_session_rewind(session, 0, NULL) == INFER_OK;
    }
    pthread_join(thread, NULL);
    infer_session_eval(session, &id, 1, INFER_LOGITS_LAST, NULL); /* takes a cancellation that was left over */
    ok = ok && infer_session_rewind(session, 0, NULL) == INFER_OK &&
         infer_session_eval(session, &id, 1, INFER_LOGITS_LAST, NULL) == INFER_OK;
    infer_session_destroy(session);
    return ok;
}

int main(int argc, char **argv)
{
    char path[4096];
    infer_error err = {INFER_OK, ""};
    if (argc != 2)
        return 2;
    snprintf(path, sizeof path, "%s/model.infer", argv[1]);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        infer_runtime_options o = INFER_RUNTIME_DEFAULTS;
        infer_runtime *rt = NULL;
        infer_model *alone = NULL, *model = NULL;
        job jobs[THREADS];
        pthread_t started[THREADS];
        float *expected;
        size_t bytes, n = 0;
        bool ok = true;
        o.threads = threads;
        if (infer_runtime_create(&o, &rt, &err) || infer_model_open(rt, path, NULL, &alone, &err) ||
            infer_model_open(rt, path, NULL, &model, &err)) {
            printf("Bail out! %s\n", err.message);
            return 1;
        }
        bytes = infer_model_vocab_size(model) * sizeof *expected;
        expected = malloc(bytes);
        tap_ok(expected && run_session(alone, expected), "pool of %u: alone", threads);
        for (; n < THREADS; n++) {
            jobs[n] = (job){model, malloc(bytes), false};
            if (!jobs[n].logits || pthread_create(&started[n], NULL, work, &jobs[n]) != 0)
                return 1;
        }
        for (size_t i = 0; i < n; i++) {
            pthread_join(started[i], NULL);
            ok = ok && jobs[i].ok && memcmp(jobs[i].logits, expected, bytes) == 0;
            free(jobs[i].logits);
        }
        tap_ok(ok, "pool of %u: %d threads, %d sessions each, the same bits", threads, THREADS, ROUNDS);
        tap_ok(cancel_from_outside(model), "pool of %u: cancelled from another thread", threads);
        free(expected);
        infer_model_close(model);
        infer_model_close(alone);
        infer_runtime_destroy(rt);
    }
    return tap_done();
}
