/* What the files of this folder share: the model twice, and the matrices in use. Internal. */
#ifndef INFER_TOOLS_CALIBRATOR_H
#define INFER_TOOLS_CALIBRATOR_H

#include "calibrate.h"
#include "model/model.h"

/* On the diagonal of the head's moments where it is the embeddings too, as a share of the mean: in a row's other office an error counts the
 * same in every direction. KL divergence x 1000 on 300 held-out stories, calibrated with 40,000 tokens, of stories260K and
 * tinystories-656K, q4g32: 0.03: 55.1, 39.6; 0.1: 53.2, 36.9; 0.4: 55.0, 34.3; 1: 55.8, 32.7; 4: 56.5, 32.7. */
#define CALIBRATE_TIED_DAMPING 1.0

/* The model, either as it is or with what was rounded so far, and the residual stream that it has made of the text. */
typedef struct calibrate_stream {
    infer_plan *plan;
    float *residual; /* [tokens][dim] */
} calibrate_stream;

typedef struct calibrator {
    infer_model *model;
    const infer_source *source;
    const calibrate_options *o;
    calibrate_stream exact, rounded;
    uint32_t dim;
    uint64_t done, total; /* tokens through parts of the model */
    infer_error *err;
} calibrator;

/* ---- streams.c: the graph, and running it part by part ---- */

/* Two plans, and the residual stream of each. On failure too, calibrate_close. */
infer_status calibrate_open(calibrator *c);
void calibrate_close(calibrator *c);

static inline const infer_node *calibrate_node(const calibrator *c, uint32_t i)
{
    return &c->exact.plan->graph.nodes[i];
}
static inline uint32_t calibrate_node_count(const calibrator *c)
{
    return (uint32_t)c->exact.plan->graph.node_count;
}

/* Index of a node's weight in the source; the count when it has none. */
size_t calibrate_tensor_of(const calibrator *c, uint32_t node);
/* Of a node that is a product with a tensor of the source; else 0. */
double calibrate_rate(const calibrator *c, uint32_t node);
/* A segment: the nodes of a layer, or those before or behind all layers. */
uint32_t calibrate_segment_end(const calibrator *c, uint32_t first);
/* The value that nodes before `first` hand to it and those behind it: the residual stream. UNSUPPORTED: there are several. */
infer_status calibrate_residual_value(const calibrator *c, uint32_t first, uint32_t *out);
/* Window `w` through nodes first..end - 1, from the residual stream where `value` is one. */
infer_status calibrate_run_window(calibrator *c, calibrate_stream *s, size_t w, uint32_t value, uint32_t first, uint32_t end);
/* Nodes first..end - 1 on all windows; the residual stream is then that behind them. */
infer_status calibrate_keep_residual(calibrator *c, calibrate_stream *s, uint32_t value, uint32_t first, uint32_t end);
/* The input of `node`, in the rounded model, over all windows: m->h, and m->cross where it is not NULL. */
infer_status calibrate_gather(calibrator *c, uint32_t value, uint32_t first, uint32_t node, infer_moments *m);
/* UNSUPPORTED: `squares` matrices of k x k doubles, for the inputs of `node`, are too much memory. */
infer_status calibrate_check_memory(const calibrator *c, uint32_t node, uint32_t squares);
/* The rounded model uses these values of the tensor: tile16x4, f32. */
void calibrate_use(calibrator *c, const infer_tensor_info *info, const void *floats);
/* How many such matrices pruning takes: those of the pruner, and one for each thread. */
uint32_t calibrate_pruning_squares(const calibrator *c);
uint64_t calibrate_tokens(const eval_text *text);
/* Counts work done, and tells it. CANCELLED. */
infer_status calibrate_advance(calibrator *c, uint64_t tokens);

/* ---- matrices.c ---- */

/* What is to become of a matrix. */
typedef struct calibrate_fit {
    infer_qtype type;
    const infer_gptq *gptq;     /* NULL: rounded to nearest, as a type without groups is anyway */
    const infer_pruner *pruner; /* NULL: nothing is pruned */
    double rate;
} calibrate_fit;

typedef struct calibrate_fitted {
    infer_matrix_choice choice;
    uint8_t *packed; /* choice.bytes */
    float *floats;   /* its values, tile16x4 in f32 */
    calibrate_pruned pruned;
} calibrate_fitted;

/* Panels of 16 rows on all threads. *out is to be freed with infer_free. */
infer_status calibrate_fit_matrix(calibrator *c, uint32_t node, const calibrate_fit *fit, calibrate_fitted *out);

#endif
