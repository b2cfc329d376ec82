/* Training: batches of text and of the teacher's own stories, AdamW, checkpoints. */
#ifndef INFER_DISTILL_TRAINER_H
#define INFER_DISTILL_TRAINER_H

#include "eval/text.h"
#include "pass.h"

typedef struct distill_settings {
    uint64_t seed;
    uint32_t steps, warmup; /* the learning rate rises for `warmup` steps, then falls along a cosine to `rate_end` of `rate` */
    uint32_t batch, window; /* windows a step, tokens predicted in each */
    float rate, rate_end, beta1, beta2, decay, clip; /* decay: of free matrices only; clip: largest norm of the gradient, 0: none */
    float temperature, kl_share;
    float layer_loss;       /* beside the two, how much what layers put out counts; 0: the teacher's layers are not looked at. Else it has to be
                             * one that distill_student_open takes, and as wide as the student */
    float generated;        /* share of the windows that the teacher wrote */
    uint32_t fresh, kept;   /* windows that it writes a step, and how many are kept */
    float sampling;         /* its temperature in writing */
} distill_settings;

/* What the last steps cost, and the validation text. */
typedef struct distill_record {
    uint32_t step;
    float loss, kl, ce, layers;   /* mean of the steps since the last record */
    float valid_kl, valid_ce;     /* NAN without a validation text */
} distill_record;

typedef struct distill_trainer distill_trainer;

typedef struct distill_inputs {
    distill_student *student;
    const char *teacher;     /* .infer file */
    const char *cpu_level;   /* NULL: the best */
    uint32_t threads;        /* 0: one per core */
    const eval_text *text;   /* a document a window, each starting with the begin token */
    const eval_text *valid;  /* NULL: none; windows of at most `window` tokens are used */
} distill_inputs;

/* Everything is borrowed but the trainer's own memory. MEMORY, IO, FORMAT, ARGUMENT (a text without a window; vocabularies that differ). */
infer_status distill_trainer_create(const distill_inputs *in, const distill_settings *settings, distill_trainer **out, infer_error *err);
void distill_trainer_destroy(distill_trainer *t);

/* One step. The same bits for any number of threads. FORMAT: the loss is no longer a number. */
infer_status distill_trainer_step(distill_trainer *t, infer_error *err);
uint32_t distill_trainer_steps(const distill_trainer *t);   /* done */
uint64_t distill_trainer_tokens(const distill_trainer *t);  /* learned from, in all */
uint64_t distill_trainer_written(const distill_trainer *t); /* windows that the teacher wrote */
float distill_trainer_loss(const distill_trainer *t);       /* of the last step */
float distill_trainer_kl(const distill_trainer *t);
float distill_trainer_norm(const distill_trainer *t);       /* of the gradient, before clipping */
infer_runtime *distill_trainer_runtime(const distill_trainer *t);

/* Mean KL and cross-entropy over the validation text's tokens. */
infer_status distill_trainer_validate(distill_trainer *t, double *kl, double *ce, infer_error *err);
/* Closes a stretch of steps with a validation, and keeps the record. */
infer_status distill_trainer_record(distill_trainer *t, infer_error *err);
const distill_record *distill_trainer_records(const distill_trainer *t, size_t *count);

/* ---- checkpoint.c ---- */

/* Written beside `path`, then renamed: a checkpoint is whole or the one before. `spent_s` and `spent_uj` go along for the reader. */
infer_status distill_checkpoint_save(const distill_trainer *t, const char *path, double spent_s, double spent_uj, infer_error *err);
/* FORMAT, CORRUPT: not a checkpoint, or a damaged one; ARGUMENT: of another run (any setting but steps, another student, teacher or text). The trainer is
 * as it was then. */
infer_status distill_checkpoint_load(distill_trainer *t, const char *path, double *spent_s, double *spent_uj, infer_error *err);

#endif
