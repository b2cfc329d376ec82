/*
 * Between evaluations nothing of libinfer wakes up: no voluntary context switch in any of its threads, no processor time, an open meter and
 * the thread for generations included. usage: test_idle MILLISECONDS. A plain TAP program, so that ThreadSanitizer can run it.
 */
#include "check_tap.h"
#include "core/core.h"
#include "shapes.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define TASKS 64

typedef struct task {
    long id;
    unsigned long long switches; /* both kinds: an idle thread is not preempted either */
    bool deaf;                   /* to signals */
} task;

/* All threads but the calling one. */
static int tasks(task out[TASKS])
{
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    int n = 0;
    while (folder && n < TASKS && (entry = readdir(folder))) {
        char path[320], line[256];
        unsigned long long count, sum = 0, blocked = 0;
        FILE *f;
        if (*entry->d_name == '.' || atol(entry->d_name) == (long)getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f))
            if (sscanf(line, "voluntary_ctxt_switches: %llu", &count) == 1 || sscanf(line, "nonvoluntary_ctxt_switches: %llu", &count) == 1)
                sum += count;
            else
                sscanf(line, "SigBlk: %llx", &blocked);
        if (f)
            fclose(f);
        out[n++] = (task){atol(entry->d_name), sum, blocked >> (SIGTERM - 1) & blocked >> (SIGALRM - 1) & blocked >> (SIGUSR1 - 1) & 1};
    }
    if (folder)
        closedir(folder);
    return n;
}

static uint64_t cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
    uint64_t ms = argc > 1 ? strtoull(argv[1], NULL, 10) : 1500, before_us, spent_us;
    infer_runtime_options threads = {.size = sizeof threads, .threads = 8};
    char folder[] = "/tmp/infer-idle-XXXXXX", path[64];
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
    task before[TASKS], after[TASKS];
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_meter *meter = NULL;
    infer_energy energy;
    infer_error err = {INFER_OK, ""};
    int n, m, moved = 0, hearing = 0, done = 0;
    infer_generate_options generate = {.size = sizeof generate, .max_tokens = 8, .end = -1};
    size_t count;
    int32_t id;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/m.infer", folder);
    if (infer_shape_write(infer_shape_find("stories260k"), INFER_QTYPE_Q8G32, &(infer_prune){0}, path, &(sig_atomic_t){0}, &err) ||
        infer_runtime_create(&threads, &rt, &err) || infer_model_open(rt, path, NULL, &model, &err) ||
        infer_session_create(model, NULL, &session, &err) || infer_meter_create(rt, NULL, &meter, &err) || infer_meter_start(meter, &err) ||
        infer_session_eval(session, ids, 8, INFER_LOGITS_LAST, &err) || infer_session_start(session, ids, 1, &generate, &err) ||
        infer_meter_stop(meter, &energy, &err))
        printf("# %s\n", err.message);
    while (err.status == INFER_OK && !done)
        infer_session_poll(session, &id, 1, &count, &done, &err);
    tap_ok(err.status == INFER_OK, "a session, evaluated, a generation that ran beside, and a meter");
    infer_sleep_until(infer_now_ns() + 200000000, NULL); /* spins are bounded: all threads sleep by now */
    n = tasks(before);
    before_us = cpu_us();
    infer_sleep_until(infer_now_ns() + ms * 1000000, NULL);
    spent_us = cpu_us() - before_us;
    m = tasks(after);
    for (int i = 0; i < n && i < m; i++) {
        moved += before[i].id != after[i].id || before[i].switches != after[i].switches;
        hearing += !after[i].deaf;
    }
    printf("# %d of %d threads moved, processor time %d us\n", moved, n, (int)spent_us);
#if defined(__SANITIZE_THREAD__)
    tap_skip("the sanitizer has a thread of its own", "all threads sleep");
    tap_skip("the sanitizer has a thread of its own", "no processor time");
    tap_skip("the sanitizer has a thread of its own", "signals are for the application's threads");
#else
    tap_ok(n == m && moved == 0, "%d threads of libinfer slept through %d ms", n, (int)ms);
    tap_ok(spent_us < 2000, "no processor time (but for looking at the clock)");
    tap_ok(n > 0 && hearing == 0, "signals are for the application's threads");
#endif
    infer_meter_destroy(meter);
    infer_session_destroy(session);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    unlink(path);
    rmdir(folder);
    return tap_done();
}
