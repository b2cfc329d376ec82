/* Strings -> small numbers: tensor names, token texts. Open addressing; the keys stay the caller's and must outlive the map. */
#ifndef INFER_FORMATS_STRMAP_H
#define INFER_FORMATS_STRMAP_H

#include "core/core.h"

#define INFER_STRMAP_NONE 0xffffffffu

typedef struct infer_strmap_slot {
    const char *key; /* NULL: free */
    uint32_t bytes, value;
} infer_strmap_slot;

typedef struct infer_strmap {
    infer_strmap_slot *slots;
    uint64_t mask, seed;
} infer_strmap;

/* Room for `count` keys (at most 2^31), never more than half full. The seed makes collisions hard to prepare. False: no memory. */
bool infer_strmap_init(infer_strmap *m, const infer_allocator *a, size_t count, uint64_t seed);
void infer_strmap_free(infer_strmap *m, const infer_allocator *a);
/* Adds the key and returns NONE, or leaves the map alone and returns the value that the key already has. */
uint32_t infer_strmap_put(infer_strmap *m, const char *key, uint32_t bytes, uint32_t value);
/* NONE when the key is not there. */
uint32_t infer_strmap_get(const infer_strmap *m, const char *key, size_t bytes);

#endif
