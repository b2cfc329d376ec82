/* Causal attention with grouped queries over the cache, in chunks of INFER_ATTENTION_CHUNK positions that are merged in rising order. */
#include "kernels.h"
#include "mathf.h"

/* Element i of a cache, as a float. */
typedef float cache_fn(const void *cache, size_t i);

static float cache_f32(const void *cache, size_t i) { return ((const float *)cache)[i]; }
static float cache_f16(const void *cache, size_t i) { return infer_ref_f16_to_f32(((const uint16_t *)cache)[i]); }

/* The softmax so far: weights are relative to exp(max). */
typedef struct state {
    float max, sum;
    float out[INFER_MAX_HEAD_DIM];
} state;

/* Positions j0..j1 of one chunk, one query. */
static inline void attend_chunk(const infer_attention_args *a, const float *q, uint32_t kv_head, uint32_t j0, uint32_t j1, cache_fn *cache,
                                state *c)
{
    float p[INFER_ATTENTION_CHUNK], partial[16] = {0};

    c->max = -INFINITY;
    for (uint32_t j = j0; j < j1; j++) {
        size_t tile = ((size_t)kv_head * (a->positions / 16) + j / 16) * a->head_dim * 16;
        float dot = 0;
        for (uint32_t d = 0; d < a->head_dim; d++)
            dot = fmaf(q[d], cache(a->k, tile + d * 16 + j % 16), dot);
        p[j - j0] = dot * a->scale;
        c->max = p[j - j0] > c->max ? p[j - j0] : c->max;
    }
    for (uint32_t j = j0; j < j1; j++) {
        p[j - j0] = infer_ref_expf(p[j - j0] - c->max);
        partial[j % 16] += p[j - j0];
    }
    c->sum = infer_ref_fold16(partial);
    for (uint32_t d = 0; d < a->head_dim; d++) {
        c->out[d] = 0;
        for (uint32_t j = j0; j < j1; j++)
            c->out[d] = fmaf(p[j - j0], cache(a->v, ((size_t)kv_head * a->positions + j) * a->head_dim + d), c->out[d]);
    }
}

static void merge(state *s, const state *c, uint32_t head_dim)
{
    float max = c->max > s->max ? c->max : s->max;
    float old_weight = infer_ref_expf(s->max - max), new_weight = infer_ref_expf(c->max - max);

    s->max = max;
    s->sum = fmaf(s->sum, old_weight, c->sum * new_weight);
    for (uint32_t d = 0; d < head_dim; d++)
        s->out[d] = fmaf(s->out[d], old_weight, c->out[d] * new_weight);
}

static inline void attention(const infer_attention_args *a, infer_region at, cache_fn *cache)
{
    uint32_t share = a->heads / a->kv_heads; /* query heads of a KV head */

    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t end = a->pos0 + t + 1;
        for (uint32_t h = at.col0 / a->head_dim; h < at.col1 / a->head_dim; h++) {
            const float *q = a->q + (size_t)t * a->q_stride + (size_t)h * a->head_dim;
            float *y = a->y + (size_t)t * a->y_stride + (size_t)h * a->head_dim, inverse;
            state s, c;
            for (uint32_t j0 = 0; j0 < end; j0 += INFER_ATTENTION_CHUNK) {
                uint32_t j1 = end - j0 < INFER_ATTENTION_CHUNK ? end : j0 + INFER_ATTENTION_CHUNK;
                attend_chunk(a, q, h / share, j0, j1, cache, j0 == 0 ? &s : &c);
                if (j0 > 0)
                    merge(&s, &c, a->head_dim);
            }
            inverse = 1.0f / s.sum;
            for (uint32_t d = 0; d < a->head_dim; d++)
                y[d] = s.out[d] * inverse;
        }
    }
}

void attention_f32__ref(const void *args, infer_region at) { attention(args, at, cache_f32); }
void attention_f16__ref(const void *args, infer_region at) { attention(args, at, cache_f16); }
