/*
 * Generation, blocking and as events. Generations that were started run on one thread of the runtime, the driver, in turns: a batch of
 * one's prompt or a token of its text, then the next one. The pool runs one evaluation at a time anyway; and so no session needs a thread
 * of its own.
 */
#include "model/session.h"

#include <string.h>

/* ---- turns ---- */

static infer_status prepare(infer_session *session, const char *what, const int32_t *prompt, size_t n,
                            const infer_generate_options *options, infer_error *err)
{
    infer_generate_options o = INFER_GENERATE_DEFAULTS;
    infer_generation *g;
    infer_status s = infer_session_is_free(session, what, err);
    if (s != INFER_OK)
        return s;
    if (options) {
        if (options->size != sizeof o)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: options.size: found %zu, expected %zu", what, options->size, sizeof o);
        o = *options;
    }
    if (!prompt || n == 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: prompt is NULL, or has no tokens", what);
    if ((s = infer_session_may_append(session, prompt, n, err)) != INFER_OK)
        return s;
    g = &session->generation;
    g->options = o;
    g->prompt = prompt;
    g->prompt_count = n;
    g->prompt_done = 0;
    g->start = session->position;
    g->most = o.max_tokens ? o.max_tokens : session->context - session->position - (uint32_t)n + 1; /* the last one is not evaluated */
    g->made = 0;
    g->status = INFER_OK;
    g->error = (infer_error){INFER_OK, ""};
    return INFER_OK;
}

/* Evaluates the next batch of the prompt, or the last token; then, unless there is more of the prompt, *made is true and there is a new
 * token. False: that was the last turn. */
static bool turn(infer_session *session, bool *made)
{
    infer_generation *g = &session->generation;
    const infer_model *model = session->model;
    *made = false;
    if (g->prompt_done < g->prompt_count) {
        size_t rest = g->prompt_count - g->prompt_done, n = rest < session->batch ? rest : session->batch;
        g->status = infer_session_run(session, g->prompt + g->prompt_done, n, n == rest ? INFER_LOGITS_LAST : INFER_LOGITS_NONE, &g->error);
        if (g->status != INFER_OK) {
            session->position = g->start;
            return false;
        }
        for (size_t i = 0; g->options.sampler && i < n; i++)
            infer_sampler_accept(g->options.sampler, g->prompt[g->prompt_done + i]);
        g->prompt_done += n;
        if (n < rest)
            return true;
    } else if ((g->status = infer_session_run(session, &g->token, 1, INFER_LOGITS_LAST, &g->error)) != INFER_OK) {
        return false;
    }
    g->token = g->options.sampler ? infer_sampler_sample(g->options.sampler, session->plan->logits)
                                  : infer_argmax(session->plan->logits, model->config.vocab);
    *made = true;
    return g->made + 1 < g->most && g->token != g->options.end && !infer_model_token_is_end(model, g->token);
}

infer_status infer_session_generate(infer_session *session, const int32_t *prompt, size_t n, const infer_generate_options *options,
                                    infer_token_fn *token, void *user, infer_error *err)
{
    infer_generation *g;
    infer_status s;
    if (!token)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_generate: token is NULL");
    if ((s = prepare(session, "infer_session_generate", prompt, n, options, err)) != INFER_OK)
        return s;
    g = &session->generation;
    for (bool more = true, made; more;) {
        more = turn(session, &made);
        g->made += made;
        if (made && token(user, g->token) != 0)
            more = false;
    }
    return g->status == INFER_OK ? INFER_OK : infer_fail(err, g->status, "%s", g->error.message);
}

/* ---- the driver ---- */

static void *driver_main(void *arg)
{
    infer_driver *d = arg;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        infer_session *session;
        infer_generation *g;
        bool made, more;
        while (!d->first && !d->stop)
            pthread_cond_wait(&d->work, &d->lock);
        if (!d->first)
            break;
        session = d->first;
        g = &session->generation;
        d->first = g->next;
        pthread_mutex_unlock(&d->lock);
        more = turn(session, &made);
        pthread_mutex_lock(&d->lock);
        if (made)
            g->tokens[g->made++] = g->token;
        if (more) {
            g->next = NULL;
            *(d->first ? &d->last->generation.next : &d->first) = session;
            d->last = session;
        } else {
            g->done = true;
            pthread_cond_broadcast(&d->ended);
        }
        if (made || !more)
            infer_notifier_set(&g->notifier);
        /* Once the lock is free again, a session that is done may be destroyed at any time. */
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

void infer_driver_init(infer_driver *d)
{
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    pthread_cond_init(&d->ended, NULL);
}

void infer_driver_destroy(infer_driver *d)
{
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
    if (d->started)
        pthread_join(d->thread, NULL);
    pthread_cond_destroy(&d->ended);
    pthread_cond_destroy(&d->work);
    pthread_mutex_destroy(&d->lock);
}

/* With the lock. */
static infer_status start_driver(infer_driver *d, infer_error *err)
{
    int e;
    if (d->started)
        return INFER_OK;
    if ((e = infer_thread_start(&d->thread, driver_main, d)) != 0)
        return infer_fail(err, INFER_ERROR_MEMORY, "cannot start the thread for generations: %s", strerror(e));
    d->started = true;
    return INFER_OK;
}

/* ---- event form ---- */

/* What only the event form needs; kept for the next generation. */
static infer_status make_room(infer_session *session, size_t prompt, infer_error *err)
{
    const infer_allocator *a = &session->model->rt->allocator;
    infer_generation *g = &session->generation;
    size_t tokens = session->context * sizeof *g->tokens;
    if (!g->tokens && !(g->tokens = infer_alloc(a, tokens)))
        return infer_fail_memory(err, tokens, "generated tokens");
    if (!infer_grow(a, &g->prompt_copy, &g->prompt_room, prompt, sizeof *g->prompt_copy))
        return infer_fail_memory(err, prompt * sizeof *g->prompt_copy, "the prompt");
    return g->notifier.fd >= 0 ? INFER_OK : infer_notifier_open(&g->notifier, err);
}

infer_status infer_session_start(infer_session *session, const int32_t *prompt, size_t n, const infer_generate_options *options,
                                 infer_error *err)
{
    infer_generation *g;
    infer_driver *d;
    infer_status s;
    if ((s = prepare(session, "infer_session_start", prompt, n, options, err)) != INFER_OK || (s = make_room(session, n, err)) != INFER_OK)
        return s;
    g = &session->generation;
    d = &session->model->rt->driver;
    memcpy(g->prompt_copy, prompt, n * sizeof *prompt);
    g->prompt = g->prompt_copy;
    g->taken = 0;
    g->done = false;
    g->next = NULL;
    atomic_store(&session->plan->cancel, 0); /* what came before the start is not meant for it */
    pthread_mutex_lock(&d->lock);
    s = start_driver(d, err);
    if (s == INFER_OK) {
        g->active = true;
        *(d->first ? &d->last->generation.next : &d->first) = session;
        d->last = session;
        pthread_cond_signal(&d->work);
    }
    pthread_mutex_unlock(&d->lock);
    return s;
}

int infer_session_fd(const infer_session *session) { return session->generation.notifier.fd; }

infer_status infer_session_poll(infer_session *session, int32_t *ids, size_t cap, size_t *count, int *done, infer_error *err)
{
    infer_generation *g;
    infer_driver *d;
    size_t n;
    if (!session || (!ids && cap) || !count || !done)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_poll: session, ids, count or done is NULL");
    g = &session->generation;
    if (!g->active)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_poll: no generation was started, or its end was told");
    d = &session->model->rt->driver;
    pthread_mutex_lock(&d->lock);
    n = g->made - g->taken;
    n = n < cap ? n : cap;
    if (n)
        memcpy(ids, g->tokens + g->taken, n * sizeof *ids);
    g->taken += (uint32_t)n;
    if (g->taken == g->made) { /* all that the descriptor told is known */
        infer_notifier_clear(&g->notifier);
        g->active = !g->done;
    }
    pthread_mutex_unlock(&d->lock);
    *count = n;
    *done = !g->active;
    if (g->active)
        return INFER_OK;
    atomic_store(&session->plan->cancel, 0); /* a cancellation that came too late */
    return g->status == INFER_OK ? INFER_OK : infer_fail(err, g->status, "%s", g->error.message);
}

infer_status infer_session_is_free(const infer_session *session, const char *what, infer_error *err)
{
    if (!session)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: session is NULL", what);
    return session->generation.active
               ? infer_fail(err, INFER_ERROR_ARGUMENT, "%s: a generation was started and its end not polled yet", what)
               : INFER_OK;
}

void infer_generation_close(infer_session *session)
{
    const infer_allocator *a = &session->model->rt->allocator;
    infer_generation *g = &session->generation;
    if (g->active) {
        infer_driver *d = &session->model->rt->driver;
        pthread_mutex_lock(&d->lock);
        infer_session_cancel(session);
        while (!g->done)
            pthread_cond_wait(&d->ended, &d->lock);
        pthread_mutex_unlock(&d->lock);
    }
    infer_notifier_close(&g->notifier);
    infer_free(a, g->tokens);
    infer_free(a, g->prompt_copy);
}
