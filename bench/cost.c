#include "cost.h"

#include "cases.h"
#include "peaks/peaks.h"

#include <math.h>

#define BANDWIDTH_BYTES ((size_t)256 << 20) /* no cache of these CPUs holds it */
#define SAMPLES 25u
#define SAMPLE_NS 100000u
#define SWEEPS 5000u

/* All of them fit into a second-level cache. */
static const uint32_t shapes[][2] = {{256, 256}, {1024, 256}, {256, 1024}, {64, 512}};
static const double rates[] = {0, 0.5, 0.8};
enum { SHAPES = sizeof shapes / sizeof *shapes, RATES = sizeof rates / sizeof *rates };

/* Least squares by coordinates: each in turn takes its best value, or 0. */
void infer_cost_fit(const infer_work *work, const double *ns, size_t n, infer_cost *cost)
{
    double h[3][3] = {{0}}, b[3] = {0}, x[3] = {0};

    for (size_t i = 0; i < n; i++) {
        const double row[3] = {(double)work[i].units / ns[i], (double)work[i].blocks / ns[i], (double)work[i].panels / ns[i]};
        for (int p = 0; p < 3; p++) {
            b[p] += row[p];
            for (int q = 0; q < 3; q++)
                h[p][q] += row[p] * row[q];
        }
    }
    for (uint32_t sweep = 0; sweep < SWEEPS; sweep++)
        for (int p = 0; p < 3; p++) {
            double rest = b[p];
            for (int q = 0; q < 3; q++)
                rest -= q == p ? 0 : h[p][q] * x[q];
            x[p] = h[p][p] > 0 && rest > 0 ? rest / h[p][p] : 0;
        }
    *cost = (infer_cost){x[0], x[1], x[2]};
}

/* Nanoseconds of a call, the weights in the cache: the shortest sample, as what others do on the machine only ever adds. */
static double time_case(infer_case *c, infer_kernel_fn *kernel)
{
    double least = INFINITY;

    infer_case_run(c, kernel);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint64_t start = infer_now_ns(), ns, runs = 0;
        do {
            infer_case_run(c, kernel);
            runs++;
            ns = infer_now_ns() - start;
        } while (ns < SAMPLE_NS);
        least = fmin(least, (double)ns / (double)runs);
    }
    return least;
}

static infer_status measure_kernel(const infer_kernel *kernel, infer_cost *out, infer_error *err)
{
    infer_work work[SHAPES * RATES];
    double ns[SHAPES * RATES];
    size_t n = 0, rate_count = infer_layout_sparse(kernel->layout) ? RATES : 1;
    infer_status s = INFER_OK;

    for (size_t i = 0; i < SHAPES; i++)
        for (size_t r = 0; r < rate_count && s == INFER_OK; r++, n++) {
            infer_layer layer = {.n = shapes[i][0], .k = shapes[i][1], .prune = rates[r]};
            infer_case *c;
            if ((s = infer_case_create(kernel, &layer, 1, 0, &c, err)) != INFER_OK)
                break;
            work[n] = infer_cost_work(kernel->layout, layer.n, layer.k, 0, infer_case_units(c));
            ns[n] = time_case(c, kernel->fn);
            infer_case_destroy(c);
        }
    if (s == INFER_OK)
        infer_cost_fit(work, ns, n, out);
    return s;
}

infer_status infer_costs_measure(infer_pool *pool, infer_cpu_level level, infer_costs *out, infer_error *err)
{
    double threads = infer_pool_threads(pool);
    infer_costs costs;
    infer_peaks *peaks;
    infer_status s = infer_peaks_create(pool, BANDWIDTH_BYTES, &peaks, err);

    if (s != INFER_OK)
        return s;
    costs.byte_ns = 1e9 / infer_peaks_bandwidth(peaks);
    infer_peaks_destroy(peaks);
    for (size_t t = 0; t < INFER_COST_TYPES; t++)
        for (size_t l = 0; l < INFER_COST_LAYOUTS; l++) {
            infer_cost *cost = &costs.kernels[t][l];
            if ((s = measure_kernel(infer_kernel_find(INFER_OP_MATMUL, infer_cost_types[t], infer_cost_layouts[l], level), cost, err)) !=
                INFER_OK)
                return s;
            *cost = (infer_cost){cost->unit_ns / threads, cost->block_ns / threads, cost->panel_ns / threads};
        }
    *out = costs;
    return INFER_OK;
}
