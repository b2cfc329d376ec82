/* Tokens to text, in whole UTF-8 characters. */
#include "text/tables.h"
#include "text/text.h"
#include "text/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

struct infer_decoder {
    const infer_allocator *allocator; /* the tokenizer's, which outlives the decoder */
    const infer_tokenizer *tokenizer;
    bool drop_space; /* SentencePiece puts a space before the text: the one after the begin token is not part of it */
    uint32_t held;   /* bytes in `in`: the beginning of a character */
    uint8_t *in;     /* [3 + longest token] */
    char *out;       /* [3 * (3 + longest token) + 1]: at worst each byte becomes U+FFFD */
};

infer_status infer_decoder_open(const infer_allocator *a, const infer_tokenizer *t, infer_decoder **out, infer_error *err)
{
    const uint64_t in = 3 + (uint64_t)t->longest, bytes = sizeof(infer_decoder) + in + 3 * in + 1;
    const infer_vocab_view *v = &t->vocab;
    infer_decoder *d = bytes <= SIZE_MAX ? infer_alloc_zero(a, (size_t)bytes) : NULL;
    if (!d)
        return infer_fail_memory(err, (size_t)bytes, "a decoder");
    d->allocator = a;
    d->tokenizer = t;
    d->in = (uint8_t *)(d + 1);
    d->out = (char *)(d->in + in);
    d->drop_space = v->flags & INFER_VOCAB_SPACE_PREFIX && v->bos == INFER_VOCAB_NO_ID;
    *out = d;
    return INFER_OK;
}

void infer_decoder_destroy(infer_decoder *d)
{
    if (d)
        infer_free(d->allocator, d);
}

infer_status infer_decoder_push(infer_decoder *d, int32_t id, const char **text, size_t *bytes)
{
    const infer_vocab_view *v;
    uint32_t n, i = 0, length;
    size_t written = 0;
    if (!d || !text || !bytes)
        return INFER_ERROR_ARGUMENT;
    v = &d->tokenizer->vocab;
    if (id >= 0 && (uint32_t)id >= v->tokens)
        return INFER_ERROR_ARGUMENT;
    n = d->held;
    if (id >= 0) {
        uint32_t more;
        const char *p = infer_token_shown(d->tokenizer, (uint32_t)id, &more);
        const bool skip = d->drop_space && more > 0 && *p == ' ';
        memcpy(d->in + n, p + skip, more - skip);
        n += more - skip;
        d->drop_space = (uint32_t)id == v->bos ? v->flags & INFER_VOCAB_SPACE_PREFIX : d->drop_space && more == 0;
    }
    for (; i < n; i += length) {
        infer_utf8 what;
        length = infer_utf8_next(d->in + i, n - i, &what);
        if (what == INFER_UTF8_PARTIAL && id >= 0)
            break;
        if (v->flags & INFER_VOCAB_WORD_END && i + 1 == n && d->in[i] == ' ') { /* the end of a word: no space at the end of the text */
            i += id < 0;
            break;
        }
        if (what == INFER_UTF8_WHOLE) {
            memcpy(d->out + written, d->in + i, length);
            written += length;
        } else {
            memcpy(d->out + written, REPLACEMENT, 3);
            written += 3;
        }
    }
    d->held = n - i;
    memmove(d->in, d->in + i, d->held);
    d->out[written] = 0;
    *text = d->out;
    *bytes = written;
    return INFER_OK;
}
