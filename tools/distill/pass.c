#include "pass.h"

#include "attention.h"
#include "model/rope_table.h"
#include "products.h"

#include <math.h>
#include <string.h>

/* What the way back needs of a layer: [tokens][...], and 1 / rms of each norm. */
typedef struct saved {
    float *x_attn, *h_attn, *q, *k, *v, *attended, *attended_norm, *lse; /* lse [heads][tokens] */
    float *x_ffn, *h_ffn, *gate, *up, *product, *product_norm;
    float *rstd_attn, *rstd_attended, *rstd_ffn, *rstd_product;
} saved;

struct distill_pass {
    const distill_student *student;
    infer_kernel_fn *matmul;
    distill_attention_shape attention;
    uint32_t tokens;
    float *memory;
    saved *layers;
    float *x_out, *h_out, *rstd_out, *logits, *cos, *sin;
    /* on the way */
    float *dx, *dh, *da, *db, *dc, *turned, *columns, *product, *scratch;
};

/* Gives out parts of one piece of memory; with NULL it only counts. */
typedef struct arena {
    float *base;
    size_t used;
} arena;

static float *take(arena *a, size_t n)
{
    float *p = a->base ? a->base + a->used : NULL;
    a->used += infer_round_up(n, 16);
    return p;
}

static void place(distill_pass *p, arena *a)
{
    const infer_config *c = &p->student->config;
    size_t m = p->tokens, d = c->dim, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, f = c->ffn_dim, widest = d > q ? d : q, most = 0;

    for (size_t i = 0; i < p->student->tensor_count; i++)
        most = p->student->tensors[i].weights > most ? p->student->tensors[i].weights : most;
    widest = widest > f ? widest : f;
    for (uint32_t l = 0; l < c->layers; l++)
        p->layers[l] = (saved){
            .x_attn = take(a, m * d), .h_attn = take(a, m * d), .q = take(a, m * q), .k = take(a, m * kv), .v = take(a, m * kv),
            .attended = take(a, m * q), .attended_norm = take(a, c->sub_norms ? m * q : 0), .lse = take(a, c->heads * m),
            .x_ffn = take(a, m * d), .h_ffn = take(a, m * d), .gate = take(a, m * f), .up = take(a, m * f), .product = take(a, m * f),
            .product_norm = take(a, c->sub_norms ? m * f : 0), .rstd_attn = take(a, m), .rstd_attended = take(a, m), .rstd_ffn = take(a, m),
            .rstd_product = take(a, m),
        };
    p->x_out = take(a, m * d);
    p->h_out = take(a, m * d);
    p->rstd_out = take(a, m);
    p->logits = take(a, m * c->vocab);
    p->cos = take(a, m * (c->rope[INFER_ROPE_GLOBAL].dim / 2));
    p->sin = take(a, m * (c->rope[INFER_ROPE_GLOBAL].dim / 2));
    p->dx = take(a, m * d);
    p->dh = take(a, m * widest);
    p->da = take(a, m * widest);
    p->db = take(a, m * widest);
    p->dc = take(a, m * widest);
    p->turned = take(a, m * (widest > c->vocab ? widest : c->vocab));
    p->columns = take(a, distill_packed_size(widest, m));
    p->product = take(a, most);
    m = distill_attention_scratch(&p->attention, p->tokens);
    p->scratch = take(a, m > 2 * (size_t)c->vocab ? m : 2 * (size_t)c->vocab);
}

infer_status distill_pass_create(const distill_student *s, infer_cpu_level level, uint32_t tokens, distill_pass **out, infer_error *err)
{
    const infer_config *c = &s->config;
    const infer_kernel *kernel = infer_kernel_find(INFER_OP_MATMUL, INFER_QTYPE_F32, INFER_LAYOUT_TILE16X4, level);
    distill_pass *p;
    arena a = {NULL, 0};

    if (!kernel)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "this build has no matmul of f32");
    p = infer_alloc_zero(NULL, sizeof *p);
    if (!p)
        return infer_fail_memory(err, sizeof *p, "a pass");
    p->student = s;
    p->matmul = kernel->fn;
    p->tokens = tokens;
    p->attention = (distill_attention_shape){c->heads, c->kv_heads, c->head_dim,
                                             c->attention_scale != 0 ? c->attention_scale : 1.0f / sqrtf((float)c->head_dim)};
    p->layers = infer_alloc_array(NULL, c->layers, sizeof *p->layers);
    if (p->layers) {
        place(p, &a);
        a.base = p->memory = infer_alloc_array(NULL, a.used, sizeof *p->memory);
    }
    if (!p->layers || !p->memory) {
        distill_pass_destroy(p);
        return infer_fail_memory(err, a.used * sizeof *p->memory, "a pass over a window");
    }
    a.used = 0;
    place(p, &a);
    infer_rope_table(&c->rope[INFER_ROPE_GLOBAL], tokens, p->cos, p->sin);
    *out = p;
    return INFER_OK;
}

void distill_pass_destroy(distill_pass *p)
{
    if (!p)
        return;
    infer_free(NULL, p->memory);
    infer_free(NULL, p->layers);
    infer_free(NULL, p);
}

/* ---- forward ---- */

static const float *weight(const distill_pass *p, size_t tensor) { return p->student->weight + p->student->tensors[tensor].weight; }

/* y [m][rows] = x [m][cols] times the matrix. */
static void linear(const distill_pass *p, size_t tensor, const float *x, uint32_t m, float *y)
{
    const distill_tensor *t = &p->student->tensors[tensor];
    uint32_t rows = (uint32_t)t->info.rows, cols = (uint32_t)t->info.cols;
    distill_multiply(p->matmul, x, cols, m, (distill_packed){p->student->packed + t->packed, rows, cols}, 0, cols, rows, y, rows);
}

static void norm(const distill_pass *p, size_t tensor, const float *x, uint32_t m, float *y, float *rstd)
{
    distill_rmsnorm(x, weight(p, tensor), m, (uint32_t)p->student->tensors[tensor].info.cols, p->student->config.norm_eps, y, rstd);
}

static void turn(const distill_pass *p, float *x, uint32_t m, uint32_t heads, float sign)
{
    const infer_config *c = &p->student->config;
    const infer_rope_config *r = &c->rope[INFER_ROPE_GLOBAL];
    distill_rope(x, m, heads, c->head_dim, r->dim, r->pairs == INFER_ROPE_HALVES, p->cos, p->sin, sign);
}

/* `x` [m][dim] is where the layer's output goes. */
static void layer_forward(distill_pass *p, uint32_t l, uint32_t m, float *x)
{
    const infer_config *c = &p->student->config;
    const distill_layer *w = &p->student->layers[l];
    saved *s = &p->layers[l];
    size_t numbers = (size_t)m * c->dim;

    norm(p, w->attn_norm, s->x_attn, m, s->h_attn, s->rstd_attn);
    linear(p, w->q, s->h_attn, m, s->q);
    linear(p, w->k, s->h_attn, m, s->k);
    linear(p, w->v, s->h_attn, m, s->v);
    turn(p, s->q, m, c->heads, 1);
    turn(p, s->k, m, c->kv_heads, 1);
    distill_attention(p->matmul, &p->attention, s->q, s->k, s->v, m, s->attended, s->lse, p->scratch);
    if (c->sub_norms)
        norm(p, w->attn_sub_norm, s->attended, m, s->attended_norm, s->rstd_attended);
    linear(p, w->o, c->sub_norms ? s->attended_norm : s->attended, m, s->x_ffn);
    distill_add(s->x_ffn, s->x_attn, numbers);

    norm(p, w->ffn_norm, s->x_ffn, m, s->h_ffn, s->rstd_ffn);
    linear(p, w->gate, s->h_ffn, m, s->gate);
    linear(p, w->up, s->h_ffn, m, s->up);
    distill_silu_mul(s->gate, s->up, (size_t)m * c->ffn_dim, s->product);
    if (c->sub_norms)
        norm(p, w->ffn_sub_norm, s->product, m, s->product_norm, s->rstd_product);
    linear(p, w->down, c->sub_norms ? s->product_norm : s->product, m, x);
    distill_add(x, s->x_ffn, numbers);
}

/* ---- backward ---- */

/* The matrix's gradient, of inputs x [m][cols] packed by columns, += dy^T x. */
static void weight_back(const distill_pass *p, size_t tensor, const float *columns, const float *dy, uint32_t m, float *gradient)
{
    const distill_tensor *t = &p->student->tensors[tensor];
    uint32_t rows = (uint32_t)t->info.rows, cols = (uint32_t)t->info.cols;
    distill_transpose(dy, rows, m, rows, p->turned, m);
    distill_multiply(p->matmul, p->turned, m, rows, (distill_packed){columns, cols, m}, 0, m, cols, p->product, cols);
    distill_add(gradient + t->weight, p->product, t->weights);
}

/* dx [m][cols] = dy [m][rows] times the matrix. */
static void input_back(const distill_pass *p, size_t tensor, const float *dy, uint32_t m, float *dx)
{
    const distill_tensor *t = &p->student->tensors[tensor];
    uint32_t rows = (uint32_t)t->info.rows, cols = (uint32_t)t->info.cols;
    distill_multiply(p->matmul, dy, rows, m, (distill_packed){p->student->packed_back + t->packed, cols, rows}, 0, rows, cols, dx, cols);
}

static void norm_back(const distill_pass *p, size_t tensor, const float *x, const float *rstd, const float *dy, uint32_t m, float *dx, float *gradient)
{
    const distill_tensor *t = &p->student->tensors[tensor];
    distill_rmsnorm_back(x, weight(p, tensor), rstd, dy, m, (uint32_t)t->info.cols, dx, gradient + t->weight);
}

/* p->dx: in the gradient of the layer's output, out that of its input. */
static void layer_back(distill_pass *p, uint32_t l, uint32_t m, float *gradient)
{
    const infer_config *c = &p->student->config;
    const distill_layer *w = &p->student->layers[l];
    const saved *s = &p->layers[l];
    uint32_t q = c->heads * c->head_dim;
    size_t numbers = (size_t)m * c->dim;
    float *da = p->da, *db = p->db, *dc = p->dc;

    distill_pack_columns(c->sub_norms ? s->product_norm : s->product, c->ffn_dim, c->ffn_dim, m, p->columns);
    weight_back(p, w->down, p->columns, p->dx, m, gradient);
    input_back(p, w->down, p->dx, m, da);
    if (c->sub_norms) {
        norm_back(p, w->ffn_sub_norm, s->product, s->rstd_product, da, m, db, gradient);
        distill_silu_mul_back(s->gate, s->up, db, (size_t)m * c->ffn_dim, da, dc);
    } else {
        distill_silu_mul_back(s->gate, s->up, da, (size_t)m * c->ffn_dim, db, dc);
        da = p->db;
        db = p->da;
    }
    distill_pack_columns(s->h_ffn, c->dim, c->dim, m, p->columns);
    weight_back(p, w->gate, p->columns, da, m, gradient);
    weight_back(p, w->up, p->columns, dc, m, gradient);
    input_back(p, w->gate, da, m, p->dh);
    input_back(p, w->up, dc, m, db);
    distill_add(p->dh, db, numbers);
    norm_back(p, w->ffn_norm, s->x_ffn, s->rstd_ffn, p->dh, m, db, gradient);
    distill_add(p->dx, db, numbers);

    da = p->da;
    db = p->db;
    distill_pack_columns(c->sub_norms ? s->attended_norm : s->attended, q, q, m, p->columns);
    weight_back(p, w->o, p->columns, p->dx, m, gradient);
    input_back(p, w->o, p->dx, m, c->sub_norms ? db : da);
    if (c->sub_norms)
        norm_back(p, w->attn_sub_norm, s->attended, s->rstd_attended, db, m, da, gradient);
    /* k and v together are no wider than two of q */
    distill_attention_back(p->matmul, &p->attention, s->q, s->k, s->v, s->attended, s->lse, da, m, db, dc, p->dh, p->scratch);
    turn(p, db, m, c->heads, -1);
    turn(p, dc, m, c->kv_heads, -1);
    distill_pack_columns(s->h_attn, c->dim, c->dim, m, p->columns);
    weight_back(p, w->q, p->columns, db, m, gradient);
    weight_back(p, w->k, p->columns, dc, m, gradient);
    weight_back(p, w->v, p->columns, p->dh, m, gradient);
    input_back(p, w->v, p->dh, m, da);
    input_back(p, w->q, db, m, p->dh);
    distill_add(p->dh, da, numbers);
    input_back(p, w->k, dc, m, da);
    distill_add(p->dh, da, numbers);
    norm_back(p, w->attn_norm, s->x_attn, s->rstd_attn, p->dh, m, da, gradient);
    distill_add(p->dx, da, numbers);
}

/* What layer l puts out, [tokens][dim]. */
static float *output(const distill_pass *p, uint32_t l)
{
    return l + 1 < p->student->config.layers ? p->layers[l + 1].x_attn : p->x_out;
}

/* The loss of layer l's output beside the teacher's; its gradient is added to p->dx, if `weight` is not 0. */
static double layer_loss(const distill_pass *p, const distill_pass *teacher, uint32_t l, uint32_t m, float weight)
{
    uint32_t layers = p->student->config.layers, d = p->student->config.dim;
    uint32_t other = (uint32_t)((uint64_t)(l + 1) * teacher->student->config.layers / layers);
    const float *x = output(p, l), *y = output(teacher, other ? other - 1 : 0);
    double sum = 0;
    for (size_t t = 0; t < m; t++, x += d, y += d) {
        double square = 1e-12, apart = 0;
        float scale;
        for (uint32_t i = 0; i < d; i++) {
            square += (double)y[i] * (double)y[i];
            apart += (double)(x[i] - y[i]) * (double)(x[i] - y[i]);
        }
        sum += apart / square / layers;
        scale = (float)(2 * (double)weight / square / layers);
        for (uint32_t i = 0; weight != 0 && i < d; i++)
            p->dx[t * d + i] += scale * (x[i] - y[i]);
    }
    return sum;
}

const float *distill_pass_predict(distill_pass *p, const int32_t *ids, uint32_t m)
{
    const distill_student *s = p->student;
    const infer_config *c = &s->config;
    const distill_tensor *embed = &s->tensors[s->tok_embed];
    uint32_t d = c->dim;

    for (uint32_t t = 0; t < m; t++)
        memcpy((c->layers ? p->layers[0].x_attn : p->x_out) + (size_t)t * d, s->weight + embed->weight + (size_t)ids[t] * d, d * sizeof(float));
    for (uint32_t l = 0; l < c->layers; l++)
        layer_forward(p, l, m, output(p, l));
    norm(p, s->out_norm, p->x_out, m, p->h_out, p->rstd_out);
    linear(p, s->head, p->h_out, m, p->logits);
    return p->logits;
}

void distill_pass_run(distill_pass *p, const int32_t *ids, uint32_t m, const float *teacher, const distill_pass *layers, const distill_objective *o,
                      float *gradient, distill_losses *losses)
{
    const distill_student *s = p->student;
    const infer_config *c = &s->config;
    const distill_tensor *embed = &s->tensors[s->tok_embed];
    uint32_t d = c->dim;
    float layer_weight = gradient ? o->layer_loss * o->weight : 0;

    distill_pass_predict(p, ids, m);
    for (uint32_t t = 0; t < m; t++) {
        size_t at = (size_t)t * c->vocab;
        distill_loss loss = distill_loss_row(p->logits + at, teacher + at, c->vocab, (uint32_t)ids[t + 1], o->temperature, o->kl_share, o->weight, p->scratch);
        losses->kl += loss.kl;
        losses->ce += loss.ce;
    }
    if (gradient) {
        distill_pack_columns(p->h_out, d, d, m, p->columns);
        weight_back(p, s->head, p->columns, p->logits, m, gradient);
        input_back(p, s->head, p->logits, m, p->dh);
        norm_back(p, s->out_norm, p->x_out, p->rstd_out, p->dh, m, p->dx, gradient);
    }
    for (uint32_t l = c->layers; l-- > 0;) {
        if (layers)
            losses->layers += layer_loss(p, layers, l, m, layer_weight);
        if (gradient)
            layer_back(p, l, m, gradient);
    }
    for (uint32_t t = 0; t < m && gradient; t++)
        distill_add(gradient + embed->weight + (size_t)ids[t] * d, p->dx + (size_t)t * d, d);
}
