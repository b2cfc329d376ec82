#include "probe.h"

#include <math.h>

#define PROBE_TOKENS 4096u /* of the text, at most, by which a changed matrix is judged */

static const float *logits_of(const calibrate_stream *s, uint32_t row, uint32_t vocab)
{
    return s->plan->logits + (size_t)row * vocab;
}

infer_status calibrate_probe_open(calibrate_prober *p)
{
    const eval_text *text = p->c.o->text;
    size_t tokens = 0;

    for (; p->windows < text->window_count && tokens < PROBE_TOKENS; p->windows++)
        tokens = text->windows[p->windows].first + text->windows[p->windows].inputs;
    p->exact = infer_alloc_array(NULL, tokens, sizeof *p->exact);
    return p->exact ? calibrate_open(&p->c) : infer_fail_memory(p->c.err, tokens * sizeof *p->exact, "predictions");
}

void calibrate_probe_close(calibrate_prober *p)
{
    infer_free(NULL, p->exact);
    calibrate_close(&p->c);
}

uint64_t calibrate_probe_tokens(const calibrate_prober *p)
{
    uint64_t tokens = 0;
    for (size_t w = 0; w < p->windows; w++)
        tokens += p->c.o->text->windows[w].inputs;
    return tokens;
}

infer_status calibrate_probe_record(calibrate_prober *p)
{
    calibrator *c = &p->c;
    uint32_t vocab = c->model->config.vocab;
    infer_status status = INFER_OK;

    for (size_t w = 0; w < p->windows && status == INFER_OK; w++) {
        const eval_window *window = &c->o->text->windows[w];
        if ((status = calibrate_run_window(c, &c->exact, w, INFER_NONE, 0, calibrate_node_count(c))) != INFER_OK)
            break;
        for (uint32_t t = 0; t < window->inputs; t++) {
            const float *logits = logits_of(&c->exact, t, vocab);
            double log_sum = eval_log_sum(logits, vocab);
            if (!isfinite(log_sum))
                return infer_fail(c->err, INFER_ERROR_FORMAT, "the model's logits are not finite");
            eval_top(logits, vocab, log_sum, &p->exact[window->first + t]);
        }
        status = calibrate_advance(c, window->inputs);
    }
    return status;
}

/* KL divergence of the rounded model's predictions, from the segment that starts at `first` on. */
static infer_status judge(calibrate_prober *p, uint32_t value, uint32_t first, double *kl)
{
    calibrator *c = &p->c;
    uint32_t vocab = c->model->config.vocab;
    double sum = 0, tokens = 0;
    infer_status status = INFER_OK;

    for (size_t w = 0; w < p->windows && status == INFER_OK; w++) {
        const eval_window *window = &c->o->text->windows[w];
        if ((status = calibrate_run_window(c, &c->rounded, w, value, first, calibrate_node_count(c))) != INFER_OK)
            break;
        for (uint32_t t = 0; t < window->inputs; t++) {
            const float *logits = logits_of(&c->rounded, t, vocab);
            sum += eval_kl(&p->exact[window->first + t], logits, vocab, eval_log_sum(logits, vocab));
        }
        tokens += window->inputs;
        status = calibrate_advance(c, window->inputs);
    }
    if (status == INFER_OK && !isfinite(sum))
        return infer_fail(c->err, INFER_ERROR_FORMAT, "the changed model's logits are not finite");
    *kl = sum / tokens;
    return status;
}

infer_status calibrate_probe(calibrate_prober *p, uint32_t value, uint32_t first, uint32_t node, const calibrate_fit *fit, double *kl)
{
    const infer_weight *weight = &calibrate_node(&p->c, node)->weight;
    calibrate_fitted fitted;
    infer_status status = calibrate_fit_matrix(&p->c, node, fit, &fitted);

    if (status != INFER_OK)
        return status;
    calibrate_use(&p->c, weight->info, fitted.floats);
    status = judge(p, value, first, kl);
    calibrate_use(&p->c, weight->info, weight->data);
    infer_free(NULL, fitted.packed);
    infer_free(NULL, fitted.floats);
    return status;
}

infer_status calibrate_probe_walk(calibrate_prober *p,
                                  infer_status (*visit)(calibrate_prober *p, uint32_t value, uint32_t first, uint32_t node, uint32_t end))
{
    calibrator *c = &p->c;
    infer_status status = INFER_OK;
    uint32_t value = INFER_NONE;

    for (uint32_t first = 0, end; first < calibrate_node_count(c) && status == INFER_OK; first = end) {
        end = calibrate_segment_end(c, first);
        if (first && (status = calibrate_residual_value(c, first, &value)) != INFER_OK)
            break;
        for (uint32_t i = first; i < end && status == INFER_OK; i++)
            status = visit(p, value, first, i, end);
        if (status == INFER_OK && end < calibrate_node_count(c))
            status = calibrate_keep_residual(c, &c->rounded, value, first, end); /* the float model: nothing is changed now */
    }
    return status;
}
