/*
 * Generation, blocking and as events: the same tokens; an event loop that never blocks; cancelling within one graph node; nothing leaks. On
 * a small random Llama. A plain TAP program, so that ThreadSanitizer can run it.
 */
#include "check.h"
#include "check_tap.h"
#include "model/session.h"
#include "shapes.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPT 40u
#define TOKENS 30u
#define SESSIONS 3
#define CONTEXT 4096u /* so long that no generation to it ends by itself before it is cancelled, on all but the busiest machine */

/* ---- the process ---- */

static check_allocator memory; /* the runtimes' */

typedef struct usage {
    size_t threads, descriptors, bytes;
} usage;

static usage used(void)
{
    return (usage){check_entries("/proc/self/task"), check_entries("/proc/self/fd"), memory.live_bytes};
}

/* A thread that was joined may be listed for a moment yet. */
static bool same_usage(usage a)
{
    usage b = used();
    for (int i = 0; i < 1000 && a.threads != b.threads; i++) {
        usleep(1000);
        b = used();
    }
    if (a.threads != b.threads || a.descriptors != b.descriptors || a.bytes != b.bytes)
        printf("# threads %zu -> %zu, descriptors %zu -> %zu, bytes %zu -> %zu\n", a.threads, b.threads, a.descriptors, b.descriptors,
               a.bytes, b.bytes);
    return a.threads == b.threads && a.descriptors == b.descriptors && a.bytes == b.bytes;
}

static void wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* ---- cases ---- */

static infer_runtime *rt;
static infer_model *model;
static int32_t prompt[PROMPT];

static infer_session *session_of(uint32_t context, uint32_t batch)
{
    infer_session_options o = INFER_SESSION_DEFAULTS;
    infer_session *s = NULL;
    infer_error err = {INFER_OK, ""};
    o.context = context;
    o.batch = batch;
    if (infer_session_create(model, &o, &s, &err) != INFER_OK)
        printf("# %s\n", err.message);
    return s;
}

typedef struct text {
    int32_t ids[CONTEXT + 1];
    size_t n, stop_at;     /* 0: never */
    infer_session *cancel; /* at stop_at, instead of ending it by the return value */
} text;

static int take(void *user, int32_t id)
{
    text *t = user;
    t->ids[t->n++] = id;
    if (t->n != t->stop_at)
        return 0;
    if (t->cancel)
        infer_session_cancel(t->cancel);
    return !t->cancel;
}

/* By evaluations and infer_argmax alone. */
static void expected(text *t)
{
    infer_session *s = session_of(0, 0);
    infer_session_eval(s, prompt, PROMPT, INFER_LOGITS_LAST, NULL);
    for (t->n = 0; t->n < TOKENS; t->n++) {
        t->ids[t->n] = infer_argmax(infer_session_logits(s, 0), infer_model_vocab_size(model));
        infer_session_eval(s, &t->ids[t->n], 1, INFER_LOGITS_LAST, NULL);
    }
    infer_session_destroy(s);
}

static bool same(const text *a, const text *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

static infer_status finish(infer_session *s, text *t, size_t cap, infer_error *err)
{
    for (int done = 0;;) {
        size_t n = 0;
        infer_status status;
        wait_readable(infer_session_fd(s));
        status = infer_session_poll(s, t->ids + t->n, cap, &n, &done, err);
        t->n += n;
        if (done)
            return status;
        if (status != INFER_OK)
            return status;
    }
}

static void blocking(const text *want)
{
    infer_generate_options o = INFER_GENERATE_DEFAULTS;
    infer_session *s = session_of(0, 7);
    text t = {0};
    infer_error err;
    o.max_tokens = TOKENS;
    tap_ok(infer_session_generate(s, prompt, PROMPT, &o, take, &t, &err) == INFER_OK && same(&t, want),
           "generate: the tokens of an evaluation loop");
    tap_ok(infer_session_position(s) == PROMPT + TOKENS - 1, "the last token is not evaluated");
    infer_session_rewind(s, 0, NULL);
    t = (text){.stop_at = 5};
    tap_ok(infer_session_generate(s, prompt, PROMPT, &o, take, &t, &err) == INFER_OK && t.n == 5, "the callback ends it");
    infer_session_rewind(s, 0, NULL);
    t = (text){0};
    o.end = want->ids[3];
    tap_ok(infer_session_generate(s, prompt, PROMPT, &o, take, &t, &err) == INFER_OK && t.n && t.ids[t.n - 1] == o.end && t.n <= 4,
           "an end token ends it, and is told");
    o.end = -1;
    infer_session_rewind(s, 0, NULL);
    t = (text){.stop_at = 6, .cancel = s};
    tap_ok(infer_session_generate(s, prompt, PROMPT, &o, take, &t, &err) == INFER_ERROR_CANCELLED && t.n == 6, "cancel ends it: CANCELLED");
    tap_ok(infer_session_position(s) == PROMPT + 5, "what was evaluated before stays");
    infer_session_destroy(s);

    s = session_of(64, 0);
    t = (text){0};
    tap_ok(infer_session_generate(s, prompt, PROMPT, NULL, take, &t, &err) == INFER_OK && t.n == 64 - PROMPT + 1,
           "no max_tokens: to the end of the context");
    tap_ok(infer_session_generate(s, prompt, 1, &o, take, &t, &err) == INFER_ERROR_CONTEXT, "no room for the prompt: CONTEXT");
    infer_session_rewind(s, 0, NULL);
    t = (text){0};
    o.max_tokens = 64;
    tap_ok(infer_session_generate(s, prompt, PROMPT, &o, take, &t, &err) == INFER_ERROR_CONTEXT && t.n == 64 - PROMPT + 1,
           "no room for max_tokens: CONTEXT after those that fit");
    infer_session_rewind(s, 0, NULL);
    tap_ok(infer_session_generate(s, prompt, 0, &o, take, &t, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_generate(s, NULL, 1, &o, take, &t, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_generate(NULL, prompt, 1, &o, take, &t, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_generate(s, prompt, 1, &o, NULL, &t, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_generate(s, &(int32_t){-1}, 1, &o, take, &t, &err) == INFER_ERROR_ARGUMENT,
           "nothing to do, or to tell: ARGUMENT");
    o.size--;
    tap_ok(infer_session_generate(s, prompt, 1, &o, take, &t, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_start(s, prompt, 1, &o, &err) == INFER_ERROR_ARGUMENT,
           "another size of options: ARGUMENT");
    infer_session_destroy(s);
}

static void events(const text *want)
{
    infer_generate_options o = INFER_GENERATE_DEFAULTS;
    infer_session *s = session_of(0, 7);
    text t = {0}, none = {0};
    infer_error err;
    size_t n = 77;
    int done = 77;
    o.max_tokens = TOKENS;
    tap_ok(infer_session_fd(s) == -1 && infer_session_poll(s, t.ids, 8, &n, &done, &err) == INFER_ERROR_ARGUMENT && n == 77 && done == 77,
           "before a start there is nothing to poll: ARGUMENT");
    tap_ok(infer_session_start(s, prompt, PROMPT, &o, &err) == INFER_OK && infer_session_fd(s) >= 0, "start");
    tap_ok(infer_session_eval(s, prompt, 1, INFER_LOGITS_NONE, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_rewind(s, 0, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_start(s, prompt, 1, &o, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_generate(s, prompt, 1, &o, take, &none, &err) == INFER_ERROR_ARGUMENT,
           "nothing else before its end: ARGUMENT");
    tap_ok(finish(s, &t, 4, &err) == INFER_OK && same(&t, want), "the tokens of the blocking form");
    tap_ok(!readable(infer_session_fd(s)) && infer_session_poll(s, t.ids, 8, &n, &done, &err) == INFER_ERROR_ARGUMENT,
           "after the end, nothing to poll");
    infer_session_rewind(s, 0, NULL);
    infer_session_cancel(s);
    t = (text){0};
    tap_ok(infer_session_start(s, prompt, PROMPT, &o, &err) == INFER_OK && finish(s, &t, 1, &err) == INFER_OK && same(&t, want),
           "again, one at a time; a cancellation from before the start does not count");
    infer_session_rewind(s, 0, NULL);
    infer_session_start(s, prompt, PROMPT, &o, NULL);
    while (!readable(infer_session_fd(s)))
        ;
    tap_ok(infer_session_poll(s, NULL, 0, &n, &done, &err) == INFER_OK && n == 0 && !done && readable(infer_session_fd(s)),
           "no room for tokens: they wait");
    tap_ok(infer_session_poll(NULL, t.ids, 1, &n, &done, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_poll(s, NULL, 1, &n, &done, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_poll(s, t.ids, 1, NULL, &done, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_poll(s, t.ids, 1, &n, NULL, &err) == INFER_ERROR_ARGUMENT,
           "poll: ARGUMENT");
    infer_session_destroy(s); /* while it runs */

    s = session_of(64, 0);
    o.max_tokens = 64;
    t = (text){0};
    tap_ok(infer_session_start(s, prompt, PROMPT, &o, &err) == INFER_OK && finish(s, &t, 8, &err) == INFER_ERROR_CONTEXT &&
               t.n == 64 - PROMPT + 1,
           "no room for max_tokens: CONTEXT after those that fit");
    tap_ok(infer_session_start(s, prompt, PROMPT, &o, &err) == INFER_ERROR_CONTEXT, "no room for the prompt: CONTEXT");
    tap_ok(infer_session_start(NULL, prompt, 1, &o, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_start(s, NULL, 1, &o, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_start(s, prompt, 0, &o, &err) == INFER_ERROR_ARGUMENT,
           "start: ARGUMENT");
    infer_session_destroy(s);
}

/* One loop, several sessions that take turns, while another thread's evaluations go on. */
static void several(const text *want)
{
    infer_generate_options o = INFER_GENERATE_DEFAULTS;
    infer_session *s[SESSIONS], *own = session_of(0, 0);
    text t[SESSIONS] = {0};
    struct pollfd p[SESSIONS];
    infer_error err;
    int left = SESSIONS, switches = 0, last = -1;
    bool right = true;
    o.max_tokens = TOKENS;
    for (int i = 0; i < SESSIONS; i++) {
        s[i] = session_of(0, 7);
        right &= infer_session_start(s[i], prompt, PROMPT, &o, &err) == INFER_OK;
        p[i] = (struct pollfd){.fd = infer_session_fd(s[i]), .events = POLLIN};
    }
    while (right && left) {
        right &= infer_session_eval(own, prompt, 1, INFER_LOGITS_NONE, &err) == INFER_OK && infer_session_rewind(own, 0, &err) == INFER_OK;
        poll(p, SESSIONS, -1);
        for (int i = 0; i < SESSIONS; i++) {
            size_t n;
            int done;
            if (!(p[i].revents & POLLIN))
                continue;
            right &= infer_session_poll(s[i], t[i].ids + t[i].n, 1, &n, &done, &err) == INFER_OK;
            switches += last != i;
            last = i;
            t[i].n += n;
            if (done) {
                p[i].fd = -1;
                left--;
            }
        }
    }
    for (int i = 0; i < SESSIONS; i++) {
        right &= same(&t[i], want);
        infer_session_destroy(s[i]);
    }
    infer_session_destroy(own);
    tap_ok(right && switches > SESSIONS, "%d sessions in one loop, in turns: the same tokens each", SESSIONS);
}

/* ---- cancelling ---- */

static infer_session *to_cancel;
static uint64_t ran, cancel_at;

/* In place of every kernel. */
static void counted(const void *args, infer_region region)
{
    (void)args;
    (void)region;
    if (++ran == cancel_at)
        infer_session_cancel(to_cancel);
}

static void within_a_node(void)
{
    infer_kernel kernel = {.fn = counted};
    infer_runtime_options one = INFER_RUNTIME_DEFAULTS;
    infer_runtime *alone = NULL, *other = rt;
    infer_session *s;
    uint64_t nodes;
    bool right = true;
    one.threads = 1; /* so that calls are counted one after the other */
    infer_runtime_create(&one, &alone, NULL);
    model->rt = alone;
    to_cancel = s = session_of(0, 0);
    for (size_t i = 0; i < s->plan->graph.node_count; i++)
        s->plan->kernels[i] = &kernel;
    cancel_at = 0;
    ran = 0;
    infer_session_eval(s, prompt, PROMPT, INFER_LOGITS_LAST, NULL);
    nodes = ran;
    for (cancel_at = 1; cancel_at < nodes; cancel_at++) {
        infer_error err = {INFER_OK, ""};
        uint32_t before = infer_session_position(s);
        ran = 0;
        right &= infer_session_eval(s, prompt, PROMPT, INFER_LOGITS_LAST, &err) == INFER_ERROR_CANCELLED &&
                 err.status == INFER_ERROR_CANCELLED && ran == cancel_at && infer_session_position(s) == before;
    }
    tap_ok(right && nodes > 20, "cancelled in each of %d calls of a kernel, none runs after it", (int)nodes);
    infer_session_destroy(s);
    model->rt = other;
    infer_runtime_destroy(alone);
}

static void cycles(int count)
{
    infer_generate_options o = INFER_GENERATE_DEFAULTS;
    infer_session *s = session_of(CONTEXT, 7);
    static text t;
    usage before = {0};
    bool right = true;
    int cancelled = 0;
    for (int i = -10; i < count; i++) { /* the first ones start what is started once */
        infer_status status;
        t.n = 0;
        if (i == 0)
            before = used();
        if (i % 4 == 3) { /* a session of its own, destroyed while it generates */
            infer_session *own = session_of(CONTEXT, 7);
            right &= infer_session_start(own, prompt, PROMPT, &o, NULL) == INFER_OK;
            if (i % 8 == 3)
                wait_readable(infer_session_fd(own));
            infer_session_destroy(own);
            cancelled++;
            continue;
        }
        right &= infer_session_start(s, prompt, PROMPT, &o, NULL) == INFER_OK;
        if (i % 4 == 1)
            wait_readable(infer_session_fd(s)); /* in its text, not in its prompt */
        for (volatile int spin = 0; spin < i % 100 * 20; spin++)
            ;
        infer_session_cancel(s);
        status = finish(s, &t, 8, NULL);
        cancelled += status == INFER_ERROR_CANCELLED;
        right &= status == INFER_ERROR_CANCELLED || (status == INFER_OK && t.n == CONTEXT - PROMPT + 1);
        infer_session_rewind(s, 0, NULL);
    }
    tap_ok(right && cancelled > count * 9 / 10, "%d generations started and cancelled", cancelled);
    tap_ok(same_usage(before), "no thread, descriptor or byte more");
    infer_session_destroy(s);
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 1000;
    infer_runtime_options o = {.size = sizeof o, .threads = 2};
    char folder[] = "/tmp/infer-generate-XXXXXX", path[64];
    infer_error err = {INFER_OK, ""};
    usage before;
    text want = {0};
    if (!mkdtemp(folder))
        return 1;
    check_allocator_init(&memory, 0);
    o.allocator = memory.allocator;
    snprintf(path, sizeof path, "%s/m.infer", folder);
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (int32_t)(i * 37 % 500 + 3);
    if (infer_runtime_create(&o, &rt, &err) == INFER_OK) /* a sanitizer starts a thread of its own with the first one */
        infer_runtime_destroy(rt);
    before = used();
    if (infer_shape_write(infer_shape_find("stories260k"), INFER_QTYPE_Q8G32, &(infer_prune){0}, path, &(sig_atomic_t){0}, &err) ||
        infer_runtime_create(&o, &rt, &err) || infer_model_open(rt, path, NULL, &model, &err))
        printf("# %s\n", err.message);
    tap_ok(err.status == INFER_OK, "a model");
    expected(&want);
    blocking(&want);
    events(&want);
    several(&want);
    within_a_node();
    cycles(count);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    tap_ok(same_usage(before), "everything is given back");
    unlink(path);
    rmdir(folder);
    return tap_done();
}
