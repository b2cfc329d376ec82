/* What a vocabulary does to a text, step by step, as Hugging Face's tokenizers do it. Each step goes over all pieces, of which there is one
 * at first: it writes them anew, or cuts them. */
#include "text/tables.h"
#include "text/unicode.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static infer_status out_of_memory(size_t bytes, infer_error *err)
{
    return infer_fail_memory(err, bytes, "the normalized text");
}

static bool add_piece(infer_encoder *e, infer_pieces *to, infer_piece piece)
{
    if (!infer_grow(e->t->allocator, &to->p, &to->cap, to->n + 1, sizeof *to->p))
        return false;
    to->p[to->n++] = piece;
    return true;
}

static void swap_pieces(infer_encoder *e)
{
    const infer_pieces other = e->pieces[0];
    e->pieces[0] = e->pieces[1];
    e->pieces[1] = other;
}

static void swap_texts(infer_encoder *e)
{
    const infer_bytes other = e->work[0];
    e->work[0] = e->work[1];
    e->work[1] = other;
}

/* The text as one piece, malformed bytes as U+FFFD. */
static infer_status start(infer_encoder *e, const char *text, size_t n)
{
    infer_bytes *out = &e->work[0];
    bool room = true;
    size_t done = 0;
    out->n = e->pieces[0].n = 0;
    for (size_t i = 0, length; i < n && room; i += length) {
        infer_utf8 what;
        uint64_t eight;
        length = 8;
        if (n - i >= 8 && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u)))
            continue;
        length = infer_utf8_next((const uint8_t *)text + i, n - i, &what);
        if (what == INFER_UTF8_WHOLE)
            continue;
        room = infer_bytes_add(out, e->t->allocator, text + done, i - done) && infer_bytes_add(out, e->t->allocator, REPLACEMENT, 3);
        done = i + length;
    }
    room = room && infer_bytes_add(out, e->t->allocator, text + done, n - done) &&
           add_piece(e, &e->pieces[0], (infer_piece){0, (uint32_t)out->n, INFER_NO_SYMBOL});
    return room ? INFER_OK : out_of_memory(out->n + n, e->err);
}

/* ---- characters ---- */

static bool is_dropped(uint32_t set, uint32_t c)
{
    utf8proc_category_t category;
    if (c < 0x80 && c > 0x1f && c != 0x7f)
        return false;
    category = utf8proc_category((utf8proc_int32_t)c);
    switch (set) {
    case 1:
        return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
    case 2:
        return category == UTF8PROC_CATEGORY_MN;
    case 3:
        return infer_char_kind_of(c) == INFER_CHAR_CONTROL;
    default:
        return (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
    }
}

static bool becomes_space(uint32_t set, uint32_t c)
{
    if (set == 1)
        return infer_is_white(c);
    return c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 ||
           c == 0x2581 || c == 0xfeff || c == 0xfffd;
}

/* What becomes of text[0..length), the character c, at `to`: at most twice as many bytes. Their number. */
static size_t put_character(const infer_vocab_step *s, const char *text, unsigned length, uint32_t c, char *to)
{
    switch (s->op) {
    case INFER_STEP_LOWERCASE:
        if (c == INFER_DOTTED_I) {
            *to = 'i';
            return 1 + (size_t)utf8proc_encode_char(INFER_DOT_ABOVE, (utf8proc_uint8_t *)to + 1);
        }
        return (size_t)utf8proc_encode_char(utf8proc_tolower((utf8proc_int32_t)c), (utf8proc_uint8_t *)to);
    case INFER_STEP_DROP:
        length = is_dropped(s->argument, c) ? 0 : length;
        break;
    case INFER_STEP_SPACES:
        if (becomes_space(s->argument, c)) {
            *to = ' ';
            return 1;
        }
        break;
    default: /* INFER_STEP_IDEOGRAPHS */
        if (infer_is_ideograph(c)) {
            to[0] = to[length + 1] = ' ';
            memcpy(to + 1, text, length);
            return length + 2;
        }
    }
    memcpy(to, text, length);
    return length;
}

static infer_status put_characters(infer_encoder *e, const infer_vocab_step *s, const char *text, size_t n, bool first)
{
    infer_bytes *out = &e->work[1];
    char *to;
    if (!infer_grow(e->t->allocator, &out->p, &out->cap, out->n + 2 * n, 1))
        return out_of_memory(out->n + 2 * n, e->err);
    to = out->p + out->n;
    for (size_t i = 0; i < n;) {
        unsigned length;
        if (text[i] >= ' ' && text[i] < 0x7f) { /* most text: only capital letters change */
            *to++ = s->op == INFER_STEP_LOWERCASE && text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 'a' - 'A') : text[i];
            i++;
            continue;
        }
        const uint32_t c = infer_code_at(text + i, n - i, &length);
        const size_t bytes = put_character(s, text + i, length, c, to);
        if (first && i == 0 && bytes == 0)
            e->begins = false;
        to += bytes;
        i += length;
    }
    out->n = (size_t)(to - out->p);
    return INFER_OK;
}

static infer_status put_bytes(infer_encoder *e, const char *text, size_t n)
{
    infer_bytes *out = &e->work[1];
    char *to;
    if (!infer_grow(e->t->allocator, &out->p, &out->cap, out->n + 2 * n, 1))
        return out_of_memory(out->n + 2 * n, e->err);
    to = out->p + out->n;
    for (size_t i = 0; i < n; i++)
        to += utf8proc_encode_char((utf8proc_int32_t)infer_byte_alphabet_character((uint8_t)text[i]), (utf8proc_uint8_t *)to);
    out->n = (size_t)(to - out->p);
    return INFER_OK;
}

/* ASCII stays; stretches of other characters, with the one before them, are brought into the form. */
static infer_status put_form(infer_encoder *e, uint32_t form, const char *text, size_t n)
{
    static const uint32_t flags[] = {0, INFER_VOCAB_NFC, INFER_VOCAB_NFD, INFER_VOCAB_NFKC, INFER_FORM_NFKD};
    infer_status status = INFER_OK;
    for (size_t i = 0, ascii, end; i < n && status == INFER_OK; i = end) {
        for (ascii = i; ascii < n && (uint8_t)text[ascii] < 0x80; ascii++)
            ;
        for (end = ascii; end < n && (uint8_t)text[end] >= 0x80; end++)
            ;
        ascii -= ascii > i && ascii < n;
        if (!infer_bytes_add(&e->work[1], e->t->allocator, text + i, ascii - i))
            return out_of_memory(e->work[1].n + n, e->err);
        if (ascii < end)
            status = infer_add_form(e->t->allocator, flags[form], text + ascii, end - ascii, &e->work[1], &e->space, e->err);
    }
    return status;
}

/* ---- texts ---- */

static infer_status put_stripped(infer_encoder *e, uint32_t sides, const char *text, size_t n, bool first)
{
    size_t begin = 0;
    unsigned bytes;
    while (sides & 1 && begin < n && infer_is_white(infer_code_at(text + begin, n - begin, &bytes)))
        begin += bytes;
    while (sides & 2 && n > begin && infer_is_white(infer_code_before(text, n, &bytes)))
        n -= bytes;
    if (first && begin > 0)
        e->begins = false;
    return infer_bytes_add(&e->work[1], e->t->allocator, text + begin, n - begin) ? INFER_OK : out_of_memory(e->work[1].n + n, e->err);
}

/* The content instead of text[start..end). A match of more than one character at the beginning, or nothing instead of one, moves it. */
static bool put_content(infer_encoder *e, const infer_vocab_step *s, const char *text, size_t begin, size_t end, bool first)
{
    unsigned bytes;
    if (first && begin == 0 && end > 0) {
        infer_code_at(text, end, &bytes);
        e->begins &= bytes == end && s->content_bytes > 0;
    }
    return infer_bytes_add(&e->work[1], e->t->allocator, s->content, s->content_bytes);
}

static infer_status put_replaced(infer_encoder *e, const infer_vocab_step *s, const char *text, size_t n, bool first)
{
    size_t done = 0;
    bool room = true;
    for (const char *p = text;
         room && n - (size_t)(p - text) >= s->text_bytes && (p = memchr(p, s->text[0], n - (size_t)(p - text) - s->text_bytes + 1));) {
        const size_t at = (size_t)(p - text);
        if (memcmp(p, s->text, s->text_bytes) != 0) {
            p++;
            continue;
        }
        room = infer_bytes_add(&e->work[1], e->t->allocator, text + done, at - done) &&
               put_content(e, s, text, at, at + s->text_bytes, first) && e->work[1].n <= e->most;
        done = at + s->text_bytes;
        p += s->text_bytes;
    }
    return room && infer_bytes_add(&e->work[1], e->t->allocator, text + done, n - done) ? INFER_OK
                                                                                        : out_of_memory(e->work[1].n + n, e->err);
}

static infer_status put_replaced_pattern(infer_encoder *e, uint32_t i, const infer_vocab_step *s, const char *text, size_t n, bool first)
{
    infer_status status = infer_splitter_spans(e->t->splitter, i, text, n, &e->spans, e->err);
    bool room = true;
    if (status != INFER_OK)
        return status;
    for (const infer_span *p = e->spans.p; p < e->spans.p + e->spans.n && room; p++)
        room = (p->match ? put_content(e, s, text, p->start, p->end, first)
                         : infer_bytes_add(&e->work[1], e->t->allocator, text + p->start, p->end - p->start)) &&
               e->work[1].n <= e->most;
    return room ? INFER_OK : out_of_memory(e->work[1].n + n, e->err);
}

static infer_status put_prepended(infer_encoder *e, const infer_vocab_step *s, const char *text, size_t n, bool first)
{
    const bool stands = n >= s->text_bytes && memcmp(text, s->text, s->text_bytes) == 0;
    const bool behind = s->argument & 4, left_out = behind || (s->argument & 1 && stands) || (s->argument & 2 && !first);
    return infer_bytes_add(&e->work[1], e->t->allocator, s->text, left_out ? 0 : s->text_bytes) &&
                   infer_bytes_add(&e->work[1], e->t->allocator, text, n) &&
                   infer_bytes_add(&e->work[1], e->t->allocator, s->text, behind ? s->text_bytes : 0)
               ? INFER_OK
               : out_of_memory(e->work[1].n + n + s->text_bytes, e->err);
}

/* Writes text[0..n), n >= 1, as step i makes it, behind e->work[1]. */
static infer_status put(infer_encoder *e, uint32_t i, const infer_vocab_step *s, const char *text, size_t n, bool first)
{
    switch (s->op) {
    case INFER_STEP_FORM:
        return put_form(e, s->argument, text, n);
    case INFER_STEP_CHARSMAP:
        return s->argument ? infer_map_characters(e->t, text, n, &e->work[1], e->err)
                           : infer_map_graphemes(e->t, text, n, &e->work[1], e->err);
    case INFER_STEP_STRIP:
        return put_stripped(e, s->argument, text, n, first);
    case INFER_STEP_PREPEND:
        return put_prepended(e, s, text, n, first);
    case INFER_STEP_REPLACE:
        return put_replaced(e, s, text, n, first);
    case INFER_STEP_REPLACE_PATTERN:
        return put_replaced_pattern(e, i, s, text, n, first);
    case INFER_STEP_BYTES:
        return put_bytes(e, text, n);
    default:
        return put_characters(e, s, text, n, first);
    }
}

static infer_status put_pieces(infer_encoder *e, uint32_t i, const infer_vocab_step *s)
{
    infer_bytes *out = &e->work[1];
    infer_status status = INFER_OK;
    out->n = 0;
    for (size_t k = 0; k < e->pieces[0].n && status == INFER_OK; k++) {
        infer_piece *piece = &e->pieces[0].p[k];
        const size_t begin = out->n;
        if (piece->id == INFER_NO_SYMBOL && piece->end > piece->start)
            status = put(e, i, s, e->work[0].p + piece->start, piece->end - piece->start, k == 0 && e->begins);
        if (out->n > e->most)
            return infer_fail(e->err, INFER_ERROR_ARGUMENT, "tokenize: the normalized text is longer than %zu bytes", e->most);
        piece->start = (uint32_t)begin;
        piece->end = (uint32_t)out->n;
    }
    swap_texts(e);
    return status;
}

/* ---- cuts ---- */

/* Joins spans as the behavior says; what is removed becomes empty. */
static void join_spans(infer_spans *spans, uint32_t behavior)
{
    infer_span *p = spans->p;
    const size_t n = spans->n;
    for (size_t i = 0; i < n && behavior == INFER_SPLIT_REMOVED; i++)
        if (p[i].match)
            p[i].end = p[i].start;
    if (behavior == INFER_SPLIT_CONTIGUOUS)
        for (size_t i = 1; i < n; i++)
            if (p[i].match == p[i - 1].match) {
                p[i].start = p[i - 1].start;
                p[i - 1].end = p[i - 1].start;
            }
    if (behavior == INFER_SPLIT_PREVIOUS)
        for (size_t i = n; i-- > 1;)
            if (p[i].match && !p[i - 1].match) {
                p[i - 1].end = p[i].end;
                p[i].start = p[i].end;
            }
    if (behavior == INFER_SPLIT_NEXT)
        for (size_t i = 0; i + 1 < n; i++)
            if (p[i].match && !p[i + 1].match) {
                p[i + 1].start = p[i].start;
                p[i].end = p[i].start;
            }
}

static infer_status cut(infer_encoder *e, uint32_t i, const infer_vocab_step *s, infer_piece piece)
{
    const uint32_t from = piece.start, behavior = s->argument & ~(uint32_t)INFER_SPLIT_INVERT;
    infer_status status = infer_splitter_spans(e->t->splitter, i, e->work[0].p + from, piece.end - from, &e->spans, e->err);
    bool room = true;
    if (status != INFER_OK)
        return status;
    for (size_t k = 0; k < e->spans.n && s->argument & INFER_SPLIT_INVERT; k++)
        e->spans.p[k].match = !e->spans.p[k].match;
    join_spans(&e->spans, behavior);
    for (const infer_span *p = e->spans.p; p < e->spans.p + e->spans.n && room; p++)
        room = p->start == p->end || add_piece(e, &e->pieces[1], (infer_piece){from + p->start, from + p->end, INFER_NO_SYMBOL});
    return room ? INFER_OK : out_of_memory(2 * e->pieces[1].cap * sizeof piece, e->err);
}

static infer_status find_names(infer_encoder *e, infer_piece piece)
{
    const char *text = e->work[0].p + piece.start;
    const size_t n = piece.end - piece.start;
    size_t at = 0, done = 0;
    infer_found found;
    bool room = true;
    while (room && infer_names_next(e->t, &e->t->normal_names, text, n, done, e->flags, &at, &found)) {
        room = (found.start == done ||
                add_piece(e, &e->pieces[1],
                          (infer_piece){piece.start + (uint32_t)done, piece.start + (uint32_t)found.start, INFER_NO_SYMBOL})) &&
               add_piece(e, &e->pieces[1], (infer_piece){piece.start + (uint32_t)found.start, piece.start + (uint32_t)found.end, found.id});
        done = found.end;
    }
    room = room && (done == n || add_piece(e, &e->pieces[1], (infer_piece){piece.start + (uint32_t)done, piece.end, INFER_NO_SYMBOL}));
    return room ? INFER_OK : out_of_memory(2 * e->pieces[1].cap * sizeof piece, e->err);
}

static infer_status limit(infer_encoder *e, uint32_t most, infer_piece piece)
{
    const uint32_t unk = e->t->vocab.unk;
    uint32_t characters = 0;
    for (uint32_t i = piece.start; i < piece.end; i++)
        characters += ((uint8_t)e->work[0].p[i] & 0xc0) != 0x80;
    if (characters > most) {
        piece.id = unk;
        if (unk == INFER_VOCAB_NO_ID)
            return INFER_OK;
    }
    return add_piece(e, &e->pieces[1], piece) ? INFER_OK : out_of_memory(2 * e->pieces[1].cap * sizeof piece, e->err);
}

static infer_status cut_pieces(infer_encoder *e, uint32_t i, const infer_vocab_step *s)
{
    const infer_pieces *from = &e->pieces[0];
    infer_status status = INFER_OK;
    e->pieces[1].n = 0;
    for (size_t k = 0; k < from->n && status == INFER_OK; k++) {
        const infer_piece piece = from->p[k];
        if (piece.id != INFER_NO_SYMBOL)
            status = add_piece(e, &e->pieces[1], piece) ? INFER_OK : out_of_memory(2 * e->pieces[1].cap * sizeof piece, e->err);
        else if (piece.end > piece.start)
            status = s->op == INFER_STEP_SPLIT   ? cut(e, i, s, piece)
                     : s->op == INFER_STEP_NAMES ? find_names(e, piece)
                                                 : limit(e, s->argument, piece);
        if (k == 0) /* what stood at the beginning may have gone */
            e->begins = e->begins && e->pieces[1].n > 0 && e->pieces[1].p[0].start == piece.start;
    }
    swap_pieces(e);
    return status;
}

#define GROWTH 64u /* of a text, at most; steps may have been written to let it explode */

infer_status infer_steps_run(infer_encoder *e, const char *text, size_t n, bool first, bool until_names)
{
    const infer_vocab_view *v = &e->t->vocab;
    infer_vocab_step s;
    infer_status status = start(e, text, n);
    e->begins = first;
    e->most = n < INFER_TEXT_MAX_BYTES / GROWTH - 1024 ? GROWTH * (n + 1024) : INFER_TEXT_MAX_BYTES;
    for (uint32_t at = 0, i = 0; status == INFER_OK && infer_vocab_next_step(v->steps, v->step_bytes, &at, &s); i++) {
        if (s.op == INFER_STEP_NAMES && until_names)
            break;
        if (s.op == INFER_STEP_SPLIT || s.op == INFER_STEP_NAMES || s.op == INFER_STEP_LIMIT)
            status = cut_pieces(e, i, &s);
        else if (s.op != INFER_STEP_BEFORE && s.op != INFER_STEP_BEHIND)
            status = put_pieces(e, i, &s);
    }
    return status;
}

void infer_steps_free(infer_encoder *e)
{
    for (int i = 0; i < 2; i++) {
        infer_free(e->t->allocator, e->work[i].p);
        infer_free(e->t->allocator, e->pieces[i].p);
    }
    infer_spans_free(e->t->allocator, &e->spans);
}
