/* Vocabularies of other formats -> tokenizer section. */
#ifndef INFER_FORMATS_IMPORT_TOKENIZERS_H
#define INFER_FORMATS_IMPORT_TOKENIZERS_H

#include "import/import.h"
#include "strmap.h"
#include "vocab.h"

/* A vocabulary in the making. Texts are borrowed. */
typedef struct infer_vocab_draft {
    const infer_allocator *allocator;
    infer_vocab_parts out; /* name, kind, flags, ids, patterns, charsmap: set by the importer; arrays: by finish */
    const char **text;     /* [out.tokens] */
    uint32_t *text_bytes;
    float *scores;         /* zeros */
    uint8_t *types;        /* all normal */
    uint32_t (*merges)[2]; /* [out.merges] */
    infer_strmap ids;      /* of texts, the lowest id first; filled by the first call of infer_draft_id or infer_draft_merge */
} infer_vocab_draft;

/* No special ids, `tokens` tokens (1 to INFER_VOCAB_MAX_TOKENS; FORMAT otherwise) without text. To be freed, whatever the status. */
infer_status infer_draft_start(infer_vocab_draft *d, const infer_allocator *a, const char *name, uint64_t tokens, infer_error *err);
infer_status infer_draft_reserve_merges(infer_vocab_draft *d, uint64_t merges, infer_error *err);
void infer_draft_text(infer_vocab_draft *d, uint32_t id, const char *text, size_t bytes);
/* The id of a text, or NONE. MEMORY. */
infer_status infer_draft_id(infer_vocab_draft *d, const char *text, size_t bytes, uint32_t *id, infer_error *err);
/* Appends the merge of two texts. FORMAT when one is no token. */
infer_status infer_draft_merge(infer_vocab_draft *d, const char *left, size_t left_bytes, const char *right, size_t right_bytes,
                               infer_error *err);
/* "left right": neither side holds a space but, perhaps, as its first byte. */
infer_status infer_draft_merge_line(infer_vocab_draft *d, const char *line, size_t bytes, infer_error *err);
infer_status infer_draft_finish(infer_vocab_draft *d, void **section, size_t *bytes, infer_error *err);
void infer_draft_free(infer_vocab_draft *d);

/* Sets pre-tokenizer, patterns and flags that go with a name in GGUF's "tokenizer.ggml.pre". False: unknown. */
bool infer_pretokenizer_by_name(const char *name, size_t bytes, infer_vocab_parts *out);

/* llama2.c's tokenizer.bin, the whole file in memory. */
infer_status infer_tokenizer_bin_import(const infer_allocator *a, const uint8_t *data, size_t bytes, const char *path, void **section,
                                        size_t *section_bytes, infer_error *err);

/* Hugging Face's tokenizer.json; and GPT-2's vocab.json (token -> id) with the list of merges, of which `merges` is the path. The whole
 * file in memory. UNSUPPORTED names a part that is not known here. */
infer_status infer_tokenizer_json_import(const infer_allocator *a, const char *json, size_t bytes, const char *path, void **section,
                                         size_t *section_bytes, infer_error *err);
infer_status infer_vocab_json_import(const infer_allocator *a, const char *json, size_t bytes, const char *path, const char *merges,
                                     void **section, size_t *section_bytes, infer_error *err);

/* SentencePiece's .model (sentencepiece_model.proto), the whole file in memory. */
infer_status infer_sentencepiece_import(const infer_allocator *a, const uint8_t *data, size_t bytes, const char *path, void **section,
                                        size_t *section_bytes, infer_error *err);

/* The vocabulary in the metadata of a GGUF file. */
struct infer_gguf;
infer_status infer_gguf_vocab_import(const infer_allocator *a, const struct infer_gguf *g, void **section, size_t *section_bytes,
                                     infer_error *err);

/* Recovers the merge list of a vocabulary whose ids are in the order in which training made them: a token's merge is the pair that is left
 * of its text when all lower ids have been applied. *merges [*count][2] is allocated with `a`; it may be NULL when there are none. */
infer_status infer_vocab_recover_merges(const infer_allocator *a, const char *const *text, const uint32_t *text_bytes, const uint8_t *types,
                                        uint32_t tokens, uint32_t (**merges)[2], uint32_t *count, infer_error *err);

#endif
