/* The files that infer-eval reads back: teachers and states. */
#include "fuzz.h"

#include "eval/results.h"
#include "eval/teacher.h"

static void fuzz_one(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("teacher", data, size);
    infer_error err;
    eval_teacher t;
    eval_results r;
    eval_distribution d;
    double log_p;

    if (eval_teacher_open(path, &t, &err) == INFER_OK) {
        for (uint64_t i = 0; i < t.setting.tokens; i++)
            eval_teacher_record(&t, i, &d, &log_p);
        eval_teacher_close(&t);
    }
    if (eval_results_create(7, 3, (uint32_t[]){1, 2, 1}, 4, &r, &err) == INFER_OK) {
        eval_results_attach(&r, path, &err);
        eval_results_free(&r);
    }
}
