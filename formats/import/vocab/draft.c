/* What the importers of vocabularies share: arrays that grow into a tokenizer section. */
#include "import/vocab/tokenizers.h"

#include <inttypes.h>
#include <string.h>

infer_status infer_draft_start(infer_vocab_draft *d, const infer_allocator *a, const char *name, uint64_t tokens, infer_error *err)
{
    *d = (infer_vocab_draft){.allocator = a,
                             .out = {.name = name, .unk = INFER_VOCAB_NO_ID, .bos = INFER_VOCAB_NO_ID, .eos = INFER_VOCAB_NO_ID}};
    if (tokens < 1 || tokens > INFER_VOCAB_MAX_TOKENS)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokens: found %" PRIu64 ", expected 1 to %u", name, tokens, INFER_VOCAB_MAX_TOKENS);
    d->out.tokens = (uint32_t)tokens;
    d->text = infer_alloc_array(a, tokens, sizeof *d->text);
    d->text_bytes = infer_alloc_array(a, tokens, sizeof *d->text_bytes);
    d->scores = infer_alloc_array(a, tokens, sizeof *d->scores);
    d->types = infer_alloc_array(a, tokens, sizeof *d->types);
    if (!d->text || !d->text_bytes || !d->scores || !d->types)
        return infer_fail_memory(err, (size_t)tokens * (sizeof *d->text + 9), "vocabulary");
    memset(d->types, INFER_TOKEN_NORMAL, (size_t)tokens);
    return INFER_OK;
}

infer_status infer_draft_reserve_merges(infer_vocab_draft *d, uint64_t merges, infer_error *err)
{
    if (merges > INFER_VOCAB_MAX_MERGES)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: merges: found %" PRIu64 ", expected at most %u", d->out.name, merges,
                          INFER_VOCAB_MAX_MERGES);
    if (merges == 0)
        return INFER_OK;
    d->merges = infer_alloc_array(d->allocator, (size_t)merges, sizeof *d->merges);
    return d->merges ? INFER_OK : infer_fail_memory(err, (size_t)merges * sizeof *d->merges, "merges");
}

void infer_draft_text(infer_vocab_draft *d, uint32_t id, const char *text, size_t bytes)
{
    d->text[id] = text;
    d->text_bytes[id] = (uint32_t)bytes;
}

static infer_status fill_ids(infer_vocab_draft *d, infer_error *err)
{
    if (d->ids.slots)
        return INFER_OK;
    if (!infer_strmap_init(&d->ids, d->allocator, d->out.tokens, d->out.tokens))
        return infer_fail_memory(err, 4 * (size_t)d->out.tokens * sizeof(infer_strmap_slot), "vocabulary");
    for (uint32_t i = 0; i < d->out.tokens; i++)
        if (d->text[i])
            infer_strmap_put(&d->ids, d->text[i], d->text_bytes[i], i);
    return INFER_OK;
}

infer_status infer_draft_id(infer_vocab_draft *d, const char *text, size_t bytes, uint32_t *id, infer_error *err)
{
    const infer_status s = fill_ids(d, err);
    if (s == INFER_OK)
        *id = infer_strmap_get(&d->ids, text, bytes);
    return s;
}

infer_status infer_draft_merge(infer_vocab_draft *d, const char *left, size_t left_bytes, const char *right, size_t right_bytes,
                               infer_error *err)
{
    uint32_t *pair = d->merges[d->out.merges];
    infer_status s = fill_ids(d, err);
    if (s != INFER_OK)
        return s;
    pair[0] = left_bytes ? infer_strmap_get(&d->ids, left, left_bytes) : INFER_STRMAP_NONE;
    pair[1] = right_bytes ? infer_strmap_get(&d->ids, right, right_bytes) : INFER_STRMAP_NONE;
    if (pair[0] == INFER_STRMAP_NONE || pair[1] == INFER_STRMAP_NONE)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: merge %" PRIu32 " (\"%.*s %.*s\") is not two tokens", d->out.name, d->out.merges,
                          left_bytes < 64 ? (int)left_bytes : 64, left, right_bytes < 64 ? (int)right_bytes : 64, right);
    d->out.merges++;
    return INFER_OK;
}

infer_status infer_draft_merge_line(infer_vocab_draft *d, const char *line, size_t bytes, infer_error *err)
{
    const char *space = bytes > 2 ? memchr(line + 1, ' ', bytes - 1) : NULL;
    if (!space)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: merge %" PRIu32 " (\"%.*s\") is not two tokens and a space between them",
                          d->out.name, d->out.merges, bytes < 64 ? (int)bytes : 64, line);
    return infer_draft_merge(d, line, (size_t)(space - line), space + 1, (size_t)(line + bytes - space - 1), err);
}

infer_status infer_draft_finish(infer_vocab_draft *d, void **section, size_t *bytes, infer_error *err)
{
    d->out.text = d->text;
    d->out.text_bytes = d->text_bytes;
    d->out.scores = d->scores;
    d->out.types = d->types;
    d->out.merge = (const uint32_t(*)[2])d->merges;
    return infer_vocab_build(d->allocator, &d->out, section, bytes, err);
}

void infer_draft_free(infer_vocab_draft *d)
{
    infer_free(d->allocator, d->text);
    infer_free(d->allocator, d->text_bytes);
    infer_free(d->allocator, d->scores);
    infer_free(d->allocator, d->types);
    infer_free(d->allocator, d->merges);
    infer_strmap_free(&d->ids, d->allocator);
}
