/* The model that learns: its shape, its weights, and what of them is trained. */
#ifndef INFER_DISTILL_STUDENT_H
#define INFER_DISTILL_STUDENT_H

#include "import/import.h"
#include "model/model.h"

/* How a tensor's weights come from its parameters. */
typedef enum distill_kind {
    DISTILL_FREE,   /* they are the parameters */
    DISTILL_CODES,  /* a parameter each, rounded to the grid that the tensor came with; where pruned, none */
    DISTILL_SCALES, /* codes stay, the scale of each group is a parameter */
    DISTILL_FIXED   /* not trained */
} distill_kind;

/* What is trained of a student that comes from a file. */
typedef enum distill_recovery {
    DISTILL_RECOVER_NONE,   /* everything, in floats */
    DISTILL_RECOVER_CODES,  /* norms, and codes on their grid */
    DISTILL_RECOVER_SCALES  /* norms and scales */
} distill_recovery;

typedef struct distill_tensor {
    infer_source_tensor info; /* stored: F32, or the grid's type */
    distill_kind kind;
    size_t weight, weights;   /* first one in the student's arrays, and how many; weights start at multiples of 16 */
    size_t param, params;
    size_t packed;            /* matrices: first float in the two packed arrays */
    uint32_t group;           /* inputs that share a scale */
    int8_t *codes;            /* [rows][cols], NULL: no grid */
    float *scales;            /* [rows][groups] */
    uint8_t *pruned;          /* [rows][cols]: stays 0 */
} distill_tensor;

/* Indices of a layer's tensors. */
typedef struct distill_layer {
    size_t attn_norm, q, k, v, attn_sub_norm, o, ffn_norm, gate, up, ffn_sub_norm, down;
} distill_layer;

typedef struct distill_student {
    infer_config config;
    char *metadata;
    void *vocab;
    size_t vocab_bytes;
    distill_tensor *tensors;
    size_t tensor_count;
    infer_source_tensor *infos; /* [tensor_count], for distill_student_source */
    distill_layer *layers;
    size_t tok_embed, out_norm, head; /* head is tok_embed where they are tied */
    size_t weights, params, packed_size;
    float *weight;              /* [weights] */
    float *param;               /* [params]; `weight` itself where all are free */
    float *packed, *packed_back; /* of every matrix w, and of its transpose */
} distill_student;

/* A new one: "dim=128,layers=4[,heads=,kv_heads=,ffn=,context=]", with the tokenizer section and begin and end tokens of `teacher`; weights drawn with
 * `seed`. ARGUMENT says what is wrong with the shape. */
infer_status distill_student_create(const char *shape, const infer_model *teacher, uint64_t seed, distill_student *out, infer_error *err);
/* From a file of any format that the importers know. UNSUPPORTED: its forward pass has parts that this trainer lacks, or nothing to recover.
 * whole_blocks: only where all 16 rows of a panel have a zero at an input, it counts as pruned; else every zero does. */
infer_status distill_student_open(const char *path, distill_recovery recovery, bool whole_blocks, distill_student *out, infer_error *err);
void distill_student_free(distill_student *s);

/* Tensor `index`: weights from parameters, and both packed forms, after parameters have changed. */
void distill_student_refresh(distill_student *s, size_t index);
/* gradient by weights -> by parameters of tensor `index`; the two arrays may be the same where it is free. */
void distill_student_pull_back(const distill_student *s, size_t index, const float *dweight, float *dparam);

/* The student as something that infer_convert reads; borrowed. */
void distill_student_source(const distill_student *s, infer_source *out);

#endif
