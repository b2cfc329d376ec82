/* SentencePiece's BPE (Kudo and Richardson 2018, and llama2.c): of all adjacent pairs whose joined text is a token, the one whose token has
 * the best score is merged first. The pairs are found once, by cutting each token at every place. */
#include "text/tables.h"
#include "text/utf8.h"

/* Rank of a score: the better, the lower; equal scores, equal ranks. IEEE floats sort like sign-magnitude integers. */
static uint32_t score_rank(float score)
{
    uint32_t bits, rank;
    if (!(score == score)) /* NaN */
        return INFER_RANK_LAST;
    score += 0.0f; /* -0 becomes +0 */
    memcpy(&bits, &score, sizeof bits);
    rank = bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
    return rank < INFER_RANK_LAST ? rank : INFER_RANK_LAST;
}

/* Symbol of text[0..n), `chars` characters long. */
static uint32_t find_symbol(const infer_tokenizer *t, const char *text, uint32_t n, bool one_char)
{
    return one_char ? infer_chars_find(&t->chars, infer_char_pack(text, n)) : infer_strmap_get(&t->texts, text, n);
}

static infer_status add_pairs(infer_tokenizer *t, uint32_t id, infer_error *err)
{
    uint32_t n, first, last = 0;
    const char *text = infer_token_surface(t, id, &n);
    infer_utf8 what;
    for (uint32_t i = 0; i < n; last = i, i += infer_utf8_next((const uint8_t *)text + i, n - i, &what))
        ;
    first = infer_utf8_next((const uint8_t *)text, n, &what);
    for (uint32_t cut = first; cut < n; cut += infer_utf8_next((const uint8_t *)text + cut, n - cut, &what)) {
        uint32_t left = find_symbol(t, text, cut, cut == first), right;
        if (left == INFER_NO_SYMBOL || (right = find_symbol(t, text + cut, n - cut, cut == last)) == INFER_NO_SYMBOL)
            continue;
        if (!infer_pairs_add(&t->pairs, t->allocator, (infer_pair){left, right, score_rank(t->vocab.scores[id]), id},
                             (uint8_t)text[cut - 1], (uint8_t)text[cut]))
            return infer_fail_memory(err, 2 * (t->pairs.mask + 1) * sizeof *t->pairs.slots, "the tokenizer's pairs");
    }
    return INFER_OK;
}

infer_status infer_spm_build(infer_tokenizer *t, infer_error *err)
{
    /* Characters inside tokens that are no tokens: a merge may still take them up. */
    for (uint32_t id = 0; id < t->vocab.tokens; id++) {
        uint32_t n, length;
        const char *text = infer_token_surface(t, id, &n);
        infer_utf8 what;
        if (!infer_token_merges(t, id))
            continue;
        for (uint32_t i = 0; i < n; i += length) {
            length = infer_utf8_next((const uint8_t *)text + i, n - i, &what);
            if (infer_chars_find(&t->chars, infer_char_pack(text + i, length)) != INFER_NO_SYMBOL)
                continue;
            if (!infer_chars_add(&t->chars, t->allocator, text + i, length, t->symbols))
                return infer_fail_memory(err, 2 * ((size_t)t->chars.mask + 1) * sizeof *t->chars.slots, "the tokenizer's characters");
            t->symbols++;
        }
    }
    if (!infer_pairs_init(&t->pairs, t->allocator, t->vocab.tokens))
        return infer_fail_memory(err, t->vocab.tokens * sizeof *t->pairs.slots, "the tokenizer's pairs");
    for (uint32_t id = 0; id < t->vocab.tokens; id++) {
        uint32_t n;
        const char *text = infer_token_surface(t, id, &n);
        infer_status status;
        if (!infer_token_merges(t, id) || infer_strmap_get(&t->texts, text, n) != id) /* of equal texts, the lowest id counts */
            continue;
        if ((status = add_pairs(t, id, err)))
            return status;
    }
    return INFER_OK;
}
