#include "core/core.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* a cache line, and the widest vector */

void *infer_alloc(const infer_allocator *a, size_t bytes)
{
    if (bytes == 0 || bytes > SIZE_MAX - ALIGNMENT)
        return NULL;
    if (a && a->alloc)
        return a->alloc(a->user, bytes);
    return aligned_alloc(ALIGNMENT, infer_round_up(bytes, ALIGNMENT));
}

void *infer_alloc_zero(const infer_allocator *a, size_t bytes)
{
    void *p = infer_alloc(a, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void *infer_alloc_array(const infer_allocator *a, size_t count, size_t bytes)
{
    uint64_t total;
    if (infer_mul_overflows(count, bytes, &total) || total > SIZE_MAX)
        return NULL;
    return infer_alloc_zero(a, (size_t)total);
}

bool infer_grow(const infer_allocator *a, void *p, size_t *cap, size_t need, size_t element_bytes)
{
    void *old, *grown;
    size_t want = *cap ? *cap : 16;
    uint64_t total;
    if (need <= *cap)
        return true;
    while (want < need)
        if (infer_mul_overflows(want, 2, &total) || (want = (size_t)total) != total)
            return false;
    memcpy(&old, p, sizeof old);
    if (infer_mul_overflows(want, element_bytes, &total) || total > SIZE_MAX || !(grown = infer_alloc(a, (size_t)total)))
        return false;
    if (old)
        memcpy(grown, old, *cap * element_bytes);
    infer_free(a, old);
    memcpy(p, &grown, sizeof grown);
    *cap = want;
    return true;
}

void infer_free(const infer_allocator *a, void *p)
{
    if (!p)
        return;
    if (a && a->free)
        a->free(a->user, p);
    else
        free(p);
}
