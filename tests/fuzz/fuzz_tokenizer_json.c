/* Hugging Face's tokenizer.json. */
#include "fuzz_vocab_import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_vocab_import(data, size, ".json");
    return 0;
}
