/* Error-compensating rounding: moments, factor and objective against direct sums, and rounding against rounding to nearest. */
#include "check.h"

#include "convert/cholesky.h"
#include "convert/gptq.h"
#include "pack/pack.h"
#include "ref/mathf.h"
#include "tile16x4.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define K 72u /* two groups and a part of one */
#define M 200u
#define N 16u

static uint64_t rng = 1;

static double uniform(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (double)(rng >> 11) * 0x1p-52 - 1;
}

static float x[M * K], y[M * K], w[N * K];
static double h[K * K], cross[K * K];

/* Inputs that depend on one another, as those of a model do; y is x and some noise. */
static void fill(void)
{
    rng = 7;
    for (uint32_t t = 0; t < M; t++) {
        double common = uniform();
        for (uint32_t i = 0; i < K; i++) {
            x[t * K + i] = (float)(common * (i % 5) + uniform() * (1 + i % 3));
            y[t * K + i] = (float)(x[t * K + i] + 0.1 * uniform());
        }
    }
    for (uint32_t i = 0; i < N * K; i++)
        w[i] = (float)uniform();
    memset(h, 0, sizeof h);
    memset(cross, 0, sizeof cross);
    infer_moments_add(h, x, x, M, K, 0, K);
    infer_moments_add(cross, y, x, M, K, 0, K);
}

static infer_moments moments(bool with_cross) { return (infer_moments){K, M, h, with_cross ? cross : NULL}; }

/* Squared error of the outputs: sum over t and rows of (w y - q x)^2. */
static double output_error(const float *inputs, const float *q)
{
    double sum = 0;
    for (uint32_t t = 0; t < M; t++)
        for (uint32_t r = 0; r < N; r++) {
            double off = 0;
            for (uint32_t i = 0; i < K; i++)
                off += (double)w[r * K + i] * (double)inputs[t * K + i] - (double)q[r * K + i] * (double)x[t * K + i];
            sum += off * off;
        }
    return sum;
}

static void values(infer_qtype type, const int8_t *codes, const uint16_t *scales, float *out)
{
    for (uint32_t r = 0; r < N; r++)
        for (uint32_t i = 0; i < K; i++)
            out[r * K + i] = (float)(type == INFER_QTYPE_N4G32 ? infer_n4_values[codes[r * K + i] + 8] : codes[r * K + i]) * infer_ref_f16_to_f32(scales[r * 3 + i / 32]);
}

static void nearest(infer_qtype type, float *out)
{
    void *panel = infer_alloc(NULL, infer_panel_bytes(type, K));
    cr_assert(infer_pack_panel(type, w, N, K, panel));
    infer_unpack_panel(type, panel, N, K, out);
    infer_free(NULL, panel);
}

static void rounded(const infer_moments *m, infer_qtype type, int8_t *codes, uint16_t *scales, double *loss)
{
    infer_gptq *g;
    double *scratch;
    cr_assert_eq(infer_gptq_create(NULL, m, 0.001, &g, NULL), INFER_OK);
    scratch = infer_alloc_array(NULL, infer_gptq_scratch(g), sizeof *scratch);
    cr_assert(infer_gptq_panel(g, infer_quantizer_find(type), w, NULL, N, codes, scales, scratch, loss));
    infer_free(NULL, scratch);
    infer_gptq_free(g);
}

Test(gptq, moments_are_sums)
{
    fill();
    for (uint32_t i = 0; i < K; i += 7)
        for (uint32_t j = 0; j < K; j += 5) {
            double sum = 0;
            for (uint32_t t = 0; t < M; t++)
                sum += (double)y[t * K + i] * (double)x[t * K + j];
            cr_expect_float_eq(cross[i * K + j], sum, 1e-9 * M);
            cr_expect_float_eq(h[i * K + j], h[j * K + i], 1e-9 * M);
        }
}

Test(gptq, cholesky)
{
    double l[K * K], b[K], solution[K];
    fill();
    memcpy(l, h, sizeof l);
    cr_assert(infer_cholesky(l, K));
    for (uint32_t i = 0; i < K; i++)
        for (uint32_t j = 0; j <= i; j++) {
            double sum = 0;
            for (uint32_t n = 0; n <= j; n++)
                sum += l[i * K + n] * l[j * K + n];
            cr_expect_float_eq(sum, h[i * K + j], 1e-9 * h[i * K + i] + 1e-9 * h[j * K + j]);
        }
    for (uint32_t i = 0; i < K; i++) {
        solution[i] = uniform();
        b[i] = 0;
    }
    for (uint32_t i = 0; i < K; i++)
        for (uint32_t j = 0; j < K; j++)
            b[i] += h[i * K + j] * solution[j];
    infer_cholesky_solve(l, K, b);
    for (uint32_t i = 0; i < K; i++)
        cr_expect_float_eq(b[i], solution[i], 1e-6);
    memcpy(l, h, sizeof l);
    l[K * K - 1] = -1;
    cr_expect_not(infer_cholesky(l, K), "not positive definite");
    l[0] = NAN;
    cr_expect_not(infer_cholesky(l, K), "not a number");
}

/* The outputs on the inputs come out much closer than with rounding to nearest, and the loss that is told is their error. */
Test(gptq, outputs_are_closer)
{
    static const infer_qtype types[] = {INFER_QTYPE_Q4G32, INFER_QTYPE_N4G32, INFER_QTYPE_Q8G32};
    static float plain[N * K], got[N * K];
    static int8_t codes[N * K];
    uint16_t scales[N * 3];
    fill();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        infer_moments m = moments(false);
        double loss = 0, error, damped = 0, trace = 0;
        rounded(&m, types[i], codes, scales, &loss);
        values(types[i], codes, scales, got);
        nearest(types[i], plain);
        error = output_error(x, got);
        cr_expect_lt(error, 0.7 * output_error(x, plain), "%s: %g, plain %g", infer_qtype_find(types[i])->name, error, output_error(x, plain));
        for (uint32_t j = 0; j < K; j++)
            trace += h[j * K + j];
        for (uint32_t j = 0; j < N * K; j++)
            damped += 0.001 * trace / K * ((double)w[j] - (double)got[j]) * ((double)w[j] - (double)got[j]);
        cr_expect_float_eq(loss * M, error + damped, 1e-6 * error);
    }
}

/* No single code, moved by one, would make the objective smaller: coordinate descent has arrived. */
Test(gptq, no_code_is_better)
{
    static float got[N * K];
    static int8_t codes[N * K];
    uint16_t scales[N * 3];
    infer_moments m = moments(false);
    double loss = 0, trace = 0, damp;
    int better = 0;
    fill();
    rounded(&m, INFER_QTYPE_Q4G32, codes, scales, &loss);
    values(INFER_QTYPE_Q4G32, codes, scales, got);
    for (uint32_t i = 0; i < K; i++)
        trace += h[i * K + i];
    damp = 0.001 * trace / K;
    for (uint32_t r = 0; r < N; r++)
        for (uint32_t i = 0; i < K; i++) {
            double scale = infer_ref_f16_to_f32(scales[r * 3 + i / 32]), gradient = damp * ((double)w[r * K + i] - (double)got[r * K + i]);
            for (uint32_t j = 0; j < K; j++)
                gradient += h[i * K + j] * ((double)w[r * K + j] - (double)got[r * K + j]);
            for (int step = -1; step <= 1; step += 2) {
                double move = step * scale;
                if (codes[r * K + i] + step < -8 || codes[r * K + i] + step > 7)
                    continue;
                better += move * (h[i * K + i] + damp) * move - 2 * move * gradient < -1e-6;
            }
        }
    cr_expect_leq(better, 2, "%d codes", better); /* rows that the limit of sweeps ended */
}

/* With the moments between what the float model sees and what the rounded one sees, the outputs of the float model are met better. */
Test(gptq, errors_of_earlier_layers_are_made_up_for)
{
    static float own[N * K], both[N * K];
    static int8_t codes[N * K];
    uint16_t scales[N * 3];
    infer_moments m = moments(false);
    double loss = 0;
    fill();
    for (uint32_t t = 0; t < M; t++) /* the rounded model sees inputs that are systematically smaller */
        for (uint32_t i = 0; i < K; i++)
            y[t * K + i] = x[t * K + i] * 1.2f;
    memset(cross, 0, sizeof cross);
    infer_moments_add(cross, y, x, M, K, 0, K);
    rounded(&m, INFER_QTYPE_Q8G32, codes, scales, &loss);
    values(INFER_QTYPE_Q4G32, codes, scales, own);
    m = moments(true);
    rounded(&m, INFER_QTYPE_Q8G32, codes, scales, &loss);
    values(INFER_QTYPE_Q4G32, codes, scales, both);
    cr_expect_lt(output_error(y, both), 0.01 * output_error(y, own));
}

Test(gptq, hostile_numbers)
{
    static int8_t codes[N * K];
    uint16_t scales[N * 3];
    infer_moments m = moments(false);
    infer_gptq *g = NULL;
    infer_error err;
    double scratch[3 * K], loss = 0;
    const infer_quantizer *q = infer_quantizer_find(INFER_QTYPE_Q4G32);

    cr_expect_null(infer_quantizer_find(INFER_QTYPE_F16));
    fill();
    h[K + 1] = INFINITY;
    cr_expect_eq(infer_gptq_create(NULL, &m, 0.01, &g, &err), INFER_ERROR_FORMAT);
    memset(h, 0, sizeof h); /* a text in which the matrix sees only zeros */
    cr_assert_eq(infer_gptq_create(NULL, &m, 0.01, &g, &err), INFER_OK);
    cr_expect_eq(infer_gptq_scratch(g), 3 * K);
    cr_expect(infer_gptq_panel(g, q, w, NULL, N, codes, scales, scratch, &loss));
    memset(w, 0, sizeof w);
    cr_expect(infer_gptq_panel(g, q, w, NULL, N, codes, scales, scratch, &loss));
    for (uint32_t i = 0; i < N * K; i++)
        cr_expect_eq(codes[i], 0);
    w[5] = NAN;
    cr_expect_not(infer_gptq_panel(g, q, w, NULL, N, codes, scales, scratch, &loss));
    w[5] = 1e30f;
    cr_expect_not(infer_gptq_panel(g, q, w, NULL, N, codes, scales, scratch, &loss));
    infer_gptq_free(g);
}

Test(gptq, out_of_memory)
{
    fill();
    for (size_t n = 1;; n++) {
        check_allocator c;
        infer_moments m = moments(false);
        infer_gptq *g = NULL;
        infer_status s;
        check_allocator_init(&c, n);
        s = infer_gptq_create(&c.allocator, &m, 0.01, &g, NULL);
        infer_gptq_free(g);
        cr_expect_eq(c.live, 0);
        if (s == INFER_OK)
            break;
        cr_assert_eq(s, INFER_ERROR_MEMORY);
        cr_assert_lt(n, 20);
    }
}
