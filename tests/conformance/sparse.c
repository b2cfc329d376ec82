/* Pruned weights: kernels against the reference, the reference against the formula, and what infer_sparse_check must find. */
#include "conformance.h"

#include "cpu.h"
#include "pack/pack.h"
#include "ref/mathf.h"
#include "sparse.h"

#include <math.h>
#include <string.h>

/* How much is kept. KEEP_SEVEN, KEEP_NINE: so much that kernels for one token always multiply 7 units of a block, 9 (bcsr16x1). */
typedef enum keep { KEEP_RANDOM, KEEP_HALF, KEEP_SEVEN, KEEP_NINE, KEEP_FEW, KEEP_NONE, KEEP_ALL, KEEP_ONE, KEEP_PANELS, KEEP_COUNT } keep;
static const char *const keep_names[KEEP_COUNT] = {"random", "half", "7 units",   "9 units",     "few",
                                                   "none",   "all",  "one input", "whole panels"};

typedef struct chooser {
    keep kind;
    uint32_t share, one; /* of 256 */
    bool panel;
} chooser;

/* Where tile c of a panel's rows has input i. */
static uint64_t mask_bit(uint32_t r, uint32_t i)
{
    return 1ull << (4 * (r % 16) + i % 4);
}

static bool choose(test *t, const chooser *c, uint64_t i)
{
    switch (c->kind) {
    case KEEP_NONE:
        return false;
    case KEEP_ALL:
        return true;
    case KEEP_ONE:
        return i == c->one;
    case KEEP_PANELS:
        return c->panel;
    default:
        return random_below(t, 256) < c->share;
    }
}

/* Each row chooses for itself, in csr and in bitmask. */
static bool by_rows(infer_layout layout)
{
    return layout == INFER_LAYOUT_CSR || layout == INFER_LAYOUT_BITMASK;
}

/* bitmask: of all tiles. */
static uint64_t mask_units(const uint8_t *kept, uint32_t n, uint32_t k)
{
    uint64_t units = 0;
    for (uint32_t o = 0; o < n; o += 16)
        for (uint32_t i = 0; i < k; i += 4) {
            uint32_t count = 0;
            for (uint32_t r = o; r < o + 16 && r < n; r++)
                for (uint32_t j = i; j < i + 4 && j < k; j++)
                    count += kept[(size_t)r * k + j];
            units += (count + 1) / 2;
        }
    return units;
}

/* Positions of rows or panels, for all `lines` of them: kept[line * width + i], a byte each; returns the units. */
static uint64_t choose_all(test *t, uint8_t *kept, uint32_t lines, uint32_t width, keep kind, infer_layout layout)
{
    static const uint32_t shares[KEEP_COUNT] = {[KEEP_HALF] = 128, [KEEP_SEVEN] = 90, [KEEP_NINE] = 116, [KEEP_FEW] = 12};
    chooser c = {kind, kind == KEEP_RANDOM ? random_below(t, 257) : shares[kind], random_below(t, width), false};
    uint64_t units = 0;

    for (uint32_t l = 0; l < lines; l++) {
        uint64_t count = 0;
        c.panel = random_below(t, 2);
        for (uint32_t i = 0; i < width; i++)
            count += kept[(size_t)l * width + i] = choose(t, &c, i);
        units += layout == INFER_LAYOUT_BCSR16X1 ? (count + 3) / 4 : count;
    }
    return layout == INFER_LAYOUT_BITMASK ? mask_units(kept, lines, width) : units;
}

enum { MAX_CELLS = 1 << 20 };
static uint8_t kept_cells[MAX_CELLS];

/* A matrix [n][k] at the end of SLOT_W: every byte filled, padding with anything. */
static void *make_matrix(test *t, infer_qtype type, infer_layout layout, uint32_t n, uint32_t k, keep kind, fill f, size_t *bytes_out)
{
    bool csr = layout == INFER_LAYOUT_CSR, bitmask = layout == INFER_LAYOUT_BITMASK;
    uint32_t lines = by_rows(layout) ? n : (n + 15) / 16, width = layout == INFER_LAYOUT_BCSR16X4 ? (k + 3) / 4 : k,
             per_block = layout == INFER_LAYOUT_BCSR16X4 ? 16 : 64;
    uint64_t bytes = 0, units;
    infer_sparse s;
    uint32_t *pointers, at = 0;
    uint8_t *w;

    CHECK(t, (size_t)lines * width <= MAX_CELLS);
    units = choose_all(t, kept_cells, lines, width, kind, layout);
    CHECK(t, infer_sparse_bytes(type, layout, n, k, units, &bytes));
    CHECK(t, infer_sparse_bytes_fit(type, layout, n, k, bytes));
    w = buffer(SLOT_W, (size_t)bytes, csr ? 4 : 32);
    infer_sparse_begin(type, layout, n, k, units, w);
    s = infer_sparse_at(layout, w, n, k);
    pointers = (uint32_t *)(void *)w;
    for (uint32_t l = 0; l < lines; l++) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < width; i++) {
            size_t cell = (size_t)l * s.blocks + i / per_block;
            if (!kept_cells[(size_t)l * width + i])
                continue;
            if (csr) {
                ((uint16_t *)s.positions)[at + count] = (uint16_t)i;
            } else if (bitmask) {
                ((uint64_t *)infer_sparse_masks(&s, l / 16, 0))[i / 4] |= mask_bit(l, i);
            } else if (layout == INFER_LAYOUT_BCSR16X4) {
                ((uint16_t *)s.positions)[cell] |= (uint16_t)(1u << i % 16);
            } else {
                ((uint8_t *)s.counts)[cell]++;
                ((uint8_t *)s.positions)[4 * at + count] = (uint8_t)(i % 64);
            }
            count++;
        }
        if (bitmask)
            continue;
        at += layout == INFER_LAYOUT_BCSR16X1 ? (count + 3) / 4 : count;
        pointers[l + 1] = at;
    }
    for (size_t p = 0; bitmask && p < s.panels; p++) {
        for (size_t tile = 0; tile < 16 * s.blocks; tile++)
            at += ((uint32_t)__builtin_popcountll(infer_sparse_masks(&s, p, 0)[tile]) + 1) / 2;
        pointers[p + 1] = at;
    }
    for (size_t i = 0; i < s.panels * s.blocks * 16; i++)
        ((uint16_t *)s.scales)[i] = random_scale(t, f);
    fill_ints(t, (int8_t *)s.values, (size_t)(w + bytes - s.values), -127, 127,
              f == FILL_ZERO && type == INFER_QTYPE_Q4G64 ? FILL_RANDOM : f);
    *bytes_out = (size_t)bytes;
    return w;
}

/* Activations of a matmul: floats in SLOT_X, quantized by the reference. */
static void make_inputs(test *t, infer_matmul_args *a, fill f)
{
    size_t row_groups = infer_q8_groups(a->k) + random_below(t, 3), groups = (a->m - 1) * row_groups + infer_q8_groups(a->k);
    size_t count = (size_t)(a->m - 1) * a->x_stride + a->k;
    float *x = buffer(SLOT_X, count * sizeof *x, sizeof *x);
    infer_quantize_args q = {.x = x, .m = a->m, .k = a->k, .x_stride = a->x_stride, .group = 64};

    fill_floats(t, x, count, f);
    a->xq.row_groups = (uint32_t)row_groups;
    a->xq.codes = buffer(SLOT_CODES, groups * 32, 32);
    a->xq.scales = buffer(SLOT_SCALES, groups * sizeof(float), sizeof(float));
    a->xq.offset8 = buffer(SLOT_OFFSET8, groups * 2 * sizeof(int16_t), 2 * sizeof(int16_t));
    q.y = a->xq;
    infer_kernel_find(INFER_OP_QUANTIZE, INFER_QTYPE_NONE, INFER_LAYOUT_NONE, INFER_CPU_REF)->fn(&q, (infer_region){0, a->m, 0, a->k});
}

static void check_matmul(test *t, const infer_matmul_args *args, size_t y_count, const float *want, infer_region at)
{
    memset(args->y, CANARY, y_count * sizeof *args->y);
    t->kernel->fn(args, at);
    check_region(t, args->y, want, args->m, args->y_stride, at);
    check_canaries(t, SLOT_Y);
}

static void sparse_case(test *t, uint32_t m, uint32_t n, uint32_t k, keep kind, fill weight_fill, fill x_fill)
{
    infer_matmul_args a = {.m = m, .n = n, .k = k, .x_stride = k + random_below(t, 3), .y_stride = n + random_below(t, 3)};
    size_t y_count = (size_t)m * a.y_stride, bytes;
    uint32_t panels = (n + 15) / 16;
    infer_region all = {0, m, 0, n}, part;
    infer_sparse_fault fault;
    float *want;

    if (skip_case(t))
        return;
    begin_case(t, "m %u n %u k %u kept %s weights %s x %s", m, n, k, keep_names[kind], fill_name(weight_fill), fill_name(x_fill));
    a.w = make_matrix(t, t->kernel->type, t->kernel->layout, n, k, kind, weight_fill, &bytes);
    CHECK(t, infer_sparse_check(t->kernel->type, t->kernel->layout, n, k, a.w, bytes, &fault));
    make_inputs(t, &a, x_fill);
    want = a.y = buffer(SLOT_WANT, y_count * sizeof *want, sizeof *want);
    t->ref(&a, all);
    a.y = buffer(SLOT_Y, y_count * sizeof *a.y, sizeof *a.y);
    check_matmul(t, &a, y_count, want, all);
    part.row0 = random_below(t, m);
    part.row1 = part.row0 + 1 + random_below(t, m - part.row0);
    part.col0 = 16 * random_below(t, panels);
    part.col1 = part.col0 + 16 * (1 + random_below(t, panels - part.col0 / 16));
    part.col1 = part.col1 < n ? part.col1 : n;
    check_matmul(t, &a, y_count, want, part);
}

void test_sparse(test *t)
{
    static const uint32_t ms[] = {1, 2, 3, 4, 5, 8, 17};
    static const uint32_t edges[] = {1, 2, 3, 5, 31, 32, 33, 47, 63, 64, 65, 95, 97, 127, 128, 129, 191, 193, 255, 257, 511, 513, 1025,
                                     1090, 2049};
    static const uint32_t shapes[][3] = {{1, 256, 2048}, {5, 64, 5632}, {129, 48, 160}, {67, 17, 2049}, {31, 100, 1100}, {1, 40, 3000},
                                         {40, 33, 130}};
    uint32_t next = 0;

    for (uint32_t n = 1; n <= 33; n += n % 16 == 1 ? 1 : 3)
        for (uint32_t k = 1; k <= 70; k += 3, next++)
            sparse_case(t, ms[next % ARRAY_COUNT(ms)], n, k, (keep)(next % KEEP_COUNT), (fill)random_below(t, FILL_COUNT),
                        (fill)random_below(t, FILL_COUNT));
    for (size_t i = 0; i < ARRAY_COUNT(ms); i++)
        for (size_t j = 0; j < ARRAY_COUNT(edges); j++)
            for (int kind = 0; kind < KEEP_COUNT; kind++, next++)
                sparse_case(t, ms[i], 1 + random_below(t, 50), edges[j], (keep)kind, (fill)(next % FILL_COUNT),
                            (fill)random_below(t, FILL_COUNT));
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++)
        for (int kind = 0; kind < KEEP_COUNT; kind++)
            sparse_case(t, shapes[i][0], shapes[i][1], shapes[i][2], (keep)kind, FILL_RANDOM, i % 2 ? FILL_EXTREME : FILL_RANDOM);
}

/* ---- the reference against the formula: codes and scales read as formats/SPEC.md says, not with the library ---- */

enum { MAX_N = 40, MAX_K = 300 };

static int code_at(const uint8_t *values, bool q8, size_t unit, uint32_t r, uint32_t j)
{
    if (q8)
        return (int8_t)values[64 * unit + 4 * r + j];
    return (values[32 * unit + 4 * (r % 8) + j] >> (r < 8 ? 0 : 4) & 15) - 8;
}

/* codes [n][k] of a matrix; returns where its scales are */
static const uint8_t *read_matrix(const uint8_t *w, infer_qtype type, infer_layout layout, uint32_t n, uint32_t k, int8_t *codes)
{
    size_t panels = (n + 15) / 16, blocks = (k + 63) / 64, lines = layout == INFER_LAYOUT_CSR ? n : panels;
    const uint32_t *pointers = (const uint32_t *)(const void *)w;
    const uint8_t *counts = w + (4 * (lines + 1) + 63) / 64 * 64, *positions = counts, *scales, *values;
    size_t positions_bytes = layout == INFER_LAYOUT_CSR        ? 2 * pointers[n]
                             : layout == INFER_LAYOUT_BITMASK  ? 128 * panels * blocks
                             : layout == INFER_LAYOUT_BCSR16X1 ? 4 * pointers[panels]
                                                               : 2 * panels * blocks;
    bool q8 = type == INFER_QTYPE_Q8G64;

    if (layout == INFER_LAYOUT_BCSR16X1)
        positions += (panels * blocks + 63) / 64 * 64;
    scales = positions + (positions_bytes + 63) / 64 * 64;
    values = scales + (panels * blocks * 32 + 63) / 64 * 64;
    memset(codes, 0, (size_t)n * k);
    for (uint32_t o = 0; o < n; o++) {
        size_t kept = 0, first = pointers[layout == INFER_LAYOUT_CSR ? o : o / 16];
        for (size_t b = 0; b < blocks && layout == INFER_LAYOUT_BCSR16X1; b++)
            for (uint32_t i = 0; i < counts[o / 16 * blocks + b]; i++, kept++)
                codes[(size_t)o * k + 64 * b + positions[4 * first + kept]] = (int8_t)code_at(values, q8, first + kept / 4, o % 16, kept % 4);
        for (uint32_t i = 0; i < k && layout == INFER_LAYOUT_BCSR16X4; i++)
            if (positions[2 * (o / 16 * blocks + i / 64) + i % 64 / 32] >> i % 32 / 4 & 1) {
                codes[(size_t)o * k + i] = (int8_t)code_at(values, q8, first + kept, o % 16, i % 4);
                kept += i % 4 == 3;
            }
        for (uint32_t i = pointers[o]; layout == INFER_LAYOUT_CSR && i < pointers[o + 1]; i++) {
            const uint8_t *input = positions + 2 * i;
            codes[(size_t)o * k + (input[0] | input[1] << 8)] = (int8_t)(q8 ? (int8_t)values[i] : (values[i / 2] >> (i % 2 * 4) & 15) - 8);
        }
    }
    for (size_t tile = 0, at = 0; layout == INFER_LAYOUT_BITMASK && tile < panels * blocks * 16; tile++, at += at % 2)
        for (uint32_t bit = 0; bit < 64; bit++)
            if (positions[8 * tile + bit / 8] >> bit % 8 & 1) {
                size_t o = tile / (16 * blocks) * 16 + bit / 4, i = tile % (16 * blocks) * 4 + bit % 4;
                codes[o * k + i] = (int8_t)(q8 ? (int8_t)values[at] : (values[at / 2] >> (at % 2 * 4) & 15) - 8);
                at++;
            }
    return scales;
}

static void formula_case(test *t, uint32_t m, uint32_t n, uint32_t k, keep kind)
{
    static int8_t codes[MAX_N * MAX_K];
    size_t bytes, blocks = (k + 63) / 64;
    infer_matmul_args a = {.m = m, .n = n, .k = k, .x_stride = k, .y_stride = n};
    uint8_t *w = make_matrix(t, t->kernel->type, t->kernel->layout, n, k, kind, FILL_RANDOM, &bytes);
    const uint8_t *scales = read_matrix(w, t->kernel->type, t->kernel->layout, n, k, codes);
    float *want = buffer(SLOT_WANT, (size_t)m * n * sizeof *want, sizeof *want);

    begin_case(t, "m %u n %u k %u kept %s", m, n, k, keep_names[kind]);
    make_inputs(t, &a, FILL_RANDOM);
    a.w = w;
    for (uint32_t r = 0; r < m; r++)
        for (uint32_t o = 0; o < n; o++) {
            float y = 0;
            for (size_t b = 0; b < blocks; b++) {
                const uint8_t *scale = scales + ((o / 16 * blocks + b) * 16 + o % 16) * 2;
                size_t first = r * (size_t)a.xq.row_groups;
                int32_t sum = 0;
                for (size_t i = 64 * b; i < 64 * b + 64 && i < k; i++)
                    sum += codes[(size_t)o * k + i] * a.xq.codes[32 * first + i];
                y = fmaf((float)sum, infer_ref_f16_to_f32((uint16_t)(scale[0] | scale[1] << 8)) * a.xq.scales[first + 2 * b], y);
            }
            want[(size_t)r * n + o] = y;
        }
    a.y = buffer(SLOT_Y, (size_t)m * n * sizeof *a.y, sizeof *a.y);
    check_matmul(t, &a, (size_t)m * n, want, (infer_region){0, m, 0, n});
}

void formula_sparse(test *t)
{
    for (uint32_t i = 0; i < 200; i++)
        formula_case(t, 1 + random_below(t, 3), 1 + random_below(t, MAX_N), 1 + random_below(t, MAX_K), (keep)(i % KEEP_COUNT));
}

/* ---- packing ---- */

static const infer_layout sparse_layouts[] = {INFER_LAYOUT_BCSR16X1, INFER_LAYOUT_BCSR16X4, INFER_LAYOUT_CSR, INFER_LAYOUT_BITMASK};
static const infer_qtype sparse_types[] = {INFER_QTYPE_Q8G64, INFER_QTYPE_Q4G64};

static void pack_case(test *t, infer_qtype type, infer_layout layout, uint32_t n, uint32_t k)
{
    static float rows[MAX_N * MAX_K], back[MAX_N * MAX_K];
    uint32_t share = random_below(t, 257);
    uint64_t units = 0, bytes = 0;
    infer_sparse_fault fault;
    void *w;

    begin_case(t, "%s %s [%u][%u]", infer_qtype_find(type)->name, infer_layout_name(layout), n, k);
    for (size_t i = 0; i < (size_t)n * k; i++)
        rows[i] = random_below(t, 256) < share ? random_unit(t) : 0;
    for (uint32_t r = 0; r < n; r += 16)
        units += infer_sparse_count(layout, rows + (size_t)r * k, n - r < 16 ? n - r : 16, k);
    CHECK(t, infer_sparse_bytes(type, layout, n, k, units, &bytes));
    w = buffer(SLOT_W, (size_t)bytes, layout == INFER_LAYOUT_CSR ? 4 : 32);
    infer_sparse_begin(type, layout, n, k, units, w);
    for (uint32_t r = 0; r < n; r += 16)
        CHECK(t, infer_sparse_pack_panel(type, layout, n, k, r / 16, rows + (size_t)r * k, w));
    check_canaries(t, SLOT_W);
    CHECK(t, infer_sparse_check(type, layout, n, k, w, bytes, &fault));
    infer_sparse_unpack(type, layout, w, n, k, 0, n, back);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t i = 0; i < k; i += 64) {
            uint32_t width = k - i < 64 ? k - i : 64;
            float most = 0;
            double scale_error = (type == INFER_QTYPE_Q8G64 ? 127 : 8) * 0x1p-25; /* of a subnormal scale, times the largest code */
            for (uint32_t j = 0; j < width; j++)
                most = most > (float)fabsf(rows[r * k + i + j]) ? most : (float)fabsf(rows[r * k + i + j]);
            for (uint32_t j = 0; j < width; j++)
                check_near(t, back[r * k + i + j], rows[r * k + i + j],
                           rows[r * k + i + j] == 0 ? 0 : most * (type == INFER_QTYPE_Q8G64 ? 0.0045 : 0.126) + scale_error, "number");
        }
}

void unit_pack_sparse(test *t)
{
    for (uint32_t i = 0; i < 240; i++)
        pack_case(t, sparse_types[i % 2], sparse_layouts[i / 2 % 4], 1 + random_below(t, MAX_N), 1 + random_below(t, MAX_K));
}

/* Whatever pointers and positions are: found out, or harmless. */
void unit_check_sparse(test *t)
{
    uint32_t found = 0, harmless = 0;

    for (uint32_t i = 0; i < 6000; i++) {
        infer_qtype type = sparse_types[i % 2];
        infer_layout layout = sparse_layouts[i / 2 % 4];
        uint32_t n = 1 + random_below(t, MAX_N), k = 1 + random_below(t, MAX_K);
        infer_matmul_args a = {.m = 1, .n = n, .k = k, .x_stride = k, .y_stride = n};
        size_t bytes, scales_at, at;
        uint8_t *w = make_matrix(t, type, layout, n, k, (keep)(i % KEEP_COUNT), FILL_RANDOM, &bytes);
        infer_sparse_fault fault = {0};

        begin_case(t, "%s %s [%u][%u]", infer_qtype_find(type)->name, infer_layout_name(layout), n, k);
        CHECK(t, infer_sparse_check(type, layout, n, k, w, bytes, &fault));
        CHECK(t, !infer_sparse_check(type, layout, n, k, w, bytes - 1, &fault) && fault.what);
        CHECK(t, !infer_sparse_bytes_fit(type, layout, n, k, UINT64_MAX - i) && !infer_sparse_bytes_fit(type, layout, n, k, i % 64));
        scales_at = (size_t)((const uint8_t *)infer_sparse_at(layout, w, n, k).scales - w);
        at = random_below(t, (uint32_t)scales_at);
        w[at] ^= (uint8_t)(1 + random_below(t, 255));
        if (!infer_sparse_check(type, layout, n, k, w, bytes, &fault)) {
            CHECK(t, fault.what);
            found++;
            continue;
        }
        make_inputs(t, &a, FILL_RANDOM);
        a.w = w;
        a.y = buffer(SLOT_Y, n * sizeof *a.y, sizeof *a.y);
        infer_kernel_find(INFER_OP_MATMUL, type, layout, infer_cpu_best(infer_cpu_levels_here()))->fn(&a, (infer_region){0, 1, 0, n});
        harmless++; /* padding, or another input */
    }
    CHECK(t, found > 1000 && harmless > 100);
}
