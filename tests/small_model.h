/* The smallest models that do everything: a Llama of one layer with two heads of 16, its weights a pattern, in f32. */
#ifndef INFER_TESTS_SMALL_MODEL_H
#define INFER_TESTS_SMALL_MODEL_H

#include "core/core.h"

enum { SMALL_MODEL_VOCAB = 16 };

typedef struct small_model {
    bool tokenizer; /* of seven tokens: the unknown, begin and end token, a space, "a", "b", "ab"; the model names no end token */
    bool bad_map;   /* its map of characters leads outside itself */
    bool events;    /* calibrated, though no matrix is stored input by input */
    bool cols;      /* embeddings in the layout cols, which no kernel reads */
    bool unknown;   /* an architecture that there is not */
} small_model;

/* `path` must not exist. */
infer_status small_model_write(const char *path, const small_model *m, infer_error *err);

#endif
