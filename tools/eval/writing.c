#include "writing.h"

#define STEP 32u /* tokens from one report of progress to the next */

infer_status eval_writer(const infer_model *model, float temperature, uint64_t seed, infer_sampler **out, infer_error *err)
{
    infer_sampler_options options = INFER_SAMPLER_DEFAULTS;
    options.temperature = temperature;
    options.top_k = 0;
    options.top_p = 1;
    options.min_p = 0;
    options.seed = seed;
    return infer_sampler_create(model, &options, out, err);
}

infer_status eval_write(infer_session *session, const infer_model *model, infer_sampler *sampler, int32_t *ids, uint32_t n,
                        uint32_t *written, infer_error *err)
{
    uint32_t i = 0;
    do {
        infer_status s = infer_session_eval(session, ids + i, 1, INFER_LOGITS_LAST, err);
        if (s != INFER_OK)
            return s;
        ids[++i] = infer_sampler_sample(sampler, infer_session_logits(session, 0));
    } while (i < n && !infer_model_token_is_end(model, ids[i]));
    *written = i;
    return INFER_OK;
}

/* A text into a new window, which is the last one in *t; t->tokens grows. */
static infer_status write_text(infer_session *session, const infer_model *model, const eval_writing *w, infer_sampler *sampler,
                               eval_text *t, infer_error *err)
{
    const uint32_t rest = w->tokens - t->tokens < w->window ? (uint32_t)(w->tokens - t->tokens) : w->window;
    eval_window window = {.first = t->id_count};
    infer_status s = infer_session_rewind(session, 0, err);
    int32_t *ids;

    if (s != INFER_OK)
        return s;
    if (!infer_grow(NULL, &t->ids, &t->id_cap, t->id_count + rest + 1, sizeof *t->ids) ||
        !infer_grow(NULL, &t->windows, &t->window_cap, t->window_count + 1, sizeof *t->windows))
        return infer_fail_memory(err, (t->id_count + rest + 1) * sizeof *t->ids, "a text");
    ids = t->ids + t->id_count;
    ids[0] = infer_model_token_bos(model);
    while (window.inputs < rest && (window.inputs == 0 || !infer_model_token_is_end(model, ids[window.inputs]))) {
        const uint32_t step = rest - window.inputs < STEP ? rest - window.inputs : STEP;
        uint32_t written;
        if ((s = eval_write(session, model, sampler, ids + window.inputs, step, &written, err)) != INFER_OK)
            return s;
        window.inputs += written;
        t->tokens += written;
        if (w->progress && w->progress(w->user, t->tokens, w->tokens))
            return infer_fail(err, INFER_ERROR_CANCELLED, "cancelled");
    }
    t->id_count += window.inputs + 1;
    t->windows[t->window_count++] = window;
    t->documents++;
    return INFER_OK;
}

infer_status eval_text_write(infer_model *model, const eval_writing *w, eval_text *out, infer_error *err)
{
    infer_session_options options = INFER_SESSION_DEFAULTS;
    infer_session *session = NULL;
    infer_sampler *sampler = NULL;
    eval_text t = {0};
    infer_status s;

    if (infer_model_token_bos(model) < 0)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "without a begin token the model cannot begin a text");
    options.context = w->window;
    options.batch = 1;
    if ((s = infer_session_create(model, &options, &session, err)) == INFER_OK)
        s = eval_writer(model, 1, w->seed, &sampler, err);
    while (s == INFER_OK && t.tokens < w->tokens)
        s = write_text(session, model, w, sampler, &t, err);
    if (s == INFER_OK && !(t.counted = infer_alloc_array(NULL, t.window_count + 1, sizeof *t.counted)))
        s = infer_fail_memory(err, t.window_count * sizeof *t.counted, "windows");
    for (size_t i = 0; s == INFER_OK && i < t.window_count; i++)
        t.counted[i] = t.windows[i].inputs;
    infer_sampler_destroy(sampler);
    infer_session_destroy(session);
    if (s != INFER_OK)
        eval_text_free(&t);
    else
        *out = t;
    return s;
}
