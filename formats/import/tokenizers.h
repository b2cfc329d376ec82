/* Vocabularies of other formats -> tokenizer section. */
#ifndef INFER_FORMATS_IMPORT_TOKENIZERS_H
#define INFER_FORMATS_IMPORT_TOKENIZERS_H

#include "import/import.h"

/* llama2.c's tokenizer.bin, the whole file in memory. */
infer_status infer_tokenizer_bin_import(const infer_allocator *a, const uint8_t *data, size_t bytes, const char *path, void **section,
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
