/* Calibration: the rounding of each matrix is fitted to the inputs that the model gives it on a text, layer by layer. */
#ifndef INFER_TOOLS_CALIBRATE_H
#define INFER_TOOLS_CALIBRATE_H

#include "convert/convert.h"
#include "eval/text.h"

typedef struct calibrate_options {
    const eval_text *text; /* its windows are at most `window` tokens */
    uint32_t window;
    double damping;        /* see gptq.h */
    /* Work done of all work, in tokens through parts of the model. Nonzero ends the calibration with CANCELLED. May be NULL. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
} calibrate_options;

/* model: the float form of `source`, its matrices all f32, opened without verification of hashes. types [tensors of the source]: those that can be
 * calibrated (infer_quantizer_find) are, and go to packed [tensors], whose data the caller frees with infer_free. Memory: the packed matrices, a
 * layer's float ones, 3 k x k doubles for the widest matrix (at most 4 GiB), the residual stream of the text, twice, and two plans. The same bits for any
 * number of threads. MEMORY; CANCELLED; UNSUPPORTED: a matrix that is too wide; FORMAT: values or activations that are not finite. */
infer_status calibrate_model(infer_model *model, const infer_source *source, const infer_qtype *types, const calibrate_options *options,
                             infer_convert_packed *packed, infer_error *err);

#endif
