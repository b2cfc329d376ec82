/* A GGUF model in two parts: the first four bytes say how much of the input is the first, opened by either. */
#include "fuzz_import.h"

#include "bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char first[64], second[64];
    size_t bytes;

    if (size < 4)
        return 0;
    bytes = get_u32(data) < size - 4 ? get_u32(data) : size - 4;
    snprintf(first, sizeof first, "/tmp/infer-fuzz-%ld-00001-of-00002.gguf", (long)getpid());
    snprintf(second, sizeof second, "/tmp/infer-fuzz-%ld-00002-of-00002.gguf", (long)getpid());
    fuzz_write(first, data + 4, bytes);
    fuzz_write(second, data + 4 + bytes, size - 4 - bytes);
    fuzz_import_path(first, NULL);
    fuzz_import_path(second, NULL);
    unlink(first);
    unlink(second);
    return 0;
}
