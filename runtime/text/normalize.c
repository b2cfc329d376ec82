/* Text into the form that a vocabulary expects: SentencePiece's map of characters, Unicode's normalization forms, BERT's cleaning, spaces.
 */
#include "text/tables.h"
#include "text/unicode.h"


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

static infer_status too_long(infer_error *err)
{
    return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: the normalized text is longer than %u bytes", INFER_TEXT_MAX_BYTES);
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

/* The longest prefix (or the shortest) of text[0..n) in the map: its length, 0 when there is none, and what stands for it. False: the map
 * is broken. */
static bool charsmap_find(const charsmap *m, const uint8_t *text, size_t n, bool shortest, size_t *length, const char **replacement)
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
            if (shortest)
                break;
        }
    }
    return true;
}

infer_status infer_map_characters(const infer_tokenizer *t, const char *text, size_t n, infer_bytes *out, infer_error *err)
{
    charsmap m;
    bool good = charsmap_open(&t->vocab, &m);
    for (size_t i = 0, length; i < n && good; i += length) {
        const char *p;
        size_t bytes;
        infer_utf8 what;
        good = charsmap_find(&m, (const uint8_t *)text + i, n - i, false, &length, &p);
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
            return too_long(err);
        if (!infer_bytes_add(out, t->allocator, p, bytes))
            return out_of_memory(2 * out->n, err);
    }
    return good ? INFER_OK : infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: the map of characters points outside itself", t->name);
}

/* Bytes of the grapheme at text[0..n), n >= 1. */
static size_t grapheme(const char *text, size_t n)
{
    utf8proc_int32_t state = 0, code, next;
    unsigned bytes;
    size_t at;
    if (n == 1 || ((uint8_t)text[0] < 0x80 && text[0] != '\r' && (uint8_t)text[1] < 0x80)) /* most text */
        return 1;
    code = (utf8proc_int32_t)infer_code_at(text, n, &bytes);
    for (at = bytes; at < n; at += bytes, code = next) {
        next = (utf8proc_int32_t)infer_code_at(text + at, n - at, &bytes);
        if (utf8proc_grapheme_break_stateful(code, next, &state))
            break;
    }
    return at;
}

#define GRAPHEME_BYTES 6u /* from here on, character by character */

/* Where a grapheme begins with a text of the map, all of it becomes what stands for the shortest such text; else each of its characters. */
infer_status infer_map_graphemes(const infer_tokenizer *t, const char *text, size_t n, infer_bytes *out, infer_error *err)
{
    charsmap m;
    bool good = charsmap_open(&t->vocab, &m);
    for (size_t i = 0, end = 0; i < n && good;) {
        const bool begins = i == end;
        const char *p = text + i;
        size_t length = begins ? grapheme(p, n - i) : 0, found = 0, bytes;
        unsigned one;
        end = begins ? i + length : end;
        if (begins && length < GRAPHEME_BYTES)
            good = charsmap_find(&m, (const uint8_t *)text + i, length, true, &found, &p);
        if (found == 0 && good) {
            infer_code_at(text + i, n - i, &one);
            if (one != length || length >= GRAPHEME_BYTES)
                good = charsmap_find(&m, (const uint8_t *)text + i, one, true, &found, &p);
            length = one;
        }
        if (!good)
            break;
        bytes = found ? strlen(p) : length;
        i += length;
        if (out->n + bytes > INFER_TEXT_MAX_BYTES)
            return too_long(err);
        if (!infer_bytes_add(out, t->allocator, p, bytes))
            return out_of_memory(2 * out->n, err);
    }
    return good ? INFER_OK : infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: the map of characters points outside itself", t->name);
}

/* ---- Unicode ---- */

infer_status infer_add_form(const infer_allocator *a, uint32_t flags, const char *text, size_t n, infer_bytes *out, infer_bytes *room,
                            infer_error *err)
{
    const bool decompose = flags & (INFER_VOCAB_NFD | INFER_FORM_NFKD | INFER_VOCAB_STRIP_ACCENTS),
               compose = flags & (INFER_VOCAB_NFC | INFER_VOCAB_NFKC);
    utf8proc_option_t options = UTF8PROC_STABLE | (flags & (INFER_VOCAB_NFKC | INFER_FORM_NFKD) ? UTF8PROC_COMPAT : 0) |
                                (compose     ? UTF8PROC_COMPOSE
                                 : decompose ? UTF8PROC_DECOMPOSE
                                             : 0);
    utf8proc_ssize_t count = (utf8proc_ssize_t)n, made = 0, bytes;
    int32_t *c;
    do { /* the first guess, a character for each byte, seldom falls short; one more than is asked for, for a NUL */
        count = made > count ? made : count;
        if (!infer_grow(a, &room->p, &room->cap, (size_t)(count + 1) * sizeof *c, 1))
            return out_of_memory((size_t)(count + 1) * sizeof *c, err);
        c = (int32_t *)(void *)room->p;
        made = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, c, count, options);
    } while (made > count);
    if (made < 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: %s", utf8proc_errmsg(made));
    if (flags & (INFER_VOCAB_STRIP_ACCENTS | INFER_VOCAB_LOWERCASE | INFER_VOCAB_CLEAN)) {
        utf8proc_ssize_t kept = 0, dotted = 0, from = 0;
        made =
            utf8proc_normalize_utf32(c, made, options); /* before case changes: what is composed is the form of the letters as they were */
        for (utf8proc_ssize_t i = 0; i < made && flags & INFER_VOCAB_LOWERCASE; i++)
            dotted += c[i] == INFER_DOTTED_I;
        if (dotted > 0) { /* each becomes two: begin behind what is written */
            if (!infer_grow(a, &room->p, &room->cap, (size_t)(made + dotted + 1) * sizeof *c, 1))
                return out_of_memory((size_t)(made + dotted + 1) * sizeof *c, err);
            c = (int32_t *)(void *)room->p;
            memmove(c + dotted, c, (size_t)made * sizeof *c);
            from = dotted;
        }
        for (utf8proc_ssize_t i = from; i < made + dotted; i++) {
            const infer_char_kind kind = infer_char_kind_of((uint32_t)c[i]);
            const int32_t code = c[i];
            if ((flags & INFER_VOCAB_CLEAN && kind == INFER_CHAR_CONTROL) ||
                (flags & INFER_VOCAB_STRIP_ACCENTS && utf8proc_category(code) == UTF8PROC_CATEGORY_MN))
                continue;
            c[kept++] = flags & INFER_VOCAB_CLEAN && kind == INFER_CHAR_SPACE ? ' '
                        : flags & INFER_VOCAB_LOWERCASE                       ? utf8proc_tolower(code)
                                                                              : code;
            if (flags & INFER_VOCAB_LOWERCASE && code == INFER_DOTTED_I)
                c[kept++] = INFER_DOT_ABOVE;
        }
        made = kept;
        options = UTF8PROC_STABLE;
    }
    bytes = utf8proc_reencode(c, made, options);
    if (bytes < 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: %s", utf8proc_errmsg(bytes));
    if (out->n + (size_t)bytes > INFER_TEXT_MAX_BYTES)
        return too_long(err);
    return infer_bytes_add(out, a, room->p, (size_t)bytes) ? INFER_OK : out_of_memory(out->n + (size_t)bytes, err);
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
            status = infer_add_form(t->allocator, t->vocab.flags, text + start, i - start, out, &room, err);
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
        !(flags & INFER_VOCAB_PREFIX_UNLESS && !single && (*text == ' ' || (meta && n >= 3 && memcmp(text, INFER_META_SPACE, 3) == 0))))
        p[at++] = ' ';
    if (!meta && !single) {
        memcpy(p + at, text, n);
        out->n = at + n;
        return INFER_OK;
    }
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (meta && c == INFER_META_SPACE[0] && n - i >= 3 && memcmp(text + i, INFER_META_SPACE, 3) == 0) {
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
        if ((status = infer_map_characters(t, text, n, space, err)) != INFER_OK)
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
