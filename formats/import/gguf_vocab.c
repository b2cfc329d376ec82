/* The vocabulary of a GGUF file ("tokenizer.ggml.*"). */
#include "import/gguf_read.h"
#include "import/tokenizers.h"

#include "bytes.h"
#include "vocab.h"

#include <inttypes.h>

typedef struct parts {
    infer_vocab_parts out;
    const char **text;
    uint32_t *text_bytes;
    float *scores;
    uint8_t *types;
    uint32_t (*merges)[2];
} parts;

static bool is(const char *text, uint64_t bytes, const char *word)
{
    return bytes == strlen(word) && memcmp(text, word, (size_t)bytes) == 0;
}

static infer_status read_tokens(const infer_allocator *a, const infer_gguf *g, parts *p, infer_error *err)
{
    const infer_gguf_value *tokens;
    const uint8_t *at;
    uint64_t bytes;
    infer_status s = infer_gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, true, &tokens, err);

    if (s != INFER_OK)
        return s;
    if (tokens->count < 1 || tokens->count > INFER_VOCAB_MAX_TOKENS)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokens: found %" PRIu64 ", expected 1 to %u", g->path, tokens->count,
                          INFER_VOCAB_MAX_TOKENS);
    p->out.tokens = (uint32_t)tokens->count;
    p->text = infer_alloc_array(a, p->out.tokens, sizeof *p->text);
    p->text_bytes = infer_alloc_array(a, p->out.tokens, sizeof *p->text_bytes);
    p->types = infer_alloc_array(a, p->out.tokens, sizeof *p->types);
    if (!p->text || !p->text_bytes || !p->types)
        return infer_fail_memory(err, p->out.tokens * (sizeof *p->text + 5), "vocabulary");
    at = tokens->data;
    for (uint32_t i = 0; i < p->out.tokens; i++) {
        p->text[i] = infer_gguf_next_string(&at, &bytes);
        if (bytes > INFER_FILE_MAX_VOCAB)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: token %" PRIu32 " has %" PRIu64 " bytes", g->path, i, bytes);
        p->text_bytes[i] = (uint32_t)bytes;
    }
    return INFER_OK;
}

static infer_status fail_count(const infer_gguf *g, const char *what, uint64_t found, uint32_t expected, infer_error *err)
{
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: %s: found %" PRIu64 ", expected %" PRIu32 " as there are tokens", g->path, what, found,
                      expected);
}

/* GGUF's numbers of token types are ours. */
static infer_status read_types(const infer_gguf *g, parts *p, infer_error *err)
{
    const infer_gguf_value *types;
    infer_status s = infer_gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, false, &types, err);

    if (s != INFER_OK)
        return s;
    if (types && types->count != p->out.tokens)
        return fail_count(g, "token types", types->count, p->out.tokens, err);
    for (uint32_t i = 0; i < p->out.tokens; i++) {
        uint32_t type = types ? get_u32(types->data + (size_t)i * 4) : INFER_TOKEN_NORMAL;
        if (type < INFER_TOKEN_NORMAL || type > INFER_TOKEN_BYTE)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: token %" PRIu32 ": type: found %" PRIu32 ", expected 1 to 6", g->path, i, type);
        p->types[i] = (uint8_t)type;
        if (type == INFER_TOKEN_BYTE)
            p->out.flags |= INFER_VOCAB_BYTE_FALLBACK;
    }
    return INFER_OK;
}

/* *useful: the scores tell tokens apart. Converters of merge-based vocabularies write the same number everywhere. */
static infer_status read_scores(const infer_allocator *a, const infer_gguf *g, parts *p, bool *useful, infer_error *err)
{
    const infer_gguf_value *scores;
    infer_status s = infer_gguf_array(g, "tokenizer.ggml.scores", GGUF_F32, false, &scores, err);
    float first = 0;
    bool any = false;

    *useful = false;
    if (s != INFER_OK || !scores)
        return s;
    if (scores->count != p->out.tokens)
        return fail_count(g, "scores", scores->count, p->out.tokens, err);
    p->scores = infer_alloc(a, (size_t)p->out.tokens * 4);
    if (!p->scores)
        return infer_fail_memory(err, (size_t)p->out.tokens * 4, "scores");
    memcpy(p->scores, scores->data, (size_t)p->out.tokens * 4);
    for (uint32_t i = 0; i < p->out.tokens; i++) {
        if (p->types[i] != INFER_TOKEN_NORMAL)
            continue;
        *useful |= any && p->scores[i] != first;
        first = any ? first : p->scores[i];
        any = true;
    }
    return INFER_OK;
}

/* Merges are texts "left right"; neither side holds a space but, perhaps, as its first byte. */
static infer_status read_merges(const infer_allocator *a, const infer_gguf *g, parts *p, const infer_gguf_value *merges, infer_error *err)
{
    const uint8_t *at = merges->data;
    infer_strmap ids;
    infer_status s = INFER_OK;

    if (merges->count > INFER_VOCAB_MAX_MERGES)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: merges: found %" PRIu64 ", expected at most %u", g->path, merges->count,
                          INFER_VOCAB_MAX_MERGES);
    if (merges->count == 0)
        return INFER_OK;
    p->merges = infer_alloc_array(a, (size_t)merges->count, sizeof *p->merges);
    if (!p->merges || !infer_strmap_init(&ids, a, p->out.tokens, p->out.tokens))
        return infer_fail_memory(err, (size_t)merges->count * sizeof *p->merges, "merges");
    for (uint32_t i = 0; i < p->out.tokens; i++)
        infer_strmap_put(&ids, p->text[i], p->text_bytes[i], i);
    for (uint32_t i = 0; i < merges->count && s == INFER_OK; i++) {
        uint64_t bytes;
        const char *text = infer_gguf_next_string(&at, &bytes);
        const char *space = bytes > 2 ? memchr(text + 1, ' ', (size_t)bytes - 1) : NULL;
        size_t left = space ? (size_t)(space - text) : 0;
        if (space) {
            p->merges[i][0] = infer_strmap_get(&ids, text, left);
            p->merges[i][1] = infer_strmap_get(&ids, space + 1, (size_t)bytes - left - 1);
        }
        if (!space || p->merges[i][0] == INFER_STRMAP_NONE || p->merges[i][1] == INFER_STRMAP_NONE)
            s = infer_fail(err, INFER_ERROR_FORMAT, "%s: merge %" PRIu32 " (\"%.*s\") is not two tokens and a space between them", g->path,
                           i, bytes < 64 ? (int)bytes : 64, text);
    }
    infer_strmap_free(&ids, a);
    p->out.merges = (uint32_t)merges->count;
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

static infer_status read_ids(const infer_gguf *g, parts *p, infer_error *err)
{
    infer_status s;
    if ((s = read_id(g, "tokenizer.ggml.unknown_token_id", p->out.tokens, &p->out.unk, err)) != INFER_OK ||
        (s = read_id(g, "tokenizer.ggml.bos_token_id", p->out.tokens, &p->out.bos, err)) != INFER_OK)
        return s;
    return read_id(g, "tokenizer.ggml.eos_token_id", p->out.tokens, &p->out.eos, err);
}

static infer_status read_flag(const infer_gguf *g, const char *key, bool otherwise, uint32_t flag, parts *p, infer_error *err)
{
    bool on = otherwise;
    infer_status s = infer_gguf_bool(g, key, &on, err);
    if (on)
        p->out.flags |= flag;
    return s;
}

/* "llama": SentencePiece by scores, or, where those say nothing, by merges: given ones, else those that the order of the tokens implies. */
static infer_status read_sentencepiece(const infer_allocator *a, const infer_gguf *g, parts *p, infer_error *err)
{
    const infer_gguf_value *merges;
    bool useful;
    infer_status s;

    p->out.kind = INFER_VOCAB_SPM;
    p->out.flags |= INFER_VOCAB_META_SPACE;
    if (p->out.tokens > 2) { /* SentencePiece's own defaults */
        p->out.unk = 0;
        p->out.bos = 1;
        p->out.eos = 2;
    }
    if ((s = read_ids(g, p, err)) != INFER_OK || (s = read_scores(a, g, p, &useful, err)) != INFER_OK ||
        (s = read_flag(g, "tokenizer.ggml.add_bos_token", p->out.bos != INFER_VOCAB_NO_ID, INFER_VOCAB_ADD_BOS, p, err)) != INFER_OK ||
        (s = read_flag(g, "tokenizer.ggml.add_space_prefix", true, INFER_VOCAB_SPACE_PREFIX, p, err)) != INFER_OK ||
        (s = infer_gguf_array(g, "tokenizer.ggml.merges", GGUF_STRING, false, &merges, err)) != INFER_OK || useful)
        return s;
    p->out.kind = INFER_VOCAB_BPE;
    if (merges)
        return read_merges(a, g, p, merges, err);
    return infer_vocab_recover_merges(a, p->text, p->text_bytes, p->types, p->out.tokens, &p->merges, &p->out.merges, err);
}

/* "gpt2": merges over GPT-2's byte alphabet. */
static infer_status read_byte_level(const infer_allocator *a, const infer_gguf *g, parts *p, infer_error *err)
{
    static const struct {
        const char *name;
        uint32_t id;
    } pretokenizers[] = {
        {"gpt-2", INFER_PRETOKENIZER_GPT2},
        {"llama-bpe", INFER_PRETOKENIZER_LLAMA3},
        {"llama3", INFER_PRETOKENIZER_LLAMA3},
        {"qwen2", INFER_PRETOKENIZER_QWEN2},
    };
    const infer_gguf_value *merges;
    const char *pre;
    uint64_t pre_bytes;
    bool known = false;
    infer_status s = infer_gguf_string(g, "tokenizer.ggml.pre", true, &pre, &pre_bytes, err);

    if (s != INFER_OK)
        return s;
    for (size_t i = 0; i < sizeof pretokenizers / sizeof pretokenizers[0]; i++)
        if (is(pre, pre_bytes, pretokenizers[i].name)) {
            p->out.pretokenizer = pretokenizers[i].id;
            known = true;
        }
    if (!known)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: pre-tokenizer \"%.*s\", supported are gpt-2, llama-bpe and qwen2", g->path,
                          pre_bytes < 64 ? (int)pre_bytes : 64, pre);
    p->out.kind = INFER_VOCAB_BPE;
    p->out.flags |= INFER_VOCAB_BYTE_LEVEL;
    if ((s = read_ids(g, p, err)) != INFER_OK ||
        (s = read_flag(g, "tokenizer.ggml.add_bos_token", p->out.pretokenizer == INFER_PRETOKENIZER_LLAMA3, INFER_VOCAB_ADD_BOS, p, err)) !=
            INFER_OK ||
        (s = read_flag(g, "tokenizer.ggml.add_space_prefix", false, INFER_VOCAB_SPACE_PREFIX, p, err)) != INFER_OK ||
        (s = infer_gguf_array(g, "tokenizer.ggml.merges", GGUF_STRING, true, &merges, err)) != INFER_OK)
        return s;
    return read_merges(a, g, p, merges, err);
}

infer_status infer_gguf_vocab_import(const infer_allocator *a, const infer_gguf *g, void **section, size_t *section_bytes, infer_error *err)
{
    parts p = {.out = {.name = g->path, .unk = INFER_VOCAB_NO_ID, .bos = INFER_VOCAB_NO_ID, .eos = INFER_VOCAB_NO_ID}};
    const char *model;
    uint64_t model_bytes;
    infer_status s = infer_gguf_string(g, "tokenizer.ggml.model", true, &model, &model_bytes, err);

    if (s != INFER_OK)
        return s;
    if (!is(model, model_bytes, "llama") && !is(model, model_bytes, "gpt2"))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer model \"%.*s\", supported are llama and gpt2", g->path,
                          model_bytes < 64 ? (int)model_bytes : 64, model);
    if ((s = read_tokens(a, g, &p, err)) == INFER_OK && (s = read_types(g, &p, err)) == INFER_OK)
        s = is(model, model_bytes, "llama") ? read_sentencepiece(a, g, &p, err) : read_byte_level(a, g, &p, err);
    if (s == INFER_OK) {
        p.out.text = p.text;
        p.out.text_bytes = p.text_bytes;
        p.out.scores = p.scores;
        p.out.types = p.types;
        p.out.merge = (const uint32_t(*)[2])p.merges;
        s = infer_vocab_build(a, &p.out, section, section_bytes, err);
    }
    infer_free(a, p.text);
    infer_free(a, p.text_bytes);
    infer_free(a, p.scores);
    infer_free(a, p.types);
    infer_free(a, p.merges);
    return s;
}
