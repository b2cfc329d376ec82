/* SentencePiece's unigram model (Kudo 2018): of all ways to cut a text into tokens, the one whose scores have the highest sum. */
#include "text/tables.h"
#include "text/utf8.h"

#include <float.h>

#define ROOT 0u
#define UNKNOWN_PENALTY 10.0f /* SentencePiece's: an unknown character scores this much less than the worst token */

static infer_status add_text(infer_tokenizer *t, uint32_t id, uint32_t *nodes, infer_error *err)
{
    uint32_t n, node = ROOT;
    const char *text = infer_token_surface(t, id, &n);
    for (uint32_t i = 0; i < n; i++) {
        infer_pair *edge = infer_pairs_add(&t->pairs, t->allocator, (infer_pair){node, (uint8_t)text[i], INFER_NO_SYMBOL, *nodes});
        if (!edge)
            return infer_fail_memory(err, 2 * (t->pairs.mask + 1) * sizeof *edge, "the tokenizer's tree of texts");
        if (edge->merged == *nodes)
            ++*nodes;
        node = edge->merged;
        if (i + 1 == n && edge->rank == INFER_NO_SYMBOL) /* of equal texts, the lowest id counts */
            edge->rank = id;
    }
    return INFER_OK;
}

infer_status infer_unigram_build(infer_tokenizer *t, infer_error *err)
{
    uint32_t nodes = ROOT + 1;
    float lowest = FLT_MAX;
    if (!infer_pairs_init(&t->pairs, t->allocator, 3 * (size_t)t->vocab.tokens))
        return infer_fail_memory(err, 6 * (size_t)t->vocab.tokens * sizeof *t->pairs.slots, "the tokenizer's tree of texts");
    for (uint32_t id = 0; id < t->vocab.tokens; id++) {
        infer_status status;
        if (!infer_token_merges(t, id))
            continue;
        if ((status = add_text(t, id, &nodes, err)) != INFER_OK)
            return status;
        if (infer_vocab_type(&t->vocab, id) == INFER_TOKEN_NORMAL && t->vocab.scores[id] < lowest)
            lowest = t->vocab.scores[id];
    }
    t->unknown_score = (lowest == FLT_MAX ? 0 : lowest) - UNKNOWN_PENALTY;
    return INFER_OK;
}

/* Offers the token text[from..to) to the best path that ends at `to`; of equal ones, the first stays. Sums of floats in double are mostly
 * exact, so that equal paths are equal: Hugging Face's tokenizers do the same. */
static void offer(infer_best *best, uint32_t from, uint32_t to, uint32_t id, double score)
{
    const double sum = best[from].score + score;
    if (sum > best[to].score)
        best[to] = (infer_best){sum, from, id};
}

infer_status infer_unigram_piece(infer_encoder *e, const char *text, size_t n)
{
    const infer_tokenizer *t = e->t;
    infer_best *best;
    uint32_t end = (uint32_t)n, steps = 0;
    if (!infer_grow(t->allocator, &e->best, &e->cap_best, n + 1, sizeof *e->best) ||
        !infer_grow(t->allocator, &e->symbols, &e->cap_symbols, n, sizeof *e->symbols))
        return infer_fail_memory(e->err, (n + 1) * (sizeof *e->best + sizeof *e->symbols), "the tokenizer's paths");
    best = e->best;
    for (size_t i = 0; i <= n; i++)
        best[i] = (infer_best){i ? -DBL_MAX : 0, 0, INFER_NO_SYMBOL};
    for (uint32_t i = 0, length; i < n; i += length) {
        infer_utf8 what;
        uint32_t node = ROOT;
        bool whole = false; /* the character is a token */
        length = infer_utf8_next((const uint8_t *)text + i, n - i, &what);
        for (uint32_t j = i; j < n; j++) {
            const infer_pair *edge = infer_pairs_find(&t->pairs, node, (uint8_t)text[j]);
            if (!edge)
                break;
            if (edge->rank != INFER_NO_SYMBOL) {
                const bool user = infer_vocab_type(&t->vocab, edge->rank) == INFER_TOKEN_USER;
                offer(best, i, j + 1, edge->rank, user ? 0 : (double)t->vocab.scores[edge->rank]);
                whole |= j + 1 - i == length;
            }
            node = edge->merged;
        }
        if (!whole)
            offer(best, i, i + length, INFER_NO_SYMBOL, (double)t->unknown_score);
    }
    for (uint32_t from; end > 0; end = from) { /* the path, from its end, into the symbols from the back */
        from = best[end].from;
        e->symbols[n - ++steps] = (infer_symbol){best[end].id, from, end - from};
    }
    for (const infer_symbol *s = e->symbols + n - steps; s < e->symbols + n; s++)
        if (s->id != INFER_NO_SYMBOL)
            infer_encoder_put(e, s->id);
        else
            infer_encoder_put_unknown(e, text + s->start, s->bytes);
    return INFER_OK;
}
