/* Calibration: which weights of each matrix go, what the others become, and how they are rounded, fitted to the inputs that the model
 * gives the matrix on a text, layer by layer. */
#ifndef INFER_TOOLS_CALIBRATE_H
#define INFER_TOOLS_CALIBRATE_H

#include "convert/convert.h"
#include "convert/prune.h"
#include "eval/text.h"

/* What became of a pruned matrix. */
typedef struct calibrate_pruned {
    double zeros; /* share of its weights */
    double loss;  /* mean square change of its outputs over their mean square, before rounding */
} calibrate_pruned;

typedef struct calibrate_options {
    const eval_text *text; /* its windows are at most `window` tokens */
    uint32_t window;
    double damping;      /* see gptq.h */
    const double *rates; /* [tensors of the source] share of weights to prune, 0: none; NULL: none at all */
    infer_prune_method method;
    infer_prune_block block;
    const infer_costs *sparse; /* see convert.h */
    calibrate_pruned *pruned; /* [tensors of the source], written where the rate is not 0; NULL with `rates` */
    /* Work done of all work, in tokens through parts of the model. Nonzero ends the calibration with CANCELLED. May be NULL. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
} calibrate_options;

/* model: the float form of `source`, its matrices all f32, opened without verification of hashes. types [tensors of the source]: those
 * that can be calibrated (infer_quantizer_find) and those that are pruned go to packed [tensors], whose data the caller frees with
 * infer_free. Weights that stay beside pruned ones are fitted anew, but not those of t2r. Memory: the packed matrices, a layer's float
 * ones, 3 k x k doubles for the widest matrix, when pruning one more for each thread and with SPARSEGPT another, with OBS two (at most 4
 * GiB), the residual stream of the text, twice, and two plans. The same bits for any number of threads. MEMORY; CANCELLED; UNSUPPORTED:
 * a matrix that is too wide; ARGUMENT: a shape that the block does not fit; FORMAT: values or activations that are not finite. */
infer_status calibrate_model(infer_model *model, const infer_source *source, const infer_qtype *types, const calibrate_options *options,
                             infer_convert_packed *packed, infer_error *err);
/* Spreads pruning over the matrices whose options->rates is not 0: rates [tensors], which may be options->rates, become those with the
 * least sum of KL divergences for the same sum of bytes, of `types`. Each matrix is pruned alone, by its rate and by half of it, and the
 * divergence of the predictions on the first tokens of the text taken as a power of the rate. Memory as above, and 800 bytes for each of
 * those tokens, at most a window more than 4,096. The same statuses. */
infer_status calibrate_spread(infer_model *model, const infer_source *source, const infer_qtype *types, const calibrate_options *options,
                              double *rates, infer_error *err);
/* Chooses types for the matrices that are `open` [tensors], so that all tensors of the file take at most `bits` for each of their weights,
 * scales and padding counted: types [tensors] says what the others have, and gets the choice. Matrices whose rows hold only -s, 0 and s
 * become t2r, which keeps them as they are, the others q4g32, n4g32 or q8g32. Each of these is rounded alone, in all three types, and the
 * divergence of the predictions measured as above; then 8 bits go where they spare most of it for their bytes. An open matrix that no
 * product or embedding uses keeps its type. Memory as for calibrate_spread without pruning. The same statuses; ARGUMENT: fewer bits than
 * 4-bit codes take. */
infer_status calibrate_mix(infer_model *model, const infer_source *source, const calibrate_options *options, double bits, const bool *open,
                           infer_qtype *types, infer_error *err);

#endif
