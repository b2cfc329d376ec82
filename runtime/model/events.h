/* Thresholds below which inputs are silent: metadata `events` of a file (formats/SPEC.md), and what an evaluation does with them. */
#ifndef INFER_MODEL_EVENTS_H
#define INFER_MODEL_EVENTS_H

#include "core/core.h"
#include "file.h"

#define INFER_EVENTS_MAX_RATES 32u
#define INFER_EVENTS_MAX_RATE 0.9

typedef struct infer_events {
    double target;
    uint32_t rates;                      /* 0: the file has none */
    double rate[INFER_EVENTS_MAX_RATES]; /* rising, 0 < rate <= MAX_RATE */
    float *thresholds;                   /* [tensors][rates], rising for each tensor; 0 for tensors that have none */
} infer_events;

/* FORMAT names the key, what was found and what is allowed. Without the key: none. */
infer_status infer_events_parse(const infer_allocator *a, const char *metadata, const infer_file *file, infer_events *out,
                                infer_error *err);
void infer_events_free(infer_events *e, const infer_allocator *a);
/* Of a tensor at a rate 0..the largest of the table, between whose rates it is interpolated; from threshold 0 at rate 0. */
float infer_events_threshold(const infer_events *e, size_t tensor, double rate);

#endif
