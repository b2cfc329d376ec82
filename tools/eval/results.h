/* Results of an evaluation, unit by unit (a window, a question), and the state file that lets an interrupted one go on. SPEC.md describes its bytes.
 * The report is a function of the results alone: that is why a resumed evaluation says the same as one in a single piece. */
#ifndef INFER_TOOLS_EVAL_RESULTS_H
#define INFER_TOOLS_EVAL_RESULTS_H

#include "core/core.h"

typedef struct eval_results {
    uint64_t job;    /* hash of all that decides the results: model, text, settings */
    size_t units, done;
    size_t *starts;  /* [units + 1]: unit u's bytes are data[starts[u] .. starts[u + 1]) */
    uint8_t *data;
    int fd;          /* of the state file, -1: none */
    const char *path; /* borrowed */
} eval_results;

/* Room for `units` units, unit u of items[u] x item_bytes bytes; items NULL: of item_bytes. MEMORY. */
infer_status eval_results_create(uint64_t job, size_t units, const uint32_t *items, size_t item_bytes, eval_results *out, infer_error *err);
/* Reads what the file at `path` (made when missing) holds of this job, and appends to it from now on. A last unit that was cut off is
 * dropped. ARGUMENT: it belongs to another job. FORMAT, CORRUPT, IO. */
infer_status eval_results_attach(eval_results *r, const char *path, infer_error *err);
/* Unit `done` has its bytes: counts it, and appends it to the file. IO. */
infer_status eval_results_add(eval_results *r, infer_error *err);
void eval_results_free(eval_results *r);

#endif
