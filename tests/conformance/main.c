/* Options, the plan, one TAP line a kernel. */
#include "conformance.h"

#include "cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    test_fn *against_reference, *against_formula;
} operations[INFER_OP_COUNT] = {
    [INFER_OP_MATMUL] = {test_matmul, formula_matmul},
    [INFER_OP_EMBED] = {test_embed, formula_embed},
    [INFER_OP_QUANTIZE] = {test_quantize, formula_quantize},
    [INFER_OP_RMSNORM] = {test_rmsnorm, formula_rmsnorm},
    [INFER_OP_LAYERNORM] = {test_layernorm, formula_layernorm},
    [INFER_OP_ROPE] = {test_rope, formula_rope},
    [INFER_OP_STORE_K] = {test_store, formula_store},
    [INFER_OP_STORE_V] = {test_store, formula_store},
    [INFER_OP_ATTENTION] = {test_attention, formula_attention},
    [INFER_OP_ATTENTION_CHUNKS] = {test_attention_chunks, formula_attention_split},
    [INFER_OP_ATTENTION_MERGE] = {test_attention_merge, formula_attention_split},
    [INFER_OP_ACTIVATION] = {test_activation, formula_activation},
    [INFER_OP_ADD] = {test_add, formula_add},
};

static const struct {
    const char *name;
    test_fn *fn;
} units[] = {
    {"unit: exp against libm", unit_exp},
    {"unit: fp16 and bf16 conversions", unit_half},
    {"unit: CPU detection from register dumps", unit_cpu},
    {"unit: CPU levels and names", unit_levels},
    {"unit: registry", unit_registry},
    {"unit: types and layouts", unit_qtypes},
    {"unit: pack and unpack", unit_pack},
    {"unit: pack the layout cols", unit_pack_cols},
    {"unit: pack the sparse layouts", unit_pack_sparse},
    {"unit: check the sparse layouts", unit_check_sparse},
    {"unit: pack ternary rows", unit_pack_ternary},
    {"unit: pack n4g32", unit_pack_n4},
    {"unit: pack codes", unit_pack_codes},
};

typedef struct options {
    uint64_t seed;
    const char *filter;
    bool one_level;
    infer_cpu_level level;
} options;

static const char usage[] = "usage: conformance [--seed N] [--level NAME] [--filter TEXT] [--every N]\n"
                            "  --seed N       repeat a run (default: INFER_TEST_SEED, else the time)\n"
                            "  --level NAME   only kernels of this CPU level\n"
                            "  --filter TEXT  only tests whose name contains TEXT\n"
                            "  --every N      only every N-th case of a kernel: emulators are slow\n";

static bool parse_options(int argc, char **argv, options *o)
{
    const char *given = getenv("INFER_TEST_SEED");

    o->seed = given && *given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end;
        if (!value)
            return false;
        if (strcmp(argv[i], "--seed") == 0) {
            o->seed = strtoull(value, &end, 10);
            if (!*value || *end)
                return false;
        } else if (strcmp(argv[i], "--level") == 0) {
            o->one_level = true;
            if (!infer_cpu_level_find(value, &o->level))
                return false;
        } else if (strcmp(argv[i], "--filter") == 0) {
            o->filter = value;
        } else if (strcmp(argv[i], "--every") == 0) {
            every = (uint32_t)strtoul(value, &end, 10);
            if (every == 0 || *end)
                return false;
        } else {
            return false;
        }
    }
    return true;
}

/* A test has its own random numbers, whatever else runs: its name and the seed decide. */
static uint64_t test_seed(uint64_t seed, const char *name)
{
    uint64_t hash = seed ^ 0xcbf29ce484222325;

    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3;
    return hash;
}

static void kernel_test_name(char *name, size_t size, const infer_kernel *k, bool formula)
{
    snprintf(name, size, "%s%s", k->name, formula ? " against a formula" : "");
}

static bool selected(const options *o, const char *name, const infer_kernel *k)
{
    if (o->filter && !strstr(name, o->filter))
        return false;
    return !o->one_level || (k && k->level == o->level);
}

/* Runs (or with run = false only counts) the selected tests. */
static uint32_t each_test(const options *o, uint32_t levels, bool run, bool *failed)
{
    uint32_t number = 0;
    size_t count;
    const infer_kernel *kernels = infer_kernels(&count);

    for (size_t i = 0; i < ARRAY_COUNT(units); i++)
        if (selected(o, units[i].name, NULL) && (++number, run))
            run_test(number, units[i].name, units[i].fn, test_seed(o->seed, units[i].name), NULL, NULL, failed);
    for (size_t i = 0; i < count; i++) {
        const infer_kernel *k = &kernels[i], *ref = infer_kernel_find(k->op, k->type, k->layout, INFER_CPU_REF);
        for (int formula = 0; formula <= (k->level == INFER_CPU_REF); formula++) {
            char name[128];
            kernel_test_name(name, sizeof name, k, formula);
            if (!selected(o, name, k))
                continue;
            number++;
            if (!run)
                continue;
            if (!(levels & 1u << k->level))
                printf("ok %u - %s # SKIP this machine has no %s\n", number, name, infer_cpu_level_name(k->level));
            else
                run_test(number, name, formula ? operations[k->op].against_formula : operations[k->op].against_reference,
                         test_seed(o->seed, name), k, ref->fn, failed);
        }
    }
    return number;
}

int main(int argc, char **argv)
{
    options o = {0};
    bool failed = false;
    uint32_t levels = infer_cpu_levels_here();

    if (!parse_options(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    printf("1..%u\n", each_test(&o, levels, false, &failed));
    printf("# seed %llu, cpu level %s\n", (unsigned long long)o.seed, infer_cpu_level_name(infer_cpu_best(levels)));
    each_test(&o, levels, true, &failed);
    return failed;
}
