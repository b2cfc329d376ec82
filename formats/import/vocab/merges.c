/*
 * Merge lists from token order. Byte-pair training numbers the tokens as it makes them, so a vocabulary without scores and without a merge
 * list still holds the list: apply all merges of lower rank to a token's text, and the two parts that remain are its merge.
 */
#include "import/vocab/tokenizers.h"

#include "strmap.h"
#include "utf8.h"
#include "vocab.h"

#include <string.h>

/* Merged tokens of training are short. Longer ones get no merge; it also bounds the work, which grows with the square. */
#define LONGEST_MERGED 256u

typedef struct part {
    uint32_t start, end; /* bytes of the text */
    uint32_t joined;     /* the token that this part and the next one make; NONE */
} part;

typedef struct vocabulary {
    const char *const *text;
    const uint32_t *bytes;
    infer_strmap ids; /* of normal tokens */
} vocabulary;

static uint32_t join(const vocabulary *v, const char *text, const part *p, uint32_t below)
{
    uint32_t id = infer_strmap_get(&v->ids, text + p[0].start, p[1].end - p[0].start);
    return id < below ? id : INFER_STRMAP_NONE; /* NONE is the largest number */
}

/* Splits token `id` into characters and merges them with the tokens below it. True when two tokens remain. */
static bool split(const vocabulary *v, uint32_t id, uint32_t pair[2])
{
    const char *text = v->text[id];
    uint32_t bytes = v->bytes[id];
    part parts[LONGEST_MERGED];
    size_t count = 0;

    for (uint32_t at = 0; at < bytes; count++) {
        size_t n = utf8_character((const uint8_t *)text + at, bytes - at);
        parts[count].start = at;
        at += n ? (uint32_t)n : 1;
        parts[count].end = at;
    }
    for (size_t i = 0; i + 1 < count; i++)
        parts[i].joined = join(v, text, &parts[i], id);
    while (count > 2) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (parts[i].joined < parts[best].joined)
                best = i;
        if (parts[best].joined == INFER_STRMAP_NONE)
            return false;
        parts[best].end = parts[best + 1].end;
        count--;
        memmove(&parts[best + 1], &parts[best + 2], (count - best - 1) * sizeof parts[0]);
        if (best + 1 < count)
            parts[best].joined = join(v, text, &parts[best], id);
        if (best > 0)
            parts[best - 1].joined = join(v, text, &parts[best - 1], id);
    }
    if (count != 2)
        return false;
    for (int side = 0; side < 2; side++)
        pair[side] = infer_strmap_get(&v->ids, text + parts[side].start, parts[side].end - parts[side].start);
    return pair[0] != INFER_STRMAP_NONE && pair[1] != INFER_STRMAP_NONE;
}

infer_status infer_vocab_recover_merges(const infer_allocator *a, const char *const *text, const uint32_t *text_bytes, const uint8_t *types,
                                        uint32_t tokens, uint32_t (**merges)[2], uint32_t *count, infer_error *err)
{
    vocabulary v = {.text = text, .bytes = text_bytes};
    uint32_t(*list)[2] = infer_alloc_array(a, tokens, sizeof *list), n = 0;

    if (!list || !infer_strmap_init(&v.ids, a, tokens, tokens)) {
        infer_free(a, list);
        return infer_fail_memory(err, tokens * (sizeof *list + 2 * sizeof(infer_strmap_slot)), "merges");
    }
    for (uint32_t id = 0; id < tokens; id++)
        if (types[id] == INFER_TOKEN_NORMAL && text_bytes[id])
            infer_strmap_put(&v.ids, text[id], text_bytes[id], id);
    for (uint32_t id = 0; id < tokens; id++)
        if (types[id] == INFER_TOKEN_NORMAL && text_bytes[id] && text_bytes[id] <= LONGEST_MERGED && split(&v, id, list[n]))
            n++;
    infer_strmap_free(&v.ids, a);
    *merges = list;
    *count = n;
    return INFER_OK;
}
