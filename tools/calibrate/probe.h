/* Changing one matrix at a time, and measuring what that does to the model's predictions. Internal. */
#ifndef INFER_TOOLS_CALIBRATE_PROBE_H
#define INFER_TOOLS_CALIBRATE_PROBE_H

#include "calibrator.h"
#include "eval/score.h"

typedef struct calibrate_prober {
    calibrator c;
    size_t windows;           /* of the text, by which a change is judged */
    eval_distribution *exact; /* [ids of these windows] what the float model predicts behind each */
} calibrate_prober;

/* p->c: as for calibrate_open. On failure too, calibrate_probe_close. */
infer_status calibrate_probe_open(calibrate_prober *p);
void calibrate_probe_close(calibrate_prober *p);
/* Tokens of the windows by which a change is judged. */
uint64_t calibrate_probe_tokens(const calibrate_prober *p);
/* Records the predictions of the float model: once, before the first probe. */
infer_status calibrate_probe_record(calibrate_prober *p);
/* KL divergence of the predictions with the matrix of `node` alone changed, in all nodes that use it. value: of the residual stream before
 * the segment that starts at `first`, from which the model is run. */
infer_status calibrate_probe(calibrate_prober *p, uint32_t value, uint32_t first, uint32_t node, const calibrate_fit *fit, double *kl);
/* Every node of the float model in turn, with its segment: first..end - 1. */
infer_status calibrate_probe_walk(calibrate_prober *p,
                                  infer_status (*visit)(calibrate_prober *p, uint32_t value, uint32_t first, uint32_t node, uint32_t end));

#endif
