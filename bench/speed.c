#include "speed.h"

#include <infer/infer_experimental.h>

#include "model/model.h"
#include "peaks/peaks.h"
#include "shapes.h"
#include "stats.h"

#include <stdio.h>
#include <string.h>

#define MAX_TYPES 16u /* more than qtypes.def has */

/* Multiply-adds of the matmuls with weights of one type. */
typedef struct work {
    infer_qtype type;
    double macs_token, macs_logits; /* for each token, and for each row of logits */
    double bytes;
} work;

typedef struct bench {
    infer_model *model;
    infer_session *session;
    const infer_speed_options *options;
    infer_peaks *peaks;
    work works[MAX_TYPES];
    uint32_t work_count;
    int32_t *ids; /* [most tokens evaluated at once] */
} bench;

/* ---- what there is to do ---- */

static void count_work(bench *b)
{
    const infer_graph *g = &b->model->graph;
    for (size_t i = 0; i < g->node_count; i++) {
        const infer_node *n = &g->nodes[i];
        uint32_t w = 0;
        double macs;
        if (n->op != INFER_OP_MATMUL)
            continue;
        while (w < b->work_count && b->works[w].type != n->weight.info->type)
            w++;
        if (w == MAX_TYPES)
            continue;
        if (w == b->work_count)
            b->works[b->work_count++] = (work){.type = n->weight.info->type};
        macs = (double)n->weight.info->rows * n->weight.info->cols;
        if (g->values[n->out].rows == INFER_ROWS_LOGITS)
            b->works[w].macs_logits += macs;
        else
            b->works[w].macs_token += macs;
        b->works[w].bytes += n->weight.info->bytes;
    }
    for (uint32_t i = 1; i < b->work_count; i++) /* most bytes first */
        for (uint32_t j = i; j && b->works[j].bytes > b->works[j - 1].bytes; j--) {
            work swap = b->works[j];
            b->works[j] = b->works[j - 1];
            b->works[j - 1] = swap;
        }
}

static void name_types(const bench *b, char *out, size_t size)
{
    size_t at = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < b->work_count && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? "+" : "", infer_qtype_find(b->works[i].type)->name);
}

/* Mean over the generated tokens of the cache they read: a token at position p reads p + 1 positions. */
static double kv_bytes(const bench *b)
{
    const infer_plan *plan = infer_session_plan(b->session);
    return (double)plan->cache_bytes / plan->positions * (b->options->depth + (b->options->tokens + 1) / 2.0);
}

/* ---- one measurement ---- */

static infer_status evaluate(bench *b, size_t n, infer_logits logits, infer_error *err)
{
    return infer_session_eval(b->session, b->ids, n, logits, err);
}

static infer_status run_prompt(bench *b, double *seconds, infer_error *err)
{
    uint64_t start;
    infer_status s = infer_session_rewind(b->session, 0, err);
    start = infer_now_ns();
    if (s == INFER_OK)
        s = evaluate(b, b->options->prompt, INFER_LOGITS_LAST, err);
    *seconds = (infer_now_ns() - start) / 1e9;
    return s;
}

static infer_status run_generation(bench *b, uint32_t tokens, double *seconds, infer_error *err)
{
    uint64_t start;
    infer_status s = infer_session_rewind(b->session, b->options->depth, err);
    start = infer_now_ns();
    for (uint32_t i = 0; i < tokens && s == INFER_OK; i++)
        s = infer_session_eval(b->session, b->ids + i % (b->options->prompt + b->options->depth + 1), 1, INFER_LOGITS_LAST, err);
    *seconds = (infer_now_ns() - start) / 1e9;
    return s;
}

static infer_status fill_context(bench *b, infer_error *err)
{
    infer_status s = infer_session_rewind(b->session, 0, err);
    return s == INFER_OK && b->options->depth ? evaluate(b, b->options->depth, INFER_LOGITS_NONE, err) : s;
}

/* ---- pairs ---- */

static void summarize(double *rates, double *fractions, uint32_t n, infer_rate *out)
{
    out->tokens_per_s = infer_median(rates, n);
    out->spread = infer_spread(rates, n);
    out->fraction = infer_median(fractions, n);
}

/* The peak of a prompt is the time its multiply-adds would take at the peaks of their types. */
static infer_status measure_prompt(bench *b, double (*samples)[INFER_SPEED_MAX_REPEAT], infer_speed *out, infer_error *err)
{
    uint32_t n = b->options->repeat;
    double seconds;
    infer_status s = INFER_OK;
    for (uint32_t i = 0; i < n && s == INFER_OK; i++) {
        double least = 0;
        bool known = b->work_count > 0;
        for (uint32_t w = 0; w < b->work_count; w++) {
            double peak = infer_peaks_ops(b->peaks, b->works[w].type, b->model->rt->level);
            if (w == 0)
                samples[2][i] = peak;
            known &= peak > 0;
            least += known ? 2 * (b->works[w].macs_token * b->options->prompt + b->works[w].macs_logits) / peak : 0;
        }
        s = run_prompt(b, &seconds, err);
        samples[0][i] = b->options->prompt / seconds;
        samples[1][i] = known ? least / seconds : 0;
    }
    if (s != INFER_OK)
        return s;
    summarize(samples[0], samples[1], n, &out->prompt);
    out->ops_per_s = b->work_count ? infer_median(samples[2], n) : 0;
    out->first_token_ns = b->options->prompt * 1e9 / out->prompt.tokens_per_s;
    return INFER_OK;
}

/* The same with events; they are off again afterwards. */
static infer_status run_events(bench *b, double *seconds, infer_error *err)
{
    infer_status s = infer_session_set_events(b->session, b->options->events, err), off;
    if (s != INFER_OK)
        return s;
    s = run_generation(b, b->options->tokens, seconds, err);
    off = infer_session_set_events(b->session, 0, s == INFER_OK ? err : NULL);
    return s == INFER_OK ? off : s;
}

static infer_status measure_generation(bench *b, double (*samples)[INFER_SPEED_MAX_REPEAT], infer_speed *out, infer_error *err)
{
    uint32_t n = b->options->repeat;
    double seconds, read = out->bytes_per_token;
    infer_events_stats stats;
    infer_status s = fill_context(b, err);
    for (uint32_t i = 0; i < n && s == INFER_OK; i++) {
        samples[2][i] = infer_peaks_bandwidth(b->peaks);
        s = run_generation(b, b->options->tokens, &seconds, err);
        samples[0][i] = b->options->tokens / seconds;
        samples[1][i] = read * samples[0][i] / samples[2][i];
        if (s == INFER_OK && b->options->events > 0) {
            s = run_events(b, &seconds, err);
            samples[3][i] = b->options->tokens / seconds;
            samples[4][i] = samples[3][i] / samples[2][i];
            samples[5][i] = samples[3][i] / samples[0][i];
        }
    }
    if (s != INFER_OK)
        return s;
    summarize(samples[0], samples[1], n, &out->generation);
    infer_session_events_stats(b->session, &stats);
    if (stats.tokens) {
        summarize(samples[3], samples[4], n, &out->events);
        out->events.fraction *= read - (double)stats.bytes_skipped / (double)stats.tokens;
        out->events_speedup = infer_median(samples[5], n);
        out->silent_fraction = (double)stats.silent / (double)stats.inputs;
        out->skipped_fraction = (double)stats.bytes_skipped / (double)(stats.bytes_read + stats.bytes_skipped);
    }
    out->bandwidth_bytes_per_s = infer_median(samples[2], n);
    return INFER_OK;
}

/* Pages in what the run needs and wakes the CPU up; the memory it takes is the run's own. */
static infer_status warm_up(bench *b, infer_speed *out, infer_error *err)
{
    const infer_speed_options *o = b->options;
    double seconds;
    infer_status s = o->prompt ? run_prompt(b, &seconds, err) : INFER_OK;
    if (s == INFER_OK && o->tokens && (s = fill_context(b, err)) == INFER_OK)
        s = run_generation(b, o->tokens < 8 ? o->tokens : 8, &seconds, err);
    out->peak_rss_bytes = infer_peak_rss_bytes();
    return s;
}

static infer_status measure(bench *b, double (*samples)[INFER_SPEED_MAX_REPEAT], infer_speed *out, infer_error *err)
{
    uint64_t weights = infer_session_weight_bytes_per_token(b->session);
    infer_status s = warm_up(b, out, err);
    if (s != INFER_OK || (s = infer_peaks_create(b->model->rt->pool, b->options->tokens ? (size_t)weights : 0, &b->peaks, err)) != INFER_OK)
        return s;
    if (b->options->prompt)
        s = measure_prompt(b, samples, out, err);
    if (s == INFER_OK && b->options->tokens) {
        out->bytes_per_token = weights + kv_bytes(b);
        infer_peaks_bandwidth(b->peaks); /* chooses how to read, outside the pairs */
        snprintf(out->bandwidth_way, sizeof out->bandwidth_way, "%s", infer_peaks_bandwidth_way(b->peaks));
        s = measure_generation(b, samples, out, err);
    }
    infer_peaks_destroy(b->peaks);
    return s;
}

infer_status infer_speed_measure(infer_model *model, infer_session *session, const infer_speed_options *options, infer_speed *out, infer_error *err)
{
    size_t ids = (size_t)options->prompt + options->depth + 1;
    bench b = {.model = model, .session = session, .options = options, .ids = infer_alloc(NULL, ids * sizeof *b.ids)};
    double(*samples)[INFER_SPEED_MAX_REPEAT] = infer_alloc_zero(NULL, 6 * sizeof *samples); /* rates, fractions, peaks; with events, and pairs */
    infer_speed speed = {0};
    uint64_t random = 1;
    infer_status s;
    if (!b.ids || !samples) {
        s = infer_fail_memory(err, ids * sizeof *b.ids + 6 * sizeof *samples, "the samples");
    } else {
        for (size_t i = 0; i < ids; i++)
            b.ids[i] = (int32_t)(infer_random(&random) % infer_model_vocab_size(model));
        count_work(&b);
        name_types(&b, speed.type, sizeof speed.type);
        snprintf(speed.kv_type, sizeof speed.kv_type, "%s", infer_qtype_find(infer_session_plan(session)->kv_type)->name);
        s = measure(&b, samples, &speed, err);
    }
    infer_free(NULL, b.ids);
    infer_free(NULL, samples);
    if (s == INFER_OK)
        *out = speed;
    return s;
}
