#include "calibrator.h"

#include "pack/pack.h"
#include "tile16x4.h"

typedef struct round_job {
    const calibrate_fit *fit;
    const infer_quantizer *quantizer; /* NULL: the type has no groups, or they are not fitted */
    double (*losses)[2];              /* [panels] of pruning */
    uint64_t *zeros;                  /* [panels] the same */
    const float *w;                   /* tile16x4 */
    uint8_t *packed;
    float *floats; /* tile16x4 of the rounded values */
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
        uint32_t n = j->rows - p * INFER_TILE_ROWS < INFER_TILE_ROWS ? j->rows - p * INFER_TILE_ROWS : INFER_TILE_ROWS;
        uint8_t *packed = j->packed + p * infer_panel_bytes(j->fit->type, j->k);
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
        else if (fits)
            fits = infer_pack_panel(j->fit->type, rows, n, j->k, NULL, packed);
        if (!fits) {
            atomic_store(&j->failed, 1);
            break;
        }
        infer_unpack_panel(j->fit->type, packed, n, j->k, rows);
        infer_pack_panel(INFER_QTYPE_F32, rows, n, j->k, NULL, (uint8_t *)j->floats + p * float_bytes);
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

infer_status calibrate_fit_matrix(calibrator *c, uint32_t node, const calibrate_fit *fit, calibrate_fitted *out)
{
    const infer_weight *w = &calibrate_node(c, node)->weight;
    uint32_t threads = infer_pool_threads(c->model->rt->pool);
    round_job j = {.fit = fit, .w = w->data, .rows = (uint32_t)w->info->rows, .k = (uint32_t)w->info->cols};
    size_t panels = infer_ceil_div(j.rows, INFER_TILE_ROWS);
    uint64_t packed_bytes = panels * infer_panel_bytes(fit->type, j.k);
    infer_status s = INFER_OK;

    j.quantizer = fit->gptq ? infer_quantizer_find(fit->type) : NULL;
    measure_memory(&j);
    j.memory = infer_alloc(NULL, threads * j.memory_each);
    j.packed = infer_alloc(NULL, packed_bytes);
    j.floats = infer_alloc_zero(NULL, w->info->bytes);
    j.losses = infer_alloc_array(NULL, panels, sizeof *j.losses);
    j.zeros = infer_alloc_array(NULL, panels, sizeof *j.zeros);
    if (!j.memory || !j.packed || !j.floats || !j.losses || !j.zeros)
        s = infer_fail_memory(c->err, packed_bytes + w->info->bytes + threads * j.memory_each, w->info->name);
    if (s == INFER_OK) {
        infer_pool_run(c->model->rt->pool, round_panels, &j);
        if (atomic_load(&j.failed))
            s = infer_fail(c->err, INFER_ERROR_FORMAT, "tensor %s: a value is not finite, or too large for %s", w->info->name,
                           infer_qtype_find(fit->type)->name);
    }
    if (s == INFER_OK) {
        *out = (calibrate_fitted){j.packed, j.floats, sum_up(&j)};
        j.packed = NULL;
        j.floats = NULL;
    }
    infer_free(NULL, j.memory);
    infer_free(NULL, j.packed);
    infer_free(NULL, j.floats);
    infer_free(NULL, j.losses);
    infer_free(NULL, j.zeros);
    return s;
}
