/* Numbers drawn by place: number i of a stream is a function of both alone, so that nothing has to be remembered between steps. */
#ifndef INFER_DISTILL_RANDOM_H
#define INFER_DISTILL_RANDOM_H

#include <stdint.h>

/* SplitMix64's finisher (Steele, Lea, Flood 2014) over both numbers. */
static inline uint64_t distill_mix(uint64_t stream, uint64_t i)
{
    uint64_t z = stream + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* In [0, 1). */
static inline double distill_uniform(uint64_t stream, uint64_t i) { return (double)(distill_mix(stream, i) >> 11) * 0x1p-53; }

/* Nearly normal, mean 0, variance 1: twelve uniform numbers; exact sums, the same on every machine. */
static inline double distill_normal(uint64_t stream, uint64_t i)
{
    double sum = -6;
    for (uint64_t j = 0; j < 12; j++)
        sum += distill_uniform(stream, 12 * i + j);
    return sum;
}

#endif
