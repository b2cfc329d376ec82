#include "convert/cost.h"

#include "cols.h"

const infer_qtype infer_cost_types[INFER_COST_TYPES] = {INFER_QTYPE_Q4G64, INFER_QTYPE_Q8G64};
const infer_layout infer_cost_layouts[INFER_COST_LAYOUTS] = {INFER_LAYOUT_COLS, INFER_LAYOUT_BCSR16X4, INFER_LAYOUT_BCSR16X1,
                                                             INFER_LAYOUT_BITMASK};

/* Medians of three runs of `infer-bench --calibrate-cost -t 2 --cpu avx2` on 2 CPUs of a shared AMD EPYC (Zen 4), gcc 12.2; memory as in its
 * quiet minutes. */
const infer_costs infer_costs_default = {
    .byte_ns = 0.0291,
    .kernels = {{{0.694, 0, 0}, {0.380, 1.43, 2.77}, {0.435, 2.79, 4.44}, {0.0075, 33.5, 0}},
                {{1.045, 0, 0}, {0.509, 1.33, 1.58}, {0.617, 2.44, 5.65}, {0.0001, 34.8, 0}}},
};

infer_work infer_cost_work(infer_layout layout, uint64_t n, uint64_t k, uint64_t bytes, uint64_t units)
{
    infer_work w = {.bytes = bytes, .units = units, .panels = n / 16 + (n % 16 != 0)};

    w.blocks = w.panels * (k / 64 + (k % 64 != 0));
    if (layout == INFER_LAYOUT_COLS) {
        w.panels = (n / INFER_COLS_TILE + (n % INFER_COLS_TILE != 0)) * (INFER_COLS_TILE / 16);
        w.units = w.panels * (k / INFER_COLS_GROUP + (k % INFER_COLS_GROUP != 0)) * (INFER_COLS_GROUP / 4);
        w.blocks = 0;
    }
    return w;
}

const infer_cost *infer_cost_find(const infer_costs *costs, infer_qtype type, infer_layout layout)
{
    for (size_t t = 0; t < INFER_COST_TYPES; t++)
        for (size_t l = 0; l < INFER_COST_LAYOUTS; l++)
            if (infer_cost_types[t] == type && infer_cost_layouts[l] == layout)
                return &costs->kernels[t][l];
    return NULL;
}

double infer_cost_kernel_ns(const infer_cost *cost, const infer_work *work)
{
    return cost->unit_ns * (double)work->units + cost->block_ns * (double)work->blocks + cost->panel_ns * (double)work->panels;
}

double infer_cost_memory_ns(const infer_costs *costs, const infer_work *work)
{
    return costs->byte_ns * (double)work->bytes;
}
