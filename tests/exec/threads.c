/* More threads wanted than this process has CPUs: generation is as fast as with one for each CPU. Pairs in turn, A B A B, and the median of
 * their quotients, on two CPUs, or on the one that there is. TAP. */
#include "check_tap.h"
#include "opened.h"
#include "shapes.h"
#include "stats.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum { WANTED = 8, CPUS = 2, PAIRS = 11 };

/* Only the first two of the CPUs that the process may use, from now on. */
static uint32_t keep_cpus(void)
{
    cpu_set_t all, two;
    uint32_t count = 0;
    CPU_ZERO(&two);
    if (sched_getaffinity(0, sizeof all, &all) != 0)
        return 0;
    for (int i = 0; i < CPU_SETSIZE && count < CPUS; i++)
        if (CPU_ISSET(i, &all)) {
            CPU_SET(i, &two);
            count++;
        }
    return sched_setaffinity(0, sizeof two, &two) == 0 ? count : 0;
}

static double tokens_per_s(const opened *s, uint32_t tokens)
{
    uint64_t start;
    infer_session_rewind(s->session, 0, NULL);
    start = infer_now_ns();
    for (int32_t id = 1; id <= (int32_t)tokens; id++)
        if (infer_session_eval(s->session, &id, 1, INFER_LOGITS_LAST, NULL) != INFER_OK)
            return 0;
    return tokens * 1e9 / (double)(infer_now_ns() - start);
}

static void compare(const char *folder, const char *shape, uint32_t cpus, uint32_t tokens)
{
    infer_runtime_options wanted = INFER_RUNTIME_DEFAULTS, as_many = INFER_RUNTIME_DEFAULTS;
    opened many = {0}, few = {0};
    double quotients[PAIRS], with_many[PAIRS], with_few[PAIRS], median, spread;
    infer_error err = {INFER_OK, ""};
    char path[128];
    wanted.threads = WANTED;
    as_many.threads = cpus;
    snprintf(path, sizeof path, "%s/%s.infer", folder, shape);
    if (infer_shape_write(infer_shape_find(shape), INFER_QTYPE_Q4G32, &(infer_prune){0}, path, &(sig_atomic_t){0}, &err) != INFER_OK ||
        !open_all(path, &wanted, NULL, NULL, &many) || !open_all(path, &as_many, NULL, NULL, &few)) {
        tap_ok(false, "%s opens %s", shape, err.message);
    } else {
        tokens_per_s(&many, tokens);
        tokens_per_s(&few, tokens);
        for (int i = 0; i < PAIRS; i++) { /* who is first takes turns as well */
            with_many[i] = i % 2 ? tokens_per_s(&many, tokens) : 0;
            with_few[i] = tokens_per_s(&few, tokens);
            with_many[i] = i % 2 ? with_many[i] : tokens_per_s(&many, tokens);
            quotients[i] = with_many[i] / with_few[i];
        }
        median = infer_median(quotients, PAIRS);
        spread = infer_spread(quotients, PAIRS);
        tap_ok(median >= 0.9, "%s: %d threads wanted on %u CPUs: %.2f of the speed of %u (%.0f, %.0f tokens/s; spread %.2f)", shape, WANTED,
               cpus, median, cpus, infer_median(with_many, PAIRS), infer_median(with_few, PAIRS), spread);
    }
    close_all(&many);
    close_all(&few);
    unlink(path);
}

int main(void)
{
    char folder[] = "/tmp/infer-threads-XXXXXX";
    uint32_t cpus = keep_cpus();
    if (!cpus || !mkdtemp(folder))
        return 1;
    compare(folder, "stories260k", cpus, 400);
    compare(folder, "smollm2-135m", cpus, 32);
    rmdir(folder);
    return tap_done();
}
