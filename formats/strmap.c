#include "strmap.h"

#include <string.h>
#include <xxhash.h>

bool infer_strmap_init(infer_strmap *m, const infer_allocator *a, size_t count, uint64_t seed)
{
    size_t slots = 16;
    while (slots / 2 < count)
        slots *= 2;
    m->slots = infer_alloc_array(a, slots, sizeof *m->slots);
    m->mask = slots - 1;
    m->seed = seed;
    return m->slots != NULL;
}

void infer_strmap_free(infer_strmap *m, const infer_allocator *a)
{
    infer_free(a, m->slots);
    m->slots = NULL;
}

/* The slot of the key, or the free one where it belongs. */
static infer_strmap_slot *slot_of(const infer_strmap *m, const char *key, size_t bytes)
{
    uint64_t i = XXH3_64bits_withSeed(key, bytes, m->seed) & m->mask;
    while (m->slots[i].key && (m->slots[i].bytes != bytes || memcmp(m->slots[i].key, key, bytes) != 0))
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

uint32_t infer_strmap_put(infer_strmap *m, const char *key, uint32_t bytes, uint32_t value)
{
    infer_strmap_slot *s = slot_of(m, key, bytes);
    if (s->key)
        return s->value;
    *s = (infer_strmap_slot){key, bytes, value};
    return INFER_STRMAP_NONE;
}

uint32_t infer_strmap_get(const infer_strmap *m, const char *key, size_t bytes)
{
    const infer_strmap_slot *s = slot_of(m, key, bytes);
    return s->key ? s->value : INFER_STRMAP_NONE;
}
