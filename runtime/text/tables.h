/* What a tokenizer looks up, shared by the files of this folder.
 *
 * Encoding: special tokens are looked for in the text (names.c); what stands between them is normalized (normalize.c) and cut into
 * pieces (split.c, wordpiece.c), or both by the vocabulary's own steps (steps.c); a piece becomes tokens (tokenizer.c), by
 *   merging, for SPM and BPE: the piece is a row of symbols, one per character (byte-level: per byte); the adjacent pair of lowest rank,
 *     the leftmost on ties, becomes one symbol, until no pair has a rank (merge.c). SPM ranks a pair by the score of the token that it
 *     makes, BPE by its place in the list of merges (bpe.c);
 *   the best path through all tokens that fit (unigram.c); or the longest token that fits, again and again (wordpiece.c).
 * Most pieces of a long text have been seen before: their tokens come from a cache (cache.c). */
#ifndef INFER_TEXT_TABLES_H
#define INFER_TEXT_TABLES_H

#include "strmap.h"
#include "text/text.h"

#include <string.h>

#define INFER_NO_SYMBOL 0xffffffffu
#define INFER_TOKEN_MAX_BYTES 1024u      /* of a token that takes part in merging */
#define INFER_SPECIAL_MAX_BYTES 255u     /* of a special token's name that is looked for in texts */
#define INFER_TEXT_MAX_BYTES 0x40000000u /* of one text to encode, also when it is normalized */

typedef struct infer_pair {
    uint32_t left, right; /* left == INFER_NO_SYMBOL: a free slot */
    uint32_t rank, merged;
} infer_pair;

/* BPE: two tokens -> rank and merged token. Unigram: a node of the tree of texts and a byte -> the next node, and in `rank` the token that
 * ends there. */
typedef struct infer_pair_table {
    infer_pair *slots;
    uint64_t mask;
    size_t used;
    unsigned shift;
} infer_pair_table;

typedef struct infer_splitter infer_splitter;

/* Names of special tokens, to be found in a text. */
typedef struct infer_names {
    infer_strmap ids;
    uint32_t begin[256][8];                      /* like joints: the first two bytes of the names; all second bytes for names of one byte */
    uint8_t length[INFER_SPECIAL_MAX_BYTES + 1]; /* 1 for each length that one has */
    bool any;
} infer_names;

struct infer_tokenizer {
    infer_allocator own; /* a copy: allocator points at it, or is NULL */
    const infer_allocator *allocator;
    const char *name;
    infer_vocab_view vocab;
    /* What each token stands for, one after the other: byte tokens are bytes, control tokens nothing. `text` is compared with pieces,
     * `shown` is for readers: marks of words and U+2581 are spaces. With steps they differ, else they are the same. ends[tokens]: where
     * they end. */
    char *text, *shown;
    uint32_t *ends, *shown_ends;
    uint32_t longest; /* bytes of the longest of them */
    uint32_t byte_token[256];
    uint32_t single[256]; /* tokens whose text is one byte */
    infer_strmap texts;   /* texts of the tokens that pieces may become -> id; of equal texts, the lowest */
    bool repeated_texts;  /* two of them are equal */
    infer_pair_table pairs;
    /* joints[a][b]: byte b stands behind byte a within some token. Where the text has no such joint, no token can cross, so that a text
     * without pre-tokenizer may be cut there: each part is encoded alone, with the same result. */
    uint32_t joints[256][8];
    float unknown_score;             /* unigram: of a character that is no token */
    infer_splitter *splitter;        /* NULL: no patterns */
    bool alphabet_step;              /* steps write bytes in GPT-2's alphabet: pieces are in it */
    bool written_names;              /* normal_names are as they are written */
    infer_names names, normal_names; /* looked for before and after normalization */
    char *normal_text;               /* the texts of normal_names, one after the other */
};

static inline const char *infer_token_surface(const infer_tokenizer *t, uint32_t id, uint32_t *bytes)
{
    uint32_t start = id ? t->ends[id - 1] : 0;
    *bytes = t->ends[id] - start;
    return t->text + start;
}

static inline const char *infer_token_shown(const infer_tokenizer *t, uint32_t id, uint32_t *bytes)
{
    const uint32_t start = id ? t->shown_ends[id - 1] : 0;
    *bytes = t->shown_ends[id] - start;
    return t->shown + start;
}

/* Whether a piece of text may become this token. */
static inline bool infer_token_merges(const infer_tokenizer *t, uint32_t id)
{
    const uint8_t type = infer_vocab_type(&t->vocab, id);
    return (type == INFER_TOKEN_NORMAL || type == INFER_TOKEN_USER) && t->ends[id] > (id ? t->ends[id - 1] : 0);
}

/* Whether a set of byte pairs, such as joints, has this one. */
static inline bool infer_has_bytes(const uint32_t set[256][8], uint8_t first, uint8_t second)
{
    return set[first][second >> 5] >> (second & 31) & 1;
}

/* Bytes that grow. */
typedef struct infer_bytes {
    char *p;
    size_t n, cap;
} infer_bytes;

static inline bool infer_bytes_add(infer_bytes *b, const infer_allocator *a, const void *p, size_t n)
{
    if (n == 0) /* then there may be neither source nor buffer */
        return true;
    if (!infer_grow(a, &b->p, &b->cap, b->n + n, 1))
        return false;
    memcpy(b->p + b->n, p, n);
    b->n += n;
    return true;
}

/* ---- pairs.c ---- */

bool infer_pairs_init(infer_pair_table *p, const infer_allocator *a, size_t expected);
void infer_pairs_free(infer_pair_table *p, const infer_allocator *a);
/* Adds a pair, or leaves the one that is there already. NULL: no memory. */
infer_pair *infer_pairs_add(infer_pair_table *p, const infer_allocator *a, infer_pair pair);

static inline uint64_t infer_pair_hash(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
}

/* NULL when the pair never merges. */
static inline infer_pair *infer_pairs_find(const infer_pair_table *p, uint32_t left, uint32_t right)
{
    for (uint64_t i = infer_pair_hash(left, right) >> p->shift;; i = (i + 1) & p->mask) {
        infer_pair *s = &p->slots[i];
        if (s->left == INFER_NO_SYMBOL) /* first: `left` may be INFER_NO_SYMBOL itself */
            return NULL;
        if (s->left == left && s->right == right)
            return s;
    }
}

/* ---- bpe.c, unigram.c: fill `pairs` from the vocabulary ---- */

infer_status infer_bpe_build(infer_tokenizer *t, infer_error *err);
infer_status infer_unigram_build(infer_tokenizer *t, infer_error *err);
/* GPT-2's byte alphabet: printable bytes of Latin-1 are themselves, the others, in order, U+0100 and on. */
uint32_t infer_byte_alphabet_character(uint8_t byte);
/* Bytes of a token's text in that alphabet, written to `out` (at most n); what is not in the alphabet stays as it is. */
uint32_t infer_byte_alphabet_decode(const char *text, uint32_t n, char *out);

/* ---- split.c ---- */

/* Compiles the vocabulary's patterns. FORMAT names one that is no regular expression. */
infer_status infer_splitter_open(const infer_allocator *a, const infer_vocab_view *v, const char *name, infer_splitter **out,
                                 infer_error *err);
void infer_splitter_close(infer_splitter *s);
/* Pieces of text[0..n) in their order, until one is answered with an error. Not all of them are well-formed UTF-8 if the text is not. */
typedef infer_status (*infer_piece_fn)(void *user, const char *piece, size_t n);
infer_status infer_split(const infer_splitter *s, const char *text, size_t n, infer_piece_fn fn, void *user, infer_error *err);

/* What a pattern matches, and what is between: the whole text, in order. Matches may be empty. */
typedef struct infer_span {
    uint32_t start, end;
    bool match;
} infer_span;
typedef struct infer_spans {
    infer_span *p;
    size_t n, cap;
    void *match; /* PCRE2's work space */
} infer_spans;
/* The spans of well-formed text[0..n) by the pattern of a step. */
infer_status infer_splitter_spans(const infer_splitter *s, uint32_t step, const char *text, size_t n, infer_spans *out, infer_error *err);
void infer_spans_free(const infer_allocator *a, infer_spans *spans);

/* ---- normalize.c ---- */

/* Whether infer_normalize would change no text. */
bool infer_normalize_is_identity(const infer_vocab_view *v);
/* text[0..n), n >= 1, in the form that the vocabulary's flags ask for, into out->p[0..out->n); `first`: nothing stands before the text.
 * `space` is work space of the caller's, as `out`. MEMORY; ARGUMENT when the result would be longer than INFER_TEXT_MAX_BYTES; FORMAT for a
 * map of characters that points outside itself. */
infer_status infer_normalize(const infer_tokenizer *t, const char *text, size_t n, bool first, infer_bytes *out, infer_bytes *space,
                             infer_error *err);

/* text[0..n), well-formed, appended in the form that `flags` (INFER_VOCAB_NFC and so on, and INFER_FORM_NFKD) ask for. `room` is work
 * space. */
#define INFER_FORM_NFKD (1u << 31)
infer_status infer_add_form(const infer_allocator *a, uint32_t flags, const char *text, size_t n, infer_bytes *out, infer_bytes *room,
                            infer_error *err);
/* SentencePiece's map of characters: the longest text that begins at each place; and as Hugging Face applies it. */
infer_status infer_map_characters(const infer_tokenizer *t, const char *text, size_t n, infer_bytes *out, infer_error *err);
infer_status infer_map_graphemes(const infer_tokenizer *t, const char *text, size_t n, infer_bytes *out, infer_error *err);

/* ---- names.c ---- */

bool infer_names_init(infer_names *names, const infer_allocator *a, size_t count, uint32_t ids);
/* Of equal names the first stays; those that are too long are never found. */
void infer_names_add(infer_names *names, const char *name, size_t bytes, uint32_t id);
/* A name in a text, with the white space that goes with it. */
typedef struct infer_found {
    size_t start, end;
    uint32_t id;
} infer_found;
/* The next name in text[0..n) at or behind *at, which moves behind it; `from`: where white space that is still free begins. Without
 * INFER_TOKENIZE_SPECIAL among the flags, user-defined tokens only. False: no more. */
bool infer_names_next(const infer_tokenizer *t, const infer_names *names, const char *text, size_t n, size_t from, unsigned flags,
                      size_t *at, infer_found *out);

/* ---- one encoding (tokenizer.c) ---- */

/* A row of bytes text[start..start + bytes) of the piece; id INFER_NO_SYMBOL: a character that is no token. */
typedef struct infer_symbol {
    uint32_t id, start, bytes;
} infer_symbol;

typedef struct infer_merge_entry {
    uint64_t order; /* rank, then position */
    uint32_t left_bytes, right_bytes, merged;
} infer_merge_entry;

typedef struct infer_best {
    double score;  /* of the best path from the beginning to here */
    uint32_t from; /* where its last token begins */
    uint32_t id;
} infer_best;

/* The tokens of a short piece: a cache line. */
typedef struct infer_cached {
    uint32_t hash;
    uint8_t bytes, count; /* bytes == 0: free */
    char text[26];
    int32_t ids[8];
} infer_cached;

/* Bytes of a text under steps; id INFER_NO_SYMBOL: text, else a token. */
typedef struct infer_piece {
    uint32_t start, end, id;
} infer_piece;
typedef struct infer_pieces {
    infer_piece *p;
    size_t n, cap;
} infer_pieces;

typedef struct infer_encoder {
    const infer_tokenizer *t;
    infer_error *err;
    int32_t *ids;
    size_t cap, count;
    bool unknown; /* the last token is the unknown one: a run of unknown characters becomes one token */
    /* Work space, reused from piece to piece. */
    unsigned flags; /* INFER_TOKENIZE_* */
    infer_bytes normal, space;
    infer_bytes work[2]; /* steps: the text before and after one, and its pieces */
    infer_pieces pieces[2];
    infer_spans spans;
    size_t most; /* bytes that the text may grow to */
    bool begins; /* the first piece begins where the whole text does */
    infer_symbol *symbols;
    size_t cap_symbols;
    uint32_t *links; /* [2][cap_links]: position before, position after */
    size_t cap_links;
    infer_merge_entry *heap;
    size_t cap_heap;
    infer_best *best;
    size_t cap_best;
    infer_cached *cache; /* NULL: the text is too short to need one */
    uint32_t cache_mask;
} infer_encoder;

static inline void infer_encoder_put(infer_encoder *e, uint32_t id)
{
    if (e->count < e->cap)
        e->ids[e->count] = (int32_t)id;
    e->count++;
    e->unknown = false;
}

/* The tokens of bytes for which the vocabulary has none: byte tokens, or the unknown one, or nothing. */
void infer_encoder_put_unknown(infer_encoder *e, const char *text, size_t n);

/* Encoders of a piece, n >= 1. ---- merge.c, unigram.c, wordpiece.c ---- */
infer_status infer_merge_piece(infer_encoder *e, const char *text, size_t n);
infer_status infer_unigram_piece(infer_encoder *e, const char *text, size_t n);
infer_status infer_wordpiece_text(infer_encoder *e, const char *text, size_t n); /* a whole text */
infer_status infer_wordpiece_word(infer_encoder *e, const char *text, size_t n);

/* ---- steps.c ---- */

/* text[0..n), n >= 1, through the vocabulary's steps; `first`: it begins the whole text. The result is in e->work[0], its pieces in
 * e->pieces[0]. `until_names`: no further than INFER_STEP_NAMES. Statuses as infer_normalize, UNSUPPORTED as infer_split. */
infer_status infer_steps_run(infer_encoder *e, const char *text, size_t n, bool first, bool until_names);
void infer_steps_free(infer_encoder *e);

#endif
