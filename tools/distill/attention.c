#include "attention.h"

#include "products.h"
#include "rows.h"

#include <string.h>

enum { BLOCK = 64 }; /* queries whose scores are in memory at once: a multiple of 4 */

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

size_t distill_attention_scratch(const distill_attention_shape *s, uint32_t m)
{
    size_t keys = distill_packed_size(m, s->head_dim), inputs = distill_packed_size(s->head_dim, m), square = (size_t)(m + BLOCK) * m;
    return 2 * keys + 3 * inputs + 2 * (size_t)BLOCK * m + 2 * square + (size_t)m * s->head_dim;
}

void distill_attention(infer_kernel_fn *matmul, const distill_attention_shape *s, const float *q, const float *k, const float *v, uint32_t m, float *y,
                       float *lse, float *scratch)
{
    uint32_t d = s->head_dim, stride = s->heads * d, kv_stride = s->kv_heads * d, group = s->heads / s->kv_heads;
    float *keys = scratch, *values = keys + distill_packed_size(m, d), *scores = values + distill_packed_size(d, m);

    for (uint32_t h = 0; h < s->heads; h++) {
        if (h % group == 0) {
            distill_pack(k + h / group * d, kv_stride, m, d, keys);
            distill_pack_columns(v + h / group * d, kv_stride, d, m, values);
        }
        for (uint32_t r0 = 0; r0 < m; r0 += BLOCK) {
            uint32_t r1 = smaller(r0 + BLOCK, m), n = r1 - r0;
            distill_multiply(matmul, q + (size_t)r0 * stride + h * d, stride, n, (distill_packed){keys, m, d}, 0, d, r1, scores, m);
            for (uint32_t i = 0; i < n; i++) {
                float *row = scores + (size_t)i * m;
                lse[(size_t)h * m + r0 + i] = distill_softmax(row, r0 + i + 1, s->scale);
                memset(row + r0 + i + 1, 0, (n - i - 1) * sizeof *row);
            }
            distill_multiply(matmul, scores, m, n, (distill_packed){values, d, m}, 0, r1, d, y + (size_t)r0 * stride + h * d, stride);
        }
    }
}

/* dkv [m][d], rows dkv_stride apart, += sum over the queries t from each position on of weights[position][t] * x[t]; x packed by columns. */
static void gather(infer_kernel_fn *matmul, const float *weights, uint32_t m, const float *x, uint32_t d, float *sum, float *dkv, size_t dkv_stride)
{
    for (uint32_t p = 0; p < m; p += BLOCK)
        distill_multiply(matmul, weights + (size_t)p * m + p, m, smaller(BLOCK, m - p), (distill_packed){x, d, m}, p, m - p, d, sum + (size_t)p * d, d);
    for (uint32_t t = 0; t < m; t++)
        distill_add(dkv + t * dkv_stride, sum + (size_t)t * d, d);
}

void distill_attention_back(infer_kernel_fn *matmul, const distill_attention_shape *s, const float *q, const float *k, const float *v, const float *y,
                            const float *lse, const float *dy, uint32_t m, float *dq, float *dk, float *dv, float *scratch)
{
    uint32_t d = s->head_dim, stride = s->heads * d, kv_stride = s->kv_heads * d, group = s->heads / s->kv_heads;
    size_t keys_size = distill_packed_size(m, d), inputs_size = distill_packed_size(d, m);
    float *keys = scratch, *values = keys + keys_size, *key_inputs = values + keys_size, *q_inputs = key_inputs + inputs_size,
          *dy_inputs = q_inputs + inputs_size, *p = dy_inputs + inputs_size, *ds = p + (size_t)BLOCK * m, *p_turned = ds + (size_t)BLOCK * m,
          *ds_turned = p_turned + (size_t)(m + BLOCK) * m, *sum = ds_turned + (size_t)(m + BLOCK) * m;

    memset(dk, 0, (size_t)m * kv_stride * sizeof *dk);
    memset(dv, 0, (size_t)m * kv_stride * sizeof *dv);
    for (uint32_t h = 0; h < s->heads; h++) {
        const float *qh = q + h * d, *yh = y + h * d, *dyh = dy + h * d;
        if (h % group == 0) {
            distill_pack(k + h / group * d, kv_stride, m, d, keys);
            distill_pack(v + h / group * d, kv_stride, m, d, values);
            distill_pack_columns(k + h / group * d, kv_stride, d, m, key_inputs);
        }
        distill_pack_columns(qh, stride, d, m, q_inputs);
        distill_pack_columns(dyh, stride, d, m, dy_inputs);
        for (uint32_t r0 = 0; r0 < m; r0 += BLOCK) {
            uint32_t r1 = smaller(r0 + BLOCK, m), n = r1 - r0;
            distill_multiply(matmul, qh + (size_t)r0 * stride, stride, n, (distill_packed){keys, m, d}, 0, d, r1, p, m);
            distill_multiply(matmul, dyh + (size_t)r0 * stride, stride, n, (distill_packed){values, m, d}, 0, d, r1, ds, m);
            for (uint32_t i = 0; i < n; i++) {
                uint32_t t = r0 + i;
                float *p_row = p + (size_t)i * m, *ds_row = ds + (size_t)i * m;
                distill_softmax_again(p_row, t + 1, s->scale, lse[(size_t)h * m + t]);
                distill_softmax_back(p_row, ds_row, t + 1, distill_dot(dyh + (size_t)t * stride, yh + (size_t)t * stride, d), s->scale);
                memset(p_row + t + 1, 0, (n - i - 1) * sizeof *p);
                memset(ds_row + t + 1, 0, (n - i - 1) * sizeof *ds);
            }
            distill_multiply(matmul, ds, m, n, (distill_packed){key_inputs, d, m}, 0, r1, d, dq + (size_t)r0 * stride + h * d, stride);
            distill_transpose(p, m, n, r1, p_turned + r0, m);
            distill_transpose(ds, m, n, r1, ds_turned + r0, m);
        }
        gather(matmul, p_turned, m, dy_inputs, d, sum, dv + h / group * d, kv_stride);
        gather(matmul, ds_turned, m, q_inputs, d, sum, dk + h / group * d, kv_stride);
    }
}
