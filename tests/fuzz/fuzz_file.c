/* The .infer reader. */
#include "seal.h"

#include "file.h"
#include "vocab.h"

static void fuzz_one(const uint8_t *data, size_t size)
{
    infer_error err;
    infer_file *f;
    infer_vocab_view view;
    const infer_tensor_info *t;
    const uint8_t *vocab;
    size_t vocab_bytes;

    if (infer_file_open(NULL, fuzz_sealed(data, size), &f, &err) != INFER_OK)
        return;
    for (size_t i = 0; (t = infer_file_tensor(f, i)); i++) {
        FUZZ_REQUIRE(infer_file_find(f, t->name) == t);
        infer_file_verify(f, t, &err);
    }
    vocab = infer_file_vocab(f, &vocab_bytes);
    if (vocab_bytes)
        infer_vocab_parse(vocab, vocab_bytes, "fuzz", &view, &err);
    infer_file_close(f);
}
