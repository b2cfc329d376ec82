/*
 * Soak: several threads, each with sessions of its own on one model, do at random what an application may: prompts, generations, blocking
 * and as events, cancellations, forks, states, embeddings, new sessions. Every session's tokens are known, and what it has read must be,
 * bit by bit, what a fresh session makes of them; between rounds nothing may be left over. A plain TAP program, so that ThreadSanitizer can
 * run it.
 *
 * usage: soak SECONDS; the seed is printed, INFER_TEST_SEED gives it back.
 */
#include "check.h"
#include "check_tap.h"
#include "model/session.h"
#include "shapes.h"

#include <infer/infer_experimental.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS = 3, SESSIONS = 3, STEPS = 60, CONTEXT = 160, VOCAB = 512, DIM = 64 };

static check_allocator memory; /* the runtimes' */
static _Atomic unsigned long long steps, checks, cancelled, generated;
static infer_runtime *rt;
static infer_model *model;

/* ---- a worker ---- */

typedef struct held {
    infer_session *session;
    int32_t ids[CONTEXT];
    uint32_t n;
} held;

typedef struct worker {
    held sessions[SESSIONS];
    uint64_t random;
    const char *wrong; /* NULL: nothing so far */
} worker;

static uint32_t below(worker *w, uint32_t n)
{
    return (uint32_t)(infer_random(&w->random) >> 11) % n;
}

static void expect(worker *w, bool right, const char *what)
{
    if (!right && !w->wrong)
        w->wrong = what;
}

static infer_session *fresh(void)
{
    infer_session_options o = INFER_SESSION_DEFAULTS;
    infer_session *s = NULL;
    o.context = CONTEXT;
    o.batch = 16;
    return infer_session_create(model, &o, &s, NULL) == INFER_OK ? s : NULL;
}

static uint32_t random_prompt(worker *w, int32_t *ids)
{
    uint32_t n = 1 + below(w, 30);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (int32_t)below(w, VOCAB);
    return n;
}

/* What a session holds is what a fresh one makes of the same tokens. */
static void check(worker *w, held *h)
{
    infer_session *other;
    const float *a, *b;
    if (h->n == 0)
        return;
    other = fresh();
    expect(w,
           infer_session_rewind(h->session, h->n - 1, NULL) == INFER_OK &&
               infer_session_eval(h->session, h->ids + h->n - 1, 1, INFER_LOGITS_LAST, NULL) == INFER_OK && other &&
               infer_session_eval(other, h->ids, h->n, INFER_LOGITS_LAST, NULL) == INFER_OK,
           "an evaluation failed");
    a = infer_session_logits(h->session, 0);
    b = other ? infer_session_logits(other, 0) : NULL;
    expect(w, a && b && memcmp(a, b, VOCAB * sizeof *a) == 0, "other bits than a fresh session's");
    infer_session_destroy(other);
    atomic_fetch_add(&checks, 1);
}

typedef struct story {
    worker *w;
    held *h;
    int32_t ids[CONTEXT + 64];
    uint32_t n, stop, cancel; /* at so many tokens; 0: never */
} story;

static int take(void *user, int32_t id)
{
    story *t = user;
    t->ids[t->n++] = id;
    if (t->n == t->cancel)
        infer_session_cancel(t->h->session);
    return t->n == t->stop;
}

static infer_status by_events(story *t, uint32_t prompt, const infer_generate_options *o)
{
    infer_session *s = t->h->session;
    uint32_t cancel_at = below(t->w, 3) ? UINT32_MAX : below(t->w, 20);
    infer_status status = infer_session_start(s, t->ids, prompt, o, NULL);
    int done = 0;
    if (status != INFER_OK)
        return status;
    while (!done) {
        struct pollfd p = {.fd = infer_session_fd(s), .events = POLLIN};
        size_t n = 0;
        if (t->n - prompt >= cancel_at) {
            infer_session_cancel(s);
            cancel_at = UINT32_MAX;
        }
        poll(&p, 1, -1);
        status = infer_session_poll(s, t->ids + t->n, 1 + below(t->w, 8), &n, &done, NULL);
        t->n += (uint32_t)n;
    }
    return status;
}

static void generate(worker *w, held *h)
{
    infer_sampler_options so = INFER_SAMPLER_DEFAULTS;
    infer_generate_options o = INFER_GENERATE_DEFAULTS;
    infer_sampler *sampler = NULL;
    story t = {.w = w, .h = h};
    uint32_t prompt = random_prompt(w, t.ids);
    bool events = below(w, 2);
    infer_status s;
    t.n = prompt;
    if (prompt + 1 > CONTEXT - h->n)
        return;
    so.seed = infer_random(&w->random);
    expect(w, infer_sampler_create(model, &so, &sampler, NULL) == INFER_OK, "no sampler");
    o.sampler = below(w, 4) ? sampler : NULL;
    o.max_tokens = 1 + below(w, 30);
    if (!events && below(w, 3) == 0)
        t.stop = prompt + 1 + below(w, 20);
    if (!events && below(w, 3) == 0)
        t.cancel = prompt + 1 + below(w, 20);
    s = events ? by_events(&t, prompt, &o) : infer_session_generate(h->session, t.ids, prompt, &o, take, &t, NULL);
    infer_sampler_destroy(sampler);
    expect(w, s == INFER_OK || s == INFER_ERROR_CANCELLED || s == INFER_ERROR_CONTEXT, "a generation failed");
    atomic_fetch_add(&cancelled, s == INFER_ERROR_CANCELLED);
    atomic_fetch_add(&generated, t.n - prompt);
    if (s != INFER_ERROR_CANCELLED && !events && t.cancel == t.n) { /* cancelled behind its last evaluation: that takes the next one */
        infer_session_rewind(h->session, h->n, NULL);
        expect(w, infer_session_eval(h->session, t.ids, 1, INFER_LOGITS_NONE, NULL) == INFER_ERROR_CANCELLED, "a cancellation was lost");
    }
    expect(w, infer_session_position(h->session) >= h->n && infer_session_position(h->session) <= h->n + t.n, "an impossible position");
    memcpy(h->ids + h->n, t.ids, (infer_session_position(h->session) - h->n) * sizeof *t.ids);
    h->n = infer_session_position(h->session);
}

/* One session's state into another one. */
static void copy_state(worker *w, held *from, held *to)
{
    size_t bytes = infer_session_state_bytes(from->session);
    void *state = malloc(bytes);
    expect(w, state && infer_session_save(from->session, state, bytes, NULL) == INFER_OK, "a state was not saved");
    if (bytes && state && below(w, 4) == 0) { /* damaged: refused, and nothing changes */
        ((uint8_t *)state)[below(w, (uint32_t)bytes)] ^= 0x10;
        expect(w, infer_session_restore(to->session, state, bytes, NULL) != INFER_OK && infer_session_position(to->session) == to->n,
               "a damaged state was taken");
    } else {
        expect(w, infer_session_restore(to->session, state, bytes, NULL) == INFER_OK, "a state was refused");
        memcpy(to->ids, from->ids, sizeof from->ids);
        to->n = from->n;
    }
    free(state);
}

static void step(worker *w)
{
    held *h = &w->sessions[below(w, SESSIONS)], *other = &w->sessions[below(w, SESSIONS)];
    infer_session *made = NULL;
    float embedding[DIM];
    int32_t ids[32];
    uint32_t n;
    switch (below(w, 10)) {
    case 0:
        h->n = below(w, h->n + 1);
        expect(w, infer_session_rewind(h->session, h->n, NULL) == INFER_OK, "a rewind failed");
        break;
    case 1:
        if (h == other)
            break;
        expect(w, infer_session_fork(h->session, &made, NULL) == INFER_OK, "a fork failed");
        infer_session_destroy(other->session);
        *other = *h;
        other->session = made;
        break;
    case 2:
        copy_state(w, h, other);
        break;
    case 3:
        infer_session_destroy(h->session);
        *h = (held){.session = fresh()};
        break;
    case 4:
        n = random_prompt(w, ids);
        if (n > CONTEXT - h->n)
            break;
        expect(w, infer_session_embed(h->session, ids, n, INFER_POOLING_MEAN, embedding, NULL) == INFER_OK, "an embedding failed");
        memcpy(h->ids + h->n, ids, n * sizeof *ids);
        h->n += n;
        break;
    case 5:
        check(w, h);
        break;
    case 6: /* destroyed while it generates */
        n = random_prompt(w, ids);
        if (n > CONTEXT - h->n || infer_session_start(h->session, ids, n, NULL, NULL) != INFER_OK)
            break;
        infer_session_destroy(h->session);
        *h = (held){.session = fresh()};
        break;
    default:
        generate(w, h);
    }
    if (CONTEXT - h->n < 20) {
        infer_session_rewind(h->session, 0, NULL);
        h->n = 0;
    }
    atomic_fetch_add(&steps, 1);
}

static void *work(void *arg)
{
    worker *w = arg;
    for (int i = 0; i < SESSIONS; i++)
        w->sessions[i] = (held){.session = fresh()};
    for (int i = 0; i < STEPS && !w->wrong; i++)
        step(w);
    for (int i = 0; i < SESSIONS && !w->wrong; i++)
        check(w, &w->sessions[i]);
    for (int i = 0; i < SESSIONS; i++)
        infer_session_destroy(w->sessions[i].session);
    return NULL;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
    const char *given = getenv("INFER_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : infer_now_ns(), random = seed | 1, end = infer_now_ns() + (uint64_t)(seconds * 1e9),
             rss = 0;
    infer_runtime_options o = {.size = sizeof o, .threads = 2};
    char folder[] = "/tmp/infer-soak-XXXXXX", path[64];
    infer_error err = {INFER_OK, ""};
    const char *wrong = NULL;
    size_t bytes = 0, descriptors = 0;
    int rounds = 0;
    if (!mkdtemp(folder))
        return 1;
    check_allocator_init(&memory, 0);
    o.allocator = memory.allocator;
    snprintf(path, sizeof path, "%s/m.infer", folder);
    printf("# seed %llu\n", (unsigned long long)seed);
    if (infer_shape_write(infer_shape_find("stories260k"), INFER_QTYPE_Q8G32, &(infer_prune){0}, path, &(sig_atomic_t){0}, &err) ||
        infer_runtime_create(&o, &rt, &err) || infer_model_open(rt, path, NULL, &model, &err))
        printf("# %s\n", err.message);
    tap_ok(err.status == INFER_OK && infer_model_vocab_size(model) == VOCAB && infer_model_dim(model) == DIM, "a model");
    for (; !wrong && (rounds < 4 || infer_now_ns() < end); rounds++) {
        worker workers[WORKERS] = {0};
        pthread_t threads[WORKERS];
        for (int i = 0; i < WORKERS; i++) {
            workers[i].random = infer_random(&random) | 1;
            pthread_create(&threads[i], NULL, work, &workers[i]);
        }
        for (int i = 0; i < WORKERS; i++) {
            pthread_join(threads[i], NULL);
            wrong = wrong ? wrong : workers[i].wrong;
        }
        if (rounds == 2) { /* by now whatever is made once was made */
            bytes = memory.live_bytes;
            descriptors = check_entries("/proc/self/fd");
            rss = infer_anonymous_rss_bytes();
        } else if (rounds > 2 && !wrong) {
            wrong = memory.live_bytes != bytes                      ? "bytes are left over"
                    : check_entries("/proc/self/fd") != descriptors ? "descriptors are left over"
                                                                    : NULL;
        }
    }
    tap_ok(!wrong, "%d rounds of %d threads with %d sessions each: %s", rounds, WORKERS, SESSIONS,
           wrong ? wrong : "the bits of fresh sessions, nothing left over");
    printf("# %llu steps, %llu tokens generated, %llu generations cancelled, %llu sessions compared\n", steps, generated, cancelled,
           checks);
    tap_ok(checks > 10 && cancelled > 0 && generated > 100, "all of it happened");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)rss;
    tap_skip("a sanitizer keeps memory of its own", "memory does not grow");
#else
    long long grown = (long long)infer_anonymous_rss_bytes() - (long long)rss;
    tap_ok(grown < (16 << 20), "memory does not grow (%lld KiB)", grown / 1024);
#endif
    infer_model_close(model);
    infer_runtime_destroy(rt);
    tap_ok(memory.live_bytes == 0, "everything is given back");
    unlink(path);
    rmdir(folder);
    return tap_done();
}
