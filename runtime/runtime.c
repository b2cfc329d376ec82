#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_THREADS 256u

static infer_status choose_level(const char *wanted, const char *from, infer_cpu_level *out, infer_error *err)
{
    uint32_t levels = infer_cpu_levels_here();
    infer_cpu_level level = infer_cpu_best(levels);
    if (wanted && !infer_cpu_level_find(wanted, &level))
        return infer_fail(err, INFER_ERROR_ARGUMENT,
                          "%s: unknown CPU level \"%.32s\", expected ref, avx2, zen, avxvnni, avx512, avx512vnni, neon, "
                          "neon-dotprod or neon-i8mm",
                          from, wanted);
    if (!(levels >> level & 1))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: this CPU has no level %s; its best is %s", from, wanted,
                          infer_cpu_level_name(infer_cpu_best(levels)));
    *out = level;
    return INFER_OK;
}

infer_status infer_runtime_create(const infer_runtime_options *options, infer_runtime **out, infer_error *err)
{
    infer_runtime_options o = INFER_RUNTIME_DEFAULTS;
    infer_runtime *rt;
    const char *environment = getenv("INFER_CPU");
    infer_cpu_level level = INFER_CPU_REF;
    infer_cpus cpus;
    infer_status s;
    if (!out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_runtime_create: out is NULL");
    if (options) {
        if (options->size != sizeof o)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_runtime_create: options.size: found %zu, expected %zu", options->size,
                              sizeof o);
        o = *options;
    }
    if (o.threads > MAX_THREADS)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "threads: found %u, expected 0..%u", o.threads, MAX_THREADS);
    if (!o.allocator.alloc != !o.allocator.free)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "allocator: alloc and free must both be set, or neither");
    if (environment && !*environment)
        environment = NULL;
    if ((s = choose_level(o.cpu_level ? o.cpu_level : environment, o.cpu_level ? "cpu_level" : "INFER_CPU", &level, err)) != INFER_OK)
        return s;
    rt = infer_alloc_zero(&o.allocator, sizeof *rt);
    if (!rt)
        return infer_fail_memory(err, sizeof *rt, "the runtime");
    rt->allocator = o.allocator;
    rt->level = level;
    infer_cpus_available(&cpus);
    if (!o.threads)
        o.threads = cpus.node_cores; /* threads on several nodes would read each other's memory, and generation waits for memory */
    /* More threads than CPUs would only take turns, and each turn is a wake-up: on 2 CPUs, 8 threads halved the speed of a small model. */
    o.threads = o.threads < cpus.logical ? o.threads : cpus.logical;
    o.threads = o.threads < MAX_THREADS ? o.threads : MAX_THREADS;
    s = infer_pool_create(&rt->allocator, o.threads, &rt->pool, err);
    if (s != INFER_OK) {
        infer_free(&o.allocator, rt);
        return s;
    }
    infer_driver_init(&rt->driver);
    rt->log = o.log;
    rt->log_user = o.log_user;
    infer_log(rt, "libinfer %s: CPU level %s, %u threads%s", infer_version(), infer_cpu_level_name(level), o.threads,
              options && options->threads > o.threads ? ", fewer than asked for: this process has no more CPUs" : "");
    *out = rt;
    return INFER_OK;
}

void infer_runtime_destroy(infer_runtime *rt)
{
    infer_allocator a;
    if (!rt)
        return;
    infer_driver_destroy(&rt->driver);
    infer_pool_destroy(rt->pool);
    a = rt->allocator;
    infer_free(&a, rt);
}

void infer_log(const infer_runtime *rt, const char *format, ...)
{
    infer_error line; /* the same rules as for a message: one printable line */
    va_list args;
    char text[sizeof line.message];
    if (!rt->log)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    infer_fail(&line, INFER_OK, "%s", text);
    rt->log(rt->log_user, line.message);
}

const char *infer_cpu_level_available(size_t index)
{
    uint32_t levels = infer_cpu_levels_here();
    for (infer_cpu_level level = 0; level < INFER_CPU_LEVEL_COUNT; level++)
        if (levels >> level & 1 && index-- == 0)
            return infer_cpu_level_name(level);
    return NULL;
}

const char *infer_runtime_cpu_level(const infer_runtime *rt) { return infer_cpu_level_name(rt->level); }
uint32_t infer_runtime_threads(const infer_runtime *rt) { return infer_pool_threads(rt->pool); }
