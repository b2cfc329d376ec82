/* Hugging Face's tokenizer.json (https://github.com/huggingface/tokenizers): a model, what is done to the text before it (normalizer,
 * pre-tokenizer), and what is put around its tokens (post-processor). Each part is a JSON object with a "type"; a type that is missing here
 * is an error that names it. */
#include "import/vocab/json_steps.h"
#include "import/vocab/tokenizers.h"

#include <inttypes.h>
#include <math.h>

#define MAX_TOKEN_BYTES (1u << 20)
#define MOST_AROUND 16u /* tokens on one side of a text */

typedef struct reader {
    infer_vocab_draft d;
    const char *path;
    const cJSON *model;
    infer_json_steps steps;
    uint8_t *block, *charsmap;
    char *texts; /* the texts in our form, where it is another */
    bool names;  /* special tokens are looked for in the normalized text */
    uint32_t before[MOST_AROUND], behind[MOST_AROUND];
    uint32_t before_count, behind_count;
    uint32_t word_limit; /* WordPiece: characters */
    infer_error *err;
} reader;

static const char *type_of(const cJSON *item)
{
    const char *type = cJSON_GetStringValue(get(item, "type"));
    return type ? type : "";
}

static infer_status decode_base64(reader *r, const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t n = strlen(text);
    uint32_t bits = 0, held = 0, at = 0;
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
    r->d.out.charsmap = r->charsmap;
    r->d.out.charsmap_bytes = at;
    return INFER_OK;
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
    bool plain = false, normalized = false;
    cJSON_ArrayForEach(item, added)
    {
        plain |= !cJSON_IsTrue(get(item, "normalized"));
        normalized |= cJSON_IsTrue(get(item, "normalized"));
    }
    r->names = normalized && (plain || r->steps.normalizers > 0);
    cJSON_ArrayForEach(item, added)
    {
        const uint32_t id = (uint32_t)get(item, "id")->valuedouble;
        const char *text = get(item, "content")->valuestring;
        infer_status s;
        const bool known = r->d.text[id] && strcmp(r->d.text[id], text) == 0;
        const bool everywhere = !cJSON_IsTrue(get(item, "single_word")) && r->steps.normalizers == 0; /* else pieces may have its text */
        if (known)
            r->d.text[id] = NULL; /* one that the vocabulary has, too */
        if ((s = put_token(r, id, text)) != INFER_OK)
            return s;
        r->d.types[id] = (uint8_t)((cJSON_IsTrue(get(item, "special")) ? INFER_TOKEN_CONTROL
                                    : known || everywhere              ? INFER_TOKEN_USER
                                                                       : INFER_TOKEN_ADDED) |
                                   (cJSON_IsTrue(get(item, "lstrip")) ? INFER_TOKEN_LSTRIP : 0) |
                                   (cJSON_IsTrue(get(item, "rstrip")) ? INFER_TOKEN_RSTRIP : 0) |
                                   (cJSON_IsTrue(get(item, "single_word")) ? INFER_TOKEN_WORD : 0) |
                                   (r->names && cJSON_IsTrue(get(item, "normalized")) ? INFER_TOKEN_NORMALIZED : 0));
    }
    return INFER_OK;
}

/* Types of the others: byte tokens, the unknown one, ids without a text. */
static infer_status read_types(reader *r)
{
    const cJSON *unk = get(r->model, "unk_token"), *unk_id = get(r->model, "unk_id");
    infer_status s;
    if (cJSON_IsString(unk) && !(r->d.out.kind == INFER_VOCAB_BPE && !*unk->valuestring)) {
        if ((s = infer_draft_id(&r->d, unk->valuestring, strlen(unk->valuestring), &r->d.out.unk, r->err)) != INFER_OK)
            return s;
        if (r->d.out.unk == INFER_STRMAP_NONE)
            return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: unk_token \"%.64s\" is no token", r->path, unk->valuestring);
    } else if (valid_id(unk_id) && unk_id->valuedouble < r->d.out.tokens) {
        r->d.out.unk = (uint32_t)unk_id->valuedouble;
    }
    if (r->d.out.unk != INFER_VOCAB_NO_ID)
        r->d.types[r->d.out.unk] = INFER_TOKEN_UNKNOWN | (r->d.types[r->d.out.unk] & (uint8_t)~INFER_TOKEN_TYPE);
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

/* A text of our form begins here, at most three bytes longer. */
static infer_status rewrite_start(reader *r)
{
    uint64_t total = 1;
    for (uint32_t i = 0; i < r->d.out.tokens; i++)
        total += r->d.text_bytes[i] + 6u;
    r->texts = total <= SIZE_MAX ? infer_alloc(r->d.allocator, (size_t)total) : NULL;
    return r->texts ? INFER_OK : infer_fail_memory(r->err, (size_t)total, "vocabulary");
}

/* "ing" for ##ing, and a mark before those that begin a word; a mark instead of </w>. */
static infer_status rewrite_words(reader *r, const char *prefix, const char *suffix, const char *mark)
{
    const size_t prefix_bytes = prefix ? strlen(prefix) : 0, suffix_bytes = suffix ? strlen(suffix) : 0, mark_bytes = strlen(mark);
    infer_status s = rewrite_start(r);
    char *p = r->texts;
    for (uint32_t i = 0; i < r->d.out.tokens && s == INFER_OK; i++) {
        const char *text = r->d.text[i];
        size_t n = r->d.text_bytes[i];
        bool begins, ends;
        if (r->d.types[i] != INFER_TOKEN_NORMAL)
            continue;
        begins = prefix_bytes && !(n > prefix_bytes && memcmp(text, prefix, prefix_bytes) == 0);
        ends = suffix_bytes && n >= suffix_bytes && memcmp(text + n - suffix_bytes, suffix, suffix_bytes) == 0;
        if (prefix_bytes && !begins) {
            text += prefix_bytes;
            n -= prefix_bytes;
        }
        n -= ends ? suffix_bytes : 0;
        infer_draft_text(&r->d, i, p, n + (begins + ends) * mark_bytes);
        if (begins)
            memcpy(p, mark, mark_bytes);
        memcpy(p + begins * mark_bytes, text, n);
        if (ends)
            memcpy(p + begins * mark_bytes + n, mark, mark_bytes);
        p += r->d.text_bytes[i];
    }
    return s;
}

/* ---- post-processor ---- */

static infer_status put_around(reader *r, const cJSON *item, bool behind, const cJSON *number)
{
    uint32_t *count = behind ? &r->behind_count : &r->before_count;
    if (!number || !valid_id(number) || number->valuedouble >= r->d.out.tokens || *count == MOST_AROUND)
        return infer_json_unknown(r->path, "post-processor", item, r->err);
    (behind ? r->behind : r->before)[(*count)++] = (uint32_t)number->valuedouble;
    return INFER_OK;
}

/* Template: special tokens before the text, and behind it. */
static infer_status read_template(reader *r, const cJSON *item)
{
    const cJSON *one, *id;
    uint32_t texts = 0;
    infer_status s = INFER_OK;
    cJSON_ArrayForEach(one, get(item, "single"))
    {
        const char *name = cJSON_GetStringValue(get(get(one, "SpecialToken"), "id"));
        texts += get(one, "Sequence") != NULL;
        if (get(one, "Sequence"))
            continue;
        if (!name || !get(get(item, "special_tokens"), name))
            return infer_json_unknown(r->path, "post-processor", item, r->err);
        cJSON_ArrayForEach(id, get(get(get(item, "special_tokens"), name), "ids"))
        {
            if ((s = put_around(r, item, texts > 0, id)) != INFER_OK)
                return s;
        }
    }
    return texts == 1 ? INFER_OK : infer_json_unknown(r->path, "post-processor", item, r->err);
}

static infer_status read_postprocessor(reader *r, const cJSON *item)
{
    infer_status s = INFER_OK;
    if (!item || cJSON_IsNull(item) || infer_json_is_type(item, "ByteLevel"))
        return INFER_OK;
    if (infer_json_is_type(item, "Sequence")) {
        const cJSON *one;
        cJSON_ArrayForEach(one, get(item, "processors"))
        {
            if ((s = read_postprocessor(r, one)) != INFER_OK)
                return s;
        }
        return INFER_OK;
    }
    if (r->before_count + r->behind_count > 0) /* one around the other */
        return infer_json_unknown(r->path, "post-processor", item, r->err);
    if (infer_json_is_type(item, "TemplateProcessing"))
        return read_template(r, item);
    if (infer_json_is_type(item, "BertProcessing") || infer_json_is_type(item, "RobertaProcessing"))
        return (s = put_around(r, item, false, cJSON_GetArrayItem(get(item, "cls"), 1))) == INFER_OK
                   ? put_around(r, item, true, cJSON_GetArrayItem(get(item, "sep"), 1))
                   : s;
    return infer_json_unknown(r->path, "post-processor", item, r->err);
}

/* The first and the last token around texts are begin and end; others take a step. */
static infer_status set_around(reader *r)
{
    infer_status s = INFER_OK;
    if (r->before_count) {
        r->d.out.bos = r->before[0];
        r->d.out.flags |= INFER_VOCAB_ADD_BOS;
    }
    if (r->behind_count) {
        r->d.out.eos = r->behind[r->behind_count - 1];
        r->d.out.flags |= INFER_VOCAB_ADD_EOS;
    }
    r->steps.needed |= r->before_count > 1 || r->behind_count > 1;
    for (uint32_t i = 1; i < r->before_count && s == INFER_OK; i++)
        s = infer_json_steps_add(&r->steps, INFER_STEP_BEFORE, r->before[i], NULL, NULL);
    for (uint32_t i = 0; i + 1 < r->behind_count && s == INFER_OK; i++)
        s = infer_json_steps_add(&r->steps, INFER_STEP_BEHIND, r->behind[i], NULL, NULL);
    return s;
}

/* Where nothing is put around texts, the usual names tell begin and end. */
static infer_status guess_ids(reader *r)
{
    static const char *const begin[] = {"<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"};
    static const char *const end[] = {"</s>", "<eos>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>"};
    infer_status s = INFER_OK;
    for (size_t i = 0; i < sizeof begin / sizeof *begin && r->d.out.bos == INFER_VOCAB_NO_ID && s == INFER_OK; i++)
        s = infer_draft_id(&r->d, begin[i], strlen(begin[i]), &r->d.out.bos, r->err);
    for (size_t i = 0; i < sizeof end / sizeof *end && r->d.out.eos == INFER_VOCAB_NO_ID && s == INFER_OK; i++)
        s = infer_draft_id(&r->d, end[i], strlen(end[i]), &r->d.out.eos, r->err);
    return s;
}

/* ---- model ---- */

/* NULL when it is missing, null or empty. */
static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(get(object, key));
    return text && *text ? text : NULL;
}

static infer_status read_kind(reader *r)
{
    const char *type = type_of(r->model);
    if (strcmp(type, "BPE") == 0 || (!*type && get(r->model, "merges")))
        r->d.out.kind = INFER_VOCAB_BPE;
    else if (strcmp(type, "Unigram") == 0 || (!*type && cJSON_IsArray(get(r->model, "vocab"))))
        r->d.out.kind = INFER_VOCAB_UNIGRAM;
    else if (strcmp(type, "WordPiece") == 0 || (!*type && get(r->model, "continuing_subword_prefix")))
        r->d.out.kind = INFER_VOCAB_WORDPIECE;
    else if (strcmp(type, "WordLevel") == 0)
        r->d.out.kind = INFER_VOCAB_WORDS;
    else
        return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: model type \"%.64s\", supported are BPE, Unigram, WordPiece and WordLevel",
                          r->path, type);
    return INFER_OK;
}

/* How BPE marks the ends of words, and what it does with unknown characters. */
static infer_status read_bpe(reader *r)
{
    const cJSON *dropout = get(r->model, "dropout");
    const bool prefix = text_of(r->model, "continuing_subword_prefix"), suffix = text_of(r->model, "end_of_word_suffix");
    if (cJSON_IsNumber(dropout) && dropout->valuedouble != 0)
        return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: model: dropout %g: tokens by chance are unknown to this library", r->path,
                          dropout->valuedouble);
    if ((prefix || suffix) && cJSON_IsTrue(get(r->model, "byte_fallback")))
        return infer_fail(r->err, INFER_ERROR_UNSUPPORTED,
                          "%s: model: byte_fallback with continuing_subword_prefix or end_of_word_suffix is unknown to this library",
                          r->path);
    r->steps.needed |= prefix || suffix;
    r->d.out.flags |= (prefix ? INFER_VOCAB_WORD_BEGIN : 0) | (suffix ? INFER_VOCAB_WORD_END : 0) |
                      (text_of(r->model, "unk_token") && !cJSON_IsTrue(get(r->model, "fuse_unk")) ? INFER_VOCAB_UNKNOWN_EACH : 0);
    return INFER_OK;
}

static infer_status read_wordpiece(reader *r)
{
    const cJSON *most = get(r->model, "max_input_chars_per_word"), *prefix = get(r->model, "continuing_subword_prefix");
    const double limit = cJSON_IsNumber(most) ? most->valuedouble : 100;
    if (cJSON_IsString(prefix) && !*prefix->valuestring)
        return infer_fail(r->err, INFER_ERROR_UNSUPPORTED, "%s: model: an empty continuing_subword_prefix is unknown to this library",
                          r->path);
    if (limit < 0 || limit > UINT32_MAX || limit != floor(limit))
        return infer_fail(r->err, INFER_ERROR_FORMAT, "%s: model: max_input_chars_per_word: found %g, expected a whole number", r->path,
                          limit);
    r->word_limit = (uint32_t)limit;
    r->steps.needed |= limit != 100;
    return INFER_OK;
}

/* Normalizer and pre-tokenizer, as flags where these say the same. */
static infer_status set_steps(reader *r)
{
    infer_vocab_parts *out = &r->d.out;
    uint32_t bytes;
    infer_status s = INFER_OK;
    if (infer_json_steps_as_flags(&r->steps, r->names, out)) {
        out->flags |= out->kind == INFER_VOCAB_WORDPIECE ? INFER_VOCAB_META_SPACE | INFER_VOCAB_SPACE_PREFIX : 0;
        return INFER_OK;
    }
    out->flags |= out->kind == INFER_VOCAB_WORDPIECE ? INFER_VOCAB_WORD_BEGIN | INFER_VOCAB_SPACE_PREFIX : 0;
    if (out->kind == INFER_VOCAB_WORDPIECE)
        s = infer_json_steps_add(&r->steps, INFER_STEP_LIMIT, r->word_limit, NULL, NULL);
    if (s == INFER_OK && r->steps.charsmap)
        s = decode_base64(r, r->steps.charsmap);
    if (s != INFER_OK)
        return s;
    bytes = infer_json_steps_bytes(&r->steps, r->names);
    r->block = infer_alloc(r->d.allocator, bytes + 1);
    if (!r->block)
        return infer_fail_memory(r->err, bytes, "the tokenizer's steps");
    infer_json_steps_write(&r->steps, r->names, r->block, out);
    return INFER_OK;
}

/* Texts of tokens in our form. */
static infer_status rewrite(reader *r)
{
    static const char mark[] = {INFER_VOCAB_MARK, 0};
    const char *prefix = text_of(r->model, "continuing_subword_prefix"), *suffix = text_of(r->model, "end_of_word_suffix");
    if (r->d.out.kind == INFER_VOCAB_WORDPIECE)
        return rewrite_words(r, prefix ? prefix : "##", NULL, r->d.out.flags & INFER_VOCAB_WORD_BEGIN ? mark : INFER_META_SPACE);
    return r->d.out.kind == INFER_VOCAB_BPE && (prefix || suffix) ? rewrite_words(r, prefix, suffix, mark) : INFER_OK;
}

static infer_status read_all(reader *r, const infer_allocator *a, const cJSON *root)
{
    const cJSON *vocab, *added = get(root, "added_tokens");
    uint32_t tokens = 0;
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
    r->d.out.flags = (cJSON_IsTrue(get(r->model, "byte_fallback")) ? INFER_VOCAB_BYTE_FALLBACK : 0) |
                     (cJSON_IsTrue(get(r->model, "ignore_merges")) ? INFER_VOCAB_WHOLE_PIECES : 0);
    r->steps.needed = r->d.out.kind == INFER_VOCAB_WORDS;
    if ((s = infer_json_steps_read(&r->steps, get(root, "normalizer"), get(root, "pre_tokenizer"))) != INFER_OK ||
        (r->d.out.kind == INFER_VOCAB_BPE && (s = read_bpe(r)) != INFER_OK) ||
        (r->d.out.kind == INFER_VOCAB_WORDPIECE && (s = read_wordpiece(r)) != INFER_OK) || (s = read_vocab(r, vocab)) != INFER_OK ||
        (s = read_added(r, added)) != INFER_OK || (s = read_types(r)) != INFER_OK ||
        (r->d.out.kind == INFER_VOCAB_BPE && (s = read_merges(r)) != INFER_OK) ||
        (s = read_postprocessor(r, get(root, "post_processor"))) != INFER_OK || (s = set_around(r)) != INFER_OK ||
        (s = guess_ids(r)) != INFER_OK)
        return s;
    return (s = set_steps(r)) == INFER_OK ? rewrite(r) : s;
}

infer_status infer_tokenizer_json_import(const infer_allocator *a, const char *json, size_t bytes, const char *path, void **section,
                                         size_t *section_bytes, infer_error *err)
{
    cJSON *root = NULL;
    reader *r = infer_alloc_zero(a, sizeof *r);
    infer_status s = r ? infer_vocab_json_parse(json, bytes, path, &root, err) : infer_fail_memory(err, sizeof *r, "vocabulary");
    if (s == INFER_OK) {
        r->d.allocator = a;
        r->path = r->steps.path = path;
        r->err = r->steps.err = err;
        s = read_all(r, a, root);
        if (s == INFER_OK)
            s = infer_draft_finish(&r->d, section, section_bytes, err);
        infer_draft_free(&r->d);
        infer_free(a, r->block);
        infer_free(a, r->charsmap);
        infer_free(a, r->texts);
    }
    cJSON_Delete(root);
    infer_free(a, r);
    return s;
}
