/*
 * What is not settled yet: these functions may change or go with any version. Include it after infer.h, or instead of it.
 *
 * Events. A model whose layers are stored input by input (layout cols) can leave out inputs that are close to silent, with their weights. Which ones they
 * are is a threshold for each matrix, found by infer-convert --events and stored with the model. An evaluation with events is an approximation; without
 * them (rate 0, how every session starts) it is exact.
 */
#ifndef INFER_EXPERIMENTAL_H
#define INFER_EXPERIMENTAL_H

#include <infer/infer.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INFER_EVENTS_AUTO (-1.0)

/* The share of inputs that the model was calibrated for, 0 < target < 1; 0: the file has no calibration. */
INFER_API double infer_model_events_target(const infer_model *model);
/* From the next evaluation on, about this share of the inputs of the layers' matrices is silent: 0 (none, exact) to 0.9, or INFER_EVENTS_AUTO, the
 * target. Not during an evaluation. ARGUMENT: out of range; UNSUPPORTED: the model has no calibration, and the rate is not 0. */
INFER_API infer_status infer_session_set_events(infer_session *session, double rate, infer_error *err);

typedef struct infer_events_stats {
    uint64_t tokens;         /* evaluated with events */
    uint64_t inputs, silent; /* of the layers' matrices, over these tokens */
    uint64_t bytes_read, bytes_skipped; /* of weights, head included, where each token had been evaluated by itself */
} infer_events_stats;

/* Since the session was created. */
INFER_API void infer_session_events_stats(const infer_session *session, infer_events_stats *out);

#ifdef __cplusplus
}
#endif
#endif
