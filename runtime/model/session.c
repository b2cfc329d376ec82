#include "model/session.h"

#include <infer/infer_experimental.h>

#include <string.h>

static bool all_f32(const infer_graph *g)
{
    for (size_t i = 0; i < g->node_count; i++)
        if (g->nodes[i].weight.info && g->nodes[i].weight.info->type != INFER_QTYPE_F32)
            return false;
    return true;
}

infer_status infer_session_create(infer_model *model, const infer_session_options *options, infer_session **out, infer_error *err)
{
    infer_session_options o = INFER_SESSION_DEFAULTS;
    infer_plan_options p = {0};
    infer_session *session;
    infer_status s;
    if (!model || !out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_create: model or out is NULL");
    if (options) {
        if (options->size != sizeof o)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_create: options.size: found %zu, expected %zu", options->size,
                              sizeof o);
        o = *options;
    }
    if (o.context > INFER_MAX_CONTEXT || o.batch > 4096 || o.logit_rows > INFER_MAX_CONTEXT || (unsigned)o.kv_type > INFER_KV_Q8)
        return infer_fail(err, INFER_ERROR_ARGUMENT,
                          "session options: found context %u, batch %u, logit_rows %u, kv_type %d; expected at most "
                          "%u, 4096, %u and 3",
                          o.context, o.batch, o.logit_rows, (int)o.kv_type, INFER_MAX_CONTEXT, INFER_MAX_CONTEXT);
    if (!o.context)
        o.context = model->config.context < 4096 ? model->config.context : 4096;
    if (model->graph.learned_positions && o.context > model->graph.learned_positions)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "session options: found context %u; the model has learned positions for %u", o.context,
                          model->graph.learned_positions);
    if (!o.batch)
        o.batch = 512;
    p.max_batch = o.batch < o.context ? o.batch : o.context;
    p.max_logits = o.logit_rows ? o.logit_rows : 1;
    p.context = o.context;
    p.threads = infer_pool_threads(model->rt->pool);
    if (o.kv_type == INFER_KV_AUTO)
        o.kv_type = all_f32(&model->graph) ? INFER_KV_F32 : INFER_KV_F16;
    p.kv_type = o.kv_type == INFER_KV_F32 ? INFER_QTYPE_F32 : o.kv_type == INFER_KV_Q8 ? INFER_QTYPE_Q8G32 : INFER_QTYPE_F16;
    p.level = model->rt->level;
    p.profile = o.profile != 0;
    if (model->verify == INFER_VERIFY_FIRST_USE) {
        p.check = infer_model_check;
        p.checker = model;
    }
    if ((s = infer_file_check(model->file, err)) != INFER_OK)
        return s;
    session = infer_alloc_zero(&model->rt->allocator, sizeof *session);
    if (!session)
        return infer_fail_memory(err, sizeof *session, "the session");
    session->model = model;
    session->options = o;
    session->generation.notifier = INFER_NOTIFIER_NONE;
    session->context = o.context;
    session->batch = p.max_batch;
    s = infer_plan_create(&model->graph, &p, &session->plan, err);
    if (s != INFER_OK) {
        infer_free(&model->rt->allocator, session);
        return s;
    }
    session->weight_bytes = infer_plan_weight_bytes(session->plan);
    session->position_bytes = session->plan->cache_bytes / session->plan->positions;
    infer_log(model->rt, "session: context %u, batch %u, KV cache %s, %llu bytes", o.context, p.max_batch,
              infer_qtype_find(p.kv_type)->name, (unsigned long long)infer_plan_bytes(session->plan));
    *out = session;
    return INFER_OK;
}

void infer_session_destroy(infer_session *session)
{
    if (!session)
        return;
    infer_generation_close(session);
    infer_plan_destroy(session->plan);
    infer_free(&session->model->rt->allocator, session);
}

static uint64_t skipped_bytes(const infer_session *session)
{
    uint64_t inputs, silent, bytes = 0;
    if (session->plan->events)
        infer_plan_events(session->plan, &inputs, &silent, &bytes);
    return bytes;
}

infer_status infer_session_may_append(const infer_session *session, const int32_t *tokens, size_t n, infer_error *err)
{
    uint32_t vocab = session->model->config.vocab;
    if (n > session->context - session->position)
        return infer_fail(err, INFER_ERROR_CONTEXT, "%zu tokens after position %u do not fit into a context of %u", n, session->position,
                          session->context);
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= vocab)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "token %zu: found id %d, expected 0..%u", i, (int)tokens[i], vocab - 1);
    return infer_file_check(session->model->file, err);
}

infer_status infer_session_run_batch(infer_session *session, const infer_batch *batch, infer_error *err)
{
    uint64_t skipped = skipped_bytes(session);
    infer_status s = infer_plan_run(session->plan, session->model->rt->pool, batch, err);
    if (s == INFER_OK) /* what was read beyond a new end, within its page, were zeros */
        s = infer_file_check(session->model->file, err);
    if (s != INFER_OK)
        return s;
    session->position += batch->m;
    skipped = batch->m == 1 ? skipped_bytes(session) - skipped : 0; /* several tokens read what any of them needs */
    atomic_fetch_add_explicit(&session->model->rt->bytes_read,
                              session->weight_bytes - skipped + session->position * session->position_bytes, memory_order_relaxed);
    return INFER_OK;
}

infer_status infer_session_eval(infer_session *session, const int32_t *tokens, size_t n, infer_logits logits, infer_error *err)
{
    infer_status s = infer_session_is_free(session, "infer_session_eval", err);
    return s == INFER_OK ? infer_session_run(session, tokens, n, logits, err) : s;
}

infer_status infer_session_run(infer_session *session, const int32_t *tokens, size_t n, infer_logits logits, infer_error *err)
{
    uint32_t start;
    infer_status s;
    if (!tokens || n == 0 || (unsigned)logits > INFER_LOGITS_ALL)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_eval: tokens is NULL, n is 0, or logits is not 0..2");
    if (logits == INFER_LOGITS_ALL && n > session->plan->max_logits)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "logits of %zu tokens wanted, the session keeps %u rows", n,
                          session->plan->max_logits);
    if ((s = infer_session_may_append(session, tokens, n, err)) != INFER_OK)
        return s;
    start = session->position;
    session->logit_rows = 0;
    for (size_t done = 0; done < n;) {
        uint32_t m = n - done < session->batch ? (uint32_t)(n - done) : session->batch;
        infer_batch batch = {.ids = tokens + done, .m = m, .pos0 = session->position};
        if (logits == INFER_LOGITS_ALL) {
            batch.logits = m;
            batch.logits_row = (uint32_t)done;
        } else if (logits == INFER_LOGITS_LAST && done + m == n) {
            batch.logits = 1;
        }
        if ((s = infer_session_run_batch(session, &batch, err)) != INFER_OK) {
            session->position = start;
            return s;
        }
        done += m;
    }
    session->logit_rows = logits == INFER_LOGITS_ALL ? n : logits == INFER_LOGITS_LAST ? 1 : 0;
    return INFER_OK;
}

const float *infer_session_logits(const infer_session *session, size_t row)
{
    return row < session->logit_rows ? session->plan->logits + row * session->model->config.vocab : NULL;
}

uint32_t infer_session_position(const infer_session *session) { return session->position; }
uint32_t infer_session_context(const infer_session *session) { return session->context; }

infer_status infer_session_rewind(infer_session *session, uint32_t position, infer_error *err)
{
    infer_status s = infer_session_is_free(session, "infer_session_rewind", err);
    if (s != INFER_OK)
        return s;
    if (position > session->position)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "rewind to position %u: the session is at %u", position, session->position);
    session->position = position;
    return INFER_OK;
}

void infer_session_cancel(infer_session *session) { atomic_store(&session->plan->cancel, 1); }

infer_status infer_session_describe(const infer_session *session, const char *what, infer_write_fn *write, void *user, infer_error *err)
{
    if (!session || !what || !write)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_describe: session, what or write is NULL");
    if (strcmp(what, "explain") == 0)
        return infer_plan_explain(session->plan, write, user);
    if (strcmp(what, "dot") == 0)
        return infer_plan_dot(session->plan, write, user);
    if (strcmp(what, "profile") == 0 && session->plan->profile)
        return infer_plan_profile(session->plan, write, user);
    return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_describe: found \"%.32s\", expected explain, dot%s", what,
                      session->plan->profile ? " or profile" : " (profile needs the option)");
}

const infer_plan *infer_session_plan(const infer_session *session) { return session->plan; }
const infer_model *infer_session_model(const infer_session *session) { return session->model; }
uint64_t infer_session_weight_bytes_per_token(const infer_session *session) { return session->weight_bytes; }
uint64_t infer_session_memory_bytes(const infer_session *session) { return infer_plan_bytes(session->plan); }

/* ---- events ---- */

double infer_model_events_target(const infer_model *model) { return model->events.target; }

infer_status infer_session_set_events(infer_session *session, double rate, infer_error *err)
{
    const infer_model *model;
    infer_plan *plan;
    infer_status s = infer_session_is_free(session, "infer_session_set_events", err);
    if (s != INFER_OK)
        return s;
    model = session->model;
    plan = session->plan;
    if (rate == INFER_EVENTS_AUTO && model->events.rates)
        rate = model->events.target;
    if (rate != 0 && !model->events.rates)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED,
                          "%s: the file has no thresholds for events; infer-convert --events makes one that has",
                          infer_file_path(model->file));
    if (!(rate >= 0) || (model->events.rates && rate > model->events.rate[model->events.rates - 1]))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "events: found rate %g, expected 0 to %g", rate,
                          model->events.rate[model->events.rates - 1]);
    plan->events = rate > 0;
    for (uint32_t i = 0; i < plan->graph.node_count; i++) {
        const infer_tensor_info *t = plan->graph.nodes[i].weight.info;
        if (plan->graph.nodes[i].op == INFER_OP_QUANTIZE && t)
            plan->thresholds[i] =
                rate > 0 ? infer_events_threshold(&model->events, (size_t)(t - infer_file_tensor(model->file, 0)), rate) : 0;
    }
    return INFER_OK;
}

void infer_session_events_stats(const infer_session *session, infer_events_stats *out)
{
    *out = (infer_events_stats){.tokens = session->plan->event_tokens};
    infer_plan_events(session->plan, &out->inputs, &out->silent, &out->bytes_skipped);
    out->bytes_read = out->tokens * session->weight_bytes - out->bytes_skipped;
}
