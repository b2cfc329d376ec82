/* The .infer reader. Hashes are made right first: else nothing behind them would ever be reached. */
#include "fuzz.h"

#include "bytes.h"
#include "file.h"
#include "layout.h"
#include "vocab.h"

#include <xxhash.h>

static void seal_part(uint8_t *p, size_t size, size_t offset_at, size_t bytes_at, size_t hash_at)
{
    uint64_t offset = get_u64(p + offset_at), bytes = get_u64(p + bytes_at);
    if (offset <= size && bytes <= size - offset)
        put_u64(p + hash_at, XXH3_64bits(p + offset, bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    infer_error err;
    infer_file *f;
    infer_vocab_view view;
    const infer_tensor_info *t;
    const uint8_t *vocab;
    size_t vocab_bytes;
    uint8_t *copy = malloc(size + 1);

    memcpy(copy, data, size);
    if (size >= HEADER_BYTES) {
        put_u64(copy + HEADER_FILE_BYTES, size);
        seal_part(copy, size, HEADER_META_OFFSET, HEADER_META_BYTES, HEADER_META_HASH);
        seal_part(copy, size, HEADER_VOCAB_OFFSET, HEADER_VOCAB_BYTES, HEADER_VOCAB_HASH);
        seal_part(copy, size, HEADER_DIR_OFFSET, HEADER_DIR_BYTES, HEADER_DIR_HASH);
        put_u64(copy + HEADER_HASH, XXH3_64bits(copy, HEADER_HASH));
    }
    if (infer_file_open(NULL, fuzz_file(copy, size, ".infer"), &f, &err) == INFER_OK) {
        for (size_t i = 0; (t = infer_file_tensor(f, i)); i++) {
            if (infer_file_find(f, t->name) != t)
                abort();
            infer_file_verify(f, t, &err);
        }
        vocab = infer_file_vocab(f, &vocab_bytes);
        if (vocab_bytes)
            infer_vocab_parse(vocab, vocab_bytes, "fuzz", &view, &err);
        infer_file_close(f);
    }
    free(copy);
    return 0;
}
