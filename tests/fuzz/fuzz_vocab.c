/* The tokenizer section, in memory that ends where it ends. */
#include "fuzz.h"

#include "vocab.h"

#include <string.h>

static volatile uint64_t sink; /* so that the reads below are not optimised away */

static void fuzz_one(const uint8_t *data, size_t size)
{
    infer_error err;
    infer_vocab_view v;
    uint8_t *copy = malloc(size ? size : 1);
    uint64_t sum = 0;

    memcpy(copy, data, size);
    if (infer_vocab_parse(copy, size, "fuzz", &v, &err) == INFER_OK) {
        for (uint32_t i = 0; i < v.tokens; i++)
            for (uint32_t j = i ? v.ends[i - 1] : 0; j < v.ends[i]; j++)
                sum += (uint8_t)v.text[j];
        for (uint32_t i = 0; i < v.merges; i++)
            sum += v.ends[v.merge[i][0]] + v.ends[v.merge[i][1]];
    }
    free(copy);
    sink = sum;
}
