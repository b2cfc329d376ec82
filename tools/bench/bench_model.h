/* What the ways of infer-bench share: models from files or of random weights. */
#ifndef INFER_TOOLS_BENCH_MODEL_H
#define INFER_TOOLS_BENCH_MODEL_H

#include "shapes.h"

#include <infer/infer.h>

typedef struct bench_model {
    const char *path;         /* NULL: of random weights */
    const infer_shape *shape;
    infer_qtype type;
    infer_prune prune;        /* of the shape */
    const char *folder, *keep; /* for the file of random weights; NULL: a temporary one */
} bench_model;

/* From now on interrupts are caught, and temporary files are removed at the end. */
void bench_start(void);
/* Ends the program where the status is not OK. */
void bench_check(infer_status status, const infer_error *err);
/* Opens it, written before if need be. Failure ends the program. */
infer_model *bench_open(const bench_model *m, infer_runtime *rt);
const char *bench_name(const bench_model *m);

#endif
