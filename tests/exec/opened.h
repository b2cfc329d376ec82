/* A runtime, a model and a session, for tests of this folder that need all three. */
#ifndef INFER_TESTS_EXEC_OPENED_H
#define INFER_TESTS_EXEC_OPENED_H

#include <infer/infer.h>
#include <stdbool.h>
#include <stdio.h>

typedef struct opened {
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
} opened;

/* Options as in infer.h, NULL: all defaults. False, and a line of TAP that says why; to be closed in any case. */
static inline bool open_all(const char *path, const infer_runtime_options *runtime, const infer_model_options *model,
                            const infer_session_options *session, opened *out)
{
    infer_error err = {INFER_OK, ""};
    *out = (opened){NULL, NULL, NULL};
    if (infer_runtime_create(runtime, &out->rt, &err) == INFER_OK && infer_model_open(out->rt, path, model, &out->model, &err) == INFER_OK &&
        infer_session_create(out->model, session, &out->session, &err) == INFER_OK)
        return true;
    printf("# %s\n", err.message);
    return false;
}

static inline void close_all(opened *o)
{
    infer_session_destroy(o->session);
    infer_model_close(o->model);
    infer_runtime_destroy(o->rt);
}

#endif
