#include "shapes.h"

#include "cols.h"
#include "file.h"
#include "pack/pack.h"

#include <stdio.h>
#include <string.h>

#define PANEL_ROWS 16u
#define POOL_PANELS 64u /* distinct panels for each number of inputs */
#define DEVIATION 0.02f

static const infer_shape shapes[] = {
#define SHAPE(...) {__VA_ARGS__},
#include "shapes.def"
#undef SHAPE
};

const infer_shape *infer_shapes(size_t *count)
{
    *count = sizeof shapes / sizeof *shapes;
    return shapes;
}

const infer_shape *infer_shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

uint64_t infer_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717u;
}

float infer_random_normal(uint64_t *state)
{
    uint32_t sum = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t r = infer_random(state);
        sum += (uint32_t)(r & 0xffff) + (uint32_t)(r >> 16 & 0xffff) + (uint32_t)(r >> 32 & 0xffff) + (uint32_t)(r >> 48);
    }
    return (float)sum / 65536.0f - 6.0f;
}

/* ---- tensors, in the order of the file ---- */

typedef struct tensor {
    char name[32];
    uint32_t rows, cols;
    bool matrix;
} tensor;

enum { LAYER_TENSORS = 9, LAYER_BIASES = 3 };

static size_t layer_tensors(const infer_shape *s) { return LAYER_TENSORS + (s->qkv_bias ? LAYER_BIASES : 0); }
static size_t tensor_count(const infer_shape *s) { return 2 + s->layers * layer_tensors(s) + !s->tied_head; }

static tensor tensor_at(const infer_shape *s, size_t index)
{
    uint32_t q_dim = s->heads * s->head_dim, kv_dim = s->kv_heads * s->head_dim;
    const struct {
        const char *name;
        uint32_t rows, cols;
        bool matrix;
    } of_layer[LAYER_TENSORS + LAYER_BIASES] = {
        {"attn_norm", 1, s->dim, false}, {"q", q_dim, s->dim, true}, {"k", kv_dim, s->dim, true}, {"v", kv_dim, s->dim, true},
        {"o", s->dim, q_dim, true}, {"ffn_norm", 1, s->dim, false}, {"gate", s->ffn_dim, s->dim, true}, {"up", s->ffn_dim, s->dim, true},
        {"down", s->dim, s->ffn_dim, true},
        {"q_bias", 1, q_dim, false}, {"k_bias", 1, kv_dim, false}, {"v_bias", 1, kv_dim, false},
    };
    size_t in_layers = s->layers * layer_tensors(s);
    tensor t = {"tok_embed", s->vocab, s->dim, true};
    if (index == 0)
        return t;
    if (index <= in_layers) {
        size_t i = (index - 1) % layer_tensors(s);
        snprintf(t.name, sizeof t.name, "layers.%u.%s", (unsigned)((index - 1) / layer_tensors(s)), of_layer[i].name);
        t.rows = of_layer[i].rows;
        t.cols = of_layer[i].cols;
        t.matrix = of_layer[i].matrix;
    } else if (index == in_layers + 1) {
        t = (tensor){"out_norm", 1, s->dim, false};
    } else {
        t = (tensor){"head", s->vocab, s->dim, true};
    }
    return t;
}

/* ---- panels ---- */

/* Packed panels with k inputs: POOL_PANELS whole ones, and the last one of a matrix whose rows are no multiple of 16. */
typedef struct panel_pool {
    infer_qtype type;
    uint32_t k;
    uint64_t panel_bytes, random;
    float *rows;
    uint8_t *panels, *last;
} panel_pool;

static void free_pool(panel_pool *p)
{
    infer_free(NULL, p->rows);
    infer_free(NULL, p->panels);
    infer_free(NULL, p->last);
    *p = (panel_pool){.random = p->random};
}

static infer_status pack(panel_pool *p, uint32_t n, uint8_t *panel, infer_error *err)
{
    for (size_t i = 0; i < (size_t)n * p->k; i++)
        p->rows[i] = DEVIATION * infer_random_normal(&p->random);
    return infer_pack_panel(p->type, p->rows, n, p->k, panel) ? INFER_OK : infer_fail(err, INFER_ERROR_FORMAT, "a panel of type %s cannot be packed",
                                                                                      infer_qtype_find(p->type)->name);
}

static infer_status fill_pool(panel_pool *p, infer_qtype type, uint32_t k, infer_error *err)
{
    infer_status s = INFER_OK;
    if (p->k == k && p->type == type)
        return INFER_OK;
    free_pool(p);
    p->type = type;
    p->k = k;
    p->panel_bytes = infer_panel_bytes(type, k);
    p->rows = infer_alloc(NULL, (size_t)PANEL_ROWS * k * sizeof *p->rows);
    p->panels = infer_alloc(NULL, (size_t)p->panel_bytes * POOL_PANELS);
    p->last = infer_alloc(NULL, (size_t)p->panel_bytes);
    if (!p->rows || !p->panels || !p->last)
        return infer_fail_memory(err, (size_t)p->panel_bytes * POOL_PANELS, "random weights");
    for (uint32_t i = 0; i < POOL_PANELS && s == INFER_OK; i++)
        s = pack(p, PANEL_ROWS, p->panels + i * p->panel_bytes, err);
    return s;
}

/* Without the lowest code, which has no opposite: a mean that is not 0 would pile up from layer to layer. */
static uint8_t symmetric(uint8_t byte, uint32_t bits)
{
    if (bits == 8)
        return byte == 128 ? 0 : byte;
    return byte | (byte & 15 ? 0 : 8) | (byte >> 4 ? 0 : 128);
}

/* Codes of all values; factors and scales for the usual deviation. */
static infer_status random_cols(infer_qtype type, uint32_t rows, uint32_t k, uint64_t *random, uint8_t *out, infer_error *err)
{
    infer_cols c = infer_cols_at(out, rows, k, infer_qtype_find(type)->cols_bits);
    float *column = (float *)(void *)out, *row = column + c.groups * INFER_COLS_GROUP;
    uint64_t bytes = 0;

    if (!infer_tensor_bytes(type, INFER_LAYOUT_COLS, rows, k, &bytes))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "weights of %u x %u cannot be stored", rows, k);
    memset(out, 0, (size_t)bytes);
    for (uint32_t i = 0; i < k; i++)
        column[i] = 1;
    for (uint32_t o = 0; o < rows; o++)
        row[o] = DEVIATION / (c.bits == 8 ? 73.0f : 4.2f); /* deviation of the codes */
    for (size_t o = 0, width; o < c.padded; o += width) {
        infer_cols_stripe s = infer_cols_stripe_of(&c, o);
        width = s.width;
        for (size_t g = 0; g < c.groups; g++) {
            uint8_t *group = (uint8_t *)infer_cols_group(&c, &s, g), *codes = group + width;
            memset(group, 7 << 4, width); /* 1 */
            for (size_t i = 0; i < INFER_COLS_GROUP * infer_cols_codes_bytes(width, c.bits); i += 8) {
                uint64_t r = infer_random(random);
                for (int j = 0; j < 8; j++)
                    codes[i + j] = symmetric((uint8_t)(r >> 8 * j), c.bits);
            }
        }
    }
    return INFER_OK;
}

infer_status infer_random_matrix(infer_qtype type, uint32_t rows, uint32_t k, uint64_t *random, uint8_t *out, infer_error *err)
{
    panel_pool pool = {.random = *random};
    infer_status s;
    if (infer_matrix_layout(type) == INFER_LAYOUT_COLS)
        return random_cols(type, rows, k, random, out, err);
    s = fill_pool(&pool, type, k, err);
    for (uint32_t row = 0; row < rows && s == INFER_OK; row += PANEL_ROWS, out += pool.panel_bytes) {
        if (rows - row < PANEL_ROWS)
            s = pack(&pool, rows - row, out, err);
        else
            memcpy(out, pool.panels + infer_random(&pool.random) % POOL_PANELS * pool.panel_bytes, (size_t)pool.panel_bytes);
    }
    *random = pool.random;
    free_pool(&pool);
    return s;
}

static infer_status write_matrix(infer_writer *w, panel_pool *p, uint32_t rows, const volatile sig_atomic_t *stop, infer_error *err)
{
    infer_status s = INFER_OK;
    for (uint32_t row = 0; row < rows && s == INFER_OK; row += PANEL_ROWS) {
        const uint8_t *panel = p->panels + infer_random(&p->random) % POOL_PANELS * p->panel_bytes;
        if (*stop)
            return infer_fail(err, INFER_ERROR_CANCELLED, "the writing of random weights was cancelled");
        if (rows - row < PANEL_ROWS) {
            if ((s = pack(p, rows - row, p->last, err)) != INFER_OK)
                return s;
            panel = p->last;
        }
        s = infer_writer_write(w, panel, (size_t)p->panel_bytes, err);
    }
    return s;
}

static infer_status write_ones(infer_writer *w, uint32_t n, infer_error *err)
{
    const float one = 1;
    infer_status s = INFER_OK;
    for (uint32_t i = 0; i < n && s == INFER_OK; i++)
        s = infer_writer_write(w, &one, sizeof one, err);
    return s;
}

/* As infer-convert has it: embeddings and the head are not in the layout cols. */
static infer_qtype type_of(const tensor *t, infer_qtype type)
{
    if (!t->matrix)
        return INFER_QTYPE_F32;
    if (infer_matrix_layout(type) == INFER_LAYOUT_COLS && strncmp(t->name, "layers.", 7) != 0)
        return infer_qtype_find(type)->cols_bits == 8 ? INFER_QTYPE_Q8G32 : INFER_QTYPE_Q4G32;
    return type;
}

static infer_status write_cols(infer_writer *w, const tensor *t, infer_qtype type, uint64_t *random, const volatile sig_atomic_t *stop, infer_error *err)
{
    uint64_t bytes = 0;
    uint8_t *out;
    infer_status s;
    if (*stop)
        return infer_fail(err, INFER_ERROR_CANCELLED, "the writing of random weights was cancelled");
    infer_tensor_bytes(type, INFER_LAYOUT_COLS, t->rows, t->cols, &bytes);
    if (!(out = infer_alloc(NULL, (size_t)bytes)))
        return infer_fail_memory(err, (size_t)bytes, "random weights");
    if ((s = random_cols(type, t->rows, t->cols, random, out, err)) == INFER_OK)
        s = infer_writer_write(w, out, (size_t)bytes, err);
    infer_free(NULL, out);
    return s;
}

infer_qtype infer_prune_type(infer_qtype type)
{
    return type == INFER_QTYPE_Q8G32 ? INFER_QTYPE_Q8G64 : type == INFER_QTYPE_Q4G32 ? INFER_QTYPE_Q4G64 : INFER_QTYPE_NONE;
}

/* The matrix that is written next, in memory until then: its size depends on what is kept. */
static infer_status make_sparse(const tensor *t, infer_qtype type, const infer_prune *prune, uint64_t seed, uint8_t **out, uint64_t *bytes,
                                infer_error *err)
{
    return infer_random_sparse(infer_prune_type(type), prune->layout, t->rows, t->cols, prune->rate, &seed, out, bytes, err);
}

static bool is_pruned(const tensor *t, const infer_prune *prune) { return prune->rate > 0 && t->matrix && strcmp(t->name, "tok_embed") != 0; }

static infer_status declare(infer_writer *w, const tensor *t, infer_qtype type, const infer_prune *prune, uint64_t seed, infer_error *err)
{
    infer_qtype of = type_of(t, type);
    infer_status s;
    uint8_t *out;
    uint64_t bytes;
    if (!is_pruned(t, prune))
        return infer_writer_declare(w, t->name, of, t->matrix ? infer_matrix_layout(of) : INFER_LAYOUT_ROWS, t->rows, t->cols, err);
    if ((s = make_sparse(t, type, prune, seed, &out, &bytes, err)) != INFER_OK)
        return s;
    infer_free(NULL, out);
    return infer_writer_declare_sparse(w, t->name, infer_prune_type(type), prune->layout, t->rows, t->cols, bytes, err);
}

static infer_status write_sparse(infer_writer *w, const tensor *t, infer_qtype type, const infer_prune *prune, uint64_t seed, infer_error *err)
{
    uint8_t *out;
    uint64_t bytes;
    infer_status s = make_sparse(t, type, prune, seed, &out, &bytes, err);
    if (s != INFER_OK)
        return s;
    s = infer_writer_write(w, out, (size_t)bytes, err);
    infer_free(NULL, out);
    return s;
}

static infer_status write_tensors(const infer_shape *shape, infer_qtype type, const infer_prune *prune, infer_writer *w, const volatile sig_atomic_t *stop, infer_error *err)
{
    size_t count = tensor_count(shape);
    panel_pool pool = {.random = 1};
    infer_status s = INFER_OK;
    for (size_t i = 0; i < count && s == INFER_OK; i++) {
        tensor t = tensor_at(shape, i);
        s = *stop ? infer_fail(err, INFER_ERROR_CANCELLED, "the writing of random weights was cancelled") : declare(w, &t, type, prune, i + 1, err);
    }
    for (size_t i = 0; i < count && s == INFER_OK; i++) {
        tensor t = tensor_at(shape, i);
        if (!t.matrix)
            s = write_ones(w, t.cols, err);
        else if (is_pruned(&t, prune))
            s = write_sparse(w, &t, type, prune, i + 1, err);
        else if (infer_matrix_layout(type_of(&t, type)) == INFER_LAYOUT_COLS)
            s = write_cols(w, &t, type, &pool.random, stop, err);
        else if ((s = fill_pool(&pool, type_of(&t, type), t.cols, err)) == INFER_OK)
            s = write_matrix(w, &pool, t.rows, stop, err);
    }
    free_pool(&pool);
    return s;
}

infer_status infer_shape_write(const infer_shape *shape, infer_qtype type, const infer_prune *prune, const char *path, const volatile sig_atomic_t *stop, infer_error *err)
{
    char metadata[768], scaling[160] = "";
    infer_writer_options options = {.metadata = metadata, .vocab = ""};
    infer_writer *w;
    infer_status s;
    if (shape->rope_factor > 0)
        snprintf(scaling, sizeof scaling, ",\"scaling\":{\"type\":\"llama3\",\"factor\":%.0f,\"low_freq_factor\":1,\"high_freq_factor\":4,"
                 "\"original_context\":8192}", shape->rope_factor);
    snprintf(metadata, sizeof metadata,
             "{\"architecture\":\"llama\",\"name\":\"%s, random weights\",\"dim\":%u,\"layers\":%u,\"heads\":%u,\"kv_heads\":%u,\"head_dim\":%u,"
             "\"ffn_dim\":%u,\"vocab\":%u,\"context\":%u,\"norm_eps\":1e-05,\"rope\":{\"theta\":%.0f,\"dim\":%u,\"pairs\":\"halves\"%s},"
             "\"qkv_bias\":%s,\"tied_head\":%s}",
             shape->name, shape->dim, shape->layers, shape->heads, shape->kv_heads, shape->head_dim, shape->ffn_dim, shape->vocab, shape->context,
             shape->rope_theta, shape->head_dim, scaling, shape->qkv_bias ? "true" : "false", shape->tied_head ? "true" : "false");
    if ((s = infer_writer_create(NULL, path, &options, &w, err)) != INFER_OK)
        return s;
    s = write_tensors(shape, type, prune, w, stop, err);
    if (s != INFER_OK) {
        infer_writer_abort(w);
        return s;
    }
    return infer_writer_finish(w, err);
}
