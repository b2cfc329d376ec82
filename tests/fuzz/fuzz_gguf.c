/* The GGUF importer, its vocabularies among it. */
#include "fuzz_import.h"
#include "fuzz_vocab_import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_import(data, size, ".gguf", NULL);
    fuzz_vocab_import(data, size, ".gguf");
    return 0;
}
