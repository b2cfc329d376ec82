#include "probe.h"

#include "pack/pack.h"
#include "tile16x4.h"

#include <math.h>

static const infer_qtype candidates[] = {INFER_QTYPE_Q4G32, INFER_QTYPE_N4G32, INFER_QTYPE_Q8G32};
#define CANDIDATES (sizeof candidates / sizeof *candidates)

/* One tensor whose type is to be chosen. */
typedef struct choice {
    bool used, measured;   /* used: by a node, so that it can be measured; not those that a smaller type holds exactly */
    double kl[CANDIDATES]; /* of the predictions, this tensor alone rounded */
} choice;

typedef struct mixer {
    calibrate_prober p; /* first: what is visited is this */
    choice *tensors;    /* [tensors] */
} mixer;

/* Whether the node's tensor is still to be measured, as what the node does with it. */
static bool wanted(const mixer *m, uint32_t node, infer_op_kind op)
{
    size_t t = calibrate_tensor_of(&m->p.c, node);
    return calibrate_node(&m->p.c, node)->op == op && t < m->p.c.source->tensor_count && m->tensors[t].used && !m->tensors[t].measured;
}

/* Whether t2r holds the node's matrix exactly. rows: 16 of it. */
static bool is_ternary(const infer_weight *w, float *rows)
{
    uint64_t k = w->info->cols, left = w->info->rows, n;
    const uint8_t *panel = w->data;

    for (; left; left -= n, panel += infer_panel_bytes(INFER_QTYPE_F32, k)) {
        n = left < INFER_TILE_ROWS ? left : INFER_TILE_ROWS;
        infer_unpack_panel(INFER_QTYPE_F32, panel, (uint32_t)n, k, rows);
        for (uint64_t r = 0; r < n; r++)
            if (infer_ternary_scale(rows + r * k, k) < 0)
                return false;
    }
    return true;
}

/* The tensors that have a choice, but for ternary ones: t2r costs them nothing, and takes the fewest bits. */
static infer_status find_used(mixer *m, const bool *open, infer_qtype *types)
{
    calibrator *c = &m->p.c;

    for (uint32_t i = 0; i < calibrate_node_count(c); i++) {
        const infer_node *node = calibrate_node(c, i);
        size_t t = calibrate_tensor_of(c, i);
        float *rows;
        if (t == c->source->tensor_count || !open[t] || (node->op != INFER_OP_MATMUL && node->op != INFER_OP_EMBED))
            continue;
        if (!(rows = infer_alloc_array(NULL, INFER_TILE_ROWS * node->weight.info->cols, sizeof *rows)))
            return infer_fail_memory(c->err, INFER_TILE_ROWS * node->weight.info->cols * sizeof *rows, "16 rows of a tensor");
        m->tensors[t].used = !is_ternary(&node->weight, rows);
        if (!m->tensors[t].used)
            types[t] = INFER_QTYPE_T2R;
        infer_free(NULL, rows);
    }
    return INFER_OK;
}

/* The node's tensor in each type. */
static infer_status measure(mixer *m, uint32_t value, uint32_t first, uint32_t node, const infer_gptq *gptq)
{
    choice *t = &m->tensors[calibrate_tensor_of(&m->p.c, node)];
    infer_status status = INFER_OK;

    for (size_t i = 0; i < CANDIDATES && status == INFER_OK; i++) {
        calibrate_fit fit = {candidates[i], gptq, NULL, 0};
        status = calibrate_probe(&m->p, value, first, node, &fit, &t->kl[i]);
    }
    t->measured = true;
    return status;
}

/* All products that read the input of `node`, rounded for it as calibrate_model would if nothing before them were rounded. */
static infer_status measure_group(mixer *m, uint32_t value, uint32_t first, uint32_t node, uint32_t end, double damping)
{
    calibrator *c = &m->p.c;
    infer_moments moments = {.k = (uint32_t)calibrate_node(c, node)->weight.info->cols};
    infer_gptq *gptq = NULL;
    infer_status status = calibrate_check_memory(c, node, 2);

    if (status != INFER_OK)
        return status;
    moments.h = infer_alloc_array(NULL, (size_t)moments.k * moments.k, sizeof *moments.h);
    if (!moments.h)
        return infer_fail_memory(c->err, (size_t)moments.k * moments.k * sizeof *moments.h, "the moments of a matrix's inputs");
    if ((status = calibrate_gather(c, value, first, node, &moments)) == INFER_OK)
        status = infer_gptq_create(NULL, &moments, damping, &gptq, c->err);
    for (uint32_t i = node; i < end && status == INFER_OK; i++)
        if (wanted(m, i, INFER_OP_MATMUL) && calibrate_node(c, i)->in[0] == calibrate_node(c, node)->in[0])
            status = measure(m, value, first, i, gptq);
    infer_gptq_free(gptq);
    infer_free(NULL, moments.h);
    return status;
}

/* Embeddings change the whole model; those that are the head too are measured in both offices at once. */
static infer_status measure_embeddings(mixer *m)
{
    calibrator *c = &m->p.c;
    infer_status status = INFER_OK;

    for (uint32_t i = 0; i < calibrate_node_count(c) && status == INFER_OK; i++) {
        if (!wanted(m, i, INFER_OP_EMBED))
            continue;
        for (uint32_t j = i + 1; j < calibrate_node_count(c) && status == INFER_OK; j++)
            if (wanted(m, j, INFER_OP_MATMUL) && calibrate_tensor_of(c, j) == calibrate_tensor_of(c, i))
                status = measure_group(m, INFER_NONE, 0, j, j + 1, CALIBRATE_TIED_DAMPING);
        if (status == INFER_OK && wanted(m, i, INFER_OP_EMBED))
            status = measure(m, INFER_NONE, 0, i, NULL);
    }
    return status;
}

static infer_status visit(calibrate_prober *p, uint32_t value, uint32_t first, uint32_t node, uint32_t end)
{
    mixer *m = (mixer *)p;
    return wanted(m, node, INFER_OP_MATMUL) ? measure_group(m, value, first, node, end, p->c.o->damping) : INFER_OK;
}

/* Tokens through parts of the model: the float model once, the moments of each input that matrices share, each segment, each probe. */
static uint64_t count_work(const mixer *m)
{
    const calibrator *c = &m->p.c;
    uint64_t passes = 0, probes = 1;

    for (uint32_t i = 0, last = INFER_NONE; i < calibrate_node_count(c); i++) {
        if (i && calibrate_node(c, i)->layer != calibrate_node(c, i - 1)->layer)
            passes++;
        if (!wanted(m, i, INFER_OP_MATMUL) || calibrate_node(c, i)->in[0] == last)
            continue;
        last = calibrate_node(c, i)->in[0];
        passes++;
    }
    for (size_t i = 0; i < c->source->tensor_count; i++)
        probes += m->tensors[i].used ? CANDIDATES : 0;
    return passes * calibrate_tokens(c->o->text) + probes * calibrate_probe_tokens(&m->p);
}

static double tensor_bytes(const infer_source_tensor *t, infer_qtype type)
{
    uint64_t bytes = 0;
    infer_tensor_bytes(type, t->matrix ? infer_matrix_layout(type) : INFER_LAYOUT_ROWS, t->rows, t->cols, &bytes);
    return (double)bytes;
}

/* Bytes beyond the budget of `bits` a weight when all that have a choice take 4; negative: as many are left. */
static double excess(const mixer *m, const infer_qtype *types, double bits, double *least_bits)
{
    const infer_source *source = m->p.c.source;
    double weights = 0, bytes = 0;

    for (size_t i = 0; i < source->tensor_count; i++) {
        weights += (double)source->tensors[i].rows * (double)source->tensors[i].cols;
        bytes += tensor_bytes(&source->tensors[i], m->tensors[i].used ? INFER_QTYPE_Q4G32 : types[i]);
    }
    *least_bits = bytes * 8 / weights;
    return bytes - bits / 8 * weights;
}

/* The better type of 4 bits for all; then 8 bits where they spare most divergence for the bytes, as long as there are any left. */
static void choose(mixer *m, double left, infer_qtype *types)
{
    const infer_source *source = m->p.c.source;

    for (size_t i = 0; i < source->tensor_count; i++)
        if (m->tensors[i].used)
            types[i] = m->tensors[i].kl[0] < m->tensors[i].kl[1] ? candidates[0] : candidates[1];
    for (;;) {
        double most = 0, more = 0;
        size_t best = source->tensor_count;
        for (size_t i = 0; i < source->tensor_count; i++) {
            const choice *t = &m->tensors[i];
            double bytes, gain;
            if (!t->used || types[i] == candidates[2])
                continue;
            bytes = tensor_bytes(&source->tensors[i], candidates[2]) - tensor_bytes(&source->tensors[i], types[i]);
            gain = (fmin(t->kl[0], t->kl[1]) - t->kl[2]) / bytes;
            if (bytes <= left && gain > most) {
                most = gain;
                more = bytes;
                best = i;
            }
        }
        if (best == source->tensor_count)
            return;
        types[best] = candidates[2];
        left -= more;
    }
}

infer_status calibrate_mix(infer_model *model, const infer_source *source, const calibrate_options *options, double bits, const bool *open,
                           infer_qtype *types, infer_error *err)
{
    mixer m = {.p.c = {.model = model, .source = source, .o = options, .dim = model->config.dim, .err = err}};
    double over = 0, least_bits = 0;
    infer_status status;

    m.tensors = infer_alloc_array(NULL, source->tensor_count, sizeof *m.tensors);
    status = m.tensors ? calibrate_probe_open(&m.p) : infer_fail_memory(err, source->tensor_count * sizeof *m.tensors, "a list of tensors");
    if (status == INFER_OK)
        status = find_used(&m, open, types);
    if (status == INFER_OK && (over = excess(&m, types, bits, &least_bits)) > 0)
        status = infer_fail(err, INFER_ERROR_ARGUMENT,
                            "found %g bits a weight, expected at least the %.4f of this model with codes of at most 4 bits", bits,
                            ceil(least_bits * 1e4) / 1e4);
    if (status == INFER_OK) {
        m.p.c.total = count_work(&m);
        if ((status = calibrate_probe_record(&m.p)) == INFER_OK && (status = measure_embeddings(&m)) == INFER_OK)
            status = calibrate_probe_walk(&m.p, visit);
    }
    if (status == INFER_OK)
        choose(&m, -over, types);
    infer_free(NULL, m.tensors);
    calibrate_probe_close(&m.p);
    return status;
}
