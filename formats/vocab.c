/* The tokenizer section: checked and viewed in place, or laid out. */
#include "vocab.h"

#include "bytes.h"
#include "file.h"
#include "utf8.h"

#include <inttypes.h>
#include <math.h>

#define HEADER_WORDS 9u
#define KNOWN_FLAGS (2 * INFER_VOCAB_WORD_BEGIN - 1)
#define FORMS (INFER_VOCAB_NFC | INFER_VOCAB_NFD | INFER_VOCAB_NFKC)
#define STEP_WORDS 4u /* of a step's head */
/* What steps say instead. */
#define STEP_FLAGS                                                                                                                         \
    (FORMS | INFER_VOCAB_PREFIX_ONCE | INFER_VOCAB_PREFIX_UNLESS | INFER_VOCAB_SINGLE_SPACES | INFER_VOCAB_STRIP_ACCENTS |                 \
     INFER_VOCAB_LOWERCASE | INFER_VOCAB_CLEAN)

/* Llama 3's and Qwen2's (their tokenizer.json). */
#define WORDS_AND_LINES(numbers)                                                                                                           \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

const char *infer_vocab_known_patterns(uint32_t pretokenizer, uint32_t *count)
{
    static const char *const patterns[] = {
        [INFER_PRETOKENIZER_GPT2] = INFER_PATTERN_WORDS,
        [INFER_PRETOKENIZER_LLAMA3] = WORDS_AND_LINES("\\p{N}{1,3}"),
        [INFER_PRETOKENIZER_QWEN2] = WORDS_AND_LINES("\\p{N}"),
    };
    const char *p = pretokenizer < sizeof patterns / sizeof *patterns ? patterns[pretokenizer] : NULL;
    *count = p ? 1 : 0;
    return p;
}

/* Bytes of a section without its blocks; all counts are below their limits, so nothing overflows. */
static uint64_t section_bytes(uint64_t tokens, uint64_t merges, uint64_t text_bytes)
{
    return HEADER_WORDS * 4 + tokens * 4 + infer_round_up(tokens, 4) + tokens * 4 + merges * 8 + text_bytes;
}

/* "<0x0A>" */
static bool is_byte_token(const char *text, uint32_t bytes)
{
    const char *hex = "0123456789ABCDEF";
    return bytes == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>' && text[3] && strchr(hex, text[3]) && text[4] &&
           strchr(hex, text[4]);
}

static infer_status check_id(const char *name, const char *what, uint32_t id, uint32_t tokens, infer_error *err)
{
    if (id == INFER_VOCAB_NO_ID || id < tokens)
        return INFER_OK;
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: %s id: found %" PRIu32 ", expected one of %" PRIu32 " tokens, or none", name,
                      what, id, tokens);
}

static infer_status check_tokens(const infer_vocab_view *v, const char *name, infer_error *err)
{
    uint32_t start = 0;
    for (uint32_t i = 0; i < v->tokens; i++) {
        if (v->ends[i] < start || v->ends[i] > v->text_bytes)
            return infer_fail(err, INFER_ERROR_FORMAT,
                              "%s: tokenizer: token %" PRIu32 ": text ends at %" PRIu32 ", expected %" PRIu32 " to %" PRIu32, name, i,
                              v->ends[i], start, v->text_bytes);
        if (!isfinite(v->scores[i]))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: token %" PRIu32 ": its score is not a finite number", name, i);
        if (infer_vocab_type(v, i) < INFER_TOKEN_NORMAL || infer_vocab_type(v, i) > INFER_TOKEN_ADDED)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: token %" PRIu32 ": type: found %u, expected 1 to 7", name, i,
                              v->types[i]);
        if (infer_vocab_type(v, i) == INFER_TOKEN_BYTE && !is_byte_token(v->text + start, v->ends[i] - start))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: token %" PRIu32 ": a byte token, but its text is not <0xXX>", name,
                              i);
        start = v->ends[i];
    }
    if (start != v->text_bytes)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: token texts end at %" PRIu32 ", expected %" PRIu32, name, start,
                          v->text_bytes);
    for (uint32_t i = v->tokens; i % 4; i++)
        if (v->types[i] != 0)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: padding after the token types: found byte %u, expected 0", name,
                              v->types[i]);
    return INFER_OK;
}

/* Both sides need text: a merge with an empty token would change nothing, for ever. */
static infer_status check_merges(const infer_vocab_view *v, const char *name, infer_error *err)
{
    for (uint32_t i = 0; i < v->merges; i++)
        for (int side = 0; side < 2; side++) {
            uint32_t id = v->merge[i][side];
            if (id >= v->tokens)
                return infer_fail(err, INFER_ERROR_FORMAT,
                                  "%s: tokenizer: merge %" PRIu32 ": token id: found %" PRIu32 ", expected less than %" PRIu32, name, i, id,
                                  v->tokens);
            if (v->ends[id] == (id ? v->ends[id - 1] : 0))
                return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: merge %" PRIu32 ": token %" PRIu32 " has no text", name, i, id);
        }
    return INFER_OK;
}

/* What a pattern may hold besides plain characters: groups (?: (?i: (?m: (?= (?! (?<= (?<! (?> (, classes, quantifiers, |, ^, $, and the
 * escapes below. No back references, recursion, verbs or callouts: what a pattern can cost stays within what its matcher can limit. The
 * rest, or NULL. */
static const char *bad_construct(const char *p, const char *end)
{
    static const char *const groups[] = {"?:", "?i:", "?m:", "?=", "?!", "?>", "?<=", "?<!"};
    const char *in_class = NULL; /* where the class began */
    for (; p < end; p++) {
        bool known = false;
        if (*p == '\\') {
            if (++p == end ||
                (((*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z')) && !strchr("bBdDsSwWpPnrtfvx", *p)))
                return p - 1;
        } else if (in_class) {
            if (*p == ']' && p > in_class + (in_class[1] == '^' ? 2 : 1))
                in_class = NULL;
        } else if (*p == '[') {
            in_class = p;
        } else if (*p == '(' && p + 1 < end && (p[1] == '?' || p[1] == '*')) {
            for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
                known |= (size_t)(end - p - 1) >= strlen(groups[i]) && memcmp(p + 1, groups[i], strlen(groups[i])) == 0;
            if (!known)
                return p;
        }
    }
    return NULL;
}

static infer_status check_patterns(infer_vocab_view *v, const char *name, uint32_t bytes, infer_error *err)
{
    const char *p = v->patterns, *end = p + bytes, *bad;
    if (bytes == 0 || bytes > INFER_VOCAB_MAX_PATTERN_BYTES || end[-1] != 0)
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tokenizer: patterns: %" PRIu32 " bytes, expected 1 to %u, of which the last is a NUL", name, bytes,
                          INFER_VOCAB_MAX_PATTERN_BYTES);
    for (v->pattern_count = 0; p < end; p += strlen(p) + 1) {
        if (v->pattern_count++ == INFER_VOCAB_MAX_PATTERNS)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: more than %u patterns", name, INFER_VOCAB_MAX_PATTERNS);
        if ((bad = bad_construct(p, p + strlen(p))))
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: pattern \"%s\": \"%.4s\" is unknown to this library", name, p,
                              bad);
    }
    return INFER_OK;
}

/* ---- steps ---- */

bool infer_vocab_next_step(const uint8_t *steps, uint32_t bytes, uint32_t *at, infer_vocab_step *out)
{
    const uint8_t *p = steps + *at;
    if (*at >= bytes)
        return false;
    *out = (infer_vocab_step){.op = get_u32(p), .argument = get_u32(p + 4), .text_bytes = get_u32(p + 8), .content_bytes = get_u32(p + 12)};
    out->text = (const char *)p + STEP_WORDS * 4;
    out->content = out->text + out->text_bytes;
    *at += infer_vocab_put_step(out, NULL);
    return true;
}

uint32_t infer_vocab_put_step(const infer_vocab_step *step, uint8_t *out)
{
    const uint32_t bytes = STEP_WORDS * 4 + step->text_bytes + step->content_bytes, padded = (uint32_t)infer_round_up(bytes, 4);
    if (!out)
        return padded;
    put_u32(out, step->op);
    put_u32(out + 4, step->argument);
    put_u32(out + 8, step->text_bytes);
    put_u32(out + 12, step->content_bytes);
    if (step->text_bytes)
        memcpy(out + STEP_WORDS * 4, step->text, step->text_bytes);
    if (step->content_bytes)
        memcpy(out + STEP_WORDS * 4 + step->text_bytes, step->content, step->content_bytes);
    memset(out + bytes, 0, padded - bytes);
    return padded;
}

static bool is_utf8(const char *text, size_t n)
{
    for (size_t i = 0, length; i < n; i += length)
        if ((length = utf8_character((const uint8_t *)text + i, n - i)) == 0)
            return false;
    return true;
}

/* What each step may have. */
static const struct step_rule {
    uint32_t least, most; /* argument */
    bool text, content, pattern;
} step_rules[] = {
    [INFER_STEP_FORM] = {1, 4, false, false, false},
    [INFER_STEP_LOWERCASE] = {0, 0, false, false, false},
    [INFER_STEP_DROP] = {1, 4, false, false, false},
    [INFER_STEP_SPACES] = {1, 2, false, false, false},
    [INFER_STEP_IDEOGRAPHS] = {0, 0, false, false, false},
    [INFER_STEP_CHARSMAP] = {0, 1, false, false, false},
    [INFER_STEP_STRIP] = {1, 3, false, false, false},
    [INFER_STEP_PREPEND] = {0, 4, true, false, false},
    [INFER_STEP_REPLACE] = {0, 0, true, true, false},
    [INFER_STEP_REPLACE_PATTERN] = {0, 0, true, true, true},
    [INFER_STEP_BYTES] = {0, 0, false, false, false},
    [INFER_STEP_NAMES] = {0, 1, false, false, false},
    [INFER_STEP_SPLIT] = {1, INFER_SPLIT_INVERT + INFER_SPLIT_CONTIGUOUS, true, false, true},
    [INFER_STEP_LIMIT] = {0, UINT32_MAX, false, false, false},
    [INFER_STEP_BEFORE] = {0, UINT32_MAX, false, false, false},
    [INFER_STEP_BEHIND] = {0, UINT32_MAX, false, false, false},
};

static infer_status check_step(const infer_vocab_view *v, uint32_t i, const infer_vocab_step *s, const char *name, infer_error *err)
{
    const uint32_t behavior = s->argument & ~(uint32_t)INFER_SPLIT_INVERT;
    const struct step_rule *rule = &step_rules[s->op];
    const char *bad;
    if (s->argument < rule->least || s->argument > rule->most ||
        (s->op == INFER_STEP_SPLIT && (behavior < INFER_SPLIT_ISOLATED || behavior > INFER_SPLIT_CONTIGUOUS)))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED,
                          "%s: tokenizer: step %" PRIu32 ": %" PRIu32 " with argument %" PRIu32 " is unknown to this library", name, i,
                          s->op, s->argument);
    if ((s->op == INFER_STEP_BEFORE || s->op == INFER_STEP_BEHIND) && s->argument >= v->tokens)
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tokenizer: step %" PRIu32 ": token id: found %" PRIu32 ", expected less than %" PRIu32, name, i, s->argument,
                          v->tokens);
    if ((s->op == INFER_STEP_CHARSMAP) && !(v->flags & INFER_VOCAB_CHARSMAP))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: step %" PRIu32 " needs a map of characters", name, i);
    if ((s->text_bytes > 0) != rule->text || (s->content_bytes > 0 && !rule->content) || !is_utf8(s->text, s->text_bytes) ||
        !is_utf8(s->content, s->content_bytes))
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tokenizer: step %" PRIu32 " (%" PRIu32 ") has texts of %" PRIu32 " and %" PRIu32
                          " bytes: too many, too few, or no UTF-8",
                          name, i, s->op, s->text_bytes, s->content_bytes);
    if (rule->pattern && (bad = bad_construct(s->text, s->text + s->text_bytes)))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: pattern \"%.*s\": \"%.4s\" is unknown to this library", name,
                          (int)s->text_bytes, s->text, bad);
    return INFER_OK;
}

static infer_status check_steps(const infer_vocab_view *v, const char *name, infer_error *err)
{
    const uint32_t bytes = v->step_bytes;
    infer_vocab_step step;
    infer_status s = INFER_OK;
    if (v->flags & STEP_FLAGS)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: flags 0x%" PRIx32 " beside steps, which say it", name,
                          v->flags & STEP_FLAGS);
    if (bytes > INFER_VOCAB_MAX_STEP_BYTES || bytes % 4 != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: steps of %" PRIu32 " bytes, expected a multiple of 4 up to %u", name,
                          bytes, INFER_VOCAB_MAX_STEP_BYTES);
    for (uint32_t at = 0, i = 0; at < bytes && s == INFER_OK; i++) {
        const uint8_t *p = v->steps + at;
        const uint64_t left = bytes - at;
        uint64_t used = left < STEP_WORDS * 4 ? 0 : STEP_WORDS * 4 + (uint64_t)get_u32(p + 8) + get_u32(p + 12);
        if (i == INFER_VOCAB_MAX_STEPS || used == 0 || infer_round_up(used, 4) > left)
            return infer_fail(err, INFER_ERROR_FORMAT,
                              "%s: tokenizer: step %" PRIu32 " at byte %" PRIu32 " of %" PRIu32
                              ": one too many, or longer than what is left",
                              name, i, at, bytes);
        for (; used % 4; used++)
            if (p[used] != 0)
                return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: padding after step %" PRIu32 ": found byte %u, expected 0", name,
                                  i, p[used]);
        if (get_u32(p) < INFER_STEP_FORM || get_u32(p) > INFER_STEP_BEHIND)
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: step %" PRIu32 " is unknown to this library", name, get_u32(p));
        if (infer_vocab_next_step(v->steps, bytes, &at, &step))
            s = check_step(v, i, &step, name, err);
    }
    return s;
}

/* The block at `at`, which ends within `size` bytes of section; *at moves behind it. */
static infer_status read_block(const uint8_t *section, uint64_t size, uint64_t *at, const char *what, const uint8_t **out, uint32_t *bytes,
                               const char *name, infer_error *err)
{
    const uint64_t start = infer_round_up(*at, 4);
    for (uint64_t i = *at; i < start && i < size; i++)
        if (section[i] != 0)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: padding before the %s: found byte %u, expected 0", name, what,
                              section[i]);
    if (size < start + 4 || get_u32(section + start) > size - start - 4)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: %" PRIu64 " bytes, too few for the %s at %" PRIu64, name, size, what,
                          start);
    *bytes = get_u32(section + start);
    *out = section + start + 4;
    *at = start + 4 + *bytes;
    return INFER_OK;
}

static infer_status read_blocks(infer_vocab_view *v, const uint8_t *section, uint64_t size, uint64_t at, const char *name, infer_error *err)
{
    const uint8_t *block;
    uint32_t bytes;
    infer_status s;

    v->patterns = infer_vocab_known_patterns(v->pretokenizer, &v->pattern_count);
    v->charsmap = v->steps = NULL;
    v->charsmap_bytes = v->step_bytes = 0;
    if (v->pretokenizer == INFER_PRETOKENIZER_PATTERNS) {
        if ((s = read_block(section, size, &at, "patterns", &block, &bytes, name, err)) != INFER_OK)
            return s;
        v->patterns = (const char *)block;
        if ((s = check_patterns(v, name, bytes, err)) != INFER_OK)
            return s;
    }
    if (v->pretokenizer == INFER_PRETOKENIZER_STEPS &&
        (s = read_block(section, size, &at, "steps", &v->steps, &v->step_bytes, name, err)) != INFER_OK)
        return s;
    if (v->flags & INFER_VOCAB_CHARSMAP &&
        (s = read_block(section, size, &at, "map of characters", &v->charsmap, &v->charsmap_bytes, name, err)) != INFER_OK)
        return s;
    if (v->steps && (s = check_steps(v, name, err)) != INFER_OK)
        return s;
    if (size != at)
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tokenizer: %" PRIu64 " bytes, expected %" PRIu64 " for %" PRIu32 " tokens and %" PRIu32 " merges", name,
                          size, at, v->tokens, v->merges);
    return INFER_OK;
}

infer_status infer_vocab_parse(const void *section, size_t bytes, const char *name, infer_vocab_view *out, infer_error *err)
{
    const uint8_t *p = section;
    infer_vocab_view v;
    infer_status s;
    uint64_t expected;

    if ((uintptr_t)p % 4 != 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: tokenizer: the section is not aligned to 4 bytes", name);
    if (bytes < HEADER_WORDS * 4)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: %zu bytes, expected at least %u", name, bytes, HEADER_WORDS * 4);
    v.kind = get_u32(p);
    v.flags = get_u32(p + 4);
    v.pretokenizer = get_u32(p + 8);
    v.unk = get_u32(p + 12);
    v.bos = get_u32(p + 16);
    v.eos = get_u32(p + 20);
    v.tokens = get_u32(p + 24);
    v.merges = get_u32(p + 28);
    v.text_bytes = get_u32(p + 32);
    if (v.kind < INFER_VOCAB_SPM || v.kind > INFER_VOCAB_WORDS)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: kind %" PRIu32 " is unknown to this library", name, v.kind);
    if (v.flags & ~KNOWN_FLAGS)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: flags 0x%" PRIx32 " are unknown to this library", name,
                          v.flags & ~KNOWN_FLAGS);
    if ((v.flags & FORMS) & ((v.flags & FORMS) - 1))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: flags 0x%" PRIx32 " name two normalization forms, expected at most one",
                          name, v.flags & FORMS);
    if (v.pretokenizer > INFER_PRETOKENIZER_STEPS)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: pre-tokenizer %" PRIu32 " is unknown to this library", name,
                          v.pretokenizer);
    if (v.tokens < 1 || v.tokens > INFER_VOCAB_MAX_TOKENS)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: tokens: found %" PRIu32 ", expected 1 to %u", name, v.tokens,
                          INFER_VOCAB_MAX_TOKENS);
    if (v.merges > INFER_VOCAB_MAX_MERGES)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer: merges: found %" PRIu32 ", expected at most %u", name, v.merges,
                          INFER_VOCAB_MAX_MERGES);
    expected = section_bytes(v.tokens, v.merges, v.text_bytes);
    if (bytes < expected)
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tokenizer: %zu bytes, expected %" PRIu64 " for %" PRIu32 " tokens and %" PRIu32 " merges", name, bytes,
                          expected, v.tokens, v.merges);
    if ((s = check_id(name, "unknown", v.unk, v.tokens, err)) != INFER_OK ||
        (s = check_id(name, "begin", v.bos, v.tokens, err)) != INFER_OK || (s = check_id(name, "end", v.eos, v.tokens, err)) != INFER_OK)
        return s;

    v.scores = (const float *)(const void *)(p + HEADER_WORDS * 4);
    v.types = (const uint8_t *)(v.scores + v.tokens);
    v.ends = (const uint32_t *)(const void *)(v.types + infer_round_up(v.tokens, 4));
    v.merge = (const uint32_t(*)[2])(const void *)(v.ends + v.tokens);
    v.text = (const char *)(v.merge + v.merges);
    if ((s = read_blocks(&v, p, bytes, expected, name, err)) != INFER_OK || (s = check_tokens(&v, name, err)) != INFER_OK ||
        (s = check_merges(&v, name, err)) != INFER_OK)
        return s;
    *out = v;
    return INFER_OK;
}

/* Bytes up to the end of a block that begins behind `at` bytes. */
static uint64_t block_end(uint64_t at, uint64_t bytes)
{
    return infer_round_up(at, 4) + 4 + bytes;
}

static void put_block(uint8_t *section, uint64_t *at, const void *data, uint32_t bytes)
{
    const uint64_t end = block_end(*at, bytes);
    put_u32(section + end - bytes - 4, bytes);
    if (bytes)
        memcpy(section + end - bytes, data, bytes);
    *at = end;
}

static uint32_t patterns_bytes(const infer_vocab_parts *parts)
{
    const char *p = parts->patterns;
    for (uint32_t i = 0; i < parts->pattern_count; i++)
        p += strlen(p) + 1;
    return (uint32_t)(p - parts->patterns);
}

infer_status infer_vocab_build(const infer_allocator *a, const infer_vocab_parts *parts, void **out, size_t *bytes, infer_error *err)
{
    const uint32_t head[HEADER_WORDS - 1] = {parts->kind, parts->flags, parts->pretokenizer, parts->unk,
                                             parts->bos,  parts->eos,   parts->tokens,       parts->merges};
    const char *name = parts->name ? parts->name : "vocabulary";
    const bool patterns = parts->pretokenizer == INFER_PRETOKENIZER_PATTERNS, steps = parts->pretokenizer == INFER_PRETOKENIZER_STEPS,
               charsmap = parts->flags & INFER_VOCAB_CHARSMAP;
    uint64_t total, at, text_bytes = 0;
    uint8_t *section, *p;
    infer_vocab_view view;
    infer_status s;

    for (uint32_t i = 0; i < parts->tokens; i++)
        text_bytes += parts->text_bytes[i];
    total = at = section_bytes(parts->tokens, parts->merges, text_bytes);
    if (patterns)
        total = block_end(total, patterns_bytes(parts));
    if (steps)
        total = block_end(total, parts->step_bytes);
    if (charsmap)
        total = block_end(total, parts->charsmap_bytes);
    if (parts->tokens > INFER_VOCAB_MAX_TOKENS || parts->merges > INFER_VOCAB_MAX_MERGES || total > INFER_FILE_MAX_VOCAB)
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tokenizer: %" PRIu32 " tokens, %" PRIu32 " merges and %" PRIu64 " bytes of text are too many", name,
                          parts->tokens, parts->merges, text_bytes);
    section = infer_alloc_zero(a, (size_t)total);
    if (!section)
        return infer_fail_memory(err, (size_t)total, "tokenizer");

    memcpy(section, head, sizeof head);
    put_u32(section + sizeof head, (uint32_t)text_bytes);
    p = section + HEADER_WORDS * 4;
    if (parts->scores)
        memcpy(p, parts->scores, (size_t)parts->tokens * 4);
    p += (size_t)parts->tokens * 4;
    if (parts->types)
        memcpy(p, parts->types, parts->tokens);
    else
        memset(p, INFER_TOKEN_NORMAL, parts->tokens);
    p += infer_round_up(parts->tokens, 4);
    text_bytes = 0;
    for (uint32_t i = 0; i < parts->tokens; i++, p += 4) {
        text_bytes += parts->text_bytes[i];
        put_u32(p, (uint32_t)text_bytes);
    }
    if (parts->merges)
        memcpy(p, parts->merge, (size_t)parts->merges * 8);
    p += (size_t)parts->merges * 8;
    for (uint32_t i = 0; i < parts->tokens; i++) {
        if (parts->text_bytes[i])
            memcpy(p, parts->text[i], parts->text_bytes[i]);
        p += parts->text_bytes[i];
    }
    if (patterns)
        put_block(section, &at, parts->patterns, patterns_bytes(parts));
    if (steps)
        put_block(section, &at, parts->steps, parts->step_bytes);
    if (charsmap)
        put_block(section, &at, parts->charsmap, parts->charsmap_bytes);

    /* What is written must read back: the rules live in one place. */
    s = infer_vocab_parse(section, (size_t)total, name, &view, err);
    if (s != INFER_OK) {
        infer_free(a, section);
        return s;
    }
    *out = section;
    *bytes = (size_t)total;
    return INFER_OK;
}
