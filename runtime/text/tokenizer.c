/* Opens a vocabulary and encodes text. The tables are explained in tables.h. */
#include "text/tables.h"
#include "text/utf8.h"

#define META_SPACE "\xe2\x96\x81" /* U+2581 */

/* ---- opening ---- */

/* infer_vocab_parse has checked what does not depend on this build. */
static infer_status check_supported(const infer_vocab_view *v, const char *name, infer_error *err)
{
    if (v->pretokenizer != INFER_PRETOKENIZER_NONE && v->pretokenizer != INFER_PRETOKENIZER_GPT2)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: pre-tokenizer %u (%s); this library has 0 (none) and 1 (gpt-2)",
                          name, v->pretokenizer,
                          v->pretokenizer == INFER_PRETOKENIZER_LLAMA3  ? "llama-bpe"
                          : v->pretokenizer == INFER_PRETOKENIZER_QWEN2 ? "qwen2"
                                                                        : "unknown");
    if (v->kind == INFER_VOCAB_SPM && v->flags & INFER_VOCAB_BYTE_LEVEL)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: a SentencePiece vocabulary in GPT-2's byte alphabet", name);
    return INFER_OK;
}

/* The byte that <0xXX> names. */
static uint8_t named_byte(const char *p)
{
    unsigned high = p[3] <= '9' ? p[3] - '0' : p[3] - 'A' + 10, low = p[4] <= '9' ? p[4] - '0' : p[4] - 'A' + 10;
    return (uint8_t)(high << 4 | low);
}

static uint32_t replace_meta_space(const char *p, uint32_t n, char *out)
{
    uint32_t written = 0;
    for (uint32_t i = 0; i < n;)
        if (n - i >= 3 && !memcmp(p + i, META_SPACE, 3)) {
            out[written++] = ' ';
            i += 3;
        } else
            out[written++] = p[i++];
    return written;
}

/* Fills text, ends, longest and byte_token. No text grows, but for the unknown token, which shows as U+FFFD. */
static infer_status build_texts(infer_tokenizer *t, infer_error *err)
{
    const infer_vocab_view *v = &t->vocab;
    const size_t bytes = (size_t)v->text_bytes + 3;
    uint32_t at = 0;
    t->text = infer_alloc(t->allocator, bytes);
    t->ends = infer_alloc_array(t->allocator, v->tokens, sizeof *t->ends);
    if (!t->text || !t->ends)
        return infer_fail_memory(err, bytes + v->tokens * sizeof *t->ends, "the tokenizer's texts");
    memset(t->byte_token, 0xff, sizeof t->byte_token); /* INFER_NO_SYMBOL */
    for (uint32_t id = 0; id < v->tokens; id++) {
        const uint32_t start = id ? v->ends[id - 1] : 0, n = v->ends[id] - start, from = at;
        const char *p = v->text + start;
        const uint8_t type = v->types[id];
        if (id == v->unk) {
            memcpy(t->text + at, "\xef\xbf\xbd", 3);
            at += 3;
        } else if (type == INFER_TOKEN_BYTE) {
            uint8_t byte = named_byte(p);
            if (t->byte_token[byte] == INFER_NO_SYMBOL)
                t->byte_token[byte] = id;
            t->text[at++] = (char)byte;
        } else if (type != INFER_TOKEN_CONTROL && type != INFER_TOKEN_UNKNOWN) {
            if (v->flags & INFER_VOCAB_BYTE_LEVEL && type != INFER_TOKEN_USER)
                at += infer_byte_alphabet_decode(p, n, t->text + at);
            else if (v->flags & INFER_VOCAB_META_SPACE)
                at += replace_meta_space(p, n, t->text + at);
            else {
                memcpy(t->text + at, p, n);
                at += n;
            }
        }
        t->ends[id] = at;
        if (at - from > t->longest)
            t->longest = at - from;
    }
    return INFER_OK;
}

/* What a special token is called in texts. */
static const char *special_name(const infer_tokenizer *t, uint32_t id, uint32_t *bytes)
{
    const infer_vocab_view *v = &t->vocab;
    uint32_t start = id ? v->ends[id - 1] : 0;
    if (v->types[id] == INFER_TOKEN_USER)
        return infer_token_surface(t, id, bytes);
    *bytes = v->ends[id] - start;
    return v->text + start;
}

static bool is_special(const infer_tokenizer *t, uint32_t id)
{
    uint8_t type = t->vocab.types[id];
    return type == INFER_TOKEN_CONTROL || type == INFER_TOKEN_UNKNOWN || type == INFER_TOKEN_USER;
}

/* Fills texts, specials and the characters that are tokens. */
static infer_status build_maps(infer_tokenizer *t, infer_error *err)
{
    const infer_vocab_view *v = &t->vocab;
    uint32_t special_count = 0;
    for (uint32_t id = 0; id < v->tokens; id++)
        special_count += is_special(t, id);
    if (!infer_strmap_init(&t->texts, t->allocator, v->tokens, v->tokens) ||
        !infer_strmap_init(&t->specials, t->allocator, special_count, v->tokens) || !infer_chars_init(&t->chars, t->allocator))
        return infer_fail_memory(err, 4 * (size_t)v->tokens * sizeof(infer_strmap_slot), "the tokenizer's index of texts");
    for (uint32_t id = 0; id < v->tokens; id++) {
        uint32_t n;
        const char *p;
        infer_utf8 what;
        if (is_special(t, id)) {
            p = special_name(t, id, &n);
            if (n > 0 && n <= INFER_SPECIAL_MAX_BYTES) {
                infer_strmap_put(&t->specials, p, n, id);
                t->special_first[(uint8_t)p[0]] = 1;
                t->special_length[n] = 1;
            }
        }
        if (!infer_token_merges(t, id))
            continue;
        p = infer_token_surface(t, id, &n);
        if (n > INFER_TOKEN_MAX_BYTES)
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: token %u has %u bytes of text; at most %u are handled", t->name,
                              id, n, INFER_TOKEN_MAX_BYTES);
        infer_strmap_put(&t->texts, p, n, id);
        if (n == (v->flags & INFER_VOCAB_BYTE_LEVEL ? 1 : infer_utf8_next((const uint8_t *)p, n, &what)) &&
            !infer_chars_add(&t->chars, t->allocator, p, n, id))
            return infer_fail_memory(err, 2 * ((size_t)t->chars.mask + 1) * sizeof *t->chars.slots, "the tokenizer's characters");
    }
    return INFER_OK;
}

infer_status infer_tokenizer_open(const infer_allocator *a, const void *section, size_t bytes, const char *name, infer_tokenizer **out,
                                  infer_error *err)
{
    infer_vocab_view view;
    infer_tokenizer *t;
    size_t name_bytes = strlen(name) + 1;
    infer_status status = infer_vocab_parse(section, bytes, name, &view, err);
    if (status || (status = check_supported(&view, name, err)))
        return status;
    t = infer_alloc_zero(a, sizeof *t + name_bytes);
    if (!t)
        return infer_fail_memory(err, sizeof *t + name_bytes, "a tokenizer");
    t->name = memcpy(t + 1, name, name_bytes);
    if (a) {
        t->own = *a;
        t->allocator = &t->own;
    }
    t->vocab = view;
    t->symbols = view.tokens;
    if ((status = build_texts(t, err)) || (status = build_maps(t, err)) ||
        (status = view.kind == INFER_VOCAB_SPM ? infer_spm_build(t, err) : infer_bpe_build(t, err))) {
        infer_tokenizer_close(t);
        return status;
    }
    infer_strmap_free(&t->texts, t->allocator);
    *out = t;
    return INFER_OK;
}

void infer_tokenizer_close(infer_tokenizer *t)
{
    infer_allocator a;
    if (!t)
        return;
    infer_strmap_free(&t->texts, t->allocator);
    infer_strmap_free(&t->specials, t->allocator);
    infer_chars_free(&t->chars, t->allocator);
    infer_pairs_free(&t->pairs, t->allocator);
    infer_free(t->allocator, t->text);
    infer_free(t->allocator, t->ends);
    a = t->own;
    infer_free(t->allocator ? &a : NULL, t);
}

const infer_vocab_view *infer_tokenizer_vocab(const infer_tokenizer *t)
{
    return &t->vocab;
}

const char *infer_tokenizer_token(const infer_tokenizer *t, int32_t id, size_t *bytes)
{
    uint32_t n;
    const char *p;
    if (id < 0 || (uint32_t)id >= t->vocab.tokens)
        return NULL;
    p = infer_token_surface(t, (uint32_t)id, &n);
    *bytes = n;
    return p;
}

/* ---- encoding ---- */

typedef struct encoder {
    const infer_tokenizer *t;
    int32_t *ids;
    size_t cap, count;
    bool unknown;       /* the last token is the unknown one: a run of unknown characters becomes one token */
    infer_symbol *part; /* the characters since the last place where the text may be cut */
    size_t n, cap_part;
    infer_merge_space space;
    infer_error *err;
} encoder;

static void put(encoder *e, uint32_t id)
{
    if (e->count < e->cap)
        e->ids[e->count] = (int32_t)id;
    e->count++;
    e->unknown = false;
}

/* A character that is no token. */
static infer_status put_unknown(encoder *e, uint32_t leaf)
{
    const infer_tokenizer *t = e->t;
    uint32_t rest = leaf;
    do {
        uint32_t id = t->vocab.flags & INFER_VOCAB_BYTE_FALLBACK ? t->byte_token[rest & 0xff] : INFER_NO_SYMBOL;
        if (id != INFER_NO_SYMBOL)
            put(e, id);
        else if (t->vocab.unk == INFER_VOCAB_NO_ID)
            return infer_fail(e->err, INFER_ERROR_ARGUMENT,
                              "%s: the text has byte 0x%02x, for which the vocabulary has no token, nor an unknown one", t->name,
                              rest & 0xff);
        else if (!e->unknown) {
            put(e, t->vocab.unk);
            e->unknown = true;
        }
    } while (rest >>= 8);
    return INFER_OK;
}

/* Merges the part and writes its tokens. */
static infer_status end_part(encoder *e)
{
    const uint32_t tokens = e->t->vocab.tokens;
    infer_status status = infer_merge(&e->t->pairs, e->part, &e->n, &e->space, e->err);
    for (size_t i = 0; i < e->n && !status; i++)
        if (e->part[i].id < tokens)
            put(e, e->part[i].id);
        else
            status = put_unknown(e, e->part[i].leaf);
    e->n = 0;
    return status;
}

static infer_status add_char(encoder *e, uint32_t packed)
{
    if (!infer_grow(e->t->allocator, &e->part, &e->cap_part, e->n + 1, sizeof *e->part))
        return infer_fail_memory(e->err, 2 * e->cap_part * sizeof *e->part, "the tokenizer's text");
    e->part[e->n++] = (infer_symbol){infer_chars_find(&e->t->chars, packed), packed};
    return INFER_OK;
}

/* Text without special tokens, cut wherever no merge can cross. */
static infer_status encode_piece(encoder *e, const char *text, size_t bytes, bool space_first)
{
    const infer_tokenizer *t = e->t;
    const bool byte_level = t->vocab.flags & INFER_VOCAB_BYTE_LEVEL, meta = t->vocab.flags & INFER_VOCAB_META_SPACE;
    uint8_t end = ' ';
    infer_status status = space_first ? add_char(e, ' ') : INFER_OK;
    for (size_t i = 0; i < bytes && !status;) {
        const uint8_t *p = (const uint8_t *)text + i;
        unsigned length = 1;
        uint32_t packed = p[0];
        uint8_t begin = p[0];
        if (p[0] >= 0x80 && !byte_level) {
            infer_utf8 what;
            length = infer_utf8_next(p, bytes - i, &what);
            packed = infer_char_pack(text + i, length);
            if (meta && length == 3 && !memcmp(p, META_SPACE, 3))
                packed = begin = ' ';
        }
        if (e->n > 0 && !infer_pairs_join(&t->pairs, end, begin))
            status = end_part(e);
        if (!status)
            status = add_char(e, packed);
        end = packed == ' ' ? ' ' : p[length - 1];
        i += length;
    }
    return status ? status : end_part(e);
}

static infer_status encode_text(encoder *e, const char *text, size_t bytes)
{
    infer_status status = INFER_OK;
    bool space_first = e->t->vocab.flags & INFER_VOCAB_SPACE_PREFIX;
    if (e->t->vocab.pretokenizer == INFER_PRETOKENIZER_NONE)
        return bytes ? encode_piece(e, text, bytes, space_first) : INFER_OK;
    for (size_t n; bytes > 0 && !status; text += n, bytes -= n, space_first = false) {
        n = infer_split_gpt2(text, bytes);
        status = encode_piece(e, text, n, space_first);
    }
    return status;
}

/* The special token with the longest name that stands at text[0..n): its id and *length, or INFER_NO_SYMBOL. */
static uint32_t find_special(const infer_tokenizer *t, const char *text, size_t n, unsigned flags, uint32_t *length)
{
    for (uint32_t m = n < INFER_SPECIAL_MAX_BYTES ? (uint32_t)n : INFER_SPECIAL_MAX_BYTES; m > 0; m--) {
        uint32_t id = t->special_length[m] ? infer_strmap_get(&t->specials, text, m) : INFER_STRMAP_NONE;
        if (id != INFER_STRMAP_NONE && (flags & INFER_TOKENIZE_SPECIAL || t->vocab.types[id] == INFER_TOKEN_USER)) {
            *length = m;
            return id;
        }
    }
    return INFER_NO_SYMBOL;
}

infer_status infer_tokenizer_encode(const infer_tokenizer *t, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t cap,
                                    size_t *count, infer_error *err)
{
    encoder e = {.t = t, .ids = ids, .cap = cap, .space.allocator = t->allocator, .err = err};
    infer_status status = INFER_OK;
    size_t from = 0;
    if (flags & ~(INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: flags 0x%x, of which only 0x%x are known", flags,
                          INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL);
    if (bytes > INFER_TEXT_MAX_BYTES)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: a text of %zu bytes, expected at most %u", bytes, INFER_TEXT_MAX_BYTES);
    if (flags & INFER_TOKENIZE_BOS && t->vocab.flags & INFER_VOCAB_ADD_BOS && t->vocab.bos != INFER_VOCAB_NO_ID)
        put(&e, t->vocab.bos);
    for (size_t i = 0; i < bytes && !status;) {
        uint32_t length, id;
        if (!t->special_first[(uint8_t)text[i]] || (id = find_special(t, text + i, bytes - i, flags, &length)) == INFER_NO_SYMBOL) {
            i++;
            continue;
        }
        status = encode_text(&e, text + from, i - from);
        put(&e, id);
        i += length;
        from = i;
    }
    if (!status)
        status = encode_text(&e, text + from, bytes - from);
    infer_free(t->allocator, e.part);
    infer_merge_free(&e.space);
    if (status)
        return status;
    *count = e.count;
    if (e.count > cap)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: the text needs %zu tokens, there is room for %zu", e.count, cap);
    return INFER_OK;
}
