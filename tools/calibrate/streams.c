#include "calibrator.h"

#include <string.h>

#define MOMENT_BYTES ((uint64_t)4 << 30) /* most memory for moments and what comes of them */

/* ---- graph ---- */

size_t calibrate_tensor_of(const calibrator *c, uint32_t node)
{
    const infer_tensor_info *info = calibrate_node(c, node)->weight.info;
    size_t i = 0;
    while (i < c->source->tensor_count && (!info || strcmp(c->source->tensors[i].name, info->name) != 0))
        i++;
    return i;
}

double calibrate_rate(const calibrator *c, uint32_t node)
{
    size_t t = calibrate_tensor_of(c, node);
    return c->o->rates && calibrate_node(c, node)->op == INFER_OP_MATMUL && t < c->source->tensor_count ? c->o->rates[t] : 0;
}

uint32_t calibrate_segment_end(const calibrator *c, uint32_t first)
{
    uint32_t end = first;
    while (end < calibrate_node_count(c) && calibrate_node(c, end)->layer == calibrate_node(c, first)->layer)
        end++;
    return end;
}

infer_status calibrate_residual_value(const calibrator *c, uint32_t first, uint32_t *out)
{
    const infer_graph *g = &c->exact.plan->graph;
    uint32_t found = INFER_NONE;
    for (uint32_t i = first; i < calibrate_node_count(c); i++)
        for (int k = 0; k < INFER_NODE_INPUTS; k++) {
            uint32_t v = g->nodes[i].in[k];
            if (v == INFER_NONE || g->values[v].producer >= first || v == found)
                continue;
            if (found != INFER_NONE)
                return infer_fail(c->err, INFER_ERROR_UNSUPPORTED,
                                  "node %s: calibration knows models whose layers share one value, and this is a second", g->nodes[i].name);
            found = v;
        }
    *out = found;
    return INFER_OK;
}

/* ---- running parts ---- */

infer_status calibrate_run_window(calibrator *c, calibrate_stream *s, size_t w, uint32_t value, uint32_t first, uint32_t end)
{
    const eval_window *window = &c->o->text->windows[w];
    infer_batch batch = {
        .ids = c->o->text->ids + window->first, .m = window->inputs, .logits = window->inputs, .first_node = first, .end_node = end};

    if (value != INFER_NONE) {
        float *x = infer_plan_f32(s->plan, value, INFER_ROWS_TOKENS, &batch);
        for (uint32_t t = 0; t < window->inputs; t++)
            memcpy(x + (size_t)t * infer_plan_stride(s->plan, value), s->residual + (window->first + t) * c->dim, c->dim * sizeof *x);
    }
    return first == end ? INFER_OK : infer_plan_run(s->plan, c->model->rt->pool, &batch, c->err);
}

/* The value's rows, [inputs][cols], of the window just run. */
static void read_rows(const calibrator *c, const calibrate_stream *s, size_t w, uint32_t value, infer_rows rows, float *out, size_t stride)
{
    const eval_window *window = &c->o->text->windows[w];
    infer_batch batch = {.m = window->inputs, .logits = window->inputs};
    const float *x = infer_plan_f32(s->plan, value, rows, &batch);
    for (uint32_t t = 0; t < window->inputs; t++)
        memcpy(out + t * stride, x + (size_t)t * infer_plan_stride(s->plan, value), s->plan->graph.values[value].cols * sizeof *out);
}

infer_status calibrate_advance(calibrator *c, uint64_t tokens)
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

infer_status calibrate_gather(calibrator *c, uint32_t value, uint32_t first, uint32_t node, infer_moments *m)
{
    uint32_t x = calibrate_node(c, node)->in[0];
    infer_rows rows = c->exact.plan->graph.values[x].rows;
    float *exact = infer_alloc_array(NULL, (size_t)c->o->window * m->k, sizeof *exact);
    float *rounded = infer_alloc_array(NULL, (size_t)c->o->window * m->k, sizeof *rounded);
    infer_status s =
        exact && rounded ? INFER_OK : infer_fail_memory(c->err, (size_t)c->o->window * m->k * sizeof *exact, "a window's inputs");

    for (size_t w = 0; w < c->o->text->window_count && s == INFER_OK; w++) {
        moments_job job = {.moments = m, .y = exact, .x = rounded, .m = c->o->text->windows[w].inputs};
        if ((s = calibrate_run_window(c, &c->rounded, w, value, first, node)) != INFER_OK)
            break;
        read_rows(c, &c->rounded, w, x, rows, rounded, m->k);
        if (m->cross) {
            if ((s = calibrate_run_window(c, &c->exact, w, value, first, node)) != INFER_OK)
                break;
            read_rows(c, &c->exact, w, x, rows, exact, m->k);
        }
        infer_pool_run(c->model->rt->pool, add_moments, &job);
        m->rows += job.m;
        s = calibrate_advance(c, job.m);
    }
    infer_free(NULL, exact);
    infer_free(NULL, rounded);
    return s;
}

infer_status calibrate_keep_residual(calibrator *c, calibrate_stream *s, uint32_t value, uint32_t first, uint32_t end)
{
    uint32_t next = INFER_NONE;
    infer_status status = calibrate_residual_value(c, end, &next);

    for (size_t w = 0; w < c->o->text->window_count && status == INFER_OK; w++) {
        if ((status = calibrate_run_window(c, s, w, value, first, end)) != INFER_OK)
            break;
        read_rows(c, s, w, next, INFER_ROWS_TOKENS, s->residual + c->o->text->windows[w].first * c->dim, c->dim);
        status = calibrate_advance(c, c->o->text->windows[w].inputs);
    }
    return status;
}

infer_status calibrate_check_memory(const calibrator *c, uint32_t node, uint32_t squares)
{
    const infer_tensor_info *info = calibrate_node(c, node)->weight.info;
    uint64_t bytes = squares * sizeof(double) * info->cols * info->cols;
    if (bytes <= MOMENT_BYTES)
        return INFER_OK;
    return infer_fail(c->err, INFER_ERROR_UNSUPPORTED,
                      "tensor %s: the moments of its %llu inputs take %llu MiB, and calibration has at most %llu", info->name,
                      (unsigned long long)info->cols, (unsigned long long)(bytes >> 20), (unsigned long long)(MOMENT_BYTES >> 20));
}

uint32_t calibrate_pruning_squares(const calibrator *c)
{
    static const uint32_t of_method[] = {[INFER_PRUNE_SPARSEGPT] = 1, [INFER_PRUNE_OBS] = 2};
    return c->o->rates ? infer_pool_threads(c->model->rt->pool) + of_method[c->o->method] : 0;
}

uint64_t calibrate_tokens(const eval_text *text)
{
    uint64_t tokens = 0;
    for (size_t w = 0; w < text->window_count; w++)
        tokens += text->windows[w].inputs;
    return tokens;
}

void calibrate_use(calibrator *c, const infer_tensor_info *info, const void *floats)
{
    infer_graph *g = &c->rounded.plan->graph;
    for (size_t i = 0; i < g->node_count; i++)
        if (g->nodes[i].weight.info == info) /* both streams share the model's list of tensors */
            g->nodes[i].weight.data = floats;
}

/* ---- opening ---- */

static infer_status open_stream(calibrator *c, calibrate_stream *out)
{
    infer_plan_options p = {.max_batch = c->o->window,
                            .max_logits = c->o->window,
                            .context = c->o->window,
                            .threads = infer_pool_threads(c->model->rt->pool),
                            .kv_type = INFER_QTYPE_F32,
                            .level = c->model->rt->level};
    infer_status s = infer_plan_create(&c->model->graph, &p, &out->plan, c->err);
    if (s != INFER_OK)
        return s;
    out->residual = infer_alloc_array(NULL, c->o->text->id_count * c->dim, sizeof *out->residual);
    return out->residual ? INFER_OK
                         : infer_fail_memory(c->err, c->o->text->id_count * c->dim * sizeof *out->residual, "the residual stream");
}

static void close_stream(calibrate_stream *s)
{
    infer_plan_destroy(s->plan);
    infer_free(NULL, s->residual);
}

infer_status calibrate_open(calibrator *c)
{
    infer_status s = open_stream(c, &c->exact);
    return s == INFER_OK ? open_stream(c, &c->rounded) : s;
}

void calibrate_close(calibrator *c)
{
    close_stream(&c->exact);
    close_stream(&c->rounded);
}
