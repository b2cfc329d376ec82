/* Arithmetic of evaluation, apart from models and files: what a row of logits says of a token, how far it is from another row, and how sure a mean is. */
#ifndef INFER_TOOLS_EVAL_SCORE_H
#define INFER_TOOLS_EVAL_SCORE_H

#include <stddef.h>
#include <stdint.h>

#define EVAL_TOP 64u /* tokens of a distribution that are kept one by one */

/* A distribution over the vocabulary, its unlikely end as one bucket. */
typedef struct eval_distribution {
    uint32_t top;            /* min(EVAL_TOP, vocab) */
    int32_t ids[EVAL_TOP];   /* most likely first, the lower id on ties; distinct */
    double log_p[EVAL_TOP];  /* natural logarithm */
    double tail;             /* probability of all others together */
} eval_distribution;

/* log(sum(exp(logits))); not finite where a logit is not, or none is above minus infinity. vocab >= 1. */
double eval_log_sum(const float *logits, uint32_t vocab);
/* The distribution of a row whose eval_log_sum is `log_sum`. */
void eval_top(const float *logits, uint32_t vocab, double log_sum, eval_distribution *out);
/* KL(teacher || student) in nats, the student being a row of logits: sum of p log(p / q) over the teacher's top tokens and the two tails. Merging
 * the tail can only lower it (log-sum inequality): the result is a lower bound, exact when vocab <= EVAL_TOP. The teacher is brought to
 * sum 1 first, so that rounding of its stored numbers enters by its square only. Ids outside the vocabulary must not occur. */
double eval_kl(const eval_distribution *teacher, const float *logits, uint32_t vocab, double log_sum);

/* Sums for a mean over items that come in clusters (tokens in windows): items of one cluster depend on each other, so the standard error is
 * that of a ratio of sums over independent clusters (W. G. Cochran, Sampling Techniques, 1977, chapter 6). */
typedef struct eval_sums {
    double n, x, xx, xn, nn; /* of clusters: items, sum of values, and their products */
    size_t clusters;
} eval_sums;
typedef struct eval_estimate {
    double mean, se; /* se: NaN with fewer than two clusters; both NaN without items */
} eval_estimate;
void eval_sums_add(eval_sums *s, double sum_of_values, double items);
eval_estimate eval_sums_mean(const eval_sums *s);

/* Sorts the values; eval_quantile is then the smallest one that at least q (0 < q <= 1) of all n >= 1 do not exceed (nearest rank). */
void eval_sort(float *values, size_t n);
float eval_quantile(const float *sorted, size_t n, double q);

#endif
