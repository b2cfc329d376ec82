#include "calibrator.h"

#include "pack/pack.h"
#include "tile16x4.h"

typedef struct round_job {
    const calibrate_fit *fit;
    const infer_quantizer *quantizer; /* NULL: the type has no groups, or they are not fitted */
    double (*losses)[2];              /* [panels] of pruning */
    uint64_t *zeros;                  /* [panels] the same */
    const float *w;                   /* tile16x4 */
    uint8_t *packed;                  /* tile16x4; NULL: only floats are wanted */
    float *floats;                    /* tile16x4 of the rounded values */
    uint32_t rows, k;
    uint8_t *memory; /* of each thread */
    size_t memory_each, scratch_bytes;
    _Atomic uint32_t next, failed;
} round_job;

/* The scratch space of pruning and rounding, 16 rows, their scales, codes, and which of them stay. */
static void measure_memory(round_job *j)
{
    size_t rounding = j->quantizer ? infer_gptq_scratch(j->fit->gptq) * sizeof(double) : 0;
    size_t pruning = j->fit->pruner ? infer_pruner_scratch(j->fit->pruner) : 0;
    j->scratch_bytes = infer_round_up(rounding > pruning ? rounding : pruning, 64);
    j->memory_each = infer_round_up(j->scratch_bytes + 16 * (size_t)j->k * (sizeof(float) + 2) + 16 * infer_ceil_div(j->k, 32) * 2, 64);
}

static uint32_t panel_rows(const round_job *j, uint32_t panel)
{
    uint32_t left = j->rows - panel * INFER_TILE_ROWS;
    return left < INFER_TILE_ROWS ? left : INFER_TILE_ROWS;
}

static void round_panels(void *arg, uint32_t thread)
{
    round_job *j = arg;
    uint32_t panels = (uint32_t)infer_ceil_div(j->rows, INFER_TILE_ROWS), p;
    void *scratch = j->memory + thread * j->memory_each;
    float *rows = (float *)(void *)((uint8_t *)scratch + j->scratch_bytes);
    uint16_t *scales = (uint16_t *)(rows + 16 * (size_t)j->k);
    int8_t *codes = (int8_t *)(scales + 16 * infer_ceil_div(j->k, 32));
    uint8_t *kept = (uint8_t *)codes + 16 * (size_t)j->k;

    while ((p = atomic_fetch_add(&j->next, 1)) < panels && !atomic_load(&j->failed)) {
        uint32_t n = panel_rows(j, p);
        uint8_t *packed = j->packed ? j->packed + p * infer_panel_bytes(j->fit->type, j->k) : NULL;
        size_t float_bytes = (size_t)infer_panel_bytes(INFER_QTYPE_F32, j->k);
        bool fits = true;
        infer_unpack_panel(INFER_QTYPE_F32, (const uint8_t *)j->w + p * float_bytes, n, j->k, rows);
        if (j->fit->pruner) {
            fits = infer_pruner_panel(j->fit->pruner, j->fit->rate, j->fit->type != INFER_QTYPE_T2R, rows, n, kept, scratch, j->losses[p]);
            for (size_t i = 0; i < (size_t)n * j->k; i++)
                j->zeros[p] += !kept[i];
        }
        if (fits && j->quantizer)
            fits = infer_gptq_panel(j->fit->gptq, j->quantizer, rows, j->fit->pruner ? kept : NULL, n, codes, scales, scratch, NULL) &&
                   infer_pack_panel_codes(j->fit->type, codes, scales, n, j->k, packed);
        else if (fits && j->packed)
            fits = infer_pack_panel(j->fit->type, rows, n, j->k, packed);
        if (!fits) {
            atomic_store(&j->failed, 1);
            break;
        }
        if (j->packed)
            infer_unpack_panel(j->fit->type, packed, n, j->k, rows);
        infer_pack_panel(INFER_QTYPE_F32, rows, n, j->k, (uint8_t *)j->floats + p * float_bytes);
    }
}

/* The sums of all panels, in their order. */
static calibrate_pruned sum_up(const round_job *j)
{
    double losses[2] = {0}, zeros = 0;
    for (size_t p = 0; p < infer_ceil_div(j->rows, INFER_TILE_ROWS); p++) {
        losses[0] += j->losses[p][0];
        losses[1] += j->losses[p][1];
        zeros += (double)j->zeros[p];
    }
    return (calibrate_pruned){zeros / ((double)j->rows * j->k), losses[1] > 0 ? losses[0] / losses[1] : 0};
}

static infer_status fail_value(const calibrator *c, const infer_tensor_info *info, infer_qtype type)
{
    return infer_fail(c->err, INFER_ERROR_FORMAT, "tensor %s: a value is not finite, or too large for %s", info->name,
                      infer_qtype_find(type)->name);
}

/* Panels of 16 rows on all threads, to j->packed and j->floats. */
static infer_status run_panels(calibrator *c, const infer_tensor_info *info, round_job *j)
{
    uint32_t threads = infer_pool_threads(c->model->rt->pool);

    measure_memory(j);
    j->memory = infer_alloc(NULL, threads * j->memory_each);
    if (!j->memory)
        return infer_fail_memory(c->err, threads * j->memory_each, info->name);
    infer_pool_run(c->model->rt->pool, round_panels, j);
    infer_free(NULL, j->memory);
    return atomic_load(&j->failed) ? fail_value(c, info, j->fit->type) : INFER_OK;
}

/* From j->floats to cols or a sparse layout in out->packed, and back. */
static infer_status pack_whole(calibrator *c, const infer_tensor_info *info, infer_qtype type, const round_job *j, calibrate_fitted *out)
{
    size_t panel_floats = (size_t)infer_panel_bytes(INFER_QTYPE_F32, j->k) / sizeof(float), panel = INFER_TILE_ROWS * (size_t)j->k;
    float *rows = infer_alloc_array(NULL, (size_t)j->rows * j->k, sizeof *rows);
    uint32_t panels = (uint32_t)infer_ceil_div(j->rows, INFER_TILE_ROWS);
    infer_status s;

    if (!rows)
        return infer_fail_memory(c->err, (size_t)j->rows * j->k * sizeof *rows, info->name);
    for (uint32_t p = 0; p < panels; p++)
        infer_unpack_panel(INFER_QTYPE_F32, j->floats + p * panel_floats, panel_rows(j, p), j->k, rows + p * panel);
    out->choice = infer_matrix_choose(type, rows, j->rows, j->k, c->o->sparse);
    out->packed = infer_alloc(NULL, out->choice.bytes);
    s = out->packed ? infer_matrix_pack(NULL, info->name, type, &out->choice, rows, j->rows, j->k, out->packed, c->err)
                    : infer_fail_memory(c->err, out->choice.bytes, info->name);
    if (s == INFER_OK)
        infer_matrix_unpack(type, out->choice.layout, out->packed, j->rows, j->k, 0, j->rows, rows);
    for (uint32_t p = 0; p < panels && s == INFER_OK; p++)
        infer_pack_panel(INFER_QTYPE_F32, rows + p * panel, panel_rows(j, p), j->k, j->floats + p * panel_floats);
    infer_free(NULL, rows);
    return s;
}

infer_status calibrate_fit_matrix(calibrator *c, uint32_t node, const calibrate_fit *fit, calibrate_fitted *out)
{
    const infer_weight *w = &calibrate_node(c, node)->weight;
    round_job j = {.fit = fit, .w = w->data, .rows = (uint32_t)w->info->rows, .k = (uint32_t)w->info->cols};
    size_t panels = infer_ceil_div(j.rows, INFER_TILE_ROWS);
    calibrate_fitted fitted = {.choice = infer_matrix_choose(fit->type, NULL, j.rows, j.k, NULL)};
    bool whole = fitted.choice.layout != INFER_LAYOUT_TILE16X4; /* packed when all rows are there */
    infer_status s = INFER_OK;

    j.quantizer = fit->gptq ? infer_quantizer_find(fit->type) : NULL;
    j.packed = fitted.packed = whole ? NULL : infer_alloc(NULL, fitted.choice.bytes);
    j.floats = fitted.floats = infer_alloc_zero(NULL, w->info->bytes);
    j.losses = infer_alloc_array(NULL, panels, sizeof *j.losses);
    j.zeros = infer_alloc_array(NULL, panels, sizeof *j.zeros);
    if ((!whole && !j.packed) || !j.floats || !j.losses || !j.zeros)
        s = infer_fail_memory(c->err, fitted.choice.bytes + w->info->bytes, w->info->name);
    if (s == INFER_OK && (s = run_panels(c, w->info, &j)) == INFER_OK && whole)
        s = pack_whole(c, w->info, fit->type, &j, &fitted);
    if (s == INFER_OK)
        fitted.pruned = sum_up(&j);
    infer_free(NULL, j.losses);
    infer_free(NULL, j.zeros);
    if (s == INFER_OK) {
        *out = fitted;
        return INFER_OK;
    }
    infer_free(NULL, fitted.packed);
    infer_free(NULL, fitted.floats);
    return s;
}
