/* The importers of vocabularies: what is imported opens, encodes a text and decodes it again, or says what is wrong. */
#include "fuzz.h"

#include "import/import.h"
#include "text/text.h"

static void import(const char *path)
{
    static const char text[] = " Hello,  w\xc3\xb6rld 123\n\n\xe6\x97\xa5\xff<s>";
    infer_error err;
    infer_tokenizer *t;
    infer_decoder *d;
    int32_t ids[200];
    size_t bytes, count = 0;
    void *section;

    if (infer_vocab_import(NULL, path, &section, &bytes, &err) != INFER_OK)
        return;
    if (infer_tokenizer_open(NULL, section, bytes, "fuzz", &t, &err) == INFER_OK) {
        if (infer_tokenizer_encode(t, text, sizeof text - 1, INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL, ids, 200, &count, &err) ==
                INFER_OK &&
            infer_decoder_open(NULL, t, &d, &err) == INFER_OK) {
            for (size_t i = 0; i <= count; i++) {
                const char *piece;
                FUZZ_REQUIRE(infer_decoder_push(d, i < count ? ids[i] : -1, &piece, &bytes) == INFER_OK);
            }
            infer_decoder_destroy(d);
        }
        infer_tokenizer_close(t);
    }
    infer_free(NULL, section);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
    size_t bytes;
    const uint8_t *part;
    uint8_t *copy;

    if (strcmp(FUZZ_NAME, "vocab_json") == 0) { /* with its list of merges */
        part = fuzz_part(&data, &size, &bytes);
        fuzz_file("merges.txt", part, bytes);
        import(fuzz_file("vocab.json", data, size));
    } else if (strcmp(FUZZ_NAME, "tokenizer_json") == 0) {
        import(fuzz_file("tokenizer.json", data, size));
    } else { /* SentencePiece's .model, or llama2.c's tokenizer.bin: two of its first bytes tell which */
        bool model = strcmp(FUZZ_NAME, "sentencepiece") == 0;
        copy = malloc(size + 1);
        FUZZ_REQUIRE(copy);
        memcpy(copy, data, size);
        if (size > 2)
            copy[0] = copy[2] = model ? 0x0a : 0;
        import(fuzz_file(model ? "tokenizer.model" : "tokenizer.bin", copy, size));
        free(copy);
    }
}
