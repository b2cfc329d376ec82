/* SentencePiece's .model; the first bytes are made right, or llama2.c's tokenizer.bin would be tried. */
#include "fuzz_vocab_import.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    if (size > 2)
        copy[0] = copy[2] = 0x0a;
    fuzz_vocab_import(copy, size, ".model");
    free(copy);
    return 0;
}
