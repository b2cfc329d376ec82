// The only C++ of the project: Google Benchmark has no C interface.
#include "gbench_shim.h"

#include <benchmark/benchmark.h>

// A state that is really a benchmark::State; never defined, only pointed to.
static benchmark::State &unwrap(infer_gbench_state *state) { return *reinterpret_cast<benchmark::State *>(state); }

bool infer_gbench_init(int *argc, char **argv)
{
    benchmark::Initialize(argc, argv);
    return !benchmark::ReportUnrecognizedArguments(*argc, argv);
}

void infer_gbench_context(const char *key, const char *value) { benchmark::AddCustomContext(key, value); }

void infer_gbench_register(const char *name, infer_gbench_fn *fn, void *arg)
{
    benchmark::RegisterBenchmark(name, [fn, arg](benchmark::State &state) { fn(reinterpret_cast<infer_gbench_state *>(&state), arg); })->UseRealTime();
}

void infer_gbench_run(void)
{
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}

bool infer_gbench_more(infer_gbench_state *state) { return unwrap(state).KeepRunning(); }
uint64_t infer_gbench_iterations(const infer_gbench_state *state)
{
    return (uint64_t) reinterpret_cast<const benchmark::State *>(state)->iterations();
}
void infer_gbench_counter(infer_gbench_state *state, const char *name, double value) { unwrap(state).counters[name] = value; }
void infer_gbench_fail(infer_gbench_state *state, const char *message) { unwrap(state).SkipWithError(message); }
