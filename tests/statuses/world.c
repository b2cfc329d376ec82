#include "world.h"

#include "small_model.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const int32_t world_prompt[WORLD_PROMPT] = {1, 4, 5, 6, 4};

/* ---- calls of the system that fail when they are told to (--wrap) ---- */

static _Atomic bool fstat_fails, threads_fail;

int __real_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st)
{
    errno = EIO;
    return fstat_fails ? -1 : __real_fstat64(fd, st);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg)
{
    return threads_fail ? EAGAIN : __real_pthread_create(thread, attributes, start, arg);
}

/* ---- the models ---- */

static const struct sample {
    const char *name;
    small_model model;
    bool damaged;
} samples[] = {
    {"whole", {.tokenizer = true, .events = true}, false},
    {"no tokenizer", {0}, false},
    {"broken map", {.tokenizer = true, .bad_map = true}, false},
    {"no events", {.tokenizer = true}, false},
    {"embeddings in cols", {.cols = true}, false},
    {"damaged", {0}, true},
    {"unknown", {.unknown = true}, false},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

static char folder[96];

static void model_path(char *out, size_t size, const char *name) { snprintf(out, size, "%s/%s.infer", folder, name); }

/* ---- files ---- */

static void put(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static void copy(const char *from, const char *to)
{
    static char bytes[1 << 16];
    FILE *f = fopen(from, "rb");
    size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (n == 0 || fclose(f) != 0) {
        perror(from);
        exit(1);
    }
    put(to, bytes, n);
}

/* Of the file's byte `at`, from its end where `at` is negative. */
static void flip_bit(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    int c;
    if (!f || fseek(f, at, at < 0 ? SEEK_END : SEEK_SET) != 0 || (c = fgetc(f)) == EOF || fseek(f, -1, SEEK_CUR) != 0 ||
        fputc(c ^ 1, f) == EOF || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

bool world_models(const char *where, infer_error *err)
{
    snprintf(folder, sizeof folder, "%s", where);
    for (size_t i = 0; i < SAMPLES; i++) {
        char path[128];
        model_path(path, sizeof path, samples[i].name);
        if (small_model_write(path, &samples[i].model, err) != INFER_OK)
            return false;
        if (samples[i].damaged)
            flip_bit(path, -1);
    }
    return true;
}

void world_models_remove(void)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        char path[128];
        model_path(path, sizeof path, samples[i].name);
        unlink(path);
    }
}

/* ---- a world ---- */

static void new_state(world *w)
{
    w->state_bytes = infer_session_state_bytes(w->own.session);
    w->state = realloc(w->state, w->state_bytes);
    if (!w->state || infer_session_save(w->own.session, w->state, w->state_bytes, NULL) != INFER_OK)
        exit(1);
    put(w->state_path, w->state, w->state_bytes);
}

bool world_open(world *w, const situation *s, size_t fail_at, infer_error *err)
{
    char model[128];
    handles *h = &w->own;
    *w = (world){.runtime = INFER_RUNTIME_DEFAULTS,
                 .model = INFER_MODEL_DEFAULTS,
                 .session = INFER_SESSION_DEFAULTS,
                 .generate = INFER_GENERATE_DEFAULTS,
                 .sampler = INFER_SAMPLER_DEFAULTS,
                 .meter = INFER_METER_DEFAULTS,
                 .late = s->late};
    snprintf(w->path, sizeof w->path, "%s/copy.infer", folder);
    snprintf(w->state_path, sizeof w->state_path, "%s/state", folder);
    snprintf(w->meter_path, sizeof w->meter_path, "%s/meter", folder);
    snprintf(w->meter_source, sizeof w->meter_source, "file:%s", w->meter_path);
    model_path(model, sizeof model, s->model);
    copy(model, w->path);
    put(w->meter_path, "3 W\n", 4);
    w->runtime.threads = 1;
    check_allocator_init(&w->memory, 0);
    w->runtime.allocator = w->memory.allocator;
    w->session.context = WORLD_CONTEXT;
    w->session.logit_rows = 4;
    w->generate.max_tokens = 3;
    w->meter.source = w->meter_source;
    if (infer_runtime_create(&w->runtime, &h->rt, err) != INFER_OK ||
        infer_model_open(h->rt, w->path, &w->model, &h->model, err) != INFER_OK)
        return false;
    /* Where one of these fails, that is the situation: the calls that need it then get NULL, or fail too, and the case fails unless it is
     * about just that. */
    infer_session_create(h->model, &w->session, &h->session, NULL);
    infer_sampler_create(h->model, NULL, &h->sampler, NULL);
    infer_decoder_create(h->model, &h->decoder, NULL);
    infer_meter_create(h->rt, &w->meter, &h->meter, NULL);
    if (h->session) {
        infer_drafter_create(h->session, h->sampler, 0.5, 3, &h->drafter, NULL);
        if (infer_session_eval(h->session, world_prompt, WORLD_PROMPT, INFER_LOGITS_LAST, NULL) == INFER_OK)
            new_state(w);
    }
    w->use = w->own;
    if (s->act)
        s->act(w);
    w->memory.calls = 0;
    w->memory.fail_at = fail_at;
    return true;
}

void world_close(world *w)
{
    fstat_fails = threads_fail = false;
    w->memory.fail_at = 0;
    infer_meter_destroy(w->own.meter);
    infer_drafter_destroy(w->own.drafter);
    infer_decoder_destroy(w->own.decoder);
    infer_sampler_destroy(w->own.sampler);
    infer_session_destroy(w->own.session);
    infer_model_close(w->own.model);
    infer_runtime_destroy(w->own.rt);
    free(w->state);
    snprintf(w->path, sizeof w->path, "%s/copy.infer", folder);
    unlink(w->path);
    snprintf(w->state_path, sizeof w->state_path, "%s/state", folder);
    unlink(w->state_path);
    unlink(w->meter_path);
}

/* ---- what happens ---- */

static void drop_handles(world *w) { w->use = (handles){0}; }

static void change_sizes(world *w)
{
    w->runtime.size--;
    w->model.size--;
    w->session.size--;
    w->generate.size--;
    w->sampler.size--;
    w->meter.size--;
}

static void fail_threads(world *w)
{
    (void)w;
    threads_fail = true;
}

static void fail_fstat(world *w)
{
    (void)w;
    fstat_fails = true;
}

static void ask_other_cpu(world *w)
{
#if defined(__x86_64__)
    w->runtime.cpu_level = "neon";
#else
    w->runtime.cpu_level = "avx2";
#endif
}

static void name_folder(world *w) { snprintf(w->path, sizeof w->path, "%s", folder); }
static void write_other(world *w) { put(w->path, "This is no model.", 17); }
static void flip_header(world *w) { flip_bit(w->path, 24); }

static void name_unknown(world *w)
{
    char path[128];
    model_path(path, sizeof path, "unknown");
    copy(path, w->path);
}

/* By a byte: its page stays, so that an evaluation that runs meanwhile reads zeros, where a page that is gone would raise SIGBUS (SECURITY.md). */
static void shorten(world *w)
{
    struct stat st;
    if (stat(w->path, &st) != 0 || truncate(w->path, st.st_size - 1) != 0)
        exit(1);
}

static void fill(world *w)
{
    static const int32_t ids[WORLD_CONTEXT];
    infer_session_eval(w->own.session, ids, WORLD_CONTEXT - infer_session_position(w->own.session), INFER_LOGITS_NONE, NULL);
}

static void cancel(world *w) { infer_session_cancel(w->own.session); }
static void ask_for_more(world *w) { w->generate.max_tokens = WORLD_CONTEXT + 1; }
static void name_no_folder(world *w) { snprintf(w->state_path, sizeof w->state_path, "%s/nowhere/state", folder); }

/* Its last byte is missing. */
static void cut_state(world *w) { put(w->state_path, w->state, --w->state_bytes); }

static void change_state(world *w, size_t at)
{
    w->state[at] ^= 1;
    put(w->state_path, w->state, w->state_bytes);
}

static void damage_state(world *w) { change_state(w, w->state_bytes - 1); }
static void renew_state(world *w) { change_state(w, 8); } /* its version */

static void save_full_state(world *w)
{
    infer_session_options o = w->session;
    fill(w);
    new_state(w);
    infer_drafter_destroy(w->own.drafter);
    infer_session_destroy(w->own.session);
    w->own.drafter = NULL;
    w->own.session = NULL;
    o.context = WORLD_CONTEXT - 1;
    infer_session_create(w->own.model, &o, &w->own.session, NULL);
    w->use = w->own;
}

static void ask_for_scmi(world *w)
{
    w->meter.source = "scmi";
    w->meter.root = folder;
}

static void remove_meter(world *w) { unlink(w->meter_path); }
static void spoil_meter(world *w) { put(w->meter_path, "much\n", 5); }

const situation all_well = {"whole", NULL, NULL};
const situation no_handles = {"whole", drop_handles, NULL};
const situation other_size = {"whole", change_sizes, NULL};
const situation no_memory = {"whole", NULL, NULL};
const situation no_thread = {"whole", fail_threads, NULL};
const situation other_cpu = {"whole", ask_other_cpu, NULL};
const situation a_folder = {"whole", name_folder, NULL};
const situation no_model = {"whole", write_other, NULL};
const situation damaged_model = {"whole", flip_header, NULL};
const situation unknown_model = {"whole", name_unknown, NULL};
const situation no_tokenizer = {"no tokenizer", NULL, NULL};
const situation broken_map = {"broken map", NULL, NULL};
const situation no_events = {"no events", NULL, NULL};
const situation no_kernel = {"embeddings in cols", NULL, NULL};
const situation damaged_weights = {"damaged", NULL, NULL};
const situation cut_off = {"whole", shorten, NULL};
const situation no_fstat = {"whole", fail_fstat, NULL};
const situation full = {"whole", fill, NULL};
const situation cancelled = {"whole", cancel, NULL};
const situation too_many = {"whole", ask_for_more, NULL};
const situation cut_off_late = {"whole", NULL, shorten};
const situation no_fstat_late = {"whole", NULL, fail_fstat};
const situation cancelled_late = {"whole", NULL, cancel};
const situation no_folder = {"whole", name_no_folder, NULL};
const situation no_state = {"whole", cut_state, NULL};
const situation damaged_state = {"whole", damage_state, NULL};
const situation newer_state = {"whole", renew_state, NULL};
const situation long_state = {"whole", save_full_state, NULL};
const situation no_counter = {"whole", ask_for_scmi, NULL};
const situation meter_gone = {"whole", remove_meter, NULL};
const situation meter_garbage = {"whole", spoil_meter, NULL};
const situation meter_gone_late = {"whole", NULL, remove_meter};
const situation meter_garbage_late = {"whole", NULL, spoil_meter};
