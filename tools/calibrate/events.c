/*
 * Two passes. The first runs the text exactly and keeps a histogram of |x| x factor for each matrix: its quantiles are the thresholds of each rate. The
 * factor of an input stands for the norm of its column of weights, so that what is silent is what contributes least (Lee et al. 2025, WINA). The second
 * goes through the layers, each from its exact input: of its matrices, the one whose rate is raised next is the one that puts least error into the layer's
 * output for the bytes that it saves (after the greedy search of Liu et al. 2024, TEAL), up to the largest rate; on the way the rates of every matrix at each
 * rate of the layer are noted.
 */
#include "events.h"

#include "cols.h"
#include "model/model.h"
#include "ref/mathf.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 4096, RATES = 18, MAX_MATRICES = 16 };
#define BIN_SHIFT 19    /* 16 bins for each power of two */
#define STEP 0.025      /* of a layer's bytes that raising a rate saves, about */
#define LARGEST_STEP 0.15

typedef struct search {
    infer_model *model;
    const events_options *o;
    infer_plan *plan;
    uint64_t *bins;   /* [threads][nodes][BINS] */
    float *in, *out;  /* [trial tokens][dim] residual stream before and behind the layer */
    size_t trials;    /* windows */
    uint64_t done, total;
    infer_events *events;
    infer_error *err;
} search;

static const infer_node *node_at(const search *s, uint32_t i) { return &s->plan->graph.nodes[i]; }
static uint32_t node_count(const search *s) { return (uint32_t)s->plan->graph.node_count; }

/* A quantize node before a matrix in the layout cols. */
static bool has_threshold(const search *s, uint32_t i) { return node_at(s, i)->op == INFER_OP_QUANTIZE && node_at(s, i)->weight.info; }

/* ---- distributions ---- */

static void observe(void *user, uint32_t thread, uint32_t node, const infer_quantize_args *a, infer_region at)
{
    search *s = user;
    uint64_t *bins = s->bins + ((size_t)thread * node_count(s) + node) * BINS;
    for (uint32_t t = at.row0; t < at.row1; t++)
        for (uint32_t i = at.col0; i < at.col1; i++)
            bins[infer_ref_float_bits(fabsf(a->x[(size_t)t * a->x_stride + i] * a->factors[i])) >> BIN_SHIFT]++;
}

/* The magnitude that this share of a node's inputs is below. */
static float quantile(const search *s, uint32_t node, double rate)
{
    uint64_t counts[BINS], all = 0, below = 0;
    double wanted;
    uint32_t b = 0;
    memset(counts, 0, sizeof counts);
    for (uint32_t t = 0; t < s->plan->threads; t++)
        for (uint32_t i = 0; i < BINS; i++)
            counts[i] += s->bins[((size_t)t * node_count(s) + node) * BINS + i];
    for (uint32_t i = 0; i < BINS; i++)
        all += counts[i];
    wanted = rate * (double)all;
    while (b + 1 < BINS && (double)(below + counts[b]) < wanted)
        below += counts[b++];
    if (!counts[b])
        return 0;
    return infer_ref_float_from_bits((b << BIN_SHIFT) + (uint32_t)((wanted - (double)below) / (double)counts[b] * ((1 << BIN_SHIFT) - 1)));
}

/* ---- running parts ---- */

static infer_status run_window(search *s, size_t w, uint32_t first, uint32_t end)
{
    const eval_window *window = &s->o->text->windows[w];
    infer_batch batch = {.ids = s->o->text->ids + window->first, .m = window->inputs, .logits = 1, .first_node = first, .end_node = end};
    infer_status status = infer_plan_run(s->plan, s->model->rt->pool, &batch, s->err);
    s->done += (uint64_t)window->inputs * (end ? end - first : node_count(s));
    if (status == INFER_OK && s->o->progress && s->o->progress(s->o->user, s->done < s->total ? s->done : s->total, s->total))
        return infer_fail(s->err, INFER_ERROR_CANCELLED, "interrupted");
    return status;
}

/* Copies the value's rows of window w to or from residuals, which begin with window 0. */
static void copy_rows(search *s, size_t w, uint32_t value, float *residuals, bool put)
{
    const eval_window *window = &s->o->text->windows[w];
    infer_batch batch = {.m = window->inputs, .logits = 1};
    uint32_t dim = s->model->config.dim, stride = infer_plan_stride(s->plan, value);
    float *x = infer_plan_f32(s->plan, value, INFER_ROWS_TOKENS, &batch), *at = residuals;
    for (size_t i = 0; i < w; i++)
        at += (size_t)s->o->text->windows[i].inputs * dim;
    for (uint32_t t = 0; t < window->inputs; t++)
        memcpy(put ? x + (size_t)t * stride : at + (size_t)t * dim, put ? at + (size_t)t * dim : x + (size_t)t * stride, dim * sizeof *x);
}

/* The layer of a node; of a quantize node that several matrices may share, that of the node behind it. */
static uint32_t layer_of(const search *s, uint32_t i)
{
    while (node_at(s, i)->op == INFER_OP_QUANTIZE && i + 1 < node_count(s))
        i++;
    return node_at(s, i)->layer;
}

/* The value that nodes before `first` hand to it and those behind it. */
static uint32_t residual_value(const search *s, uint32_t first)
{
    const infer_graph *g = &s->plan->graph;
    uint32_t found = INFER_NONE;
    for (uint32_t i = first; i < node_count(s); i++)
        for (int k = 0; k < INFER_NODE_INPUTS; k++) {
            uint32_t v = g->nodes[i].in[k];
            if (v == INFER_NONE || g->values[v].producer >= first || v == found)
                continue;
            if (found != INFER_NONE)
                return INFER_NONE;
            found = v;
        }
    return found;
}

/* ---- rates ---- */

typedef struct layer {
    uint32_t first, end, in, out; /* nodes; values */
    uint32_t nodes[MAX_MATRICES], count;
    double bytes[MAX_MATRICES], all_bytes, rate[MAX_MATRICES];
} layer;

static double saved(const layer *l)
{
    double bytes = 0;
    for (uint32_t i = 0; i < l->count; i++)
        bytes += l->rate[i] * l->bytes[i];
    return bytes / l->all_bytes;
}

/* Squared error of the layer's output with the layer's rates. */
static infer_status try_rates(search *s, const layer *l, double *error)
{
    const float *want = s->out;
    uint32_t dim = s->model->config.dim;
    infer_status status = INFER_OK;
    *error = 0;
    for (uint32_t i = 0; i < l->count; i++)
        s->plan->thresholds[l->nodes[i]] = l->rate[i] > 0 ? quantile(s, l->nodes[i], l->rate[i]) : 0;
    for (size_t w = 0; w < s->trials && status == INFER_OK; w++) {
        infer_batch batch = {.m = s->o->text->windows[w].inputs, .logits = 1};
        const float *x;
        copy_rows(s, w, l->in, s->in, true);
        status = run_window(s, w, l->first, l->end);
        x = infer_plan_f32(s->plan, l->out, INFER_ROWS_TOKENS, &batch);
        for (uint32_t t = 0; t < batch.m; t++, want += dim)
            for (uint32_t i = 0; i < dim; i++) {
                double off = (double)x[(size_t)t * infer_plan_stride(s->plan, l->out) + i] - want[i];
                *error += off * off;
            }
    }
    for (uint32_t i = 0; i < l->count; i++)
        s->plan->thresholds[l->nodes[i]] = 0;
    return status;
}

/* Thresholds of the layer's matrices at every rate that lies between the layer's rate `from` with `rates` and what it is now. */
static void note_rates(search *s, const layer *l, double from, const double *rates)
{
    double now = saved(l);
    for (uint32_t g = 0; g < RATES; g++) {
        double at = s->events->rate[g], share = (at - from) / (now - from);
        if (at <= from || at > now + 1e-9)
            continue;
        for (uint32_t i = 0; i < l->count; i++) {
            const infer_tensor_info *t = node_at(s, l->nodes[i])->weight.info;
            s->events->thresholds[(size_t)(t - infer_file_tensor(s->model->file, 0)) * RATES + g] =
                quantile(s, l->nodes[i], rates[i] + share * (l->rate[i] - rates[i]));
        }
    }
}

static double step_of(const layer *l, uint32_t i)
{
    double step = STEP * l->all_bytes / l->bytes[i];
    step = step < LARGEST_STEP ? step : LARGEST_STEP;
    return step < INFER_EVENTS_MAX_RATE - l->rate[i] ? step : INFER_EVENTS_MAX_RATE - l->rate[i];
}

static infer_status search_layer(search *s, layer *l)
{
    double error = 0;
    infer_status status = INFER_OK;
    for (;;) {
        double least = INFINITY, best_error = 0, before[MAX_MATRICES], from = saved(l);
        uint32_t best = l->count;
        for (uint32_t i = 0; i < l->count && status == INFER_OK; i++) {
            double step = step_of(l, i), tried, cost;
            if (step < 1e-6)
                continue;
            l->rate[i] += step;
            status = try_rates(s, l, &tried);
            l->rate[i] -= step;
            cost = (tried - error) / (step * l->bytes[i]);
            if (best == l->count || cost < least) {
                best = i;
                least = cost;
                best_error = tried;
            }
        }
        if (status != INFER_OK || best == l->count)
            return status;
        memcpy(before, l->rate, sizeof before);
        l->rate[best] += step_of(l, best);
        error = best_error;
        note_rates(s, l, from, before);
    }
}

static infer_status search_layers(search *s)
{
    infer_status status = INFER_OK;
    uint32_t dim = s->model->config.dim;
    for (uint32_t first = 0, end; first < node_count(s) && status == INFER_OK; first = end) {
        layer l = {.first = first};
        for (end = first; end < node_count(s) && layer_of(s, end) == layer_of(s, first); end++) {
            if (!has_threshold(s, end))
                continue;
            if (l.count == MAX_MATRICES)
                return infer_fail(s->err, INFER_ERROR_UNSUPPORTED, "layer %u has more than %d matrices", layer_of(s, first), MAX_MATRICES);
            l.bytes[l.count] = (double)node_at(s, end)->weight.info->bytes;
            l.all_bytes += l.bytes[l.count];
            l.nodes[l.count++] = end;
        }
        l.end = end;
        if (end == node_count(s))
            break;
        l.in = first ? residual_value(s, first) : INFER_NONE;
        l.out = residual_value(s, end);
        if ((first && l.in == INFER_NONE) || l.out == INFER_NONE || s->plan->graph.values[l.out].cols != dim)
            return infer_fail(s->err, INFER_ERROR_UNSUPPORTED, "node %s: events are calibrated where layers share one value", node_at(s, end)->name);
        for (size_t w = 0; w < s->trials && status == INFER_OK; w++) {
            if (first)
                copy_rows(s, w, l.in, s->in, true);
            status = run_window(s, w, first, end);
            copy_rows(s, w, l.out, s->out, false);
        }
        if (status == INFER_OK && l.count)
            status = search_layer(s, &l);
        { /* the exact output is the next layer's input */
            float *next = s->in;
            s->in = s->out;
            s->out = next;
        }
    }
    return status;
}

/* ---- all of it ---- */

static infer_status run_text(search *s)
{
    infer_status status = INFER_OK;
    s->plan->observer = s;
    s->plan->observe = observe;
    for (size_t w = 0; w < s->o->text->window_count && status == INFER_OK; w++)
        status = run_window(s, w, 0, 0);
    s->plan->observe = NULL;
    for (uint32_t i = 0; i < node_count(s); i++)
        for (uint32_t g = 0; g < RATES && has_threshold(s, i); g++)
            s->events->thresholds[(size_t)(node_at(s, i)->weight.info - infer_file_tensor(s->model->file, 0)) * RATES + g] =
                quantile(s, i, s->events->rate[g]);
    return status;
}

static infer_status calibrate(search *s)
{
    const events_options *o = s->o;
    const infer_allocator *a = &s->model->rt->allocator;
    infer_plan_options p = {.max_batch = o->window, .max_logits = 1, .context = o->window, .threads = infer_pool_threads(s->model->rt->pool),
                            .kv_type = INFER_QTYPE_F16, .level = s->model->rt->level};
    size_t tokens = 0, text_tokens = 0, matrices = 0, bins;
    infer_status status = infer_plan_create(&s->model->graph, &p, &s->plan, s->err);
    if (status != INFER_OK)
        return status;
    for (uint32_t i = 0; i < node_count(s); i++)
        matrices += has_threshold(s, i);
    if (!matrices)
        return infer_fail(s->err, INFER_ERROR_UNSUPPORTED, "%s: no matrix of a layer is in the layout cols (types q4g64 and q8g64)",
                          infer_file_path(s->model->file));
    for (size_t w = 0; w < o->text->window_count; w++)
        text_tokens += o->text->windows[w].inputs;
    while (s->trials < o->text->window_count && tokens + o->text->windows[s->trials].inputs <= o->trial_tokens)
        tokens += o->text->windows[s->trials++].inputs;
    /* Raising all rates takes about as many rounds for each matrix as it has steps, each with a trial of every matrix of the layer. */
    s->total = text_tokens * node_count(s) + (uint64_t)tokens * node_count(s) * 300;
    bins = (size_t)p.threads * node_count(s) * BINS;
    s->bins = infer_alloc_array(a, bins, sizeof *s->bins);
    s->in = infer_alloc_array(a, tokens ? tokens * s->model->config.dim : 1, sizeof *s->in);
    s->out = infer_alloc_array(a, tokens ? tokens * s->model->config.dim : 1, sizeof *s->out);
    if (!s->bins || !s->in || !s->out)
        return infer_fail_memory(s->err, bins * sizeof *s->bins + 2 * tokens * s->model->config.dim * sizeof *s->in, "distributions of inputs");
    status = run_text(s);
    return status == INFER_OK && s->trials ? search_layers(s) : status;
}

infer_status events_calibrate(infer_model *model, const events_options *options, infer_events *out, infer_error *err)
{
    const infer_allocator *a = &model->rt->allocator;
    infer_events events = {.target = options->target, .rates = RATES};
    search s = {.model = model, .o = options, .events = &events, .err = err};
    size_t thresholds = infer_file_tensor_count(model->file) * RATES;
    infer_status status;

    for (uint32_t g = 0; g < RATES; g++)
        events.rate[g] = (g + 1) * 5 / 100.0;
    events.thresholds = infer_alloc_array(a, thresholds, sizeof *events.thresholds);
    status = events.thresholds ? calibrate(&s) : infer_fail_memory(err, thresholds * sizeof *events.thresholds, "thresholds");
    infer_plan_destroy(s.plan);
    infer_free(a, s.bins);
    infer_free(a, s.in);
    infer_free(a, s.out);
    if (status != INFER_OK)
        infer_events_free(&events, a);
    else
        *out = events;
    return status;
}

char *events_metadata(const char *metadata, const infer_model *model, const infer_events *events)
{
    cJSON *root = cJSON_Parse(metadata), *note, *thresholds, *rates;
    char *out = NULL;
    bool whole = root != NULL;

    cJSON_DeleteItemFromObjectCaseSensitive(root, "events");
    note = cJSON_AddObjectToObject(root, "events");
    rates = cJSON_CreateDoubleArray(events->rate, (int)events->rates);
    whole = whole && note && cJSON_AddNumberToObject(note, "target", events->target) && cJSON_AddItemToObject(note, "rates", rates);
    thresholds = whole ? cJSON_AddObjectToObject(note, "thresholds") : NULL;
    for (size_t i = 0; thresholds && i < infer_file_tensor_count(model->file) && whole; i++) {
        const infer_tensor_info *t = infer_file_tensor(model->file, i);
        double list[INFER_EVENTS_MAX_RATES], last = 0;
        for (uint32_t g = 0; g < events->rates; g++) { /* six digits, rising */
            char digits[40];
            snprintf(digits, sizeof digits, "%.6g", (double)events->thresholds[i * events->rates + g]);
            list[g] = strtod(digits, NULL);
            last = list[g] = list[g] < last ? last : list[g];
        }
        if (t->layout == INFER_LAYOUT_COLS)
            whole = cJSON_AddItemToObject(thresholds, t->name, cJSON_CreateDoubleArray(list, (int)events->rates));
    }
    if (whole && thresholds)
        out = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return out;
}
