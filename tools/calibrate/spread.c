#include "probe.h"

#include <math.h>

#define STEP 0.01 /* by which a rate grows */
#define MOST 0.95 /* no matrix is pruned more */

/* What pruning one matrix alone does to the model's predictions: KL divergence = factor x rate^power. */
typedef struct sensitivity {
    bool measured;
    double factor, power;
} sensitivity;

typedef struct spreader {
    calibrate_prober p;   /* first: what is visited is this */
    sensitivity *tensors; /* [tensors] */
} spreader;

/* Prunes the node's matrix alone, by its rate and by half of it. */
static infer_status probe(spreader *s, uint32_t value, uint32_t first, uint32_t node, const infer_pruner *pruner)
{
    calibrator *c = &s->p.c;
    double kl[2] = {0}, rate = calibrate_rate(c, node), power;
    infer_status status = INFER_OK;

    for (int half = 0; half < 2 && status == INFER_OK; half++) {
        calibrate_fit fit = {INFER_QTYPE_F32, NULL, pruner, half ? rate / 2 : rate};
        status = calibrate_probe(&s->p, value, first, node, &fit, &kl[half]);
    }
    if (status != INFER_OK)
        return status;
    power = kl[1] > 0 && kl[0] > kl[1] ? log2(kl[0] / kl[1]) : 1;
    power = power < 2 ? 2 : power > 6 ? 6 : power; /* small changes cost their square, and two points are no curve */
    s->tensors[calibrate_tensor_of(c, node)] = (sensitivity){true, kl[0] / pow(rate, power), power};
    return INFER_OK;
}

/* All matrices to be pruned that read the input of `node`, which is one of them. */
static infer_status probe_group(calibrate_prober *p, uint32_t value, uint32_t first, uint32_t node, uint32_t end)
{
    spreader *s = (spreader *)p;
    calibrator *c = &p->c;
    uint32_t x = calibrate_node(c, node)->in[0];
    infer_moments m = {.k = 0};
    infer_pruner *pruner = NULL;
    infer_status status;

    if (calibrate_rate(c, node) <= 0 || s->tensors[calibrate_tensor_of(c, node)].measured)
        return INFER_OK;
    if ((status = calibrate_check_memory(c, node, 1 + calibrate_pruning_squares(c))) != INFER_OK)
        return status;
    m.k = (uint32_t)calibrate_node(c, node)->weight.info->cols;
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

/* From nothing on, the step with the least divergence for the bytes that it saves, until as many are saved as the rates asked for. */
static void spread(const spreader *s, const double *bytes, double *rates)
{
    size_t count = s->p.c.source->tensor_count;
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
    const calibrator *c = &s->p.c;
    uint64_t passes = 0, probes = 1;

    for (uint32_t i = 0, last = INFER_NONE; i < calibrate_node_count(c); i++) {
        if (i && calibrate_node(c, i)->layer != calibrate_node(c, i - 1)->layer)
            passes++;
        if (calibrate_rate(c, i) <= 0)
            continue;
        probes += 2;
        passes += calibrate_node(c, i)->in[0] != last;
        last = calibrate_node(c, i)->in[0];
    }
    return passes * calibrate_tokens(c->o->text) + probes * calibrate_probe_tokens(&s->p);
}

infer_status calibrate_spread(infer_model *model, const infer_source *source, const infer_qtype *types, const calibrate_options *options,
                              double *rates, infer_error *err)
{
    spreader s = {.p.c = {.model = model, .source = source, .o = options, .dim = model->config.dim, .err = err}};
    double *bytes = infer_alloc_array(NULL, source->tensor_count, sizeof *bytes);
    infer_status status;

    s.tensors = infer_alloc_array(NULL, source->tensor_count, sizeof *s.tensors);
    status = bytes && s.tensors ? calibrate_probe_open(&s.p)
                                : infer_fail_memory(err, source->tensor_count * sizeof *s.tensors, "a list of tensors");
    if (status == INFER_OK) {
        s.p.c.total = count_work(&s);
        if ((status = calibrate_probe_record(&s.p)) == INFER_OK)
            status = calibrate_probe_walk(&s.p, probe_group);
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
    calibrate_probe_close(&s.p);
    return status;
}
