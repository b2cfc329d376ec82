/*
 * Kernels: pure functions. No malloc, no threads, no I/O, no global state. Every kernel has the same signature: a const argument struct
 * that describes the whole operation, and the region of the output to compute. Regions of one operation may run in any order, on any
 * threads, in any split that respects the operation's granularity: the bits are the same.
 *
 * How the same bits come about (checked by tests/conformance for every line of kernels.def):
 *  - matmul, integer types: per group of 32 inputs the exact int32 sum s of weight code x activation code; then, in k order,
 *        y = fmaf((float)s, w_scale * x_scale, y)       with w_scale * x_scale rounded to float, y starting at +0.
 *    t2r, whose scale belongs to the row: t = fmaf((float)s, x_scale, t), t starting at +0; y = t * w_scale.
 *    q8g64, q4g64: the same per group of 64 inputs. Layout cols: y = t * row factor; that of the input is in the activations.
 *  - matmul, float types: four partial sums p[j], j = k mod 4, each p[j] = fmaf(w, x, p[j]) in k order;
 *        y = (p[0] + p[1]) + (p[2] + p[3]).
 *  - sums over a row (rmsnorm, layernorm): sixteen partial sums p[j], j = i mod 16, in i order, squares by fused multiply-adds; then
 *    p[j] += p[j + 8], 4, 2, 1.
 *  - attention: context chunks of INFER_ATTENTION_CHUNK positions at absolute multiples of it. See infer_attention_args.
 *  - exp: infer_ref_expf (ref/mathf.h); every level repeats its operations one for one.
 * Compiled with -ffp-contract=off; round to nearest even; denormals kept.
 *
 * A NaN is a NaN at every level; its sign and payload are not defined.
 *
 * Padding: weights are padded to whole panels and groups with scale 0 (float types: 0.0); activation buffers to whole groups with code 0.
 * Kernels give the same bits whatever the padding holds: padded rows are not written, padded inputs of float types take no part.
 * A kernel reads no byte outside the stored sizes and writes no element outside its region.
 */
#ifndef INFER_KERNELS_KERNELS_H
#define INFER_KERNELS_KERNELS_H

#include "qtypes.h"

/* ---- the table ---- */

typedef enum infer_op_kind {
    INFER_OP_MATMUL,
    INFER_OP_EMBED,
    INFER_OP_QUANTIZE,
    INFER_OP_RMSNORM,
    INFER_OP_LAYERNORM,
    INFER_OP_ROPE,
    INFER_OP_STORE_K,
    INFER_OP_STORE_V,
    INFER_OP_ATTENTION,
    INFER_OP_ATTENTION_CHUNKS,
    INFER_OP_ATTENTION_MERGE,
    INFER_OP_ACTIVATION,
    INFER_OP_ADD,
    INFER_OP_COUNT
} infer_op_kind;

/* CPU levels, lowest first. Each includes the one it builds on: ZEN, AVXVNNI and AVX512 all build on AVX2 (Ice Lake and Zen 4 have AVX-512 without
 * AVX-VNNI), the others of a family on the one before. */
typedef enum infer_cpu_level {
    INFER_CPU_REF = 0,
    INFER_CPU_AVX2,         /* + FMA, F16C, BMI2 */
    INFER_CPU_ZEN,          /* the same instructions; how memory is read suits AMD's CPUs before AVX-512 */
    INFER_CPU_AVXVNNI,
    INFER_CPU_AVX512,       /* F BW VL DQ */
    INFER_CPU_AVX512VNNI,   /* + VNNI, VBMI, VBMI2 */
    INFER_CPU_NEON,
    INFER_CPU_NEON_DOTPROD,
    INFER_CPU_NEON_I8MM,
    INFER_CPU_LEVEL_COUNT
} infer_cpu_level;

/* Part of an operation's output: tokens (rows) [row0, row1) x columns [col0, col1). */
typedef struct infer_region {
    uint32_t row0, row1, col0, col1;
} infer_region;

typedef void infer_kernel_fn(const void *args, infer_region region);

typedef struct infer_kernel {
    infer_op_kind op;
    infer_qtype type;     /* of the weights or the KV cache; NONE where the operation has neither */
    infer_layout layout;
    infer_cpu_level level;
    infer_kernel_fn *fn;
    const char *name;     /* "matmul_q4g32_tile16x4__avx2" */
} infer_kernel;

/* All kernels compiled in, best first among those of one (op, type, layout). */
const infer_kernel *infer_kernels(size_t *count);
/* The best kernel that `level` may run; NULL when the table has none (an unsupported type). */
const infer_kernel *infer_kernel_find(infer_op_kind op, infer_qtype type, infer_layout layout, infer_cpu_level level);
const char *infer_op_name(infer_op_kind op); /* "matmul" */

/* ---- activations ---- */

/* Activations quantized for the integer matmuls: int8 codes in groups of 32 inputs, a float scale a group (types with groups of 64 inputs: the same one
 * for both halves), and the two int16 numbers that
 * let kernels work with weight codes stored with an offset of 8: offset8[0] = -8 x sum of the codes at k mod 4 in {0, 1}, offset8[1] the
 * same for {2, 3}. Their sum is -8 x the sum of all codes. Rows stand row_groups groups apart, an odd number: at powers of two they would all compete
 * for the same few sets of the cache. One buffer holds, for `m` rows of k inputs:
 *   int8_t  codes  [m][row_groups][32]  64-byte aligned
 *   float   scales [m][row_groups]
 *   int16_t offset8[m][row_groups][2]
 */
typedef struct infer_q8_rows {
    int8_t *codes;
    float *scales;
    int16_t *offset8;
    uint32_t row_groups; /* at least infer_q8_groups(k) */
} infer_q8_rows;

/* Groups of a row that are used. */
static inline size_t infer_q8_groups(size_t k) { return (k + 31) / 32; }

static inline size_t infer_q8_rows_bytes(size_t m, size_t k)
{
    size_t row_groups = infer_q8_groups(k) | 1;
    return (m * row_groups * 32 + 63) / 64 * 64 + m * row_groups * (sizeof(float) + 2 * sizeof(int16_t));
}

static inline infer_q8_rows infer_q8_rows_at(void *buffer, size_t m, size_t k)
{
    size_t row_groups = infer_q8_groups(k) | 1;
    infer_q8_rows r;
    r.codes = (int8_t *)buffer;
    r.scales = (float *)(void *)((char *)buffer + (m * row_groups * 32 + 63) / 64 * 64);
    r.offset8 = (int16_t *)(void *)(r.scales + m * row_groups);
    r.row_groups = (uint32_t)row_groups;
    return r;
}

/* x [m][x_stride] -> y. With factors, x is x * factors[column] from here on; then magnitudes below `threshold` are silent and
 * become 0. Per group of 32 or 64 inputs: amax = the largest |x|; scale = amax / 127; code = rint(x * (127 / amax)), half to even. Groups with
 * amax < 2^-100 get scale 0 and codes 0; groups with an infinity or NaN get scale NaN and codes 0, so that it shows in the output. Columns
 * behind k in the last 32 get code 0. Region: any rows; columns are multiples of the group, or end at k. */
typedef struct infer_quantize_args {
    const float *x;
    infer_q8_rows y;
    uint32_t m, k, x_stride;
    uint32_t group;       /* inputs that share a scale: 32 or 64 */
    const float *factors; /* [k]; NULL: none */
    float threshold;      /* 0: none */
} infer_quantize_args;

/* ---- weights ---- */

/* y[m][n] = x[m][k] * w[n][k]^T. Integer types read xq, float types x. Region: columns (output rows of w) at multiples of 16, in the layout
 * cols whole stripes, or ending at n; any rows. The layout cols reads only the weights of inputs that have a code other than 0 in some token. */
typedef struct infer_matmul_args {
    const void *w; /* 64-byte aligned */
    const float *x;
    infer_q8_rows xq;
    float *y;
    uint32_t m, n, k;
    uint32_t x_stride, y_stride; /* elements from one token to the next */
} infer_matmul_args;

/* y[t][0..k) = row ids[t] of w, as floats, times scale. The ids were checked. Region columns: multiples of 32, or ending at k. */
typedef struct infer_embed_args {
    const void *w; /* tile16x4 [n][k] */
    const int32_t *ids; /* NULL: the rows are positions, pos0 + t */
    float *y;
    uint32_t m, n, k, y_stride, pos0;
    float scale;
} infer_embed_args;

/* ---- rows ---- */

/* Every `width` columns of a row by themselves: whole rows, or heads. In this order of products, y may be x:
 *   RMSNORM    y = x * (1 / sqrt(mean(x^2) + eps)) * weight
 *   LAYERNORM  y = d * (1 / sqrt(mean(d^2) + eps)) * weight, d = x - mean(x); a mean is a sum divided by (float)width
 * Columns: multiples of width. */
typedef struct infer_norm_args {
    const float *x, *weight; /* weight [width] */
    float *y;
    uint32_t m, n, width, x_stride, y_stride;
    float eps;
} infer_norm_args;

/* y = f(x), or f(x) * up where up is not NULL. ref/activation.h has each f, operation for operation, and its error. Columns: any multiple of 16,
 * or ending at n. y may be x or up. */
typedef enum infer_activation {
    INFER_ACTIVATION_SILU,      /* x / (1 + exp(-x)) */
    INFER_ACTIVATION_GELU_TANH, /* x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
    INFER_ACTIVATION_GELU,      /* x / 2 (1 + erf(x / sqrt(2))) */
    INFER_ACTIVATION_RELU2,     /* max(x, 0)^2 */
    INFER_ACTIVATION_SOFTCAP,   /* cap * tanh(x / cap): infer_ref_softcap */
    INFER_ACTIVATION_COUNT
} infer_activation;

typedef struct infer_activation_args {
    const float *x, *up;
    float *y;
    uint32_t m, n, stride; /* one stride for all three */
    infer_activation kind;
    float cap;             /* SOFTCAP: > 0 */
} infer_activation_args;

/* y = a + b: the residual connection; with b_stride 0 one row b for all tokens: a bias. y may be a, or b where their strides are equal. */
typedef struct infer_add_args {
    const float *a, *b;
    float *y;
    uint32_t m, n, stride, b_stride;
} infer_add_args;

typedef enum infer_rope_pairs {
    INFER_ROPE_ADJACENT = 0, /* (2i, 2i + 1): llama2.c, GGUF llama */
    INFER_ROPE_HALVES = 1    /* (i, i + dim / 2): Hugging Face */
} infer_rope_pairs;

/* Rotates the first rope_dim values of every head, in place, by the angle of position pos0 + t. Columns: multiples of head_dim.
 *   a' = fmaf(a, cos, -(b * sin)), b' = fmaf(a, sin, b * cos). */
typedef struct infer_rope_args {
    float *x;                 /* [m][stride], heads side by side */
    const float *cos, *sin;   /* [positions][rope_dim / 2] */
    uint32_t m, n, stride;    /* n = heads * head_dim */
    uint32_t head_dim, rope_dim, pos0;
    infer_rope_pairs pairs;
} infer_rope_args;

/* ---- KV cache and attention ---- */

/* One layer's cache for `positions` (a multiple of 16), of one of these types:
 *   f32, f16  k [kv_heads][positions / 16][head_dim][16]   lanes are positions: a score needs no sum across lanes
 *             v [kv_heads][positions][head_dim]            lanes are dimensions
 *   q8g32     k [kv_heads][positions / 16][groups]         panel groups of tile16x4, 544 bytes, whose 16 rows are positions
 *             v [kv_heads][positions / 16][groups]         544 bytes too: fp16 scale[16 positions], int8 code[16 positions][32 dimensions]
 *             with groups = head_dim / 32, rounded up; a head's last group is padded with codes 0
 * attention.h computes sizes and offsets. Memory starts zeroed and only finite numbers are stored: NaN becomes 0; f32 saturates at
 * +-FLT_MAX, f16 at +-65504, q8g32 at +-127 * 65504, and then, for each position, head and group of 32 dimensions,
 *   scale = fp16(amax / 127), to nearest even, amax being the largest |x|; code = rint(x / scale), half to even, of the quotient rounded to
 *   float, and at most 127 in magnitude (a subnormal scale may be far too small). Where scale is 0 the codes are 0. */
#define INFER_ATTENTION_CHUNK 256u

/* Copies x [m][stride] (kv_heads * head_dim columns) to positions pos0.. of the cache. Columns: multiples of head_dim. */
typedef struct infer_store_args {
    const float *x;
    void *cache; /* k or v of the layer */
    uint32_t m, n, stride, head_dim, positions, pos0;
} infer_store_args;

/* y[t][h] = sum over positions j of softmax(q[t][h] . k[j] * scale) v[j], j <= pos0 + t and, where there is a window, j > pos0 + t - window; head h
 * reads KV head h / (heads / kv_heads).
 * For each chunk of INFER_ATTENTION_CHUNK positions, at absolute multiples of it, in rising order, those before the window left out:
 *   s[j] = dot(q, k[j]) * scale, and then, where there is a softcap, infer_ref_softcap(s[j], softcap); c_max = max s; p[j] = exp(s[j] - c_max)
 *   c_sum: sixteen partial sums (j mod 16) in j order, folded 8, 4, 2, 1; c_out[d] = fmaf over j in order, from +0, of p[j] * v[j][d]
 *   first chunk: (max, sum, out) = (c_max, c_sum, c_out); later: new = max(max, c_max), a = exp(max - new), b = exp(c_max - new),
 *   sum = fmaf(sum, a, c_sum * b), out[d] = fmaf(out[d], a, c_out[d] * b)
 * then y[d] = out[d] * (1 / sum).
 *   f32, f16  dot = fmaf over d in order, from +0, of q[d] * k[j][d]
 *   q8g32     q[t][h] is quantized in groups of 32 (the last one padded with zeros) as infer_quantize_args says; dot as in the integer matmul:
 *             fmaf over the groups in order, from +0, of (float)(exact sum of code products) * (k_scale * q_scale);
 *             p[j] * v[j][d] is (p[j] * v_scale) * (float)code: c_out[d] = fmaf(p[j] * v_scale, (float)code, c_out[d]), the first product
 *             rounded to float. c_sum adds the p[j] themselves.
 *
 * ATTENTION does all of it. Columns: multiples of head_dim * (heads / kv_heads); any rows.
 * ATTENTION_CHUNKS and ATTENTION_MERGE do the same in two operations that more threads can share when there are few tokens (m at most
 * INFER_ATTENTION_SPLIT_ROWS): the first leaves (c_max, c_sum, c_out) of every chunk in `partial`, the second merges them into y.
 *   partial [kv_heads][chunks][partial_stride]: a line holds infer_attention_record(s): [m][heads / kv_heads][2 + head_dim]. Records of tokens
 *   that end before a chunk, or whose window begins behind it, are neither written nor read.
 * Regions of ATTENTION_CHUNKS: rows are lines of `partial` (kv_head * chunks + chunk), columns do not matter. Those of ATTENTION_MERGE: columns
 * at multiples of head_dim, any rows. */
#define INFER_ATTENTION_SPLIT_ROWS 8u

typedef struct infer_attention_args {
    const float *q; /* [m][q_stride] */
    const void *k, *v;
    float *y;       /* [m][y_stride] */
    uint32_t m, heads, kv_heads, head_dim, positions, pos0, q_stride, y_stride;
    float scale;
    float softcap;                   /* 0: none */
    uint32_t window;                 /* positions that a token attends to, its own among them; 0: all */
    float *partial;                  /* ATTENTION does not look at these */
    uint32_t chunks, partial_stride; /* chunks in use: (pos0 + m) / INFER_ATTENTION_CHUNK, rounded up; floats */
} infer_attention_args;
#define INFER_MAX_HEAD_DIM 512u

/* ---- every kernel of the table, also those of other architectures, which are declared only ---- */

#define KERNEL(op, type, layout, level, fn) infer_kernel_fn fn;
#include "kernels.def"
#undef KERNEL

#endif
