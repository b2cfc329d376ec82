/*
 * What models and sessions can do besides evaluating, on a small random Llama: embeddings, states, forks; models from descriptors and
 * memory; two runtimes side by side. A plain TAP program, so that ThreadSanitizer can run it.
 */
#include "check.h"
#include "check_tap.h"
#include "model/session.h"
#include "opened.h"
#include "shapes.h"
#include "state.h"

#include <fcntl.h>
#include <infer/infer_experimental.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROMPT 40u
#define DIM 64u /* of stories260k */

static char path[64];
static int32_t prompt[PROMPT];

/* 0: defaults. */
static opened open_with(uint32_t threads, const char *level, uint32_t context, uint32_t batch, infer_kv_type kv)
{
    infer_runtime_options runtime = INFER_RUNTIME_DEFAULTS;
    infer_session_options session = INFER_SESSION_DEFAULTS;
    opened o;
    runtime.threads = threads;
    runtime.cpu_level = level;
    session.context = context;
    session.batch = batch;
    session.kv_type = kv;
    if (!open_all(path, &runtime, NULL, &session, &o))
        exit(1);
    return o;
}

/* ---- embeddings ---- */

static void embeddings(void)
{
    static const struct {
        uint32_t threads, batch;
        const char *level;
    } cases[] = {{1, 1, "ref"}, {1, 7, NULL}, {2, 16, NULL}, {2, 512, NULL}};
    opened o = open_with(1, "ref", 0, 0, INFER_KV_AUTO);
    float last[DIM], mean[DIM], sum[DIM] = {0}, each[DIM], untouched[DIM] = {0};
    double squares = 0;
    infer_error err;
    bool right = infer_model_dim(o.model) == DIM;
    tap_ok(right && infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_LAST, last, &err) == INFER_OK &&
               infer_session_position(o.session) == PROMPT && !infer_session_logits(o.session, 0),
           "an embedding, without logits");
    for (uint32_t d = 0; d < DIM; d++)
        squares += (double)last[d] * last[d];
    tap_ok(squares / DIM > 0.98 && squares / DIM < 1,
           "it is normalized as the model says (norms of ones, and a small epsilon: mean square %.6f)", squares / DIM);
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
    tap_ok(infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_MEAN, mean, &err) == INFER_OK &&
               memcmp(mean, sum, sizeof mean) == 0 && memcmp(mean, last, sizeof mean) != 0,
           "the mean is that of all tokens");
    infer_session_rewind(o.session, 0, NULL);
    tap_ok(infer_session_embed(o.session, prompt, 0, INFER_POOLING_LAST, each, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(o.session, NULL, 1, INFER_POOLING_LAST, each, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(NULL, prompt, 1, INFER_POOLING_LAST, each, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(o.session, prompt, 1, INFER_POOLING_LAST, NULL, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(o.session, prompt, 1, (infer_pooling)2, each, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(o.session, &(int32_t){1 << 20}, 1, INFER_POOLING_LAST, each, &err) == INFER_ERROR_ARGUMENT,
           "ARGUMENT");
    infer_session_cancel(o.session);
    tap_ok(infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_LAST, untouched, &err) == INFER_ERROR_CANCELLED &&
               infer_session_position(o.session) == 0,
           "CANCELLED");
    close_all(&o);
    o = open_with(1, NULL, PROMPT - 1, 0, INFER_KV_AUTO);
    tap_ok(infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_LAST, each, &err) == INFER_ERROR_CONTEXT, "CONTEXT");
    close_all(&o);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float got[2][DIM];
        o = open_with(cases[c].threads, cases[c].level, 0, cases[c].batch, INFER_KV_AUTO);
        right = infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_LAST, got[0], &err) == INFER_OK &&
                infer_session_rewind(o.session, 0, &err) == INFER_OK &&
                infer_session_embed(o.session, prompt, PROMPT, INFER_POOLING_MEAN, got[1], &err) == INFER_OK;
        tap_ok(right && memcmp(got[0], last, sizeof last) == 0 && memcmp(got[1], mean, sizeof mean) == 0,
               "%s, %u threads, batches of %u: the same bits", infer_runtime_cpu_level(o.rt), cases[c].threads, cases[c].batch);
        close_all(&o);
    }
}

/* ---- states and forks ---- */

/* Logits after 5 more tokens. */
static const float *go_on(infer_session *s)
{
    static const int32_t ids[] = {9, 8, 7, 6, 5};
    return infer_session_eval(s, ids, 5, INFER_LOGITS_LAST, NULL) == INFER_OK ? infer_session_logits(s, 0) : NULL;
}

static bool same_row(const infer_model *m, const float *a, const float *b)
{
    return a && b && memcmp(a, b, infer_model_vocab_size(m) * sizeof *a) == 0;
}

static infer_status restored(const opened *o, const uint8_t *state, size_t bytes)
{
    infer_error err = {INFER_OK, ""};
    infer_status s = infer_session_restore(o->session, state, bytes, &err);
    bool said = s == INFER_OK || (err.status == s && *err.message);
    return said && (s == INFER_OK || infer_session_position(o->session) == 3) ? s : (infer_status)99; /* untouched on failure */
}

static void state_of(infer_kv_type kv, const char *name, uint32_t tokens)
{
    opened a = open_with(2, NULL, 200, 0, kv), b = open_with(1, "ref", 100, 0, kv);
    size_t bytes, again;
    uint8_t *state, *second;
    infer_error err;
    bool right;
    infer_session_eval(a.session, prompt, PROMPT, INFER_LOGITS_NONE, NULL);
    infer_session_rewind(a.session, tokens, NULL); /* what is forgotten is not in the state */
    bytes = infer_session_state_bytes(a.session);
    state = malloc(bytes);
    right = infer_session_save(a.session, state, bytes, &err) == INFER_OK;
    infer_session_eval(b.session, prompt + 7, 3, INFER_LOGITS_LAST, NULL);
    right &= infer_session_restore(b.session, state, bytes, &err) == INFER_OK && infer_session_position(b.session) == tokens &&
             !infer_session_logits(b.session, 0);
    again = infer_session_state_bytes(b.session);
    second = malloc(again);
    infer_session_save(b.session, second, again, NULL);
    tap_ok(right && again == bytes && memcmp(state, second, bytes) == 0,
           "kv %s, %u tokens: saved, restored at another context, saved: the same %zu bytes", name, tokens, bytes);
    tap_ok(same_row(a.model, go_on(a.session), go_on(b.session)), "kv %s, %u tokens: it goes on with the same bits", name, tokens);
    infer_session_rewind(a.session, 0, NULL);
    infer_session_eval(a.session, prompt, tokens ? tokens : 1, INFER_LOGITS_NONE, NULL);
    infer_session_rewind(a.session, tokens, NULL);
    infer_session_save(a.session, second, bytes, NULL);
    tap_ok(memcmp(state, second, bytes) == 0, "kv %s, %u tokens: nothing of forgotten tokens is in it", name, tokens);
    free(state);
    free(second);
    close_all(&a);
    close_all(&b);
}

static void hostile_states(infer_kv_type kv, const char *name)
{
    opened a = open_with(1, NULL, 64, 0, kv), small = open_with(1, NULL, 20, 0, kv),
           other = open_with(1, NULL, 64, 0, kv == INFER_KV_F16 ? INFER_KV_Q8 : INFER_KV_F16);
    size_t bytes;
    uint8_t *good, *bad;
    bool right = true;
    static const struct {
        size_t at;
        infer_status status;
    } fields[] = {{0, INFER_ERROR_FORMAT},    {8, INFER_ERROR_UNSUPPORTED}, {12, INFER_ERROR_FORMAT},  {16, INFER_ERROR_FORMAT},
                  {24, INFER_ERROR_ARGUMENT}, {32, INFER_ERROR_ARGUMENT},   {39, INFER_ERROR_CONTEXT}, {40, INFER_ERROR_FORMAT},
                  {44, INFER_ERROR_FORMAT},   {48, INFER_ERROR_FORMAT},     {52, INFER_ERROR_FORMAT}};
    infer_session_eval(a.session, prompt, PROMPT, INFER_LOGITS_NONE, NULL);
    bytes = infer_session_state_bytes(a.session);
    good = malloc(bytes);
    bad = malloc(bytes + 1);
    infer_session_save(a.session, good, bytes, NULL);
    infer_session_rewind(a.session, 3, NULL);
    infer_session_eval(small.session, prompt, 3, INFER_LOGITS_NONE, NULL);
    infer_session_eval(other.session, prompt, 3, INFER_LOGITS_NONE, NULL);
    tap_ok(restored(&small, good, bytes) == INFER_ERROR_CONTEXT, "kv %s: too long for the session: CONTEXT", name);
    tap_ok(restored(&other, good, bytes) == INFER_ERROR_ARGUMENT, "kv %s: another KV type: ARGUMENT", name);
    for (size_t n = 0; n < bytes; n += n < 80 ? 1 : 977)
        right &= restored(&a, good, n) == INFER_ERROR_FORMAT;
    memcpy(bad, good, bytes);
    right &= restored(&a, bad, bytes + 1) == INFER_ERROR_FORMAT;
    tap_ok(right, "kv %s: cut off anywhere, or longer: FORMAT", name);
    right = true;
    for (size_t bit = 0; bit < 8 * bytes; bit += bit < 8 * 80 ? 1 : 1009) {
        infer_status s;
        memcpy(bad, good, bytes);
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
        s = restored(&a, bad, bytes);
        right &= s == INFER_ERROR_CORRUPT || (bit < 8 * 64 && (s == INFER_ERROR_FORMAT || s == INFER_ERROR_UNSUPPORTED));
    }
    tap_ok(right, "kv %s: any bit flipped: an error", name);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        memcpy(bad, good, bytes);
        bad[fields[i].at] ^= 0x40;
        state_seal(bad, bytes);
        right &= restored(&a, bad, bytes) == fields[i].status;
        if (restored(&a, bad, bytes) != fields[i].status)
            printf("# field at %zu: %d, expected %d\n", fields[i].at, restored(&a, bad, bytes), fields[i].status);
    }
    tap_ok(right, "kv %s: any field changed, with a right hash: an error", name);
    memcpy(bad, good, bytes);
    bad[36] = PROMPT + 16; /* the bytes would lie beyond the end */
    state_seal(bad, bytes);
    tap_ok(restored(&a, bad, bytes) == INFER_ERROR_FORMAT, "kv %s: a position that the bytes do not hold: FORMAT", name);
    for (size_t i = 0; i < 3; i++) {
        static const uint8_t not_numbers[][4] = {
            {0xff, 0xff, 0xff, 0xff}, {0x00, 0x7c, 0x80, 0x7f}, {0x80, 0xfc, 0x80, 0xff}}; /* NaN; infinite as f16 or f32 */
        memcpy(bad, good, bytes);
        memcpy(bad + 64 + i * 4, not_numbers[i], 4);
        state_seal(bad, bytes);
        right &= restored(&a, bad, bytes) == INFER_ERROR_FORMAT;
    }
    tap_ok(right, "kv %s: numbers that are none: FORMAT", name);
    tap_ok(restored(&a, good, bytes) == INFER_OK && infer_session_position(a.session) == PROMPT, "kv %s: the good one is still good", name);
    free(good);
    free(bad);
    close_all(&a);
    close_all(&small);
    close_all(&other);
}

static void state_files(const char *folder)
{
    opened a = open_with(1, NULL, 0, 0, INFER_KV_AUTO), b = open_with(1, NULL, 0, 0, INFER_KV_AUTO);
    char file[96], big[96];
    infer_error err;
    struct stat st;
    uint8_t byte = 0;
    int fd;
    snprintf(file, sizeof file, "%s/state", folder);
    snprintf(big, sizeof big, "%s/big", folder);
    infer_session_eval(a.session, prompt, PROMPT, INFER_LOGITS_LAST, NULL);
    tap_ok(infer_session_save_file(a.session, file, &err) == INFER_OK && stat(file, &st) == 0 &&
               (size_t)st.st_size == infer_session_state_bytes(a.session) && (st.st_mode & 0777) == 0600,
           "a state's file, for its owner only");
    tap_ok(infer_session_save_file(a.session, file, &err) == INFER_OK && infer_session_restore_file(b.session, file, &err) == INFER_OK &&
               same_row(a.model, go_on(a.session), go_on(b.session)),
           "replaced, and restored");
    tap_ok(infer_session_save_file(a.session, "/nowhere/state", &err) == INFER_ERROR_IO &&
               infer_session_restore_file(b.session, "/nowhere/state", &err) == INFER_ERROR_IO,
           "no such folder: IO");
    fd = open(big, O_WRONLY | O_CREAT, 0600);
    tap_ok(fd >= 0 && ftruncate(fd, (off_t)1 << 40) == 0 && infer_session_restore_file(b.session, big, &err) == INFER_ERROR_FORMAT,
           "a file of 1 TB is not read: FORMAT");
    tap_ok(ftruncate(fd, 0) == 0 && infer_session_restore_file(b.session, big, &err) == INFER_ERROR_FORMAT, "an empty file: FORMAT");
    close(fd);
    tap_ok(infer_session_save_file(NULL, file, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_save_file(a.session, NULL, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_restore_file(NULL, file, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_restore_file(a.session, NULL, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_save(NULL, &byte, 1, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_save(a.session, NULL, 1, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_save(a.session, &byte, 1, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_restore(NULL, &byte, 1, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_restore(a.session, NULL, 1, &err) == INFER_ERROR_ARGUMENT,
           "ARGUMENT");
    unlink(file);
    unlink(big);
    close_all(&a);
    close_all(&b);
}

static void forks(void)
{
    opened a = open_with(2, NULL, 0, 0, INFER_KV_AUTO);
    infer_generate_options g = INFER_GENERATE_DEFAULTS;
    infer_session *fork = NULL, *none = NULL;
    infer_error err;
    float *row = malloc(infer_model_vocab_size(a.model) * sizeof *row);
    int done = 0;
    infer_session_eval(a.session, prompt, PROMPT, INFER_LOGITS_LAST, NULL);
    tap_ok(infer_session_fork(a.session, &fork, &err) == INFER_OK && infer_session_position(fork) == PROMPT &&
               same_row(a.model, infer_session_logits(a.session, 0), infer_session_logits(fork, 0)),
           "a fork has read the same");
    memcpy(row, go_on(a.session), infer_model_vocab_size(a.model) * sizeof *row);
    infer_session_rewind(a.session, 0, NULL);
    infer_session_eval(a.session, prompt + 1, 20, INFER_LOGITS_LAST, NULL);
    tap_ok(same_row(a.model, row, go_on(fork)), "it goes on with the same bits, whatever becomes of the first");
    tap_ok(infer_session_fork(NULL, &none, &err) == INFER_ERROR_ARGUMENT && infer_session_fork(fork, NULL, &err) == INFER_ERROR_ARGUMENT &&
               !none,
           "ARGUMENT");
    g.max_tokens = 2;
    infer_session_start(fork, prompt, 1, &g, NULL);
    tap_ok(infer_session_fork(fork, &none, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_save(fork, row, 1, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_restore(fork, row, 1, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_restore_file(fork, path, &err) == INFER_ERROR_ARGUMENT &&
               infer_session_save_file(fork, "x", &err) == INFER_ERROR_ARGUMENT &&
               infer_session_embed(fork, prompt, 1, INFER_POOLING_LAST, row, &err) == INFER_ERROR_ARGUMENT,
           "none of these while a generation runs: ARGUMENT");
    while (!done) {
        int32_t id;
        size_t n;
        if (infer_session_poll(fork, &id, 1, &n, &done, NULL) != INFER_OK)
            break;
    }
    infer_session_destroy(fork);
    free(row);
    close_all(&a);
}

/* ---- models ---- */

static bool runs_like(infer_runtime *rt, infer_model *m, const float *want)
{
    infer_session *s = NULL;
    bool same = infer_session_create(m, NULL, &s, NULL) == INFER_OK && same_row(m, want, go_on(s));
    (void)rt;
    infer_session_destroy(s);
    return same;
}

static void origins(void)
{
    opened o = open_with(1, NULL, 0, 0, INFER_KV_AUTO);
    infer_model_options copy = INFER_MODEL_DEFAULTS;
    const float *want = go_on(o.session);
    infer_model *m = NULL;
    infer_error err;
    int fd = open(path, O_RDONLY | O_CLOEXEC), folder = open("/", O_RDONLY | O_CLOEXEC);
    size_t bytes = (size_t)lseek(fd, 0, SEEK_END);
    uint8_t *memory = aligned_alloc(64, infer_round_up(bytes + 64, 64));
    copy.load = INFER_LOAD_COPY;
    tap_ok(pread(fd, memory, bytes, 0) == (ssize_t)bytes, "the model's bytes");
    tap_ok(infer_model_open_memory(o.rt, memory, bytes, NULL, &m, &err) == INFER_OK && runs_like(o.rt, m, want), "a model in memory");
    infer_model_close(m);
    m = NULL;
    memmove(memory + 1, memory, bytes);
    tap_ok(infer_model_open_memory(o.rt, memory + 1, bytes, NULL, &m, &err) == INFER_ERROR_ARGUMENT && !m, "not aligned: ARGUMENT");
    tap_ok(infer_model_open_memory(o.rt, memory + 1, bytes, &copy, &m, &err) == INFER_OK, "copied");
    memset(memory, 0, bytes + 1);
    tap_ok(runs_like(o.rt, m, want), "a copy does not need the memory");
    infer_model_close(m);
    m = NULL;
    tap_ok(infer_model_open_memory(o.rt, memory, bytes, NULL, &m, &err) == INFER_ERROR_FORMAT && !m && strstr(err.message, "memory"),
           "other bytes: FORMAT");
    tap_ok(infer_model_open_memory(NULL, memory, bytes, NULL, &m, &err) == INFER_ERROR_ARGUMENT &&
               infer_model_open_memory(o.rt, NULL, bytes, NULL, &m, &err) == INFER_ERROR_ARGUMENT &&
               infer_model_open_memory(o.rt, memory, bytes, NULL, NULL, &err) == INFER_ERROR_ARGUMENT,
           "ARGUMENT");
    tap_ok(infer_model_open_fd(o.rt, fd, NULL, &m, &err) == INFER_OK && fcntl(fd, F_GETFD) >= 0,
           "a model of a descriptor, which stays open");
    close(fd);
    tap_ok(runs_like(o.rt, m, want), "and may be closed");
    infer_model_close(m);
    m = NULL;
    tap_ok(infer_model_open_fd(o.rt, fd, NULL, &m, &err) == INFER_ERROR_IO &&
               infer_model_open_fd(o.rt, folder, NULL, &m, &err) == INFER_ERROR_IO && !m && strstr(err.message, "directory"),
           "a closed descriptor, a folder: IO");
    tap_ok(infer_model_open_fd(o.rt, -1, NULL, &m, &err) == INFER_ERROR_ARGUMENT &&
               infer_model_open_fd(NULL, 0, NULL, &m, &err) == INFER_ERROR_ARGUMENT &&
               infer_model_open_fd(o.rt, 0, NULL, NULL, &err) == INFER_ERROR_ARGUMENT,
           "ARGUMENT");
    close(folder);
    free(memory);
    close_all(&o);
}

/* ---- runtimes ---- */

typedef struct world {
    infer_runtime_options options;
    check_allocator memory;
    uint32_t lines;      /* of its log */
    char first[160];
    const float *logits; /* of go_on */
    opened o;
} world;

static void world_log(void *user, const char *line)
{
    world *w = user;
    if (!w->lines++)
        snprintf(w->first, sizeof w->first, "%s", line);
}

static void *live(void *arg)
{
    world *w = arg;
    if (infer_runtime_create(&w->options, &w->o.rt, NULL) == INFER_OK &&
        infer_model_open(w->o.rt, path, NULL, &w->o.model, NULL) == INFER_OK &&
        infer_session_create(w->o.model, NULL, &w->o.session, NULL) == INFER_OK)
        for (int i = 0; i < 20; i++) {
            infer_session_rewind(w->o.session, 0, NULL);
            w->logits = go_on(w->o.session);
        }
    return NULL;
}

static void side_by_side(void)
{
    world a = {.options = INFER_RUNTIME_DEFAULTS}, b = {.options = INFER_RUNTIME_DEFAULTS};
    const char *best = NULL;
    pthread_t thread;
    for (size_t i = 0; infer_cpu_level_available(i); i++)
        best = infer_cpu_level_available(i);
    tap_ok(strcmp(infer_cpu_level_available(0), "ref") == 0 && best && !infer_cpu_level_available(64), "the CPU's levels: ref to %s", best);
    a.options.threads = 1;
    a.options.cpu_level = "ref";
    check_allocator_init(&a.memory, 0);
    a.options.allocator = a.memory.allocator;
    a.options.log = b.options.log = world_log;
    a.options.log_user = &a;
    b.options.log_user = &b;
    b.options.threads = 2;
    b.options.cpu_level = best;
    check_allocator_init(&b.memory, 0);
    b.options.allocator = b.memory.allocator;
    pthread_create(&thread, NULL, live, &a);
    live(&b);
    pthread_join(thread, NULL);
    tap_ok(same_row(a.o.model, a.logits, b.logits), "two runtimes at once, of other levels and threads: the same bits");
    tap_ok(strcmp(infer_runtime_cpu_level(a.o.rt), "ref") == 0 && strcmp(infer_runtime_cpu_level(b.o.rt), best) == 0 &&
               infer_runtime_threads(a.o.rt) == 1,
           "each has its own settings");
    tap_ok(a.lines == 3 && b.lines == 3 && strstr(a.first, "level ref, 1 threads") && strstr(b.first, best), "each tells its own log: %s",
           a.first);
    tap_ok(a.memory.live > 0 && b.memory.live > 0, "each has its own memory");
    close_all(&a.o);
    tap_ok(a.memory.live == 0 && b.memory.live > 0 && go_on(b.o.session), "one ends, the other goes on");
    close_all(&b.o);
    tap_ok(b.memory.live == 0, "and gives all back");
    b.options.threads = 256; /* more threads than CPUs take turns, and each turn is a wake-up */
    infer_runtime_create(&b.options, &b.o.rt, NULL);
    tap_ok(infer_runtime_threads(b.o.rt) <= infer_cpus_logical(), "256 threads wanted: %u, as many as there are CPUs",
           infer_runtime_threads(b.o.rt));
    infer_runtime_destroy(b.o.rt);
}

static void logprobs(void)
{
    static const float two[] = {1, 1}, mixed[] = {0, 1000, -1000, NAN}, none[] = {-INFINITY, NAN};
    tap_ok(fabs(infer_logprob(two, 2, 1) + log(2)) < 1e-12 && infer_logprob(mixed, 4, 1) == 0 && infer_logprob(mixed, 4, 0) == -1000 &&
               isinf(infer_logprob(mixed, 4, 3)),
           "logarithms of probabilities");
    tap_ok(isnan(infer_logprob(two, 2, 2)) && isnan(infer_logprob(two, 2, -1)) && isnan(infer_logprob(none, 2, 0)) &&
               isnan(infer_logprob(two, 0, 0)),
           "where there is none: NAN");
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
    tap_ok(infer_shape_write(infer_shape_find("stories260k"), INFER_QTYPE_Q8G32, &(infer_prune){0}, path, &(sig_atomic_t){0}, &err) ==
               INFER_OK,
           "a model");
    embeddings();
    for (int k = INFER_KV_F16; k <= INFER_KV_Q8; k++) {
        static const char *const names[] = {"auto", "f16", "f32", "q8"};
        for (uint32_t tokens = 0; tokens <= PROMPT; tokens += tokens == 32 ? 1 : 16)
            if (tokens < 35)
                state_of((infer_kv_type)k, names[k], tokens);
        state_of((infer_kv_type)k, names[k], PROMPT - 1);
        hostile_states((infer_kv_type)k, names[k]);
    }
    state_files(folder);
    forks();
    origins();
    side_by_side();
    logprobs();
    unlink(path);
    rmdir(folder);
    return tap_done();
}
