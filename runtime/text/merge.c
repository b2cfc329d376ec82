#include "text/tables.h"

#define SMALL 24 /* most parts are words: looking through all pairs beats a heap up to about this many symbols */

/* Finds the best pair by looking at all of them, merges it, and closes the gap. */
static size_t merge_small(const infer_pair_table *p, infer_symbol *s, size_t n)
{
    const infer_pair *pair[SMALL];
    for (size_t i = 0; i + 1 < n; i++)
        pair[i] = infer_pairs_find(p, s[i].id, s[i + 1].id);
    while (n > 1) {
        size_t best = n;
        uint32_t rank = INFER_NO_SYMBOL;
        for (size_t i = 0; i + 1 < n; i++)
            if (pair[i] && pair[i]->rank < rank) {
                rank = pair[i]->rank;
                best = i;
            }
        if (best == n)
            break;
        s[best].id = pair[best]->merged;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            s[i] = s[i + 1];
            pair[i - 1] = pair[i];
        }
        if (best > 0)
            pair[best - 1] = infer_pairs_find(p, s[best - 1].id, s[best].id);
        if (best + 1 < n)
            pair[best] = infer_pairs_find(p, s[best].id, s[best + 1].id);
    }
    return n;
}

static void heap_down(infer_merge_entry *heap, size_t n, size_t i)
{
    infer_merge_entry e = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1].order < heap[child].order)
            child++;
        if (e.order <= heap[child].order)
            break;
        heap[i] = heap[child];
    }
    heap[i] = e;
}

static void heap_up(infer_merge_entry *heap, size_t i)
{
    infer_merge_entry e = heap[i];
    for (size_t parent; i > 0 && e.order < heap[parent = (i - 1) / 2].order; i = parent)
        heap[i] = heap[parent];
    heap[i] = e;
}

/* 1 and an entry when the symbols at two adjacent positions are a pair. */
static size_t heap_entry(const infer_pair_table *p, const infer_symbol *s, uint32_t left, uint32_t right, infer_merge_entry *out)
{
    const infer_pair *pair = infer_pairs_find(p, s[left].id, s[right].id);
    if (!pair)
        return 0;
    *out = (infer_merge_entry){(uint64_t)pair->rank << 32 | left, pair->left, pair->right};
    return 1;
}

/* Symbols are a linked list, pairs a heap. A merge leaves the entries of the pairs that it broke in the heap: they are recognized when
 * they come up, because the symbols at their place are others by then, and a place never gets a former symbol back (symbols only grow). */
static size_t merge_large(const infer_pair_table *p, infer_symbol *s, size_t n, infer_merge_space *w)
{
    const uint32_t end = (uint32_t)n;
    uint32_t *before = w->links, *after = w->links + n;
    size_t used = 0, left = 0;
    for (uint32_t i = 0; i < end; i++) {
        before[i] = i - 1; /* that of 0 is never followed */
        after[i] = i + 1;
        if (i + 1 < end)
            used += heap_entry(p, s, i, i + 1, &w->heap[used]);
    }
    for (size_t i = used / 2; i-- > 0;)
        heap_down(w->heap, used, i);
    while (used > 0) {
        const infer_merge_entry e = w->heap[0];
        const uint32_t at = (uint32_t)e.order, gone = after[at];
        w->heap[0] = w->heap[--used];
        if (used > 1)
            heap_down(w->heap, used, 0);
        if (gone == 0 || gone == end || s[at].id != e.left || s[gone].id != e.right)
            continue;
        s[at].id = infer_pairs_find(p, e.left, e.right)->merged;
        after[at] = after[gone];
        if (after[at] != end)
            before[after[at]] = at;
        after[gone] = 0; /* no longer in the list */
        if (at > 0 && heap_entry(p, s, before[at], at, &w->heap[used]))
            heap_up(w->heap, used++);
        if (after[at] != end && heap_entry(p, s, at, after[at], &w->heap[used]))
            heap_up(w->heap, used++);
    }
    for (uint32_t i = 0; i != end; i = after[i])
        s[left++] = s[i];
    return left;
}

infer_status infer_merge(const infer_pair_table *p, infer_symbol *s, size_t *n, infer_merge_space *w, infer_error *err)
{
    if (*n <= SMALL) {
        *n = merge_small(p, s, *n);
        return INFER_OK;
    }
    /* The heap begins with at most n - 1 pairs; each of at most n - 1 merges takes one out and puts at most two in. */
    if (!infer_grow(w->allocator, &w->links, &w->cap_links, 2 * *n, sizeof *w->links) ||
        !infer_grow(w->allocator, &w->heap, &w->cap_heap, 2 * *n, sizeof *w->heap))
        return infer_fail_memory(err, *n * 2 * (sizeof *w->links + sizeof *w->heap), "the tokenizer's list of pairs");
    *n = merge_large(p, s, *n, w);
    return INFER_OK;
}

void infer_merge_free(infer_merge_space *w)
{
    infer_free(w->allocator, w->links);
    infer_free(w->allocator, w->heap);
}
