/* Finds the names of special tokens in a text: from left to right, the longest first. */
#include "text/tables.h"
#include "text/unicode.h"

bool infer_names_init(infer_names *names, const infer_allocator *a, size_t count, uint32_t ids)
{
    return infer_strmap_init(&names->ids, a, count, ids);
}

void infer_names_add(infer_names *names, const char *name, size_t bytes, uint32_t id)
{
    if (bytes == 0 || bytes > INFER_SPECIAL_MAX_BYTES)
        return;
    infer_strmap_put(&names->ids, name, bytes, id);
    if (bytes == 1)
        memset(names->begin[(uint8_t)name[0]], 0xff, sizeof names->begin[0]);
    else
        names->begin[(uint8_t)name[0]][(uint8_t)name[1] >> 5] |= 1u << (name[1] & 31);
    names->length[bytes] = 1;
    names->any = true;
}

/* The token with the longest name that stands at text[0..n): its id and *length, or INFER_NO_SYMBOL. */
static uint32_t longest(const infer_tokenizer *t, const infer_names *names, const char *text, size_t n, unsigned flags, uint32_t *length)
{
    for (uint32_t m = n < INFER_SPECIAL_MAX_BYTES ? (uint32_t)n : INFER_SPECIAL_MAX_BYTES; m > 0; m--) {
        const uint32_t id = names->length[m] ? infer_strmap_get(&names->ids, text, m) : INFER_STRMAP_NONE;
        const uint8_t type = id != INFER_STRMAP_NONE ? infer_vocab_type(&t->vocab, id) : 0;
        if (type && (flags & INFER_TOKENIZE_SPECIAL || type == INFER_TOKEN_USER || type == INFER_TOKEN_ADDED)) {
            *length = m;
            return id;
        }
    }
    return INFER_NO_SYMBOL;
}

/* Whether text[start..end) touches a letter or the like. */
static bool is_part_of_word(const char *text, size_t n, size_t start, size_t end)
{
    unsigned bytes;
    return (start > 0 && infer_is_word(infer_code_before(text, start, &bytes))) ||
           (end < n && infer_is_word(infer_code_at(text + end, n - end, &bytes)));
}

bool infer_names_next(const infer_tokenizer *t, const infer_names *names, const char *text, size_t n, size_t from, unsigned flags,
                      size_t *at, infer_found *out)
{
    for (size_t i = *at; i < n; i++) {
        const uint8_t second = i + 1 < n ? (uint8_t)text[i + 1] : 0; /* at the end only names of one byte fit, which have all of them */
        uint32_t length, id;
        uint8_t type;
        unsigned bytes;
        if (!infer_has_bytes(names->begin, (uint8_t)text[i], second) ||
            (id = longest(t, names, text + i, n - i, flags, &length)) == INFER_NO_SYMBOL)
            continue;
        type = t->vocab.types[id];
        if (type & INFER_TOKEN_WORD && is_part_of_word(text, n, i, i + length)) {
            i += length - 1;
            continue;
        }
        *out = (infer_found){i, i + length, id};
        while (type & INFER_TOKEN_LSTRIP && out->start > from && infer_is_white(infer_code_before(text, out->start, &bytes)))
            out->start -= bytes;
        while (type & INFER_TOKEN_RSTRIP && out->end < n && infer_is_white(infer_code_at(text + out->end, n - out->end, &bytes)))
            out->end += bytes;
        *at = out->end;
        return true;
    }
    return false;
}
