/* Causal attention with grouped queries over the cache, in chunks of INFER_ATTENTION_CHUNK positions that are merged in rising order. */
#include "attention.h"
#include "quantize.h"

/* One query; codes and scales for q8g32 only. */
typedef struct query {
    const float *x;
    int8_t codes[INFER_MAX_HEAD_DIM];
    float scales[INFER_MAX_HEAD_DIM / 32];
} query;

/* What the types of cache differ in: q . k[j], and out += p * v[j]. */
typedef float dot_fn(const infer_attention_args *a, const query *q, uint32_t kv_head, uint32_t j);
typedef void add_fn(const infer_attention_args *a, uint32_t kv_head, uint32_t j, float p, float *out);

static float dot_f32(const infer_attention_args *a, const query *q, uint32_t kv_head, uint32_t j)
{
    const float *k = a->k;
    float dot = 0;

    for (uint32_t d = 0; d < a->head_dim; d++)
        dot = fmaf(q->x[d], k[infer_cache_k_index(kv_head, a->positions, j, a->head_dim, d)], dot);
    return dot;
}

static float dot_f16(const infer_attention_args *a, const query *q, uint32_t kv_head, uint32_t j)
{
    const uint16_t *k = a->k;
    float dot = 0;

    for (uint32_t d = 0; d < a->head_dim; d++)
        dot = fmaf(q->x[d], infer_ref_f16_to_f32(k[infer_cache_k_index(kv_head, a->positions, j, a->head_dim, d)]), dot);
    return dot;
}

static float dot_q8g32(const infer_attention_args *a, const query *q, uint32_t kv_head, uint32_t j)
{
    float dot = 0;

    for (uint32_t g = 0; g < infer_cache_groups(a->head_dim); g++) {
        const uint8_t *group = (const uint8_t *)a->k + infer_cache_q8_offset(kv_head, a->positions, j, a->head_dim, g);
        int32_t sum = 0;
        for (uint32_t i = 0; i < 32; i++)
            sum += infer_tile_q8_code(group, j % 16, i) * q->codes[32 * g + i];
        dot = fmaf((float)sum, infer_ref_f16_to_f32(infer_tile_scale(group, j % 16)) * q->scales[g], dot);
    }
    return dot;
}

static void add_f32(const infer_attention_args *a, uint32_t kv_head, uint32_t j, float p, float *out)
{
    const float *v = (const float *)a->v + infer_cache_v_index(kv_head, a->positions, j, a->head_dim, 0);

    for (uint32_t d = 0; d < a->head_dim; d++)
        out[d] = fmaf(p, v[d], out[d]);
}

static void add_f16(const infer_attention_args *a, uint32_t kv_head, uint32_t j, float p, float *out)
{
    const uint16_t *v = (const uint16_t *)a->v + infer_cache_v_index(kv_head, a->positions, j, a->head_dim, 0);

    for (uint32_t d = 0; d < a->head_dim; d++)
        out[d] = fmaf(p, infer_ref_f16_to_f32(v[d]), out[d]);
}

static void add_q8g32(const infer_attention_args *a, uint32_t kv_head, uint32_t j, float p, float *out)
{
    for (uint32_t d = 0; d < a->head_dim; d++) {
        const uint8_t *group = (const uint8_t *)a->v + infer_cache_q8_offset(kv_head, a->positions, j, a->head_dim, d / 32);
        float weight = p * infer_ref_f16_to_f32(infer_tile_scale(group, j % 16));
        out[d] = fmaf(weight, (float)(int8_t)group[infer_cache_q8_v_codes(j) + d % 32], out[d]);
    }
}

/* The softmax so far: weights are relative to exp(max). */
typedef struct state {
    float max, sum;
    float out[INFER_MAX_HEAD_DIM];
} state;

/* Positions j0..j1, within one chunk, of one query. */
static inline void attend_chunk(const infer_attention_args *a, const query *q, uint32_t kv_head, uint32_t j0, uint32_t j1, dot_fn *dot,
                                add_fn *add, state *c)
{
    float p[INFER_ATTENTION_CHUNK], partial[16] = {0};

    c->max = -INFINITY;
    for (uint32_t j = j0; j < j1; j++) {
        p[j - j0] = dot(a, q, kv_head, j) * a->scale;
        if (a->softcap > 0)
            p[j - j0] = infer_ref_softcap(p[j - j0], a->softcap);
        c->max = p[j - j0] > c->max ? p[j - j0] : c->max;
    }
    for (uint32_t j = j0; j < j1; j++) {
        p[j - j0] = infer_ref_expf(p[j - j0] - c->max);
        partial[j % 16] += p[j - j0];
    }
    c->sum = infer_ref_fold16(partial);
    memset(c->out, 0, a->head_dim * sizeof c->out[0]);
    for (uint32_t j = j0; j < j1; j++)
        add(a, kv_head, j, p[j - j0], c->out);
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

static void load_query(const infer_attention_args *a, uint32_t t, uint32_t head, query *q)
{
    q->x = a->q + (size_t)t * a->q_stride + (size_t)head * a->head_dim;
    memset(q->codes, 0, sizeof q->codes);
    for (uint32_t d = 0; d < a->head_dim; d += 32)
        infer_ref_quantize_group(q->x + d, a->head_dim - d < 32 ? a->head_dim - d : 32, q->codes + d, q->scales + d / 32);
}

static uint32_t chunk_start(uint32_t j) { return j / INFER_ATTENTION_CHUNK * INFER_ATTENTION_CHUNK; }

static uint32_t chunk_end(uint32_t j0, uint32_t end) { return end - j0 < INFER_ATTENTION_CHUNK ? end : j0 + INFER_ATTENTION_CHUNK; }

static inline void attention(const infer_attention_args *a, infer_region at, dot_fn *dot, add_fn *add)
{
    uint32_t share = a->heads / a->kv_heads; /* query heads of a KV head */

    for (uint32_t t = at.row0; t < at.row1; t++) {
        uint32_t begin = infer_attention_begin(a, t), end = a->pos0 + t + 1;
        for (uint32_t h = at.col0 / a->head_dim; h < at.col1 / a->head_dim; h++) {
            float *y = a->y + (size_t)t * a->y_stride + (size_t)h * a->head_dim, inverse;
            query q;
            state s, c;
            load_query(a, t, h, &q);
            attend_chunk(a, &q, h / share, begin, chunk_end(chunk_start(begin), end), dot, add, &s);
            for (uint32_t j0 = chunk_start(begin) + INFER_ATTENTION_CHUNK; j0 < end; j0 += INFER_ATTENTION_CHUNK) {
                attend_chunk(a, &q, h / share, j0, chunk_end(j0, end), dot, add, &c);
                merge(&s, &c, a->head_dim);
            }
            inverse = 1.0f / s.sum;
            for (uint32_t d = 0; d < a->head_dim; d++)
                y[d] = s.out[d] * inverse;
        }
    }
}

static inline void attention_chunks(const infer_attention_args *a, infer_region at, dot_fn *dot, add_fn *add)
{
    uint32_t share = a->heads / a->kv_heads;

    for (uint32_t line = at.row0; line < at.row1; line++) {
        uint32_t kv_head = line / a->chunks, chunk = line % a->chunks, j0 = chunk * INFER_ATTENTION_CHUNK;
        for (uint32_t t = 0; t < a->m; t++) {
            uint32_t begin = infer_attention_begin(a, t), end = a->pos0 + t + 1;
            if (end <= j0 || begin >= j0 + INFER_ATTENTION_CHUNK)
                continue;
            for (uint32_t h = kv_head * share; h < (kv_head + 1) * share; h++) {
                float *record = infer_attention_record(a, chunk, t, h);
                query q;
                state c;
                load_query(a, t, h, &q);
                attend_chunk(a, &q, kv_head, begin > j0 ? begin : j0, chunk_end(j0, end), dot, add, &c);
                record[0] = c.max;
                record[1] = c.sum;
                memcpy(record + 2, c.out, a->head_dim * sizeof(float));
            }
        }
    }
}

void attention_f32__ref(const void *args, infer_region at) { attention(args, at, dot_f32, add_f32); }
void attention_f16__ref(const void *args, infer_region at) { attention(args, at, dot_f16, add_f16); }
void attention_q8g32__ref(const void *args, infer_region at) { attention(args, at, dot_q8g32, add_q8g32); }
void attention_chunks_f32__ref(const void *args, infer_region at) { attention_chunks(args, at, dot_f32, add_f32); }
void attention_chunks_f16__ref(const void *args, infer_region at) { attention_chunks(args, at, dot_f16, add_f16); }
void attention_chunks_q8g32__ref(const void *args, infer_region at) { attention_chunks(args, at, dot_q8g32, add_q8g32); }
void attention_merge__ref(const void *args, infer_region at) { infer_attention_merge(args, at); }
