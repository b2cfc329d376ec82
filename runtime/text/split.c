/* Cuts text into pieces by the vocabulary's regular expressions (PCRE2). The first cuts the text: each match is a piece, and so is what
 * stands between two of them. The next cuts every piece in the same way, as if nothing stood around it; and so on. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "text/tables.h"
#include "text/utf8.h"

#include <pcre2.h>

/* Far more than a pattern of any tokenizer needs; a vocabulary's patterns may have been written to take for ever. */
#define MATCH_LIMIT 1000000u
#define HEAP_LIMIT_KIB 16384u

struct infer_splitter {
    infer_allocator own; /* a copy, as in the tokenizer */
    const infer_allocator *allocator;
    const char *name;
    pcre2_general_context *context;
    pcre2_match_context *limits;
    pcre2_code *code[INFER_VOCAB_MAX_STEPS]; /* of the patterns, or of the steps that have one */
    uint32_t count;
};

static void *allocate(PCRE2_SIZE bytes, void *s)
{
    return infer_alloc(((const infer_splitter *)s)->allocator, bytes);
}

static void release(void *p, void *s)
{
    infer_free(((const infer_splitter *)s)->allocator, p);
}

void infer_splitter_close(infer_splitter *s)
{
    infer_allocator a;
    if (!s)
        return;
    for (uint32_t i = 0; i < s->count; i++)
        pcre2_code_free(s->code[i]);
    pcre2_match_context_free(s->limits);
    pcre2_general_context_free(s->context);
    a = s->own;
    infer_free(s->allocator ? &a : NULL, s);
}

static infer_status compile(infer_splitter *s, uint32_t at, const char *pattern, size_t bytes, infer_error *err)
{
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE;
    pcre2_compile_context *context = pcre2_compile_context_create(s->context);
    PCRE2_UCHAR why[120] = "";
    PCRE2_SIZE where = 0;
    int code = PCRE2_ERROR_NOMEMORY;
    pcre2_code *made = context ? pcre2_compile((PCRE2_SPTR)pattern, bytes, options, &code, &where, context) : NULL;
    pcre2_compile_context_free(context);
    if (!made) {
        if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED)
            return infer_fail_memory(err, bytes, "the tokenizer's patterns");
        pcre2_get_error_message(code, why, sizeof why);
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: pattern \"%.*s\": %s at byte %zu", s->name,
                          bytes < 200 ? (int)bytes : 200, pattern, (char *)why, where);
    }
    s->code[at] = made;
    pcre2_jit_compile(made, PCRE2_JIT_COMPLETE); /* where it fails, matching is slower */
    return INFER_OK;
}

static infer_status compile_all(infer_splitter *s, const infer_vocab_view *v, infer_error *err)
{
    const char *pattern = v->patterns;
    infer_vocab_step step;
    infer_status status = INFER_OK;
    for (uint32_t at = 0; status == INFER_OK && v->steps && infer_vocab_next_step(v->steps, v->step_bytes, &at, &step); s->count++)
        if (step.op == INFER_STEP_SPLIT || step.op == INFER_STEP_REPLACE_PATTERN)
            status = compile(s, s->count, step.text, step.text_bytes, err);
    for (uint32_t i = 0; status == INFER_OK && i < v->pattern_count; i++, pattern += strlen(pattern) + 1)
        status = compile(s, s->count++, pattern, strlen(pattern), err);
    return status;
}

infer_status infer_splitter_open(const infer_allocator *a, const infer_vocab_view *v, const char *name, infer_splitter **out,
                                 infer_error *err)
{
    infer_splitter *s = infer_alloc_zero(a, sizeof *s);
    infer_status status;
    if (!s)
        return infer_fail_memory(err, sizeof *s, "the tokenizer's patterns");
    s->name = name;
    if (a) {
        s->own = *a;
        s->allocator = &s->own;
    }
    s->context = pcre2_general_context_create(allocate, release, s);
    s->limits = s->context ? pcre2_match_context_create(s->context) : NULL;
    if (s->limits) {
        pcre2_set_match_limit(s->limits, MATCH_LIMIT);
        pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
        status = compile_all(s, v, err);
    } else {
        status = infer_fail_memory(err, sizeof *s, "the tokenizer's patterns");
    }
    if (status == INFER_OK)
        *out = s;
    else
        infer_splitter_close(s);
    return status;
}

static infer_status takes_too_long(const infer_splitter *s, uint32_t pattern, int code, infer_error *err)
{
    return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: pattern %u takes too long on this text (PCRE2 error %d)", s->name,
                      pattern, code);
}

typedef struct split {
    const infer_splitter *s;
    pcre2_match_data *match;
    infer_piece_fn fn;
    void *user;
    infer_error *err;
} split;

/* text[0..n), well-formed, through the patterns from `stage` on. */
static infer_status cut(const split *w, uint32_t stage, const char *text, size_t n)
{
    size_t done = 0, from = 0; /* where the next piece begins, and where to look for the next match */
    infer_status status = INFER_OK;
    if (n == 0)
        return INFER_OK;
    if (stage == w->s->count)
        return w->fn(w->user, text, n);
    while (from < n && status == INFER_OK) {
        const int found = pcre2_match(w->s->code[stage], (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, w->match, w->s->limits);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(w->match);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0)
            return takes_too_long(w->s, stage, found, w->err);
        if (at[0] == at[1]) { /* nothing, as a look-ahead matches: a cut at that place; look on behind the next character */
            infer_utf8 what;
            const size_t here = at[0];
            from = here < n ? here + infer_utf8_next((const uint8_t *)text + here, n - here, &what) : n;
            status = cut(w, stage + 1, text + done, here - done);
            done = here;
            continue;
        }
        const size_t start = at[0], end = at[1]; /* a copy: the next stage uses the same match data */
        status = cut(w, stage + 1, text + done, start - done);
        if (status == INFER_OK)
            status = cut(w, stage + 1, text + start, end - start);
        done = from = end;
    }
    return status == INFER_OK ? cut(w, stage + 1, text + done, n - done) : status;
}

infer_status infer_split(const infer_splitter *s, const char *text, size_t n, infer_piece_fn fn, void *user, infer_error *err)
{
    split w = {s, pcre2_match_data_create(1, s->context), fn, user, err};
    infer_status status = INFER_OK;
    size_t start = 0;
    if (!w.match)
        return infer_fail_memory(err, 256, "a match");
    for (size_t i = 0, length; i < n && status == INFER_OK; i += length) {
        infer_utf8 what;
        length = infer_utf8_next((const uint8_t *)text + i, n - i, &what);
        if (what == INFER_UTF8_WHOLE)
            continue;
        if ((status = cut(&w, 0, text + start, i - start)) == INFER_OK) /* malformed bytes are a piece of their own */
            status = fn(user, text + i, length);
        start = i + length;
    }
    if (status == INFER_OK)
        status = cut(&w, 0, text + start, n - start);
    pcre2_match_data_free(w.match);
    return status;
}

static bool add_span(const infer_splitter *s, infer_spans *out, size_t start, size_t end, bool match)
{
    if (!infer_grow(s->allocator, &out->p, &out->cap, out->n + 1, sizeof *out->p))
        return false;
    out->p[out->n++] = (infer_span){(uint32_t)start, (uint32_t)end, match};
    return true;
}

infer_status infer_splitter_spans(const infer_splitter *s, uint32_t step, const char *text, size_t n, infer_spans *out, infer_error *err)
{
    size_t done = 0, from = 0, last = SIZE_MAX; /* where the last match ends */
    bool room = true;
    out->n = 0;
    if (!out->match && !(out->match = pcre2_match_data_create(1, s->context)))
        return infer_fail_memory(err, 256, "a match");
    while (from <= n && room) {
        const int found = pcre2_match(s->code[step], (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, out->match, s->limits);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(out->match);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0)
            return takes_too_long(s, step, found, err);
        if (at[0] == at[1] && at[1] == last) { /* nothing, and there a match has ended: look on behind the next character */
            infer_utf8 what;
            from = last < n ? last + infer_utf8_next((const uint8_t *)text + last, n - last, &what) : n + 1;
            continue;
        }
        room = (done == at[0] || add_span(s, out, done, at[0], false)) && add_span(s, out, at[0], at[1], true);
        done = from = last = at[1];
    }
    room = room && (done == n || add_span(s, out, done, n, false));
    return room ? INFER_OK : infer_fail_memory(err, 2 * out->cap * sizeof *out->p, "the matches of a pattern");
}

void infer_spans_free(const infer_allocator *a, infer_spans *spans)
{
    infer_free(a, spans->p);
    pcre2_match_data_free(spans->match);
}
