#include "convert/cholesky.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

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

#define ROWS 8u /* that go over the rows before them at once, so that each of those is fetched once for all */

bool infer_cholesky(double *a, uint32_t k)
{
    for (size_t first = 0; first < k; first += ROWS) {
        size_t end = k - first < ROWS ? k : first + ROWS;
        for (size_t j = 0; j < end; j++)
            for (size_t i = j < first ? first : j; i < end; i++) {
                double *row = a + i * k, left = row[j] - dot(row, a + j * k, (uint32_t)j);
                if (i > j) {
                    row[j] = left / a[j * k + j];
                    continue;
                }
                if (!(left > 0) || !isfinite(left))
                    return false;
                row[j] = sqrt(left);
            }
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

void infer_cholesky_inverse(const double *l, uint32_t k, double *inverse)
{
    size_t n = k;

    for (size_t i = 0; i < n; i++) { /* L^-1, row by row */
        double *row = inverse + i * n;
        memset(row, 0, n * sizeof *row);
        row[i] = 1;
        for (size_t m = 0; m < i; m++)
            for (size_t j = 0; j <= m; j++)
                row[j] -= l[i * n + m] * inverse[m * n + j];
        for (size_t j = 0; j <= i; j++)
            row[j] /= l[i * n + i];
    }
    for (size_t i = 0; i < n; i++) /* its transpose times itself: row i needs rows from i on only */
        for (size_t m = i; m < n; m++) {
            double factor = inverse[m * n + i];
            double *row = inverse + i * n;
            if (m == i) {
                for (size_t j = 0; j <= i; j++)
                    row[j] *= factor;
                continue;
            }
            for (size_t j = 0; j <= i; j++)
                row[j] += factor * inverse[m * n + j];
        }
}
