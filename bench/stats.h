/* Medians and spreads of a few numbers. */
#ifndef INFER_BENCH_STATS_H
#define INFER_BENCH_STATS_H

#include <stddef.h>

/* Sorts v[n], n >= 1, in place, and returns its median. */
double infer_median(double *v, size_t n);
/* (largest - smallest) / median of v[n], n >= 1, sorted by infer_median; 0 when the median is 0. */
double infer_spread(const double *v, size_t n);

#endif
