/* Predicted times, their coefficients from measurements, and the layouts chosen by them. */
#include "check.h"

#include "convert/matrix.h"
#include "cost.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static const infer_work samples[] = {
    {0, 1024, 64, 16}, {0, 512, 64, 16}, {0, 200, 64, 16}, {0, 4096, 256, 64}, {0, 800, 256, 64}, {0, 600, 256, 16}, {0, 300, 32, 4},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

Test(cost, fit_finds_what_made_the_times)
{
    const infer_cost truth[] = {{0.5, 7, 3}, {0.5, 0, 0}, {0, 2, 1}};
    for (size_t t = 0; t < sizeof truth / sizeof *truth; t++) {
        double ns[SAMPLES];
        infer_cost found;
        for (size_t i = 0; i < SAMPLES; i++)
            ns[i] = infer_cost_kernel_ns(&truth[t], &samples[i]);
        infer_cost_fit(samples, ns, SAMPLES, &found);
        cr_expect(fabs(found.unit_ns - truth[t].unit_ns) < 1e-3 && fabs(found.block_ns - truth[t].block_ns) < 0.05 &&
                      fabs(found.panel_ns - truth[t].panel_ns) < 0.05,
                  "%g %g %g", found.unit_ns, found.block_ns, found.panel_ns);
    }
}

/* Times that fall with the number of blocks would want a negative one. */
Test(cost, no_coefficient_is_negative)
{
    double ns[SAMPLES];
    infer_cost found;
    for (size_t i = 0; i < SAMPLES; i++)
        ns[i] = (double)samples[i].units + 20 * (double)samples[i].panels - 2 * (double)samples[i].blocks;
    infer_cost_fit(samples, ns, SAMPLES, &found);
    cr_expect(found.unit_ns > 0 && found.block_ns == 0 && found.panel_ns > 0, "%g %g %g", found.unit_ns, found.block_ns, found.panel_ns);
}

enum { N = 128, K = 512 };

/* Of every eight inputs `kept` stand together. */
static const float *pruned(uint32_t kept)
{
    static float rows[N * K];
    for (size_t i = 0; i < N * K; i++)
        rows[i] = i % 8 < kept ? 1 : 0;
    return rows;
}

/* The same weights, other machines. */
Test(cost, the_choice_follows_the_coefficients)
{
    infer_costs costs = {.byte_ns = 0.001, .kernels = {{{1, 0, 0}, {1, 4, 0}, {1, 5, 0}, {1, 99, 0}}}};
    infer_matrix_choice c = infer_matrix_choose(INFER_QTYPE_Q4G64, pruned(4), N, K, &costs);
    const uint64_t half = N / 16 * K / 8, blocks = N / 16 * K / 64;
    cr_assert_eq(c.option_count, 4);
    cr_expect(c.layout == INFER_LAYOUT_BCSR16X4 && c.units == half);
    cr_expect_float_eq(infer_matrix_ns(&c.options[0]), 2 * half, 1e-9);
    cr_expect_float_eq(infer_matrix_ns(&c.options[1]), half + 4 * blocks, 1e-9);
    cr_expect_float_eq(infer_matrix_ns(&c.options[2]), half + 5 * blocks, 1e-9);

    costs.kernels[0][1].block_ns = 6; /* slow masks of tiles */
    cr_expect_eq(infer_matrix_choose(INFER_QTYPE_Q4G64, pruned(4), N, K, &costs).layout, INFER_LAYOUT_BCSR16X1);
    costs.kernels[0][1].block_ns = costs.kernels[0][2].block_ns = 9; /* slower than reading the zeros */
    cr_expect_eq(infer_matrix_choose(INFER_QTYPE_Q4G64, pruned(4), N, K, &costs).layout, INFER_LAYOUT_COLS);
    cr_expect_eq(infer_matrix_choose(INFER_QTYPE_Q4G64, pruned(1), N, K, &costs).layout, INFER_LAYOUT_BCSR16X1, "fewer units");
    costs.byte_ns = 100; /* slow memory: the fewest bytes */
    c = infer_matrix_choose(INFER_QTYPE_Q4G64, pruned(4), N, K, &costs);
    cr_expect_eq(c.layout, INFER_LAYOUT_BCSR16X4);
    for (uint32_t i = 0; i < c.option_count; i++)
        cr_expect(c.options[i].bytes >= c.bytes && infer_matrix_ns(&c.options[i]) == 100.0 * c.options[i].bytes);
}

/* Of equal times the fewest bytes. */
Test(cost, equal_times)
{
    const infer_costs free = {0};
    cr_expect_eq(infer_matrix_choose(INFER_QTYPE_Q8G64, pruned(4), N, K, &free).layout, INFER_LAYOUT_BCSR16X4);
}

/* The costs that are built in: half of the blocks gone is worth it at a real layer's size, nothing gone is not. */
Test(cost, built_in)
{
    const infer_costs *d = &infer_costs_default;
    for (size_t t = 0; t < INFER_COST_TYPES; t++) {
        cr_expect_eq(infer_matrix_choose(infer_cost_types[t], pruned(4), N, K, d).layout, INFER_LAYOUT_BCSR16X4);
        for (size_t l = 0; l < INFER_COST_LAYOUTS; l++)
            cr_expect(infer_cost_find(d, infer_cost_types[t], infer_cost_layouts[l])->unit_ns > 0);
    }
    cr_expect_null(infer_cost_find(d, INFER_QTYPE_Q4G32, INFER_LAYOUT_COLS));
    cr_expect_null(infer_cost_find(d, INFER_QTYPE_Q4G64, INFER_LAYOUT_CSR));
}
