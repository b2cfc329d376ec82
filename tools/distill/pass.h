/* Forward and backward pass of a student over one window of tokens, by one thread; of a teacher, forward. */
#ifndef INFER_DISTILL_PASS_H
#define INFER_DISTILL_PASS_H

#include "rows.h"
#include "student.h"

typedef struct distill_objective {
    float temperature; /* of both distributions whose divergence counts */
    float kl_share;    /* of the divergence in the loss, the rest is cross-entropy */
    float weight;      /* of each token in the gradient */
    float layer_loss;  /* how much what layers put out counts, beside the teacher's */
} distill_objective;

/* Sums over tokens. */
typedef struct distill_losses {
    double kl, ce, layers;
} distill_losses;

/* One thread's memory. */
typedef struct distill_pass distill_pass;

/* `tokens`: the longest window. `level` chooses the kernels. MEMORY, UNSUPPORTED. */
infer_status distill_pass_create(const distill_student *s, infer_cpu_level level, uint32_t tokens, distill_pass **out, infer_error *err);
void distill_pass_destroy(distill_pass *p);

/* What follows ids[0..m): logits [m][vocab], which stay until the next call. */
const float *distill_pass_predict(distill_pass *p, const int32_t *ids, uint32_t m);
/* Predicts ids[1..m] from ids[0..m). teacher [m][vocab]: its logits. layers: the teacher's pass over the same ids, as wide as the student; each of the
 * student's layers is held against the teacher's at the same share of the depth, by the square of the difference over the square of the teacher's output
 * (mean over the layers); NULL: none. gradient [weights]: the gradient of the loss by the weights is added there; NULL: forward only. Adds the
 * tokens' losses. */
void distill_pass_run(distill_pass *p, const int32_t *ids, uint32_t m, const float *teacher, const distill_pass *layers, const distill_objective *o,
                      float *gradient, distill_losses *losses);

#endif
