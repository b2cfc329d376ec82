#include "core/core.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* a cache line, and the widest vector */

/* The C library's blocks, aligned by hand: its aligned_alloc has no form that gets zeroed pages from the system without touching them, and
 * a KV cache is mostly never touched. The pointer to free stands before the block. */
static void *default_alloc(size_t bytes, bool zero)
{
    size_t total = bytes + sizeof(void *) + ALIGNMENT - 1;
    char *base = zero ? calloc(1, total) : malloc(total), *block;
    if (!base)
        return NULL;
    block = base + sizeof(void *);
    block += -(uintptr_t)block & (ALIGNMENT - 1);
    memcpy(block - sizeof(void *), &base, sizeof base);
    return block;
}

static void default_free(void *p)
{
    void *base;
    memcpy(&base, (char *)p - sizeof(void *), sizeof base);
    free(base);
}

void *infer_alloc(const infer_allocator *a, size_t bytes)
{
    if (bytes == 0 || bytes > SIZE_MAX / 2)
        return NULL;
    return a && a->alloc ? a->alloc(a->user, bytes) : default_alloc(bytes, false);
}

void *infer_alloc_zero(const infer_allocator *a, size_t bytes)
{
    void *p;
    if (!a || !a->alloc)
        return bytes == 0 || bytes > SIZE_MAX / 2 ? NULL : default_alloc(bytes, true);
    p = infer_alloc(a, bytes);
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
        default_free(p);
}
