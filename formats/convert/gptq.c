#include "convert/gptq.h"

#include "convert/cholesky.h"
#include "ref/mathf.h"
#include "tile16x4.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GROUP 32u
#define SWEEPS 8 /* of coordinate descent, at most: most rows stand still after 3 or 4 */

static const infer_quantizer quantizers[] = {
    {INFER_QTYPE_Q4G32, -8, 7, NULL, {5.0f, 10.0f}, 0.25f},
    {INFER_QTYPE_N4G32, -8, 7, infer_n4_values, {40.0f, 76.0f}, 2.0f},
    {INFER_QTYPE_Q8G32, -127, 127, NULL, {120.0f, 130.0f}, 2.0f},
};

const infer_quantizer *infer_quantizer_find(infer_qtype type)
{
    for (size_t i = 0; i < sizeof quantizers / sizeof *quantizers; i++)
        if (quantizers[i].type == type)
            return &quantizers[i];
    return NULL;
}

/* ---- moments ---- */

void infer_moments_add(double *sum, const float *y, const float *x, uint32_t m, uint32_t k, uint32_t i0, uint32_t i1)
{
    for (uint32_t i = i0; i < i1; i++) {
        double *row = sum + (size_t)i * k;
        uint32_t t = 0;
        for (; t + 4 <= m; t += 4) { /* four inputs at once: a quarter of the loads and stores of the sums */
            const float *a = x + (size_t)t * k, *b = a + k, *c = b + k, *d = c + k;
            double ya = y[(size_t)t * k + i], yb = y[(size_t)(t + 1) * k + i], yc = y[(size_t)(t + 2) * k + i], yd = y[(size_t)(t + 3) * k + i];
            for (uint32_t j = 0; j < k; j++)
                row[j] += (ya * (double)a[j] + yb * (double)b[j]) + (yc * (double)c[j] + yd * (double)d[j]);
        }
        for (; t < m; t++) {
            double yt = y[(size_t)t * k + i];
            for (uint32_t j = 0; j < k; j++)
                row[j] += yt * (double)x[(size_t)t * k + j];
        }
    }
}

/* ---- order and factor ---- */

struct infer_gptq {
    infer_allocator allocator;
    const infer_moments *moments;
    double damp;       /* on the diagonal */
    uint32_t *order;   /* [k] inputs, those with the largest moments last, whole groups together */
    double *factor;    /* [k][k] L: H, damped, with its inputs in that order = L L^T */
};

typedef struct ranked {
    double moment;
    uint32_t index;
} ranked;

static int by_moment(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->moment != y->moment)
        return x->moment < y->moment ? -1 : 1;
    return x->index < y->index ? 1 : -1;
}

static uint32_t group_size(uint32_t k, uint32_t group) { return k - group * GROUP < GROUP ? k - group * GROUP : GROUP; }

/* Rounding goes from the last of the order to the first: the inputs that count most come when all others can still make up for them. */
static void choose_order(infer_gptq *g, ranked *groups)
{
    const infer_moments *m = g->moments;
    uint32_t count = (uint32_t)infer_ceil_div(m->k, GROUP), at = 0;
    ranked members[GROUP];

    for (uint32_t i = 0; i < count; i++) {
        groups[i] = (ranked){0, i};
        for (uint32_t j = 0; j < group_size(m->k, i); j++)
            groups[i].moment += m->h[(size_t)(i * GROUP + j) * m->k + i * GROUP + j];
    }
    qsort(groups, count, sizeof *groups, by_moment);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = group_size(m->k, groups[i].index);
        for (uint32_t j = 0; j < size; j++) {
            uint32_t input = groups[i].index * GROUP + j;
            members[j] = (ranked){m->h[(size_t)input * m->k + input], input};
        }
        qsort(members, size, sizeof *members, by_moment);
        for (uint32_t j = 0; j < size; j++)
            g->order[at++] = members[j].index;
    }
}

infer_status infer_gptq_create(const infer_allocator *a, const infer_moments *m, double damping, infer_gptq **out, infer_error *err)
{
    infer_gptq *g = infer_alloc_zero(a, sizeof *g);
    ranked *groups = infer_alloc_array(a, infer_ceil_div(m->k, GROUP), sizeof *groups);
    double trace = 0;
    size_t k = m->k;

    if (g) {
        if (a)
            g->allocator = *a;
        g->moments = m;
        g->order = infer_alloc_array(a, k, sizeof *g->order);
        g->factor = infer_alloc_array(a, k * k, sizeof *g->factor);
    }
    if (!g || !groups || !g->order || !g->factor) {
        infer_free(a, groups);
        infer_gptq_free(g);
        return infer_fail_memory(err, k * k * sizeof(double), "the factor of a matrix's moments");
    }
    for (size_t i = 0; i < k; i++)
        trace += m->h[i * k + i];
    g->damp = trace > 0 ? damping * trace / (double)k : 1;
    choose_order(g, groups);
    infer_free(a, groups);
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j <= i; j++)
            g->factor[i * k + j] = m->h[g->order[i] * k + g->order[j]];
        g->factor[i * k + i] += g->damp;
    }
    if (!infer_cholesky(g->factor, m->k)) {
        infer_gptq_free(g);
        return infer_fail(err, INFER_ERROR_FORMAT, "the inputs of a matrix are not finite, or so large that their squares are not");
    }
    *out = g;
    return INFER_OK;
}

void infer_gptq_free(infer_gptq *g)
{
    infer_allocator a;
    if (!g)
        return;
    a = g->allocator;
    infer_free(&a, g->order);
    infer_free(&a, g->factor);
    infer_free(&a, g);
}

/* ---- rounding ---- */

static double level(const infer_quantizer *q, int32_t code) { return q->levels ? q->levels[code - q->low] : code; }

/* Code of the level nearest to x. */
static int32_t nearest(const infer_quantizer *q, double x)
{
    int32_t code;
    if (!q->levels) {
        x = rint(x);
        return x < q->low ? q->low : x > q->high ? q->high : (int32_t)x;
    }
    for (code = q->low; code < q->high && x > (level(q, code) + level(q, code + 1)) / 2;)
        code++;
    return code;
}

static double scale_value(uint16_t bits) { return infer_ref_f16_to_f32(bits); }

/* A row while it is rounded, its inputs in g->order. */
typedef struct row_state {
    double *w, *error; /* [k] w - q so far */
} row_state;

static bool stays(const infer_gptq *g, const uint8_t *kept, size_t at) { return !kept || kept[g->order[at]]; }

/* Rounds the `size` inputs from position `at` of the order, the last first. target: w plus what the inputs behind them ask for. kept [k]: of the row, or
 * NULL. Returns their part of the objective, or a number of at least `most`. */
static double round_group(const infer_gptq *g, const infer_quantizer *q, uint32_t at, uint32_t size, const uint8_t *kept, double scale, const double *w,
                          const double *target, double most, int32_t *codes, double *error)
{
    double loss = 0;
    size_t k = g->moments->k;

    for (uint32_t i = size; i-- > 0 && loss < most;) {
        double want = target[i], pivot = g->factor[(at + i) * k + at + i], got, off;
        for (uint32_t j = i + 1; j < size; j++)
            want += error[j] * g->factor[(at + j) * k + at + i] / pivot;
        codes[i] = scale != 0 && stays(g, kept, at + i) ? nearest(q, want / scale) : nearest(q, 0);
        got = scale * level(q, codes[i]);
        error[i] = w[i] - got;
        off = pivot * (want - got);
        loss += off * off;
    }
    return loss;
}

/* Tries the scales that the quantizer names, and keeps the best: *bits, codes, error. False: the value of largest magnitude is too large. */
static bool fit_group(const infer_gptq *g, const infer_quantizer *q, uint32_t at, uint32_t size, const uint8_t *kept, const double *w,
                      const double *target, uint16_t *bits, int32_t *codes, double *error)
{
    double extreme = 0, least = INFINITY, trial_error[GROUP];
    int32_t trial[GROUP];

    for (uint32_t i = 0; i < size; i++)
        if (stays(g, kept, at + i) && fabs(target[i]) > fabs(extreme))
            extreme = target[i];
    *bits = 0;
    if (extreme == 0) {
        round_group(g, q, at, size, kept, 0, w, target, INFINITY, codes, error);
        return true;
    }
    for (float d = q->divisors[0]; d <= q->divisors[1]; d += q->step)
        for (int sign = 1; sign >= -1; sign -= 2) {
            uint16_t half = infer_ref_f32_to_f16((float)(extreme / (sign * (double)d)));
            double loss;
            if ((half & 0x7c00) == 0x7c00)
                continue;
            loss = round_group(g, q, at, size, kept, scale_value(half), w, target, least, trial, trial_error);
            if (loss < least) {
                least = loss;
                *bits = half;
                memcpy(codes, trial, size * sizeof *codes);
                memcpy(error, trial_error, size * sizeof *error);
            }
        }
    return least < INFINITY;
}

/* What the outputs of the float model make of a row: w (cross + damp) (h + damp)^-1, in g->order; `across` false: w itself. */
static void aim(const infer_gptq *g, const float *w, bool across, double *out, double *scratch)
{
    const infer_moments *m = g->moments;
    size_t k = m->k;

    if (!m->cross || !across) {
        for (size_t i = 0; i < k; i++)
            out[i] = w[g->order[i]];
        return;
    }
    for (size_t j = 0; j < k; j++)
        scratch[j] = g->damp * (double)w[j];
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++)
            scratch[j] += (double)w[i] * m->cross[i * k + j];
    for (size_t i = 0; i < k; i++)
        out[i] = scratch[g->order[i]];
    infer_cholesky_solve(g->factor, m->k, out);
}

/* Coordinate descent: one code, or one group's scale, at a time to where the objective is least. error: w - q, gradient: H error, both in the order of
 * the inputs. */
static void descend(const infer_gptq *g, const infer_quantizer *q, const uint8_t *kept, int8_t *codes, uint16_t *scales, double *error, double *gradient)
{
    const double *h = g->moments->h;
    size_t k = g->moments->k;

    for (size_t i = 0; i < k; i++) {
        gradient[i] = g->damp * error[i];
        for (size_t j = 0; j < k; j++)
            gradient[i] += h[i * k + j] * error[j];
    }
    for (int sweep = 0, changes = 1; sweep < SWEEPS && changes; sweep++) {
        changes = 0;
        for (uint32_t group = 0; group < infer_ceil_div(k, GROUP); group++) {
            uint32_t from = group * GROUP, size = group_size((uint32_t)k, group);
            double scale = scale_value(scales[group]), slope = 0, curve = 0, step;
            uint16_t half;
            if (scale == 0)
                continue;
            for (uint32_t i = from; i < from + size; i++) {
                double width = h[i * k + i] + g->damp, now = level(q, codes[i]);
                int32_t code = nearest(q, now + gradient[i] / width / scale);
                if (code == codes[i] || (kept && !kept[i]))
                    continue;
                step = scale * (level(q, code) - now);
                codes[i] = (int8_t)code;
                error[i] -= step;
                for (size_t j = 0; j < k; j++)
                    gradient[j] -= h[i * k + j] * step;
                gradient[i] -= g->damp * step;
                changes++;
            }
            for (uint32_t i = from; i < from + size; i++) {
                double along = g->damp * level(q, codes[i]);
                for (uint32_t j = from; j < from + size; j++)
                    along += h[i * k + j] * level(q, codes[j]);
                slope += gradient[i] * level(q, codes[i]);
                curve += along * level(q, codes[i]);
            }
            if (curve <= 0)
                continue;
            half = infer_ref_f32_to_f16((float)(scale + slope / curve));
            step = scale_value(half) - scale;
            if (step == 0 || (half & 0x7c00) == 0x7c00 || step * (step * curve - 2 * slope) >= 0)
                continue;
            scales[group] = half;
            changes++;
            for (uint32_t i = from; i < from + size; i++) {
                double part = step * level(q, codes[i]);
                error[i] -= part;
                for (size_t j = 0; j < k; j++)
                    gradient[j] -= h[i * k + j] * part;
                gradient[i] -= g->damp * part;
            }
        }
    }
}

size_t infer_gptq_scratch(const infer_gptq *g) { return 3 * (size_t)g->moments->k; }

bool infer_gptq_panel(const infer_gptq *g, const infer_quantizer *q, const float *w, const uint8_t *kept, uint32_t n, int8_t *codes, uint16_t *scales,
                      double *scratch, double *loss)
{
    size_t k = g->moments->k, groups = infer_ceil_div(k, GROUP);
    double *want = scratch, *error = scratch + k, *gradient = scratch + 2 * k;

    for (uint32_t r = 0; r < n; r++) {
        const float *row = w + r * k;
        const uint8_t *row_kept = kept ? kept + r * k : NULL;
        int8_t *row_codes = codes + r * k;
        double sum = 0;
        for (size_t i = 0; i < k; i++)
            if (!isfinite(row[i]))
                return false;
        aim(g, row, !kept, want, gradient);
        for (size_t end = k; end > 0;) {
            uint32_t group = g->order[end - 1] / GROUP, size = group_size((uint32_t)k, group), at = (uint32_t)(end - size);
            double target[GROUP];
            int32_t group_codes[GROUP] = {0};
            for (uint32_t i = 0; i < size; i++)
                target[i] = 0;
            for (size_t j = end; j < k; j++)
                for (uint32_t i = 0; i < size; i++)
                    target[i] += error[j] * g->factor[j * k + at + i];
            for (uint32_t i = 0; i < size; i++)
                target[i] = want[at + i] + target[i] / g->factor[(at + i) * k + at + i];
            if (!fit_group(g, q, at, size, row_kept, want + at, target, &scales[r * groups + group], group_codes, error + at))
                return false;
            for (uint32_t i = 0; i < size; i++)
                row_codes[g->order[at + i]] = (int8_t)group_codes[i];
            end = at;
        }
        for (size_t i = 0; i < k; i++) /* in the order of the inputs from here */
            want[g->order[i]] = error[i];
        descend(g, q, row_kept, row_codes, scales + r * groups, want, gradient);
        if (!loss || !g->moments->rows)
            continue;
        for (size_t i = 0; i < k; i++)
            sum += want[i] * gradient[i];
        *loss += sum / (double)g->moments->rows;
    }
    return true;
}
