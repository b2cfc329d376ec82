/* GPT-2's pair of files (https://github.com/openai/gpt-2, "encoder.json" and "vocab.bpe"; Hugging Face: vocab.json and merges.txt): an
 * object of tokens and ids, and a list of merges, one "left right" a line. */
#include "import/json_file.h"
#include "import/vocab/json_text.h"
#include "import/vocab/tokenizers.h"

#include "utf8.h"

#include <inttypes.h>
#include <math.h>

static const infer_json_limits json_limits = {128u << 20, 6u << 20};

infer_status infer_vocab_json_parse(const char *json, size_t bytes, const char *path, cJSON **out, infer_error *err)
{
    for (size_t i = 0, n; i < bytes; i += n)
        if ((n = utf8_character((const uint8_t *)json + i, bytes - i)) == 0)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: byte %zu is not UTF-8", path, i);
    return infer_json_parse(json, bytes, &json_limits, path, out, err);
}

/* The files do not say how the text is cut. The tokens do: GPT-2's patterns never let a line end follow another sign in one token; those of
 * Llama 3 and Qwen 2 do, which differ in how many digits a token may have. */
static infer_status guess_pretokenizer(infer_vocab_draft *d, infer_error *err)
{
    uint32_t line, digits = INFER_STRMAP_NONE;
    infer_status s = infer_draft_id(d, ";\xc4\x8a", 3, &line, err); /* ";\n" */
    if (s == INFER_OK)
        s = infer_draft_id(d, "100", 3, &digits, err);
    d->out.pretokenizer = line == INFER_STRMAP_NONE     ? INFER_PRETOKENIZER_GPT2
                          : digits != INFER_STRMAP_NONE ? INFER_PRETOKENIZER_LLAMA3
                                                        : INFER_PRETOKENIZER_QWEN2;
    if (d->out.pretokenizer == INFER_PRETOKENIZER_LLAMA3)
        d->out.flags |= INFER_VOCAB_WHOLE_PIECES;
    return s;
}

static infer_status read_tokens(infer_vocab_draft *d, const infer_allocator *a, const cJSON *root, const char *path, infer_error *err)
{
    const cJSON *item;
    uint32_t count = 0;
    infer_status s;
    cJSON_ArrayForEach(item, root) count++;
    if ((s = infer_draft_start(d, a, path, count, err)) != INFER_OK)
        return s;
    cJSON_ArrayForEach(item, root)
    {
        const double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(id >= 0 && id < count && id == floor(id)) || d->text[(uint32_t)id])
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: token \"%.64s\": its id is not a number of its own below %" PRIu32, path,
                              item->string, count);
        infer_draft_text(d, (uint32_t)id, item->string, strlen(item->string));
        if (strcmp(item->string, "<|endoftext|>") == 0) {
            d->types[(uint32_t)id] = INFER_TOKEN_CONTROL;
            d->out.bos = d->out.eos = (uint32_t)id;
        }
    }
    d->out.kind = INFER_VOCAB_BPE;
    d->out.flags = INFER_VOCAB_BYTE_LEVEL;
    return guess_pretokenizer(d, err);
}

static infer_status read_merges(infer_vocab_draft *d, const char *text, size_t bytes, infer_error *err)
{
    const char *end = text + bytes;
    uint64_t lines = 1;
    infer_status s;
    if (bytes >= 8 && memcmp(text, "#version", 8) == 0)
        text = memchr(text, '\n', bytes);
    for (const char *p = text; p && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        lines++;
    s = infer_draft_reserve_merges(d, lines, err);
    for (const char *p = text, *line_end; p && p < end && s == INFER_OK; p = line_end + 1) {
        size_t n;
        line_end = memchr(p, '\n', (size_t)(end - p));
        if (!line_end)
            line_end = end;
        n = (size_t)(line_end - p);
        if (n > 0 && p[n - 1] == '\r')
            n--;
        if (n > 0)
            s = infer_draft_merge_line(d, p, n, err);
    }
    return s;
}

infer_status infer_vocab_json_import(const infer_allocator *a, const char *json, size_t bytes, const char *path, const char *merges,
                                     void **section, size_t *section_bytes, infer_error *err)
{
    infer_vocab_draft d = {.allocator = a};
    infer_mapping map;
    cJSON *root = NULL;
    infer_status s = infer_vocab_json_parse(json, bytes, path, &root, err);
    if (s != INFER_OK)
        return s;
    if ((s = infer_map_file(merges, &map, err)) == INFER_OK) {
        if ((s = read_tokens(&d, a, root, path, err)) == INFER_OK) {
            d.out.name = merges;
            s = read_merges(&d, (const char *)map.data, map.size, err);
        }
        if (s == INFER_OK)
            s = infer_draft_finish(&d, section, section_bytes, err);
        infer_draft_free(&d);
        infer_unmap(&map);
    }
    cJSON_Delete(root);
    return s;
}
