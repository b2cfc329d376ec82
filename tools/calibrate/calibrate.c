#include "calibrator.h"

typedef struct fitter {
    calibrator c;
    const infer_qtype *types;
    infer_convert_packed *packed;
    float **floats; /* [tensors] fitted values of the matrices in use, tile16x4 in f32; NULL: not there */
} fitter;

static bool wanted(const fitter *f, uint32_t node)
{
    size_t t = calibrate_tensor_of(&f->c, node);
    return calibrate_node(&f->c, node)->op == INFER_OP_MATMUL && t < f->c.source->tensor_count && !f->packed[t].data &&
           (infer_quantizer_find(f->types[t]) || calibrate_rate(&f->c, node) > 0);
}

/* From here on the rounded model uses what became of the node's matrix. */
static infer_status fit_matrix(fitter *f, uint32_t node, const infer_gptq *gptq, const infer_pruner *pruner)
{
    calibrator *c = &f->c;
    size_t tensor = calibrate_tensor_of(c, node);
    double rate = calibrate_rate(c, node);
    calibrate_fit fit = {f->types[tensor], gptq, rate > 0 ? pruner : NULL, rate};
    calibrate_fitted fitted;
    infer_status s = calibrate_fit_matrix(c, node, &fit, &fitted);

    if (s != INFER_OK)
        return s;
    if (fit.pruner)
        c->o->pruned[tensor] = fitted.pruned;
    f->packed[tensor] = (infer_convert_packed){fitted.choice, fitted.packed};
    f->floats[tensor] = fitted.floats;
    calibrate_use(c, calibrate_node(c, node)->weight.info, fitted.floats);
    return INFER_OK;
}

/* All matrices that read the input of `node` and are not fitted yet. */
static infer_status fit_group(fitter *f, uint32_t value, uint32_t first, uint32_t node, uint32_t end, double damping)
{
    calibrator *c = &f->c;
    uint32_t x = calibrate_node(c, node)->in[0];
    infer_moments m = {.k = (uint32_t)calibrate_node(c, node)->weight.info->cols};
    infer_gptq *gptq = NULL;
    infer_pruner *pruner = NULL;
    infer_status s = calibrate_check_memory(c, node, 3 + calibrate_pruning_squares(c));

    if (s != INFER_OK)
        return s;
    m.h = infer_alloc_array(NULL, (size_t)m.k * m.k, sizeof *m.h);
    m.cross = infer_alloc_array(NULL, (size_t)m.k * m.k, sizeof *m.cross);
    if (!m.h || !m.cross)
        s = infer_fail_memory(c->err, 2 * (size_t)m.k * m.k * sizeof *m.h, "the moments of a matrix's inputs");
    if (s == INFER_OK && (s = calibrate_gather(c, value, first, node, &m)) == INFER_OK)
        s = infer_gptq_create(NULL, &m, damping, &gptq, c->err);
    if (s == INFER_OK && c->o->rates)
        s = infer_pruner_create(NULL, m.k, &m, c->o->method, c->o->block, damping, &pruner, c->err);
    for (uint32_t i = node; i < end && s == INFER_OK; i++)
        if (wanted(f, i) && calibrate_node(c, i)->in[0] == x)
            s = fit_matrix(f, i, gptq, pruner);
    infer_pruner_free(pruner);
    infer_gptq_free(gptq);
    infer_free(NULL, m.h);
    infer_free(NULL, m.cross);
    return s;
}

static infer_status run_segments(fitter *f)
{
    calibrator *c = &f->c;
    infer_status s = INFER_OK;
    uint32_t value = INFER_NONE;

    for (uint32_t first = 0, end; first < calibrate_node_count(c) && s == INFER_OK; first = end) {
        end = calibrate_segment_end(c, first);
        if (first && (s = calibrate_residual_value(c, first, &value)) != INFER_OK)
            break;
        for (uint32_t i = first; i < end && s == INFER_OK; i++)
            if (wanted(f, i))
                s = fit_group(f, value, first, i, end, c->o->damping);
        if (s == INFER_OK && end < calibrate_node_count(c) && (s = calibrate_keep_residual(c, &c->exact, value, first, end)) == INFER_OK)
            s = calibrate_keep_residual(c, &c->rounded, value, first, end);
        for (uint32_t i = first; i < end; i++) { /* no later segment reads them */
            size_t t = calibrate_tensor_of(c, i);
            if (t < c->source->tensor_count && calibrate_node(c, i)->op == INFER_OP_MATMUL && calibrate_node(c, i)->layer != INFER_NONE) {
                infer_free(NULL, f->floats[t]);
                f->floats[t] = NULL;
            }
        }
    }
    return s;
}

/* Embeddings come first, so that the layers can make up for their error. They are no product, and rounded to nearest, unless they are the
 * head too: then as the head wants it with the inputs of the float model. */
static infer_status fit_embeddings(fitter *f)
{
    calibrator *c = &f->c;
    infer_status s = INFER_OK;

    for (uint32_t i = 0; i < calibrate_node_count(c) && s == INFER_OK; i++) {
        size_t t = calibrate_tensor_of(c, i);
        if (t == c->source->tensor_count || f->packed[t].data || calibrate_node(c, i)->op != INFER_OP_EMBED ||
            !infer_quantizer_find(f->types[t]))
            continue;
        for (uint32_t j = i + 1; j < calibrate_node_count(c) && s == INFER_OK; j++)
            if (wanted(f, j) && calibrate_tensor_of(c, j) == t)
                s = fit_group(f, INFER_NONE, 0, j, j + 1, CALIBRATE_TIED_DAMPING);
        if (s == INFER_OK && !f->packed[t].data)
            s = fit_matrix(f, i, NULL, NULL);
    }
    return s;
}

/* Tokens through parts of the model: once for each input that matrices share, and for each segment in both models. */
static uint64_t count_work(const fitter *f)
{
    const calibrator *c = &f->c;
    uint64_t passes = 0;

    for (uint32_t i = 0, last = INFER_NONE; i < calibrate_node_count(c); i++) {
        if (i && calibrate_node(c, i)->layer != calibrate_node(c, i - 1)->layer)
            passes += 2;
        if (!wanted(f, i) || calibrate_node(c, i)->in[0] == last)
            continue;
        last = calibrate_node(c, i)->in[0];
        passes++;
    }
    return passes * calibrate_tokens(c->o->text);
}

infer_status calibrate_model(infer_model *model, const infer_source *source, const infer_qtype *types, const calibrate_options *options,
                             infer_convert_packed *packed, infer_error *err)
{
    fitter f = {
        .c = {.model = model, .source = source, .o = options, .dim = model->config.dim, .err = err}, .types = types, .packed = packed};
    infer_status s;

    f.floats = infer_alloc_array(NULL, source->tensor_count, sizeof *f.floats);
    s = f.floats ? calibrate_open(&f.c) : infer_fail_memory(err, source->tensor_count * sizeof *f.floats, "a list of tensors");
    if (s == INFER_OK) {
        f.c.total = count_work(&f);
        if ((s = fit_embeddings(&f)) == INFER_OK)
            s = run_segments(&f);
    }
    for (size_t i = 0; f.floats && i < source->tensor_count; i++)
        infer_free(NULL, f.floats[i]);
    infer_free(NULL, f.floats);
    calibrate_close(&f.c);
    return s;
}
