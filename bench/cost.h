/* The coefficients of formats/convert/cost.h, measured. */
#ifndef INFER_BENCH_COST_H
#define INFER_BENCH_COST_H

#include "convert/cost.h"
#include "core/pool.h"
#include "kernels.h"

/* With the kernels that `level` runs, on one thread, shared out among the pool's; the memory's rate on all of them. Takes seconds. MEMORY.
 */
infer_status infer_costs_measure(infer_pool *pool, infer_cpu_level level, infer_costs *out, infer_error *err);
/* cost: the numbers >= 0 with the least sum of squares of relative errors of infer_cost_kernel_ns(cost, &work[i]) against ns[i] > 0, i < n.
 */
void infer_cost_fit(const infer_work *work, const double *ns, size_t n, infer_cost *cost);

#endif
