/* What the logits of stories260K must be, at every CPU level, on every architecture, for any threads and batches: shared by full_logits.c, which runs
 * on emulated CPUs, and tests/e2e, which takes the long way through file and session. */
#ifndef INFER_TESTS_EMULATE_FULL_LOGITS_H
#define INFER_TESTS_EMULATE_FULL_LOGITS_H

#include "qtypes.h"

#include <stddef.h>
#include <stdint.h>

enum { FULL_LOGITS_TOKENS = 40, FULL_LOGITS_VOCAB = 512 };

/* FNV-1a of the logits of all tokens, [FULL_LOGITS_TOKENS][FULL_LOGITS_VOCAB] floats. */
static const struct {
    infer_qtype type, kv; /* of the matrices, of the KV cache */
    uint64_t hash;
} full_logits_expected[] = {
    {INFER_QTYPE_Q4G32, INFER_QTYPE_F16, 0x8dafa44c2f668f08},
    {INFER_QTYPE_Q8G32, INFER_QTYPE_F16, 0x026d4a404fb1e5d9},
    {INFER_QTYPE_N4G32, INFER_QTYPE_F16, 0x0e140269e093751b},
    {INFER_QTYPE_Q4G32, INFER_QTYPE_F32, 0x4a8301a7bfab2723},
    {INFER_QTYPE_Q8G32, INFER_QTYPE_F32, 0xec309acee036a929},
    {INFER_QTYPE_N4G32, INFER_QTYPE_F32, 0x4e3028735e63640a},
};

/* Token i of the input: the start token, then ids all over the vocabulary. */
static inline int32_t full_logits_id(uint32_t i) { return i == 0 ? 1 : (int32_t)((i * 173 + 29) % FULL_LOGITS_VOCAB); }

static inline uint64_t full_logits_hash(const float *logits, size_t count)
{
    const uint8_t *p = (const uint8_t *)logits;
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < count * sizeof *logits; i++)
        hash = (hash ^ p[i]) * 0x100000001b3;
    return hash;
}

#endif
