/* bench-kernels: every kernel of kernels.def that this CPU has, on the layers of the models in shapes.def, one thread. A kernel that differs from its
 * reference is not timed, and makes the exit status 1. */
#include "cases.h"
#include "cpu.h"
#include "gbench_shim.h"
#include "machine.h"
#include "peaks/peaks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 128u
#define SMALLEST_COLD ((size_t)64 << 20)

static const char usage[] =
    "usage: bench-kernels [options]\n"
    "Times every kernel this CPU can run, on one thread, on the layers of real models, for one token and for 128\n"
    "(parts of attention that threads share: for one and for 8).\n"
    "\n"
    "      --shape NAME   only this model's layers; may be given again\n"
    "      --cpu LEVEL    only kernels of this level; may be given again\n"
    "      --warm         one copy of the weights, instead of as many as exceed the caches\n"
    "  -h, --help\n"
    "  --benchmark_...    Google Benchmark's options, --benchmark_filter=REGEX among them\n"
    "\n"
    "Columns: bytes a call, GB/s, bw%: of the read bandwidth (not with --warm), peak%: of the multiply-adds of the best instructions of the\n"
    "kernel's level, both measured before each benchmark; x_ref: times as fast as the reference.\n"
    "Exit status: 0 done, 1 a kernel was wrong or could not be run, 2 the command line is wrong.\n";

typedef struct options {
    const char *shapes[16];
    infer_cpu_level levels[INFER_CPU_LEVEL_COUNT];
    uint32_t shape_count, level_count;
    bool warm;
} options;

/* One line of the report. */
typedef struct entry {
    struct entry *next;
    const infer_kernel *kernel;
    infer_layer layer;
    uint32_t m;
} entry;

static infer_peaks *peaks;
static size_t cold_bytes; /* 0: warm */
static bool failed;

/* What the entry that runs has set up; Google Benchmark calls an entry several times in a row. */
static struct {
    const entry *of;
    infer_case *c;
    double bandwidth, ops, reference_ns;
} now;

/* ---- running ---- */

static bool fail(infer_gbench_state *state, const char *message)
{
    failed = true;
    infer_gbench_fail(state, message);
    return false;
}

/* Rows, columns and inputs that are no multiples of tiles; the batch spans more than one block of tokens. */
static bool probe(const infer_kernel *k)
{
    static const uint32_t rows[] = {1, 7};
    infer_layer layer = {"probe", 0, 0, 4, 2, 16, 0, 0.5};
    bool agrees = true;
    bool split = k->op == INFER_OP_ATTENTION_CHUNKS || k->op == INFER_OP_ATTENTION_MERGE;
    bool heads = k->op == INFER_OP_ROPE || k->op == INFER_OP_ATTENTION || split;
    bool kv = k->op == INFER_OP_STORE_K || k->op == INFER_OP_STORE_V;
    layer.n = heads ? 64 : kv ? 32 : 100;
    layer.k = 72;
    layer.positions = split ? 2 * INFER_ATTENTION_CHUNK + 16 : 48;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && agrees; i++) {
        infer_case *c;
        if (infer_case_create(k, &layer, rows[i], 0, &c, NULL) != INFER_OK)
            return false;
        agrees = infer_case_agrees(c, k->fn);
        infer_case_destroy(c);
    }
    return agrees;
}

/* Operations that memory or arithmetic bounds; the others work on what is in the caches. */
static bool is_heavy(const entry *e)
{
    infer_op_kind op = e->kernel->op;
    return op == INFER_OP_MATMUL || op == INFER_OP_ATTENTION || op == INFER_OP_ATTENTION_CHUNKS;
}

static bool set_up(infer_gbench_state *state, const entry *e)
{
    infer_error err;
    if (now.of == e)
        return true;
    infer_case_destroy(now.c);
    now.c = NULL;
    now.of = NULL;
    if (!probe(e->kernel))
        return fail(state, "differs from the reference: not timed");
    if (infer_case_create(e->kernel, &e->layer, e->m, cold_bytes, &now.c, &err) != INFER_OK)
        return fail(state, err.message);
    now.of = e;
    now.reference_ns = infer_case_reference_ns(now.c);
    now.bandwidth = now.ops = 0;
    if (is_heavy(e) && e->m > 1)
        now.ops = infer_peaks_ops(peaks, e->kernel->op == INFER_OP_MATMUL ? e->kernel->type : INFER_QTYPE_F32, e->kernel->level);
    else if (is_heavy(e) && cold_bytes)
        now.bandwidth = infer_peaks_bandwidth(peaks);
    return true;
}

static void run(infer_gbench_state *state, void *arg)
{
    const entry *e = arg;
    uint64_t start = 0;
    double ns;
    if (!set_up(state, e))
        return;
    while (infer_gbench_more(state)) {
        if (!start)
            start = infer_now_ns();
        infer_case_run(now.c, e->kernel->fn);
    }
    ns = (double)(infer_now_ns() - start) / infer_gbench_iterations(state);
    infer_gbench_counter(state, "bytes", infer_case_bytes(now.c));
    infer_gbench_counter(state, "GB/s", infer_case_bytes(now.c) / ns);
    if (now.bandwidth > 0)
        infer_gbench_counter(state, "bw%", 100e9 * infer_case_bytes(now.c) / ns / now.bandwidth);
    if (now.ops > 0)
        infer_gbench_counter(state, "peak%", 100e9 * infer_case_ops(now.c) / ns / now.ops);
    infer_gbench_counter(state, "x_ref", now.reference_ns / ns);
}

/* ---- the list ---- */

static bool wants_shape(const options *o, const infer_shape *shape)
{
    bool wanted = o->shape_count == 0;
    for (uint32_t i = 0; i < o->shape_count; i++)
        wanted |= strcmp(o->shapes[i], shape->name) == 0;
    return wanted;
}

static bool wants_level(const options *o, infer_cpu_level level)
{
    bool wanted = o->level_count == 0;
    for (uint32_t i = 0; i < o->level_count; i++)
        wanted |= o->levels[i] == level;
    return wanted;
}

static entry *add(entry *list, const infer_kernel *kernel, const infer_shape *shape, const infer_layer *layer, uint32_t m)
{
    entry *e = infer_alloc_zero(NULL, sizeof *e);
    char name[160];
    if (!e) {
        fputs("bench-kernels: out of memory\n", stderr);
        exit(1);
    }
    *e = (entry){list, kernel, *layer, m};
    snprintf(name, sizeof name, "%s/%s/%s/m:%u", kernel->name, shape->name, layer->name, m);
    infer_gbench_register(name, run, e);
    return e;
}

static entry *list_benchmarks(const options *o)
{
    uint32_t here = infer_cpu_levels_here();
    size_t kernel_count, shape_count;
    const infer_kernel *kernels = infer_kernels(&kernel_count);
    const infer_shape *shapes = infer_shapes(&shape_count);
    entry *list = NULL;
    for (size_t s = 0; s < shape_count; s++)
        for (size_t k = 0; k < kernel_count; k++) {
            infer_layer layers[INFER_MAX_LAYERS_OF_OP];
            uint32_t count;
            if (!wants_shape(o, &shapes[s]) || !wants_level(o, kernels[k].level) || !(here & 1u << kernels[k].level))
                continue;
            count = infer_case_layers(&shapes[s], &kernels[k], layers);
            for (uint32_t l = 0; l < count; l++) {
                uint32_t most = infer_case_most_tokens(kernels[k].op);
                list = add(list, &kernels[k], &shapes[s], &layers[l], 1);
                list = add(list, &kernels[k], &shapes[s], &layers[l], BATCH < most ? BATCH : most);
            }
        }
    return list;
}

/* ---- command line ---- */

static void wrong(const char *what, const char *argument)
{
    fprintf(stderr, "bench-kernels: %s \"%s\"; see bench-kernels --help\n", what, argument);
    exit(2);
}

/* Takes our options out of argv; Google Benchmark gets the rest. */
static void parse(int *argc, char **argv, options *o)
{
    int kept = 1;
    *o = (options){0};
    for (int i = 1; i < *argc; i++) {
        bool shape = strcmp(argv[i], "--shape") == 0, cpu = strcmp(argv[i], "--cpu") == 0;
        if ((shape || cpu) && i + 1 == *argc)
            wrong("no value for option", argv[i]);
        if (shape) {
            if (!infer_shape_find(argv[++i]) || o->shape_count == sizeof o->shapes / sizeof *o->shapes)
                wrong("unknown shape", argv[i]);
            o->shapes[o->shape_count++] = argv[i];
        } else if (cpu) {
            infer_cpu_level level;
            if (!infer_cpu_level_find(argv[++i], &level) || o->level_count == INFER_CPU_LEVEL_COUNT)
                wrong("unknown CPU level", argv[i]);
            o->levels[o->level_count++] = level;
        } else if (strcmp(argv[i], "--warm") == 0) {
            o->warm = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            exit(0);
        } else {
            argv[kept++] = argv[i];
        }
    }
    argv[kept] = NULL;
    *argc = kept;
}

/* Twice the last level of cache, so that nothing of a copy is left when its turn comes again. */
static size_t cold_size(void)
{
    long last = sysconf(_SC_LEVEL3_CACHE_SIZE) > 0 ? sysconf(_SC_LEVEL3_CACHE_SIZE) : sysconf(_SC_LEVEL2_CACHE_SIZE);
    size_t twice = last > 0 ? (size_t)last * 2 : 0;
    return twice > SMALLEST_COLD ? twice : SMALLEST_COLD;
}

static void describe_machine(void)
{
    char cpu[160];
    infer_machine_cpu_name(cpu, sizeof cpu);
    infer_gbench_context("cpu", cpu);
    infer_gbench_context("commit", infer_machine_commit());
    infer_gbench_context("compiler", infer_machine_compiler());
    if (!cold_bytes)
        return;
    infer_peaks_bandwidth(peaks);
    infer_gbench_context("bandwidth measured by", infer_peaks_bandwidth_way(peaks));
}

int main(int argc, char **argv)
{
    infer_pool *pool;
    infer_error err;
    options o;
    entry *list;
    parse(&argc, argv, &o);
    if (!infer_gbench_init(&argc, argv))
        return 2;
    cold_bytes = o.warm ? 0 : cold_size();
    if (infer_pool_create(NULL, 1, &pool, &err) != INFER_OK || infer_peaks_create(pool, 2 * cold_bytes, &peaks, &err) != INFER_OK) {
        fprintf(stderr, "bench-kernels: %s\n", err.message);
        return 1;
    }
    describe_machine();
    list = list_benchmarks(&o);
    infer_gbench_run();
    infer_case_destroy(now.c);
    while (list) {
        entry *next = list->next;
        infer_free(NULL, list);
        list = next;
    }
    infer_peaks_destroy(peaks);
    infer_pool_destroy(pool);
    return failed;
}
