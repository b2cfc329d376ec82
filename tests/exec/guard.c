/*
 * INFER_LOAD_GUARD: a model's file is cut off while an evaluation reads it, on the caller's thread and on the pool's; the application's own SIGBUS. A
 * plain TAP program, so that ThreadSanitizer can run it.
 */
#include "check_tap.h"
#include "model/session.h"
#include "opened.h"
#include "shapes.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROMPT 200u

static char original[64], path[64];
static int32_t prompt[PROMPT];

static void copy_model(void)
{
    infer_mapping m;
    if (infer_map_file(original, &m, NULL) != INFER_OK || infer_replace_file(NULL, path, m.data, m.size, NULL) != INFER_OK)
        exit(1);
    infer_unmap(&m);
}

static opened open_guarded(uint32_t threads)
{
    infer_runtime_options runtime = INFER_RUNTIME_DEFAULTS;
    infer_model_options model = INFER_MODEL_DEFAULTS;
    opened o;
    runtime.threads = threads;
    model.load = INFER_LOAD_GUARD;
    copy_model();
    if (!open_all(path, &runtime, &model, NULL, &o))
        exit(1);
    return o;
}

/* ---- cut off ---- */

/* In place of a session's first kernel: the file loses all but its first page. */
static const infer_kernel *first_kernel;

static void cut_and_run(const void *args, infer_region region)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct stat st;
    pthread_mutex_lock(&lock);
    if (stat(path, &st) == 0 && st.st_size > 4096 && truncate(path, 4096) != 0)
        exit(1);
    pthread_mutex_unlock(&lock);
    first_kernel->fn(args, region);
}

static void within_an_evaluation(uint32_t threads)
{
    static const infer_kernel cutting = {.fn = cut_and_run};
    opened o = open_guarded(threads);
    infer_error err = {INFER_OK, ""};
    int32_t id = 1;
    infer_status s = infer_session_eval(o.session, &id, 1, INFER_LOGITS_LAST, &err);
    tap_ok(s == INFER_OK && infer_session_position(o.session) == 1, "%u threads: a whole file", threads);
    first_kernel = o.session->plan->kernels[0];
    o.session->plan->kernels[0] = &cutting;
    s = infer_session_eval(o.session, prompt, PROMPT, INFER_LOGITS_LAST, &err);
    tap_ok(s == INFER_ERROR_CORRUPT && strstr(err.message, "shrank") && infer_session_position(o.session) == 1,
           "%u threads: cut off by the first kernel: %s", threads, err.message);
    o.session->plan->kernels[0] = first_kernel;
    tap_ok(truncate(path, 1 << 20) == 0 && infer_session_eval(o.session, &id, 1, INFER_LOGITS_LAST, &err) == INFER_ERROR_CORRUPT,
           "%u threads: what is lost stays lost", threads);
    close_all(&o);
}

static _Atomic bool evaluating;

static void *cut_after(void *arg)
{
    while (!atomic_load(&evaluating))
        usleep(10);
    usleep(*(const useconds_t *)arg);
    if (truncate(path, 8192) != 0)
        exit(1);
    return NULL;
}

/* Wherever it is. */
static void at_any_time(void)
{
    unsigned whole = 0, lost = 0;
    for (useconds_t delay = 0; delay < 20000; delay += 1000) {
        opened o = open_guarded(2);
        pthread_t other;
        infer_status s = INFER_OK;
        atomic_store(&evaluating, false);
        if (pthread_create(&other, NULL, cut_after, &delay) != 0)
            exit(1);
        for (unsigned i = 0; i < 10000 && s == INFER_OK; i++) {
            s = infer_session_eval(o.session, prompt, PROMPT, INFER_LOGITS_LAST, NULL);
            atomic_store(&evaluating, true);
            if (s == INFER_OK)
                infer_session_rewind(o.session, 0, NULL);
        }
        pthread_join(other, NULL);
        lost += s == INFER_ERROR_CORRUPT;
        whole += s != INFER_ERROR_CORRUPT;
        close_all(&o);
    }
    tap_ok(lost == 20 && whole == 0, "cut off at 20 moments: CORRUPT each time (%u)", lost);
}

/* ---- the application's own ---- */

static sigjmp_buf back;
static volatile sig_atomic_t heard;

static void hear(int number)
{
    (void)number;
    heard++;
    siglongjmp(back, 1);
}

static void hear_all(int number, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    hear(number);
}

static bool is_default(void)
{
    struct sigaction now;
    return sigaction(SIGBUS, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL;
}

/* Reads a page behind the end of a file of the application's own. */
static void touch(void)
{
    FILE *f = tmpfile();
    volatile char *p = f ? mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(f), 0) : MAP_FAILED;
    if (p == MAP_FAILED)
        exit(1);
    if (sigsetjmp(back, 1) == 0)
        (void)p[100];
    munmap((void *)(uintptr_t)p, 4096);
    fclose(f);
}

static void handlers(void)
{
    struct sigaction action = {.sa_handler = hear}, now;
    opened o = open_guarded(1), second;
    tap_ok(!is_default(), "a handler while a guarded model is open");
    second = open_guarded(1);
    close_all(&o);
    tap_ok(!is_default(), "until the last one is closed");
    close_all(&second);
    tap_ok(is_default(), "then what was there before");

    sigaction(SIGBUS, &action, NULL);
    o = open_guarded(1);
    touch();
    tap_ok(heard == 1, "the application hears of its own files");
    close_all(&o);
    tap_ok(sigaction(SIGBUS, NULL, &now) == 0 && now.sa_handler == hear, "its handler is back");
    action.sa_sigaction = hear_all;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, NULL);
    o = open_guarded(1);
    touch();
    tap_ok(heard == 2, "so does one that takes three arguments");
    sigaction(SIGBUS, &action, NULL);
    close_all(&o);
    tap_ok(sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction == hear_all, "one that is put on top stays");
    o = open_guarded(1);
    touch();
    tap_ok(heard == 3, "and is the one that is called");
    close_all(&o);
    action = (struct sigaction){.sa_handler = SIG_DFL};
    sigaction(SIGBUS, &action, NULL);
}

/* Its end, in a child. */
static int end_of(void (*act)(void))
{
    int status = 0;
    pid_t child;
    fflush(stdout);
    if ((child = fork()) == 0) {
        opened o = open_guarded(1);
        act();
        close_all(&o);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void read_lost(void)
{
    FILE *f = tmpfile();
    volatile char *p = f ? mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(f), 0) : MAP_FAILED;
    if (p != MAP_FAILED)
        (void)p[100];
}

static void send(void) { kill(getpid(), SIGBUS); }

int main(void)
{
    char folder[] = "/tmp/infer-guard-XXXXXX";
    infer_error err = {INFER_OK, ""};
    infer_mapping *maps = calloc(INFER_GUARD_MAX + 1, sizeof *maps);
    infer_status s = INFER_OK;
    int full = 0;
    if (!maps || !mkdtemp(folder) || signal(SIGBUS, SIG_DFL) == SIG_ERR) /* AddressSanitizer has a handler of its own */
        return 1;
    snprintf(original, sizeof original, "%s/original.infer", folder);
    snprintf(path, sizeof path, "%s/m.infer", folder);
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (int32_t)(i * 37 % 500 + 3);
    tap_ok(infer_shape_write(infer_shape_find("stories260k"), INFER_QTYPE_Q8G32, &(infer_prune){0}, original, &(sig_atomic_t){0}, &err) == INFER_OK,
           "a model");
    tap_ok(end_of(read_lost) == SIGBUS && end_of(send) == SIGBUS, "without a handler of the application's, its own signal ends it");
    within_an_evaluation(1);
    within_an_evaluation(2);
    at_any_time();
    handlers();
    for (; full <= INFER_GUARD_MAX && s == INFER_OK; full++)
        if (infer_map_file(path, &maps[full], NULL) != INFER_OK || (s = infer_guard(&maps[full], path, &err)) != INFER_OK)
            break;
    tap_ok(full == INFER_GUARD_MAX && s == INFER_ERROR_MEMORY && !infer_guard_lost(&maps[full]), "as many as fit: %s", err.message);
    for (int i = 0; i <= full; i++)
        infer_unmap(&maps[i]);
    tap_ok(is_default(), "none is left");
    free(maps);
    unlink(original);
    unlink(path);
    rmdir(folder);
    return tap_done();
}
