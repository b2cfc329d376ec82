/* How fast a model reads a prompt and generates, beside what the machine could do at that moment. */
#ifndef INFER_BENCH_SPEED_H
#define INFER_BENCH_SPEED_H

#include <infer/infer.h>

#include "qtypes.h"

#define INFER_SPEED_MAX_REPEAT 1000u

typedef struct infer_speed_options {
    uint32_t prompt; /* tokens; 0: not measured */
    uint32_t tokens; /* generated one at a time; 0: not measured */
    uint32_t depth;  /* tokens in the context when generation starts */
    uint32_t repeat; /* 1..INFER_SPEED_MAX_REPEAT */
    double events;   /* generation is measured in turn exactly and with this rate (infer_session_set_events); 0: only exactly */
} infer_speed_options;

/* Rates of one phase. All are medians over the repetitions. */
typedef struct infer_rate {
    double tokens_per_s;
    double spread;   /* (largest - smallest) / median of tokens_per_s */
    double fraction; /* of what the machine allows: median of the pairs; 0: not known */
} infer_rate;

typedef struct infer_speed {
    char type[64];              /* of the matrices, most bytes first: "q4g32+q8g32" */
    char kv_type[16];
    infer_rate prompt, generation;
    infer_rate events;          /* generation with events: its fraction is of what is read then */
    double events_speedup;      /* median of the pairs */
    double silent_fraction, skipped_fraction; /* of the layers' inputs, of the bytes of weights */
    double ops_per_s;           /* peak for the first of the types; 0: none known */
    double bandwidth_bytes_per_s;
    char bandwidth_way[80];
    double bytes_per_token;     /* weights and KV cache read for one token, on average over those generated */
    double first_token_ns;      /* evaluation of the prompt up to its logits */
    uint64_t peak_rss_bytes;    /* of a whole run, before the bandwidth buffer was allocated */
} infer_speed;

/* `session` is of `model`, empty, with room for depth + tokens and for the prompt. Evaluates prompt and generation once to warm up, then in turn
 * peak, model, peak, model...; the fractions are taken pair by pair. CANCELLED by infer_session_cancel; other statuses as infer_session_eval. */
infer_status infer_speed_measure(infer_model *model, infer_session *session, const infer_speed_options *options, infer_speed *out, infer_error *err);

#endif
