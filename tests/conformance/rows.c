/* Operations on rows of floats. */
#include "conformance.h"

#include <math.h>
#include <string.h>

static const uint32_t lengths[] = {47, 48, 49, 63, 64, 65, 127, 128, 129, 288, 768, 2048, 5632};

static uint32_t length_at(uint32_t i) { return i < 67 ? 1 + i : lengths[i - 67]; }
enum { LENGTH_COUNT = 67 + ARRAY_COUNT(lengths) };

/* Part of [0, n) in units of `step`. */
static void random_part(test *t, uint32_t n, uint32_t step, uint32_t *begin, uint32_t *end)
{
    uint32_t units = (n + step - 1) / step, first = random_below(t, units);

    *begin = first * step;
    *end = (first + 1 + random_below(t, units - first)) * step;
    *end = *end < n ? *end : n;
}

static float *float_buffer(slot s, size_t count) { return buffer(s, count * sizeof(float), sizeof(float)); }

/* ---- quantize ---- */

static infer_q8_rows q8_buffers(slot codes, slot scales, slot offset8, uint32_t m, uint32_t row_groups)
{
    infer_q8_rows q;

    q.row_groups = row_groups;
    q.codes = buffer(codes, (size_t)m * row_groups * 32, 32); /* groups of 32: no more alignment than that to rely on */
    q.scales = float_buffer(scales, (size_t)m * row_groups);
    q.offset8 = buffer(offset8, (size_t)m * row_groups * 2 * sizeof(int16_t), 2 * sizeof(int16_t));
    return q;
}

static void check_quantized(test *t, const infer_q8_rows *got, const infer_q8_rows *want, uint32_t m, infer_region at)
{
    uint32_t groups = got->row_groups; /* those behind the row are outside every region */
    uint8_t untouched[32];

    memset(untouched, CANARY, sizeof untouched);
    for (uint32_t r = 0; r < m; r++) {
        for (uint32_t j = 0; j < groups; j++) {
            size_t g = (size_t)r * groups + j;
            bool inside = r >= at.row0 && r < at.row1 && 32 * j >= at.col0 && 32 * j < at.col1;
            if (memcmp(got->codes + 32 * g, inside ? want->codes + 32 * g : (const int8_t *)untouched, 32) != 0)
                fail(t, "codes of row %u group %u (%s the region)", r, j, inside ? "in" : "outside");
            if (inside ? !same_float(got->scales[g], want->scales[g]) : memcmp(&got->scales[g], untouched, 4) != 0)
                fail(t, "scale of row %u group %u is %a, reference %a", r, j, got->scales[g], want->scales[g]);
            if (memcmp(got->offset8 + 2 * g, inside ? (const void *)(want->offset8 + 2 * g) : untouched, 4) != 0)
                fail(t, "offset8 of row %u group %u (%s the region)", r, j, inside ? "in" : "outside");
        }
    }
    check_canaries(t, SLOT_CODES);
    check_canaries(t, SLOT_SCALES);
    check_canaries(t, SLOT_OFFSET8);
}

static void quantize_case(test *t, uint32_t m, uint32_t k, fill f)
{
    if (skip_case(t))
        return;

    uint32_t row_groups = (uint32_t)infer_q8_groups(k) + random_below(t, 3);
    infer_quantize_args a = {.m = m, .k = k, .x_stride = k + random_below(t, 3), .group = 32 << random_below(t, 2)};
    size_t x_count = (size_t)(m - 1) * a.x_stride + k;
    float *x = float_buffer(SLOT_X, x_count);
    infer_region all = {0, m, 0, k}, part;
    infer_q8_rows want;

    begin_case(t, "m %u k %u x %s", m, k, fill_name(f));
    fill_floats(t, x, x_count, f);
    a.x = x;
    if (random_below(t, 2)) {
        float *factors = float_buffer(SLOT_AUX, k);
        fill_floats(t, factors, k, random_below(t, 4) ? FILL_RANDOM : f);
        a.factors = factors;
    }
    a.threshold = random_below(t, 2) ? fabsf(random_unit(t)) : 0;
    want = a.y = q8_buffers(SLOT_CODES2, SLOT_SCALES2, SLOT_OFFSET82, m, row_groups);
    t->ref(&a, all);
    a.y = q8_buffers(SLOT_CODES, SLOT_SCALES, SLOT_OFFSET8, m, row_groups);
    t->kernel->fn(&a, all);
    check_quantized(t, &a.y, &want, m, all);
    random_part(t, m, 1, &part.row0, &part.row1);
    random_part(t, k, a.group, &part.col0, &part.col1);
    a.y = q8_buffers(SLOT_CODES, SLOT_SCALES, SLOT_OFFSET8, m, row_groups);
    t->kernel->fn(&a, part);
    check_quantized(t, &a.y, &want, m, part);
}

/* All values that lie exactly between two codes at scale 1. */
static void quantize_ties(test *t)
{
    enum { GROUPS = 9, K = 32 * GROUPS };
    float *x = float_buffer(SLOT_X, K);
    infer_quantize_args a = {.x = x, .m = 1, .k = K, .x_stride = K, .group = 32};
    infer_region all = {0, 1, 0, K};
    infer_q8_rows want;

    begin_case(t, "ties");
    for (int g = 0; g < GROUPS; g++) {
        x[32 * g] = 127.0f;
        for (int i = 1; i < 32; i++)
            x[32 * g + i] = (float)((31 * g + i) % 254) - 126.5f;
    }
    want = a.y = q8_buffers(SLOT_CODES2, SLOT_SCALES2, SLOT_OFFSET82, 1, K);
    t->ref(&a, all);
    for (int i = 0; i < K; i++)
        CHECK(t, i % 32 == 0 || want.codes[i] % 2 == 0);
    a.y = q8_buffers(SLOT_CODES, SLOT_SCALES, SLOT_OFFSET8, 1, K);
    t->kernel->fn(&a, all);
    check_quantized(t, &a.y, &want, 1, all);
}

void test_quantize(test *t)
{
    for (uint32_t i = 0; i < LENGTH_COUNT; i++)
        for (int f = 0; f < FILL_COUNT; f++)
            quantize_case(t, 1 + random_below(t, 4), length_at(i), (fill)f);
    quantize_ties(t);
}

/* ---- rmsnorm and layernorm: groups of width columns; one group is a whole row ---- */

static void norm_case(test *t, uint32_t m, uint32_t groups, uint32_t width, fill f, bool in_place)
{
    if (skip_case(t))
        return;

    uint32_t n = groups * width, stride = n + random_below(t, 3);
    size_t count = (size_t)m * stride;
    float *x = float_buffer(SLOT_X, count), *weight = float_buffer(SLOT_AUX, width), *want = float_buffer(SLOT_WANT, count), *y;
    infer_norm_args a = {.x = x, .weight = weight, .y = want, .m = m, .n = n, .width = width, .x_stride = stride, .y_stride = stride, .eps = 1e-5f};
    infer_region at = {0, m, 0, n};

    begin_case(t, "m %u groups %u width %u x %s%s", m, groups, width, fill_name(f), in_place ? " in place" : "");
    fill_floats(t, x, count, f);
    fill_floats(t, weight, width, FILL_RANDOM);
    t->ref(&a, at);
    y = a.y = float_buffer(SLOT_Y, count);
    if (in_place) {
        for (uint32_t r = 0; r < m; r++)
            memcpy(y + (size_t)r * stride, x + (size_t)r * stride, n * sizeof *y);
        a.x = y;
    } else {
        random_part(t, m, 1, &at.row0, &at.row1);
        random_part(t, n, width, &at.col0, &at.col1);
    }
    t->kernel->fn(&a, at);
    check_region(t, y, want, m, stride, at);
    check_canaries(t, SLOT_Y);
}

static void test_norm(test *t)
{
    for (uint32_t i = 0; i < LENGTH_COUNT; i++) {
        for (int f = 0; f < FILL_COUNT; f++) {
            norm_case(t, 1 + random_below(t, 4), 1, length_at(i), (fill)f, f % 2);
            if (length_at(i) <= 256)
                norm_case(t, 1 + random_below(t, 4), 2 + random_below(t, 5), length_at(i), (fill)f, f % 2);
        }
    }
}

void test_rmsnorm(test *t) { test_norm(t); }
void test_layernorm(test *t) { test_norm(t); }

/* ---- rope ---- */

static void rope_case(test *t, uint32_t m, uint32_t heads, uint32_t head_dim, uint32_t rope_dim, infer_rope_pairs pairs, fill f)
{
    if (skip_case(t))
        return;

    uint32_t n = heads * head_dim, stride = n + random_below(t, 3), pos0 = random_below(t, 9), half = rope_dim / 2;
    size_t count = (size_t)m * stride, table = (size_t)(pos0 + m) * half;
    float *x = float_buffer(SLOT_X, count), *want = float_buffer(SLOT_WANT, count), *y = float_buffer(SLOT_Y, count);
    float *cosines = float_buffer(SLOT_AUX, table), *sines = float_buffer(SLOT_X2, table);
    infer_rope_args a = {.x = want, .cos = cosines, .sin = sines, .m = m, .n = n, .stride = stride, .head_dim = head_dim,
                         .rope_dim = rope_dim, .pos0 = pos0, .pairs = pairs};
    infer_region all = {0, m, 0, n}, part;

    begin_case(t, "m %u heads %u head_dim %u rope_dim %u pairs %d x %s", m, heads, head_dim, rope_dim, (int)pairs, fill_name(f));
    fill_floats(t, x, count, f);
    for (size_t i = 0; i < table; i++) {
        cosines[i] = cosf((float)i);
        sines[i] = sinf((float)i);
    }
    memcpy(want, x, count * sizeof *x);
    t->ref(&a, all);
    memcpy(y, x, count * sizeof *x);
    random_part(t, m, 1, &part.row0, &part.row1);
    random_part(t, n, head_dim, &part.col0, &part.col1);
    a.x = y;
    t->kernel->fn(&a, part);
    for (uint32_t r = 0; r < m; r++) {
        for (uint32_t c = 0; c < stride; c++) {
            size_t i = (size_t)r * stride + c;
            bool inside = r >= part.row0 && r < part.row1 && c >= part.col0 && c < part.col1;
            if (!same_float(y[i], inside ? want[i] : x[i]))
                fail(t, "[%u][%u] is %a, reference %a, before %a (%s the region)", r, c, y[i], want[i], x[i], inside ? "in" : "outside");
        }
    }
    check_canaries(t, SLOT_Y);
}

void test_rope(test *t)
{
    for (int pairs = 0; pairs < 2; pairs++) {
        for (uint32_t head_dim = 2; head_dim <= 80; head_dim += 2)
            for (int f = 0; f < FILL_COUNT; f++)
                rope_case(t, 1 + random_below(t, 4), 1 + random_below(t, 5), head_dim,
                          f % 2 ? head_dim : 2 + 2 * random_below(t, head_dim / 2), (infer_rope_pairs)pairs, (fill)f);
        rope_case(t, 5, 8, 64, 64, (infer_rope_pairs)pairs, FILL_RANDOM);
        rope_case(t, 3, 4, 128, 32, (infer_rope_pairs)pairs, FILL_RANDOM);
    }
}

/* ---- activation and add: one or two inputs of the same shape ---- */

/* What varies beside the shape: the activation and whether it is gated; whether b is a row for all tokens. */
typedef struct variant {
    infer_activation kind;
    bool second; /* activation: gated; add: b has a row for every token */
} variant;

static void binary_call(test *t, infer_kernel_fn *fn, variant v, const float *a, const float *b, float *y, uint32_t m, uint32_t n, uint32_t stride,
                        infer_region at)
{
    if (t->kernel->op == INFER_OP_ACTIVATION) {
        infer_activation_args args = {.x = a, .up = v.second ? b : NULL, .y = y, .m = m, .n = n, .stride = stride, .kind = v.kind, .cap = 30};
        fn(&args, at);
    } else {
        infer_add_args args = {.a = a, .b = b, .y = y, .m = m, .n = n, .stride = stride, .b_stride = v.second ? stride : 0};
        fn(&args, at);
    }
}

/* alias 0: y apart; 1: y is the first input; 2: the second. */
static void binary_case(test *t, variant v, uint32_t m, uint32_t n, fill f, int alias)
{
    if (skip_case(t))
        return;

    uint32_t stride = n + random_below(t, 3);
    size_t count = (size_t)m * stride;
    float *a = float_buffer(SLOT_X, count), *b = float_buffer(SLOT_X2, v.second ? count : n), *want = float_buffer(SLOT_WANT, count);
    float *y = float_buffer(SLOT_Y, count);
    infer_region at = {0, m, 0, n};

    begin_case(t, "kind %d second %d m %u n %u x %s alias %d", (int)v.kind, v.second, m, n, fill_name(f), alias);
    fill_floats(t, a, count, f);
    if (f == FILL_RANDOM)
        for (size_t i = 0; i < count; i++)
            a[i] *= i % 2 ? 110.0f : 6.0f; /* all of the range of exp */
    fill_floats(t, b, v.second ? count : n, f == FILL_SPECIAL ? FILL_SPECIAL : FILL_RANDOM);
    binary_call(t, t->ref, v, a, b, want, m, n, stride, at);
    if (alias) {
        for (uint32_t r = 0; r < m; r++)
            memcpy(y + (size_t)r * stride, (alias == 1 ? a : b) + (size_t)r * stride, n * sizeof *y);
    } else {
        random_part(t, m, 1, &at.row0, &at.row1);
        random_part(t, n, 16, &at.col0, &at.col1);
    }
    binary_call(t, t->kernel->fn, v, alias == 1 ? y : a, alias == 2 ? y : b, y, m, n, stride, at);
    check_region(t, y, want, m, stride, at);
    check_canaries(t, SLOT_Y);
}

static void test_binary(test *t, int kinds)
{
    for (uint32_t i = 0; i < LENGTH_COUNT; i++)
        for (int f = 0; f < FILL_COUNT; f++)
            for (int kind = 0; kind < kinds; kind++)
                for (int alias = 0; alias < 3; alias++) {
                    binary_case(t, (variant){(infer_activation)kind, true}, 1 + random_below(t, 4), length_at(i), (fill)f, alias);
                    if (alias < 2)
                        binary_case(t, (variant){(infer_activation)kind, false}, 1 + random_below(t, 4), length_at(i), (fill)f, alias);
                }
}

void test_activation(test *t) { test_binary(t, INFER_ACTIVATION_COUNT); }
void test_add(test *t) { test_binary(t, 1); }
