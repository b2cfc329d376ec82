/* Hugging Face's tokenizer.json (https://github.com/huggingface/tokenizers): a model, what is done to the text before it (normalizer,
 * pre-tokenizer), and what is put around its tokens (post-processor). Each part is a JSON object with a "type"; a type that is missing here
 * is an error that names it. */
#include "import/vocab/json_text.h"
#include "import/vocab/tokenizers.h"

#include <inttypes.h>
#include <math.h>

#define META_SPACE "\xe2\x96\x81" /* U+2581 */
#define MAX_TOKEN_BYTES (1u << 20)

/* Regular expressions that parts stand for. */
#define SPACE_AND_WORD " [^ ]*|[^ ]+"
#define PUNCTUATION "[\\p{P}!-/:-@\\[-`{-~]"

typedef struct reader {
    infer_vocab_draft d;
    const char *path;
    const cJSON *model;
    char patterns[INFER_VOCAB_MAX_PATTERN_BYTES];
    size_t pattern_bytes;
    uint8_t *charsmap;
    char *texts; /* WordPiece: the texts in our form */
    bool white_space_split;
    infer_error *err;
} reader;

static infer_status unknown(const reader *r, const char *part, const cJSON *item, infer_status status)
{
    char *text = item ? cJSON_PrintUnformatted(item) : NULL;
    status = infer_fail(r->err, status, "%s: %s %.300s is unknown to this library", r->path, part, text ? text : "without a type");
    cJSON_free(text);
    return status;
}

static const char *type_of(const cJSON *item)
{
    const char *type = cJSON_GetStringValue(get(item, "type"));
    return type ? type : "";
}

static bool is_type(const cJSON *item, const char *name)
{
    return strcmp(type_of(item), name) == 0;
}

/* ---- patterns ---- */

static infer_status add_pattern(reader *r, const char *pattern, size_t bytes)
{
    if (r->d.out.pattern_count == INFER_VOCAB_MAX_PATTERNS || bytes + 1 > sizeof r->patterns - r->pattern_bytes)
        return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: pre-tokenizer: more than %u patterns, or %zu bytes of them", r->path,
                          INFER_VOCAB_MAX_PATTERNS, sizeof r->patterns);
    memcpy(r->patterns + r->pattern_bytes, pattern, bytes);
    r->patterns[r->pattern_bytes + bytes] = 0;
    r->pattern_bytes += bytes + 1;
    r->d.out.pattern_count++;
    r->d.out.pretokenizer = INFER_PRETOKENIZER_PATTERNS;
    r->d.out.patterns = r->patterns;
    return INFER_OK;
}

/* Oniguruma's classes may hold classes, whose members they take over; in ours, members are written out. */
static infer_status add_regex(reader *r, const char *regex)
{
    char out[INFER_VOCAB_MAX_PATTERN_BYTES];
    size_t n = 0, depth = 0;
    for (const char *p = regex; *p; p++) {
        if (n + 2 > sizeof out)
            return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: pre-tokenizer: a pattern of more than %zu bytes", r->path, sizeof out);
        if (strncmp(p, "\\p{Han}", 7) == 0 && n + 11 <= sizeof out) { /* the script; in PCRE2 what stands in its texts, too */
            memcpy(out + n, "\\p{sc:Han", 9);
            n += 9;
            p += 6;
        } else if (*p == '\\' && p[1]) {
            out[n++] = *p++;
        } else if (depth > 0 && *p == '[' && p[1] != ':') {
            if (p[1] == '^')
                return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: pattern \"%s\": a negated class in a class", r->path, regex);
            depth++;
            continue;
        } else if (depth > 0 && p[0] == '&' && p[1] == '&') {
            return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: pattern \"%s\": an intersection of classes", r->path, regex);
        } else if (depth > 0 && *p == ']') {
            if (--depth > 0)
                continue;
        } else if (*p == '[') {
            depth = 1;
            out[n++] = *p;
            if (p[1] == '^')
                out[n++] = *++p;
            if (p[1] == ']')
                out[n++] = *++p;
            continue;
        }
        out[n++] = *p;
    }
    return add_pattern(r, out, n);
}

/* The text itself, as a pattern. */
static infer_status add_literal(reader *r, const char *text)
{
    char out[256];
    size_t n = 0;
    for (; *text; text++) {
        if (n + 2 > sizeof out)
            return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: pre-tokenizer: a text of more than %zu bytes to split at", r->path,
                              sizeof out / 2);
        if (strchr("\\^$.[]|()?*+{}", *text))
            out[n++] = '\\';
        out[n++] = *text;
    }
    return add_pattern(r, out, n);
}

/* ---- normalizer ---- */

static infer_status decode_base64(reader *r, const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t n = strlen(text);
    uint32_t bits = 0, held = 0, at = 0;
    if (n == 0)
        return INFER_OK;
    r->charsmap = infer_alloc(r->d.allocator, n);
    if (!r->charsmap)
        return infer_fail_memory(r->err, n, "the map of characters");
    for (size_t i = 0; i < n && text[i] != '='; i++) {
        const char *digit = strchr(digits, text[i]);
        if (!digit)
            return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: normalizer: precompiled_charsmap: byte %zu is no base64", r->path, i);
        bits = bits << 6 | (uint32_t)(digit - digits);
        held += 6;
        if (held >= 8) {
            held -= 8;
            r->charsmap[at++] = (uint8_t)(bits >> held);
        }
    }
    r->d.out.flags |= INFER_VOCAB_CHARSMAP;
    r->d.out.charsmap = r->charsmap;
    r->d.out.charsmap_bytes = at;
    return INFER_OK;
}

/* Replace: of a space by U+2581, or of runs of spaces by one. */
static infer_status read_replace(reader *r, const cJSON *item)
{
    const char *text = cJSON_GetStringValue(get(get(item, "pattern"), "String")),
               *regex = cJSON_GetStringValue(get(get(item, "pattern"), "Regex")), *content = cJSON_GetStringValue(get(item, "content"));
    if (content && text && strcmp(text, " ") == 0 && strcmp(content, META_SPACE) == 0)
        r->d.out.flags |= INFER_VOCAB_META_SPACE;
    else if (content && regex && strcmp(regex, " {2,}") == 0 && (strcmp(content, " ") == 0 || strcmp(content, META_SPACE) == 0))
        r->d.out.flags |= INFER_VOCAB_SINGLE_SPACES;
    else
        return unknown(r, "normalizer", item, INFER_ERROR_UNSUPPORTED);
    return INFER_OK;
}

static infer_status read_normalizer(reader *r, const cJSON *item)
{
    static const struct {
        const char *type;
        uint32_t flags;
    } plain[] = {{"NFC", INFER_VOCAB_NFC},
                 {"NFD", INFER_VOCAB_NFD},
                 {"NFKC", INFER_VOCAB_NFKC},
                 {"Lowercase", INFER_VOCAB_LOWERCASE},
                 {"StripAccents", INFER_VOCAB_STRIP_ACCENTS},
                 {"Strip", INFER_VOCAB_SINGLE_SPACES}};
    if (!item || cJSON_IsNull(item))
        return INFER_OK;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (is_type(item, plain[i].type)) {
            r->d.out.flags |= plain[i].flags;
            return INFER_OK;
        }
    if (is_type(item, "Sequence")) {
        const cJSON *one;
        infer_status s = INFER_OK;
        cJSON_ArrayForEach(one, get(item, "normalizers"))
        {
            if ((s = is_type(one, "Sequence") ? unknown(r, "normalizer", one, INFER_ERROR_UNSUPPORTED) : read_normalizer(r, one)) !=
                INFER_OK)
                return s;
        }
        return INFER_OK;
    }
    if (is_type(item, "Prepend") && text_is(get(item, "prepend"), META_SPACE)) {
        r->d.out.flags |= INFER_VOCAB_SPACE_PREFIX;
        return INFER_OK;
    }
    if (is_type(item, "Replace"))
        return read_replace(r, item);
    if (is_type(item, "Precompiled") && cJSON_IsString(get(item, "precompiled_charsmap")) && !r->charsmap)
        return decode_base64(r, get(item, "precompiled_charsmap")->valuestring);
    if (is_type(item, "BertNormalizer")) {
        const bool lower = cJSON_IsTrue(get(item, "lowercase")), strip = cJSON_IsTrue(get(item, "strip_accents"));
        r->d.out.flags |= (cJSON_IsFalse(get(item, "clean_text")) ? 0 : INFER_VOCAB_CLEAN) | (lower ? INFER_VOCAB_LOWERCASE : 0) |
                          (strip || (lower && !cJSON_IsFalse(get(item, "strip_accents"))) ? INFER_VOCAB_STRIP_ACCENTS : 0);
        return INFER_OK;
    }
    return unknown(r, "normalizer", item, INFER_ERROR_UNSUPPORTED);
}

/* ---- pre-tokenizer ---- */

static infer_status read_metaspace(reader *r, const cJSON *item)
{
    const cJSON *scheme = get(item, "prepend_scheme");
    const bool first = text_is(scheme, "first"), never = text_is(scheme, "never") || cJSON_IsFalse(get(item, "add_prefix_space"));
    if (!text_is(get(item, "replacement"), META_SPACE))
        return unknown(r, "pre-tokenizer", item, INFER_ERROR_UNSUPPORTED);
    r->d.out.flags |= INFER_VOCAB_META_SPACE;
    if (!never)
        r->d.out.flags |= INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_PREFIX_UNLESS | (first ? INFER_VOCAB_PREFIX_ONCE : 0);
    if (r->white_space_split)
        r->d.out.flags |= INFER_VOCAB_SINGLE_SPACES;
    return cJSON_IsFalse(get(item, "split")) ? INFER_OK : add_pattern(r, SPACE_AND_WORD, strlen(SPACE_AND_WORD));
}

static infer_status read_split(reader *r, const cJSON *item)
{
    const char *regex = cJSON_GetStringValue(get(get(item, "pattern"), "Regex")),
               *text = cJSON_GetStringValue(get(get(item, "pattern"), "String"));
    const cJSON *behavior = get(item, "behavior");
    /* Spaces have become U+2581 by then: there is nothing to split. */
    if (text && strcmp(text, " ") == 0 && r->d.out.flags & INFER_VOCAB_META_SPACE)
        return INFER_OK;
    /* "Removed" with "invert": matches are the pieces, what is between them goes; such patterns leave nothing between. */
    if (!text_is(behavior, "Isolated") && !(text_is(behavior, "Removed") && cJSON_IsTrue(get(item, "invert"))))
        return unknown(r, "pre-tokenizer", item, INFER_ERROR_UNSUPPORTED);
    if (regex)
        return add_regex(r, regex);
    return text && *text ? add_literal(r, text) : unknown(r, "pre-tokenizer", item, INFER_ERROR_UNSUPPORTED);
}

static infer_status read_pretokenizer(reader *r, const cJSON *item)
{
    if (!item || cJSON_IsNull(item))
        return INFER_OK;
    if (is_type(item, "Sequence")) {
        const cJSON *one;
        infer_status s = INFER_OK;
        cJSON_ArrayForEach(one, get(item, "pretokenizers"))
        {
            if ((s = is_type(one, "Sequence") ? unknown(r, "pre-tokenizer", one, INFER_ERROR_UNSUPPORTED) : read_pretokenizer(r, one)) !=
                INFER_OK)
                return s;
        }
        return INFER_OK;
    }
    if (is_type(item, "ByteLevel")) {
        r->d.out.flags |= INFER_VOCAB_BYTE_LEVEL |
                          (cJSON_IsTrue(get(item, "add_prefix_space")) ? INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_PREFIX_UNLESS : 0);
        return cJSON_IsFalse(get(item, "use_regex")) ? INFER_OK : add_pattern(r, INFER_PATTERN_WORDS, strlen(INFER_PATTERN_WORDS));
    }
    if (is_type(item, "Metaspace"))
        return read_metaspace(r, item);
    if (is_type(item, "Split"))
        return read_split(r, item);
    if (is_type(item, "Digits"))
        return cJSON_IsTrue(get(item, "individual_digits")) ? add_pattern(r, "\\p{N}", 5) : add_pattern(r, "\\p{N}+", 6);
    if (is_type(item, "Punctuation") && (!get(item, "behavior") || text_is(get(item, "behavior"), "Isolated")))
        return add_pattern(r, PUNCTUATION, strlen(PUNCTUATION));
    if (is_type(item, "Punctuation") && text_is(get(item, "behavior"), "Contiguous"))
        return add_pattern(r, PUNCTUATION "+", strlen(PUNCTUATION "+"));
    if (is_type(item, "BertPreTokenizer")) {
        r->d.out.pretokenizer = INFER_PRETOKENIZER_BERT;
        return INFER_OK;
    }
    if (is_type(item, "WhitespaceSplit")) { /* known before Metaspace only, which writes the spaces again */
        r->white_space_split = true;
        return INFER_OK;
    }
    return unknown(r, "pre-tokenizer", item, INFER_ERROR_UNSUPPORTED);
}

/* ---- tokens ---- */

static bool valid_id(const cJSON *item)
{
    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < INFER_VOCAB_MAX_TOKENS &&
           item->valuedouble == floor(item->valuedouble);
}

static infer_status bad_id(const reader *r, const char *token)
{
    return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: token \"%.64s\": its id is not a whole number below %u", r->path, token,
                      INFER_VOCAB_MAX_TOKENS);
}

/* *count: one more than the highest id. */
static infer_status count_tokens(const reader *r, const cJSON *vocab, const cJSON *added, uint32_t *count)
{
    const cJSON *item;
    double most = -1;
    if (cJSON_IsArray(vocab)) /* Unigram: the ids are the positions */
        most = cJSON_GetArraySize(vocab) - 1;
    else
        cJSON_ArrayForEach(item, vocab)
        {
            if (!valid_id(item))
                return bad_id(r, item->string);
            most = item->valuedouble > most ? item->valuedouble : most;
        }
    cJSON_ArrayForEach(item, added)
    {
        const cJSON *id = get(item, "id");
        if (!valid_id(id) || !cJSON_IsString(get(item, "content")))
            return infer_fail(r->err, INFER_ERROR_FORMAT,
                              "%s: added_tokens: an item without content, or with an id that is not a whole number below %u", r->path,
                              INFER_VOCAB_MAX_TOKENS);
        most = id->valuedouble > most ? id->valuedouble : most;
    }
    *count = (uint32_t)(most + 1);
    return INFER_OK;
}

static infer_status put_token(reader *r, uint32_t id, const char *text)
{
    const size_t bytes = strlen(text);
    if (r->d.text[id])
        return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: tokens \"%.64s\" and \"%.64s\" have the same id %" PRIu32, r->path,
                          r->d.text[id], text, id);
    if (bytes > MAX_TOKEN_BYTES)
        return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: token %" PRIu32 " has %zu bytes, expected at most %u", r->path, id, bytes,
                          MAX_TOKEN_BYTES);
    infer_draft_text(&r->d, id, text, bytes);
    return INFER_OK;
}

static infer_status read_vocab(reader *r, const cJSON *vocab)
{
    const cJSON *item;
    infer_status s = INFER_OK;
    uint32_t id = 0;
    cJSON_ArrayForEach(item, vocab)
    {
        if (cJSON_IsArray(vocab)) {
            const cJSON *text = cJSON_GetArrayItem(item, 0), *score = cJSON_GetArrayItem(item, 1);
            if (!cJSON_IsArray(item) || !cJSON_IsString(text) || !cJSON_IsNumber(score) || !isfinite((float)score->valuedouble))
                return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: token %" PRIu32 ": expected a text and a score", r->path, id);
            r->d.scores[id] = (float)score->valuedouble;
            s = put_token(r, id++, text->valuestring);
        } else {
            s = put_token(r, (uint32_t)item->valuedouble, item->string);
        }
        if (s != INFER_OK)
            return s;
    }
    return INFER_OK;
}

static infer_status read_added(reader *r, const cJSON *added)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, added)
    {
        const uint32_t id = (uint32_t)get(item, "id")->valuedouble;
        const char *text = get(item, "content")->valuestring;
        infer_status s;
        if (r->d.text[id] && strcmp(r->d.text[id], text) == 0)
            r->d.text[id] = NULL; /* one that the vocabulary has, too */
        if ((s = put_token(r, id, text)) != INFER_OK)
            return s;
        r->d.types[id] = (uint8_t)((cJSON_IsTrue(get(item, "special")) ? INFER_TOKEN_CONTROL : INFER_TOKEN_USER) |
                                   (cJSON_IsTrue(get(item, "lstrip")) ? INFER_TOKEN_LSTRIP : 0) |
                                   (cJSON_IsTrue(get(item, "rstrip")) ? INFER_TOKEN_RSTRIP : 0));
    }
    return INFER_OK;
}

/* Types of the others: byte tokens, the unknown one, ids without a text. */
static infer_status read_types(reader *r)
{
    const cJSON *unk = get(r->model, "unk_token"), *unk_id = get(r->model, "unk_id");
    infer_status s;
    if (cJSON_IsString(unk)) {
        if ((s = infer_draft_id(&r->d, unk->valuestring, strlen(unk->valuestring), &r->d.out.unk, r->err)) != INFER_OK)
            return s;
        if (r->d.out.unk == INFER_STRMAP_NONE)
            return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: unk_token \"%.64s\" is no token", r->path, unk->valuestring);
    } else if (valid_id(unk_id) && unk_id->valuedouble < r->d.out.tokens) {
        r->d.out.unk = (uint32_t)unk_id->valuedouble;
    }
    if (r->d.out.unk != INFER_VOCAB_NO_ID)
        r->d.types[r->d.out.unk] = INFER_TOKEN_UNKNOWN;
    for (uint32_t i = 0; i < r->d.out.tokens; i++) {
        const char *text = r->d.text[i];
        if (!text)
            r->d.types[i] = INFER_TOKEN_UNUSED;
        else if (r->d.out.flags & INFER_VOCAB_BYTE_FALLBACK && r->d.types[i] == INFER_TOKEN_NORMAL && r->d.text_bytes[i] == 6 &&
                 memcmp(text, "<0x", 3) == 0 && strspn(text + 3, "0123456789ABCDEF") == 2 && text[5] == '>')
            r->d.types[i] = INFER_TOKEN_BYTE;
    }
    return INFER_OK;
}

static infer_status read_merges(reader *r)
{
    const cJSON *merges = get(r->model, "merges"), *item;
    infer_status s = infer_draft_reserve_merges(&r->d, (uint64_t)cJSON_GetArraySize(merges), r->err);
    if (s != INFER_OK)
        return s;
    cJSON_ArrayForEach(item, merges)
    {
        const char *left = cJSON_GetStringValue(cJSON_GetArrayItem(item, 0)), *right = cJSON_GetStringValue(cJSON_GetArrayItem(item, 1));
        if (cJSON_IsString(item))
            s = infer_draft_merge_line(&r->d, item->valuestring, strlen(item->valuestring), r->err);
        else if (cJSON_IsArray(item) && left && right)
            s = infer_draft_merge(&r->d, left, strlen(left), right, strlen(right), r->err);
        else
            s = infer_fail(r->err, INFER_ERROR_FORMAT, "%s: merge %" PRIu32 ": expected two texts", r->path, r->d.out.merges);
        if (s != INFER_OK)
            return s;
    }
    return INFER_OK;
}

/* "ing" for ##ing, and U+2581 before those that begin a word. */
static infer_status rewrite_wordpieces(reader *r)
{
    const char *prefix = cJSON_GetStringValue(get(r->model, "continuing_subword_prefix"));
    const size_t prefix_bytes = strlen(prefix ? prefix : "##");
    uint64_t total = 1;
    char *p;
    for (uint32_t i = 0; i < r->d.out.tokens; i++)
        total += r->d.text_bytes[i] + 3u;
    p = r->texts = total <= SIZE_MAX ? infer_alloc(r->d.allocator, (size_t)total) : NULL;
    if (!p)
        return infer_fail_memory(r->err, (size_t)total, "vocabulary");
    for (uint32_t i = 0; i < r->d.out.tokens; i++) {
        const char *text = r->d.text[i];
        uint32_t n = r->d.text_bytes[i];
        if (r->d.types[i] != INFER_TOKEN_NORMAL)
            continue;
        r->d.text[i] = p;
        if (n > prefix_bytes && memcmp(text, prefix ? prefix : "##", prefix_bytes) == 0) {
            text += prefix_bytes;
            n -= (uint32_t)prefix_bytes;
            memcpy(p, text, n);
            r->d.text_bytes[i] = n;
        } else {
            memcpy(p, META_SPACE, 3);
            memcpy(p + 3, text, n);
            r->d.text_bytes[i] = n + 3;
        }
        p += r->d.text_bytes[i];
    }
    return INFER_OK;
}

/* ---- post-processor ---- */

static void put_around(reader *r, uint32_t *id, uint32_t flag, const cJSON *number)
{
    if (!number || !valid_id(number) || number->valuedouble >= r->d.out.tokens)
        return;
    *id = (uint32_t)number->valuedouble;
    r->d.out.flags |= flag;
}

/* Template: one special token before the text, one behind it. */
static void read_template(reader *r, const cJSON *item)
{
    const cJSON *one;
    bool before = true;
    cJSON_ArrayForEach(one, get(item, "single"))
    {
        const char *name = cJSON_GetStringValue(get(get(one, "SpecialToken"), "id"));
        const cJSON *id = name ? cJSON_GetArrayItem(get(get(get(item, "special_tokens"), name), "ids"), 0) : NULL;
        if (get(one, "Sequence"))
            before = false;
        else if (before)
            put_around(r, &r->d.out.bos, INFER_VOCAB_ADD_BOS, id);
        else
            put_around(r, &r->d.out.eos, INFER_VOCAB_ADD_EOS, id);
    }
}

static infer_status read_postprocessor(reader *r, const cJSON *item)
{
    if (!item || cJSON_IsNull(item) || is_type(item, "ByteLevel"))
        return INFER_OK;
    if (is_type(item, "Sequence")) {
        const cJSON *one;
        infer_status s = INFER_OK;
        cJSON_ArrayForEach(one, get(item, "processors"))
        {
            if ((s = is_type(one, "Sequence") ? unknown(r, "post-processor", one, INFER_ERROR_UNSUPPORTED) : read_postprocessor(r, one)) !=
                INFER_OK)
                return s;
        }
        return INFER_OK;
    }
    if (is_type(item, "TemplateProcessing")) {
        read_template(r, item);
        return INFER_OK;
    }
    if (is_type(item, "BertProcessing") || is_type(item, "RobertaProcessing")) {
        put_around(r, &r->d.out.bos, INFER_VOCAB_ADD_BOS, cJSON_GetArrayItem(get(item, "cls"), 1));
        put_around(r, &r->d.out.eos, INFER_VOCAB_ADD_EOS, cJSON_GetArrayItem(get(item, "sep"), 1));
        return INFER_OK;
    }
    return unknown(r, "post-processor", item, INFER_ERROR_UNSUPPORTED);
}

/* Where nothing is put around texts, the usual names tell begin and end. */
static infer_status guess_ids(reader *r)
{
    static const char *const begin[] = {"<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"}, *const end[] = {
                                                                                                   "</s>", "<eos>", "<|end_of_text|>",
                                                                                                   "<|im_end|>", "<|endoftext|>"};
    infer_status s = INFER_OK;
    for (size_t i = 0; i < sizeof begin / sizeof *begin && r->d.out.bos == INFER_VOCAB_NO_ID && s == INFER_OK; i++)
        s = infer_draft_id(&r->d, begin[i], strlen(begin[i]), &r->d.out.bos, r->err);
    for (size_t i = 0; i < sizeof end / sizeof *end && r->d.out.eos == INFER_VOCAB_NO_ID && s == INFER_OK; i++)
        s = infer_draft_id(&r->d, end[i], strlen(end[i]), &r->d.out.eos, r->err);
    return s;
}

/* ---- model ---- */

static infer_status read_kind(reader *r)
{
    const char *type = type_of(r->model);
    if (strcmp(type, "BPE") == 0 || (!*type && get(r->model, "merges")))
        r->d.out.kind = INFER_VOCAB_BPE;
    else if (strcmp(type, "Unigram") == 0 || (!*type && cJSON_IsArray(get(r->model, "vocab"))))
        r->d.out.kind = INFER_VOCAB_UNIGRAM;
    else if (strcmp(type, "WordPiece") == 0)
        r->d.out.kind = INFER_VOCAB_WORDPIECE;
    else
        return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: model type \"%.64s\", supported are BPE, Unigram and WordPiece", r->path,
                          type);
    if (r->d.out.kind == INFER_VOCAB_BPE)
        for (int i = 0; i < 2; i++) {
            static const char *const keys[] = {"continuing_subword_prefix", "end_of_word_suffix"};
            const char *value = cJSON_GetStringValue(get(r->model, keys[i]));
            if (value && *value)
                return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: model: %s \"%.64s\" is unknown to this library", r->path, keys[i],
                                  value);
        }
    return INFER_OK;
}

static infer_status read_all(reader *r, const infer_allocator *a, const cJSON *root)
{
    const cJSON *vocab, *added = get(root, "added_tokens");
    uint32_t tokens = 0, flags = 0;
    infer_status s;

    r->model = get(root, "model");
    vocab = get(r->model, "vocab");
    if (!cJSON_IsObject(vocab) && !cJSON_IsArray(vocab))
        return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: no model with a vocabulary", r->path);
    if ((s = count_tokens(r, vocab, added, &tokens)) != INFER_OK ||
        (s = infer_draft_start(&r->d, a, r->path, tokens, r->err)) != INFER_OK || (s = read_kind(r)) != INFER_OK)
        return s;
    if (cJSON_IsArray(vocab) != (r->d.out.kind == INFER_VOCAB_UNIGRAM))
        return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: model.vocab is not of the kind that a %s model has", r->path, type_of(r->model));
    if ((s = read_normalizer(r, get(root, "normalizer"))) != INFER_OK || (s = read_pretokenizer(r, get(root, "pre_tokenizer"))) != INFER_OK)
        return s;
    if (r->white_space_split && !(r->d.out.flags & INFER_VOCAB_SINGLE_SPACES)) /* without Metaspace behind it the spaces would be lost */
        return unknown(r, "pre-tokenizer", get(root, "pre_tokenizer"), INFER_ERROR_UNSUPPORTED);
    flags |= cJSON_IsTrue(get(r->model, "byte_fallback")) ? INFER_VOCAB_BYTE_FALLBACK : 0;
    flags |= cJSON_IsTrue(get(r->model, "ignore_merges")) ? INFER_VOCAB_WHOLE_PIECES : 0;
    flags |= r->d.out.kind == INFER_VOCAB_WORDPIECE ? INFER_VOCAB_META_SPACE | INFER_VOCAB_SPACE_PREFIX : 0;
    r->d.out.flags |= flags;
    if (r->d.out.kind == INFER_VOCAB_WORDPIECE)
        r->d.out.pretokenizer = INFER_PRETOKENIZER_BERT;
    if ((s = read_vocab(r, vocab)) != INFER_OK || (s = read_added(r, added)) != INFER_OK || (s = read_types(r)) != INFER_OK ||
        (r->d.out.kind == INFER_VOCAB_BPE && (s = read_merges(r)) != INFER_OK) ||
        (s = read_postprocessor(r, get(root, "post_processor"))) != INFER_OK || (s = guess_ids(r)) != INFER_OK)
        return s;
    return r->d.out.kind == INFER_VOCAB_WORDPIECE ? rewrite_wordpieces(r) : INFER_OK;
}

infer_status infer_tokenizer_json_import(const infer_allocator *a, const char *json, size_t bytes, const char *path, void **section,
                                         size_t *section_bytes, infer_error *err)
{
    cJSON *root = NULL;
    reader *r = infer_alloc_zero(a, sizeof *r);
    infer_status s = r ? infer_vocab_json_parse(json, bytes, path, &root, err) : infer_fail_memory(err, sizeof *r, "vocabulary");
    if (s == INFER_OK) {
        r->d.allocator = a;
        r->path = path;
        r->err = err;
        s = read_all(r, a, root);
        if (s == INFER_OK)
            s = infer_draft_finish(&r->d, section, section_bytes, err);
        infer_draft_free(&r->d);
        infer_free(a, r->charsmap);
        infer_free(a, r->texts);
    }
    cJSON_Delete(root);
    infer_free(a, r);
    return s;
}
