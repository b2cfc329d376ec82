/* Text into the form that a vocabulary expects: SentencePiece's map of characters, Unicode's normalization forms, BERT's cleaning, spaces.
 */
#include "text/tables.h"
#include "text/unicode.h"

#define META_SPACE "\xe2\x96\x81" /* U+2581 */

#define CHARACTERS                                                                                                                         \
    (INFER_VOCAB_NFC | INFER_VOCAB_NFD | INFER_VOCAB_NFKC | INFER_VOCAB_STRIP_ACCENTS | INFER_VOCAB_LOWERCASE | INFER_VOCAB_CLEAN)

bool infer_normalize_is_identity(const infer_vocab_view *v)
{
    return !(v->flags &
             (CHARACTERS | INFER_VOCAB_CHARSMAP | INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_SINGLE_SPACES | INFER_VOCAB_META_SPACE));
}

static infer_status out_of_memory(size_t bytes, infer_error *err)
{
    return infer_fail_memory(err, bytes, "the normalized text");
}

/* ---- SentencePiece's map ----
 * uint32 bytes of a trie, the trie, replacements that end in a NUL. The trie is a double array (Darts-clone; Kanda 2018, XCDA): units of 32
 * bits, of which bits 0..7 and 31 are the label, bit 8 says that a value follows, bits 10..30 and 9 the offset to the children; a value is
 * a unit with bit 31 set. */

typedef struct charsmap {
    const uint8_t *units;
    uint32_t count; /* of units */
    const char *replacements;
    uint32_t replacement_bytes; /* the last is a NUL */
} charsmap;

static uint32_t unit_at(const charsmap *m, uint32_t i)
{
    uint32_t u;
    memcpy(&u, m->units + 4 * (size_t)i, sizeof u);
    return u;
}

static uint32_t unit_offset(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

/* False when the section's map is none. */
static bool charsmap_open(const infer_vocab_view *v, charsmap *m)
{
    uint32_t bytes;
    if (v->charsmap_bytes < 8)
        return false;
    memcpy(&bytes, v->charsmap, sizeof bytes);
    if (bytes % 4 != 0 || bytes < 4 || bytes > v->charsmap_bytes - 5 || v->charsmap[v->charsmap_bytes - 1] != 0)
        return false;
    *m = (charsmap){v->charsmap + 4, bytes / 4, (const char *)v->charsmap + 4 + bytes, v->charsmap_bytes - 4 - bytes};
    return true;
}

/* The longest prefix of text[0..n) in the map: its length, 0 when there is none, and what stands for it. False: the map is broken. */
static bool charsmap_find(const charsmap *m, const uint8_t *text, size_t n, size_t *length, const char **replacement)
{
    uint32_t at = unit_offset(unit_at(m, 0)), unit;
    *length = 0;
    for (size_t i = 0; i < n && text[i]; i++) {
        at ^= text[i];
        if (at >= m->count)
            return false;
        unit = unit_at(m, at);
        if ((unit & (1u << 31 | 0xff)) != text[i])
            break;
        at ^= unit_offset(unit);
        if (at >= m->count)
            return false;
        if (unit >> 8 & 1) {
            const uint32_t value = unit_at(m, at) & ~(1u << 31);
            if (value >= m->replacement_bytes)
                return false;
            *length = i + 1;
            *replacement = m->replacements + value;
        }
    }
    return true;
}

static infer_status map_characters(const infer_tokenizer *t, const char *text, size_t n, infer_bytes *out, infer_error *err)
{
    charsmap m;
    bool good = charsmap_open(&t->vocab, &m);
    for (size_t i = 0, length; i < n && good; i += length) {
        const char *p;
        size_t bytes;
        infer_utf8 what;
        good = charsmap_find(&m, (const uint8_t *)text + i, n - i, &length, &p);
        if (!good)
            break;
        if (length > 0) {
            bytes = strlen(p);
        } else {
            p = text + i;
            bytes = length = infer_utf8_next((const uint8_t *)p, n - i, &what);
            if (what != INFER_UTF8_WHOLE) {
                p = "\xef\xbf\xbd"; /* U+FFFD */
                bytes = 3;
                length = 1;
            }
        }
        if (out->n + bytes > INFER_TEXT_MAX_BYTES)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: the normalized text is longer than %u bytes", INFER_TEXT_MAX_BYTES);
        if (!infer_bytes_add(out, t->allocator, p, bytes))
            return out_of_memory(2 * out->n, err);
    }
    return good ? INFER_OK : infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: the map of characters points outside itself", t->name);
}

/* ---- Unicode ---- */

/* text[0..n), well-formed, appended in the form that `flags` ask for. `room` is work space. */
static infer_status add_form(const infer_tokenizer *t, const char *text, size_t n, infer_bytes *out, infer_bytes *room, infer_error *err)
{
    const uint32_t flags = t->vocab.flags;
    const bool decompose = flags & (INFER_VOCAB_NFD | INFER_VOCAB_STRIP_ACCENTS), compose = flags & (INFER_VOCAB_NFC | INFER_VOCAB_NFKC);
    const utf8proc_option_t options = UTF8PROC_STABLE | (flags & INFER_VOCAB_NFKC ? UTF8PROC_COMPAT : 0) |
                                      (compose     ? UTF8PROC_COMPOSE
                                       : decompose ? UTF8PROC_DECOMPOSE
                                                   : 0);
    utf8proc_ssize_t count = (utf8proc_ssize_t)n, made = 0, bytes;
    int32_t *c;
    do { /* the first guess, a character for each byte, seldom falls short; one more than is asked for, for a NUL */
        count = made > count ? made : count;
        if (!infer_grow(t->allocator, &room->p, &room->cap, (size_t)(count + 1) * sizeof *c, 1))
            return out_of_memory((size_t)(count + 1) * sizeof *c, err);
        c = (int32_t *)(void *)room->p;
        made = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, c, count, options);
    } while (made > count);
    if (made < 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: %s", utf8proc_errmsg(made));
    if (flags & (INFER_VOCAB_STRIP_ACCENTS | INFER_VOCAB_LOWERCASE | INFER_VOCAB_CLEAN)) {
        utf8proc_ssize_t kept = 0;
        for (utf8proc_ssize_t i = 0; i < made; i++) {
            const infer_char_kind kind = infer_char_kind_of((uint32_t)c[i]);
            if ((flags & INFER_VOCAB_CLEAN && kind == INFER_CHAR_CONTROL) ||
                (flags & INFER_VOCAB_STRIP_ACCENTS && utf8proc_category(c[i]) == UTF8PROC_CATEGORY_MN))
                continue;
            c[kept++] = flags & INFER_VOCAB_CLEAN && kind == INFER_CHAR_SPACE ? ' '
                        : flags & INFER_VOCAB_LOWERCASE                       ? utf8proc_tolower(c[i])
                                                                              : c[i];
        }
        made = kept;
    }
    bytes = utf8proc_reencode(c, made, options);
    if (bytes < 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: %s", utf8proc_errmsg(bytes));
    if (out->n + (size_t)bytes > INFER_TEXT_MAX_BYTES)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: the normalized text is longer than %u bytes", INFER_TEXT_MAX_BYTES);
    return infer_bytes_add(out, t->allocator, room->p, (size_t)bytes) ? INFER_OK : out_of_memory(out->n + (size_t)bytes, err);
}

/* Stretches of at most this many bytes are decomposed at once. */
#define STRETCH_BYTES 65536u

/* Well-formed stretches one by one. One ends where the next character is ASCII (which never composes with what stands before it) or
 * malformed. */
static infer_status to_form(const infer_tokenizer *t, const char *text, size_t n, infer_bytes *out, infer_error *err)
{
    infer_bytes room = {0};
    infer_status status = INFER_OK;
    size_t start = 0, length;
    for (size_t i = 0; i <= n && status == INFER_OK; i += length) {
        infer_utf8 what = INFER_UTF8_BAD;
        length = i < n ? infer_utf8_next((const uint8_t *)text + i, n - i, &what) : 1;
        if (what == INFER_UTF8_WHOLE && (length > 1 || i - start < STRETCH_BYTES))
            continue;
        if (i > start)
            status = add_form(t, text + start, i - start, out, &room, err);
        start = i;
        if (what != INFER_UTF8_WHOLE && i < n) {
            start = i + length;
            if (!(t->vocab.flags & INFER_VOCAB_CLEAN) && status == INFER_OK && !infer_bytes_add(out, t->allocator, text + i, length))
                status = out_of_memory(out->n + length, err);
        }
    }
    infer_free(t->allocator, room.p);
    return status;
}

/* ---- spaces ---- */

static infer_status to_spaces(const infer_tokenizer *t, const char *text, size_t n, bool first, infer_bytes *out, infer_error *err)
{
    const uint32_t flags = t->vocab.flags;
    const bool meta = flags & INFER_VOCAB_META_SPACE, single = flags & INFER_VOCAB_SINGLE_SPACES;
    char *p;
    size_t at = 0;
    if (!infer_grow(t->allocator, &out->p, &out->cap, n + 1, 1))
        return out_of_memory(n + 1, err);
    p = out->p;
    if (flags & INFER_VOCAB_SPACE_PREFIX && (first || !(flags & INFER_VOCAB_PREFIX_ONCE)) &&
        !(flags & INFER_VOCAB_PREFIX_UNLESS && !single && *text == ' '))
        p[at++] = ' ';
    if (!meta && !single) {
        memcpy(p + at, text, n);
        out->n = at + n;
        return INFER_OK;
    }
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (meta && c == META_SPACE[0] && n - i >= 3 && memcmp(text + i, META_SPACE, 3) == 0) {
            c = ' ';
            i += 2;
        }
        if (single && c == ' ' && (at == 0 || p[at - 1] == ' '))
            continue;
        p[at++] = c;
    }
    if (single && at > 0 && p[at - 1] == ' ')
        at--;
    out->n = at;
    return INFER_OK;
}

infer_status infer_normalize(const infer_tokenizer *t, const char *text, size_t n, bool first, infer_bytes *out, infer_bytes *space,
                             infer_error *err)
{
    infer_status status;
    if (t->vocab.flags & INFER_VOCAB_CHARSMAP) {
        space->n = 0;
        if ((status = map_characters(t, text, n, space, err)) != INFER_OK)
            return status;
        text = space->p;
        n = space->n;
    }
    if (t->vocab.flags & CHARACTERS && n > 0) {
        infer_bytes made;
        out->n = 0;
        if ((status = to_form(t, text, n, out, err)) != INFER_OK)
            return status;
        made = *out; /* the last step writes to `out` */
        *out = *space;
        *space = made;
        text = space->p;
        n = space->n;
    }
    out->n = 0;
    return n > 0 ? to_spaces(t, text, n, first, out, err) : INFER_OK;
}
