#include "kernels.h"
#include "ref/activation.h"
#include "vector.h"

/* infer_ref_activation, operation for operation. A NaN in the second operand of vmaxps stays. */
ALWAYS_INLINE __m256 activate(infer_activation kind, float cap, __m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f), zero = _mm256_setzero_ps();
    __m256 a, t, q;

    switch (kind) {
    case INFER_ACTIVATION_SILU:
        return _mm256_div_ps(x, _mm256_add_ps(one, exp_8(_mm256_xor_ps(x, sign))));
    case INFER_ACTIVATION_GELU_TANH:
        q = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(INFER_REF_GELU_C3), _mm256_set1_ps(INFER_REF_GELU_C1));
        return _mm256_div_ps(x, _mm256_add_ps(one, exp_8(_mm256_xor_ps(_mm256_mul_ps(x, q), sign))));
    case INFER_ACTIVATION_GELU:
        a = _mm256_andnot_ps(sign, x);
        t = _mm256_div_ps(one, _mm256_fmadd_ps(a, _mm256_set1_ps(INFER_REF_ERF_P), one));
        q = _mm256_fmadd_ps(_mm256_set1_ps(INFER_REF_ERF_A5), t, _mm256_set1_ps(INFER_REF_ERF_A4));
        q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(INFER_REF_ERF_A3));
        q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(INFER_REF_ERF_A2));
        q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(INFER_REF_ERF_A1));
        q = _mm256_mul_ps(_mm256_mul_ps(q, t), exp_8(_mm256_mul_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(-0.5f))));
        return _mm256_fnmadd_ps(a, q, _mm256_max_ps(zero, x));
    case INFER_ACTIVATION_RELU2:
        x = _mm256_max_ps(zero, x);
        return _mm256_mul_ps(x, x);
    default: /* softcap */
        return softcap_8(x, cap);
    }
}

ALWAYS_INLINE void rows(const infer_activation_args *a, infer_region at, infer_activation kind)
{
    for (uint32_t t = at.row0; t < at.row1; t++) {
        const float *x = a->x + (size_t)t * a->stride, *up = a->up ? a->up + (size_t)t * a->stride : NULL;
        float *y = a->y + (size_t)t * a->stride;
        uint32_t c = at.col0;
        for (; c + 8 <= at.col1; c += 8) {
            __m256 f = activate(kind, a->cap, _mm256_loadu_ps(x + c));
            _mm256_storeu_ps(y + c, up ? _mm256_mul_ps(f, _mm256_loadu_ps(up + c)) : f);
        }
        if (c < at.col1) {
            __m256i lanes = lanes_below(at.col1 - c);
            __m256 f = activate(kind, a->cap, _mm256_maskload_ps(x + c, lanes));
            _mm256_maskstore_ps(y + c, lanes, up ? _mm256_mul_ps(f, _mm256_maskload_ps(up + c, lanes)) : f);
        }
    }
}

void activation__avx2(const void *args, infer_region at)
{
    const infer_activation_args *a = args;

    switch (a->kind) { /* the loops are compiled for each kind */
    case INFER_ACTIVATION_SILU: rows(a, at, INFER_ACTIVATION_SILU); break;
    case INFER_ACTIVATION_GELU_TANH: rows(a, at, INFER_ACTIVATION_GELU_TANH); break;
    case INFER_ACTIVATION_GELU: rows(a, at, INFER_ACTIVATION_GELU); break;
    case INFER_ACTIVATION_RELU2: rows(a, at, INFER_ACTIVATION_RELU2); break;
    default: rows(a, at, INFER_ACTIVATION_SOFTCAP); break;
    }
}
