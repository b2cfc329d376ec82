/* States of sessions (model/state.c) that are made wrong on purpose. */
#ifndef INFER_TESTS_STATE_H
#define INFER_TESTS_STATE_H

#include "bytes.h"

#include <xxhash.h>

enum { STATE_BYTES_AT = 16, STATE_MODEL_AT = 24, STATE_HASH_AT = 56, STATE_HEADER_BYTES = 64 };

/* Makes the hash right, so that a change is found by its own check. */
static inline void state_seal(uint8_t *state, size_t bytes)
{
    uint64_t seed = XXH3_64bits(state, STATE_HASH_AT);
    put_u64(state + STATE_HASH_AT, XXH3_64bits_withSeed(state + STATE_HEADER_BYTES, bytes - STATE_HEADER_BYTES, seed));
}

#endif
