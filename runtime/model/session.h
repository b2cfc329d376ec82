/* Inside of infer_session. */
#ifndef INFER_MODEL_SESSION_H
#define INFER_MODEL_SESSION_H

#include "model/model.h"

/* A generation: first the prompt, a batch in each turn, then token by token. Blocking or, between start and the poll that tells its end, on
 * the runtime's driver thread; the driver's lock then guards what both sides write. */
typedef struct infer_generation {
    infer_generate_options options;
    const int32_t *prompt;       /* [prompt_count] */
    size_t prompt_count, prompt_done;
    uint32_t start, most;        /* position before the prompt; tokens to make */
    int32_t token;               /* the last one made */
    uint32_t made;
    infer_status status;
    infer_error error;
    /* event form */
    bool active;                 /* started, and the end is not polled yet; only the application's thread writes it */
    bool done;
    int32_t *prompt_copy;
    size_t prompt_room;
    int32_t *tokens;             /* [context], all that one generation can make */
    uint32_t taken;
    infer_notifier notifier;     /* set while there is something to poll */
    infer_session *next;         /* in the driver's queue */
} infer_generation;

struct infer_session {
    infer_model *model;
    infer_plan *plan;
    infer_session_options options; /* as completed by infer_session_create */
    uint32_t context, batch, position;
    size_t logit_rows; /* of the last evaluation */
    uint64_t weight_bytes, position_bytes; /* read by an evaluation: once, and for each position in the cache */
    infer_generation generation;
};

/* Whether n tokens can be appended. CONTEXT; ARGUMENT names the first id that is outside the vocabulary; CORRUPT, IO: the file. */
infer_status infer_session_may_append(const infer_session *session, const int32_t *tokens, size_t n, infer_error *err);
/* Evaluates a batch at the session's position and moves that on. */
infer_status infer_session_run_batch(infer_session *session, const infer_batch *batch, infer_error *err);
/* infer_session_eval, whether or not a generation runs. */
infer_status infer_session_run(infer_session *session, const int32_t *tokens, size_t n, infer_logits logits, infer_error *err);
/* ARGUMENT where session is NULL, and while a generation runs: `what` may not be called then. */
infer_status infer_session_is_free(const infer_session *session, const char *what, infer_error *err);
/* Ends a generation that runs and frees what generations used. */
void infer_generation_close(infer_session *session);

#endif
