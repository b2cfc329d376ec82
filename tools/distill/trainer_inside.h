/* Inside of distill_trainer, for trainer.c and checkpoint.c. */
#ifndef INFER_DISTILL_TRAINER_INSIDE_H
#define INFER_DISTILL_TRAINER_INSIDE_H

#include "trainer.h"

enum { DISTILL_PARTS = 4 }; /* of a batch, each with its own gradient: what any number of threads adds up in one order */

/* What a thread has for itself. */
typedef struct distill_worker {
    infer_runtime *rt;
    infer_model *teacher;
    infer_session *session;
    distill_pass *pass, *layers; /* the student's, the teacher's (NULL: only its logits count) */
    float *logits;      /* [window][vocab], the teacher's */
    int32_t *ids;       /* [window + 1] */
    infer_error err;
} distill_worker;

struct distill_trainer {
    distill_settings set;
    distill_student *student, layers; /* layers: the teacher again, where its layers count */
    const eval_text *text, *valid;
    infer_pool *pool;
    distill_worker *workers;
    uint32_t threads;
    float *gradient[DISTILL_PARTS]; /* [weights] */
    float *dparam;                  /* [params]; gradient[0] where all are free */
    float *moment1, *moment2;       /* [params] */
    double *squares;                /* [tensors] sums of the gradient's squares */
    int32_t *written;               /* [distill_ring][window + 1] */
    uint64_t written_count;         /* ever */
    distill_losses part[DISTILL_PARTS];
    uint32_t step;
    uint64_t tokens, identity;      /* identity: hash of everything that a checkpoint has to share */
    float loss, kl, norm;
    double sum_loss;                /* since the last record */
    distill_losses sum;
    uint32_t sum_steps;
    distill_record *records;
    size_t record_count, record_cap;
};

/* Windows of the ring: those that are drawn from, and those that are being written meanwhile. */
static inline size_t distill_ring(const distill_settings *s) { return (size_t)s->kept + s->fresh; }

#endif
