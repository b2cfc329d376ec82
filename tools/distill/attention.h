/* Causal attention for training: softmax(scale q k^T) v of every head, in blocks of queries; the matrix of scores is never whole. */
#ifndef INFER_DISTILL_ATTENTION_H
#define INFER_DISTILL_ATTENTION_H

#include "kernels.h"

typedef struct distill_attention_shape {
    uint32_t heads, kv_heads, head_dim; /* heads are a multiple of kv_heads */
    float scale;
} distill_attention_shape;

/* Floats of scratch memory for up to `m` tokens. */
size_t distill_attention_scratch(const distill_attention_shape *s, uint32_t m);
/* q [m][heads * head_dim], k, v [m][kv_heads * head_dim] -> y as q; lse [heads][m], for the way back. */
void distill_attention(infer_kernel_fn *matmul, const distill_attention_shape *s, const float *q, const float *k, const float *v, uint32_t m, float *y,
                       float *lse, float *scratch);
/* dq, dk, dv are written. */
void distill_attention_back(infer_kernel_fn *matmul, const distill_attention_shape *s, const float *q, const float *k, const float *v, const float *y,
                            const float *lse, const float *dy, uint32_t m, float *dq, float *dk, float *dv, float *scratch);

#endif
