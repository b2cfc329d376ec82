/* Embeddings: the graph without its head. */
#include "model/session.h"

#include <infer/infer_experimental.h>

#include <string.h>

/* The value that the head reads, before it is quantized, and the node to stop at. */
static uint32_t head_input(const infer_graph *g, uint32_t *stop)
{
    for (uint32_t i = 0; i < g->node_count; i++) {
        const infer_node *n = &g->nodes[i];
        if (n->op == INFER_OP_MATMUL && g->values[n->out].kind == INFER_VALUE_LOGITS) {
            const infer_value *in = &g->values[n->in[0]];
            *stop = in->kind == INFER_VALUE_Q8 ? in->producer : i;
            return in->kind == INFER_VALUE_Q8 ? g->nodes[in->producer].in[0] : n->in[0];
        }
    }
    return INFER_NONE;
}

uint32_t infer_model_dim(const infer_model *model) { return model->config.dim; }

infer_status infer_session_embed(infer_session *session, const int32_t *tokens, size_t n, infer_pooling pooling, float *out,
                                 infer_error *err)
{
    uint32_t dim, value, stop = 0, start;
    infer_status s;
    if (!tokens || n == 0 || !out || (unsigned)pooling > INFER_POOLING_MEAN)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_embed: tokens or out is NULL, n is 0, or pooling is not 0..1");
    if ((s = infer_session_is_free(session, "infer_session_embed", err)) != INFER_OK ||
        (s = infer_session_may_append(session, tokens, n, err)) != INFER_OK)
        return s;
    dim = session->model->config.dim;
    value = head_input(&session->plan->graph, &stop);
    start = session->position;
    session->logit_rows = 0;
    memset(out, 0, dim * sizeof *out);
    for (size_t done = 0; done < n;) {
        uint32_t m = n - done < session->batch ? (uint32_t)(n - done) : session->batch, stride;
        infer_batch batch = {.ids = tokens + done, .m = m, .pos0 = session->position, .end_node = stop};
        const float *rows;
        batch.logits = pooling == INFER_POOLING_MEAN ? m : done + m == n;
        if ((s = infer_session_run_batch(session, &batch, err)) != INFER_OK) {
            session->position = start;
            return s;
        }
        rows = infer_plan_f32(session->plan, value, INFER_ROWS_LOGITS, &batch);
        stride = infer_plan_stride(session->plan, value);
        for (uint32_t t = 0; t < batch.logits; t++) /* in the order of the tokens, whatever the batches */
            for (uint32_t d = 0; d < dim; d++)
                out[d] += rows[(size_t)t * stride + d];
        done += m;
    }
    for (uint32_t d = 0; pooling == INFER_POOLING_MEAN && d < dim; d++)
        out[d] /= (float)n;
    return INFER_OK;
}
