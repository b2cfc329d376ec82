/* The GGUF importer, its vocabularies among it. */
#include "fuzz_import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    infer_error err;
    void *section;
    size_t bytes;

    fuzz_import(data, size, ".gguf", NULL);
    if (infer_vocab_import(NULL, fuzz_file(data, size, ".gguf"), &section, &bytes, &err) == INFER_OK)
        infer_free(NULL, section);
    return 0;
}
