/* The safetensors container: every number of every tensor that a file is found to hold. */
#include "fuzz.h"

#include "import/safetensors.h"

static void fuzz_one(const uint8_t *data, size_t size)
{
    infer_error err;
    infer_safetensors s;

    if (infer_safetensors_open(NULL, fuzz_file("model.safetensors", data, size), false, &s, &err) != INFER_OK)
        return;
    for (size_t i = 0; i < s.tensor_count; i++) {
        const infer_safetensor *t = &s.tensors[i];
        float last = 0;
        if (t->type == INFER_SAFETENSORS_OTHER || infer_safetensors_find(&s, t->name) != t)
            continue;
        for (uint64_t r = 0; t->cols && r < t->rows; r++)
            for (uint64_t c = 0; c < t->cols; c++)
                infer_safetensors_read(&s, t, r, c, 1, &last, 1);
    }
    infer_safetensors_close(&s);
}
