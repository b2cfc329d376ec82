/* Models for the end-to-end suites: real ones converted on the fly, and a random one of any size. Every path is removed at the end of the
 * test. */
#ifndef INFER_TESTS_MODELS_H
#define INFER_TESTS_MODELS_H

#include "check.h"

/* Converts test data `name` ("models/stories260K/stories260K.bin") with the tokenizer file `tokenizer` (may be NULL) to a temporary .infer
 * file of type `type` ("q8g32"; NULL: as stored). NULL when the data is absent. The result is valid until models_clean. */
const char *model_converted(const char *name, const char *tokenizer, const char *type);
/* The same of a folder, f32, each 32 numbers of a matrix rounded as ggml does for its type Q8_0. */
const char *model_rounded_q8_0(const char *name);
/* A random Llama without a tokenizer, about `bytes` large, q8g32. */
const char *model_random(size_t bytes);
void models_clean(void);

/* A runtime, a model and a session; asserts that all open. */
typedef struct model_open {
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
} model_open;
typedef struct model_settings {
    const char *level; /* NULL: the best */
    uint32_t threads, batch, logit_rows, context;
    infer_kv_type kv;
} model_settings;
model_open model_start(const char *path, const model_settings *s);
void model_stop(model_open *m);
/* Greedy continuation of `prompt` by at most n tokens, prompt included, as text to be freed with free(). */
char *model_greedy(const char *path, const model_settings *s, const char *prompt, size_t n);

#endif
