/* Two small drawings. */
#ifndef INFER_BENCH_SVG_H
#define INFER_BENCH_SVG_H

#include <stddef.h>
#include <stdio.h>

typedef struct infer_svg_point {
    char label[96];  /* of a bar; any text */
    double x, value; /* x: of a curve; value >= 0 */
} infer_svg_point;

/* Horizontal bars with their values, and a curve through points in the order given; `unit` is that of the values. n >= 1. */
void infer_svg_bars(FILE *f, const char *title, const char *unit, const infer_svg_point *points, size_t n);
void infer_svg_curve(FILE *f, const char *title, const char *x_name, const char *unit, const infer_svg_point *points, size_t n);

#endif
