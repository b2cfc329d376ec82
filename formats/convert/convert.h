/* A source (import/import.h) -> one .infer file. */
#ifndef INFER_FORMATS_CONVERT_H
#define INFER_FORMATS_CONVERT_H

#include "convert/matrix.h"
#include "convert/prune.h"
#include "import/import.h"

/* "layers.*.down" -> q8g32: the glob (fnmatch) is matched with tensor names. */
typedef struct infer_convert_rule {
    const char *glob;
    infer_qtype type;
} infer_convert_rule;

/* "layers.*.down" -> 0.5: the share of the matrices' weights that become zero. */
typedef struct infer_convert_prune_rule {
    const char *glob;
    double rate; /* 0..1 */
} infer_convert_prune_rule;

typedef struct infer_convert_progress {
    const char *tensor;
    uint64_t bytes, total_bytes; /* of tensor data written, and to be written; 0 and 0 while layouts are chosen */
} infer_convert_progress;

/* A matrix that is there already. */
typedef struct infer_convert_packed {
    infer_matrix_choice choice;
    const void *data; /* choice.bytes of it; NULL: the tensor is converted from the source */
} infer_convert_packed;

typedef struct infer_convert_options {
    infer_qtype type;                /* of every matrix that no rule names; NONE: as the source stores it */
    const infer_convert_rule *rules; /* the last one that matches wins; one that matches no matrix is an error */
    size_t rule_count;
    const infer_costs *sparse; /* matrices in q4g64 and q8g64 get the layout that infer_matrix_choose finds with these costs; where none is of
                                * these types, ARGUMENT. NULL: cols, or that of the source where it is stored so */
    bool overwrite;
    /* Called after each panel of 16 rows. Nonzero ends the conversion with CANCELLED. May be NULL. */
    int (*progress)(void *user, const infer_convert_progress *p);
    /* Called for each tensor before anything is written: what it becomes, and why. May be NULL. */
    void (*explain)(void *user, const infer_source_tensor *tensor, infer_qtype type, const infer_matrix_choice *choice);
    void *user;
    const infer_qtype *types;           /* [tensors of the source], in place of type and rules; NULL: as these say */
    const infer_convert_packed *packed; /* [tensors of the source], of their types; NULL: none */
    const char *metadata;               /* instead of the source's; NULL: the source's */
    const double *rates; /* [tensors of the source] share to prune by magnitude of a matrix that is not in `packed`; NULL: none */
    infer_prune_block block;
} infer_convert_options;

typedef struct infer_convert_result {
    uint64_t tensor_bytes, weights; /* weights: numbers in all tensors */
    size_t tensors;
} infer_convert_result;

/* The type of each of the source's tensors in the new file, by `type` and `rules`: types [tensors]. ARGUMENT: rules, `sparse`. */
infer_status infer_convert_types(const infer_source *s, const infer_convert_options *options, infer_qtype *types, infer_error *err);

/* The share of each tensor to be pruned: `rate` for the matrices of the layers, and what the rules say, the last one that matches: rates
 * [tensors]. ARGUMENT: a rule that matches no matrix, or the embeddings, whose rows are looked up; a matrix that the block does not fit. */
infer_status infer_convert_rates(const infer_source *s, double rate, const infer_convert_prune_rule *rules, size_t rule_count,
                                 infer_prune_block block, double *rates, infer_error *err);

/* Matrices get the chosen types, in tile16x4, in cols or in a sparse layout, everything else f32 rows. Codes are carried over bit for bit when
 * the type stays, from cols to cols and from a sparse layout to the same. Memory: 16 rows, with `rates` a few times that; for cols and sparse
 * layouts a matrix, in floats and as it is stored, and with `sparse` the source is read twice. On failure nothing is left behind and an
 * existing file is as it was. ARGUMENT: rules, `sparse`; CORRUPT, FORMAT, IO, UNSUPPORTED: the source; FORMAT also for values that are not
 * finite or too large for the type; `result` may be NULL. */
infer_status infer_convert(const infer_allocator *a, const infer_source *s, const char *path, const infer_convert_options *options,
                           infer_convert_result *result, infer_error *err);

#endif
