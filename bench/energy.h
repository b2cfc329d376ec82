/* Joules per token: windows of a meter around prompts and generation, in an order that lets no drift favour anybody. */
#ifndef INFER_BENCH_ENERGY_H
#define INFER_BENCH_ENERGY_H

#include <infer/infer.h>
#include <signal.h>
#include <stdbool.h>

#define INFER_ENERGY_SUBJECTS 64u
#define INFER_ENERGY_MAX_REPEAT 100u
#define INFER_ENERGY_UPDATES 100u /* fewer updates of the counter in a window, and its steps would be part of the result */

typedef struct infer_energy_options {
    uint32_t prompt, tokens, depth; /* as infer_speed_options; prompt or tokens 0: that phase is left out */
    uint32_t repeat;                /* windows of each phase and subject, 1..INFER_ENERGY_MAX_REPEAT */
    double window_s;                /* least length of a window; 0: 2 s, or what the counter needs, up to a minute */
    double idle_s;                  /* each of the two baselines, not 0 */
    uint64_t seed;                  /* of the order */
} infer_energy_options;

/* One of those compared. Each has its runtime, session and meter; `session` has room for prompt and depth + tokens. */
typedef struct infer_energy_subject {
    infer_session *session;
    infer_meter *meter;
    uint32_t vocab;
    const char *cpus; /* for infer_pin_cpus */
} infer_energy_subject;

/* Medians over the windows. NAN: not known. Joules per token. */
typedef struct infer_energy_phase {
    double gross, net, spread; /* spread: (largest - smallest) / median of gross */
    double watts, tokens_per_s, tokens_per_joule;
    double updates;            /* of the counter, in the shortest window; estimates: NAN */
    uint32_t windows, left_out, jumps; /* left out: a counter jumped, or did not move */
    double pair_ratio;         /* median of gross / the first subject's gross of the same pair */
} infer_energy_phase;

typedef struct infer_energy_result {
    infer_energy_kind kind;
    infer_energy_phase prompt[INFER_ENERGY_SUBJECTS], generation[INFER_ENERGY_SUBJECTS];
    double idle_before, idle_after; /* W; NAN: not known */
    double update_s, window_s;
} infer_energy_result;

/* Warms every subject up, measures the baseline, then the windows, then the baseline again. A B A B within each phase; phases and repetitions shuffled.
 * ARGUMENT: the window is too short for the counter, or the counter too slow; else as infer_session_eval and infer_meter_stop. Ends with CANCELLED soon
 * after *stop became nonzero. */
infer_status infer_energy_measure(const infer_energy_subject *subjects, uint32_t count, const infer_energy_options *options,
                                  const volatile sig_atomic_t *stop, infer_energy_result *out, infer_error *err);

#endif
