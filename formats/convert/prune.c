#include "convert/prune.h"

#include "convert/cholesky.h"
#include "tile16x4.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 128u /* inputs of which SparseGPT chooses at once, before the others make up for it: that of the paper */
#define STAGES 32u /* of OBS, at least: more gain nothing that can be measured */
#define BATCH 16u  /* inputs that OBS drops at once, at most */

const char *const infer_prune_block_names[] = {"16x1", "16x4", "1x1", "2:4", NULL};
const char *const infer_prune_method_names[] = {"magnitude", "wanda", "sparsegpt", "obs", NULL};

struct infer_pruner {
    infer_allocator allocator;
    uint32_t k;
    const infer_moments *moments;
    infer_prune_method method;
    infer_prune_block block;
    double damp;     /* on the diagonal of H */
    double *factor;  /* [k][k] L: H, damped, = L L^T; NULL: the method needs none */
    double *inverse; /* [k][k] of H, damped: the lower triangle; NULL: the method needs none */
};

static infer_status factorize(infer_pruner *p, infer_error *err)
{
    size_t k = p->k;

    p->factor = infer_alloc_array(&p->allocator, k * k, sizeof *p->factor);
    if (!p->factor)
        return infer_fail_memory(err, k * k * sizeof *p->factor, "the factor of a matrix's moments");
    memcpy(p->factor, p->moments->h, k * k * sizeof *p->factor);
    for (size_t i = 0; i < k; i++)
        p->factor[i * k + i] += p->damp;
    if (!infer_cholesky(p->factor, p->k))
        return infer_fail(err, INFER_ERROR_FORMAT, "the inputs of a matrix are not finite, or so large that their squares are not");
    if (p->method != INFER_PRUNE_OBS)
        return INFER_OK;
    p->inverse = infer_alloc_array(&p->allocator, k * k, sizeof *p->inverse);
    if (!p->inverse)
        return infer_fail_memory(err, k * k * sizeof *p->inverse, "the inverse of a matrix's moments");
    infer_cholesky_inverse(p->factor, p->k, p->inverse);
    return INFER_OK;
}

infer_status infer_pruner_create(const infer_allocator *a, uint32_t k, const infer_moments *m, infer_prune_method method,
                                 infer_prune_block block, double damping, infer_pruner **out, infer_error *err)
{
    infer_pruner *p;
    double trace = 0;

    if (block == INFER_PRUNE_2_4 && k % 4)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "found %u inputs, expected a multiple of 4 for pruning 2:4", k);
    p = infer_alloc_zero(a, sizeof *p);
    if (!p)
        return infer_fail_memory(err, sizeof *p, "pruning");
    if (a)
        p->allocator = *a;
    p->k = k;
    p->moments = m;
    p->method = method;
    p->block = block;
    for (size_t i = 0; m && i < k; i++)
        trace += m->h[i * k + i];
    p->damp = trace > 0 ? damping * trace / k : 1;
    if (method >= INFER_PRUNE_SPARSEGPT) {
        infer_status status = factorize(p, err);
        if (status != INFER_OK) {
            infer_pruner_free(p);
            return status;
        }
    }
    *out = p;
    return INFER_OK;
}

void infer_pruner_free(infer_pruner *p)
{
    infer_allocator a;
    if (!p)
        return;
    a = p->allocator;
    infer_free(&a, p->factor);
    infer_free(&a, p->inverse);
    infer_free(&a, p);
}

typedef struct ranked {
    double score;
    uint32_t index;
} ranked;

/* The parts of the scratch space. */
typedef struct workspace {
    double *values;    /* [16][k] the weights that stay, and what leads to them */
    double *pull;      /* [16][k] what the changes so far ask of the inputs not yet decided */
    ranked *ranks;     /* [k] */
    uint32_t *support; /* [k] */
    double *rows;      /* [BATCH][k] */
    double *matrix;    /* [k][k] H or its inverse, between the inputs of the support; only with moments */
} workspace;

size_t infer_pruner_scratch(const infer_pruner *p)
{
    size_t k = p->k;
    return k * ((2 * INFER_TILE_ROWS + BATCH) * sizeof(double) + sizeof(ranked)) + infer_round_up(k * sizeof(uint32_t), 8) +
           (p->moments ? k * k * sizeof(double) : 0);
}

static workspace divide(const infer_pruner *p, void *scratch)
{
    workspace s;
    size_t k = p->k;
    s.values = scratch;
    s.pull = s.values + INFER_TILE_ROWS * k;
    s.rows = s.pull + INFER_TILE_ROWS * k;
    s.ranks = (ranked *)(void *)(s.rows + BATCH * k);
    s.support = (uint32_t *)(void *)(s.ranks + k);
    s.matrix = (double *)(void *)((uint8_t *)s.support + infer_round_up(k * sizeof *s.support, 8));
    return s;
}

/* ---- which weights ---- */

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* Of the inputs from..to-1 of rows r0..r1-1, in blocks of `width` inputs, the `count` with the lowest scores go: s->ranks [blocks]. */
static void drop(workspace *s, uint32_t blocks, uint32_t count, uint32_t from, uint32_t to, uint32_t width, uint32_t r0, uint32_t r1,
                 uint32_t k, uint8_t *kept)
{
    qsort(s->ranks, blocks, sizeof *s->ranks, by_score);
    for (uint32_t b = 0; b < count; b++)
        for (uint32_t i = from + s->ranks[b].index * width; i < to && i < from + (s->ranks[b].index + 1) * width; i++)
            for (uint32_t r = r0; r < r1; r++)
                kept[(size_t)r * k + i] = 0;
}

/* What it costs to drop inputs from..to-1 of row r. pull: of the row. */
static double cost(const infer_pruner *p, const float *w, const double *pull, uint32_t from, uint32_t to)
{
    double sum = 0;
    size_t k = p->k;

    for (size_t i = from; i < to; i++) {
        double z = w[i];
        if (p->method == INFER_PRUNE_SPARSEGPT) {
            z = pull[i];
            for (size_t j = i; j < to; j++)
                z += w[j] * p->factor[j * k + i];
        }
        sum += p->method == INFER_PRUNE_WANDA ? z * z * p->moments->h[i * k + i] : z * z;
    }
    return sum;
}

/* Chooses among the inputs from..to-1 as many blocks as make the rate right for the inputs 0..to-1, if it was for 0..from-1. */
static void choose(const infer_pruner *p, double rate, const float *w, uint32_t n, uint32_t from, uint32_t to, workspace *s, uint8_t *kept)
{
    uint32_t k = p->k, width = p->block == INFER_PRUNE_16X4 ? 4 : 1,
             rows = p->block == INFER_PRUNE_16X1 || p->block == INFER_PRUNE_16X4 ? n : 1;
    uint32_t piece = p->block == INFER_PRUNE_2_4 ? 4 : to - from;

    for (uint32_t r = 0; r < n; r += rows)
        for (uint32_t at = from; at < to; at += piece) {
            uint32_t blocks = (uint32_t)infer_ceil_div(piece, width), count;
            for (uint32_t b = 0; b < blocks; b++) {
                uint32_t first = at + b * width, end = first + width < to ? first + width : to;
                s->ranks[b] = (ranked){0, b};
                for (uint32_t i = r; i < r + rows; i++)
                    s->ranks[b].score += cost(p, w + (size_t)i * k, s->pull + (size_t)i * k, first, end);
            }
            count = p->block == INFER_PRUNE_2_4
                        ? 2
                        : (uint32_t)(rint(rate * (double)infer_ceil_div(to, width)) - rint(rate * (double)(from / width)));
            drop(s, blocks, count, at, at + piece, width, r, r + rows, k, kept);
        }
}

/* From the last inputs to the first, as the factor wants it: what is dropped of a chunk, the inputs before it can make up for, and those
 * of the chunk that stay do. */
static void choose_by_chunks(const infer_pruner *p, double rate, const float *w, uint32_t n, workspace *s, uint8_t *kept)
{
    size_t k = p->k;

    for (uint32_t to = p->k, from; to > 0; to = from) {
        uint32_t size = p->block == INFER_PRUNE_2_4 ? 4 : CHUNK;
        from = (to - 1) / size * size;
        choose(p, rate, w, n, from, to, s, kept);
        for (uint32_t r = 0; r < n; r++) {
            double *pull = s->pull + r * k;
            for (uint32_t i = to; i-- > from;) {
                const double *column = p->factor + i * k;
                double change = kept[r * k + i] ? -pull[i] / column[i] : (double)w[r * k + i];
                for (uint32_t j = 0; j < i; j++)
                    pull[j] += change * column[j];
            }
        }
    }
}

/* ---- what is left ---- */

/* values = w (cross + damp): what the gradient is to meet. */
static void aim(const infer_pruner *p, const float *w, uint32_t n, double *values)
{
    const double *cross = p->moments->cross ? p->moments->cross : p->moments->h;
    size_t k = p->k;

    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < k; j++)
            values[r * k + j] = p->damp * (double)w[r * k + j];
    for (size_t i = 0; i < k; i++)
        for (size_t r = 0; r < n; r++)
            for (size_t j = 0; j < k; j++)
                values[r * k + j] += (double)w[r * k + i] * cross[i * k + j];
}

/* From places in the support to inputs; those of no place are left with anything. */
static void scatter(const workspace *s, uint32_t count, double *values)
{
    for (uint32_t i = count; i-- > 0;)
        values[s->support[i]] = values[i];
}

/* values of rows r0..r1-1, which share their support: from the aim to the weights whose outputs are closest to the float model's. */
static bool solve(const infer_pruner *p, uint32_t r0, uint32_t r1, const uint8_t *kept, workspace *s)
{
    size_t k = p->k;
    uint32_t count = 0;

    for (uint32_t i = 0; i < k; i++)
        if (kept[r0 * k + i])
            s->support[count++] = i;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j <= i; j++)
            s->matrix[i * count + j] = p->moments->h[s->support[i] * k + s->support[j]];
        s->matrix[i * count + i] += p->damp;
    }
    if (!infer_cholesky(s->matrix, count))
        return false;
    for (uint32_t r = r0; r < r1; r++) {
        double *b = s->values + r * k;
        for (uint32_t i = 0; i < count; i++)
            b[i] = b[s->support[i]];
        infer_cholesky_solve(s->matrix, count, b);
        scatter(s, count, b);
    }
    return true;
}

/* ---- OBS: both at once ---- */

/* x = L^-1 x for the count rows x [count][n], `stride` apart; L [count][count]. */
static void substitute(const double *l, uint32_t count, double *x, size_t stride, size_t n)
{
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; at < n; at++) {
            double left = x[i * stride + at];
            for (size_t j = 0; j < i; j++)
                left -= l[i * count + j] * x[j * stride + at];
            x[i * stride + at] = left / l[i * count + i];
        }
}

/* What it costs rows r0..r1-1 to lose the inputs at places from..to-1 of the support, at most 4: w C^-1 w^T, C the inverse of H between
 * them. */
static double cost_among(const infer_pruner *p, const workspace *s, uint32_t r0, uint32_t r1, uint32_t from, uint32_t to)
{
    size_t k = p->k;
    uint32_t count = to - from;
    double c[16], x[4], sum = 0;

    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j <= i; j++)
            c[i * count + j] = s->matrix[(from + i) * k + from + j];
    if (!infer_cholesky(c, count))
        return INFINITY; /* C has lost its digits: dropping would lose more */
    for (uint32_t r = r0; r < r1; r++) {
        memcpy(x, s->values + r * k + from, count * sizeof *x);
        substitute(c, count, x, 1, 1);
        for (uint32_t i = 0; i < count; i++)
            sum += x[i] * x[i];
    }
    return sum;
}

static int by_place(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Takes the inputs at `gone` places, ascending, out of the support, the inverse and the rows' values, which make up for them. */
static bool eliminate(const infer_pruner *p, workspace *s, uint32_t r0, uint32_t r1, const uint32_t *places, uint32_t gone, uint32_t *count)
{
    size_t k = p->k;
    double *c = s->matrix, *v = s->rows, l[BATCH * BATCH], x[BATCH];
    uint32_t left = 0, next = 0;

    for (size_t e = 0; e < gone; e++) {
        for (size_t j = 0; j < *count; j++)
            v[e * k + j] = j <= places[e] ? c[places[e] * k + j] : c[j * k + places[e]];
        for (size_t f = 0; f <= e; f++)
            l[e * gone + f] = c[places[e] * k + places[f]];
    }
    if (!infer_cholesky(l, gone))
        return false;
    substitute(l, gone, v, k, *count);
    for (size_t r = r0; r < r1; r++) {
        double *w = s->values + r * k;
        for (uint32_t e = 0; e < gone; e++)
            x[e] = w[places[e]];
        substitute(l, gone, x, 1, 1);
        for (size_t e = 0; e < gone; e++)
            for (size_t j = 0; j < *count; j++)
                w[j] -= x[e] * v[e * k + j];
    }
    for (size_t i = 0; i < *count; i++) {
        double *row = c + i * k;
        if (next < gone && places[next] == i) {
            next++;
            continue;
        }
        for (size_t e = 0; e < gone; e++) {
            double factor = v[e * k + i];
            for (size_t j = 0; j <= i; j++)
                row[j] -= factor * v[e * k + j];
        }
        for (size_t j = 0, to = 0, skip = 0; j <= i; j++) /* what is left moves together */
            if (skip < gone && places[skip] == j)
                skip++;
            else
                c[left * k + to++] = row[j];
        for (size_t r = r0; r < r1; r++)
            s->values[r * k + left] = s->values[r * k + i];
        s->support[left++] = s->support[i];
    }
    *count = left;
    return true;
}

/* Whether the weight may go: of every four, two stay. */
static bool spare(const infer_pruner *p, const uint8_t *kept, uint32_t input)
{
    const uint8_t *four = kept + input / 4 * 4;
    return p->block != INFER_PRUNE_2_4 || four[0] + four[1] + four[2] + four[3] > 2;
}

/* Chooses for rows r0..r1-1, and takes values from the aim to the weights that are left. */
static bool choose_and_solve(const infer_pruner *p, double rate, uint32_t r0, uint32_t r1, workspace *s, uint8_t *kept)
{
    size_t k = p->k;
    uint32_t width = p->block == INFER_PRUNE_16X4 ? 4 : 1, count = p->k, places[BATCH];
    uint32_t left = (uint32_t)rint((p->block == INFER_PRUNE_2_4 ? 0.5 : rate) * (double)infer_ceil_div(k, width));
    uint32_t batch = (uint32_t)infer_ceil_div(left, STAGES) < BATCH / width ? (uint32_t)infer_ceil_div(left, STAGES) : BATCH / width;

    memcpy(s->matrix, p->inverse, k * k * sizeof *s->matrix);
    for (uint32_t i = 0; i < k; i++)
        s->support[i] = i;
    for (uint32_t r = r0; r < r1; r++)
        infer_cholesky_solve(p->factor, p->k, s->values + r * k);
    while (left) {
        uint32_t blocks = 0, gone = 0;
        for (uint32_t from = 0, to; from < count; from = to) {
            for (to = from + 1; to < count && s->support[to] / width == s->support[from] / width;)
                to++;
            s->ranks[blocks++] = (ranked){cost_among(p, s, r0, r1, from, to), from};
        }
        qsort(s->ranks, blocks, sizeof *s->ranks, by_score);
        for (uint32_t b = 0, taken = 0; b < blocks && taken < batch && left; b++) {
            uint32_t place = s->ranks[b].index, input = s->support[place];
            if (!spare(p, kept + r0 * k, input))
                continue;
            for (; place < count && s->support[place] / width == input / width; place++) {
                places[gone++] = place;
                for (uint32_t r = r0; r < r1; r++)
                    kept[r * k + s->support[place]] = 0;
            }
            taken++;
            left--;
        }
        qsort(places, gone, sizeof *places, by_place);
        if (!eliminate(p, s, r0, r1, places, gone, &count))
            return false;
    }
    for (uint32_t r = r0; r < r1; r++)
        scatter(s, count, s->values + r * k);
    return true;
}

/* Mean over the inputs of the sum of squares of x w^T. */
static double energy(const infer_pruner *p, const double *w, uint32_t n)
{
    size_t k = p->k;
    double sum = 0;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++) {
            double dot = 0;
            for (size_t j = 0; j < k; j++)
                dot += p->moments->h[i * k + j] * w[r * k + j];
            sum += dot * w[r * k + i];
        }
    return p->moments->rows ? sum / (double)p->moments->rows : 0;
}

bool infer_pruner_panel(const infer_pruner *p, double rate, bool recover, float *w, uint32_t n, uint8_t *kept, void *scratch,
                        double loss[2])
{
    workspace s = divide(p, scratch);
    size_t count = (size_t)n * p->k;
    uint32_t rows = p->block == INFER_PRUNE_16X1 || p->block == INFER_PRUNE_16X4 ? n : 1; /* that share their support */
    bool fits = true;
    double *change = s.pull; /* free again when the weights are chosen */

    recover = recover && p->moments;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(w[i]))
            return false;
    memset(kept, 1, count);
    memset(s.pull, 0, count * sizeof *s.pull);
    if (p->method == INFER_PRUNE_SPARSEGPT)
        choose_by_chunks(p, rate, w, n, &s, kept);
    else if (p->method != INFER_PRUNE_OBS)
        choose(p, rate, w, n, 0, p->k, &s, kept);
    if (recover || p->method == INFER_PRUNE_OBS)
        aim(p, w, n, s.values);
    for (uint32_t r = 0; r < n && fits; r += rows) {
        if (p->method == INFER_PRUNE_OBS)
            fits = choose_and_solve(p, rate, r, r + rows, &s, kept);
        else if (recover)
            fits = solve(p, r, r + rows, kept, &s);
    }
    if (loss && p->moments) {
        for (size_t i = 0; i < count; i++)
            change[i] = w[i];
        loss[1] += energy(p, change, n);
    }
    for (size_t i = 0; i < count; i++)
        w[i] = !kept[i] ? 0 : recover ? (float)s.values[i] : w[i];
    if (loss && p->moments) {
        for (size_t i = 0; i < count; i++)
            change[i] -= (double)w[i];
        loss[0] += energy(p, change, n);
    }
    for (size_t i = 0; i < count; i++)
        fits = fits && isfinite(w[i]);
    return fits;
}
