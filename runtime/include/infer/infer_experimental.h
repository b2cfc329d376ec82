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

/*
 * Self-draft: the model guesses tokens with most of its inputs silent and evaluates the guesses exactly, in one batch. What comes out is, token for token,
 * what exact decoding with the same sampler gives; only the time differs. How many tokens are guessed, perhaps none, follows from the measured times and
 * from how often guesses were right.
 */
#define INFER_DRAFT_MAX 15u

typedef struct infer_drafter infer_drafter;
/* rate: of silent inputs while guessing, as in infer_session_set_events; most: guesses at once, 1..INFER_DRAFT_MAX. The session keeps most + 1 rows of
 * logits or more, and outlives the drafter. ARGUMENT, UNSUPPORTED (no calibration), MEMORY. */
INFER_API infer_status infer_drafter_create(infer_session *session, const infer_sampler *sampler, double rate, uint32_t most, infer_drafter **out,
                                            infer_error *err);
INFER_API void infer_drafter_destroy(infer_drafter *drafter);
/* Evaluates `id` at the session's position, exactly, and chooses the next 1..cap tokens with the sampler (the one of infer_drafter_create, or one with the same
 * options): ids[0..*count). All of them but the last are in the session afterwards; the last is the next call's id. An end token is the last one. Events
 * are off afterwards. Statuses of infer_session_eval; then the position is where it was, and the sampler as it was. */
INFER_API infer_status infer_drafter_step(infer_drafter *drafter, infer_sampler *sampler, int32_t id, int32_t *ids, size_t cap, size_t *count,
                                          infer_error *err);

typedef struct infer_drafter_stats {
    uint64_t tokens, steps;     /* chosen; exact evaluations that gave them */
    uint64_t drafted, accepted; /* guesses */
} infer_drafter_stats;
INFER_API void infer_drafter_get_stats(const infer_drafter *drafter, infer_drafter_stats *out);

/* ---- embeddings ---- */

typedef enum infer_pooling {
    INFER_POOLING_LAST = 0, /* the last token's state */
    INFER_POOLING_MEAN = 1  /* the mean of all tokens' */
} infer_pooling;

/* Numbers in an embedding. */
INFER_API uint32_t infer_model_dim(const infer_model *model);
/* Appends tokens as infer_session_eval does, without logits, and writes to out [infer_model_dim] what the output matrix would have read: the state behind
 * the last layer, normalized as the model does it, not to length 1. The same bits for every thread count, CPU level and batch size. Statuses of
 * infer_session_eval; out is undefined on failure. */
INFER_API infer_status infer_session_embed(infer_session *session, const int32_t *tokens, size_t n, infer_pooling pooling, float *out, infer_error *err);

#ifdef __cplusplus
}
#endif
#endif
