/*
 * SentencePiece's .model (https://github.com/google/sentencepiece, sentencepiece_model.proto), a protocol buffer:
 *   1 pieces { 1 text, 2 score (float), 3 type }
 *   2 trainer { 3 model type (1 unigram, 2 BPE, 3 words, 4 characters), 24 space as suffix, 35 byte fallback,
 *     40 unknown id, 41 begin id, 42 end id }
 *   3 normalizer { 2 map of characters, 3 space before the text, 4 runs of spaces become one }
 *
 * Unknown fields are passed over. The numbers of the types are ours.
 */
#include "import/vocab/tokenizers.h"

#include "bytes.h"

#include <inttypes.h>
#include <math.h>

/* A message, or what is left of it. */
typedef struct message {
    const uint8_t *p, *end;
} message;

typedef struct field {
    uint32_t number;
    uint64_t value;  /* of numbers; the bits of a float */
    message content; /* of texts and messages; else empty */
} field;

static bool read_varint(message *m, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; m->p < m->end && shift < 64; shift += 7) {
        const uint8_t byte = *m->p++;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* 1: a field, 0: the end, -1: not a protocol buffer. */
static int next_field(message *m, field *f)
{
    uint64_t key, bytes;
    *f = (field){0};
    if (m->p == m->end)
        return 0;
    if (!read_varint(m, &key) || key >> 32 || key >> 3 == 0)
        return -1;
    f->number = (uint32_t)key >> 3;
    switch (key & 7) {
    case 0:
        return read_varint(m, &f->value) ? 1 : -1;
    case 1:
        bytes = 8;
        break;
    case 2:
        if (!read_varint(m, &bytes))
            return -1;
        break;
    case 5:
        bytes = 4;
        break;
    default:
        return -1;
    }
    if (bytes > (uint64_t)(m->end - m->p))
        return -1;
    if ((key & 7) == 2)
        f->content = (message){m->p, m->p + bytes};
    else if ((key & 7) == 5)
        f->value = get_u32(m->p);
    m->p += bytes;
    return 1;
}

typedef struct spec {
    uint64_t model_type, unk, bos, eos;
    bool suffix, byte_fallback, prefix, single_spaces;
    message charsmap;
} spec;

/* Trainer and normalizer, and how many pieces there are; false: not a protocol buffer. */
static bool read_spec(message m, spec *s, uint64_t *pieces)
{
    field f, g;
    int more, inner = 0;
    *s = (spec){.model_type = 1, .unk = 0, .bos = 1, .eos = 2, .prefix = true, .single_spaces = true}; /* the .proto's defaults */
    *pieces = 0;
    while ((more = next_field(&m, &f)) == 1 && inner == 0) {
        *pieces += f.number == 1;
        if (f.number == 2)
            while ((inner = next_field(&f.content, &g)) == 1)
                switch (g.number) {
                case 3:
                    s->model_type = g.value;
                    break;
                case 24:
                    s->suffix = g.value;
                    break;
                case 35:
                    s->byte_fallback = g.value;
                    break;
                case 40:
                    s->unk = g.value;
                    break;
                case 41:
                    s->bos = g.value;
                    break;
                case 42:
                    s->eos = g.value;
                    break;
                default:
                    break;
                }
        else if (f.number == 3)
            while ((inner = next_field(&f.content, &g)) == 1)
                switch (g.number) {
                case 2:
                    s->charsmap = g.content;
                    break;
                case 3:
                    s->prefix = g.value;
                    break;
                case 4:
                    s->single_spaces = g.value;
                    break;
                default:
                    break;
                }
    }
    return more == 0 && inner == 0;
}

static infer_status read_piece(infer_vocab_draft *d, uint32_t id, message m, infer_error *err)
{
    field f;
    int more;
    while ((more = next_field(&m, &f)) == 1) {
        if (f.number == 1) {
            infer_draft_text(d, id, (const char *)f.content.p, (size_t)(f.content.end - f.content.p));
        } else if (f.number == 2) {
            const uint32_t bits = (uint32_t)f.value;
            d->scores[id] = get_f32(&bits);
        } else if (f.number == 3) {
            if (f.value < INFER_TOKEN_NORMAL || f.value > INFER_TOKEN_BYTE)
                return infer_fail(err, INFER_ERROR_FORMAT, "%s: piece %" PRIu32 ": type: found %" PRIu64 ", expected 1 to 6", d->out.name,
                                  id, f.value);
            d->types[id] = (uint8_t)f.value;
        }
    }
    return more == 0 ? INFER_OK : infer_fail(err, INFER_ERROR_FORMAT, "%s: piece %" PRIu32 " is no protocol buffer", d->out.name, id);
}

/* -1, written as a number of 64 bits, means none. */
static uint32_t id_or_none(uint64_t id, uint32_t tokens)
{
    return id < tokens ? (uint32_t)id : INFER_VOCAB_NO_ID;
}

static infer_status read_model(infer_vocab_draft *d, message m, const spec *s, infer_error *err)
{
    field f;
    uint32_t id = 0;
    const uint64_t charsmap_bytes = (uint64_t)(s->charsmap.end - s->charsmap.p);
    infer_status status = INFER_OK;

    while (next_field(&m, &f) == 1 && status == INFER_OK)
        if (f.number == 1)
            status = read_piece(d, id++, f.content, err);
    d->out.kind = s->model_type == 2 ? INFER_VOCAB_SPM : INFER_VOCAB_UNIGRAM;
    d->out.unk = id_or_none(s->unk, d->out.tokens);
    d->out.bos = id_or_none(s->bos, d->out.tokens);
    d->out.eos = id_or_none(s->eos, d->out.tokens);
    d->out.flags = INFER_VOCAB_META_SPACE | (s->prefix ? INFER_VOCAB_SPACE_PREFIX : 0) |
                   (s->single_spaces ? INFER_VOCAB_SINGLE_SPACES : 0) | (s->byte_fallback ? INFER_VOCAB_BYTE_FALLBACK : 0);
    /* The file does not say what is put around texts. Models with a begin token are Llama's kin, those without T5's. */
    d->out.flags |= d->out.bos != INFER_VOCAB_NO_ID ? INFER_VOCAB_ADD_BOS : d->out.eos != INFER_VOCAB_NO_ID ? INFER_VOCAB_ADD_EOS : 0;
    if (charsmap_bytes > 0 && charsmap_bytes <= UINT32_MAX) {
        d->out.flags |= INFER_VOCAB_CHARSMAP;
        d->out.charsmap = s->charsmap.p;
        d->out.charsmap_bytes = (uint32_t)charsmap_bytes;
    }
    return status;
}

#define MOST_STEPS 8

/* User-defined symbols stand in the normalized text, of which a space at the beginning is a part; the space may go behind the text. Flags
 * cannot say that: steps do. */
static infer_status set_steps(infer_vocab_draft *d, const spec *s, uint8_t *block, size_t room, infer_error *err)
{
    static const char space[] = INFER_META_SPACE, edges[] = "^ +| +(?![\\s\\S])";
    infer_vocab_step list[MOST_STEPS];
    uint32_t count = 0, bytes = 0;
    if (d->out.flags & INFER_VOCAB_CHARSMAP)
        list[count++] = (infer_vocab_step){.op = INFER_STEP_CHARSMAP, .argument = 1};
    if (s->single_spaces) {
        list[count++] = (infer_vocab_step){.op = INFER_STEP_REPLACE_PATTERN, .text = edges, .text_bytes = sizeof edges - 1};
        list[count++] =
            (infer_vocab_step){.op = INFER_STEP_REPLACE_PATTERN, .text = " {2,}", .text_bytes = 5, .content = " ", .content_bytes = 1};
    }
    if (s->prefix)
        list[count++] = (infer_vocab_step){.op = INFER_STEP_PREPEND, .argument = s->suffix ? 4 : 0, .text = " ", .text_bytes = 1};
    list[count++] = (infer_vocab_step){.op = INFER_STEP_REPLACE, .text = " ", .text_bytes = 1, .content = space, .content_bytes = 3};
    list[count++] = (infer_vocab_step){.op = INFER_STEP_NAMES, .argument = 1};
    for (uint32_t i = 0; i < count; i++)
        bytes += infer_vocab_put_step(&list[i], bytes + infer_vocab_put_step(&list[i], NULL) <= room ? block + bytes : NULL);
    for (uint32_t i = 0; i < d->out.tokens; i++) {
        const char *text = d->text[i] ? d->text[i] : "";
        const uint32_t n = d->text_bytes[i];
        bool spaces = n >= 3 && (memcmp(text, space, 3) == 0 || memcmp(text + n - 3, space, 3) == 0);
        if (d->types[i] != INFER_TOKEN_USER)
            continue;
        for (uint32_t k = 0; k + 6 <= n; k++)
            spaces |= memcmp(text + k, INFER_META_SPACE INFER_META_SPACE, 6) == 0;
        if (spaces && s->single_spaces && n > 3)
            return infer_fail(err, INFER_ERROR_UNSUPPORTED,
                              "%s: piece %" PRIu32
                              ", \"%.*s\": spaces in a user-defined symbol, with remove_extra_whitespaces, are unknown to this library",
                              d->out.name, i, n < 64 ? (int)n : 64, text);
        d->types[i] |= INFER_TOKEN_NORMALIZED;
    }
    d->out.flags &= ~INFER_VOCAB_SINGLE_SPACES;
    d->out.pretokenizer = INFER_PRETOKENIZER_STEPS;
    d->out.steps = block;
    d->out.step_bytes = bytes;
    return INFER_OK;
}

/* In files that need no steps user-defined symbols are looked for in the text as it is, where spaces are spaces: *texts gets theirs. */
static infer_status write_spaces(infer_vocab_draft *d, char **texts, infer_error *err)
{
    size_t total = 1;
    char *p;
    for (uint32_t i = 0; i < d->out.tokens; i++)
        total += d->types[i] == INFER_TOKEN_USER ? d->text_bytes[i] : 0;
    p = *texts = infer_alloc(d->allocator, total);
    if (!p)
        return infer_fail_memory(err, total, "vocabulary");
    for (uint32_t i = 0; i < d->out.tokens; i++) {
        const char *text = d->text[i], *const start = p;
        if (d->types[i] != INFER_TOKEN_USER)
            continue;
        for (uint32_t k = 0; k < d->text_bytes[i]; k++) {
            const bool space = d->text_bytes[i] - k >= 3 && memcmp(text + k, INFER_META_SPACE, 3) == 0;
            *p++ = space ? ' ' : text[k];
            k += space ? 2 : 0;
        }
        infer_draft_text(d, i, start, (size_t)(p - start));
    }
    return INFER_OK;
}

static bool has_user_symbols(const infer_vocab_draft *d)
{
    for (uint32_t i = 0; i < d->out.tokens; i++)
        if (d->types[i] == INFER_TOKEN_USER)
            return true;
    return false;
}

infer_status infer_sentencepiece_import(const infer_allocator *a, const uint8_t *data, size_t bytes, const char *path, void **section,
                                        size_t *section_bytes, infer_error *err)
{
    const message whole = {data, data + bytes};
    uint8_t block[512];
    char *texts = NULL;
    infer_vocab_draft d = {.allocator = a};
    spec s;
    uint64_t pieces;
    infer_status status;

    if (!read_spec(whole, &s, &pieces))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: not a SentencePiece model", path);
    if (s.model_type != 1 && s.model_type != 2 && s.model_type != 4)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED,
                          "%s: SentencePiece model type %" PRIu64 ", supported are 1 (unigram), 2 (BPE) and 4 (characters)", path,
                          s.model_type);
    if ((status = infer_draft_start(&d, a, path, pieces, err)) == INFER_OK && (status = read_model(&d, whole, &s, err)) == INFER_OK) {
        if ((s.suffix && s.prefix) || (has_user_symbols(&d) && (s.prefix || s.single_spaces)))
            status = set_steps(&d, &s, block, sizeof block, err);
        else if (has_user_symbols(&d))
            status = write_spaces(&d, &texts, err);
        if (status == INFER_OK)
            status = infer_draft_finish(&d, section, section_bytes, err);
    }
    infer_draft_free(&d);
    infer_free(a, texts);
    return status;
}
