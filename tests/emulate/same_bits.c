/*
 * Same bits everywhere: every operation and type, on fixed inputs, at every CPU level this machine has, hashed and compared with the hashes
 * below. They hold for all levels and all architectures; a kernel whose bits differ somewhere fails there.
 *
 * same-bits [LEVEL]: with a level, only that one, which must be the best one found here: a test on an emulated CPU cannot pass by finding
 * less than that CPU has, or more. Prints TAP. Linked without shared libraries it runs under any emulator.
 */
#include "cpu.h"
#include "kernels.h"
#include "pack/pack.h"
#include "sparse.h"

#include <stdio.h>
#include <string.h>

/* ---- the hashes: FNV-1a of the output bytes. A new type brings a line; nothing else may change one ---- */

static const struct {
    infer_op_kind op;
    infer_qtype type;
    uint64_t hash;
} expected[] = {
    {INFER_OP_MATMUL, INFER_QTYPE_F32, 0x4873ddc2171bab53},    {INFER_OP_MATMUL, INFER_QTYPE_F16, 0xb6b0888fdd69ff30},
    {INFER_OP_MATMUL, INFER_QTYPE_BF16, 0x8b01e559151666ea},   {INFER_OP_MATMUL, INFER_QTYPE_Q8G32, 0x2a9cefd07e5bf1ed},
    {INFER_OP_MATMUL, INFER_QTYPE_Q4G32, 0xd02fc81092b4d417},  {INFER_OP_EMBED, INFER_QTYPE_F32, 0xd5d0444d4ad249f0},
    {INFER_OP_EMBED, INFER_QTYPE_F16, 0x8725decc5485c307},     {INFER_OP_EMBED, INFER_QTYPE_BF16, 0xd2f1b4dbb39c3cb8},
    {INFER_OP_EMBED, INFER_QTYPE_Q8G32, 0x3d15a09cfc1a2ed9},   {INFER_OP_EMBED, INFER_QTYPE_Q4G32, 0xdae2e36d3739053a},
    {INFER_OP_MATMUL, INFER_QTYPE_N4G32, 0xf85e989a8a415384},  {INFER_OP_EMBED, INFER_QTYPE_N4G32, 0xa7180f714c7751eb},
    {INFER_OP_MATMUL, INFER_QTYPE_T2R, 0x79cee5ceae7107ae},    {INFER_OP_EMBED, INFER_QTYPE_T2R, 0x894ef65e91efdb55},
    {INFER_OP_MATMUL, INFER_QTYPE_Q8G64, 0x3ac3d4814c8b2cb0},  {INFER_OP_MATMUL, INFER_QTYPE_Q4G64, 0xc42af7ff6e6a09ad},
    {INFER_OP_QUANTIZE, INFER_QTYPE_NONE, 0x02fb9d1287d6b18f}, {INFER_OP_RMSNORM, INFER_QTYPE_NONE, 0xf824fb84833ddcf3},
    {INFER_OP_LAYERNORM, INFER_QTYPE_NONE, 0x7a871b70fadb050b},
    {INFER_OP_ROPE, INFER_QTYPE_NONE, 0x8bfae9f9c49e7fcc},     {INFER_OP_ACTIVATION, INFER_QTYPE_NONE, 0xc99badec2775dec3},
    {INFER_OP_ADD, INFER_QTYPE_NONE, 0x2af24787bc82fd91},      {INFER_OP_STORE_K, INFER_QTYPE_F32, 0x823bca4e6b4f24b9},
    {INFER_OP_STORE_K, INFER_QTYPE_F16, 0xa0c17ed35e259589},   {INFER_OP_STORE_V, INFER_QTYPE_F32, 0x74609d4827f37915},
    {INFER_OP_STORE_V, INFER_QTYPE_F16, 0x4a4d5f073217b355},   {INFER_OP_ATTENTION, INFER_QTYPE_F32, 0xa443635cd79bd3f0},
    {INFER_OP_ATTENTION, INFER_QTYPE_F16, 0x61cf760a5bf57b3f},        {INFER_OP_ATTENTION, INFER_QTYPE_Q8G32, 0x692e4a5e42ba1c03},
    {INFER_OP_STORE_K, INFER_QTYPE_Q8G32, 0xd27f9dbeb200f093},        {INFER_OP_STORE_V, INFER_QTYPE_Q8G32, 0xc81a9b5a1f64320f},
    {INFER_OP_ATTENTION_CHUNKS, INFER_QTYPE_F32, 0x2af814b6a560191d}, {INFER_OP_ATTENTION_CHUNKS, INFER_QTYPE_F16, 0xd6702281688f7348},
    {INFER_OP_ATTENTION_CHUNKS, INFER_QTYPE_Q8G32, 0xea619ae52046c7b0}, {INFER_OP_ATTENTION_MERGE, INFER_QTYPE_NONE, 0x38ebd9d78d4495a1},
};

/* Matmuls of what is kept of the same weights. */
static const struct {
    infer_layout layout;
    infer_qtype type;
    uint64_t hash;
} expected_sparse[] = {
    {INFER_LAYOUT_BCSR16X1, INFER_QTYPE_Q8G64, 0xa10e3168d9ffcbd9}, {INFER_LAYOUT_BCSR16X1, INFER_QTYPE_Q4G64, 0xf06cb254474f66f8},
    {INFER_LAYOUT_BCSR16X4, INFER_QTYPE_Q8G64, 0x0b556123e094a925}, {INFER_LAYOUT_BCSR16X4, INFER_QTYPE_Q4G64, 0xc881e1655570cd01},
    {INFER_LAYOUT_CSR, INFER_QTYPE_Q8G64, 0xa10e3168d9ffcbd9},      {INFER_LAYOUT_CSR, INFER_QTYPE_Q4G64, 0xf06cb254474f66f8},
    {INFER_LAYOUT_BITMASK, INFER_QTYPE_Q8G64, 0xa10e3168d9ffcbd9},  {INFER_LAYOUT_BITMASK, INFER_QTYPE_Q4G64, 0xf06cb254474f66f8},
};

/* ---- fixed inputs ---- */

static uint64_t random_state;

static uint32_t random_bits(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

/* Magnitudes over many binary orders, every operation exact. The mantissas are odd and have at least 15 bits, so that no number lies
 * halfway between two of fp16, where Bochs 2.7 rounds its VCVTPS2PH away from zero. */
static void fill(float *x, size_t n)
{
    static const float scales[] = {0x1p-27f, 0x1p-26f, 0x1p-25f, 0x1p-24f, 0x1p-23f, 0x1p-22f, 0x1p-21f, 0x1p-20f, 0x1p-19f};

    for (size_t i = 0; i < n; i++) {
        uint32_t bits = random_bits();
        float magnitude = (float)(bits >> 9 | 1 << 14 | 1) * scales[random_bits() % (sizeof scales / sizeof scales[0])];
        x[i] = bits & 1 ? magnitude : -magnitude;
    }
}

static uint64_t add_to_hash(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ p[i]) * 0x100000001b3;
    return hash;
}

#define HASH_START 0xcbf29ce484222325

/* ---- one function an operation: runs fn, returns the hash ---- */

/* Odd sizes, so that every kernel meets its full blocks and its remainders: rows of weights, inputs, tokens. */
enum { N = 45, K = 203, K_PADDED = 224, M = 15, N_PADDED = 48 };
enum { HEADS = 6, KV_HEADS = 2, HEAD_DIM = 44, POSITIONS = 544, POS0 = 505, ROPE_DIM = 36 };

static _Alignas(64) uint8_t weights[N_PADDED * K_PADDED * sizeof(float)];
static _Alignas(64) uint8_t activations[M * K_PADDED * 2];
static float rows[N_PADDED * K_PADDED], x[M * K_PADDED], y[M * K_PADDED], other[M * K_PADDED];
static float cache_k[KV_HEADS * POSITIONS * HEAD_DIM], cache_v[KV_HEADS * POSITIONS * HEAD_DIM];

/* About half of the blocks of 16 rows x 4 or 1 inputs are kept. */
static bool make_sparse_weights(infer_qtype type, infer_layout layout)
{
    uint64_t units = 0, bytes;

    for (uint32_t n = 0; n < N; n += 16)
        for (uint32_t k = 0, keep = 0; k < K; k++) {
            if (layout != INFER_LAYOUT_BCSR16X4 || k % 4 == 0)
                keep = random_bits() & 1;
            for (uint32_t r = n; r < n + 16 && r < N && !keep; r++)
                rows[(size_t)r * K + k] = 0;
        }
    for (uint32_t n = 0; n < N; n += 16)
        units += infer_sparse_count(layout, rows + (size_t)n * K, N - n < 16 ? N - n : 16, K);
    if (!infer_sparse_bytes(type, layout, N, K, units, &bytes) || bytes > sizeof weights)
        return false;
    infer_sparse_begin(type, layout, N, K, units, weights);
    for (uint32_t n = 0; n < N; n += 16)
        if (!infer_sparse_pack_panel(type, layout, N, K, n / 16, rows + (size_t)n * K, weights))
            return false;
    return true;
}

static bool make_weights(infer_qtype type, infer_layout layout)
{
    size_t panel_bytes = (size_t)infer_panel_bytes(type, K);

    static double scratch[2 * K + N];

    fill(rows, (size_t)N * K);
    if (infer_layout_sparse(layout))
        return make_sparse_weights(type, layout);
    if (infer_matrix_layout(type) == INFER_LAYOUT_COLS)
        return infer_pack_cols(type, rows, N, K, scratch, weights);
    for (uint32_t n = 0; n < N; n += 16)
        if (!infer_pack_panel(type, rows + (size_t)n * K, N - n < 16 ? N - n : 16, K, weights + n / 16 * panel_bytes))
            return false;
    return true;
}

static infer_q8_rows quantize(uint32_t m, uint32_t group)
{
    infer_quantize_args a = {.x = x, .y = infer_q8_rows_at(activations, m, K), .m = m, .k = K, .x_stride = K, .group = group};

    infer_kernel_find(INFER_OP_QUANTIZE, INFER_QTYPE_NONE, INFER_LAYOUT_NONE, INFER_CPU_REF)->fn(&a, (infer_region){0, m, 0, K});
    return a.y;
}

/* As one token, as a few and as many; the columns in two parts. */
static uint64_t hash_matmul(const infer_kernel *kernel)
{
    static const uint32_t tokens[] = {1, 2, 3, M};
    uint64_t hash = HASH_START;

    if (!make_weights(kernel->type, kernel->layout))
        return 0;
    fill(x, (size_t)M * K);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        uint32_t m = tokens[i];
        infer_matmul_args a = {.w = weights, .x = x, .y = y, .m = m, .n = N, .k = K, .x_stride = K, .y_stride = N};
        uint32_t cut = kernel->layout == INFER_LAYOUT_COLS ? N : 32; /* its regions have 128 columns */
        if (infer_qtype_find(kernel->type)->group >= 32)
            a.xq = quantize(m, infer_qtype_find(kernel->type)->group);
        kernel->fn(&a, (infer_region){0, m, 0, cut});
        if (cut < N)
            kernel->fn(&a, (infer_region){0, m, cut, N});
        hash = add_to_hash(hash, y, (size_t)m * N * sizeof *y);
    }
    return hash;
}

static uint64_t hash_embed(const infer_kernel *kernel)
{
    static const int32_t ids[] = {0, 15, 16, 31, 32, N - 1, 5, 5};
    enum { COUNT = sizeof ids / sizeof ids[0] };
    infer_embed_args a = {.w = weights, .ids = ids, .y = y, .m = COUNT, .n = N, .k = K, .y_stride = K, .scale = 1};

    if (!make_weights(kernel->type, kernel->layout))
        return 0;
    kernel->fn(&a, (infer_region){0, COUNT, 0, K});
    return add_to_hash(HASH_START, y, (size_t)COUNT * K * sizeof *y);
}

static uint64_t hash_quantize(const infer_kernel *kernel)
{
    infer_quantize_args a = {.x = x, .y = infer_q8_rows_at(activations, M, K), .m = M, .k = K, .x_stride = K, .group = 32};
    uint64_t hash;

    fill(x, (size_t)M * K);
    memset(x + 32, 0, 32 * sizeof *x);
    kernel->fn(&a, (infer_region){0, M, 0, K});
    hash = HASH_START;
    for (uint32_t t = 0; t < M; t++)
        hash = add_to_hash(hash, a.y.codes + 32 * t * a.y.row_groups, 32 * infer_q8_groups(K));
    for (uint32_t t = 0; t < M; t++)
        hash = add_to_hash(hash, a.y.scales + t * a.y.row_groups, infer_q8_groups(K) * sizeof *a.y.scales);
    for (uint32_t t = 0; t < M; t++)
        hash = add_to_hash(hash, a.y.offset8 + 2 * t * a.y.row_groups, infer_q8_groups(K) * 2 * sizeof *a.y.offset8);
    return hash;
}

static uint64_t hash_norm(const infer_kernel *kernel)
{
    infer_norm_args a = {.x = x, .weight = other, .y = y, .m = M, .n = K, .width = K, .x_stride = K, .y_stride = K, .eps = 1e-5f};

    fill(x, (size_t)M * K);
    fill(other, K);
    kernel->fn(&a, (infer_region){0, M, 0, K});
    return add_to_hash(HASH_START, y, (size_t)M * K * sizeof *y);
}

static uint64_t hash_rope(const infer_kernel *kernel)
{
    enum { COLUMNS = 4 * HEAD_DIM };
    infer_rope_args a = {
        .x = y, .cos = rows, .sin = other, .m = M, .n = COLUMNS, .stride = COLUMNS, .head_dim = HEAD_DIM, .rope_dim = ROPE_DIM, .pos0 = 3};
    uint64_t hash = HASH_START;

    for (int pairs = INFER_ROPE_ADJACENT; pairs <= INFER_ROPE_HALVES; pairs++) {
        a.pairs = (infer_rope_pairs)pairs;
        fill(y, (size_t)M * COLUMNS);
        fill(rows, (size_t)(M + 3) * (ROPE_DIM / 2));
        fill(other, (size_t)(M + 3) * (ROPE_DIM / 2));
        kernel->fn(&a, (infer_region){0, M, 0, COLUMNS});
        hash = add_to_hash(hash, y, (size_t)M * COLUMNS * sizeof *y);
    }
    return hash;
}

static uint64_t hash_activation(const infer_kernel *kernel)
{
    infer_activation_args a = {.x = x, .up = other, .y = y, .m = M, .n = K, .stride = K, .cap = 30};
    uint64_t hash = HASH_START;

    fill(x, (size_t)M * K);
    fill(other, (size_t)M * K);
    for (int kind = 0; kind < INFER_ACTIVATION_COUNT; kind++) {
        a.kind = (infer_activation)kind;
        kernel->fn(&a, (infer_region){0, M, 0, K});
        hash = add_to_hash(hash, y, (size_t)M * K * sizeof *y);
    }
    return hash;
}

static uint64_t hash_add(const infer_kernel *kernel)
{
    infer_add_args a = {.a = x, .b = other, .y = y, .m = M, .n = K, .stride = K, .b_stride = K};

    fill(x, (size_t)M * K);
    fill(other, (size_t)M * K);
    kernel->fn(&a, (infer_region){0, M, 0, K});
    return add_to_hash(HASH_START, y, (size_t)M * K * sizeof *y);
}

/* Stores M tokens at `pos0`, as columns of KV_HEADS heads. */
static void store(const infer_kernel *kernel, void *cache, uint32_t pos0)
{
    enum { COLUMNS = KV_HEADS * HEAD_DIM };
    infer_store_args a = {
        .x = x, .cache = cache, .m = M, .n = COLUMNS, .stride = COLUMNS, .head_dim = HEAD_DIM, .positions = POSITIONS, .pos0 = pos0};

    fill(x, (size_t)M * COLUMNS);
    kernel->fn(&a, (infer_region){0, M, 0, COLUMNS});
}

static uint64_t hash_store(const infer_kernel *kernel)
{
    memset(cache_k, 0, sizeof cache_k);
    store(kernel, cache_k, 23);
    return add_to_hash(HASH_START, cache_k, sizeof cache_k);
}

/* m tokens over three chunks of a cache of this type, the last chunk begun by some of the tokens only. */
static infer_attention_args make_attention(infer_qtype type, uint32_t m)
{
    enum { COLUMNS = HEADS * HEAD_DIM };
    static float q[M * COLUMNS], out[M * COLUMNS];
    const infer_kernel *store_k = infer_kernel_find(INFER_OP_STORE_K, type, INFER_LAYOUT_NONE, INFER_CPU_REF);
    const infer_kernel *store_v = infer_kernel_find(INFER_OP_STORE_V, type, INFER_LAYOUT_NONE, INFER_CPU_REF);

    memset(cache_k, 0, sizeof cache_k);
    memset(cache_v, 0, sizeof cache_v);
    for (uint32_t pos = 0; pos < POS0 + M; pos += M) {
        store(store_k, cache_k, pos);
        store(store_v, cache_v, pos);
    }
    fill(q, (size_t)m * COLUMNS);
    return (infer_attention_args){.q = q,
                                  .k = cache_k,
                                  .v = cache_v,
                                  .y = out,
                                  .m = m,
                                  .heads = HEADS,
                                  .kv_heads = KV_HEADS,
                                  .head_dim = HEAD_DIM,
                                  .positions = POSITIONS,
                                  .pos0 = POS0,
                                  .q_stride = COLUMNS,
                                  .y_stride = COLUMNS,
                                  .scale = 0x1.34p-3f};
}

static uint64_t hash_attention(const infer_kernel *kernel)
{
    infer_attention_args a = make_attention(kernel->type, M);
    kernel->fn(&a, (infer_region){0, M, 0, a.y_stride});
    return add_to_hash(HASH_START, a.y, (size_t)M * a.y_stride * sizeof *a.y);
}

enum { CHUNKS = 3, PARTIAL = INFER_ATTENTION_SPLIT_ROWS * (HEADS / KV_HEADS) * (2 + HEAD_DIM) };
static float partial[KV_HEADS * CHUNKS * PARTIAL];

static infer_attention_args make_chunks(infer_kernel_fn *chunks, infer_qtype type)
{
    infer_attention_args a = make_attention(type, INFER_ATTENTION_SPLIT_ROWS);
    a.partial = partial;
    a.chunks = CHUNKS;
    a.partial_stride = PARTIAL;
    memset(partial, 0, sizeof partial); /* tokens that end before the last chunk have no records there */
    chunks(&a, (infer_region){0, KV_HEADS * CHUNKS, 0, PARTIAL});
    return a;
}

static uint64_t hash_attention_chunks(const infer_kernel *kernel)
{
    make_chunks(kernel->fn, kernel->type);
    return add_to_hash(HASH_START, partial, sizeof partial);
}

static uint64_t hash_attention_merge(const infer_kernel *kernel)
{
    infer_attention_args a = make_chunks(attention_chunks_f32__ref, INFER_QTYPE_F32);
    kernel->fn(&a, (infer_region){0, a.m, 0, a.y_stride});
    return add_to_hash(HASH_START, a.y, (size_t)a.m * a.y_stride * sizeof *a.y);
}

static uint64_t (*const hash_of[INFER_OP_COUNT])(const infer_kernel *kernel) = {
    [INFER_OP_MATMUL] = hash_matmul,   [INFER_OP_EMBED] = hash_embed,         [INFER_OP_QUANTIZE] = hash_quantize,
    [INFER_OP_RMSNORM] = hash_norm,    [INFER_OP_LAYERNORM] = hash_norm,     [INFER_OP_ROPE] = hash_rope,           [INFER_OP_STORE_K] = hash_store,
    [INFER_OP_STORE_V] = hash_store,   [INFER_OP_ATTENTION] = hash_attention, [INFER_OP_ACTIVATION] = hash_activation,
    [INFER_OP_ADD] = hash_add,         [INFER_OP_ATTENTION_CHUNKS] = hash_attention_chunks,
    [INFER_OP_ATTENTION_MERGE] = hash_attention_merge,
};

/* ---- the tests ---- */

static uint64_t expected_hash(const infer_kernel *k)
{
    for (size_t i = 0; i < sizeof expected_sparse / sizeof expected_sparse[0]; i++)
        if (expected_sparse[i].layout == k->layout && expected_sparse[i].type == k->type)
            return expected_sparse[i].hash;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (expected[i].op == k->op && expected[i].type == k->type)
            return expected[i].hash;
    return 0;
}

static const char *type_name(infer_qtype type)
{
    const infer_qtype_info *info = infer_qtype_find(type);
    return info ? info->name : "-";
}

/* One line for every operation and type at `level`, hash included. Returns whether all are as expected. */
static bool run_level(infer_cpu_level level, const infer_kernel *kernels, size_t count, unsigned *number)
{
    bool good = true;

    for (size_t i = 0; i < count; i++) {
        const infer_kernel *k = &kernels[i];
        uint64_t hash;
        bool same;
        if (k->level != INFER_CPU_REF)
            continue;
        random_state = 1;
        hash = hash_of[k->op](infer_kernel_find(k->op, k->type, k->layout, level));
        same = hash != 0 && hash == expected_hash(k);
        good = good && same;
        printf("%s %u - %s %s%s%s at %s: %016llx\n", same ? "ok" : "not ok", ++*number, infer_op_name(k->op), type_name(k->type),
               infer_layout_sparse(k->layout) ? " " : "", infer_layout_sparse(k->layout) ? infer_layout_name(k->layout) : "",
               infer_cpu_level_name(level), (unsigned long long)hash);
    }
    return good;
}

int main(int argc, char **argv)
{
    uint32_t levels = infer_cpu_levels_here();
    infer_cpu_level best = infer_cpu_best(levels);
    size_t count, operations = 0;
    const infer_kernel *kernels = infer_kernels(&count);
    unsigned number = 0, plan = 0;
    bool good = true;

    for (size_t i = 0; i < count; i++)
        operations += kernels[i].level == INFER_CPU_REF;
    if (argc > 1) {
        bool same = strcmp(infer_cpu_level_name(best), argv[1]) == 0;
        printf("1..%zu\n", operations + 1);
        printf("%s %u - the best level here is %s, expected %s\n", same ? "ok" : "not ok", ++number, infer_cpu_level_name(best), argv[1]);
        return !(run_level(best, kernels, count, &number) && same);
    }
    for (int level = 0; level < INFER_CPU_LEVEL_COUNT; level++)
        plan += levels & 1u << level ? (unsigned)operations : 1;
    printf("1..%u\n", plan);
    for (int level = 0; level < INFER_CPU_LEVEL_COUNT; level++) {
        if (levels & 1u << level)
            good = run_level((infer_cpu_level)level, kernels, count, &number) && good;
        else
            printf("ok %u - all operations # SKIP this machine has no %s\n", ++number, infer_cpu_level_name((infer_cpu_level)level));
    }
    return !good;
}
