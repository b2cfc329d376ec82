/* The tokenizer section of a .infer file: its parts, checked and viewed in place, or laid out from what an importer found. */
#ifndef INFER_FORMATS_VOCAB_H
#define INFER_FORMATS_VOCAB_H

#include "core/core.h"

/*
 * Little-endian uint32 unless said otherwise (formats/SPEC.md, "Tokenizer"):
 *   kind, flags, pre-tokenizer, unknown id, begin id, end id (INFER_VOCAB_NO_ID: none), token count, merge count, bytes of token text;
 *   float32 scores[tokens]; uint8 types[tokens], zero-padded to a multiple of 4; uint32 ends[tokens] (where each text ends in the text
 *   bytes);
 *   uint32 merges[merges][2] (token ids left, right; the rank is the position); the texts, one after the other;
 *   with INFER_PRETOKENIZER_PATTERNS, a block of patterns; with INFER_PRETOKENIZER_STEPS, a block of steps; with INFER_VOCAB_CHARSMAP, a
 *   block that is the map. A block: zeros up to a multiple of 4 bytes, its size, its bytes.
 */
#define INFER_VOCAB_SPM 1u       /* SentencePiece BPE: the pair whose merged token has the best score is merged first */
#define INFER_VOCAB_BPE 2u       /* the pair of lowest rank is merged first */
#define INFER_VOCAB_UNIGRAM 3u   /* SentencePiece unigram: the cutting into tokens whose scores have the highest sum */
#define INFER_VOCAB_WORDPIECE 4u /* word by word, each time the longest token that fits */
#define INFER_VOCAB_WORDS 5u     /* a piece is a token, or the unknown one */

#define INFER_VOCAB_SPACE_PREFIX 1u    /* a space is put before the text, and after each special token in it */
#define INFER_VOCAB_BYTE_LEVEL 2u      /* token texts are in GPT-2's byte alphabet */
#define INFER_VOCAB_BYTE_FALLBACK 4u   /* characters without a token become <0xXX> tokens */
#define INFER_VOCAB_ADD_BOS 8u         /* a begin token goes first */
#define INFER_VOCAB_META_SPACE 16u     /* token texts write a space as U+2581 */
#define INFER_VOCAB_ADD_EOS 32u        /* an end token goes last */
#define INFER_VOCAB_WHOLE_PIECES 64u   /* a piece of text that is a token is that token, whatever the merges say */
#define INFER_VOCAB_PREFIX_ONCE 128u   /* SPACE_PREFIX: before the text only, not after special tokens */
#define INFER_VOCAB_PREFIX_UNLESS 256u /* SPACE_PREFIX: only where no space stands */
#define INFER_VOCAB_SINGLE_SPACES 512u /* runs of spaces become one, those at both ends of the text none */
#define INFER_VOCAB_NFC 1024u          /* Unicode normalization forms (UAX 15); at most one of them */
#define INFER_VOCAB_NFD 2048u
#define INFER_VOCAB_NFKC 4096u
#define INFER_VOCAB_STRIP_ACCENTS 8192u /* decompose, then drop nonspacing marks (Mn) */
#define INFER_VOCAB_LOWERCASE 16384u
#define INFER_VOCAB_CLEAN 32768u         /* drop U+0000, U+FFFD and other controls, white space becomes spaces (BERT) */
#define INFER_VOCAB_CHARSMAP 65536u      /* SentencePiece's compiled map of characters is applied first */
#define INFER_VOCAB_UNKNOWN_EACH 131072u /* each unknown character is an unknown token, not each run */
#define INFER_VOCAB_WORD_END 262144u     /* BPE with steps: texts that end a word ("low</w>") end with INFER_VOCAB_MARK */
#define INFER_VOCAB_WORD_BEGIN 524288u   /* BPE and WordPiece with steps: those that begin one (not "##er") begin with it */

#define INFER_META_SPACE "\xe2\x96\x81" /* U+2581, in UTF-8 */
#define INFER_VOCAB_MARK '\xff' /* in no text of UTF-8 */
#define INFER_VOCAB_NO_ID 0xffffffffu
#define INFER_VOCAB_MAX_TOKENS (1u << 22)
#define INFER_VOCAB_MAX_MERGES (1u << 23)
#define INFER_VOCAB_MAX_PATTERNS 8u         /* regular expressions of a pre-tokenizer */
#define INFER_VOCAB_MAX_PATTERN_BYTES 4096u /* of all of them, with their NULs */
#define INFER_VOCAB_MAX_STEPS 64u
#define INFER_VOCAB_MAX_STEP_BYTES 65536u /* of the block of steps */

/* How the text is cut before merging. Stored, so never change or reuse a number. */
enum {
    INFER_PRETOKENIZER_NONE = 0, /* the whole text is one piece */
    INFER_PRETOKENIZER_GPT2 = 1, /* 1 to 3: short for the patterns of infer_vocab_known_patterns */
    INFER_PRETOKENIZER_LLAMA3 = 2,
    INFER_PRETOKENIZER_QWEN2 = 3,
    INFER_PRETOKENIZER_BERT = 4,     /* at white space, which is dropped, and around punctuation and CJK ideographs */
    INFER_PRETOKENIZER_PATTERNS = 5, /* the section has them */
    INFER_PRETOKENIZER_STEPS = 6     /* the section has what is done to the text, normalization too, one after the other */
};

/* What a step does, to the text or, where earlier steps have cut it, to each piece. Stored, as above. */
enum {
    INFER_STEP_FORM = 1,       /* Unicode normalization form: argument 1 C, 2 D, 3 KC, 4 KD */
    INFER_STEP_LOWERCASE = 2,  /* U+0130 becomes two characters */
    INFER_STEP_DROP = 3,       /* characters go: argument 1 categories M, 2 Mn, 3 BERT's controls, 4 SentencePiece's (nmt) */
    INFER_STEP_SPACES = 4,     /* characters become a space: argument 1 white space, 2 SentencePiece's (nmt) */
    INFER_STEP_IDEOGRAPHS = 5, /* a space goes before and behind each CJK ideograph */
    INFER_STEP_CHARSMAP = 6,   /* the map of characters: argument 0 as Hugging Face applies it, 1 as SentencePiece */
    INFER_STEP_STRIP = 7,      /* white space goes: argument 1 at the beginning, 2 at the end, 3 both */
    INFER_STEP_PREPEND = 8, /* the text goes before: argument + 1 unless it stands there, + 2 only where the whole text begins, 4: behind */
    INFER_STEP_REPLACE = 9, /* the text becomes the content, wherever it stands */
    INFER_STEP_REPLACE_PATTERN = 10,
    INFER_STEP_BYTES = 11,  /* bytes become characters of GPT-2's alphabet */
    INFER_STEP_NAMES = 12,  /* special tokens with INFER_TOKEN_NORMALIZED are looked for: argument 1 as they are written */
    INFER_STEP_SPLIT = 13,  /* at the matches of a pattern: argument INFER_SPLIT_* */
    INFER_STEP_LIMIT = 14,  /* pieces of more characters than the argument are unknown */
    INFER_STEP_BEFORE = 15, /* the argument, a token, goes behind the begin token */
    INFER_STEP_BEHIND = 16  /* before the end token */
};

enum {
    INFER_SPLIT_ISOLATED = 1,   /* matches and what is between them are pieces */
    INFER_SPLIT_REMOVED = 2,    /* what is between them */
    INFER_SPLIT_PREVIOUS = 3,   /* a match goes with what is before it */
    INFER_SPLIT_NEXT = 4,       /* with what is behind it */
    INFER_SPLIT_CONTIGUOUS = 5, /* matches behind one another are one piece */
    INFER_SPLIT_INVERT = 16     /* added: what is between two matches is the match, and the other way round */
};

/* GPT-2's pattern (openai/gpt-2, encoder.py), which other families' build on. */
#define INFER_PATTERN_WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* types[], in the lower four bits */
enum {
    INFER_TOKEN_NORMAL = 1,
    INFER_TOKEN_UNKNOWN = 2,
    INFER_TOKEN_CONTROL = 3,
    INFER_TOKEN_USER = 4,
    INFER_TOKEN_UNUSED = 5,
    INFER_TOKEN_BYTE = 6,
    INFER_TOKEN_ADDED = 7 /* as USER, but no piece becomes it */
};
#define INFER_TOKEN_TYPE 15u        /* mask */
#define INFER_TOKEN_LSTRIP 16u      /* special tokens: the white space before the name goes with it */
#define INFER_TOKEN_RSTRIP 32u      /* the white space behind */
#define INFER_TOKEN_WORD 64u        /* only where no letter, mark, digit or connector stands before or behind the name */
#define INFER_TOKEN_NORMALIZED 128u /* looked for, in its normalized form, in the normalized text */

/* Pointers into the section, which must outlive the view. A file keeps the section 64-byte aligned, so the arrays are aligned too. */
typedef struct infer_vocab_view {
    uint32_t kind, flags, pretokenizer, unk, bos, eos, tokens, merges;
    const float *scores;
    const uint8_t *types;
    const uint32_t *ends;
    const uint32_t (*merge)[2];
    const char *text;
    uint32_t text_bytes;
    const char *patterns; /* pattern_count texts, each with a NUL behind it */
    uint32_t pattern_count;
    const uint8_t *steps; /* NULL: none; infer_vocab_next_step */
    uint32_t step_bytes;
    const uint8_t *charsmap; /* NULL: none */
    uint32_t charsmap_bytes;
} infer_vocab_view;

typedef struct infer_vocab_step {
    uint32_t op, argument;
    const char *text, *content; /* well-formed UTF-8, no NUL behind it */
    uint32_t text_bytes, content_bytes;
} infer_vocab_step;

/* The step at *at, which begins at 0 and moves behind it; false at the end. The steps are those of a view, or of a builder. */
bool infer_vocab_next_step(const uint8_t *steps, uint32_t bytes, uint32_t *at, infer_vocab_step *out);
/* Bytes of a step in the block; written to `out` unless that is NULL. */
uint32_t infer_vocab_put_step(const infer_vocab_step *step, uint8_t *out);

static inline uint8_t infer_vocab_type(const infer_vocab_view *v, uint32_t id)
{
    return v->types[id] & INFER_TOKEN_TYPE;
}

/* Checks every size, id and offset: afterwards each number of the view is in range, scores are finite, byte tokens read <0xXX>, both
 * sides of a merge have text, and patterns keep to the syntax that SPEC.md allows (whether they compile is not checked here). The section
 * is aligned to 4 bytes (ARGUMENT otherwise). FORMAT says what is wrong, UNSUPPORTED names a number or a pattern's construct that is
 * unknown; `name` is the file's, for messages. */
infer_status infer_vocab_parse(const void *section, size_t bytes, const char *name, infer_vocab_view *out, infer_error *err);

typedef struct infer_vocab_parts {
    const char *name; /* where it comes from, for messages; NULL: "vocabulary" */
    uint32_t kind, flags, pretokenizer, unk, bos, eos, tokens, merges;
    const char *const *text; /* [tokens] */
    const uint32_t *text_bytes;
    const float *scores;  /* NULL: zeros */
    const uint8_t *types; /* NULL: all normal */
    const uint32_t (*merge)[2];
    const char *patterns; /* as in the view, with INFER_PRETOKENIZER_PATTERNS */
    uint32_t pattern_count;
    const uint8_t *steps; /* with INFER_PRETOKENIZER_STEPS */
    uint32_t step_bytes;
    const uint8_t *charsmap; /* with INFER_VOCAB_CHARSMAP */
    uint32_t charsmap_bytes;
} infer_vocab_parts;

/* Lays out a section, which infer_vocab_parse accepts; *out is allocated with `a`. */
infer_status infer_vocab_build(const infer_allocator *a, const infer_vocab_parts *parts, void **out, size_t *bytes, infer_error *err);

/* The patterns that a number stands for, NUL-separated, and how many; NULL for numbers that stand for none. */
const char *infer_vocab_known_patterns(uint32_t pretokenizer, uint32_t *count);

#endif
