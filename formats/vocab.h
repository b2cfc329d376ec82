/* The tokenizer section of a .infer file: its parts, checked and viewed in place, or laid out from what an importer found. */
#ifndef INFER_FORMATS_VOCAB_H
#define INFER_FORMATS_VOCAB_H

#include "core/core.h"

/*
 * Little-endian uint32 unless said otherwise (formats/SPEC.md, "Tokenizer"):
 *   kind, flags, pre-tokenizer, unknown id, begin id, end id (INFER_VOCAB_NO_ID: none), token count, merge count, bytes of token text;
 *   float32 scores[tokens]; uint8 types[tokens], zero-padded to a multiple of 4; uint32 ends[tokens] (where each text ends in the text
 *   bytes);
 *   uint32 merges[merges][2] (token ids left, right; the rank is the position); the texts, one after the other.
 */
#define INFER_VOCAB_SPM 1u /* SentencePiece style: the pair whose merged token has the best score is merged first */
#define INFER_VOCAB_BPE 2u /* the pair of lowest rank is merged first */

#define INFER_VOCAB_SPACE_PREFIX 1u  /* a space is put before the text */
#define INFER_VOCAB_BYTE_LEVEL 2u    /* token texts are in GPT-2's byte alphabet */
#define INFER_VOCAB_BYTE_FALLBACK 4u /* characters without a token become <0xXX> tokens */
#define INFER_VOCAB_ADD_BOS 8u       /* a begin token goes first */
#define INFER_VOCAB_META_SPACE 16u   /* token texts write a space as U+2581 */

#define INFER_VOCAB_NO_ID 0xffffffffu
#define INFER_VOCAB_MAX_TOKENS (1u << 22)
#define INFER_VOCAB_MAX_MERGES (1u << 23)

/* How the text is cut before merging; the names are GGUF's ("tokenizer.ggml.pre"). Stored, so never change or reuse a number. */
enum {
    INFER_PRETOKENIZER_NONE = 0, /* the whole text is one piece */
    INFER_PRETOKENIZER_GPT2 = 1,
    INFER_PRETOKENIZER_LLAMA3 = 2, /* "llama-bpe" */
    INFER_PRETOKENIZER_QWEN2 = 3
};

enum { /* types[] */
    INFER_TOKEN_NORMAL = 1,
    INFER_TOKEN_UNKNOWN = 2,
    INFER_TOKEN_CONTROL = 3,
    INFER_TOKEN_USER = 4,
    INFER_TOKEN_UNUSED = 5,
    INFER_TOKEN_BYTE = 6
};

/* Pointers into the section, which must outlive the view. A file keeps the section 64-byte aligned, so the arrays are aligned too. */
typedef struct infer_vocab_view {
    uint32_t kind, flags, pretokenizer, unk, bos, eos, tokens, merges;
    const float *scores;
    const uint8_t *types;
    const uint32_t *ends;
    const uint32_t (*merge)[2];
    const char *text;
    uint32_t text_bytes;
} infer_vocab_view;

/* Checks every size, id and offset: afterwards each number of the view is in range, scores are finite, byte tokens read <0xXX>, and both
 * sides of a merge have text. The section is aligned to 4 bytes (ARGUMENT otherwise). FORMAT says what is wrong; `name` is the file's, for
 * messages. */
infer_status infer_vocab_parse(const void *section, size_t bytes, const char *name, infer_vocab_view *out, infer_error *err);

typedef struct infer_vocab_parts {
    const char *name;        /* where it comes from, for messages; NULL: "vocabulary" */
    uint32_t kind, flags, pretokenizer, unk, bos, eos, tokens, merges;
    const char *const *text; /* [tokens] */
    const uint32_t *text_bytes;
    const float *scores;     /* NULL: zeros */
    const uint8_t *types;    /* NULL: all normal */
    const uint32_t (*merge)[2];
} infer_vocab_parts;

/* Lays out a section, which infer_vocab_parse accepts; *out is allocated with `a`. */
infer_status infer_vocab_build(const infer_allocator *a, const infer_vocab_parts *parts, void **out, size_t *bytes, infer_error *err);

#endif
