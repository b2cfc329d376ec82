/* SPM and BPE: a piece of text becomes symbols, which are merged. SPM: SentencePiece's BPE (Kudo and Richardson 2018, and llama2.c). */
#include "text/tables.h"
#include "text/utf8.h"

#define SMALL 24 /* most pieces are words: looking through all pairs beats a heap up to about this many symbols */

typedef struct joined {
    uint32_t rank, id; /* rank INFER_NO_SYMBOL: the pair does not merge */
} joined;

/* Rank of a score: the better, the lower; equal scores, equal ranks. IEEE floats sort like sign-magnitude integers. */
static uint32_t score_rank(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 becomes +0 */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u); /* finite: below INFER_NO_SYMBOL */
}

static joined join(const infer_tokenizer *t, const char *text, const infer_symbol *left, const infer_symbol *right)
{
    const infer_pair *pair;
    if (t->vocab.kind == INFER_VOCAB_SPM) {
        const size_t bytes = (size_t)left->bytes + right->bytes;
        const uint32_t id = bytes <= t->longest ? infer_strmap_get(&t->texts, text + left->start, bytes) : INFER_STRMAP_NONE;
        return (joined){id == INFER_STRMAP_NONE ? INFER_NO_SYMBOL : score_rank(t->vocab.scores[id]), id};
    }
    pair = infer_pairs_find(&t->pairs, left->id, right->id);
    return pair ? (joined){pair->rank, pair->merged} : (joined){INFER_NO_SYMBOL, 0};
}

/* Finds the best pair by looking at all of them, merges it, and closes the gap. */
static size_t merge_small(const infer_tokenizer *t, const char *text, infer_symbol *s, size_t n)
{
    joined pair[SMALL];
    for (size_t i = 0; i + 1 < n; i++)
        pair[i] = join(t, text, &s[i], &s[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (pair[i].rank < pair[best].rank)
                best = i;
        if (pair[best].rank == INFER_NO_SYMBOL)
            break;
        s[best].id = pair[best].id;
        s[best].bytes += s[best + 1].bytes;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            s[i] = s[i + 1];
            pair[i - 1] = pair[i];
        }
        if (best > 0)
            pair[best - 1] = join(t, text, &s[best - 1], &s[best]);
        if (best + 1 < n)
            pair[best] = join(t, text, &s[best], &s[best + 1]);
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
static size_t heap_entry(const infer_tokenizer *t, const char *text, const infer_symbol *s, uint32_t left, uint32_t right,
                         infer_merge_entry *out)
{
    const joined pair = join(t, text, &s[left], &s[right]);
    if (pair.rank == INFER_NO_SYMBOL)
        return 0;
    *out = (infer_merge_entry){(uint64_t)pair.rank << 32 | left, s[left].bytes, s[right].bytes, pair.id};
    return 1;
}

/* Symbols are a linked list, pairs a heap. A merge leaves the entries of the pairs that it broke in the heap: they are recognized when
 * they come up, because the symbols at their place are longer by then (symbols only grow). */
static size_t merge_large(infer_encoder *e, const char *text, infer_symbol *s, size_t n)
{
    const infer_tokenizer *t = e->t;
    const uint32_t end = (uint32_t)n;
    uint32_t *before = e->links, *after = e->links + n;
    infer_merge_entry *heap = e->heap;
    size_t used = 0, left = 0;
    for (uint32_t i = 0; i < end; i++) {
        before[i] = i - 1; /* that of 0 is never followed */
        after[i] = i + 1;
        if (i + 1 < end)
            used += heap_entry(t, text, s, i, i + 1, &heap[used]);
    }
    for (size_t i = used / 2; i-- > 0;)
        heap_down(heap, used, i);
    while (used > 0) {
        const infer_merge_entry top = heap[0];
        const uint32_t at = (uint32_t)top.order, gone = after[at];
        heap[0] = heap[--used];
        if (used > 1)
            heap_down(heap, used, 0);
        if (gone == 0 || gone == end || s[at].bytes != top.left_bytes || s[gone].bytes != top.right_bytes)
            continue;
        s[at].id = top.merged;
        s[at].bytes += s[gone].bytes;
        after[at] = after[gone];
        if (after[at] != end)
            before[after[at]] = at;
        after[gone] = 0; /* no longer in the list */
        if (at > 0 && heap_entry(t, text, s, before[at], at, &heap[used]))
            heap_up(heap, used++);
        if (after[at] != end && heap_entry(t, text, s, at, after[at], &heap[used]))
            heap_up(heap, used++);
    }
    for (uint32_t i = 0; i != end; i = after[i])
        s[left++] = s[i];
    return left;
}

/* O(n log n) time, O(n) memory. */
static infer_status merge(infer_encoder *e, const char *text, size_t *n)
{
    if (*n <= SMALL) {
        *n = merge_small(e->t, text, e->symbols, *n);
        return INFER_OK;
    }
    /* The heap begins with at most n - 1 pairs; each of at most n - 1 merges takes one out and puts at most two in. */
    if (!infer_grow(e->t->allocator, &e->links, &e->cap_links, 2 * *n, sizeof *e->links) ||
        !infer_grow(e->t->allocator, &e->heap, &e->cap_heap, 2 * *n, sizeof *e->heap))
        return infer_fail_memory(e->err, *n * 2 * (sizeof *e->links + sizeof *e->heap), "the tokenizer's list of pairs");
    *n = merge_large(e, text, e->symbols, *n);
    return INFER_OK;
}

/* A word with its marks, of the beginning and the end: they belong to its first and its last character. */
static infer_status mark_word(infer_encoder *e, const char **text, size_t *n, unsigned *before, unsigned *behind)
{
    const infer_allocator *a = e->t->allocator;
    const uint32_t flags = e->t->vocab.flags;
    const char mark = INFER_VOCAB_MARK;
    *before = (flags & INFER_VOCAB_WORD_BEGIN) != 0;
    *behind = (flags & INFER_VOCAB_WORD_END) != 0;
    if (*before + *behind == 0)
        return INFER_OK;
    e->space.n = 0;
    if (!infer_bytes_add(&e->space, a, &mark, *before) || !infer_bytes_add(&e->space, a, *text, *n) ||
        !infer_bytes_add(&e->space, a, &mark, *behind))
        return infer_fail_memory(e->err, *n + 2, "a word");
    *text = e->space.p;
    *n = e->space.n;
    return INFER_OK;
}

infer_status infer_merge_piece(infer_encoder *e, const char *text, size_t n)
{
    const infer_tokenizer *t = e->t;
    const bool byte_level = t->vocab.flags & INFER_VOCAB_BYTE_LEVEL && !t->alphabet_step;
    const bool kept = t->vocab.kind != INFER_VOCAB_BPE || t->vocab.unk != INFER_VOCAB_NO_ID || t->vocab.flags & INFER_VOCAB_BYTE_FALLBACK;
    size_t count = 0;
    unsigned before, behind;
    infer_status status = mark_word(e, &text, &n, &before, &behind);
    if (status != INFER_OK)
        return status;
    if (t->vocab.flags & INFER_VOCAB_WHOLE_PIECES && n - behind <= t->longest) {
        const uint32_t id = infer_strmap_get(&t->texts, text, n - behind);
        if (id != INFER_STRMAP_NONE) {
            infer_encoder_put(e, id);
            return INFER_OK;
        }
    }
    if (!infer_grow(t->allocator, &e->symbols, &e->cap_symbols, n, sizeof *e->symbols))
        return infer_fail_memory(e->err, n * sizeof *e->symbols, "the tokenizer's symbols");
    for (size_t i = 0; i < n;) {
        const size_t at = i == 0 ? before : i; /* of the character */
        const uint8_t *p = (const uint8_t *)text + at;
        infer_utf8 what;
        const unsigned bytes = byte_level || *p < 0x80 ? 1 : infer_utf8_next(p, n - at, &what);
        const unsigned length = (unsigned)(at - i) + bytes + (at + bytes + behind == n ? behind : 0);
        const uint32_t id = length == 1 ? t->single[*p] : infer_strmap_get(&t->texts, text + i, length);
        if (id != INFER_NO_SYMBOL || kept) /* BPE: what becomes nothing does not stand between others */
            e->symbols[count++] = (infer_symbol){id, (uint32_t)i, length};
        i += length;
    }
    if ((status = merge(e, text, &count)) != INFER_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        if (e->symbols[i].id != INFER_NO_SYMBOL)
            infer_encoder_put(e, e->symbols[i].id);
        else
            infer_encoder_put_unknown(e, text + e->symbols[i].start, e->symbols[i].bytes);
    return INFER_OK;
}
