#include "calibrate.h"

#include "convert/gptq.h"
#include "model/model.h"
#include "pack/pack.h"
#include "tile16x4.h"

#include <string.h>

/* On the diagonal of the head's moments where it is the embeddings too, as a share of the mean: in a row's other office an error counts the
 * same in every direction. KL divergence x 1000 on 300 held-out stories, calibrated with 40,000 tokens, of stories260K and tinystories-656K,
 * q4g32: 0.03: 55.1, 39.6; 0.1: 53.2, 36.9; 0.4: 55.0, 34.3; 1: 55.8, 32.7; 4: 56.5, 32.7. */
#define TIED_DAMPING 1.0

#define MOMENT_BYTES ((uint64_t)4 << 30) /* most memory for moments and their factor */

/* The model, either as it is or with what was rounded so far, and the residual stream that it has made of the text. */
typedef struct stream {
    infer_plan *plan;
    float *residual; /* [tokens][dim] */
} stream;

typedef struct calibrator {
    infer_model *model;
    const infer_source *source;
    const infer_qtype *types;
    const calibrate_options *o;
    infer_convert_packed *packed;
    stream exact, rounded;
    uint32_t dim;
    float **floats; /* [tensors] rounded values of the matrices in use, tile16x4 in f32; NULL: not there */
    uint64_t done, total;
    infer_error *err;
} calibrator;

/* ---- graph ---- */

static const infer_node *node_at(const calibrator *c, uint32_t i) { return &c->exact.plan->graph.nodes[i]; }
static uint32_t node_count(const calibrator *c) { return (uint32_t)c->exact.plan->graph.node_count; }

/* Index of a node's weight in the source; the count when it has none. */
static size_t tensor_of(const calibrator *c, uint32_t node)
{
    const infer_tensor_info *info = node_at(c, node)->weight.info;
    size_t i = 0;
    while (i < c->source->tensor_count && (!info || strcmp(c->source->tensors[i].name, info->name) != 0))
        i++;
    return i;
}

static double rate_of(const calibrator *c, size_t tensor) { return c->o->rates ? c->o->rates[tensor] : 0; }

static bool wanted(const calibrator *c, uint32_t node)
{
    size_t t = node_at(c, node)->op == INFER_OP_MATMUL ? tensor_of(c, node) : c->source->tensor_count;
    return t < c->source->tensor_count && !c->packed[t].data && (infer_quantizer_find(c->types[t]) || rate_of(c, t) > 0);
}

/* A segment: the nodes of a layer, or those before or behind all layers. */
static uint32_t segment_end(const calibrator *c, uint32_t first)
{
    uint32_t end = first;
    while (end < node_count(c) && node_at(c, end)->layer == node_at(c, first)->layer)
        end++;
    return end;
}

/* The value that nodes before `first` hand to it and those behind it: the residual stream. */
static infer_status residual_value(const calibrator *c, uint32_t first, uint32_t *out)
{
    const infer_graph *g = &c->exact.plan->graph;
    uint32_t found = INFER_NONE;
    for (uint32_t i = first; i < node_count(c); i++)
        for (int k = 0; k < INFER_NODE_INPUTS; k++) {
            uint32_t v = g->nodes[i].in[k];
            if (v == INFER_NONE || g->values[v].producer >= first || v == found)
                continue;
            if (found != INFER_NONE)
                return infer_fail(c->err, INFER_ERROR_UNSUPPORTED, "node %s: calibration knows models whose layers share one value, and this is a second",
                                  g->nodes[i].name);
            found = v;
        }
    *out = found;
    return INFER_OK;
}

/* ---- running parts ---- */

/* Window `w` through nodes first..end - 1, from the residual stream where `value` is one. */
static infer_status run_window(calibrator *c, stream *s, size_t w, uint32_t value, uint32_t first, uint32_t end)
{
    const eval_window *window = &c->o->text->windows[w];
    infer_batch batch = {.ids = c->o->text->ids + window->first, .m = window->inputs, .logits = window->inputs, .first_node = first, .end_node = end};

    if (value != INFER_NONE) {
        float *x = infer_plan_f32(s->plan, value, INFER_ROWS_TOKENS, &batch);
        for (uint32_t t = 0; t < window->inputs; t++)
            memcpy(x + (size_t)t * infer_plan_stride(s->plan, value), s->residual + (window->first + t) * c->dim, c->dim * sizeof *x);
    }
    return first == end ? INFER_OK : infer_plan_run(s->plan, c->model->rt->pool, &batch, c->err);
}

/* The value's rows, [inputs][cols], of the window just run. */
static void read_rows(const calibrator *c, const stream *s, size_t w, uint32_t value, infer_rows rows, float *out, size_t stride)
{
    const eval_window *window = &c->o->text->windows[w];
    infer_batch batch = {.m = window->inputs, .logits = window->inputs};
    const float *x = infer_plan_f32(s->plan, value, rows, &batch);
    for (uint32_t t = 0; t < window->inputs; t++)
        memcpy(out + t * stride, x + (size_t)t * infer_plan_stride(s->plan, value), s->plan->graph.values[value].cols * sizeof *out);
}

static infer_status advance(calibrator *c, uint64_t tokens)
{
    c->done += tokens;
    if (c->o->progress && c->o->progress(c->o->user, c->done, c->total))
        return infer_fail(c->err, INFER_ERROR_CANCELLED, "interrupted");
    return INFER_OK;
}

typedef struct moments_job {
    infer_moments *moments;
    const float *y, *x;
    uint32_t m;
    _Atomic uint32_t next;
} moments_job;

static void add_moments(void *arg, uint32_t thread)
{
    moments_job *j = arg;
    uint32_t k = j->moments->k, i;
    (void)thread;
    while ((i = atomic_fetch_add(&j->next, 16)) < k) {
        uint32_t end = i + 16 < k ? i + 16 : k;
        infer_moments_add(j->moments->h, j->x, j->x, j->m, k, i, end);
        if (j->moments->cross)
            infer_moments_add(j->moments->cross, j->y, j->x, j->m, k, i, end);
    }
}

static infer_status gather(calibrator *c, uint32_t value, uint32_t first, uint32_t node, infer_moments *m)
{
    uint32_t x = node_at(c, node)->in[0];
    infer_rows rows = c->exact.plan->graph.values[x].rows;
    float *exact = infer_alloc_array(NULL, (size_t)c->o->window * m->k, sizeof *exact);
    float *rounded = infer_alloc_array(NULL, (size_t)c->o->window * m->k, sizeof *rounded);
    infer_status s = exact && rounded ? INFER_OK : infer_fail_memory(c->err, (size_t)c->o->window * m->k * sizeof *exact, "a window's inputs");

    for (size_t w = 0; w < c->o->text->window_count && s == INFER_OK; w++) {
        moments_job job = {.moments = m, .y = exact, .x = rounded, .m = c->o->text->windows[w].inputs};
        if ((s = run_window(c, &c->rounded, w, value, first, node)) != INFER_OK)
            break;
        read_rows(c, &c->rounded, w, x, rows, rounded, m->k);
        if (m->cross) {
            if ((s = run_window(c, &c->exact, w, value, first, node)) != INFER_OK)
                break;
            read_rows(c, &c->exact, w, x, rows, exact, m->k);
        }
        infer_pool_run(c->model->rt->pool, add_moments, &job);
        m->rows += job.m;
        s = advance(c, job.m);
    }
    infer_free(NULL, exact);
    infer_free(NULL, rounded);
    return s;
}

/* ---- pruning and rounding ---- */

typedef struct round_job {
    const infer_gptq *gptq;
    const infer_quantizer *quantizer; /* NULL: the type has no groups to calibrate */
    const infer_pruner *pruner;       /* NULL: nothing is pruned */
    double rate;
    double (*losses)[2];              /* [panels] when pruning */
    uint64_t *zeros;                  /* [panels] the same */
    infer_qtype type;
    const float *w; /* tile16x4 */
    uint8_t *packed;
    float *floats;  /* tile16x4 of the rounded values */
    uint32_t rows, k;
    uint8_t *memory; /* of each thread */
    size_t memory_each, scratch_bytes;
    _Atomic uint32_t next, failed;
} round_job;

/* The scratch space of pruning and rounding, 16 rows, their scales, codes, and which of them stay. */
static void measure_memory(round_job *j)
{
    size_t rounding = infer_gptq_scratch(j->gptq) * sizeof(double), pruning = j->pruner ? infer_pruner_scratch(j->pruner) : 0;
    j->scratch_bytes = infer_round_up(rounding > pruning ? rounding : pruning, 64);
    j->memory_each = infer_round_up(j->scratch_bytes + 16 * (size_t)j->k * (sizeof(float) + 2) + 16 * infer_ceil_div(j->k, 32) * 2, 64);
}

static void round_panels(void *arg, uint32_t thread)
{
    round_job *j = arg;
    uint32_t panels = (uint32_t)infer_ceil_div(j->rows, INFER_TILE_ROWS), p;
    void *scratch = j->memory + thread * j->memory_each;
    float *rows = (float *)(void *)((uint8_t *)scratch + j->scratch_bytes);
    uint16_t *scales = (uint16_t *)(rows + 16 * (size_t)j->k);
    int8_t *codes = (int8_t *)(scales + 16 * infer_ceil_div(j->k, 32));
    uint8_t *kept = (uint8_t *)codes + 16 * (size_t)j->k;

    while ((p = atomic_fetch_add(&j->next, 1)) < panels && !atomic_load(&j->failed)) {
        uint32_t n = j->rows - p * INFER_TILE_ROWS < INFER_TILE_ROWS ? j->rows - p * INFER_TILE_ROWS : INFER_TILE_ROWS;
        uint8_t *packed = j->packed + p * infer_panel_bytes(j->type, j->k);
        size_t float_bytes = (size_t)infer_panel_bytes(INFER_QTYPE_F32, j->k);
        bool fits = true;
        infer_unpack_panel(INFER_QTYPE_F32, (const uint8_t *)j->w + p * float_bytes, n, j->k, rows);
        if (j->pruner) {
            fits = infer_pruner_panel(j->pruner, j->rate, j->type != INFER_QTYPE_T2R, rows, n, kept, scratch, j->losses[p]);
            for (size_t i = 0; i < (size_t)n * j->k; i++)
                j->zeros[p] += !kept[i];
        }
        if (fits && j->quantizer)
            fits = infer_gptq_panel(j->gptq, j->quantizer, rows, j->pruner ? kept : NULL, n, codes, scales, scratch, NULL) &&
                   infer_pack_panel_codes(j->type, codes, scales, n, j->k, packed);
        else if (fits)
            fits = infer_pack_panel(j->type, rows, n, j->k, NULL, packed);
        if (!fits) {
            atomic_store(&j->failed, 1);
            break;
        }
        infer_unpack_panel(j->type, packed, n, j->k, rows);
        infer_pack_panel(INFER_QTYPE_F32, rows, n, j->k, NULL, (uint8_t *)j->floats + p * float_bytes);
    }
}

static infer_status fail_value(const calibrator *c, const infer_tensor_info *t, infer_qtype type)
{
    return infer_fail(c->err, INFER_ERROR_FORMAT, "tensor %s: a value is not finite, or too large for %s", t->name, infer_qtype_find(type)->name);
}

/* From here on the rounded model uses these values of the tensor. */
static void use(calibrator *c, size_t tensor, const infer_tensor_info *info, float *floats)
{
    infer_graph *g = &c->rounded.plan->graph;
    c->floats[tensor] = floats;
    for (size_t i = 0; i < g->node_count; i++)
        if (g->nodes[i].weight.info == info) /* both streams share the model's list of tensors */
            g->nodes[i].weight.data = floats;
}

/* The sums of all panels, in their order. */
static void report_pruned(calibrator *c, size_t tensor, const round_job *j)
{
    double losses[2] = {0}, zeros = 0;
    for (size_t p = 0; p < infer_ceil_div(j->rows, INFER_TILE_ROWS); p++) {
        losses[0] += j->losses[p][0];
        losses[1] += j->losses[p][1];
        zeros += (double)j->zeros[p];
    }
    c->o->pruned[tensor] = (calibrate_pruned){zeros / ((double)j->rows * j->k), losses[1] > 0 ? losses[0] / losses[1] : 0};
}

static infer_status round_matrix(calibrator *c, uint32_t node, const infer_gptq *gptq, const infer_pruner *pruner)
{
    size_t tensor = tensor_of(c, node), panels;
    const infer_node *n = node_at(c, node);
    uint32_t threads = infer_pool_threads(c->model->rt->pool), k = (uint32_t)n->weight.info->cols;
    round_job j = {.gptq = gptq, .quantizer = infer_quantizer_find(c->types[tensor]), .pruner = rate_of(c, tensor) > 0 ? pruner : NULL,
                   .rate = rate_of(c, tensor), .type = c->types[tensor], .w = n->weight.data, .rows = (uint32_t)n->weight.info->rows, .k = k};
    uint64_t packed_bytes;
    infer_status s = INFER_OK;

    panels = infer_ceil_div(j.rows, INFER_TILE_ROWS);
    packed_bytes = panels * infer_panel_bytes(j.type, k);
    measure_memory(&j);
    j.memory = infer_alloc(NULL, threads * j.memory_each);
    j.packed = infer_alloc(NULL, packed_bytes);
    j.floats = infer_alloc_zero(NULL, n->weight.info->bytes);
    j.losses = infer_alloc_array(NULL, panels, sizeof *j.losses);
    j.zeros = infer_alloc_array(NULL, panels, sizeof *j.zeros);
    if (!j.memory || !j.packed || !j.floats || !j.losses || !j.zeros)
        s = infer_fail_memory(c->err, packed_bytes + n->weight.info->bytes + threads * j.memory_each, n->weight.info->name);
    if (s == INFER_OK) {
        infer_pool_run(c->model->rt->pool, round_panels, &j);
        if (atomic_load(&j.failed))
            s = fail_value(c, n->weight.info, j.type);
    }
    if (s == INFER_OK) {
        if (j.pruner)
            report_pruned(c, tensor, &j);
        c->packed[tensor] = (infer_convert_packed){j.type, j.packed};
        use(c, tensor, n->weight.info, j.floats);
        j.packed = NULL;
        j.floats = NULL;
    }
    infer_free(NULL, j.memory);
    infer_free(NULL, j.packed);
    infer_free(NULL, j.floats);
    infer_free(NULL, j.losses);
    infer_free(NULL, j.zeros);
    return s;
}

/* k x k matrices of doubles that calibration holds at once. */
static uint64_t count_squares(const calibrator *c)
{
    static const uint64_t of_method[] = {[INFER_PRUNE_SPARSEGPT] = 1, [INFER_PRUNE_OBS] = 2};
    return 3 + (c->o->rates ? infer_pool_threads(c->model->rt->pool) + of_method[c->o->method] : 0);
}

/* All matrices that read the input of `node` and are not rounded yet. */
static infer_status round_group(calibrator *c, uint32_t value, uint32_t first, uint32_t node, uint32_t end, double damping)
{
    const infer_tensor_info *info = node_at(c, node)->weight.info;
    uint32_t x = node_at(c, node)->in[0];
    infer_moments m = {.k = (uint32_t)info->cols};
    uint64_t bytes = count_squares(c) * sizeof *m.h * m.k * m.k;
    infer_gptq *gptq = NULL;
    infer_pruner *pruner = NULL;
    infer_status s = INFER_OK;

    if (bytes > MOMENT_BYTES)
        return infer_fail(c->err, INFER_ERROR_UNSUPPORTED, "tensor %s: the moments of its %u inputs take %llu MiB, and calibration has at most %llu",
                          info->name, m.k, (unsigned long long)(bytes >> 20), (unsigned long long)(MOMENT_BYTES >> 20));
    m.h = infer_alloc_array(NULL, (size_t)m.k * m.k, sizeof *m.h);
    m.cross = infer_alloc_array(NULL, (size_t)m.k * m.k, sizeof *m.cross);
    if (!m.h || !m.cross)
        s = infer_fail_memory(c->err, 2 * (size_t)m.k * m.k * sizeof *m.h, "the moments of a matrix's inputs");
    if (s == INFER_OK && (s = gather(c, value, first, node, &m)) == INFER_OK)
        s = infer_gptq_create(NULL, &m, damping, &gptq, c->err);
    if (s == INFER_OK && c->o->rates)
        s = infer_pruner_create(NULL, m.k, &m, c->o->method, c->o->block, damping, &pruner, c->err);
    for (uint32_t i = node; i < end && s == INFER_OK; i++)
        if (wanted(c, i) && node_at(c, i)->in[0] == x)
            s = round_matrix(c, i, gptq, pruner);
    infer_pruner_free(pruner);
    infer_gptq_free(gptq);
    infer_free(NULL, m.h);
    infer_free(NULL, m.cross);
    return s;
}

static infer_status keep_residual(calibrator *c, uint32_t value, uint32_t first, uint32_t end)
{
    stream *streams[] = {&c->exact, &c->rounded};
    uint32_t next = INFER_NONE;
    infer_status s = residual_value(c, end, &next);

    for (size_t w = 0; w < c->o->text->window_count && s == INFER_OK; w++) {
        for (int i = 0; i < 2 && s == INFER_OK; i++)
            if ((s = run_window(c, streams[i], w, value, first, end)) == INFER_OK)
                read_rows(c, streams[i], w, next, INFER_ROWS_TOKENS, streams[i]->residual + c->o->text->windows[w].first * c->dim, c->dim);
        if (s == INFER_OK)
            s = advance(c, c->o->text->windows[w].inputs);
    }
    return s;
}

static infer_status run_segments(calibrator *c)
{
    infer_status s = INFER_OK;
    uint32_t value = INFER_NONE;

    for (uint32_t first = 0, end; first < node_count(c) && s == INFER_OK; first = end) {
        end = segment_end(c, first);
        if (first && (s = residual_value(c, first, &value)) != INFER_OK)
            break;
        for (uint32_t i = first; i < end && s == INFER_OK; i++)
            if (wanted(c, i))
                s = round_group(c, value, first, i, end, c->o->damping);
        if (s == INFER_OK && end < node_count(c))
            s = keep_residual(c, value, first, end);
        for (uint32_t i = first; i < end; i++) { /* no later segment reads them */
            size_t t = tensor_of(c, i);
            if (t < c->source->tensor_count && node_at(c, i)->op == INFER_OP_MATMUL && node_at(c, i)->layer != INFER_NONE) {
                infer_free(NULL, c->floats[t]);
                c->floats[t] = NULL;
            }
        }
    }
    return s;
}

/* Rounded to nearest, as the packer does it. */
static infer_status round_plainly(calibrator *c, uint32_t node, size_t tensor)
{
    const infer_tensor_info *info = node_at(c, node)->weight.info;
    infer_qtype type = c->types[tensor];
    size_t each = (size_t)infer_panel_bytes(type, info->cols), float_each = (size_t)infer_panel_bytes(INFER_QTYPE_F32, info->cols);
    uint32_t k = (uint32_t)info->cols, panels = (uint32_t)infer_ceil_div(info->rows, INFER_TILE_ROWS);
    uint8_t *packed = infer_alloc(NULL, panels * each), *floats = infer_alloc_zero(NULL, info->bytes);
    float *rows = infer_alloc_array(NULL, INFER_TILE_ROWS * (size_t)k, sizeof *rows);
    bool fits = true;
    infer_status s = INFER_OK;

    if (!packed || !floats || !rows)
        s = infer_fail_memory(c->err, panels * each + info->bytes, info->name);
    for (uint32_t p = 0; p < panels && s == INFER_OK && fits; p++) {
        uint32_t left = (uint32_t)info->rows - p * INFER_TILE_ROWS, n = left < INFER_TILE_ROWS ? left : INFER_TILE_ROWS;
        infer_unpack_panel(INFER_QTYPE_F32, (const uint8_t *)node_at(c, node)->weight.data + p * float_each, n, k, rows);
        fits = infer_pack_panel(type, rows, n, k, NULL, packed + p * each);
        infer_unpack_panel(type, packed + p * each, n, k, rows);
        infer_pack_panel(INFER_QTYPE_F32, rows, n, k, NULL, floats + p * float_each);
    }
    if (s == INFER_OK && !fits)
        s = fail_value(c, info, type);
    infer_free(NULL, rows);
    if (s != INFER_OK) {
        infer_free(NULL, packed);
        infer_free(NULL, floats);
        return s;
    }
    c->packed[tensor] = (infer_convert_packed){type, packed};
    use(c, tensor, info, (float *)(void *)floats);
    return INFER_OK;
}

/* Embeddings come first, so that the layers can make up for their error. They are no product, and rounded to nearest, unless they are the head too: then
 * as the head wants it with the inputs of the float model. */
static infer_status round_embeddings(calibrator *c)
{
    infer_status s = INFER_OK;
    for (uint32_t i = 0; i < node_count(c) && s == INFER_OK; i++) {
        size_t t = tensor_of(c, i);
        if (t == c->source->tensor_count || c->packed[t].data || node_at(c, i)->op != INFER_OP_EMBED || !infer_quantizer_find(c->types[t]))
            continue;
        for (uint32_t j = i + 1; j < node_count(c) && s == INFER_OK; j++)
            if (wanted(c, j) && tensor_of(c, j) == t)
                s = round_group(c, INFER_NONE, 0, j, j + 1, TIED_DAMPING);
        if (s == INFER_OK && !c->packed[t].data)
            s = round_plainly(c, i, t);
    }
    return s;
}

/* Tokens through parts of the model: once for each input that matrices share, once for each segment. */
static uint64_t count_work(const calibrator *c)
{
    uint64_t passes = 0, tokens = 0;
    for (uint32_t i = 0, last = INFER_NONE; i < node_count(c); i++) {
        if (i && node_at(c, i)->layer != node_at(c, i - 1)->layer)
            passes++;
        if (!wanted(c, i) || node_at(c, i)->in[0] == last)
            continue;
        last = node_at(c, i)->in[0];
        passes++;
    }
    for (size_t w = 0; w < c->o->text->window_count; w++)
        tokens += c->o->text->windows[w].inputs;
    return passes * tokens;
}

static infer_status open_stream(calibrator *c, stream *out)
{
    infer_plan_options p = {.max_batch = c->o->window, .max_logits = c->o->window, .context = c->o->window,
                            .threads = infer_pool_threads(c->model->rt->pool), .kv_type = INFER_QTYPE_F32, .level = c->model->rt->level};
    infer_status s = infer_plan_create(&c->model->graph, &p, &out->plan, c->err);
    if (s != INFER_OK)
        return s;
    out->residual = infer_alloc_array(NULL, c->o->text->id_count * c->dim, sizeof *out->residual);
    return out->residual ? INFER_OK : infer_fail_memory(c->err, c->o->text->id_count * c->dim * sizeof *out->residual, "the residual stream");
}

static void close_stream(stream *s)
{
    infer_plan_destroy(s->plan);
    infer_free(NULL, s->residual);
}

infer_status calibrate_model(infer_model *model, const infer_source *source, const infer_qtype *types, const calibrate_options *options,
                             infer_convert_packed *packed, infer_error *err)
{
    calibrator c = {.model = model, .source = source, .types = types, .o = options, .packed = packed, .dim = model->config.dim, .err = err};
    infer_status s;

    c.floats = infer_alloc_array(NULL, source->tensor_count, sizeof *c.floats);
    s = c.floats ? INFER_OK : infer_fail_memory(err, source->tensor_count * sizeof *c.floats, "a list of tensors");
    if (s == INFER_OK && (s = open_stream(&c, &c.exact)) == INFER_OK && (s = open_stream(&c, &c.rounded)) == INFER_OK) {
        c.total = count_work(&c);
        if ((s = round_embeddings(&c)) == INFER_OK)
            s = run_segments(&c);
    }
    for (size_t i = 0; c.floats && i < source->tensor_count; i++)
        infer_free(NULL, c.floats[i]);
    infer_free(NULL, c.floats);
    close_stream(&c.exact);
    close_stream(&c.rounded);
    return s;
}
