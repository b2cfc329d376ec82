/* The vocabulary of a GGUF file ("tokenizer.ggml.*"). */
#include "import/gguf_read.h"
#include "import/vocab/tokenizers.h"

#include "bytes.h"
#include "vocab.h"

#include <inttypes.h>
#include <strings.h>

static bool is(const char *text, uint64_t bytes, const char *word)
{
    return bytes == strlen(word) && memcmp(text, word, (size_t)bytes) == 0;
}

static infer_status read_tokens(const infer_allocator *a, const infer_gguf *g, infer_vocab_draft *d, infer_error *err)
{
    const infer_gguf_value *tokens;
    const uint8_t *at;
    uint64_t bytes;
    infer_status s = infer_gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, true, &tokens, err);

    if (s != INFER_OK || (s = infer_draft_start(d, a, g->path, tokens->count, err)) != INFER_OK)
        return s;
    at = tokens->data;
    for (uint32_t i = 0; i < d->out.tokens; i++) {
        const char *text = infer_gguf_next_string(&at, &bytes);
        if (bytes > INFER_FILE_MAX_VOCAB)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: token %" PRIu32 " has %" PRIu64 " bytes", g->path, i, bytes);
        infer_draft_text(d, i, text, (size_t)bytes);
    }
    return INFER_OK;
}

static infer_status fail_count(const infer_gguf *g, const char *what, uint64_t found, uint32_t expected, infer_error *err)
{
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: %s: found %" PRIu64 ", expected %" PRIu32 " as there are tokens", g->path, what, found,
                      expected);
}

/* GGUF's numbers of token types are ours. */
static infer_status read_types(const infer_gguf *g, infer_vocab_draft *d, infer_error *err)
{
    const infer_gguf_value *types;
    infer_status s = infer_gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, false, &types, err);

    if (s != INFER_OK)
        return s;
    if (types && types->count != d->out.tokens)
        return fail_count(g, "token types", types->count, d->out.tokens, err);
    for (uint32_t i = 0; i < d->out.tokens; i++) {
        uint32_t type = types ? get_u32(types->data + (size_t)i * 4) : INFER_TOKEN_NORMAL;
        if (type < INFER_TOKEN_NORMAL || type > INFER_TOKEN_BYTE)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: token %" PRIu32 ": type: found %" PRIu32 ", expected 1 to 6", g->path, i, type);
        d->types[i] = (uint8_t)type;
        if (type == INFER_TOKEN_BYTE)
            d->out.flags |= INFER_VOCAB_BYTE_FALLBACK;
    }
    return INFER_OK;
}

/* *useful: the scores tell tokens apart. Converters of merge-based vocabularies write the same number everywhere. */
static infer_status read_scores(const infer_gguf *g, infer_vocab_draft *d, bool required, bool *useful, infer_error *err)
{
    const infer_gguf_value *scores;
    infer_status s = infer_gguf_array(g, "tokenizer.ggml.scores", GGUF_F32, required, &scores, err);
    float first = 0;
    bool any = false;

    *useful = false;
    if (s != INFER_OK || !scores)
        return s;
    if (scores->count != d->out.tokens)
        return fail_count(g, "scores", scores->count, d->out.tokens, err);
    memcpy(d->scores, scores->data, (size_t)d->out.tokens * 4);
    for (uint32_t i = 0; i < d->out.tokens; i++) {
        if (d->types[i] != INFER_TOKEN_NORMAL)
            continue;
        *useful |= any && d->scores[i] != first;
        first = any ? first : d->scores[i];
        any = true;
    }
    return INFER_OK;
}

static infer_status read_merges(const infer_gguf *g, infer_vocab_draft *d, bool required, infer_error *err)
{
    const infer_gguf_value *merges;
    const uint8_t *at;
    infer_status s = infer_gguf_array(g, "tokenizer.ggml.merges", GGUF_STRING, required, &merges, err);

    if (s != INFER_OK || !merges || (s = infer_draft_reserve_merges(d, merges->count, err)) != INFER_OK)
        return s;
    at = merges->data;
    for (uint64_t i = 0; i < merges->count && s == INFER_OK; i++) {
        uint64_t bytes;
        const char *line = infer_gguf_next_string(&at, &bytes);
        s = infer_draft_merge_line(d, line, (size_t)bytes, err);
    }
    return s;
}

static infer_status read_id(const infer_gguf *g, const char *key, uint32_t tokens, uint32_t *out, infer_error *err)
{
    uint64_t id = *out;
    infer_status s = infer_gguf_uint(g, key, false, UINT64_MAX, &id, err);
    if (s != INFER_OK)
        return s;
    if (id >= tokens && id != INFER_VOCAB_NO_ID)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: key %s: found %" PRIu64 ", expected an id below %" PRIu32, g->path, key, id,
                          tokens);
    *out = (uint32_t)id;
    return INFER_OK;
}

static infer_status read_flag(const infer_gguf *g, const char *key, bool otherwise, uint32_t flag, infer_vocab_draft *d, infer_error *err)
{
    bool on = otherwise;
    infer_status s = infer_gguf_bool(g, key, &on, err);
    d->out.flags = on ? d->out.flags | flag : d->out.flags & ~flag;
    return s;
}

/* Ids and flags that every kind may have; d->out has what holds without them. */
static infer_status read_ids(const infer_gguf *g, infer_vocab_draft *d, infer_error *err)
{
    const uint32_t flags = d->out.flags;
    infer_status s;
    if ((s = read_id(g, "tokenizer.ggml.unknown_token_id", d->out.tokens, &d->out.unk, err)) != INFER_OK ||
        (s = read_id(g, "tokenizer.ggml.bos_token_id", d->out.tokens, &d->out.bos, err)) != INFER_OK ||
        (s = read_id(g, "tokenizer.ggml.eos_token_id", d->out.tokens, &d->out.eos, err)) != INFER_OK ||
        (s = read_flag(g, "tokenizer.ggml.add_bos_token", flags & INFER_VOCAB_ADD_BOS, INFER_VOCAB_ADD_BOS, d, err)) != INFER_OK ||
        (s = read_flag(g, "tokenizer.ggml.add_eos_token", flags & INFER_VOCAB_ADD_EOS, INFER_VOCAB_ADD_EOS, d, err)) != INFER_OK)
        return s;
    return read_flag(g, "tokenizer.ggml.add_space_prefix", flags & INFER_VOCAB_SPACE_PREFIX, INFER_VOCAB_SPACE_PREFIX, d, err);
}

/* Ids that hold unless the file has others; none when there are too few tokens for them. */
static void default_ids(infer_vocab_draft *d, uint32_t unk, uint32_t bos, uint32_t eos)
{
    d->out.unk = unk < d->out.tokens ? unk : INFER_VOCAB_NO_ID;
    d->out.bos = bos < d->out.tokens ? bos : INFER_VOCAB_NO_ID;
    d->out.eos = eos < d->out.tokens ? eos : INFER_VOCAB_NO_ID;
}

/* White space behind Phi-3's special tokens goes with them, but not behind these. GGUF has no key for it: the model's name tells. */
static void strip_behind_specials(const infer_gguf *g, infer_vocab_draft *d)
{
    const char *name;
    uint64_t bytes;
    bool phi3 = false;
    if (infer_gguf_string(g, "general.name", false, &name, &bytes, NULL) != INFER_OK)
        return;
    for (uint64_t i = 0; i + 4 <= bytes; i++)
        phi3 |= strncasecmp(name + i, "phi3", 4) == 0 || (i + 5 <= bytes && strncasecmp(name + i, "phi-3", 5) == 0);
    for (uint32_t i = 0; i < d->out.tokens && phi3; i++)
        if ((d->types[i] == INFER_TOKEN_CONTROL || d->types[i] == INFER_TOKEN_USER) && !is(d->text[i], d->text_bytes[i], "<unk>") &&
            !is(d->text[i], d->text_bytes[i], "<s>") && !is(d->text[i], d->text_bytes[i], "<|endoftext|>"))
            d->types[i] |= INFER_TOKEN_RSTRIP;
}

/* "llama": SentencePiece by scores, or, where those say nothing, by merges: given ones, else those that the order of the tokens implies. */
static infer_status read_sentencepiece(const infer_gguf *g, infer_vocab_draft *d, infer_error *err)
{
    bool useful;
    infer_status s;

    default_ids(d, 0, d->out.tokens > 2 ? 1 : INFER_VOCAB_NO_ID, 2); /* SentencePiece's own */
    d->out.flags |= INFER_VOCAB_META_SPACE | INFER_VOCAB_SPACE_PREFIX | (d->out.tokens > 2 ? INFER_VOCAB_ADD_BOS : 0);
    if ((s = read_ids(g, d, err)) != INFER_OK || (s = read_scores(g, d, false, &useful, err)) != INFER_OK)
        return s;
    d->out.kind = useful ? INFER_VOCAB_SPM : INFER_VOCAB_BPE;
    if (!useful && ((s = read_merges(g, d, false, err)) != INFER_OK ||
                    (!d->merges && (s = infer_vocab_recover_merges(d->allocator, d->text, d->text_bytes, d->types, d->out.tokens,
                                                                   &d->merges, &d->out.merges, err)) != INFER_OK)))
        return s;
    strip_behind_specials(g, d);
    return INFER_OK;
}

/* "t5": SentencePiece unigram. */
static infer_status read_unigram(const infer_gguf *g, infer_vocab_draft *d, infer_error *err)
{
    const infer_gguf_value *map = infer_gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    bool useful;
    infer_status s;

    d->out.kind = INFER_VOCAB_UNIGRAM;
    d->out.flags |= INFER_VOCAB_META_SPACE | INFER_VOCAB_ADD_EOS;
    default_ids(d, 2, INFER_VOCAB_NO_ID, 1);
    if (map && map->count > 0) {
        if (map->type != GGUF_ARRAY || (map->element != GGUF_U8 && map->element != GGUF_I8) || map->count > INFER_FILE_MAX_VOCAB)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: key tokenizer.ggml.precompiled_charsmap: expected an array of bytes", g->path);
        d->out.flags |= INFER_VOCAB_CHARSMAP;
        d->out.charsmap = map->data;
        d->out.charsmap_bytes = (uint32_t)map->count;
    }
    if ((s = read_ids(g, d, err)) != INFER_OK ||
        (s = read_flag(g, "tokenizer.ggml.remove_extra_whitespaces", false, INFER_VOCAB_SINGLE_SPACES, d, err)) != INFER_OK)
        return s;
    return read_scores(g, d, true, &useful, err);
}

/* "bert": WordPiece, its words written with U+2581 before them. Whether letters were made small is seen from the tokens. */
static infer_status read_wordpiece(const infer_gguf *g, infer_vocab_draft *d, infer_error *err)
{
    bool cased = false;
    infer_status s;

    d->out.kind = INFER_VOCAB_WORDPIECE;
    d->out.pretokenizer = INFER_PRETOKENIZER_BERT;
    default_ids(d, 100, 101, 102);
    d->out.flags |= INFER_VOCAB_ADD_BOS | INFER_VOCAB_ADD_EOS;
    if ((s = read_ids(g, d, err)) != INFER_OK ||
        (s = read_id(g, "tokenizer.ggml.cls_token_id", d->out.tokens, &d->out.bos, err)) != INFER_OK ||
        (s = read_id(g, "tokenizer.ggml.seperator_token_id", d->out.tokens, &d->out.eos, err)) != INFER_OK)
        return s;
    for (uint32_t i = 0; i < d->out.tokens; i++)
        cased |= d->text_bytes[i] > 3 && memcmp(d->text[i], INFER_META_SPACE, 3) == 0 && d->text[i][3] >= 'A' && d->text[i][3] <= 'Z';
    d->out.flags |= INFER_VOCAB_META_SPACE | INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_CLEAN |
                    (cased ? 0 : INFER_VOCAB_STRIP_ACCENTS | INFER_VOCAB_LOWERCASE);
    return INFER_OK;
}

static infer_status read_merge_based(const infer_gguf *g, infer_vocab_draft *d, const char *pre, uint64_t bytes, infer_error *err)
{
    infer_status s;
    d->out.kind = INFER_VOCAB_BPE;
    d->out.flags |= INFER_VOCAB_BYTE_LEVEL;
    if (!infer_pretokenizer_by_name(pre, (size_t)bytes, &d->out))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: pre-tokenizer \"%.*s\" is unknown to this library", g->path,
                          bytes < 64 ? (int)bytes : 64, pre);
    if ((s = read_ids(g, d, err)) != INFER_OK)
        return s;
    for (uint32_t i = 0; i < d->out.tokens && bytes > 7 && memcmp(pre, "jina-v2", 7) == 0; i++)
        if (is(d->text[i], d->text_bytes[i], "<mask>")) /* as in its tokenizer.json; GGUF has no key for it */
            d->types[i] |= INFER_TOKEN_LSTRIP;
    return read_merges(g, d, true, err);
}

/* "gpt2": merges over GPT-2's byte alphabet, but for families of which the pre-tokenizer says otherwise. */
static infer_status read_byte_level(const infer_gguf *g, infer_vocab_draft *d, infer_error *err)
{
    const char *pre;
    uint64_t bytes;
    const infer_status s = infer_gguf_string(g, "tokenizer.ggml.pre", false, &pre, &bytes, err);
    if (s != INFER_OK)
        return s;
    return pre ? read_merge_based(g, d, pre, bytes, err) : read_merge_based(g, d, "default", strlen("default"), err);
}

/* "gemma4": merges over UTF-8, whatever pre-tokenizer the file names. */
static infer_status read_gemma4(const infer_gguf *g, infer_vocab_draft *d, infer_error *err)
{
    return read_merge_based(g, d, "gemma4", strlen("gemma4"), err);
}

infer_status infer_gguf_vocab_import(const infer_allocator *a, const infer_gguf *g, void **section, size_t *section_bytes, infer_error *err)
{
    static const struct {
        const char *model;
        infer_status (*read)(const infer_gguf *, infer_vocab_draft *, infer_error *);
    } kinds[] = {
        {"llama", read_sentencepiece}, {"gpt2", read_byte_level}, {"t5", read_unigram}, {"bert", read_wordpiece}, {"gemma4", read_gemma4}};
    infer_vocab_draft d = {.allocator = a};
    const char *model;
    uint64_t bytes;
    infer_status s = infer_gguf_string(g, "tokenizer.ggml.model", true, &model, &bytes, err);

    if (s != INFER_OK)
        return s;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!is(model, bytes, kinds[i].model))
            continue;
        if ((s = read_tokens(a, g, &d, err)) == INFER_OK && (s = read_types(g, &d, err)) == INFER_OK &&
            (s = kinds[i].read(g, &d, err)) == INFER_OK)
            s = infer_draft_finish(&d, section, section_bytes, err);
        infer_draft_free(&d);
        return s;
    }
    return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer model \"%.*s\", supported are llama, gpt2, t5, bert and gemma4", g->path,
                      bytes < 64 ? (int)bytes : 64, model);
}
