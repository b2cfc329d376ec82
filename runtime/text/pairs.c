#include "text/tables.h"

static bool allocate(infer_pair_table *p, const infer_allocator *a, unsigned log2_slots)
{
    size_t n = (size_t)1 << log2_slots;
    p->slots = infer_alloc(a, n * sizeof *p->slots);
    if (!p->slots)
        return false;
    memset(p->slots, 0xff, n * sizeof *p->slots); /* INFER_NO_SYMBOL */
    p->mask = n - 1;
    p->shift = 64 - log2_slots;
    p->used = 0;
    return true;
}

bool infer_pairs_init(infer_pair_table *p, const infer_allocator *a, size_t expected)
{
    unsigned log2_slots = 6;
    while (((size_t)1 << log2_slots) / 2 < expected)
        log2_slots++;
    return allocate(p, a, log2_slots);
}

void infer_pairs_free(infer_pair_table *p, const infer_allocator *a)
{
    infer_free(a, p->slots);
    p->slots = NULL;
}

/* The pair's slot, or the free one where it belongs. */
static infer_pair *slot_of(const infer_pair_table *p, uint32_t left, uint32_t right)
{
    uint64_t i = infer_pair_hash(left, right) >> p->shift;
    while (p->slots[i].left != INFER_NO_SYMBOL && (p->slots[i].left != left || p->slots[i].right != right))
        i = (i + 1) & p->mask;
    return &p->slots[i];
}

infer_pair *infer_pairs_add(infer_pair_table *p, const infer_allocator *a, infer_pair pair)
{
    infer_pair *slot = slot_of(p, pair.left, pair.right);
    if (slot->left != INFER_NO_SYMBOL)
        return slot;
    if (p->used > p->mask / 2) { /* never more than half full */
        infer_pair_table grown;
        if (!allocate(&grown, a, 65 - p->shift))
            return NULL;
        for (uint64_t i = 0; i <= p->mask; i++)
            if (p->slots[i].left != INFER_NO_SYMBOL)
                *slot_of(&grown, p->slots[i].left, p->slots[i].right) = p->slots[i];
        grown.used = p->used;
        infer_free(a, p->slots);
        *p = grown;
        slot = slot_of(p, pair.left, pair.right);
    }
    *slot = pair;
    p->used++;
    return slot;
}
