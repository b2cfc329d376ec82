/* What a tokenizer looks up, shared by the files of this folder.
 *
 * Both kinds of tokenizer do the same work on different tables. The text becomes a row of symbols, one per character (byte-level: per
 * byte); then the adjacent pair of lowest rank, the leftmost on ties, becomes one symbol, until no pair has a rank. SentencePiece ranks
 * a pair by the score of the token that it makes (spm.c), merge-based BPE by its place in the list of merges (bpe.c). Symbols below the
 * number of tokens are token ids. Those above are characters that occur inside tokens without being one. */
#ifndef INFER_TEXT_TABLES_H
#define INFER_TEXT_TABLES_H

#include "strmap.h"
#include "text/text.h"

#include <string.h>

#define INFER_NO_SYMBOL 0xffffffffu
#define INFER_RANK_LAST 0xfffffffeu      /* the worst rank that a pair may have */
#define INFER_TOKEN_MAX_BYTES 1024u      /* of a token that takes part in merging */
#define INFER_SPECIAL_MAX_BYTES 255u     /* of a special token's name that is looked for in texts */
#define INFER_TEXT_MAX_BYTES 0x40000000u /* of one text to encode */

typedef struct infer_pair {
    uint32_t left, right; /* left == INFER_NO_SYMBOL: a free slot */
    uint32_t rank, merged;
} infer_pair;

typedef struct infer_pair_table {
    infer_pair *slots;
    uint64_t mask;
    size_t used;
    unsigned shift;
    /* joints[a][b]: some pair has a left part that ends in byte a and a right part that begins with byte b. Where the text has no such
     * joint, no merge can cross, so that it may be cut there: each part is merged alone, with the same result. */
    uint32_t joints[256][8];
} infer_pair_table;

/* Characters -> symbols. Single bytes directly, longer characters by open addressing on their bytes. */
typedef struct infer_char {
    uint32_t bytes; /* as infer_char_pack; 0: a free slot */
    uint32_t symbol;
} infer_char;

typedef struct infer_char_table {
    uint32_t single[256];
    infer_char *slots;
    uint32_t mask;
    size_t used;
} infer_char_table;

struct infer_tokenizer {
    infer_allocator own; /* a copy: allocator points at it, or is NULL */
    const infer_allocator *allocator;
    const char *name;
    infer_vocab_view vocab;
    char *text;       /* what each token stands for, one after the other: spaces are spaces, byte tokens bytes, control tokens nothing */
    uint32_t *ends;   /* [tokens] where they end */
    uint32_t longest; /* bytes of the longest of them */
    uint32_t symbols; /* tokens, and characters that are none */
    uint32_t byte_token[256];
    infer_char_table chars;
    infer_pair_table pairs;
    infer_strmap texts;                                  /* texts of the tokens that merging may make -> id; only while opening */
    infer_strmap specials;                               /* names of special tokens -> id */
    uint8_t special_first[256];                          /* 1 for each byte that a special token's name begins with */
    uint8_t special_length[INFER_SPECIAL_MAX_BYTES + 1]; /* 1 for each length that one has */
};

static inline const char *infer_token_surface(const infer_tokenizer *t, uint32_t id, uint32_t *bytes)
{
    uint32_t start = id ? t->ends[id - 1] : 0;
    *bytes = t->ends[id] - start;
    return t->text + start;
}

/* Whether merging may make this token. */
static inline bool infer_token_merges(const infer_tokenizer *t, uint32_t id)
{
    return (t->vocab.types[id] == INFER_TOKEN_NORMAL || t->vocab.types[id] == INFER_TOKEN_USER) && t->ends[id] > (id ? t->ends[id - 1] : 0);
}

/* The 1..4 bytes of a character as a number. Only U+0000 gives 0, so that the number of bytes can be told from it. */
static inline uint32_t infer_char_pack(const char *p, unsigned n)
{
    uint32_t v = 0;
    memcpy(&v, p, n);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

/* ---- tables.c ---- */

bool infer_pairs_init(infer_pair_table *p, const infer_allocator *a, size_t expected);
void infer_pairs_free(infer_pair_table *p, const infer_allocator *a);
/* Adds a pair, or leaves the one that is there already; its parts meet at bytes `end` and `begin`. False: no memory. */
bool infer_pairs_add(infer_pair_table *p, const infer_allocator *a, infer_pair pair, uint8_t end, uint8_t begin);

static inline uint64_t infer_pair_hash(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
}

/* NULL when the pair never merges. */
static inline const infer_pair *infer_pairs_find(const infer_pair_table *p, uint32_t left, uint32_t right)
{
    for (uint64_t i = infer_pair_hash(left, right) >> p->shift;; i = (i + 1) & p->mask) {
        const infer_pair *s = &p->slots[i];
        if (s->left == INFER_NO_SYMBOL) /* first: `left` may be INFER_NO_SYMBOL itself */
            return NULL;
        if (s->left == left && s->right == right)
            return s;
    }
}

static inline bool infer_pairs_join(const infer_pair_table *p, uint8_t end, uint8_t begin)
{
    return p->joints[end][begin >> 5] >> (begin & 31) & 1;
}

bool infer_chars_init(infer_char_table *c, const infer_allocator *a);
void infer_chars_free(infer_char_table *c, const infer_allocator *a);
/* Adds a character, or leaves the one that is there already. False: no memory. */
bool infer_chars_add(infer_char_table *c, const infer_allocator *a, const char *p, unsigned n, uint32_t symbol);

static inline uint32_t infer_char_hash(uint32_t bytes)
{
    return (bytes ^ bytes >> 15) * 0x9e3779b1u >> 7;
}

/* INFER_NO_SYMBOL when it is in no token. `bytes` is packed. */
static inline uint32_t infer_chars_find(const infer_char_table *c, uint32_t bytes)
{
    if (bytes < 256)
        return c->single[bytes];
    for (uint32_t i = infer_char_hash(bytes) & c->mask; c->slots[i].bytes; i = (i + 1) & c->mask)
        if (c->slots[i].bytes == bytes)
            return c->slots[i].symbol;
    return INFER_NO_SYMBOL;
}

/* ---- spm.c, bpe.c: fill pairs (and, spm.c, further characters) from the vocabulary ---- */

infer_status infer_spm_build(infer_tokenizer *t, infer_error *err);
infer_status infer_bpe_build(infer_tokenizer *t, infer_error *err);
/* Bytes of a token's text in GPT-2's byte alphabet, written to `out` (at most n); what is not in the alphabet stays as it is. */
uint32_t infer_byte_alphabet_decode(const char *text, uint32_t n, char *out);

/* ---- split.c ---- */

/* Bytes (>= 1) of the first piece of text[0..n), n >= 1, as GPT-2 cuts text before merging. */
size_t infer_split_gpt2(const char *text, size_t n);

/* ---- merge.c ---- */

typedef struct infer_symbol {
    uint32_t id;   /* INFER_NO_SYMBOL: a character that is in no token */
    uint32_t leaf; /* the character's bytes, packed; of no meaning once merged */
} infer_symbol;

typedef struct infer_merge_entry {
    uint64_t order; /* rank, then position */
    uint32_t left, right;
} infer_merge_entry;

/* Work space of one encoding, reused from part to part of the text. */
typedef struct infer_merge_space {
    const infer_allocator *allocator;
    uint32_t *links; /* [2][cap_links]: position before, position after */
    infer_merge_entry *heap;
    size_t cap_links, cap_heap;
} infer_merge_space;

void infer_merge_free(infer_merge_space *w);
/* Merges s[0..n) in place, *n becomes the number of symbols left. O(n log n) time, O(n) memory. */
infer_status infer_merge(const infer_pair_table *p, infer_symbol *s, size_t *n, infer_merge_space *w, infer_error *err);

#endif
