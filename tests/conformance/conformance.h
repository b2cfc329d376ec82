/*
 * Conformance of the kernels: every line of kernels.def against the scalar reference, bit for bit. A plain program that prints TAP: no
 * framework, no threads, so that it also runs linked statically and under emulators.
 */
#ifndef INFER_TESTS_CONFORMANCE_H
#define INFER_TESTS_CONFORMANCE_H

#include "kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- harness.c ---- */

#define ARRAY_COUNT(a) (sizeof(a) / sizeof(a)[0])

/* The test that is running. */
typedef struct test {
    uint64_t rng;
    uint64_t cases;         /* that ran */
    uint64_t offered;       /* that were there, before --every */
    const infer_kernel *kernel;
    infer_kernel_fn *ref;   /* reference of the same operation and type */
    char current[256];      /* the case in progress, for messages */
    char failure[768];
} test;

typedef void test_fn(test *t);

/* Of the cases of a kernel, only each every-th runs: 1 but for slow emulators. */
extern uint32_t every;

/* Runs fn, catching failures and crashes; prints one TAP line. */
void run_test(uint32_t number, const char *name, test_fn *fn, uint64_t seed, const infer_kernel *kernel, infer_kernel_fn *ref, bool *failed);

/* True when --every leaves out the case that would follow. */
bool skip_case(test *t);
/* Describes the case that follows, and counts it. */
void begin_case(test *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends the test as failed. */
_Noreturn void fail(test *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define CHECK(t, condition) ((condition) ? (void)0 : fail(t, "%s:%d: %s", __FILE__, __LINE__, #condition))

uint64_t random_u64(test *t);
uint32_t random_below(test *t, uint32_t n);
float random_unit(test *t); /* [-1, 1) */

/* Memory that ends at an unreadable page (as closely as `align` permits), all bytes CANARY, with more of them in front. Each slot holds one
 * buffer at a time; asking again for a slot replaces it. */
enum { CANARY = 0xa5 };
typedef enum slot {
    SLOT_W, SLOT_X, SLOT_CODES, SLOT_SCALES, SLOT_OFFSET8, SLOT_Y, SLOT_WANT, SLOT_X2, SLOT_CODES2, SLOT_SCALES2, SLOT_OFFSET82, SLOT_IDS,
    SLOT_AUX, SLOT_COUNT
} slot;
void *buffer(slot s, size_t bytes, size_t align);
/* Fails when the canaries around the slot's buffer were written over. */
void check_canaries(test *t, slot s);

/* Equal bits, or both NaN. */
bool same_float(float a, float b);
/* got and want are [rows][stride]: equal in the region, untouched (CANARY bytes) outside. */
void check_region(test *t, const float *got, const float *want, uint32_t rows, uint32_t stride, infer_region at);
/* |got - want| <= bound, both NaN, or the same infinity. */
void check_near(test *t, double got, double want, double bound, const char *what);

/* How far a number in the layout cols may lie from what was packed: formula.c. */
double cols_bound(double step, uint32_t bits, int code);

/* What buffers are filled with. */
typedef enum fill {
    FILL_RANDOM,
    FILL_EXTREME,   /* +-the largest magnitude, random signs */
    FILL_ALTERNATE, /* the same, signs in turn */
    FILL_ONE_HOT,
    FILL_ZERO,
    FILL_WIDE,      /* magnitudes from subnormal to large */
    FILL_SPECIAL,   /* random with infinities and NaN strewn in */
    FILL_COUNT
} fill;
const char *fill_name(fill f);
void fill_floats(test *t, float *x, size_t n, fill f);
void fill_ints(test *t, int8_t *codes, size_t n, int low, int high, fill f);

/* fp16 bits of a weight scale: matmul.c. */
uint16_t random_scale(test *t, fill f);

/* ---- one test an operation: kernel against reference ---- */

test_fn test_matmul, test_embed;                                          /* matmul.c */
test_fn test_sparse, formula_sparse;                                      /* sparse.c: matmul in the sparse layouts */
test_fn test_quantize, test_rmsnorm, test_layernorm, test_rope, test_activation, test_add; /* rows.c */
test_fn test_store, test_attention, test_attention_chunks, test_attention_merge; /* attention.c */

/* ---- reference against a formula in double precision: formula.c ---- */

test_fn formula_matmul, formula_embed, formula_quantize, formula_rmsnorm, formula_layernorm, formula_rope, formula_activation, formula_add,
    formula_store, formula_attention, formula_attention_split;

/* ---- everything that is not a kernel: units.c ---- */

test_fn unit_exp, unit_half, unit_cpu, unit_levels, unit_registry, unit_qtypes, unit_pack, unit_pack_cols, unit_pack_ternary, unit_pack_n4, unit_pack_codes, unit_pack_sparse, unit_check_sparse;

#endif
