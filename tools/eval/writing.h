/* Text that a model writes itself: what it finds likely, without a text at hand. Used to calibrate, and for a teacher's stories. */
#ifndef INFER_TOOLS_EVAL_WRITING_H
#define INFER_TOOLS_EVAL_WRITING_H

#include "text.h"

/* A sampler over the whole vocabulary, nothing cut off. */
infer_status eval_writer(const infer_model *model, float temperature, uint64_t seed, infer_sampler **out, infer_error *err);
/* Continues behind ids[0], which the session has not seen, to ids[1 ..= n]: *written of them, the last one an end token or n > 0. */
infer_status eval_write(infer_session *session, const infer_model *model, infer_sampler *sampler, int32_t *ids, uint32_t n,
                        uint32_t *written, infer_error *err);

typedef struct eval_writing {
    uint64_t tokens; /* at least so many inputs in all */
    uint32_t window; /* most inputs of a text; 1 <= window <= the model's context */
    uint64_t seed;   /* same seed, same text, at every CPU level and number of threads */
    /* Tokens written of those wanted. Nonzero ends it with CANCELLED. May be NULL. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
} eval_writing;
/* Texts from the begin token on, at temperature 1, a window each; an end token is predicted, not an input. MEMORY; CANCELLED; UNSUPPORTED:
 * a model without a begin token; and what infer_session_eval returns. */
infer_status eval_text_write(infer_model *model, const eval_writing *w, eval_text *out, infer_error *err);

#endif
