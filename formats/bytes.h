/* Little-endian numbers at any address, for this folder only. */
#ifndef INFER_FORMATS_BYTES_H
#define INFER_FORMATS_BYTES_H

#include <stdint.h>
#include <string.h>

/* Tensors and vocabulary arrays are used where they lie in the file, so the host must have the file's byte order. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "libinfer needs a little-endian machine");

static inline uint16_t get_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t get_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t get_u64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline float get_f32(const void *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* IEEE 754 half precision, all values. */
static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu, bits;
    if (exponent == 0) { /* zero or subnormal: fraction x 2^-24, exact */
        float v = (float)fraction * 0x1p-24f;
        return sign ? -v : v;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
    return get_f32(&bits);
}

static inline float bf16_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    return get_f32(&bits);
}

static inline void put_u16(void *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static inline void put_u32(void *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static inline void put_u64(void *p, uint64_t v) { memcpy(p, &v, sizeof v); }

#endif
