/* The llama2.c importer: the first two bytes say how much of the input is the tokenizer, the rest is the checkpoint. */
#include "fuzz_import.h"

#include "bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[64];
    size_t tokenizer_bytes;

    if (size < 2)
        return 0;
    tokenizer_bytes = get_u16(data) < size - 2 ? get_u16(data) : size - 2;
    snprintf(path, sizeof path, "/tmp/infer-fuzz-%ld.tokenizer", (long)getpid());
    fuzz_write(path, data + 2, tokenizer_bytes);
    fuzz_import(data + 2 + tokenizer_bytes, size - 2 - tokenizer_bytes, ".bin", path);
    return 0;
}
