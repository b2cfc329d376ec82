#include "text/tables.h"

static bool pairs_allocate(infer_pair_table *p, const infer_allocator *a, unsigned log2_slots)
{
    size_t n = (size_t)1 << log2_slots;
    p->slots = infer_alloc(a, n * sizeof *p->slots);
    if (!p->slots)
        return false;
    for (size_t i = 0; i < n; i++)
        p->slots[i].left = INFER_NO_SYMBOL;
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
    memset(p->joints, 0, sizeof p->joints);
    return pairs_allocate(p, a, log2_slots);
}

void infer_pairs_free(infer_pair_table *p, const infer_allocator *a)
{
    infer_free(a, p->slots);
    p->slots = NULL;
}

static void pairs_put(infer_pair_table *p, infer_pair pair)
{
    uint64_t i = infer_pair_hash(pair.left, pair.right) >> p->shift;
    while (p->slots[i].left != INFER_NO_SYMBOL)
        i = (i + 1) & p->mask;
    p->slots[i] = pair;
    p->used++;
}

bool infer_pairs_add(infer_pair_table *p, const infer_allocator *a, infer_pair pair, uint8_t end, uint8_t begin)
{
    if (infer_pairs_find(p, pair.left, pair.right))
        return true;
    if (p->used > p->mask / 2) { /* never more than half full */
        infer_pair_table grown;
        if (!pairs_allocate(&grown, a, 65 - p->shift))
            return false;
        for (uint64_t i = 0; i <= p->mask; i++)
            if (p->slots[i].left != INFER_NO_SYMBOL)
                pairs_put(&grown, p->slots[i]);
        infer_free(a, p->slots);
        p->slots = grown.slots;
        p->mask = grown.mask;
        p->shift = grown.shift;
    }
    pairs_put(p, pair);
    p->joints[end][begin >> 5] |= 1u << (begin & 31);
    return true;
}

static bool chars_allocate(infer_char_table *c, const infer_allocator *a, uint32_t slots)
{
    c->slots = infer_alloc_array(a, slots, sizeof *c->slots);
    c->mask = slots - 1;
    return c->slots != NULL;
}

bool infer_chars_init(infer_char_table *c, const infer_allocator *a)
{
    memset(c->single, 0xff, sizeof c->single); /* INFER_NO_SYMBOL */
    c->used = 0;
    return chars_allocate(c, a, 256);
}

void infer_chars_free(infer_char_table *c, const infer_allocator *a)
{
    infer_free(a, c->slots);
    c->slots = NULL;
}

static void chars_put(infer_char_table *c, infer_char ch)
{
    uint32_t i = infer_char_hash(ch.bytes) & c->mask;
    while (c->slots[i].bytes)
        i = (i + 1) & c->mask;
    c->slots[i] = ch;
}

bool infer_chars_add(infer_char_table *c, const infer_allocator *a, const char *p, unsigned n, uint32_t symbol)
{
    uint32_t bytes = infer_char_pack(p, n);
    if (infer_chars_find(c, bytes) != INFER_NO_SYMBOL)
        return true;
    if (bytes < 256) {
        c->single[bytes] = symbol;
        return true;
    }
    if (c->used > c->mask / 2) { /* at most 1.1 million characters exist: the mask does not overflow */
        infer_char_table grown;
        if (!chars_allocate(&grown, a, 2 * (c->mask + 1)))
            return false;
        for (uint32_t i = 0; i <= c->mask; i++)
            if (c->slots[i].bytes)
                chars_put(&grown, c->slots[i]);
        infer_free(a, c->slots);
        c->slots = grown.slots;
        c->mask = grown.mask;
    }
    chars_put(c, (infer_char){bytes, symbol});
    c->used++;
    return true;
}
