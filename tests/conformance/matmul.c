/* Operations that read weights. */
#include "conformance.h"

#include "cols.h"
#include "pack/pack.h"
#include "ref/mathf.h"
#include "tile16x4.h"

#include <string.h>

/* Tensors are 64-byte aligned, yet panel groups with scales are multiples of 32 bytes, so kernels can rely on no more; 32 lets every one of
 * these buffers end exactly at the guard page. */
static size_t weight_align(infer_qtype type) { return infer_qtype_find(type)->panel_bytes % 64 ? 32 : 64; }

/* Outputs at whose multiples regions are cut. */
static uint32_t grain(infer_qtype type)
{
    uint32_t bits = infer_qtype_find(type)->cols_bits;
    return bits ? (uint32_t)infer_cols_stripe_outputs(bits) : 16;
}

/* ---- weights: every byte is filled, padding with anything at all, since it must not show ---- */

uint16_t random_scale(test *t, fill f)
{
    static const uint16_t special[] = {0x7c00, 0xfc00, 0x7e00, 0x0000, 0x8000, 0x0001, 0x7bff};

    switch (f) {
    case FILL_SPECIAL:
        if (random_below(t, 4) == 0)
            return special[random_below(t, ARRAY_COUNT(special))];
        return infer_ref_f32_to_f16(random_unit(t));
    case FILL_WIDE:
        return (uint16_t)(random_below(t, 0x7c00) | (random_below(t, 2) ? 0x8000 : 0));
    case FILL_ZERO:
        return 0;
    default:
        return infer_ref_f32_to_f16(random_unit(t));
    }
}

/* A panel: 16 float scales, then codes of any two bits. */
static void fill_ternary(test *t, uint8_t *panel, size_t bytes, fill f)
{
    float scales[16];

    fill_floats(t, scales, 16, f);
    memcpy(panel, scales, sizeof scales);
    for (size_t i = sizeof scales; i < bytes; i++) {
        int8_t codes[4];
        fill_ints(t, codes, 4, 0, 3, f == FILL_ZERO ? FILL_RANDOM : f);
        panel[i] = (uint8_t)(codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6);
    }
}

/* Factors, scales and codes; those of inputs and outputs that do not exist too. */
static void fill_cols(test *t, uint32_t bits, uint8_t *w, uint32_t n, uint32_t k, fill f)
{
    infer_cols c = infer_cols_at(w, n, k, bits);

    fill_floats(t, (float *)(void *)w, c.groups * INFER_COLS_GROUP + c.padded, f);
    for (size_t o = 0, width; o < c.padded; o += width) {
        infer_cols_stripe s = infer_cols_stripe_of(&c, o);
        width = s.width;
        for (size_t g = 0; g < c.groups; g++) {
            uint8_t *group = (uint8_t *)infer_cols_group(&c, &s, g);
            for (size_t i = 0; i < width; i++)
                group[i] = (uint8_t)random_below(t, 256);
            fill_ints(t, (int8_t *)group + width, INFER_COLS_GROUP * infer_cols_codes_bytes(width, bits), -127, 127, f);
        }
    }
}

static void fill_weights(test *t, infer_qtype type, uint8_t *w, size_t bytes, uint32_t n, uint32_t k, fill f)
{
    const infer_qtype_info *info = infer_qtype_find(type);
    if (info->cols_bits) {
        fill_cols(t, info->cols_bits, w, n, k, f);
        return;
    }
    size_t step = type == INFER_QTYPE_T2R ? (size_t)infer_panel_bytes(type, k) : info->panel_bytes;

    for (uint8_t *group = w; group < w + bytes; group += step) {
        float x[64];
        switch (type) {
        case INFER_QTYPE_T2R:
            fill_ternary(t, group, step, f);
            break;
        case INFER_QTYPE_Q8G32:
        case INFER_QTYPE_Q4G32:
        case INFER_QTYPE_N4G32:
            for (uint32_t r = 0; r < 16; r++) {
                uint16_t scale = random_scale(t, f);
                memcpy(group + 2 * r, &scale, sizeof scale);
            }
            if (type == INFER_QTYPE_Q8G32) {
                fill_ints(t, (int8_t *)group + 32, info->panel_bytes - 32, -127, 127, f);
            } else {
                for (uint32_t i = 32; i < info->panel_bytes; i++) {
                    int8_t nibbles[2];
                    fill_ints(t, nibbles, 2, 0, 15, f == FILL_ZERO ? FILL_RANDOM : f);
                    group[i] = (uint8_t)(nibbles[0] | nibbles[1] << 4);
                }
            }
            break;
        default:
            fill_floats(t, x, 64, f);
            for (uint32_t i = 0; i < 64; i++) {
                uint16_t half = type == INFER_QTYPE_F16 ? infer_ref_f32_to_f16(x[i]) : infer_ref_f32_to_bf16(x[i]);
                if (type == INFER_QTYPE_F32)
                    memcpy(group + 4 * i, &x[i], sizeof x[i]);
                else
                    memcpy(group + 2 * i, &half, sizeof half);
            }
        }
    }
    /* The last group's inputs from k on take no part, whatever they are. */
    if (info->group == 4 && k % 4) {
        size_t panel_bytes = (size_t)infer_panel_bytes(type, k), element = info->panel_bytes / 64;
        for (uint8_t *panel = w; panel < w + bytes; panel += panel_bytes)
            for (uint32_t r = 0; r < 16; r++)
                for (uint32_t j = k % 4; j < 4; j++)
                    memset(panel + panel_bytes - info->panel_bytes + (4 * r + j) * element, 0xff, element); /* NaN */
    }
}

/* ---- matmul ---- */

static void check_matmul(test *t, const infer_matmul_args *args, float *y, size_t y_count, const float *want, infer_region at)
{
    memset(y, CANARY, y_count * sizeof *y);
    t->kernel->fn(args, at);
    check_region(t, y, want, args->m, args->y_stride, at);
    check_canaries(t, SLOT_Y);
}

static void matmul_case(test *t, uint32_t m, uint32_t n, uint32_t k, fill weight_fill, fill x_fill)
{
    if (skip_case(t))
        return;

    infer_qtype type = t->kernel->type;
    bool is_float = infer_qtype_find(type)->group == 4;
    uint32_t parts = (n + grain(type) - 1) / grain(type);
    uint64_t bytes = 0;
    infer_matmul_args a = {.m = m, .n = n, .k = k, .x_stride = k + random_below(t, 3), .y_stride = n + random_below(t, 3)};
    size_t x_count = (size_t)(m - 1) * a.x_stride + k, y_count = (size_t)m * a.y_stride;
    infer_region all = {0, m, 0, n}, part;
    uint8_t *w;
    infer_tensor_bytes(type, infer_matrix_layout(type), n, k, &bytes);
    w = buffer(SLOT_W, (size_t)bytes, weight_align(type));
    float *x = buffer(SLOT_X, x_count * sizeof *x, sizeof *x), *y, *want;

    begin_case(t, "m %u n %u k %u weights %s x %s", m, n, k, fill_name(weight_fill), fill_name(x_fill));
    fill_weights(t, type, w, (size_t)bytes, n, k, weight_fill);
    fill_floats(t, x, x_count, x_fill);
    a.w = w;
    if (is_float) {
        a.x = x;
    } else {
        size_t row_groups = infer_q8_groups(k) + random_below(t, 3), groups = (m - 1) * row_groups + infer_q8_groups(k);
        /* in half of the cases some inputs are silent, up to all of them */
        infer_quantize_args q = {.x = x, .m = m, .k = k, .x_stride = a.x_stride, .group = infer_qtype_find(type)->group,
                                 .threshold = random_below(t, 2) ? 0 : 1.2f * fabsf(random_unit(t))};
        a.xq.row_groups = (uint32_t)row_groups;
        a.xq.codes = buffer(SLOT_CODES, groups * 32, 32);
        a.xq.scales = buffer(SLOT_SCALES, groups * sizeof(float), sizeof(float));
        a.xq.offset8 = buffer(SLOT_OFFSET8, groups * 2 * sizeof(int16_t), 2 * sizeof(int16_t));
        q.y = a.xq;
        infer_kernel_find(INFER_OP_QUANTIZE, INFER_QTYPE_NONE, INFER_LAYOUT_NONE, INFER_CPU_REF)->fn(&q, (infer_region){0, m, 0, k});
    }
    want = buffer(SLOT_WANT, y_count * sizeof *want, sizeof *want);
    a.y = want;
    t->ref(&a, all);
    y = buffer(SLOT_Y, y_count * sizeof *y, sizeof *y);
    a.y = y;
    check_matmul(t, &a, y, y_count, want, all);

    part.row0 = random_below(t, m);
    part.row1 = part.row0 + 1 + random_below(t, m - part.row0);
    part.col0 = grain(type) * random_below(t, parts);
    part.col1 = part.col0 + grain(type) * (1 + random_below(t, parts - part.col0 / grain(type)));
    part.col1 = part.col1 < n ? part.col1 : n;
    check_matmul(t, &a, y, y_count, want, part);
}

void test_matmul(test *t)
{
    static const uint32_t ms[] = {1, 2, 3, 4, 5, 7, 8, 16, 17};
    static const uint32_t edges[] = {31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 97, 127, 128, 129, 255, 256, 257, 511, 513, 1025};
    /* stories260K, TinyStories-656K, a 15M, a slice of a 1B; and token counts that cross the blocks a kernel may use */
    static const uint32_t shapes[][3] = {{1, 172, 64},   {9, 64, 172},   {1, 512, 64},   {33, 128, 384},  {66, 288, 768},  {1, 768, 288},
                                         {1, 256, 2048}, {5, 64, 5632},  {129, 48, 160}, {257, 17, 2049}, {31, 100, 1100}, {6, 320, 33},
                                         {1, 1025, 130}, {1, 4300, 100}, {19, 4200, 97}, {1, 1200, 200},  {1, 130, 16500}, {1, 300, 700},
                                         {1, 2600, 1000}, {1, 600, 7800}};
    uint32_t next = 0;

    if (infer_layout_sparse(t->kernel->layout)) {
        test_sparse(t);
        return;
    }
    for (uint32_t n = 1; n <= 33; n++)
        for (uint32_t k = 1; k <= 33; k++)
            for (size_t i = 0; i < 2; i++, next++)
                matmul_case(t, ms[next % ARRAY_COUNT(ms)], n, k, (fill)random_below(t, FILL_COUNT), (fill)random_below(t, FILL_COUNT));
    for (size_t i = 0; i < ARRAY_COUNT(ms); i++)
        for (size_t j = 0; j < ARRAY_COUNT(edges); j++, next++)
            matmul_case(t, ms[i], 1 + random_below(t, 50), edges[j], (fill)(next % FILL_COUNT), (fill)random_below(t, FILL_COUNT));
    for (int weights = 0; weights < FILL_COUNT; weights++)
        for (int x = 0; x < FILL_COUNT; x++)
            for (uint32_t m = 1; m <= 4; m += 3)
                matmul_case(t, m, 33, 100, (fill)weights, (fill)x);
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++)
        matmul_case(t, shapes[i][0], shapes[i][1], shapes[i][2], FILL_RANDOM, i % 2 ? FILL_EXTREME : FILL_RANDOM);
}

/* ---- embed ---- */

static void embed_case(test *t, uint32_t m, uint32_t n, uint32_t k, fill f)
{
    if (skip_case(t))
        return;

    infer_qtype type = t->kernel->type;
    uint32_t blocks = (k + 31) / 32;
    size_t bytes = (n + 15) / 16 * (size_t)infer_panel_bytes(type, k), y_count;
    uint8_t *w = buffer(SLOT_W, bytes, weight_align(type));
    int32_t *ids = buffer(SLOT_IDS, m * sizeof *ids, sizeof *ids);
    bool positions = m <= n && random_below(t, 2);
    infer_embed_args a = {.w = w, .ids = positions ? NULL : ids, .m = m, .n = n, .k = k, .y_stride = k + random_below(t, 3),
                          .pos0 = positions ? random_below(t, n - m + 1) : 0, .scale = random_below(t, 2) ? 1.0f : random_unit(t) * 50};
    infer_region all = {0, m, 0, k}, part;
    float *want;

    begin_case(t, "m %u n %u k %u weights %s%s scale %a", m, n, k, fill_name(f), positions ? " by position" : "", a.scale);
    fill_weights(t, type, w, bytes, n, k, f);
    for (uint32_t i = 0; i < m; i++)
        ids[i] = (int32_t)random_below(t, n);
    y_count = (size_t)m * a.y_stride;
    want = a.y = buffer(SLOT_WANT, y_count * sizeof(float), sizeof(float));
    t->ref(&a, all);

    a.y = buffer(SLOT_Y, y_count * sizeof(float), sizeof(float));
    t->kernel->fn(&a, all);
    check_region(t, a.y, want, m, a.y_stride, all);
    check_canaries(t, SLOT_Y);

    part.row0 = random_below(t, m);
    part.row1 = part.row0 + 1 + random_below(t, m - part.row0);
    part.col0 = 32 * random_below(t, blocks);
    part.col1 = part.col0 + 32 * (1 + random_below(t, blocks - part.col0 / 32));
    part.col1 = part.col1 < k ? part.col1 : k;
    memset(a.y, CANARY, y_count * sizeof(float));
    t->kernel->fn(&a, part);
    check_region(t, a.y, want, m, a.y_stride, part);
    check_canaries(t, SLOT_Y);
}

void test_embed(test *t)
{
    for (uint32_t n = 1; n <= 33; n += 4)
        for (uint32_t k = 1; k <= 67; k++)
            embed_case(t, 1 + random_below(t, 5), n, k, (fill)random_below(t, FILL_COUNT));
    embed_case(t, 9, 512, 64, FILL_RANDOM);
    embed_case(t, 3, 105, 2048, FILL_RANDOM);
}
