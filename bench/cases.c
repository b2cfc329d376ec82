#include "cases.h"

#include "attention.h"
#include "graph/plan.h"
#include "sparse.h"
#include "stats.h"

#include <string.h>

#define ATTENTION_POSITIONS 1024u
#define REFERENCE_MACS 4000000u   /* about the part of a matmul that the reference is timed on */
#define REFERENCE_NS 500000u       /* a sample takes at least */
#define REFERENCE_SAMPLES 5u

struct infer_case {
    infer_op_kind op;
    infer_layer layer;
    uint32_t m;
    infer_args args;
    infer_kernel_fn *reference;
    uint8_t *cold;       /* [copies][cold_bytes]: weights, or keys then values */
    size_t cold_bytes, v_offset;
    uint32_t copies, current;
    uint8_t *output;
    size_t output_bytes;
    double bytes, ops;
    uint64_t units;
    void *memory[8];     /* everything else */
    uint32_t memory_count;
    size_t short_of_bytes; /* an allocation of so many failed */
};

/* ---- sizes ---- */

uint32_t infer_case_layers(const infer_shape *s, const infer_kernel *kernel, infer_layer layers[INFER_MAX_LAYERS_OF_OP])
{
    const infer_op_kind op = kernel->op;
    const infer_qtype type = kernel->type;
    uint32_t q_dim = s->heads * s->head_dim, kv_dim = s->kv_heads * s->head_dim, count = 0;
    infer_layer base = {"", 0, 0, s->heads, s->kv_heads, s->head_dim, ATTENTION_POSITIONS, 0.5};
    const struct {
        infer_op_kind op;
        const char *name;
        uint32_t n, k;
    } all[] = {
        {INFER_OP_MATMUL, "q", q_dim, s->dim},          {INFER_OP_MATMUL, "kv", kv_dim, s->dim},  {INFER_OP_MATMUL, "gate_up", s->ffn_dim, s->dim},
        {INFER_OP_MATMUL, "down", s->dim, s->ffn_dim},  {INFER_OP_MATMUL, "head", s->vocab, s->dim},
        {INFER_OP_EMBED, "embed", s->vocab, s->dim},    {INFER_OP_QUANTIZE, "dim", s->dim, 0},    {INFER_OP_QUANTIZE, "ffn", s->ffn_dim, 0},
        {INFER_OP_RMSNORM, "dim", s->dim, 0},           {INFER_OP_LAYERNORM, "dim", s->dim, 0},   {INFER_OP_ROPE, "q", q_dim, 0},
        {INFER_OP_STORE_K, "k", kv_dim, 0},             {INFER_OP_STORE_V, "v", kv_dim, 0},       {INFER_OP_ATTENTION, "heads", q_dim, 0},
        {INFER_OP_ATTENTION_CHUNKS, "heads", q_dim, 0}, {INFER_OP_ATTENTION_MERGE, "heads", q_dim, 0},
        {INFER_OP_ACTIVATION, "ffn", s->ffn_dim, 0},    {INFER_OP_ADD, "dim", s->dim, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint64_t bytes, most;
        if (all[i].op != op)
            continue;
        base.name = all[i].name;
        base.n = all[i].n;
        base.k = all[i].k;
        if (base.k && infer_tensor_bytes(type, infer_matrix_layout(type), 16, base.k, &bytes)) {
            most = INFER_CASE_MAX_WEIGHTS / bytes * 16;
            base.n = base.n > most ? (uint32_t)most : base.n;
        }
        layers[count++] = base;
    }
    return count;
}

uint32_t infer_case_most_tokens(infer_op_kind op)
{
    return op == INFER_OP_ATTENTION_CHUNKS || op == INFER_OP_ATTENTION_MERGE ? INFER_ATTENTION_SPLIT_ROWS : UINT32_MAX;
}

/* Whether the operation reads keys and values. */
static bool attends(infer_op_kind op) { return op == INFER_OP_ATTENTION || op == INFER_OP_ATTENTION_CHUNKS; }

/* ---- memory ---- */

static void *get(infer_case *c, size_t bytes)
{
    void *p = infer_alloc_zero(NULL, bytes);
    if (p)
        c->memory[c->memory_count++] = p;
    else
        c->short_of_bytes = bytes;
    return p;
}

static float *get_floats(infer_case *c, size_t count, uint64_t *random)
{
    float *x = get(c, count * sizeof *x);
    for (size_t i = 0; x && i < count; i++)
        x[i] = infer_random_normal(random);
    return x;
}

static void *get_output(infer_case *c, size_t bytes)
{
    c->output = get(c, bytes);
    c->output_bytes = bytes;
    return c->output;
}

/* ---- what is read cold ---- */

static void point_at_copy(infer_case *c)
{
    const uint8_t *copy = c->cold + c->current * c->cold_bytes;
    if (c->op == INFER_OP_MATMUL)
        c->args.matmul.w = copy;
    else if (c->op == INFER_OP_EMBED)
        c->args.embed.w = copy;
    else if (attends(c->op)) {
        c->args.attention.k = copy;
        c->args.attention.v = copy + c->v_offset;
    }
}

static infer_status make_copies(infer_case *c, size_t bytes, size_t cold_bytes, infer_error *err)
{
    c->cold_bytes = infer_round_up(bytes, 64);
    c->copies = cold_bytes > c->cold_bytes ? (uint32_t)(cold_bytes / c->cold_bytes) + 2 : 1;
    c->cold = infer_alloc(NULL, c->copies * c->cold_bytes);
    if (!c->cold)
        return infer_fail_memory(err, c->copies * c->cold_bytes, "copies of the weights");
    memset(c->cold, 0, c->cold_bytes);
    return INFER_OK;
}

static void fill_copies(infer_case *c)
{
    for (uint32_t i = 1; i < c->copies; i++)
        memcpy(c->cold + i * c->cold_bytes, c->cold, c->cold_bytes);
    point_at_copy(c);
}

static infer_status make_sparse(infer_case *c, infer_qtype type, infer_layout layout, size_t cold_bytes, uint64_t *random, infer_error *err)
{
    uint8_t *w;
    uint64_t bytes;
    infer_status s = infer_random_sparse(type, layout, c->layer.n, c->layer.k, c->layer.prune, random, &w, &bytes, err);
    if (s != INFER_OK)
        return s;
    if ((s = make_copies(c, (size_t)bytes, cold_bytes, err)) == INFER_OK) {
        memcpy(c->cold, w, (size_t)bytes);
        fill_copies(c);
        c->units = infer_sparse_at(layout, w, c->layer.n, c->layer.k).units;
    }
    infer_free(NULL, w);
    return s;
}

static infer_status make_weights(infer_case *c, infer_qtype type, size_t cold_bytes, uint64_t *random, infer_error *err)
{
    uint64_t bytes;
    infer_status s;
    if (!infer_tensor_bytes(type, infer_matrix_layout(type), c->layer.n, c->layer.k, &bytes))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "weights of %u x %u cannot be stored", c->layer.n, c->layer.k);
    if ((s = make_copies(c, (size_t)bytes, cold_bytes, err)) != INFER_OK ||
        (s = infer_random_matrix(type, c->layer.n, c->layer.k, random, c->cold, err)) != INFER_OK)
        return s;
    fill_copies(c);
    return INFER_OK;
}

/* Keys and values of all positions, through the reference kernels. */
static infer_status make_cache(infer_case *c, infer_qtype type, size_t cold_bytes, uint64_t *random, infer_error *err)
{
    const infer_layer *l = &c->layer;
    const infer_kernel *store_k = infer_kernel_find(INFER_OP_STORE_K, type, INFER_LAYOUT_NONE, INFER_CPU_REF);
    const infer_kernel *store_v = infer_kernel_find(INFER_OP_STORE_V, type, INFER_LAYOUT_NONE, INFER_CPU_REF);
    uint32_t n = l->kv_heads * l->head_dim;
    size_t bytes = (size_t)infer_cache_bytes(type, l->kv_heads, l->positions, l->head_dim);
    infer_store_args store = {get_floats(c, (size_t)l->positions * n, random), NULL, l->positions, n, n, l->head_dim, l->positions, 0};
    infer_region all = {0, l->positions, 0, n};
    infer_status s;
    if (!store_k || !store_v || !bytes)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "no reference kernel stores keys and values of this type");
    if (!store.x)
        return infer_fail_memory(err, (size_t)l->positions * n * sizeof(float), "keys");
    c->v_offset = infer_round_up(bytes, 64);
    if ((s = make_copies(c, c->v_offset + bytes, cold_bytes, err)) != INFER_OK)
        return s;
    store.cache = c->cold;
    store_k->fn(&store, all);
    store.cache = c->cold + c->v_offset;
    store_v->fn(&store, all);
    fill_copies(c);
    return INFER_OK;
}

/* ---- arguments ---- */

static void set_matmul(infer_case *c, infer_qtype type, uint64_t *random)
{
    uint32_t m = c->m, n = c->layer.n, k = c->layer.k;
    float *x = get_floats(c, (size_t)m * k, random), *y = get_output(c, (size_t)m * n * sizeof *y);
    void *codes = get(c, infer_q8_rows_bytes(m, k));
    bool integer = infer_qtype_find(type)->group >= 32;
    if (!x || !y || !codes)
        return;
    c->args.matmul = (infer_matmul_args){.x = x, .xq = infer_q8_rows_at(codes, m, k), .y = y, .m = m, .n = n, .k = k, .x_stride = k, .y_stride = n};
    if (integer)
        quantize__ref(&(infer_quantize_args){.x = x, .y = c->args.matmul.xq, .m = m, .k = k, .x_stride = k, .group = infer_qtype_find(type)->group},
                      (infer_region){0, m, 0, k});
    c->bytes = (integer ? (double)infer_q8_rows_bytes(m, k) : 4.0 * m * k) + 4.0 * m * n;
    c->ops = 2.0 * m * n * k;
}

static void set_embed(infer_case *c, infer_qtype type, uint64_t *random)
{
    uint32_t m = c->m, n = c->layer.n, k = c->layer.k;
    int32_t *ids = get(c, m * sizeof *ids);
    float *y = get_output(c, (size_t)m * k * sizeof *y);
    uint64_t row_bytes = 0;
    for (uint32_t i = 0; ids && i < m; i++)
        ids[i] = (int32_t)(infer_random(random) % n);
    c->args.embed = (infer_embed_args){.ids = ids, .y = y, .m = m, .n = n, .k = k, .y_stride = k, .scale = 1};
    infer_tensor_bytes(type, INFER_LAYOUT_TILE16X4, 16, k, &row_bytes);
    c->bytes = m * (row_bytes / 16.0 + 4.0 * k);
}

static void set_rows(infer_case *c, uint64_t *random)
{
    uint32_t m = c->m, n = c->layer.n, d = c->layer.head_dim, pairs = d / 2;
    size_t count = (size_t)m * n;
    float *x = get_floats(c, count, random), *other = get_floats(c, c->op == INFER_OP_ROPE ? (size_t)m * pairs : count, random), *y = NULL;
    c->bytes = 12.0 * count;
    switch (c->op) {
    case INFER_OP_QUANTIZE:
        y = get_output(c, infer_q8_rows_bytes(m, n));
        if (y)
            c->args.quantize = (infer_quantize_args){.x = x, .y = infer_q8_rows_at(y, m, n), .m = m, .k = n, .x_stride = n, .group = 32};
        c->bytes = 4.0 * count + infer_q8_rows_bytes(m, n);
        break;
    case INFER_OP_RMSNORM:
    case INFER_OP_LAYERNORM:
        y = get_output(c, count * sizeof *y);
        c->args.norm = (infer_norm_args){x, other, y, m, n, n, n, n, 1e-5f};
        c->bytes = 8.0 * count + 4.0 * n;
        break;
    case INFER_OP_ROPE: /* in place; the angle does not matter, only that vectors keep their length when they are turned again and again */
        for (size_t i = 0; other && i < (size_t)m * pairs; i++)
            other[i] = 0.70710677f;
        c->output = (uint8_t *)x;
        c->output_bytes = count * sizeof *x;
        c->args.rope = (infer_rope_args){x, other, other, m, n, n, d, pairs * 2, 0, INFER_ROPE_HALVES};
        c->bytes = 8.0 * count + 8.0 * m * pairs;
        break;
    case INFER_OP_ACTIVATION:
        y = get_output(c, count * sizeof *y);
        c->args.activation = (infer_activation_args){.x = x, .up = other, .y = y, .m = m, .n = n, .stride = n, .kind = INFER_ACTIVATION_SILU};
        break;
    default:
        y = get_output(c, count * sizeof *y);
        c->args.add = (infer_add_args){x, other, y, m, n, n, n};
        break;
    }
}

/* STORE: the first m positions. ATTENTION and its parts: the last m of `positions`. */
static void set_store(infer_case *c, infer_qtype type, uint64_t *random)
{
    uint32_t m = c->m, n = c->layer.n;
    double bytes = (double)infer_cache_bytes(type, c->layer.kv_heads, c->layer.positions, c->layer.head_dim);
    float *x = get_floats(c, (size_t)m * n, random);
    void *cache = get_output(c, (size_t)bytes);
    c->args.store = (infer_store_args){x, cache, m, n, n, c->layer.head_dim, c->layer.positions, 0};
    c->bytes = 4.0 * m * n + bytes * m / c->layer.positions;
}

static void set_attention(infer_case *c, uint64_t *random)
{
    const infer_layer *l = &c->layer;
    uint32_t m = c->m, n = l->heads * l->head_dim;
    uint32_t share = l->heads / l->kv_heads, chunks = (l->positions + INFER_ATTENTION_CHUNK - 1) / INFER_ATTENTION_CHUNK;
    uint32_t stride = m * share * infer_attention_record_floats(l->head_dim);
    size_t lines = (size_t)l->kv_heads * chunks * stride;
    float *q = NULL, *y = NULL, *partial = NULL;
    if (attends(c->op))
        q = get_floats(c, (size_t)m * n, random);
    if (c->op == INFER_OP_ATTENTION_CHUNKS)
        partial = get_output(c, lines * sizeof *partial);
    else
        y = get_output(c, (size_t)m * n * sizeof *y);
    if (c->op == INFER_OP_ATTENTION_MERGE)
        partial = get_floats(c, lines, random);
    c->args.attention = (infer_attention_args){.q = q, .y = y, .m = m, .heads = l->heads, .kv_heads = l->kv_heads, .head_dim = l->head_dim,
                                               .positions = l->positions, .pos0 = l->positions - m, .q_stride = n, .y_stride = n, .scale = 0.125f,
                                               .partial = partial, .chunks = chunks, .partial_stride = stride};
    c->bytes = (q ? 4.0 * m * n : 0) + (y ? 4.0 * m * n : 0) + (partial ? 4.0 * lines : 0);
    for (uint32_t t = 0; q && t < m; t++)
        c->ops += 4.0 * n * (l->positions - m + t + 1);
}

infer_status infer_case_create(const infer_kernel *kernel, const infer_layer *layer, uint32_t m, size_t cold_bytes, infer_case **out,
                               infer_error *err)
{
    const infer_op_kind op = kernel->op;
    const infer_qtype type = kernel->type;
    bool weights = op == INFER_OP_MATMUL || op == INFER_OP_EMBED;
    const infer_kernel *reference =
        infer_kernel_find(op, type, kernel->layout, INFER_CPU_REF);
    infer_case *c = infer_alloc_zero(NULL, sizeof *c);
    uint64_t random = 1;
    infer_status s = INFER_OK;
    if (!c)
        return infer_fail_memory(err, sizeof *c, "the case");
    if (!reference) {
        infer_case_destroy(c);
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s has no reference kernel for this type", infer_op_name(op));
    }
    c->op = op;
    c->layer = *layer;
    c->m = m;
    c->reference = reference->fn;
    switch (op) {
    case INFER_OP_MATMUL: set_matmul(c, type, &random); break;
    case INFER_OP_EMBED: set_embed(c, type, &random); break;
    case INFER_OP_STORE_K:
    case INFER_OP_STORE_V: set_store(c, type, &random); break;
    case INFER_OP_ATTENTION:
    case INFER_OP_ATTENTION_CHUNKS:
    case INFER_OP_ATTENTION_MERGE: set_attention(c, &random); break;
    default: set_rows(c, &random); break;
    }
    if (infer_layout_sparse(kernel->layout))
        s = make_sparse(c, type, kernel->layout, cold_bytes, &random, err);
    else if (weights)
        s = make_weights(c, type, cold_bytes, &random, err);
    else if (attends(op))
        s = make_cache(c, type, cold_bytes, &random, err);
    if (op == INFER_OP_MATMUL || attends(op))
        c->bytes += c->cold_bytes;
    if (s == INFER_OK && c->short_of_bytes)
        s = infer_fail_memory(err, c->short_of_bytes, "a benchmark's buffers");
    if (s != INFER_OK) {
        infer_case_destroy(c);
        return s;
    }
    *out = c;
    return INFER_OK;
}

void infer_case_destroy(infer_case *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->memory_count; i++)
        infer_free(NULL, c->memory[i]);
    infer_free(NULL, c->cold);
    infer_free(NULL, c);
}

/* ---- runs ---- */

/* The whole output. */
static infer_region all_of(const infer_case *c)
{
    const infer_attention_args *a = &c->args.attention;
    if (c->op == INFER_OP_ATTENTION_CHUNKS)
        return (infer_region){0, a->kv_heads * a->chunks, 0, a->partial_stride};
    return (infer_region){0, c->m, 0, c->op == INFER_OP_EMBED ? c->layer.k : c->layer.n};
}

void infer_case_run(infer_case *c, infer_kernel_fn *kernel)
{
    kernel(&c->args, all_of(c));
    if (c->copies > 1) {
        c->current = c->current + 1 == c->copies ? 0 : c->current + 1;
        point_at_copy(c);
    }
}

double infer_case_bytes(const infer_case *c) { return c->bytes; }
uint64_t infer_case_units(const infer_case *c) { return c->units; }
double infer_case_ops(const infer_case *c) { return c->ops; }

double infer_case_reference_ns(infer_case *c)
{
    infer_region all = all_of(c), part = all;
    double scale;
    double samples[REFERENCE_SAMPLES];
    if (c->op == INFER_OP_MATMUL) {
        uint64_t want = REFERENCE_MACS / ((uint64_t)c->m * c->layer.k) / 16 * 16;
        want = want < 16 ? 16 : want;
        part.col1 = want < part.col1 ? (uint32_t)want : part.col1;
    } else if (c->op == INFER_OP_ATTENTION) { /* the heads of one KV head */
        part.col1 = c->layer.n / c->layer.kv_heads;
    } else if (c->op == INFER_OP_ATTENTION_CHUNKS) {
        part.row1 = all.row1 / c->layer.kv_heads;
    }
    scale = (double)all.col1 / part.col1 * all.row1 / part.row1;
    c->reference(&c->args, part);
    for (uint32_t i = 0; i < REFERENCE_SAMPLES; i++) {
        uint64_t start = infer_now_ns(), ns, runs = 0;
        do {
            c->reference(&c->args, part);
            runs++;
            ns = infer_now_ns() - start;
        } while (ns < REFERENCE_NS);
        samples[i] = scale * ns / runs;
    }
    return infer_median(samples, REFERENCE_SAMPLES);
}

bool infer_case_agrees(infer_case *c, infer_kernel_fn *kernel)
{
    infer_region all = all_of(c);
    uint8_t *before = infer_alloc(NULL, c->output_bytes), *want = infer_alloc(NULL, c->output_bytes);
    bool same = before && want;
    if (same) {
        memcpy(before, c->output, c->output_bytes);
        c->reference(&c->args, all);
        memcpy(want, c->output, c->output_bytes);
        memcpy(c->output, before, c->output_bytes);
        kernel(&c->args, all);
        same = memcmp(c->output, want, c->output_bytes) == 0;
    }
    infer_free(NULL, before);
    infer_free(NULL, want);
    return same;
}
