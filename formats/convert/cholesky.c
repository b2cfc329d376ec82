#include "convert/cholesky.h"

#include <math.h>
#include <stddef.h>

/* Four sums, in a fixed order. */
static double dot(const double *a, const double *b, uint32_t n)
{
    double sums[4] = {0};
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (uint32_t j = 0; j < 4; j++)
            sums[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sums[0] += a[i] * b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

bool infer_cholesky(double *a, uint32_t k)
{
    for (size_t i = 0; i < k; i++) {
        double *row = a + i * k, pivot;
        for (size_t j = 0; j < i; j++)
            row[j] = (row[j] - dot(row, a + j * k, (uint32_t)j)) / a[j * k + j];
        pivot = row[i] - dot(row, row, (uint32_t)i);
        if (!(pivot > 0) || !isfinite(pivot))
            return false;
        row[i] = sqrt(pivot);
    }
    return true;
}

void infer_cholesky_solve(const double *l, uint32_t k, double *b)
{
    for (size_t i = 0; i < k; i++)
        b[i] = (b[i] - dot(l + i * k, b, (uint32_t)i)) / l[i * k + i];
    for (size_t i = k; i-- > 0;) {
        b[i] /= l[i * k + i];
        for (size_t j = 0; j < i; j++)
            b[j] -= l[i * k + j] * b[i];
    }
}
