/* Events: the threshold of each matrix in the layout cols, from the distribution of its inputs on a text and from what silence does to its layer. */
#ifndef INFER_TOOLS_EVENTS_H
#define INFER_TOOLS_EVENTS_H

#include "eval/text.h"
#include "model/events.h"

typedef struct events_options {
    const eval_text *text;  /* its windows are at most `window` tokens */
    uint32_t window;
    double target;          /* 0 < target <= INFER_EVENTS_MAX_RATE */
    uint32_t trial_tokens;  /* the first windows, up to so many tokens, try what silence does; 0: every matrix gets the same rate */
    /* Work done of all work. Nonzero ends with CANCELLED. May be NULL. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
} events_options;

/* Rates 0.05, 0.1 ... 0.9. `out` is allocated with the runtime's allocator and freed by infer_events_free. MEMORY; CANCELLED; UNSUPPORTED: no matrix is in
 * the layout cols, or layers share more than one value. */
infer_status events_calibrate(infer_model *model, const events_options *options, infer_events *out, infer_error *err);
/* The metadata with these thresholds; freed with cJSON_free. NULL: out of memory. */
char *events_metadata(const char *metadata, const infer_model *model, const infer_events *events);

#endif
