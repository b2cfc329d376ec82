/* Vocabularies for the text suites: from real files by readers made for the tests, or from a few strings. */
#ifndef INFER_TESTS_VOCABS_H
#define INFER_TESTS_VOCABS_H

#include "check.h"
#include "text/text.h"

/* All give a section (free with infer_free(NULL, ...)) and end the test when the file is not what is expected. NULL path: NULL. */
void *vocab_llama2c(const char *path, size_t *bytes); /* tokenizer.bin */
void *vocab_gguf(const char *path, size_t *bytes);    /* SPM or, with merges, byte-level BPE */
void *vocab_json(const char *path, size_t *bytes);    /* tokenizer.json: BPE with metaspace */

typedef struct vocab_token {
    const char *text;
    float score;
    uint8_t type;
} vocab_token;

typedef struct vocab_words {
    uint32_t kind, flags, pretokenizer, unk, bos;
    const vocab_token *tokens; /* the last has no text */
    const uint32_t (*merges)[2];
    uint32_t merge_count;
    uint32_t eos;         /* with INFER_VOCAB_ADD_EOS; else not looked at */
    const char *patterns; /* with INFER_PRETOKENIZER_PATTERNS */
    uint32_t pattern_count;
    const uint8_t *charsmap; /* with INFER_VOCAB_CHARSMAP */
    uint32_t charsmap_bytes;
    const uint8_t *steps; /* with INFER_PRETOKENIZER_STEPS */
    uint32_t step_bytes;
} vocab_words;
void *vocab_from(const vocab_words *w, size_t *bytes);

/* Opens a section and ends the test when that fails. The section must stay. */
infer_tokenizer *vocab_open(const infer_allocator *a, const void *section, size_t bytes);

#endif
