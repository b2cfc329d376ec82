/* A tokenizer section of one kind (FUZZ_KIND), and a text. Input: uint32 bytes of the section, the section, the text. Whatever both hold,
 * opening gives a tokenizer or an error, encoding the ids that it counts, and decoding these well-formed UTF-8.
 *
 * The section's counts and text size are set to what the bytes at hand can hold, so that the fuzzer need not guess sums; sections with
 * patterns or a map of characters stay as they are. */
#include "fuzz.h"

#include "text/text.h"
#include "text/utf8.h"

static void decode(const infer_tokenizer *t, const int32_t *ids, size_t n)
{
    infer_decoder *d;
    if (infer_decoder_open(NULL, t, &d, NULL))
        return;
    for (size_t i = 0; i <= n; i++) {
        const char *text;
        size_t bytes;
        FUZZ_REQUIRE(infer_decoder_push(d, i < n ? ids[i] : -1, &text, &bytes) == INFER_OK);
        FUZZ_REQUIRE(text[bytes] == 0);
        for (size_t at = 0; at < bytes;) {
            infer_utf8 what;
            at += infer_utf8_next((const uint8_t *)text + at, bytes - at, &what);
            FUZZ_REQUIRE(what == INFER_UTF8_WHOLE);
        }
    }
    infer_decoder_destroy(d);
}

static void encode(const infer_tokenizer *t, const char *text, size_t bytes, unsigned flags)
{
    size_t count = 0, again = 0;
    int32_t *ids;
    infer_status status = infer_tokenizer_encode(t, text, bytes, flags, NULL, 0, &count, NULL);
    if (status && count == 0) /* no token for some byte */
        return;
    ids = malloc((count + 1) * sizeof *ids);
    FUZZ_REQUIRE(ids);
    FUZZ_REQUIRE(infer_tokenizer_encode(t, text, bytes, flags, ids, count, &again, NULL) == INFER_OK && again == count);
    for (size_t i = 0; i < count; i++)
        FUZZ_REQUIRE(ids[i] >= 0 && (uint32_t)ids[i] < infer_tokenizer_vocab(t)->tokens);
    decode(t, ids, count);
    free(ids);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
    uint32_t section_bytes, head[9];
    uint8_t *section;
    infer_tokenizer *t;
    if (size < 4)
        return;
    memcpy(&section_bytes, data, 4);
    data += 4;
    size -= 4;
    section_bytes %= (uint32_t)size + 1;
    section = aligned_alloc(64, infer_round_up((size_t)section_bytes + 1, 64));
    FUZZ_REQUIRE(section);
    memcpy(section, data, section_bytes);
    if (section_bytes >= sizeof head) {
        memcpy(head, section, sizeof head);
        head[0] = FUZZ_KIND;
        memcpy(section, head, sizeof head[0]);
    }
    if (section_bytes >= sizeof head && head[2] != INFER_PRETOKENIZER_PATTERNS && head[2] != INFER_PRETOKENIZER_STEPS &&
        !(head[1] & INFER_VOCAB_CHARSMAP)) {
        uint64_t fixed;
        head[6] %= section_bytes / 9 + 1;
        head[7] %= section_bytes / 8 + 1;
        fixed = sizeof head + 8 * (uint64_t)head[6] + infer_round_up(head[6], 4) + 8 * (uint64_t)head[7];
        head[8] = fixed <= section_bytes ? section_bytes - (uint32_t)fixed : 0;
        memcpy(section, head, sizeof head);
    }
    if (infer_tokenizer_open(NULL, section, section_bytes, "fuzz", &t, NULL) == INFER_OK) {
        const char *text = (const char *)data + section_bytes;
        for (unsigned flags = 0; flags < 4; flags++)
            encode(t, text, size - section_bytes, flags);
        infer_tokenizer_close(t);
    }
    free(section);
}
