/* What a saving costs in accuracy, beside its joules: KL divergence from a recorded run of the float model (infer-eval --record). */
#ifndef INFER_TOOLS_BENCH_KL_H
#define INFER_TOOLS_BENCH_KL_H

#include "eval/score.h"

#include <infer/infer.h>

typedef struct bench_kl_options {
    const char *reference; /* the recorded run; NULL: nothing is to be compared */
    const char *text;      /* that it was recorded on */
    const char *separator; /* of its documents; NULL: it is one */
    infer_kv_type kv_type;
} bench_kl_options;

/* Mean over the recorded tokens, in nats. Failure, such as another text or vocabulary, ends the program. */
eval_estimate bench_kl(infer_model *model, const bench_kl_options *options);

#endif
