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

static inline void put_u16(void *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static inline void put_u32(void *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static inline void put_u64(void *p, uint64_t v) { memcpy(p, &v, sizeof v); }

#endif
