/* Semantics: Hugging Face's tokenizers (https://github.com/huggingface/tokenizers), normalizers/ and pre_tokenizers/. */
#include "import/vocab/json_steps.h"

#include <stdio.h>

/* Regular expressions that parts stand for. */
#define SPACE_AND_WORD " [^ ]*|[^ ]+"
#define PUNCTUATION "[\\p{P}!-/:-@\\[-`{-~]"
#define WHITE "[\\t-\\r \\x{85}\\p{Z}]"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define JOINERS "\\x{200C}\\x{200D}"
#define WORDS_AND_MARKS "[" WORD JOINERS "]+|[^" WORD JOINERS "\\t-\\r \\x{85}\\p{Z}]+"

infer_status infer_json_unknown(const char *path, const char *part, const cJSON *item, infer_error *err)
{
    char *text = item ? cJSON_PrintUnformatted(item) : NULL;
    const infer_status status =
        infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: %s %.300s is unknown to this library", path, part, text ? text : "without a type");
    cJSON_free(text);
    return status;
}

infer_status infer_json_steps_add(infer_json_steps *s, uint32_t op, uint32_t argument, const char *text, const char *content)
{
    if (s->count == INFER_VOCAB_MAX_STEPS)
        return infer_fail(s->err, INFER_ERROR_UNSUPPORTED, "%s: normalizer and pre-tokenizer: more than %u steps", s->path,
                          INFER_VOCAB_MAX_STEPS);
    s->list[s->count++] = (infer_vocab_step){.op = op,
                                             .argument = argument,
                                             .text = text,
                                             .content = content,
                                             .text_bytes = text ? (uint32_t)strlen(text) : 0,
                                             .content_bytes = content ? (uint32_t)strlen(content) : 0};
    return INFER_OK;
}

/* ---- patterns ---- */

static infer_status pattern_too_long(infer_json_steps *s)
{
    return infer_fail(s->err, INFER_ERROR_UNSUPPORTED, "%s: patterns of more than %zu bytes, or one of more than %u", s->path,
                      sizeof s->texts, INFER_VOCAB_MAX_PATTERN_BYTES);
}

#define MOST_GROUPS 32u

/* A pattern in the making. */
typedef struct writer {
    char *out;
    size_t n, room;
    size_t atom;                /* where what a quantifier repeats begins */
    size_t groups[MOST_GROUPS]; /* where the open ones begin */
    unsigned depth;
    bool fits;
} writer;

static void put(writer *w, const char *text, size_t n)
{
    w->fits &= n < w->room - w->n;
    if (!w->fits)
        return;
    memcpy(w->out + w->n, text, n);
    w->n += n;
}

static void put_text(writer *w, const char *text)
{
    put(w, text, strlen(text));
}

/* Ruby's {n,m}+ repeats the repetition; in Perl's syntax it would never give back. */
static void wrap_atom(writer *w)
{
    w->fits &= w->room - w->n > 8;
    if (!w->fits)
        return;
    memmove(w->out + w->atom + 3, w->out + w->atom, w->n - w->atom);
    memcpy(w->out + w->atom, "(?:", 3);
    w->n += 3;
    put_text(w, ")");
}

/* Bytes of "{n,m}", or 0. */
static size_t interval(const char *p)
{
    const size_t n = 1 + strspn(p + 1, "0123456789,");
    return *p == '{' && n > 1 && p[n] == '}' ? n + 1 : 0;
}

/* Hugging Face's patterns are Oniguruma's, in Ruby's syntax: ^ and $ stand at lines, and classes may hold classes, whose members they take
 * over; in ours, members are written out. *out lies in s->texts. */
static infer_status convert_regex(infer_json_steps *s, const char *regex, const char **out)
{
    const size_t left = sizeof s->texts - s->text_bytes;
    writer w = {
        .out = s->texts + s->text_bytes, .room = left < INFER_VOCAB_MAX_PATTERN_BYTES ? left : INFER_VOCAB_MAX_PATTERN_BYTES, .fits = true};
    unsigned classes = 0;
    size_t n;
    for (const char *p = regex; *p && w.fits; p++) {
        if (classes == 0 && !strchr("?*+{", *p) && *p != ')')
            w.atom = w.n;
        if (strncmp(p, "\\p{Han}", 7) == 0) { /* the script; in PCRE2 what stands in its texts, too */
            put_text(&w, "\\p{sc:Han}");
            p += 6;
        } else if (p[0] == '\\' && p[1] == 'w') { /* here marks belong to it, too */
            put_text(&w, classes ? WORD : "[" WORD "]");
            p++;
        } else if (p[0] == '\\' && p[1] == 'W' && classes == 0) {
            put_text(&w, "[^" WORD "]");
            p++;
        } else if (*p == '\\' && p[1]) {
            n = p[2] == '{' && strchr("pPx", p[1]) ? strcspn(p, "}") + 1 : 2;
            n = n > strlen(p) ? strlen(p) : n;
            put(&w, p, n);
            p += n - 1;
        } else if (classes > 0 && *p == '[' && p[1] != ':') {
            if (p[1] == '^')
                return infer_fail(s->err, INFER_ERROR_UNSUPPORTED, "%s: pattern \"%s\": a negated class in a class", s->path, regex);
            classes++;
        } else if (classes > 0 && p[0] == '&' && p[1] == '&') {
            return infer_fail(s->err, INFER_ERROR_UNSUPPORTED, "%s: pattern \"%s\": an intersection of classes", s->path, regex);
        } else if (classes > 0) {
            classes -= *p == ']';
            if (*p != ']' || classes == 0)
                put(&w, p, 1);
        } else if (*p == '[') {
            classes = 1;
            put(&w, p, 1);
            if (p[1] == '^')
                put(&w, ++p, 1);
            if (p[1] == ']')
                put(&w, ++p, 1);
        } else if (*p == '^' || *p == '$') {
            put_text(&w, *p == '^' ? "(?m:^)" : "(?m:$)");
        } else if ((n = interval(p)) > 0) {
            put(&w, p, n);
            p += n - 1;
            if (p[1] == '+')
                wrap_atom(&w);
        } else {
            if (*p == '(' && w.depth == MOST_GROUPS)
                return infer_fail(s->err, INFER_ERROR_UNSUPPORTED, "%s: pattern \"%s\": more than %u groups in one another", s->path, regex,
                                  MOST_GROUPS);
            if (*p == '(')
                w.groups[w.depth++] = w.n;
            if (*p == ')' && w.depth > 0)
                w.atom = w.groups[--w.depth];
            put(&w, p, 1);
        }
    }
    if (!w.fits)
        return pattern_too_long(s);
    w.out[w.n] = 0;
    s->text_bytes += w.n + 1;
    *out = w.out;
    return INFER_OK;
}

/* The text itself, as a pattern. */
static infer_status convert_literal(infer_json_steps *s, const char *text, const char **out)
{
    char *to = s->texts + s->text_bytes;
    const size_t most = 2 * strlen(text) + 1;
    size_t n = 0;
    if (most > INFER_VOCAB_MAX_PATTERN_BYTES || most > sizeof s->texts - s->text_bytes)
        return pattern_too_long(s);
    for (; *text; text++) {
        if (strchr("\\^$.[]|()?*+{}", *text))
            to[n++] = '\\';
        to[n++] = *text;
    }
    to[n] = 0;
    s->text_bytes += n + 1;
    *out = to;
    return INFER_OK;
}

static infer_status add_split(infer_json_steps *s, uint32_t behavior, const char *pattern)
{
    return infer_json_steps_add(s, INFER_STEP_SPLIT, behavior, pattern, NULL);
}

/* ---- normalizer ---- */

static infer_status add_replace(infer_json_steps *s, const cJSON *item)
{
    const char *text = cJSON_GetStringValue(get(get(item, "pattern"), "String")),
               *regex = cJSON_GetStringValue(get(get(item, "pattern"), "Regex")), *content = cJSON_GetStringValue(get(item, "content"));
    infer_status status;
    if (!content || !((text && *text) || (regex && *regex)))
        return infer_json_unknown(s->path, "normalizer", item, s->err);
    if (text)
        return infer_json_steps_add(s, INFER_STEP_REPLACE, 0, text, content);
    status = convert_regex(s, regex, &regex);
    return status == INFER_OK ? infer_json_steps_add(s, INFER_STEP_REPLACE_PATTERN, 0, regex, content) : status;
}

static infer_status add_bert(infer_json_steps *s, const cJSON *item)
{
    const bool lower = !cJSON_IsFalse(get(item, "lowercase")), clean = !cJSON_IsFalse(get(item, "clean_text"));
    const cJSON *strip = get(item, "strip_accents");
    infer_status status = INFER_OK;
    if (clean && (status = infer_json_steps_add(s, INFER_STEP_DROP, 3, NULL, NULL)) == INFER_OK)
        status = infer_json_steps_add(s, INFER_STEP_SPACES, 1, NULL, NULL);
    if (status == INFER_OK && !cJSON_IsFalse(get(item, "handle_chinese_chars")))
        status = infer_json_steps_add(s, INFER_STEP_IDEOGRAPHS, 0, NULL, NULL);
    if (status == INFER_OK && (cJSON_IsBool(strip) ? cJSON_IsTrue(strip) : lower) &&
        (status = infer_json_steps_add(s, INFER_STEP_FORM, 2, NULL, NULL)) == INFER_OK)
        status = infer_json_steps_add(s, INFER_STEP_DROP, 2, NULL, NULL);
    return status == INFER_OK && lower ? infer_json_steps_add(s, INFER_STEP_LOWERCASE, 0, NULL, NULL) : status;
}

static infer_status read_normalizer(infer_json_steps *s, const cJSON *item)
{
    static const struct {
        const char *type;
        uint32_t op, argument;
    } plain[] = {{"NFC", INFER_STEP_FORM, 1},       {"NFD", INFER_STEP_FORM, 2},          {"NFKC", INFER_STEP_FORM, 3},
                 {"NFKD", INFER_STEP_FORM, 4},      {"StripAccents", INFER_STEP_DROP, 1}, {"Lowercase", INFER_STEP_LOWERCASE, 0},
                 {"ByteLevel", INFER_STEP_BYTES, 0}};
    const char *text;
    const cJSON *one;
    infer_status status = INFER_OK;
    if (!item || cJSON_IsNull(item))
        return INFER_OK;
    if (infer_json_is_type(item, "Sequence")) {
        cJSON_ArrayForEach(one, get(item, "normalizers"))
        {
            if ((status = read_normalizer(s, one)) != INFER_OK)
                return status;
        }
        return INFER_OK;
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (infer_json_is_type(item, plain[i].type))
            return infer_json_steps_add(s, plain[i].op, plain[i].argument, NULL, NULL);
    if (infer_json_is_type(item, "Nmt"))
        return (status = infer_json_steps_add(s, INFER_STEP_DROP, 4, NULL, NULL)) == INFER_OK
                   ? infer_json_steps_add(s, INFER_STEP_SPACES, 2, NULL, NULL)
                   : status;
    if (infer_json_is_type(item, "Strip")) {
        const uint32_t sides = (cJSON_IsTrue(get(item, "strip_left")) ? 1 : 0) + (cJSON_IsTrue(get(item, "strip_right")) ? 2 : 0);
        return sides ? infer_json_steps_add(s, INFER_STEP_STRIP, sides, NULL, NULL) : INFER_OK;
    }
    if (infer_json_is_type(item, "Prepend") && (text = cJSON_GetStringValue(get(item, "prepend"))))
        return *text ? infer_json_steps_add(s, INFER_STEP_PREPEND, 0, text, NULL) : INFER_OK;
    if (infer_json_is_type(item, "Replace"))
        return add_replace(s, item);
    if (infer_json_is_type(item, "BertNormalizer"))
        return add_bert(s, item);
    text = cJSON_GetStringValue(get(item, "precompiled_charsmap"));
    if (infer_json_is_type(item, "Precompiled") && text && (!s->charsmap || strcmp(s->charsmap, text) == 0)) {
        if (!*text)
            return INFER_OK;
        s->charsmap = text;
        return infer_json_steps_add(s, INFER_STEP_CHARSMAP, 0, NULL, NULL);
    }
    return infer_json_unknown(s->path, "normalizer", item, s->err);
}

/* ---- pre-tokenizer ---- */

/* 0: unknown. */
static uint32_t behavior_of(const cJSON *item, uint32_t otherwise)
{
    static const char *const names[] = {[INFER_SPLIT_ISOLATED] = "Isolated",
                                        [INFER_SPLIT_REMOVED] = "Removed",
                                        [INFER_SPLIT_PREVIOUS] = "MergedWithPrevious",
                                        [INFER_SPLIT_NEXT] = "MergedWithNext",
                                        [INFER_SPLIT_CONTIGUOUS] = "Contiguous"};
    const cJSON *behavior = get(item, "behavior");
    for (uint32_t i = 1; behavior && i < sizeof names / sizeof *names; i++)
        if (text_is(behavior, names[i]))
            return i;
    return behavior ? 0 : otherwise;
}

static bool is_one_character(const char *text)
{
    size_t n = 0;
    for (; text && *text; text++)
        n += ((uint8_t)*text & 0xc0) != 0x80;
    return n == 1;
}

static infer_status add_metaspace(infer_json_steps *s, const cJSON *item)
{
    const cJSON *scheme = get(item, "prepend_scheme");
    const char *mark = cJSON_GetStringValue(get(item, "replacement")), *pattern;
    const bool first = text_is(scheme, "first"), never = text_is(scheme, "never") || cJSON_IsFalse(get(item, "add_prefix_space"));
    infer_status status;
    if (!is_one_character(mark) || (scheme && !first && !never && !text_is(scheme, "always")))
        return infer_json_unknown(s->path, "pre-tokenizer", item, s->err);
    if (strcmp(mark, " ") != 0 && (status = infer_json_steps_add(s, INFER_STEP_REPLACE, 0, " ", mark)) != INFER_OK)
        return status;
    if (!never && (status = infer_json_steps_add(s, INFER_STEP_PREPEND, first ? 3 : 1, mark, NULL)) != INFER_OK)
        return status;
    if (cJSON_IsFalse(get(item, "split")))
        return INFER_OK;
    status = convert_literal(s, mark, &pattern);
    return status == INFER_OK ? add_split(s, INFER_SPLIT_NEXT, pattern) : status;
}

/* Spaces have become U+2581 by then. */
static bool has_no_spaces(const infer_json_steps *s)
{
    bool none = false;
    for (uint32_t i = 0; i < s->count; i++)
        none = strcmp(s->list[i].text ? s->list[i].text : "", " ") == 0 && s->list[i].op == INFER_STEP_REPLACE
                   ? !strchr(s->list[i].content, ' ')
                   : none && s->list[i].op == INFER_STEP_SPLIT;
    return none;
}

static infer_status read_split(infer_json_steps *s, const cJSON *item)
{
    const char *regex = cJSON_GetStringValue(get(get(item, "pattern"), "Regex")),
               *text = cJSON_GetStringValue(get(get(item, "pattern"), "String"));
    const uint32_t behavior = behavior_of(item, 0);
    infer_status status;
    if (behavior == 0 || !((text && *text) || (regex && *regex)))
        return infer_json_unknown(s->path, "pre-tokenizer", item, s->err);
    if (text && strcmp(text, " ") == 0 && !cJSON_IsTrue(get(item, "invert")) && has_no_spaces(s))
        return INFER_OK; /* there is nothing to split */
    status = text ? convert_literal(s, text, &regex) : convert_regex(s, regex, &regex);
    return status == INFER_OK ? add_split(s, behavior + (cJSON_IsTrue(get(item, "invert")) ? INFER_SPLIT_INVERT : 0), regex) : status;
}

static infer_status read_pretokenizer(infer_json_steps *s, const cJSON *item)
{
    const uint32_t behavior = behavior_of(item, INFER_SPLIT_ISOLATED);
    const char *text, *pattern;
    const cJSON *one;
    infer_status status = INFER_OK;
    if (!item || cJSON_IsNull(item))
        return INFER_OK;
    if (infer_json_is_type(item, "Sequence")) {
        cJSON_ArrayForEach(one, get(item, "pretokenizers"))
        {
            if ((status = read_pretokenizer(s, one)) != INFER_OK)
                return status;
        }
        return INFER_OK;
    }
    if (infer_json_is_type(item, "ByteLevel")) {
        if (cJSON_IsTrue(get(item, "add_prefix_space")))
            status = infer_json_steps_add(s, INFER_STEP_PREPEND, 1, " ", NULL);
        if (status == INFER_OK && !cJSON_IsFalse(get(item, "use_regex")))
            status = add_split(s, INFER_SPLIT_ISOLATED, INFER_PATTERN_WORDS);
        return status == INFER_OK ? infer_json_steps_add(s, INFER_STEP_BYTES, 0, NULL, NULL) : status;
    }
    if (infer_json_is_type(item, "Metaspace"))
        return add_metaspace(s, item);
    if (infer_json_is_type(item, "Split"))
        return read_split(s, item);
    if (infer_json_is_type(item, "Digits"))
        return add_split(s, INFER_SPLIT_ISOLATED, cJSON_IsTrue(get(item, "individual_digits")) ? "\\p{N}" : "\\p{N}+");
    if (infer_json_is_type(item, "Punctuation") && behavior)
        return behavior == INFER_SPLIT_CONTIGUOUS ? add_split(s, INFER_SPLIT_ISOLATED, PUNCTUATION "+")
                                                  : add_split(s, behavior, PUNCTUATION);
    if (infer_json_is_type(item, "BertPreTokenizer"))
        return (status = add_split(s, INFER_SPLIT_REMOVED, WHITE)) == INFER_OK ? add_split(s, INFER_SPLIT_ISOLATED, PUNCTUATION) : status;
    if (infer_json_is_type(item, "WhitespaceSplit"))
        return add_split(s, INFER_SPLIT_REMOVED, WHITE);
    if (infer_json_is_type(item, "Whitespace"))
        return add_split(s, INFER_SPLIT_REMOVED + INFER_SPLIT_INVERT, WORDS_AND_MARKS);
    text = cJSON_GetStringValue(get(item, "delimiter"));
    if (infer_json_is_type(item, "CharDelimiterSplit") && is_one_character(text))
        return (status = convert_literal(s, text, &pattern)) == INFER_OK ? add_split(s, INFER_SPLIT_REMOVED, pattern) : status;
    if (infer_json_is_type(item, "FixedLength")) {
        const double length = cJSON_IsNumber(get(item, "length")) ? get(item, "length")->valuedouble : 5;
        char *to = s->texts + s->text_bytes;
        if (length >= 1 && length <= 65535 && sizeof s->texts - s->text_bytes > 32) {
            s->text_bytes += (size_t)snprintf(to, 32, "[\\s\\S]{1,%u}", (unsigned)length) + 1;
            return add_split(s, INFER_SPLIT_ISOLATED, to);
        }
    }
    return infer_json_unknown(s->path, "pre-tokenizer", item, s->err);
}

infer_status infer_json_steps_read(infer_json_steps *s, const cJSON *normalizer, const cJSON *pretokenizer)
{
    infer_status status = read_normalizer(s, normalizer);
    s->normalizers = s->count;
    if (status == INFER_OK)
        status = read_pretokenizer(s, pretokenizer);
    s->bytes_last = status == INFER_OK && s->count > s->normalizers && s->list[s->count - 1].op == INFER_STEP_BYTES;
    for (uint32_t i = 0; i + 1 < s->count; i++) /* twice: then it is no shorthand for bytes */
        s->bytes_last &= s->list[i].op != INFER_STEP_BYTES;
    s->count -= s->bytes_last;
    return status;
}

/* ---- as flags ---- */

/* Whether the step at *i is this one; then *i moves on. NULL: any text, or none. */
static bool take(const infer_json_steps *s, uint32_t *i, uint32_t end, uint32_t op, uint32_t argument, const char *text,
                 const char *content)
{
    const infer_vocab_step *step = &s->list[*i];
    if (*i >= end || step->op != op || step->argument != argument || (text && strcmp(step->text, text) != 0) ||
        (content && strcmp(step->content, content) != 0))
        return false;
    ++*i;
    return true;
}

/* The normalizer's steps that flags know, in the order in which flags are applied. */
static uint32_t take_normalizer(const infer_json_steps *s, uint32_t *flags)
{
    static const uint32_t forms[] = {INFER_VOCAB_NFC, INFER_VOCAB_NFD, INFER_VOCAB_NFKC};
    const uint32_t end = s->normalizers;
    uint32_t i = 0;
    if (take(s, &i, end, INFER_STEP_DROP, 3, NULL, NULL)) {
        *flags |= INFER_VOCAB_CLEAN;
        if (!take(s, &i, end, INFER_STEP_SPACES, 1, NULL, NULL) || !take(s, &i, end, INFER_STEP_IDEOGRAPHS, 0, NULL, NULL))
            return end + 1;
        if (take(s, &i, end, INFER_STEP_FORM, 2, NULL, NULL)) {
            if (!take(s, &i, end, INFER_STEP_DROP, 2, NULL, NULL))
                return end + 1;
            *flags |= INFER_VOCAB_STRIP_ACCENTS;
        }
    } else {
        for (uint32_t form = 0; form < 3; form++)
            if (take(s, &i, end, INFER_STEP_FORM, form + 1, NULL, NULL)) {
                *flags |= forms[form];
                break;
            }
    }
    if (take(s, &i, end, INFER_STEP_LOWERCASE, 0, NULL, NULL))
        *flags |= INFER_VOCAB_LOWERCASE;
    if (take(s, &i, end, INFER_STEP_PREPEND, 0, INFER_META_SPACE, NULL))
        *flags |= INFER_VOCAB_SPACE_PREFIX;
    if (take(s, &i, end, INFER_STEP_REPLACE, 0, " ", INFER_META_SPACE))
        *flags |= INFER_VOCAB_META_SPACE;
    else if (*flags & INFER_VOCAB_SPACE_PREFIX)
        return end + 1;
    return i;
}

static bool add_pattern(infer_vocab_parts *out, char *patterns, size_t *bytes, const char *pattern)
{
    const size_t n = strlen(pattern) + 1;
    if (out->pattern_count == INFER_VOCAB_MAX_PATTERNS || n > INFER_VOCAB_MAX_PATTERN_BYTES - *bytes)
        return false;
    memcpy(patterns + *bytes, pattern, n);
    *bytes += n;
    out->pattern_count++;
    out->pretokenizer = INFER_PRETOKENIZER_PATTERNS;
    return true;
}

bool infer_json_steps_as_flags(infer_json_steps *s, bool names, infer_vocab_parts *out)
{
    infer_vocab_parts made = *out;
    char *patterns = s->texts + s->text_bytes;
    size_t bytes = 0;
    uint32_t flags = 0, i = take_normalizer(s, &flags);
    const bool bert = flags & INFER_VOCAB_CLEAN, prefixed = flags & INFER_VOCAB_SPACE_PREFIX, meta = flags & INFER_VOCAB_META_SPACE;
    if (s->needed || i != s->normalizers || sizeof s->texts - s->text_bytes < INFER_VOCAB_MAX_PATTERN_BYTES ||
        bert != (made.kind == INFER_VOCAB_WORDPIECE))
        return false;
    if (bert) { /* WordPiece splits the words */
        made.pretokenizer = INFER_PRETOKENIZER_BERT;
        if (!take(s, &i, s->count, INFER_STEP_SPLIT, INFER_SPLIT_REMOVED, WHITE, NULL) ||
            !take(s, &i, s->count, INFER_STEP_SPLIT, INFER_SPLIT_ISOLATED, PUNCTUATION, NULL))
            return false;
    } else if (!prefixed && !names) {
        if (take(s, &i, s->count, INFER_STEP_REPLACE, 0, " ", INFER_META_SPACE))
            flags |= INFER_VOCAB_META_SPACE;
        if (take(s, &i, s->count, INFER_STEP_PREPEND, 1, flags & INFER_VOCAB_META_SPACE ? INFER_META_SPACE : " ", NULL))
            flags |= INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_PREFIX_UNLESS;
        else if (take(s, &i, s->count, INFER_STEP_PREPEND, 3, flags & INFER_VOCAB_META_SPACE ? INFER_META_SPACE : " ", NULL))
            flags |= INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_PREFIX_UNLESS | INFER_VOCAB_PREFIX_ONCE;
        if (flags & INFER_VOCAB_META_SPACE && take(s, &i, s->count, INFER_STEP_SPLIT, INFER_SPLIT_NEXT, INFER_META_SPACE, NULL) &&
            !add_pattern(&made, patterns, &bytes, SPACE_AND_WORD))
            return false;
    }
    for (; i < s->count; i++) { /* patterns see a space for U+2581: known ones do not mind */
        const infer_vocab_step *step = &s->list[i];
        if (step->op != INFER_STEP_SPLIT || step->argument != INFER_SPLIT_ISOLATED || bert ||
            ((meta || flags & INFER_VOCAB_META_SPACE) && strncmp(step->text, "\\p{N}", 5) != 0 &&
             strncmp(step->text, PUNCTUATION, strlen(PUNCTUATION)) != 0) ||
            !add_pattern(&made, patterns, &bytes, step->text))
            return false;
    }
    made.flags |= flags | (s->bytes_last ? INFER_VOCAB_BYTE_LEVEL : 0);
    made.patterns = patterns;
    *out = made;
    return true;
}

/* ---- as steps ---- */

static const infer_vocab_step names_step = {.op = INFER_STEP_NAMES};

uint32_t infer_json_steps_bytes(const infer_json_steps *s, bool names)
{
    uint32_t bytes = names ? infer_vocab_put_step(&names_step, NULL) : 0;
    for (uint32_t i = 0; i < s->count; i++)
        bytes += infer_vocab_put_step(&s->list[i], NULL);
    return bytes;
}

void infer_json_steps_write(const infer_json_steps *s, bool names, uint8_t *block, infer_vocab_parts *out)
{
    uint32_t at = 0;
    bool meta = false, prefix = false, bytes = s->bytes_last;
    for (uint32_t i = 0; i <= s->count; i++) {
        const infer_vocab_step *step = &s->list[i];
        if (names && i == s->normalizers)
            at += infer_vocab_put_step(&names_step, block + at);
        if (i == s->count)
            break;
        at += infer_vocab_put_step(step, block + at);
        meta |= step->op == INFER_STEP_REPLACE && strcmp(step->text, " ") == 0 && strcmp(step->content, INFER_META_SPACE) == 0;
        prefix |= step->op == INFER_STEP_PREPEND && (strcmp(step->text, " ") == 0 || strcmp(step->text, INFER_META_SPACE) == 0);
        bytes |= step->op == INFER_STEP_BYTES;
    }
    out->pretokenizer = INFER_PRETOKENIZER_STEPS;
    out->flags |= (meta ? INFER_VOCAB_META_SPACE : 0) | (prefix ? INFER_VOCAB_SPACE_PREFIX : 0) | (bytes ? INFER_VOCAB_BYTE_LEVEL : 0) |
                  (s->charsmap ? INFER_VOCAB_CHARSMAP : 0);
    out->steps = block;
    out->step_bytes = at;
}
