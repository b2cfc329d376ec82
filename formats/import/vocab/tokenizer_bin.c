/*
 * llama2.c's tokenizer.bin (https://github.com/karpathy/llama2.c, tokenizer.py "export"), little-endian: int32 longest token, then for each
 * token float32 score, int32 bytes, text. A SentencePiece vocabulary: id 0 is unknown, 1 begin, 2 end; spaces are written as spaces, and
 * the texts of 1 and 2 are wrapped in line ends.
 */
#include "import/vocab/tokenizers.h"

#include "bytes.h"
#include "vocab.h"

#include <inttypes.h>

#define LONGEST_TOKEN 65536u

typedef struct tokens {
    const char **text;
    uint32_t *bytes;
    float *scores;
    uint8_t *types;
    uint32_t count;
    bool has_bytes;
} tokens;

/* Walks the file: counts the tokens and, with `out`, stores them. */
static infer_status walk(const uint8_t *data, size_t size, const char *path, uint32_t *count, tokens *out, infer_error *err)
{
    size_t at = 4;
    uint32_t id = 0;

    for (; at < size; id++) {
        uint32_t n;
        if (id == INFER_VOCAB_MAX_TOKENS)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: more than %u tokens", path, INFER_VOCAB_MAX_TOKENS);
        if (size - at < 8)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: ends within token %" PRIu32 " at offset %zu", path, id, at);
        n = get_u32(data + at + 4);
        if (n > LONGEST_TOKEN || n > size - at - 8)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: token %" PRIu32 " at offset %zu: %" PRIu32 " bytes, the file has %zu more",
                              path, id, at, n, size - at - 8);
        if (out) {
            const char *text = (const char *)data + at + 8;
            bool byte = n == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>';
            out->text[id] = text;
            out->bytes[id] = n;
            out->scores[id] = get_f32(data + at);
            out->types[id] = id == 0 ? INFER_TOKEN_UNKNOWN : id <= 2 ? INFER_TOKEN_CONTROL : byte ? INFER_TOKEN_BYTE : INFER_TOKEN_NORMAL;
            out->has_bytes |= byte;
            if ((id == 1 || id == 2) && n > 2 && text[0] == '\n' && text[n - 1] == '\n') {
                out->text[id]++;
                out->bytes[id] -= 2;
            }
        }
        at += 8 + n;
    }
    *count = id;
    return INFER_OK;
}

infer_status infer_tokenizer_bin_import(const infer_allocator *a, const uint8_t *data, size_t size, const char *path, void **section,
                                        size_t *section_bytes, infer_error *err)
{
    tokens t = {0};
    infer_vocab_parts parts;
    infer_status s;

    if (size < 4 || get_u32(data) > LONGEST_TOKEN)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: not a llama2.c tokenizer", path);
    if ((s = walk(data, size, path, &t.count, NULL, err)) != INFER_OK)
        return s;
    if (t.count < 3)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %" PRIu32 " tokens, expected at least unknown, begin and end", path, t.count);
    t.text = infer_alloc_array(a, t.count, sizeof *t.text);
    t.bytes = infer_alloc_array(a, t.count, sizeof *t.bytes);
    t.scores = infer_alloc_array(a, t.count, sizeof *t.scores);
    t.types = infer_alloc_array(a, t.count, sizeof *t.types);
    if (!t.text || !t.bytes || !t.scores || !t.types)
        s = infer_fail_memory(err, t.count * (sizeof *t.text + 9), "vocabulary");
    else
        s = walk(data, size, path, &t.count, &t, err);
    if (s == INFER_OK) {
        parts = (infer_vocab_parts){
            .name = path,
            .kind = INFER_VOCAB_SPM,
            .flags = INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_ADD_BOS | (t.has_bytes ? INFER_VOCAB_BYTE_FALLBACK : 0),
            .pretokenizer = INFER_PRETOKENIZER_NONE,
            .unk = 0,
            .bos = 1,
            .eos = 2,
            .tokens = t.count,
            .text = t.text,
            .text_bytes = t.bytes,
            .scores = t.scores,
            .types = t.types,
        };
        s = infer_vocab_build(a, &parts, section, section_bytes, err);
    }
    infer_free(a, t.text);
    infer_free(a, t.bytes);
    infer_free(a, t.scores);
    infer_free(a, t.types);
    return s;
}
