/*
 * Every status of every public function, provoked. A case is named "function: STATUS"; statuses.py holds the names against what the headers
 * say, so that neither a status that a header states nor one that only the table knows is left. TAP.
 *
 * usage: statuses
 */
#include "check_tap.h"
#include "model/session.h"
#include "world.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {"OK", "ARGUMENT", "MEMORY", "IO", "FORMAT", "CORRUPT", "UNSUPPORTED", "CONTEXT", "CANCELLED"};
enum { STATUSES = sizeof names / sizeof *names };

static bool touched; /* an out-parameter, by a call that failed; or none by one that did not */

static infer_status check_out(infer_status s, bool set)
{
    touched |= set != (s == INFER_OK);
    return s;
}

/* ---- the calls ---- */

static infer_status runtime_create(world *w, infer_error *err)
{
    infer_runtime *rt = NULL;
    infer_status s = infer_runtime_create(&w->runtime, &rt, err);
    check_out(s, rt != NULL);
    infer_runtime_destroy(rt);
    return s;
}

static infer_status close_model(infer_status s, infer_model *model)
{
    check_out(s, model != NULL);
    infer_model_close(model);
    return s;
}

static infer_status model_open(world *w, infer_error *err)
{
    infer_model *model = NULL;
    infer_status s = infer_model_open(w->use.rt, w->path, &w->model, &model, err);
    return close_model(s, model);
}

static infer_status model_open_fd(world *w, infer_error *err)
{
    infer_model *model = NULL;
    int fd = open(w->path, O_RDONLY | O_CLOEXEC);
    infer_status s = infer_model_open_fd(w->use.rt, fd, &w->model, &model, err);
    close(fd);
    return close_model(s, model);
}

static infer_status model_open_memory(world *w, infer_error *err)
{
    static _Alignas(64) uint8_t data[1 << 16];
    infer_model *model = NULL;
    int fd = open(w->path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, data, sizeof data);
    infer_status s = infer_model_open_memory(w->use.rt, data, n < 0 ? 0 : (size_t)n, &w->model, &model, err);
    close(fd);
    return close_model(s, model);
}

static infer_status model_tokenize(world *w, infer_error *err)
{
    int32_t ids[8];
    size_t n = SIZE_MAX;
    infer_status s = infer_model_tokenize(w->use.model, "ab ba", 5, 0, ids, 8, &n, err);
    return check_out(s, n != SIZE_MAX);
}

static infer_status model_detokenize(world *w, infer_error *err)
{
    char text[16];
    size_t n = SIZE_MAX;
    infer_status s = infer_model_detokenize(w->use.model, world_prompt, WORLD_PROMPT, text, sizeof text, &n, err);
    return check_out(s, n != SIZE_MAX);
}

static infer_status decoder_create(world *w, infer_error *err)
{
    infer_decoder *decoder = NULL;
    infer_status s = infer_decoder_create(w->use.model, &decoder, err);
    check_out(s, decoder != NULL);
    infer_decoder_destroy(decoder);
    return s;
}

static infer_status decoder_push(world *w, infer_error *err)
{
    const char *text = NULL;
    size_t bytes;
    infer_status s = infer_decoder_push(w->use.decoder, 4, &text, &bytes);
    check_out(s, text != NULL);
    return s == INFER_OK ? s : infer_fail(err, s, "it tells no more");
}

static infer_status model_tokenize_chat(world *w, infer_error *err)
{
    static const infer_chat_message message = {INFER_CHAT_USER, "ab", 2};
    int32_t ids[128];
    size_t n = SIZE_MAX;
    infer_status s = infer_model_tokenize_chat(w->use.model, "chatml", &message, 1, ids, 128, &n, err);
    return check_out(s, n != SIZE_MAX);
}

static infer_status close_session(infer_status s, infer_session *session)
{
    check_out(s, session != NULL);
    infer_session_destroy(session);
    return s;
}

static infer_status session_create(world *w, infer_error *err)
{
    infer_session *session = NULL;
    infer_status s = infer_session_create(w->use.model, &w->session, &session, err);
    return close_session(s, session);
}

static infer_status session_fork(world *w, infer_error *err)
{
    infer_session *session = NULL;
    infer_status s = infer_session_fork(w->use.session, &session, err);
    return close_session(s, session);
}

/* What fails leaves the session where it was. */
static infer_status check_position(world *w, uint32_t before, infer_status s)
{
    return check_out(s, infer_session_position(w->own.session) != before);
}

static infer_status session_eval(world *w, infer_error *err)
{
    uint32_t before = infer_session_position(w->own.session);
    return check_position(w, before, infer_session_eval(w->use.session, world_prompt, 2, INFER_LOGITS_LAST, err));
}

static infer_status session_embed(world *w, infer_error *err)
{
    uint32_t before = infer_session_position(w->own.session);
    float out[32];
    return check_position(w, before, infer_session_embed(w->use.session, world_prompt, 2, INFER_POOLING_MEAN, out, err));
}

static infer_status session_rewind(world *w, infer_error *err)
{
    uint32_t before = infer_session_position(w->own.session);
    return check_position(w, before, infer_session_rewind(w->use.session, 1, err));
}

static infer_status session_save(world *w, infer_error *err)
{
    return infer_session_save(w->use.session, w->state, w->state_bytes, err);
}

static infer_status session_save_file(world *w, infer_error *err) { return infer_session_save_file(w->use.session, w->state_path, err); }

static infer_status session_restore(world *w, infer_error *err)
{
    uint32_t before;
    infer_session_rewind(w->own.session, 1, NULL);
    before = infer_session_position(w->own.session);
    return check_position(w, before, infer_session_restore(w->use.session, w->state, w->state_bytes, err));
}

static infer_status session_restore_file(world *w, infer_error *err)
{
    uint32_t before;
    infer_session_rewind(w->own.session, 1, NULL);
    before = infer_session_position(w->own.session);
    return check_position(w, before, infer_session_restore_file(w->use.session, w->state_path, err));
}

static int take_token(void *user, int32_t id)
{
    (void)id;
    return ++*(int *)user == INT32_MAX;
}

static infer_status session_generate(world *w, infer_error *err)
{
    int tokens = 0;
    return infer_session_generate(w->use.session, world_prompt, 2, &w->generate, take_token, &tokens, err);
}

static infer_status session_start(world *w, infer_error *err)
{
    return infer_session_start(w->use.session, world_prompt, 2, &w->generate, err);
}

/* In place of a session's first kernel: waits, so that what happens meanwhile happens during a generation. */
static const infer_kernel *first_kernel;
static _Atomic bool held;

static void wait_and_run(const void *args, infer_region region)
{
    while (atomic_load(&held))
        usleep(100);
    first_kernel->fn(args, region);
}

static infer_status session_poll(world *w, infer_error *err)
{
    static const infer_kernel waiting = {.fn = wait_and_run};
    infer_session *s = w->own.session;
    int32_t ids[WORLD_CONTEXT + 1];
    size_t n = 0;
    int done = 0;
    infer_status status;
    first_kernel = s->plan->kernels[0];
    s->plan->kernels[0] = &waiting;
    atomic_store(&held, true);
    if ((status = infer_session_start(s, world_prompt, 2, &w->generate, err)) == INFER_OK) {
        if (w->late)
            w->late(w);
        atomic_store(&held, false);
        do
            status = infer_session_poll(w->use.session, ids, 1, &n, &done, err);
        while (status == INFER_OK && !done);
    }
    return status;
}

static int take_text(void *user, const char *text, size_t bytes)
{
    (void)text;
    *(size_t *)user += bytes;
    return 0;
}

static infer_status session_describe(world *w, infer_error *err)
{
    size_t bytes = 0;
    infer_status s = infer_session_describe(w->use.session, "explain", take_text, &bytes, err);
    return check_out(s, bytes > 0);
}

static infer_status sampler_create(world *w, infer_error *err)
{
    infer_sampler *sampler = NULL;
    infer_status s = infer_sampler_create(w->use.model, &w->sampler, &sampler, err);
    check_out(s, sampler != NULL);
    infer_sampler_destroy(sampler);
    return s;
}

static infer_status meter_create(world *w, infer_error *err)
{
    infer_meter *meter = NULL;
    infer_status s = infer_meter_create(w->use.rt, &w->meter, &meter, err);
    check_out(s, meter != NULL);
    infer_meter_destroy(meter);
    return s;
}

static infer_status meter_idle(world *w, infer_error *err)
{
    double watts = -1;
    infer_status s = infer_meter_idle(w->use.meter, 0.001, &watts, err);
    return check_out(s, watts != -1);
}

static infer_status meter_start(world *w, infer_error *err) { return infer_meter_start(w->use.meter, err); }

static infer_status meter_stop(world *w, infer_error *err)
{
    infer_energy e = {.seconds = -1};
    infer_status s = infer_meter_start(w->own.meter, err);
    if (s != INFER_OK)
        return s;
    if (w->late)
        w->late(w);
    s = infer_meter_stop(w->use.meter, &e, err);
    return check_out(s, e.seconds != -1);
}

static infer_status set_events(world *w, infer_error *err) { return infer_session_set_events(w->use.session, 0.25, err); }

static infer_status drafter_create(world *w, infer_error *err)
{
    infer_drafter *drafter = NULL;
    infer_status s = infer_drafter_create(w->use.session, w->use.sampler, 0.5, 3, &drafter, err);
    check_out(s, drafter != NULL);
    infer_drafter_destroy(drafter);
    return s;
}

static infer_status drafter_step(world *w, infer_error *err)
{
    uint32_t before = infer_session_position(w->own.session);
    int32_t ids[4];
    size_t n;
    return check_position(w, before, infer_drafter_step(w->use.drafter, w->use.sampler, 4, ids, 4, &n, err));
}

/* ---- the table ---- */

/* The situations in which the function returns ARGUMENT, MEMORY, IO, FORMAT, CORRUPT, UNSUPPORTED, CONTEXT, CANCELLED; NULL: in none. */
static const struct function {
    const char *name;
    infer_status (*call)(world *w, infer_error *err);
    const situation *when[STATUSES - 1];
} functions[] = {
    {"infer_runtime_create", runtime_create, {&other_size, &no_memory, NULL, NULL, NULL, &other_cpu}},
    {"infer_model_open", model_open, {&other_size, &no_memory, &a_folder, &no_model, &damaged_model, &unknown_model}},
    {"infer_model_open_fd", model_open_fd, {&other_size, &no_memory, &a_folder, &no_model, &damaged_model, &unknown_model}},
    {"infer_model_open_memory", model_open_memory, {&other_size, &no_memory, NULL, &no_model, &damaged_model, &unknown_model}},
    {"infer_model_tokenize", model_tokenize, {&no_handles, &no_memory, NULL, &broken_map, NULL, &no_tokenizer}},
    {"infer_model_detokenize", model_detokenize, {&no_handles, &no_memory, NULL, NULL, NULL, &no_tokenizer}},
    {"infer_decoder_create", decoder_create, {&no_handles, &no_memory, NULL, NULL, NULL, &no_tokenizer}},
    {"infer_decoder_push", decoder_push, {&no_handles}},
    {"infer_model_tokenize_chat", model_tokenize_chat, {&no_handles, &no_memory, NULL, &broken_map, NULL, &no_tokenizer}},
    {"infer_session_create", session_create, {&other_size, &no_memory, &no_fstat, NULL, &cut_off, &no_kernel}},
    {"infer_session_eval", session_eval, {&no_handles, NULL, &no_fstat, NULL, &damaged_weights, NULL, &full, &cancelled}},
    {"infer_session_rewind", session_rewind, {&no_handles}},
    {"infer_session_save", session_save, {&no_handles}},
    {"infer_session_save_file", session_save_file, {&no_handles, &no_memory, &no_folder}},
    {"infer_session_restore", session_restore, {&no_handles, NULL, NULL, &no_state, &damaged_state, &newer_state, &long_state}},
    {"infer_session_restore_file",
     session_restore_file,
     {&no_handles, &no_memory, &no_folder, &no_state, &damaged_state, &newer_state, &long_state}},
    {"infer_session_fork", session_fork, {&no_handles, &no_memory, &no_fstat, NULL, &cut_off}},
    {"infer_session_generate", session_generate, {&no_handles, NULL, &no_fstat, NULL, &cut_off, NULL, &full, &cancelled}},
    {"infer_session_start", session_start, {&other_size, &no_memory, &no_fstat, NULL, &cut_off, NULL, &full}},
    {"infer_session_poll", session_poll, {&no_handles, NULL, &no_fstat_late, NULL, &cut_off_late, NULL, &too_many, &cancelled_late}},
    {"infer_session_describe", session_describe, {&no_handles}},
    {"infer_sampler_create", sampler_create, {&other_size, &no_memory}},
    {"infer_meter_create", meter_create, {&other_size, &no_memory, &meter_gone, &meter_garbage, NULL, &no_counter}},
    {"infer_meter_idle", meter_idle, {&no_handles, &no_thread, &meter_gone, &meter_garbage}},
    {"infer_meter_start", meter_start, {&no_handles, &no_thread, &meter_gone, &meter_garbage}},
    {"infer_meter_stop", meter_stop, {&no_handles, NULL, &meter_gone_late, &meter_garbage_late}},
    {"infer_session_set_events", set_events, {&no_handles, NULL, NULL, NULL, NULL, &no_events}},
    {"infer_drafter_create", drafter_create, {&no_handles, &no_memory, NULL, NULL, NULL, &no_events}},
    {"infer_drafter_step", drafter_step, {&no_handles, NULL, &no_fstat, NULL, &cut_off, NULL, &full, &cancelled}},
    {"infer_session_embed", session_embed, {&no_handles, NULL, &no_fstat, NULL, &cut_off, NULL, &full, &cancelled}},
};

/* ---- running them ---- */

/* The call's status in that situation; what is wrong with it is told. With `fail_at`, the allocations that the call made are counted in
 * *allocations. */
static infer_status attempt(const struct function *f, const situation *s, size_t fail_at, size_t *allocations, bool *right)
{
    infer_error err = {INFER_OK, ""};
    world w;
    infer_status status;
    if (!world_open(&w, s, fail_at, &err)) {
        printf("Bail out! %s\n", err.message);
        exit(1);
    }
    touched = false;
    status = f->call(&w, &err);
    *allocations = w.memory.calls;
    world_close(&w);
    if (touched)
        printf("# a result is there that should not be, or the other way round\n");
    if (w.memory.live)
        printf("# %zu blocks leaked\n", w.memory.live);
    if (status != INFER_OK && (err.status != status || !*err.message || strchr(err.message, '\n')))
        printf("# status %d, but the error's is %d: %s\n", (int)status, (int)err.status, err.message);
    else if (!touched && !w.memory.live)
        return status;
    *right = false;
    return status;
}

static bool provokes(const struct function *f, infer_status expected)
{
    const situation *s = expected == INFER_OK ? &all_well : f->when[expected - 1];
    size_t allocations, failures = 0;
    bool right = true;
    if (s != &no_memory) {
        infer_status found = attempt(f, s, 0, &allocations, &right);
        if (found != expected)
            printf("# status %d\n", (int)found);
        return right && found == expected;
    }
    for (size_t n = 1;; n++) { /* each of its allocations; a cache may do without */
        infer_status found = attempt(f, s, n, &allocations, &right);
        if (allocations < n)
            return right && failures;
        right &= found == INFER_ERROR_MEMORY || found == INFER_OK;
        failures += found == INFER_ERROR_MEMORY;
    }
}

int main(void)
{
    char folder[] = "/tmp/infer-statuses-XXXXXX";
    infer_error err = {INFER_OK, ""};
    if (!mkdtemp(folder) || !world_models(folder, &err)) {
        printf("Bail out! %s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        for (int s = INFER_OK; s < STATUSES; s++)
            if (s == INFER_OK || functions[i].when[s - 1])
                tap_ok(provokes(&functions[i], (infer_status)s), "%s: %s", functions[i].name, names[s]);
    world_models_remove();
    tap_ok(rmdir(folder) == 0, "nothing is left behind");
    return tap_done();
}
