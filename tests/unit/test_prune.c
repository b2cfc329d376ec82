/* Pruning: exact shares, the patterns of the blocks, least squares against its own definition, the methods against each other, rounding
 * around zeros. */
#include "check.h"

#include "convert/cholesky.h"
#include "convert/prune.h"
#include "pack/pack.h"
#include "ref/mathf.h"
#include "tile16x4.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define K 72u
#define M 300u
#define N 16u
#define DAMPING 0.001

static uint64_t rng = 1;

static double uniform(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (double)(rng >> 11) * 0x1p-52 - 1;
}

static float x[M * K], y[M * K], original[N * K], w[N * K];
static uint8_t kept[N * K];
static double h[K * K], cross[K * K];

static void fill(uint64_t seed)
{
    rng = seed * 77 + 5;
    for (uint32_t t = 0; t < M; t++) {
        double common[3] = {uniform(), uniform(), uniform()};
        for (uint32_t i = 0; i < K; i++) {
            x[t * K + i] = (float)(common[i % 3] * (1 + i % 5) + common[(i / 3) % 3] + 0.7 * uniform() * (1 + i % 4));
            y[t * K + i] = (float)(x[t * K + i] + 0.2 * uniform());
        }
    }
    for (uint32_t i = 0; i < N * K; i++)
        original[i] = (float)(uniform() * (1 + i % 3));
    memset(h, 0, sizeof h);
    memset(cross, 0, sizeof cross);
    infer_moments_add(h, x, x, M, K, 0, K);
    infer_moments_add(cross, y, x, M, K, 0, K);
}

static double damp(void)
{
    double trace = 0;
    for (uint32_t i = 0; i < K; i++)
        trace += h[i * K + i];
    return DAMPING * trace / K;
}

/* Prunes `original` into `w` and `kept`. with_moments: 0 none, 1 without `cross`, 2 with it. Returns the loss. */
static double prune(infer_prune_method method, infer_prune_block block, double rate, uint32_t n, int with_moments, bool recover)
{
    infer_moments m = {K, M, h, with_moments == 2 ? cross : NULL};
    infer_pruner *p = NULL;
    infer_error err = {0};
    double loss[2] = {0};
    void *scratch;

    cr_assert_eq(infer_pruner_create(NULL, K, with_moments ? &m : NULL, method, block, DAMPING, &p, &err), INFER_OK, "%s", err.message);
    scratch = infer_alloc(NULL, infer_pruner_scratch(p));
    memcpy(w, original, sizeof w);
    cr_assert(infer_pruner_panel(p, rate, recover, w, n, kept, scratch, loss));
    infer_free(NULL, scratch);
    infer_pruner_free(p);
    return loss[0];
}

static uint32_t zeros(uint32_t r)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < K; i++)
        sum += !kept[r * K + i];
    return sum;
}

Test(prune, shares_and_patterns)
{
    static const double rates[] = {0, 0.013, 0.2, 0.5, 0.77, 1};
    fill(1);
    for (uint32_t method = 0; infer_prune_method_names[method]; method++)
        for (uint32_t block = 0; infer_prune_block_names[block]; block++)
            for (size_t rate = 0; rate < sizeof rates / sizeof *rates; rate++)
                for (uint32_t n = 5; n <= N; n += N - 5) {
                    uint32_t blocks = block == INFER_PRUNE_16X4 ? K / 4 : K, width = K / blocks;
                    uint32_t expected = block == INFER_PRUNE_2_4 ? K / 2 : (uint32_t)rint(rates[rate] * blocks) * width;
                    prune(method, block, rates[rate], n, method != INFER_PRUNE_MAGNITUDE, true);
                    for (uint32_t r = 0; r < n; r++)
                        cr_expect_eq(zeros(r), expected, "%s %s %g: %u", infer_prune_method_names[method], infer_prune_block_names[block],
                                     rates[rate], zeros(r));
                    for (uint32_t i = 0; i < n * K; i++) {
                        cr_expect(kept[i] ? true : w[i] == 0);
                        if (block <= INFER_PRUNE_16X4)
                            cr_expect_eq(kept[i], kept[i % K / width * width], "a block is whole");
                        if (block == INFER_PRUNE_2_4 && i % 4 == 0)
                            cr_expect_eq(kept[i] + kept[i + 1] + kept[i + 2] + kept[i + 3], 2);
                    }
                }
}

/* Magnitude, without a text: the smallest go, the others stay as they are. Equal ones go in order. */
Test(prune, magnitude)
{
    float largest = 0, smallest = INFINITY;
    fill(2);
    prune(INFER_PRUNE_MAGNITUDE, INFER_PRUNE_1X1, 0.3, N, 0, true);
    for (uint32_t i = 0; i < K; i++)
        if (kept[i]) {
            cr_expect_eq(w[i], original[i]);
            smallest = fminf(smallest, fabsf(w[i]));
        } else {
            largest = fmaxf(largest, fabsf(original[i]));
        }
    cr_expect_leq(largest, smallest);
    for (uint32_t i = 0; i < K; i++)
        original[i] = i % 2 ? -1 : 1;
    prune(INFER_PRUNE_MAGNITUDE, INFER_PRUNE_1X1, 0.25, 1, 0, true);
    for (uint32_t i = 0; i < K; i++)
        cr_expect_eq(kept[i], i >= K / 4);
}

/* Wanda: a weight counts by what its input brings. */
Test(prune, wanda_weighs_inputs)
{
    fill(3);
    for (uint32_t i = 0; i < K; i++)
        original[i] = i < K / 2 ? 1 : 2;
    for (uint32_t i = 0; i < K; i++)
        h[i * K + i] = i < K / 2 ? 5 : 1;
    prune(INFER_PRUNE_WANDA, INFER_PRUNE_1X1, 0.5, 1, 1, false);
    for (uint32_t i = 0; i < K; i++)
        cr_expect_eq(kept[i], i < K / 2);
}

/* No weight that stays could move and bring the outputs closer: the objective's gradient is zero there. */
Test(prune, what_stays_is_least_squares)
{
    fill(4);
    for (uint32_t method = 0; infer_prune_method_names[method]; method++)
        for (uint32_t block = 0; infer_prune_block_names[block]; block++)
            for (int with_moments = 1; with_moments <= 2; with_moments++) {
                double worst = 0, size = 0;
                prune(method, block, 0.5, N, with_moments, true);
                for (uint32_t r = 0; r < N; r++)
                    for (uint32_t j = 0; j < K; j++) {
                        double gradient = damp() * ((double)w[r * K + j] - (double)original[r * K + j]), aim = 0;
                        for (uint32_t i = 0; i < K; i++) {
                            gradient += w[r * K + i] * h[i * K + j];
                            aim += original[r * K + i] * (with_moments == 2 ? cross : h)[i * K + j];
                        }
                        size = fmax(size, fabs(aim));
                        if (kept[r * K + j])
                            worst = fmax(worst, fabs(gradient - aim));
                    }
                cr_expect_lt(worst, 1e-5 * size, "%s %s: %g of %g", infer_prune_method_names[method], infer_prune_block_names[block], worst,
                             size);
            }
}

static double output_error(void)
{
    double sum = 0;
    for (uint32_t t = 0; t < M; t++)
        for (uint32_t r = 0; r < N; r++) {
            double off = 0;
            for (uint32_t i = 0; i < K; i++)
                off += ((double)w[r * K + i] - (double)original[r * K + i]) * (double)x[t * K + i];
            sum += off * off;
        }
    return sum / M;
}

/* On inputs that depend on one another: the more a method knows, the less the outputs change; and the loss that is told is that change. */
Test(prune, losses_in_order)
{
    for (uint32_t block = 0; infer_prune_block_names[block]; block++) {
        double sums[4] = {0}, plain = 0;
        for (uint64_t seed = 10; seed < 15; seed++) {
            fill(seed);
            for (uint32_t method = 0; infer_prune_method_names[method]; method++) {
                double loss = prune(method, block, 0.5, N, 1, true);
                cr_expect_float_eq(loss, output_error(), 1e-6 * loss);
                sums[method] += loss;
            }
            prune(INFER_PRUNE_MAGNITUDE, block, 0.5, N, 0, false);
            plain += output_error();
        }
        cr_expect_lt(sums[INFER_PRUNE_MAGNITUDE], 0.7 * plain, "%s: %g %g", infer_prune_block_names[block], sums[0], plain);
        cr_expect_lt(sums[INFER_PRUNE_SPARSEGPT], sums[INFER_PRUNE_MAGNITUDE], "%s: %g %g", infer_prune_block_names[block], sums[2],
                     sums[0]);
        cr_expect_lt(sums[INFER_PRUNE_OBS], sums[INFER_PRUNE_SPARSEGPT], "%s: %g %g", infer_prune_block_names[block], sums[3], sums[2]);
    }
}

/* OBS drops the block with which the objective, least squares of all others included, is least: against trying each. */
Test(prune, obs_finds_the_cheapest_block)
{
    static const infer_prune_block shapes[] = {INFER_PRUNE_16X1, INFER_PRUNE_16X4};
    fill(5);
    for (size_t shape = 0; shape < 2; shape++) {
        uint32_t width = shapes[shape] == INFER_PRUNE_16X4 ? 4 : 1, blocks = K / width, best = 0, found = 0;
        double least = INFINITY;
        for (uint32_t b = 0; b < blocks; b++) {
            static double l[K * K];
            double objective = 0;
            uint32_t count = 0, support[K];
            for (uint32_t i = 0; i < K; i++)
                if (i / width != b)
                    support[count++] = i;
            for (uint32_t i = 0; i < count; i++)
                for (uint32_t j = 0; j <= i; j++)
                    l[i * count + j] = h[support[i] * K + support[j]] + (i == j ? damp() : 0);
            cr_assert(infer_cholesky(l, count));
            for (uint32_t r = 0; r < N; r++) { /* objective up to a constant: -aim x solution */
                double aim[K], solution[K];
                for (uint32_t i = 0; i < count; i++) {
                    aim[i] = damp() * original[r * K + support[i]];
                    for (uint32_t j = 0; j < K; j++)
                        aim[i] += original[r * K + j] * h[j * K + support[i]];
                    solution[i] = aim[i];
                }
                infer_cholesky_solve(l, count, solution);
                for (uint32_t i = 0; i < count; i++)
                    objective -= aim[i] * solution[i];
            }
            if (objective < least) {
                least = objective;
                best = b;
            }
        }
        prune(INFER_PRUNE_OBS, shapes[shape], 1.0 / blocks, N, 1, true);
        while (kept[found * width])
            found++;
        cr_expect_eq(found, best);
    }
}

/* Ternary rows: zeros may come, but what stays is what it was. */
Test(prune, without_recovery)
{
    fill(6);
    for (uint32_t method = INFER_PRUNE_WANDA; infer_prune_method_names[method]; method++) {
        prune(method, INFER_PRUNE_1X1, 0.4, N, 1, false);
        for (uint32_t i = 0; i < N * K; i++)
            cr_expect_eq(w[i], kept[i] ? original[i] : 0);
    }
}

Test(prune, inverse)
{
    static double l[K * K], inverse[K * K];
    fill(7);
    memcpy(l, h, sizeof l);
    cr_assert(infer_cholesky(l, K));
    infer_cholesky_inverse(l, K, inverse);
    for (uint32_t i = 0; i < K; i++)
        for (uint32_t j = 0; j < K; j++) {
            double sum = 0;
            for (uint32_t m = 0; m < K; m++)
                sum += h[i * K + m] * inverse[m > j ? m * K + j : j * K + m];
            cr_expect_float_eq(sum, i == j, 1e-8);
        }
}

/* Rounding around zeros: they stay exactly zero, and the outputs are closer than with rounding to nearest. */
Test(prune, rounding_keeps_zeros)
{
    static const infer_qtype types[] = {INFER_QTYPE_Q4G32, INFER_QTYPE_N4G32, INFER_QTYPE_Q8G32};
    static int8_t codes[N * K];
    static float pruned[N * K];
    uint16_t scales[N * 3];
    infer_moments m = {K, M, h, cross};
    infer_gptq *g;
    double *scratch;
    void *panel = infer_alloc(NULL, infer_panel_bytes(INFER_QTYPE_Q8G32, K));

    fill(8);
    cr_assert_eq(infer_gptq_create(NULL, &m, DAMPING, &g, NULL), INFER_OK);
    scratch = infer_alloc_array(NULL, infer_gptq_scratch(g), sizeof *scratch);
    for (size_t t = 0; t < 3; t++)
        for (uint32_t block = 0; infer_prune_block_names[block]; block++) {
            double fitted, plain;
            prune(INFER_PRUNE_OBS, block, 0.5, N, 1, true);
            memcpy(original, w, sizeof original);
            memcpy(pruned, w, sizeof pruned);
            cr_assert(infer_gptq_panel(g, infer_quantizer_find(types[t]), pruned, kept, N, codes, scales, scratch, NULL));
            for (uint32_t i = 0; i < N * K; i++)
                if (!kept[i])
                    cr_expect_eq(codes[i], 0);
            cr_assert(infer_pack_panel_codes(types[t], codes, scales, N, K, panel));
            infer_unpack_panel(types[t], panel, N, K, w);
            for (uint32_t i = 0; i < N * K; i++)
                if (!kept[i])
                    cr_expect_eq(w[i], 0);
            fitted = output_error();
            cr_assert(infer_pack_panel(types[t], pruned, N, K, panel));
            infer_unpack_panel(types[t], panel, N, K, w);
            plain = output_error();
            cr_expect_lt(fitted, 0.8 * plain, "%s: %g %g", infer_prune_block_names[block], fitted, plain);
            fill(8);
        }
    infer_free(NULL, panel);
    infer_free(NULL, scratch);
    infer_gptq_free(g);
}

Test(prune, hostile_numbers)
{
    infer_moments m = {K, M, h, NULL};
    infer_pruner *p = NULL;
    infer_error err = {0};
    void *scratch;

    cr_expect_eq(infer_pruner_create(NULL, K + 1, NULL, INFER_PRUNE_MAGNITUDE, INFER_PRUNE_2_4, 0, &p, &err), INFER_ERROR_ARGUMENT);
    cr_expect(strstr(err.message, "73"));
    fill(9);
    h[K + 1] = INFINITY;
    cr_expect_eq(infer_pruner_create(NULL, K, &m, INFER_PRUNE_OBS, INFER_PRUNE_16X1, DAMPING, &p, &err), INFER_ERROR_FORMAT);
    memset(h, 0, sizeof h); /* a text in which the matrix sees only zeros: the weights that stay are left alone */
    prune(INFER_PRUNE_OBS, INFER_PRUNE_16X1, 0.5, N, 1, true);
    for (uint32_t i = 0; i < N * K; i++)
        cr_expect_float_eq(w[i], kept[i] ? original[i] : 0, 1e-6);
    cr_assert_eq(infer_pruner_create(NULL, K, &m, INFER_PRUNE_OBS, INFER_PRUNE_16X1, DAMPING, &p, &err), INFER_OK);
    scratch = infer_alloc(NULL, infer_pruner_scratch(p));
    w[7] = NAN;
    cr_expect_not(infer_pruner_panel(p, 0.5, true, w, N, kept, scratch, NULL));
    infer_free(NULL, scratch);
    infer_pruner_free(p);
}

Test(prune, out_of_memory)
{
    fill(9);
    for (size_t n = 1;; n++) {
        check_allocator c;
        infer_moments m = {K, M, h, NULL};
        infer_pruner *p = NULL;
        infer_status s;
        check_allocator_init(&c, n);
        s = infer_pruner_create(&c.allocator, K, &m, INFER_PRUNE_OBS, INFER_PRUNE_16X1, DAMPING, &p, NULL);
        infer_pruner_free(p);
        cr_expect_eq(c.live, 0);
        if (s == INFER_OK)
            break;
        cr_assert_eq(s, INFER_ERROR_MEMORY);
        cr_assert_lt(n, 20);
    }
}
