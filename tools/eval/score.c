#include "score.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

double eval_log_sum(const float *logits, uint32_t vocab)
{
    double sum = 0, top = logits[0];
    for (uint32_t i = 1; i < vocab; i++)
        top = logits[i] > top ? logits[i] : top;
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp(logits[i] - top);
    return log(sum) + top;
}

static int by_id(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Probability of the tokens that are not among ids[0..n): a sum of its own, because 1 - (the others) has no digits left when it is small. */
static double mass_outside(const int32_t *ids, uint32_t n, const float *logits, uint32_t vocab, double log_sum)
{
    int32_t sorted[EVAL_TOP];
    uint32_t next = 0;
    double sum = 0;
    memcpy(sorted, ids, n * sizeof *ids);
    qsort(sorted, n, sizeof *sorted, by_id);
    for (uint32_t i = 0; i < vocab; i++)
        if (next < n && sorted[next] == (int32_t)i)
            while (next < n && sorted[next] == (int32_t)i)
                next++;
        else
            sum += exp(logits[i] - log_sum);
    return sum;
}

void eval_top(const float *logits, uint32_t vocab, double log_sum, eval_distribution *out)
{
    uint32_t limit = vocab < EVAL_TOP ? vocab : EVAL_TOP, n = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t at;
        if (n == limit && !(logits[i] > logits[out->ids[n - 1]]))
            continue;
        n += n < limit;
        for (at = n - 1; at > 0 && logits[i] > logits[out->ids[at - 1]]; at--)
            out->ids[at] = out->ids[at - 1];
        out->ids[at] = (int32_t)i;
    }
    out->top = n;
    for (uint32_t k = 0; k < n; k++)
        out->log_p[k] = logits[out->ids[k]] - log_sum;
    out->tail = mass_outside(out->ids, n, logits, vocab, log_sum);
}

double eval_kl(const eval_distribution *teacher, const float *logits, uint32_t vocab, double log_sum)
{
    double total = teacher->tail, shift, kl = 0;
    for (uint32_t k = 0; k < teacher->top; k++)
        total += exp(teacher->log_p[k]);
    shift = log(total);
    for (uint32_t k = 0; k < teacher->top; k++) {
        double log_p = teacher->log_p[k] - shift;
        kl += exp(log_p) * (log_p - (logits[teacher->ids[k]] - log_sum));
    }
    if (teacher->tail > 0) {
        double p = teacher->tail / total, q = mass_outside(teacher->ids, teacher->top, logits, vocab, log_sum);
        kl += p * log(p / fmax(q, DBL_MIN)); /* a student that excludes the tail: very far, but a number */
    }
    return kl;
}

void eval_sums_add(eval_sums *s, double sum_of_values, double items)
{
    s->n += items;
    s->x += sum_of_values;
    s->xx += sum_of_values * sum_of_values;
    s->xn += sum_of_values * items;
    s->nn += items * items;
    s->clusters++;
}

eval_estimate eval_sums_mean(const eval_sums *s)
{
    double mean = s->x / s->n, squares = s->xx - 2 * mean * s->xn + mean * mean * s->nn, u = (double)s->clusters;
    if (s->clusters < 2)
        return (eval_estimate){mean, NAN};
    return (eval_estimate){mean, sqrt(fmax(squares, 0) * u / (u - 1)) / s->n};
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void eval_sort(float *values, size_t n) { qsort(values, n, sizeof *values, by_value); }

float eval_quantile(const float *sorted, size_t n, double q)
{
    size_t rank = (size_t)ceil(q * (double)n);
    return sorted[rank < 1 ? 0 : rank > n ? n - 1 : rank - 1];
}
