/*
 * The frame of the matmuls with weights in bcsr16x1, bcsr16x4, csr and bitmask: what a block's units meet, scales, output. A kernel gives
 * `block`, which turns a block's units into exact int32 sums.
 *
 * A block's kept activations are brought together once for each token, by TBL out of its 64 (bcsr16x1: by the inputs' numbers) or four by
 * four (bcsr16x4). Numbers of csr and bitmask are put back to their places, in units of all of a block's inputs; `block` is then that of
 * q8g64. A block's weights meet all tokens before the next block's: they stay in L1, and outputs in memory.
 */
#ifndef INFER_KERNELS_NEON_MATMUL_SPARSE_H
#define INFER_KERNELS_NEON_MATMUL_SPARSE_H

#include "expand8.h"
#include "neon.h"
#include "sparse.h"

enum { INFER_SPARSE_MAX_TOKENS = 3 }; /* with SDOT; of four, two sums would be spilled (gcc 12) */

/* What the units of a block meet, of a token: inputs counted from the first unit's first, 67 at most. Others' activations in the first and
 * the last unit are zeros, and so is a unit's four behind the last. */
typedef struct infer_sparse_x {
    _Alignas(16) int8_t x[80];
    int32_t sum;
} infer_sparse_x;

/* sum[t][v]: outputs of token t, rows 4v..4v + 3: `units` units, one after the other, x their activations. */
typedef void infer_sparse_block_fn(int32x4_t sum[INFER_SPARSE_MAX_TOKENS][4], const uint8_t *values, uint32_t units,
                                   const infer_sparse_x *x, uint32_t tokens);

/* Four activations, in all four places. */
INFER_ALWAYS_INLINE int8x16_t infer_sparse_four(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* bcsr16x1: inputs first..end - 1 of those that have the numbers from `numbers` on; scales follow these, so that 15 bytes too many do no
 * harm. */
static inline void infer_sparse_gather(infer_sparse_x *out, const int8_t *codes, bool both, const uint8_t *numbers, uint32_t first,
                                       uint32_t end)
{
    static const uint8_t places[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const int8x16_t none = vdupq_n_s8(0);
    const int8x16x4_t block = {
        {vld1q_s8(codes), vld1q_s8(codes + 16), both ? vld1q_s8(codes + 32) : none, both ? vld1q_s8(codes + 48) : none}};
    uint8x16_t place = vsubq_u8(vld1q_u8(places), vdupq_n_u8((uint8_t)first)), count = vdupq_n_u8((uint8_t)(end - first));
    int32_t sum = 0;

    for (uint32_t i = 0; i < end; i += 16, place = vaddq_u8(place, vdupq_n_u8(16))) {
        int8x16_t x = vandq_s8(vqtbl4q_s8(block, vld1q_u8(numbers + i)), vreinterpretq_s8_u8(vcltq_u8(place, count)));
        vst1q_s8(out->x + i, x);
        sum += vaddlvq_s8(x);
    }
    out->sum = sum;
}

/* bcsr16x4: the fours that the mask has. */
static inline void infer_sparse_fours_of(infer_sparse_x *out, const int8_t *codes, uint32_t mask)
{
    int8_t *to = out->x;
    int32_t sum = 0;

    for (; mask; mask &= mask - 1, to += 4) {
        memcpy(to, codes + 4 * __builtin_ctz(mask), 4);
        sum += to[0] + to[1] + to[2] + to[3];
    }
    memset(to, 0, 4);
    out->sum = sum;
}

/* y += float(sums) * (weight scales * activation scale), 16 rows */
static inline void infer_sparse_add(float *y, const int32x4_t sum[4], const uint16_t *scales, float x_scale)
{
    for (uint32_t v = 0; v < 4; v++)
        vst1q_f32(y + 4 * v,
                  vfmaq_f32(vld1q_f32(y + 4 * v), vcvtq_f32_s32(sum[v]), vmulq_n_f32(infer_neon_f16x4(scales + 4 * v), x_scale)));
}

/* bitmask: tiles [16][64] of codes; returns where the block's numbers end. Sixteen weights at a time are brought to their places by a
 * table for each eight bits of the mask, the second eight's places moved behind the first ones' numbers. */
static inline const uint8_t *infer_sparse_expand(uint8_t *tiles, const uint64_t *masks, const uint8_t *values, infer_qtype type)
{
    const uint8_t *bits = (const uint8_t *)masks, *numbers = values;
    uint8_t counts[128], bytes[16 * INFER_SPARSE_BLOCK + 16]; /* q4g64: numbers as bytes; up to 15 bytes of values are read too much */
    uint32_t units = 0;

    for (uint32_t i = 0; i < 128; i += 16)
        vst1q_u8(counts + i, vcntq_u8(vld1q_u8(bits + i)));
    for (uint32_t c = 0; c < 16; c++)
        units += (vaddv_u8(vld1_u8(counts + 8 * c)) + 1u) / 2;
    for (uint32_t i = 0; type == INFER_QTYPE_Q4G64 && i < units; i += 16) {
        uint8x16_t both = vld1q_u8(values + i), eight = vdupq_n_u8(8);
        uint8x16x2_t pair = {{vsubq_u8(vandq_u8(both, vdupq_n_u8(15)), eight), vsubq_u8(vshrq_n_u8(both, 4), eight)}};
        vst2q_u8(bytes + 2 * i, pair);
        numbers = bytes;
    }
    for (uint32_t c = 0; c < 16; c++) {
        uint32_t at = 0;
        for (uint32_t i = 8 * c; i < 8 * c + 8; i += 2, tiles += 16) {
            uint8x8_t second = vadd_u8(vld1_u8(infer_expand8[bits[i + 1]]), vdup_n_u8(counts[i]));
            vst1q_u8(tiles, vqtbl1q_u8(vld1q_u8(numbers + at), vcombine_u8(vld1_u8(infer_expand8[bits[i]]), second)));
            at += counts[i] + counts[i + 1];
        }
        numbers += (at + 1) / 2 * 2;
    }
    return values + units * infer_sparse_mask_unit_bytes(type);
}

/* Where a block is: first and end as infer_sparse_gather takes them; mask: bcsr16x4. */
typedef struct infer_sparse_place {
    const uint8_t *values, *numbers;
    const uint16_t *scales;
    uint32_t first, end, mask, units;
} infer_sparse_place;

/* y[t] += block b x tokens t0 + t; t below `tokens`, a constant. */
INFER_ALWAYS_INLINE void infer_sparse_tokens(const infer_matmul_args *a, const infer_sparse_place *p, size_t b, uint32_t t0,
                                             uint32_t tokens, float (*y)[16], infer_sparse_block_fn *block)
{
    infer_sparse_x x[INFER_SPARSE_MAX_TOKENS];
    int32x4_t sum[INFER_SPARSE_MAX_TOKENS][4];

    for (uint32_t t = 0; t < tokens; t++) {
        const int8_t *codes = a->xq.codes + 32 * ((t0 + t) * (size_t)a->xq.row_groups + 2 * b);
        if (p->numbers)
            infer_sparse_gather(&x[t], codes, 2 * b + 1 < infer_q8_groups(a->k), p->numbers, p->first, p->end);
        else
            infer_sparse_fours_of(&x[t], codes, p->mask);
    }
    block(sum, p->values, p->units, x, tokens);
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++)
        infer_sparse_add(y[t], sum[t], p->scales, a->xq.scales[(t0 + t) * (size_t)a->xq.row_groups + 2 * b]);
}

/* Tokens in blocks of `most`, the remaining ones one by one; both constants. */
INFER_ALWAYS_INLINE void infer_sparse_matmul(const infer_matmul_args *a, infer_region at, infer_qtype type, infer_layout layout,
                                             infer_sparse_block_fn *block, uint32_t most)
{
    infer_sparse s = infer_sparse_at(layout, a->w, a->n, a->k);
    float y[INFER_NEON_TOKENS_IN_CACHE][16];
    uint8_t tiles[16 * INFER_SPARSE_BLOCK]; /* csr, bitmask */

    for (uint32_t t0 = at.row0; t0 < at.row1; t0 += INFER_NEON_TOKENS_IN_CACHE) {
        uint32_t count = at.row1 - t0 < INFER_NEON_TOKENS_IN_CACHE ? at.row1 - t0 : INFER_NEON_TOKENS_IN_CACHE;
        for (uint32_t o = at.col0; o < at.col1; o += 16) {
            const bool ones = layout == INFER_LAYOUT_BCSR16X1, numbers = layout == INFER_LAYOUT_CSR || layout == INFER_LAYOUT_BITMASK;
            const uint8_t *values = s.values + s.pointers[o / 16] * infer_sparse_mask_unit_bytes(type); /* bitmask */
            infer_sparse_place p = {.values = numbers ? tiles : s.values + s.pointers[o / 16] * infer_sparse_unit_bytes(type),
                                    .numbers = ones ? infer_sparse_inputs(&s, o / 16) : NULL,
                                    .scales = s.scales + o / 16 * s.blocks * 16};
            uint32_t next[16];
            memset(y, 0, count * sizeof y[0]);
            for (size_t b = 0; b < s.blocks; b++, p.scales += 16) {
                const bool both = 2 * b + 1 < infer_q8_groups(a->k);
                uint32_t t = 0, whole;
                if (layout == INFER_LAYOUT_BITMASK)
                    values = infer_sparse_expand(tiles, infer_sparse_masks(&s, o / 16, b), values, type);
                else if (numbers)
                    infer_sparse_csr_tiles(&s, type, o, a->n, b, 1, next, 0, tiles);
                p.end = ones ? p.first + s.counts[o / 16 * s.blocks + b] : 0;
                p.mask = ones ? 0 : !numbers ? infer_sparse_fours(&s, o / 16, b) : both ? 0xffff : 0xff;
                p.units = ones ? (p.end + 3) / 4 : (uint32_t)__builtin_popcount(p.mask);
                for (; t + most <= count; t += most)
                    infer_sparse_tokens(a, &p, b, t0 + t, most, y + t, block);
                for (; t < count; t++)
                    infer_sparse_tokens(a, &p, b, t0 + t, 1, y + t, block);
                whole = ones ? p.end / 4 : numbers ? 0 : p.units; /* a unit that is not full is the next block's first */
                p.values += whole * infer_sparse_unit_bytes(type);
                if (ones)
                    p.numbers += 4 * whole;
                p.first = p.end % 4;
            }
            for (uint32_t t = 0; t < count; t++)
                memcpy(a->y + (size_t)(t0 + t) * a->y_stride + o, y[t], (at.col1 - o < 16 ? at.col1 - o : 16) * sizeof(float));
        }
    }
}

#endif
