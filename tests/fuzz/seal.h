/* A .infer file whose sizes and hashes are made right: else nothing behind them would ever be reached. */
#ifndef INFER_TESTS_FUZZ_SEAL_H
#define INFER_TESTS_FUZZ_SEAL_H

#include "fuzz.h"

#include "bytes.h"
#include "layout.h"

#include <xxhash.h>

static inline void fuzz_seal_part(uint8_t *p, size_t size, size_t offset_at, size_t bytes_at, size_t hash_at)
{
    uint64_t offset = get_u64(p + offset_at), bytes = get_u64(p + bytes_at);
    if (offset <= size && bytes <= size - offset)
        put_u64(p + hash_at, XXH3_64bits(p + offset, bytes));
}

/* The path of such a file. */
static inline const char *fuzz_sealed(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    const char *path;

    FUZZ_REQUIRE(copy);
    memcpy(copy, data, size);
    if (size >= HEADER_BYTES) {
        put_u64(copy + HEADER_FILE_BYTES, size);
        fuzz_seal_part(copy, size, HEADER_META_OFFSET, HEADER_META_BYTES, HEADER_META_HASH);
        fuzz_seal_part(copy, size, HEADER_VOCAB_OFFSET, HEADER_VOCAB_BYTES, HEADER_VOCAB_HASH);
        fuzz_seal_part(copy, size, HEADER_DIR_OFFSET, HEADER_DIR_BYTES, HEADER_DIR_HASH);
        put_u64(copy + HEADER_HASH, XXH3_64bits(copy, HEADER_HASH));
    }
    path = fuzz_file("model.infer", copy, size);
    free(copy);
    return path;
}

#endif
