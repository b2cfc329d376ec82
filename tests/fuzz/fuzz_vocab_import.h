/* A vocabulary in a file of some kind: what is imported opens, encodes a text and decodes it again, or says what is wrong. */
#ifndef INFER_TESTS_FUZZ_VOCAB_IMPORT_H
#define INFER_TESTS_FUZZ_VOCAB_IMPORT_H

#include "fuzz.h"

#include "import/import.h"
#include "text/text.h"

static inline void fuzz_vocab_import(const uint8_t *data, size_t size, const char *suffix)
{
    static const char text[] = " Hello,  w\xc3\xb6rld 123\n\n\xe6\x97\xa5\xff<s>";
    infer_error err;
    infer_tokenizer *t;
    infer_decoder *d;
    int32_t ids[200];
    size_t bytes, count = 0;
    void *section;

    if (infer_vocab_import(NULL, fuzz_file(data, size, suffix), &section, &bytes, &err) != INFER_OK)
        return;
    if (infer_tokenizer_open(NULL, section, bytes, "fuzz", &t, &err) == INFER_OK) {
        if (infer_tokenizer_encode(t, text, sizeof text - 1, INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL, ids, 200, &count, &err) ==
                INFER_OK &&
            infer_decoder_open(NULL, t, &d, &err) == INFER_OK) {
            for (size_t i = 0; i <= count; i++) {
                const char *piece;
                if (infer_decoder_push(d, i < count ? ids[i] : -1, &piece, &bytes) != INFER_OK)
                    abort();
            }
            infer_decoder_destroy(d);
        }
        infer_tokenizer_close(t);
    }
    infer_free(NULL, section);
}

#endif
