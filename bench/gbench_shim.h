/* What bench-kernels needs of Google Benchmark, in C. */
#ifndef INFER_BENCH_GBENCH_SHIM_H
#define INFER_BENCH_GBENCH_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_gbench_state infer_gbench_state;
/* Called several times a benchmark, with more iterations each time: sets up, then loops while infer_gbench_more. */
typedef void infer_gbench_fn(infer_gbench_state *state, void *arg);

/* Takes the options it knows (--benchmark_...) out of argv. False: an argument that it does not know is left, and was reported. */
bool infer_gbench_init(int *argc, char **argv);
/* A line in the report's head. */
void infer_gbench_context(const char *key, const char *value);
void infer_gbench_register(const char *name, infer_gbench_fn *fn, void *arg);
void infer_gbench_run(void);

bool infer_gbench_more(infer_gbench_state *state);
uint64_t infer_gbench_iterations(const infer_gbench_state *state);
/* A column beside the time. */
void infer_gbench_counter(infer_gbench_state *state, const char *name, double value);
/* Reports the benchmark as failed; infer_gbench_more is false from then on. */
void infer_gbench_fail(infer_gbench_state *state, const char *message);

#ifdef __cplusplus
}
#endif
#endif
