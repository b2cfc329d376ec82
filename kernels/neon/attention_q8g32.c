/*
 * Attention over a cache of int8 codes: see attention_block.h. The keys of a head lie as weights of a matmul do, positions being its rows,
 * and a score's sum is the matmul's: that kernel computes it, with the quantized queries as its tokens. The values' weights are p times the
 * scale of the position's group.
 */
#include "attention_block.h"

static void quantize_queries(block *b)
{
    uint32_t head_dim = b->a->head_dim;
    infer_quantize_args args = {.y = infer_q8_rows_at(b->quantized, QUERIES, head_dim), .m = 1, .k = head_dim, .x_stride = head_dim,
                                .group = 32};

    for (uint32_t i = 0; i < b->count; i++) {
        args.x = b->q[i];
        quantize__neon(&args, (infer_region){0, 1, 0, head_dim});
        args.y.codes += 32 * args.y.row_groups;
        args.y.scales += args.y.row_groups;
        args.y.offset8 += 2 * args.y.row_groups;
    }
}

static void score(block *b, uint32_t j0, uint32_t tiles)
{
    const infer_attention_args *a = b->a;
    infer_matmul_args args = {.w = (const uint8_t *)a->k + infer_cache_q8_offset(b->kv_head, a->positions, j0, a->head_dim, 0),
                              .xq = infer_q8_rows_at(b->quantized, QUERIES, a->head_dim),
                              .y = b->s[0], .m = b->count, .n = 16 * tiles, .k = a->head_dim, .y_stride = CHUNK};

    b->type->matmul(&args, (infer_region){0, b->count, 0, 16 * tiles});
    for (uint32_t i = 0; i < b->count; i++)
        for (uint32_t j = 0; j < 16 * tiles; j++)
            b->s[i][j] *= a->scale;
}

static inline void load16(const values *v, uint32_t j, float32x4_t out[4])
{
    int8x16_t codes = vld1q_s8((const int8_t *)v->first + j / 16 * v->stride + j % 16 * 32);
    int16x8_t low = vmovl_s8(vget_low_s8(codes)), high = vmovl_high_s8(codes);

    out[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
    out[1] = vcvtq_f32_s32(vmovl_high_s16(low));
    out[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
    out[3] = vcvtq_f32_s32(vmovl_high_s16(high));
}

/* weights[j] = p[j] * the scale of position j, for all tiles in use */
static inline void scale_weights(const block *b, const uint8_t *group, size_t stride, float weights[CHUNK][QUERIES])
{
    for (uint32_t j = 0; j < b->most; j += 16, group += stride) {
        float32x4x2_t low = infer_neon_f16x8(group), high = infer_neon_f16x8(group + 16);
        float scales[16];
        vst1q_f32(scales, low.val[0]);
        vst1q_f32(scales + 4, low.val[1]);
        vst1q_f32(scales + 8, high.val[0]);
        vst1q_f32(scales + 12, high.val[1]);
#pragma GCC unroll 4
        for (uint32_t k = 0; k < 16; k++)
            vst1q_f32(weights[j + k], vmulq_n_f32(vld1q_f32(b->p[j + k]), scales[k]));
    }
}

static void weigh(block *b, uint32_t j0)
{
    const infer_attention_args *a = b->a;
    size_t stride = (size_t)infer_cache_groups(a->head_dim) * INFER_TILE_Q8_GROUP_BYTES;
    float weights[CHUNK][QUERIES];

    for (uint32_t d = 0; d < a->head_dim; d += 16) {
        const uint8_t *group = (const uint8_t *)a->v + infer_cache_q8_offset(b->kv_head, a->positions, j0, a->head_dim, d / 32);
        values v = {group + infer_cache_q8_v_codes(0) + d % 32, stride};
        if (d % 32 == 0)
            scale_weights(b, group, stride, weights);
        EACH_COUNT(weigh16, b->count, b, &v, weights, d, load16)
    }
}

void infer_neon_attention_q8g32(const infer_attention_args *a, infer_region at, infer_kernel_fn *matmul)
{
    const cache_type q8g32 = {quantize_queries, score, weigh, matmul};
    attention(a, at, &q8g32);
}

void infer_neon_attention_chunks_q8g32(const infer_attention_args *a, infer_region at, infer_kernel_fn *matmul)
{
    const cache_type q8g32 = {quantize_queries, score, weigh, matmul};
    attention_chunks(a, at, &q8g32);
}

void attention_q8g32__neon(const void *args, infer_region at)
{
    infer_neon_attention_q8g32(args, at, matmul_q8g32_tile16x4__neon);
}
void attention_chunks_q8g32__neon(const void *args, infer_region at)
{
    infer_neon_attention_chunks_q8g32(args, at, matmul_q8g32_tile16x4__neon);
}
