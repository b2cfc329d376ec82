/* infer-bench --energy and --tune: joules per token of one or two models, or of one model over threads and kinds of cores. bench/energy.c measures. */
#ifndef INFER_TOOLS_BENCH_ENERGY_H
#define INFER_TOOLS_BENCH_ENERGY_H

#include "bench_kl.h"
#include "bench_model.h"
#include "energy.h"
#include "records.h"
#include "speed.h"

typedef struct bench_energy {
    const bench_model *model;
    const infer_runtime_options *runtime;
    const infer_speed_options *speed;
    infer_kv_type kv_type;
    record_format format;
    const char *source; /* as for infer_meter_create */
    const char *vs;     /* another model, or another type of a shape; NULL: none */
    const char *svg;    /* file to draw into; NULL: none */
    bench_kl_options kl;
    double window_s, idle_s, min_tps;
    uint64_t seed;
    bool tune;
} bench_energy;

/* Measures and prints. Failure ends the program. */
void bench_energy_run(const bench_energy *options);

#endif
