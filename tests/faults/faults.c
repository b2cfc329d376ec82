/* What the system refuses. Each scenario is run whole once, then again with the n-th call of one kind failing, for every n: the answer is
 * an error of one line, or, where the call does not matter, the same result. Nothing leaks, no file is left half written. TAP.
 *
 * usage: faults FOLDER (with the samples that run.py writes). The calls are those of the library's own code, caught by the
 * linker (--wrap). */
#include "check.h"
#include "check_tap.h"

#include "convert/convert.h"
#include "eval/results.h"
#include "eval/teacher.h"
#include "text/text.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* ---- faults ---- */

typedef enum call {
    OPEN, FSTAT, MMAP, READ, PREAD, PWRITE, WRITE, FSYNC, RENAME, LINK, FOPEN, FWRITE, FFLUSH, MALLOC, JSON, THREAD, CALLS
} call;

/* How it fails. SHORT is no failure: half of what was asked for is done. */
static const struct fault {
    const char *name;
    call call;
    int error; /* 0: short */
    bool harmless;
} faults[] = {
    {"open fails", OPEN, EMFILE, false},
    {"fstat fails", FSTAT, EIO, false},
    {"mmap fails", MMAP, ENOMEM, false},
    {"read fails", READ, EIO, false},
    {"read is interrupted", READ, EINTR, false},
    {"pread fails", PREAD, EIO, false},
    {"pread is interrupted", PREAD, EINTR, true},
    {"pread is short", PREAD, 0, true},
    {"pwrite: the disk is full", PWRITE, ENOSPC, false},
    {"pwrite is interrupted", PWRITE, EINTR, true},
    {"pwrite is short", PWRITE, 0, true},
    {"write: the disk is full", WRITE, ENOSPC, false},
    {"write is interrupted", WRITE, EINTR, true},
    {"write is short", WRITE, 0, true},
    {"fsync fails", FSYNC, EIO, false},
    {"rename fails", RENAME, EACCES, false},
    {"link fails", LINK, EPERM, false},
    {"fopen fails", FOPEN, EMFILE, false},
    {"fwrite: the disk is full", FWRITE, ENOSPC, false},
    {"fflush: the disk is full", FFLUSH, ENOSPC, false},
    {"memory is short", MALLOC, ENOMEM, false},
    {"memory for JSON is short", JSON, ENOMEM, false},
    {"no thread starts", THREAD, EAGAIN, false},
};

static const struct fault *now;         /* NULL: calls are only counted */
static _Atomic bool armed;
static _Atomic size_t counts[CALLS], fail_at;
static _Atomic long live; /* blocks of memory */

static bool fails(call c)
{
    return armed && atomic_fetch_add(&counts[c], 1) + 1 == fail_at && now && now->call == c;
}

#define WRAP(type, name, parameters, arguments, c, failed)                                                                                 \
    type __real_##name parameters;                                                                                                         \
    type __wrap_##name parameters;                                                                                                         \
    type __wrap_##name parameters                                                                                                          \
    {                                                                                                                                      \
        if (fails(c)) {                                                                                                                    \
            errno = now->error;                                                                                                            \
            return failed;                                                                                                                 \
        }                                                                                                                                  \
        return __real_##name arguments;                                                                                                    \
    }
#define WRAP_BYTES(name, parameters, half, arguments, c)                                                                                   \
    ssize_t __real_##name parameters;                                                                                                      \
    ssize_t __wrap_##name parameters;                                                                                                      \
    ssize_t __wrap_##name parameters                                                                                                       \
    {                                                                                                                                      \
        if (fails(c)) {                                                                                                                    \
            if (!now->error)                                                                                                               \
                return __real_##name half;                                                                                                 \
            errno = now->error;                                                                                                            \
            return -1;                                                                                                                     \
        }                                                                                                                                  \
        return __real_##name arguments;                                                                                                    \
    }

/* The names of the C library's calls with 64-bit offsets. */
WRAP(int, open64, (const char *path, int flags, mode_t mode), (path, flags, mode), OPEN, -1)
WRAP(int, fstat64, (int fd, struct stat *st), (fd, st), FSTAT, -1)
WRAP(void *, mmap64, (void *p, size_t n, int access, int flags, int fd, off_t at), (p, n, access, flags, fd, at), MMAP, MAP_FAILED)
WRAP_BYTES(read, (int fd, void *p, size_t n), (fd, p, (n + 1) / 2), (fd, p, n), READ)
WRAP_BYTES(pread64, (int fd, void *p, size_t n, off_t at), (fd, p, (n + 1) / 2, at), (fd, p, n, at), PREAD)
WRAP_BYTES(pwrite64, (int fd, const void *p, size_t n, off_t at), (fd, p, (n + 1) / 2, at), (fd, p, n, at), PWRITE)
WRAP_BYTES(write, (int fd, const void *p, size_t n), (fd, p, (n + 1) / 2), (fd, p, n), WRITE)
WRAP(int, fsync, (int fd), (fd), FSYNC, -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), RENAME, -1)
WRAP(int, link, (const char *from, const char *to), (from, to), LINK, -1)
WRAP(FILE *, fopen64, (const char *path, const char *mode), (path, mode), FOPEN, NULL)
WRAP(size_t, fwrite, (const void *p, size_t size, size_t n, FILE *f), (p, size, n, f), FWRITE, 0)
WRAP(int, fflush, (FILE *f), (f), FFLUSH, EOF)

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg)
{
    return fails(THREAD) ? EAGAIN : __real_pthread_create(thread, attributes, start, arg);
}

/* The allocator that runtimes and importers are given, and cJSON's. */
static void *count_block(void *p)
{
    live += p != NULL;
    return p;
}
static void *take(void *user, size_t bytes)
{
    (void)user;
    return fails(MALLOC) ? NULL : count_block(aligned_alloc(64, infer_round_up(bytes, 64)));
}
static void *take_json(size_t bytes) { return fails(JSON) ? NULL : count_block(malloc(bytes)); }
static void give(void *p)
{
    live -= p != NULL;
    free(p);
}
static void give_back(void *user, void *p)
{
    (void)user;
    give(p);
}
static const infer_allocator allocator = {take, give_back, NULL};

/* ---- scenarios ---- */

static const char *folder;

static const char *in_folder(const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* A hash of what came out. */
static uint64_t mix(uint64_t hash, const void *data, size_t bytes) { return XXH3_64bits_withSeed(data, bytes, hash); }

typedef struct opened {
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
} opened;

/* To be closed in any case. */
static infer_status open_session(infer_load load, opened *o, infer_error *err)
{
    infer_runtime_options ro = INFER_RUNTIME_DEFAULTS;
    infer_model_options mo = INFER_MODEL_DEFAULTS;
    infer_session_options so = INFER_SESSION_DEFAULTS;
    infer_status s;
    *o = (opened){NULL, NULL, NULL};
    ro.threads = 2;
    ro.allocator = allocator;
    mo.load = load;
    so.context = 16;
    if ((s = infer_runtime_create(&ro, &o->rt, err)) == INFER_OK &&
        (s = infer_model_open(o->rt, in_folder("model.infer"), &mo, &o->model, err)) == INFER_OK)
        s = infer_session_create(o->model, &so, &o->session, err);
    return s;
}

static void close_session(opened *o)
{
    infer_session_destroy(o->session);
    infer_model_close(o->model);
    infer_runtime_destroy(o->rt);
}

/* *result: the logits behind what the session has read, and a short text. */
static infer_status read_text(opened *o, uint64_t *result, infer_error *err)
{
    int32_t ids[16];
    size_t n;
    infer_status s = infer_model_tokenize(o->model, "ab a", 4, INFER_TOKENIZE_BOS, ids, 16, &n, err);
    if (s == INFER_OK && (s = infer_session_eval(o->session, ids, n, INFER_LOGITS_LAST, err)) == INFER_OK)
        *result = mix(0, infer_session_logits(o->session, 0), infer_model_vocab_size(o->model) * sizeof(float));
    return s;
}

static infer_status decode(infer_load load, uint64_t *result, infer_error *err)
{
    opened o;
    infer_status s = open_session(load, &o, err);
    if (s == INFER_OK)
        s = read_text(&o, result, err);
    close_session(&o);
    return s;
}

static infer_status decode_mapped(const char *unused, uint64_t *result, infer_error *err)
{
    (void)unused;
    return decode(INFER_LOAD_MAP, result, err);
}

static infer_status decode_copied(const char *unused, uint64_t *result, infer_error *err)
{
    (void)unused;
    return decode(INFER_LOAD_COPY, result, err);
}

static infer_status decode_guarded(const char *unused, uint64_t *result, infer_error *err)
{
    (void)unused;
    return decode(INFER_LOAD_GUARD, result, err);
}

static infer_status save_session(const char *name, uint64_t *result, infer_error *err)
{
    opened o;
    infer_status s = open_session(INFER_LOAD_MAP, &o, err);
    if (s == INFER_OK && (s = read_text(&o, result, err)) == INFER_OK)
        s = infer_session_save_file(o.session, in_folder(name), err);
    close_session(&o);
    return s;
}

static infer_status restore_session(const char *name, uint64_t *result, infer_error *err)
{
    opened o;
    infer_status s = open_session(INFER_LOAD_MAP, &o, err);
    if (s == INFER_OK && (s = infer_session_restore_file(o.session, in_folder(name), err)) == INFER_OK)
        s = read_text(&o, result, err);
    close_session(&o);
    return s;
}

static infer_status convert_with(const char *name, bool overwrite, infer_error *err)
{
    infer_convert_options options = {.type = INFER_QTYPE_Q8G32, .overwrite = overwrite};
    infer_source source;
    const char *tokenizer = strstr(name, ".bin") ? in_folder("tokenizer.bin") : NULL;
    infer_status s = infer_source_open(&allocator, in_folder(name), tokenizer, &source, err);
    if (s != INFER_OK)
        return s;
    s = infer_convert(&allocator, &source, in_folder("out"), &options, NULL, err);
    infer_source_close(&source);
    return s;
}

static infer_status convert(const char *name, uint64_t *result, infer_error *err)
{
    (void)result;
    return convert_with(name, false, err);
}

static infer_status convert_over(const char *name, uint64_t *result, infer_error *err)
{
    (void)result;
    return convert_with(name, true, err);
}

static infer_status vocabulary(const char *name, uint64_t *result, infer_error *err)
{
    void *section;
    size_t bytes;
    infer_status s = infer_vocab_import(&allocator, in_folder(name), &section, &bytes, err);
    if (s == INFER_OK) {
        *result = mix(0, section, bytes);
        infer_free(&allocator, section);
    }
    return s;
}

static infer_status teacher(const char *unused, uint64_t *result, infer_error *err)
{
    eval_setting setting = {.vocab = 8, .window = 4, .stride = 4, .tokens = 3};
    uint8_t records[512] = {0};
    (void)unused, (void)result;
    return eval_teacher_write(in_folder("out"), &setting, "a model", records, eval_record_bytes(8), false, err);
}

static infer_status state(const char *unused, uint64_t *result, infer_error *err)
{
    eval_results r;
    infer_status s = eval_results_create(7, 3, NULL, 8, &r, err);
    (void)unused, (void)result;
    if (s != INFER_OK)
        return s;
    if ((s = eval_results_attach(&r, in_folder("state"), err)) == INFER_OK)
        s = eval_results_add(&r, err);
    eval_results_free(&r);
    unlink(in_folder("state"));
    return s;
}

static infer_status meter(const char *source, uint64_t *result, infer_error *err)
{
    infer_runtime_options ro = INFER_RUNTIME_DEFAULTS;
    infer_meter_options mo = INFER_METER_DEFAULTS;
    infer_runtime *rt = NULL;
    infer_meter *m = NULL;
    infer_energy energy;
    infer_status s;
    (void)result;
    ro.threads = 1;
    ro.allocator = allocator;
    mo.source = source;
    if ((s = infer_runtime_create(&ro, &rt, err)) == INFER_OK && (s = infer_meter_create(rt, &mo, &m, err)) == INFER_OK &&
        (s = infer_meter_start(m, err)) == INFER_OK)
        s = infer_meter_stop(m, &energy, err);
    infer_meter_destroy(m);
    infer_runtime_destroy(rt);
    return s;
}

/* `keeps`: there is a file "out" before, which an error leaves as it was. */
static const struct scenario {
    const char *name;
    infer_status (*run)(const char *what, uint64_t *result, infer_error *err);
    const char *what;
    bool keeps;
} scenarios[] = {
    {"open, plan, decode", decode_mapped, NULL, false},
    {"guard, plan, decode", decode_guarded, NULL, false},
    {"copy, plan, decode", decode_copied, NULL, false},
    {"save a session", save_session, "out", false},
    {"save a session over a file", save_session, "out", true},
    {"restore a session", restore_session, "session", false},
    {"convert .infer", convert, "model.infer", false},
    {"convert GGUF", convert, "model.gguf", false},
    {"convert a split GGUF", convert, "split-00001-of-00002.gguf", false},
    {"convert a llama2.c checkpoint", convert, "llama2c.bin", false},
    {"convert a bitllama checkpoint", convert, "bitllama.bin", false},
    {"convert a folder", convert, "hf", false},
    {"convert over a file", convert_over, "model.gguf", true},
    {"import tokenizer.json", vocabulary, "tokenizer.json", false},
    {"import vocab.json", vocabulary, "vocab.json", false},
    {"import tokenizer.model", vocabulary, "tokenizer.model", false},
    {"import tokenizer.bin", vocabulary, "tokenizer.bin", false},
    {"write a teacher", teacher, NULL, false},
    {"write a state", state, NULL, false},
    {"estimate energy", meter, "estimate", false},
};

/* ---- running them ---- */

/* Of the file "out"; 0: there is none. */
static uint64_t output(void)
{
    char bytes[65536];
    FILE *f = fopen(in_folder("out"), "rb");
    size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f)
        fclose(f);
    return f ? mix(1, bytes, n) : 0;
}

typedef struct outcome {
    infer_status status;
    uint64_t result, output;
    infer_error err;
    const char *wrong; /* NULL: nothing */
} outcome;

static outcome attempt(const struct scenario *s, const struct fault *f, size_t n)
{
    outcome o = {.err = {INFER_OK, ""}};
    uint64_t before;
    size_t files, descriptors;

    unlink(in_folder("out"));
    if (s->keeps) {
        FILE *old = fopen(in_folder("out"), "wb");
        if (!old || fputs("old", old) < 0 || fclose(old) != 0)
            exit(1);
    }
    before = output();
    files = check_entries(folder);
    descriptors = check_entries("/proc/self/fd");
    for (size_t c = 0; c < CALLS; c++)
        counts[c] = 0;
    fail_at = n;
    now = f;
    live = 0;
    armed = true;
    o.status = s->run(s->what, &o.result, &o.err);
    armed = false;
    o.output = output();
    if (live != 0)
        o.wrong = "memory leaked";
    else if (check_entries("/proc/self/fd") != descriptors)
        o.wrong = "a file stayed open";
    else if (check_entries(folder) != files + (o.status == INFER_OK && o.output && !before))
        o.wrong = "a file was left behind";
    else if (o.status != INFER_OK && o.output != before)
        o.wrong = "the output was touched";
    else if (o.status != INFER_OK && (o.err.status != o.status || !*o.err.message || strchr(o.err.message, '\n')))
        o.wrong = "the error is not one line";
    return o;
}

int main(int argc, char **argv)
{
    cJSON_Hooks hooks = {take_json, give};
    bool met[CALLS] = {false};
    uint64_t ignored;
    infer_error err = {INFER_OK, ""};
    if (argc != 2)
        return 2;
    folder = argv[1];
    cJSON_InitHooks(&hooks);
    tap_ok(save_session("session", &ignored, &err) == INFER_OK, "a session's state %s", err.message);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        const struct scenario *s = &scenarios[i];
        outcome whole = attempt(s, NULL, 0);
        size_t all[CALLS];
        for (size_t c = 0; c < CALLS; c++)
            all[c] = counts[c];
        tap_ok(whole.status == INFER_OK && !whole.wrong, "%s%s%s", s->name, whole.wrong ? ": " : "",
               whole.wrong ? whole.wrong : whole.err.message);
        for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
            const struct fault *f = &faults[k];
            size_t errors = 0, bad = 0;
            outcome o = {.wrong = NULL};
            for (size_t n = 1; n <= all[f->call] && !bad; n++) {
                o = attempt(s, f, n);
                errors += o.status != INFER_OK;
                if (o.status == INFER_OK && (o.result != whole.result || o.output != whole.output))
                    o.wrong = "another result";
                else if (o.status != INFER_OK && f->harmless)
                    o.wrong = "it does no harm";
                if (o.wrong)
                    bad = n;
            }
            if (all[f->call] == 0)
                continue;
            met[f->call] = true;
            tap_ok(!bad, "%s, %s: %zu calls, %zu errors", s->name, f->name, all[f->call], errors);
            if (bad)
                printf("# call %zu: %s; status %d, %s\n", bad, o.wrong, (int)o.status, o.err.message);
        }
        unlink(in_folder("out"));
    }
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++)
        tap_ok(met[faults[k].call], "some scenario meets: %s", faults[k].name);
    return tap_done();
}
