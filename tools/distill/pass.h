/* Forward and backward pass of a student over one window of tokens, by one thread. */
#ifndef INFER_DISTILL_PASS_H
#define INFER_DISTILL_PASS_H

#include "rows.h"
#include "student.h"

typedef struct distill_objective {
    float temperature; /* of both distributions whose divergence counts */
    float kl_share;    /* of the divergence in the loss, the rest is cross-entropy */
    float weight;      /* of each token in the gradient */
} distill_objective;

/* One thread's memory. */
typedef struct distill_pass distill_pass;

/* `tokens`: the longest window. `level` chooses the kernels. MEMORY, UNSUPPORTED. */
infer_status distill_pass_create(const distill_student *s, infer_cpu_level level, uint32_t tokens, distill_pass **out, infer_error *err);
void distill_pass_destroy(distill_pass *p);

/* Predicts ids[1..m] from ids[0..m). teacher [m][vocab]: its logits. gradient [weights]: the gradient of the loss by the weights is added there; NULL:
 * forward only. Adds the tokens' losses to kl and ce. */
void distill_pass_run(distill_pass *p, const int32_t *ids, uint32_t m, const float *teacher, const distill_objective *o, float *gradient, double *kl,
                      double *ce);

#endif
