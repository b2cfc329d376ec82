/* Merge-based BPE (Sennrich et al. 2016; byte-level: Radford et al. 2019): the file lists the pairs in the order of their rank. */
#include "text/tables.h"
#include "text/utf8.h"

#define AHEAD 16 /* merges: how far ahead a pair's slot is fetched from memory */

static bool is_joined(const infer_tokenizer *t, uint32_t id, const char *left, uint32_t n, const char *right, uint32_t m)
{
    uint32_t bytes;
    const char *text = infer_token_surface(t, id, &bytes);
    return bytes == n + m && infer_token_merges(t, id) && memcmp(text, left, n) == 0 && memcmp(text + n, right, m) == 0;
}

infer_status infer_bpe_build(infer_tokenizer *t, infer_error *err)
{
    const infer_vocab_view *v = &t->vocab;
    char joined[2 * INFER_TOKEN_MAX_BYTES];
    uint32_t id = 0;
    if (!infer_pairs_init(&t->pairs, t->allocator, v->merges))
        return infer_fail_memory(err, v->merges * sizeof *t->pairs.slots, "the tokenizer's pairs");
    for (uint32_t i = 0; i < v->merges; i++) {
        const uint32_t left = v->merge[i][0], right = v->merge[i][1];
        uint32_t n, m;
        const char *p = infer_token_surface(t, left, &n), *q = infer_token_surface(t, right, &m);
        if (i + AHEAD < v->merges)
            __builtin_prefetch(&t->pairs.slots[infer_pair_hash(v->merge[i + AHEAD][0], v->merge[i + AHEAD][1]) >> t->pairs.shift], 1);
        if (n == 0 || m == 0)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: merge %u joins tokens %u and %u, of which one has no text", t->name,
                              i, left, right);
        if (n > INFER_TOKEN_MAX_BYTES || m > INFER_TOKEN_MAX_BYTES)
            return infer_fail(err, INFER_ERROR_UNSUPPORTED,
                              "%s: tokenizer: merge %u joins tokens of %u and %u bytes; at most %u are handled", t->name, i, n, m,
                              INFER_TOKEN_MAX_BYTES);
        /* Training numbers tokens in the order of their merges: it is mostly the next token, or the same one again. */
        if (t->repeated_texts || !is_joined(t, id, p, n, q, m)) {
            id = id + 1 < v->tokens ? id + 1 : 0;
            if (t->repeated_texts || !is_joined(t, id, p, n, q, m)) {
                memcpy(joined, p, n);
                memcpy(joined + n, q, m);
                id = infer_strmap_get(&t->texts, joined, n + m);
                if (id == INFER_STRMAP_NONE)
                    return infer_fail(err, INFER_ERROR_FORMAT,
                                      "%s: tokenizer: merge %u joins tokens %u and %u, but no token has the joined text \"%.*s\"", t->name,
                                      i, left, right, (int)(n + m < 60 ? n + m : 60), joined);
            }
        }
        if (!infer_pairs_add(&t->pairs, t->allocator, (infer_pair){left, right, i, id}))
            return infer_fail_memory(err, 2 * (t->pairs.mask + 1) * sizeof *t->pairs.slots, "the tokenizer's pairs");
    }
    return INFER_OK;
}

/* GPT-2 writes each byte as a printable character: bytes that are printable in Latin-1 as themselves, the others, in order, as U+0100 on.
 */
static bool printable(uint32_t c)
{
    return (c >= '!' && c <= '~') || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

/* -1 for characters outside the alphabet. */
static int alphabet_byte(uint32_t c)
{
    if (c < 0x100)
        return printable(c) ? (int)c : -1;
    if (c < 0x121)
        return (int)(c - 0x100); /* 0..32 */
    if (c < 0x143)
        return (int)(c - 0x121 + 0x7f); /* 127..160 */
    return c == 0x143 ? 0xad : -1;
}

uint32_t infer_byte_alphabet_character(uint8_t byte)
{
    if (printable(byte))
        return byte;
    return byte <= 0x20 ? 0x100u + byte : byte <= 0xa0 ? 0x121u + byte - 0x7f : 0x143;
}

uint32_t infer_byte_alphabet_decode(const char *text, uint32_t n, char *out)
{
    uint32_t written = 0, length;
    for (uint32_t i = 0; i < n; i += length) {
        const uint8_t *p = (const uint8_t *)text + i;
        infer_utf8 what;
        int byte = -1;
        length = infer_utf8_next(p, n - i, &what);
        if (what == INFER_UTF8_WHOLE && length <= 2)
            byte = alphabet_byte(length == 1 ? p[0] : (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu));
        if (byte >= 0)
            out[written++] = (char)byte;
        else {
            memmove(out + written, p, length); /* may be in place */
            written += length;
        }
    }
    return written;
}
