/* WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019): words, and each time the longest token that fits. Tokens that begin a word
 * have a space before it, as SentencePiece's do, or a mark; those that go on (written ##ing by BERT) have none. */
#include "text/tables.h"
#include "text/unicode.h"

#define WORD_MAX_CHARACTERS 100 /* BERT's: longer words are unknown */

infer_status infer_wordpiece_word(infer_encoder *e, const char *text, size_t n)
{
    const infer_tokenizer *t = e->t;
    const size_t before = e->count;
    const bool limited = t->vocab.pretokenizer == INFER_PRETOKENIZER_BERT; /* steps have their own limit */
    const char mark = t->vocab.flags & INFER_VOCAB_WORD_BEGIN ? INFER_VOCAB_MARK : ' ';
    size_t characters = 0, total = n + 1;
    char *spaced;
    e->space.n = 0;
    if (!infer_bytes_add(&e->space, t->allocator, &mark, 1) || !infer_bytes_add(&e->space, t->allocator, text, n))
        return infer_fail_memory(e->err, total, "a word");
    spaced = e->space.p;
    for (size_t i = 0; i < n; i++)
        characters += ((uint8_t)text[i] & 0xc0) != 0x80;
    for (size_t i = 0, length; i < total; i += length) {
        uint32_t id = INFER_STRMAP_NONE;
        length = total - i < t->longest ? total - i : t->longest;
        while (length > 0 && (!limited || characters <= WORD_MAX_CHARACTERS) &&
               (id = infer_strmap_get(&t->texts, spaced + i, length)) == INFER_STRMAP_NONE)
            length--;
        if (id == INFER_STRMAP_NONE) { /* then the whole word is unknown */
            e->count = before;
            if (t->vocab.unk != INFER_VOCAB_NO_ID)
                infer_encoder_put(e, t->vocab.unk);
            break;
        }
        infer_encoder_put(e, id);
    }
    return INFER_OK;
}

infer_status infer_wordpiece_text(infer_encoder *e, const char *text, size_t n)
{
    size_t start = 0;
    infer_status status = INFER_OK;
    for (size_t i = 0, length; i < n && status == INFER_OK; i += length) {
        const infer_char c = infer_char_at(text + i, n - i);
        const bool space = c.kind == INFER_CHAR_SPACE, alone = c.kind == INFER_CHAR_PUNCTUATION || c.kind == INFER_CHAR_IDEOGRAPH;
        length = c.bytes;
        if (!space && !alone)
            continue;
        if (i > start)
            status = infer_wordpiece_word(e, text + start, i - start);
        if (alone && status == INFER_OK)
            status = infer_wordpiece_word(e, text + i, length);
        start = i + length;
    }
    return start < n && status == INFER_OK ? infer_wordpiece_word(e, text + start, n - start) : status;
}
