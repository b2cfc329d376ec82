#include "vocabs.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Bytes and control tokens; ids from here on. */
enum { BOS, HELLO, SPACE_A, EMOJI_HEAD, EMOJI_TAIL, E2, B82, BAC, FF, UNK, EOS, NUL, TWO_SPACES };
static const vocab_token tokens[] = {{"<s>", 0, INFER_TOKEN_CONTROL},
                                     {"\xe2\x96\x81Hello", 0, 0},
                                     {"\xe2\x96\x81"
                                      "a",
                                      0, 0},
                                     {"x\xf0\x9f", 0, 0},
                                     {"\x98\x80y", 0, 0},
                                     {"<0xE2>", 0, INFER_TOKEN_BYTE},
                                     {"<0x82>", 0, INFER_TOKEN_BYTE},
                                     {"<0xAC>", 0, INFER_TOKEN_BYTE},
                                     {"<0xFF>", 0, INFER_TOKEN_BYTE},
                                     {"<unk>", 0, INFER_TOKEN_UNKNOWN},
                                     {"</s>", 0, INFER_TOKEN_CONTROL},
                                     {"<0x00>", 0, INFER_TOKEN_BYTE},
                                     {"\xe2\x96\x81\xe2\x96\x81", 0, 0},
                                     {NULL, 0, 0}};
#define REPLACEMENT "\xef\xbf\xbd"

static void *section;
static infer_tokenizer *tokenizer;
static infer_decoder *decoder;

static void open_with(uint32_t flags, uint32_t bos)
{
    size_t bytes;
    section = vocab_from(
        &(vocab_words){.kind = INFER_VOCAB_SPM, .flags = flags | INFER_VOCAB_META_SPACE, .unk = UNK, .bos = bos, .tokens = tokens}, &bytes);
    tokenizer = vocab_open(NULL, section, bytes);
    cr_assert_eq(infer_decoder_open(NULL, tokenizer, &decoder, NULL), INFER_OK);
}

static void setup(void)
{
    open_with(INFER_VOCAB_SPACE_PREFIX, BOS);
}

static void teardown(void)
{
    infer_decoder_destroy(decoder);
    infer_tokenizer_close(tokenizer);
    infer_free(NULL, section);
}

static void push(int32_t id, const char *want, size_t want_bytes)
{
    const char *text = NULL;
    size_t bytes = 99;
    cr_assert_eq(infer_decoder_push(decoder, id, &text, &bytes), INFER_OK);
    cr_assert(bytes == want_bytes && memcmp(text, want, bytes) == 0, "token %d gave \"%.*s\", expected \"%s\"", id, (int)bytes, text, want);
    cr_assert_eq(text[bytes], 0);
}
#define PUSH(id, want) push(id, want, sizeof(want) - 1)

TestSuite(decoder, .init = setup, .fini = teardown);

Test(decoder, characters_come_whole)
{
    PUSH(EMOJI_HEAD, "x");
    PUSH(EMOJI_TAIL, "\xf0\x9f\x98\x80y");
    PUSH(E2, "");
    PUSH(B82, "");
    PUSH(BAC, "\xe2\x82\xac");
    PUSH(NUL, "\0");
    PUSH(-1, "");
}

Test(decoder, space_after_begin_is_dropped)
{
    PUSH(SPACE_A, " a"); /* a continuation: its space counts */
    PUSH(BOS, "");
    PUSH(HELLO, "Hello");
    PUSH(SPACE_A, " a");
    PUSH(EOS, "");
    PUSH(SPACE_A, " a");
    PUSH(BOS, "");
    PUSH(TWO_SPACES, " "); /* one space only */
    PUSH(BOS, "");
    PUSH(BAC, REPLACEMENT);
    PUSH(SPACE_A, " a");
}

Test(decoder, malformed_sequences_show)
{
    PUSH(FF, REPLACEMENT);
    PUSH(BAC, REPLACEMENT);
    PUSH(E2, "");
    PUSH(B82, "");
    PUSH(HELLO, REPLACEMENT " Hello"); /* the piece that began like a character is one */
    PUSH(E2, "");
    PUSH(FF, REPLACEMENT REPLACEMENT);
    PUSH(UNK, REPLACEMENT);
}

Test(decoder, flush_ends_what_is_held)
{
    PUSH(EMOJI_HEAD, "x");
    PUSH(-1, REPLACEMENT);
    PUSH(-1, "");
    PUSH(EMOJI_HEAD, "x");
    PUSH(-2147483647 - 1, REPLACEMENT);
}

Test(decoder, ids_beyond_the_vocabulary)
{
    const char *text = "kept";
    size_t bytes = 4;
    cr_assert_eq(infer_decoder_push(decoder, TWO_SPACES + 1, &text, &bytes), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_decoder_push(decoder, INT32_MAX, &text, &bytes), INFER_ERROR_ARGUMENT);
    cr_assert(bytes == 4 && strcmp(text, "kept") == 0);
    PUSH(HELLO, " Hello");
}

Test(decoder, no_space_rule_without_a_space_prefix)
{
    teardown();
    open_with(0, BOS);
    PUSH(BOS, "");
    PUSH(HELLO, " Hello");
}

Test(decoder, without_a_begin_token_the_first_space_is_dropped)
{
    teardown();
    open_with(INFER_VOCAB_SPACE_PREFIX, INFER_VOCAB_NO_ID);
    PUSH(BOS, "");
    PUSH(HELLO, "Hello");
    PUSH(HELLO, " Hello");
}

Test(decoder, memory_may_fail)
{
    check_allocator a;
    infer_decoder *d = NULL;
    infer_error err = {0};
    check_allocator_init(&a, 1);
    cr_assert_eq(infer_decoder_open(&a.allocator, tokenizer, &d, &err), INFER_ERROR_MEMORY);
    cr_assert_null(d);
    cr_assert_eq(err.status, INFER_ERROR_MEMORY);
    check_allocator_init(&a, 0);
    cr_assert_eq(infer_decoder_open(&a.allocator, tokenizer, &d, &err), INFER_OK);
    infer_decoder_destroy(d);
    infer_decoder_destroy(NULL);
    cr_assert_eq(a.live, 0);
}

/* Encodes, decodes token by token, and compares; every answer must be whole characters. */
static void comes_back(const char *vocabulary, void *(*reader)(const char *, size_t *), const char *file)
{
    const char *path = check_data(vocabulary), *text_path = check_data(file);
    size_t bytes, text_bytes, count, at = 0;
    char *text;
    void *data;
    int32_t *ids;
    infer_tokenizer *t;
    infer_decoder *d = NULL;
    if (!path || !text_path)
        cr_skip_test("%s or %s is absent", vocabulary, file);
    data = reader(path, &bytes);
    text = check_read(text_path, &text_bytes);
    cr_assert(data && text);
    t = vocab_open(NULL, data, bytes);
    ids = malloc((text_bytes + 8) * sizeof *ids);
    cr_assert(ids);
    cr_assert_eq(infer_tokenizer_encode(t, text, text_bytes, INFER_TOKENIZE_BOS, ids, text_bytes + 8, &count, NULL), INFER_OK);
    cr_assert_eq(infer_decoder_open(NULL, t, &d, NULL), INFER_OK);
    for (size_t i = 0; i <= count; i++) {
        const char *out;
        size_t n;
        cr_assert_eq(infer_decoder_push(d, i < count ? ids[i] : -1, &out, &n), INFER_OK);
        cr_assert(at + n <= text_bytes && memcmp(text + at, out, n) == 0, "the text differs at byte %zu", at);
        cr_assert(n == 0 || ((unsigned char)out[0] & 0xc0) != 0x80);
        at += n;
    }
    cr_assert_eq(at, text_bytes);
    infer_decoder_destroy(d);
    infer_tokenizer_close(t);
    infer_free(NULL, data);
    free(ids);
    free(text);
}

Test(decoder, stories_come_back_spm)
{
    comes_back("models/stories260K/tok512.bin", vocab_llama2c, "text/tinystories-valid.txt");
}
Test(decoder, wiki_comes_back_spm)
{
    comes_back("tokenizers/ggml-vocab-llama-spm.gguf", vocab_gguf, "text/wiki.test.raw");
}
Test(decoder, wiki_comes_back_byte_level)
{
    comes_back("tokenizers/ggml-vocab-gpt-2.gguf", vocab_gguf, "text/wiki.test.raw");
}
Test(decoder, story_comes_back_bpe)
{
    comes_back("models/tinystories-656K/tokenizer.json", vocab_json, "reference/stories260K.f32.empty.n257.txt");
}
