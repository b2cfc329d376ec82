#include "calibrator.h"
#include "eval/score.h"

#include <math.h>

#define PROBE_TOKENS 4096u /* of the text, at most, by which a pruned matrix is judged */
#define STEP 0.01          /* by which a rate grows */
#define MOST 0.95          /* no matrix is pruned more */

/* What pruning one matrix alone does to the model's predictions: KL divergence = factor x rate^power. */
typedef struct sensitivity {
    bool measured;
    double factor, power;
} sensitivity;

typedef struct spreader {
    calibrator c;
    sensitivity *tensors;     /* [tensors] */
    size_t windows;           /* of the probe */
    eval_distribution *exact; /* [ids of the probe's windows] what the float model predicts behind each */
} spreader;

static const float *logits_of(const calibrate_stream *s, uint32_t row, uint32_t vocab)
{
    return s->plan->logits + (size_t)row * vocab;
}

/* The predictions of the float model. */
static infer_status record(spreader *s)
{
    calibrator *c = &s->c;
    uint32_t vocab = c->model->config.vocab;
    infer_status status = INFER_OK;

    for (size_t w = 0; w < s->windows && status == INFER_OK; w++) {
        const eval_window *window = &c->o->text->windows[w];
        if ((status = calibrate_run_window(c, &c->exact, w, INFER_NONE, 0, calibrate_node_count(c))) != INFER_OK)
            break;
        for (uint32_t t = 0; t < window->inputs; t++) {
            const float *logits = logits_of(&c->exact, t, vocab);
            double log_sum = eval_log_sum(logits, vocab);
            if (!isfinite(log_sum))
                return infer_fail(c->err, INFER_ERROR_FORMAT, "the model's logits are not finite");
            eval_top(logits, vocab, log_sum, &s->exact[window->first + t]);
        }
        status = calibrate_advance(c, window->inputs);
    }
    return status;
}

/* KL divergence of the rounded model's predictions, from the segment that starts at `first` on. */
static infer_status judge(spreader *s, uint32_t value, uint32_t first, double *kl)
{
    calibrator *c = &s->c;
    uint32_t vocab = c->model->config.vocab;
    double sum = 0, tokens = 0;
    infer_status status = INFER_OK;

    for (size_t w = 0; w < s->windows && status == INFER_OK; w++) {
        const eval_window *window = &c->o->text->windows[w];
        if ((status = calibrate_run_window(c, &c->rounded, w, value, first, calibrate_node_count(c))) != INFER_OK)
            break;
        for (uint32_t t = 0; t < window->inputs; t++) {
            const float *logits = logits_of(&c->rounded, t, vocab);
            sum += eval_kl(&s->exact[window->first + t], logits, vocab, eval_log_sum(logits, vocab));
        }
        tokens += window->inputs;
        status = calibrate_advance(c, window->inputs);
    }
    if (status == INFER_OK && !isfinite(sum))
        return infer_fail(c->err, INFER_ERROR_FORMAT, "the pruned model's logits are not finite");
    *kl = sum / tokens;
    return status;
}

/* Prunes the node's matrix alone, by its rate and by half of it. */
static infer_status probe(spreader *s, uint32_t value, uint32_t first, uint32_t node, const infer_pruner *pruner)
{
    calibrator *c = &s->c;
    const infer_weight *weight = &calibrate_node(c, node)->weight;
    double kl[2] = {0}, rate = calibrate_rate(c, node), power;
    infer_status status = INFER_OK;

    for (int half = 0; half < 2 && status == INFER_OK; half++) {
        calibrate_fit fit = {INFER_QTYPE_F32, NULL, pruner, half ? rate / 2 : rate};
        calibrate_fitted fitted;
        if ((status = calibrate_fit_matrix(c, node, &fit, &fitted)) != INFER_OK)
            break;
        calibrate_use(c, weight->info, fitted.floats);
        status = judge(s, value, first, &kl[half]);
        calibrate_use(c, weight->info, weight->data);
        infer_free(NULL, fitted.packed);
        infer_free(NULL, fitted.floats);
    }
    if (status != INFER_OK)
        return status;
    power = kl[1] > 0 && kl[0] > kl[1] ? log2(kl[0] / kl[1]) : 1;
    power = power < 2 ? 2 : power > 6 ? 6 : power; /* small changes cost their square, and two points are no curve */
    s->tensors[calibrate_tensor_of(c, node)] = (sensitivity){true, kl[0] / pow(rate, power), power};
    return INFER_OK;
}

/* All matrices to be pruned that read the input of `node`. */
static infer_status probe_group(spreader *s, uint32_t value, uint32_t first, uint32_t node, uint32_t end)
{
    calibrator *c = &s->c;
    uint32_t x = calibrate_node(c, node)->in[0];
    infer_moments m = {.k = (uint32_t)calibrate_node(c, node)->weight.info->cols};
    infer_pruner *pruner = NULL;
    infer_status status = calibrate_check_memory(c, node, 1 + calibrate_pruning_squares(c));

    if (status != INFER_OK)
        return status;
    m.h = infer_alloc_array(NULL, (size_t)m.k * m.k, sizeof *m.h);
    if (!m.h)
        return infer_fail_memory(c->err, (size_t)m.k * m.k * sizeof *m.h, "the moments of a matrix's inputs");
    if ((status = calibrate_gather(c, value, first, node, &m)) == INFER_OK)
        status = infer_pruner_create(NULL, m.k, &m, c->o->method, c->o->block, c->o->damping, &pruner, c->err);
    for (uint32_t i = node; i < end && status == INFER_OK; i++)
        if (calibrate_rate(c, i) > 0 && calibrate_node(c, i)->in[0] == x)
            status = probe(s, value, first, i, pruner);
    infer_pruner_free(pruner);
    infer_free(NULL, m.h);
    return status;
}

static infer_status probe_segments(spreader *s)
{
    calibrator *c = &s->c;
    infer_status status = record(s);
    uint32_t value = INFER_NONE;

    for (uint32_t first = 0, end; first < calibrate_node_count(c) && status == INFER_OK; first = end) {
        end = calibrate_segment_end(c, first);
        if (first && (status = calibrate_residual_value(c, first, &value)) != INFER_OK)
            break;
        for (uint32_t i = first; i < end && status == INFER_OK; i++)
            if (calibrate_rate(c, i) > 0 && !s->tensors[calibrate_tensor_of(c, i)].measured)
                status = probe_group(s, value, first, i, end);
        if (status == INFER_OK && end < calibrate_node_count(c))
            status = calibrate_keep_residual(c, &c->rounded, value, first, end); /* the float model: nothing is pruned now */
    }
    return status;
}

/* From nothing on, the step with the least divergence for the bytes that it saves, until as many are saved as the rates asked for. */
static void spread(const spreader *s, const double *bytes, double *rates)
{
    size_t count = s->c.source->tensor_count;
    double left = 0;

    for (size_t i = 0; i < count; i++)
        if (s->tensors[i].measured) {
            left += rates[i] * bytes[i];
            rates[i] = 0;
        }
    while (left > 0) {
        double least = INFINITY, step;
        size_t best = count;
        for (size_t i = 0; i < count; i++) {
            const sensitivity *t = &s->tensors[i];
            double cost;
            if (!t->measured || rates[i] >= MOST)
                continue;
            cost = t->factor * (pow(rates[i] + STEP, t->power) - pow(rates[i], t->power)) / bytes[i];
            if (cost < least) {
                least = cost;
                best = i;
            }
        }
        if (best == count)
            break;
        step = left < STEP * bytes[best] ? left / bytes[best] : STEP;
        rates[best] += step;
        left -= step * bytes[best];
    }
}

/* Tokens through parts of the model: the float model once, the moments of each input that matrices share, each segment, each probe. */
static uint64_t count_work(const spreader *s)
{
    const calibrator *c = &s->c;
    uint64_t passes = 0, probes = 1, probe_tokens = 0;

    for (uint32_t i = 0, last = INFER_NONE; i < calibrate_node_count(c); i++) {
        if (i && calibrate_node(c, i)->layer != calibrate_node(c, i - 1)->layer)
            passes++;
        if (calibrate_rate(c, i) <= 0)
            continue;
        probes += 2;
        passes += calibrate_node(c, i)->in[0] != last;
        last = calibrate_node(c, i)->in[0];
    }
    for (size_t w = 0; w < s->windows; w++)
        probe_tokens += c->o->text->windows[w].inputs;
    return passes * calibrate_tokens(c->o->text) + probes * probe_tokens;
}

infer_status calibrate_spread(infer_model *model, const infer_source *source, const infer_qtype *types, const calibrate_options *options,
                              double *rates, infer_error *err)
{
    spreader s = {.c = {.model = model, .source = source, .o = options, .dim = model->config.dim, .err = err}};
    const eval_text *text = options->text;
    size_t tokens = 0;
    double *bytes = infer_alloc_array(NULL, source->tensor_count, sizeof *bytes);
    infer_status status;

    for (; s.windows < text->window_count && tokens < PROBE_TOKENS; s.windows++)
        tokens = text->windows[s.windows].first + text->windows[s.windows].inputs;
    s.tensors = infer_alloc_array(NULL, source->tensor_count, sizeof *s.tensors);
    s.exact = infer_alloc_array(NULL, tokens, sizeof *s.exact);
    status = bytes && s.tensors && s.exact ? calibrate_open(&s.c) : infer_fail_memory(err, tokens * sizeof *s.exact, "predictions");
    if (status == INFER_OK) {
        s.c.total = count_work(&s);
        status = probe_segments(&s);
    }
    for (size_t i = 0; status == INFER_OK && i < source->tensor_count; i++) {
        const infer_source_tensor *t = &source->tensors[i];
        uint64_t all = 0; /* rows of norms are no matrices, and have no rate */
        if (t->matrix && !infer_tensor_bytes(types[i], infer_matrix_layout(types[i]), t->rows, t->cols, &all))
            status = infer_fail(err, INFER_ERROR_UNSUPPORTED, "tensor %s: too large", t->name);
        bytes[i] = (double)all;
    }
    if (status == INFER_OK)
        spread(&s, bytes, rates);
    infer_free(NULL, bytes);
    infer_free(NULL, s.tensors);
    infer_free(NULL, s.exact);
    calibrate_close(&s.c);
    return status;
}
