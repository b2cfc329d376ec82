/* The tokenizer section, and vocabularies of other formats. */
#include "check.h"
#include "samples.h"

#include "bytes.h"
#include "import/import.h"
#include "vocab.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static const char *const text[] = {"<unk>", "<s>", "", "<0x0A>", "a", "\xe2\x96\x81", "a\xe2\x96\x81"};
static const uint32_t text_bytes[] = {5, 3, 0, 6, 1, 3, 4};
static const uint32_t merges[][2] = {{4, 5}, {5, 4}};
static const float scores[] = {0, 0, 0, 0, -1, -2, 3.5f};
static const uint8_t types[] = {2, 3, 3, 6, 1, 1, 4};
static const infer_vocab_parts parts = {.name = "here",
                                        .kind = INFER_VOCAB_BPE,
                                        .flags = INFER_VOCAB_META_SPACE | INFER_VOCAB_SPACE_PREFIX,
                                        .pretokenizer = INFER_PRETOKENIZER_GPT2,
                                        .unk = 0,
                                        .bos = 1,
                                        .eos = INFER_VOCAB_NO_ID,
                                        .tokens = 7,
                                        .merges = 2,
                                        .text = text,
                                        .text_bytes = text_bytes,
                                        .scores = scores,
                                        .types = types,
                                        .merge = merges};

static uint8_t *build(size_t *bytes)
{
    infer_error err = {0};
    void *section;
    cr_assert_eq(infer_vocab_build(NULL, &parts, &section, bytes, &err), INFER_OK, "%s", err.message);
    return section;
}

Test(vocab, reads_back)
{
    size_t bytes;
    uint8_t *section = build(&bytes);
    infer_error err = {0};
    infer_vocab_view v;

    cr_assert_eq(infer_vocab_parse(section, bytes, "x", &v, &err), INFER_OK, "%s", err.message);
    cr_assert(v.kind == parts.kind && v.flags == parts.flags && v.pretokenizer == parts.pretokenizer && v.tokens == 7 && v.merges == 2);
    cr_assert(v.unk == 0 && v.bos == 1 && v.eos == INFER_VOCAB_NO_ID && v.text_bytes == 22);
    for (uint32_t i = 0, start = 0; i < 7; start = v.ends[i++]) {
        cr_assert_eq(v.ends[i] - start, text_bytes[i]);
        cr_assert_eq(memcmp(v.text + start, text[i], text_bytes[i]), 0);
        cr_assert(v.scores[i] == scores[i] && v.types[i] == types[i]);
    }
    cr_assert_eq(memcmp(v.merge, merges, sizeof merges), 0);
    infer_free(NULL, section);
}

/* Each copy ends where the section does, for the address sanitizer. */
static void expect_refused_when_cut(const uint8_t *section, size_t from, size_t bytes)
{
    infer_vocab_view v;
    for (size_t n = from; n < bytes; n++) {
        uint8_t *cut = aligned_alloc(4, infer_round_up(n + 1, 4));
        memcpy(cut, section, n);
        expect_that(infer_vocab_parse(cut, n, "x", &v, NULL) != INFER_OK, "cut to %zu bytes", n);
        free(cut);
    }
}

Test(vocab, truncated_at_every_byte)
{
    size_t bytes;
    uint8_t *section = build(&bytes);
    expect_refused_when_cut(section, 0, bytes);
    infer_free(NULL, section);
}

Test(vocab, every_flipped_bit_is_survived)
{
    size_t bytes;
    uint8_t *section = build(&bytes);
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        infer_vocab_view v = {0};
        section[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (infer_vocab_parse(section, bytes, "x", &v, NULL) == INFER_OK)
            for (uint32_t i = 0; i < v.tokens; i++)
                expect_that(v.ends[i] <= v.text_bytes, "bit %zu of byte %zu", bit % 8, bit / 8);
        section[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    infer_free(NULL, section);
}

Test(vocab, fields_out_of_range)
{
    const size_t types_at = 36 + 7 * 4, ends_at = types_at + 8, merges_at = ends_at + 7 * 4, text_at = merges_at + 16;
    const float not_a_number = NAN, infinite = INFINITY;
    uint32_t nan_bits, inf_bits;
    memcpy(&nan_bits, &not_a_number, 4);
    memcpy(&inf_bits, &infinite, 4);
    const struct {
        size_t at;
        int bytes;
        uint32_t value;
        infer_status status;
        const char *words;
    } changes[] = {
        {0, 4, 0, INFER_ERROR_UNSUPPORTED, "kind 0"},
        {0, 4, 6, INFER_ERROR_UNSUPPORTED, "kind 6"},
        {4, 4, 1u << 31, INFER_ERROR_UNSUPPORTED, "flags 0x80000000"},
        {4, 4, INFER_VOCAB_NFC | INFER_VOCAB_NFD, INFER_ERROR_FORMAT, "two normalization forms"},
        {4, 4, INFER_VOCAB_CHARSMAP, INFER_ERROR_FORMAT, "too few for the map of characters"},
        {8, 4, 7, INFER_ERROR_UNSUPPORTED, "pre-tokenizer 7"},
        {8, 4, INFER_PRETOKENIZER_STEPS, INFER_ERROR_FORMAT, "steps"},
        {8, 4, INFER_PRETOKENIZER_PATTERNS, INFER_ERROR_FORMAT, "too few for the patterns"},
        {12, 4, 7, INFER_ERROR_FORMAT, "unknown id: found 7"},
        {16, 4, 0xfffffffe, INFER_ERROR_FORMAT, "begin id"},
        {20, 4, 7, INFER_ERROR_FORMAT, "end id"},
        {24, 4, 0, INFER_ERROR_FORMAT, "tokens: found 0"},
        {24, 4, UINT32_MAX, INFER_ERROR_FORMAT, "tokens"},
        {24, 4, 6, INFER_ERROR_FORMAT, "expected"},
        {28, 4, UINT32_MAX, INFER_ERROR_FORMAT, "merges"},
        {28, 4, 3, INFER_ERROR_FORMAT, "expected"},
        {32, 4, UINT32_MAX, INFER_ERROR_FORMAT, "expected"},
        {36, 4, nan_bits, INFER_ERROR_FORMAT, "token 0: its score"},
        {36 + 6 * 4, 4, inf_bits, INFER_ERROR_FORMAT, "token 6: its score"},
        {types_at, 1, 0, INFER_ERROR_FORMAT, "token 0: type: found 0"},
        {types_at + 6, 1, 8, INFER_ERROR_FORMAT, "token 6: type: found 8"},
        {types_at + 5, 1, 64, INFER_ERROR_FORMAT, "token 5: type: found 64"},
        {types_at + 4, 1, 6, INFER_ERROR_FORMAT, "token 4: a byte token"},
        {types_at + 7, 1, 1, INFER_ERROR_FORMAT, "padding"},
        {ends_at, 4, 9, INFER_ERROR_FORMAT, "token 1: text ends at 8, expected 9"},
        {ends_at, 4, UINT32_MAX, INFER_ERROR_FORMAT, "token 0: text ends"},
        {ends_at + 6 * 4, 4, 21, INFER_ERROR_FORMAT, "texts end at 21, expected 22"},
        {merges_at, 4, 7, INFER_ERROR_FORMAT, "merge 0: token id: found 7"},
        {merges_at + 12, 4, UINT32_MAX, INFER_ERROR_FORMAT, "merge 1"},
        {merges_at + 4, 4, 2, INFER_ERROR_FORMAT, "merge 0: token 2 has no text"},
        {text_at + 5 + 3 + 3, 1, 'g', INFER_ERROR_FORMAT, "token 3: a byte token"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        size_t bytes;
        uint8_t *section = build(&bytes);
        infer_error err = {0};
        infer_vocab_view v;
        memcpy(section + changes[i].at, &changes[i].value, (size_t)changes[i].bytes);
        cr_assert_eq(infer_vocab_parse(section, bytes, "x.infer", &v, &err), changes[i].status, "change %zu: %s", i, err.message);
        cr_assert(strstr(err.message, changes[i].words), "\"%s\" is not in: %s", changes[i].words, err.message);
        cr_assert(strstr(err.message, "x.infer"));
        infer_free(NULL, section);
    }
}

/* Patterns and a map of characters behind the texts, whose 22 bytes leave 2 to a multiple of 4. */
static uint8_t *build_blocks(const char *patterns, uint32_t count, size_t *bytes, infer_status expected)
{
    static const uint8_t map[] = {1, 2, 3, 4, 5};
    infer_vocab_parts p = parts;
    infer_error err = {0};
    void *section = NULL;
    p.pretokenizer = INFER_PRETOKENIZER_PATTERNS;
    p.flags |= INFER_VOCAB_CHARSMAP;
    p.patterns = patterns;
    p.pattern_count = count;
    p.charsmap = map;
    p.charsmap_bytes = sizeof map;
    cr_assert_eq(infer_vocab_build(NULL, &p, &section, bytes, &err), expected, "%s", err.message);
    return section;
}

Test(vocab, blocks_read_back)
{
    size_t bytes;
    uint8_t *section = build_blocks("a+\0\\p{L}b", 2, &bytes, INFER_OK);
    infer_vocab_view v;
    cr_assert_eq(infer_vocab_parse(section, bytes, "x", &v, NULL), INFER_OK);
    cr_assert(v.pattern_count == 2 && strcmp(v.patterns, "a+") == 0 && strcmp(v.patterns + 3, "\\p{L}b") == 0);
    cr_assert(v.charsmap_bytes == 5 && memcmp(v.charsmap, "\1\2\3\4\5", 5) == 0);
    for (size_t n = 0; n < bytes; n++) {
        uint8_t *cut = aligned_alloc(4, infer_round_up(n + 1, 4));
        memcpy(cut, section, n);
        expect_that(infer_vocab_parse(cut, n, "x", &v, NULL) != INFER_OK, "cut to %zu bytes", n);
        free(cut);
    }
    infer_free(NULL, section);
}

/* A vocabulary with one step, and what becomes of it. */
static void expect_step(infer_vocab_step step, infer_status expected, const char *words)
{
    uint8_t block[256];
    infer_vocab_parts p = parts;
    infer_error err = {0};
    void *section = NULL;
    size_t bytes;
    infer_vocab_view v;
    infer_vocab_step read;
    uint32_t at = 0;
    step.text_bytes = step.text ? (uint32_t)strlen(step.text) : 0;
    step.content_bytes = step.content ? (uint32_t)strlen(step.content) : 0;
    p.pretokenizer = INFER_PRETOKENIZER_STEPS;
    p.steps = block;
    p.step_bytes = infer_vocab_put_step(&step, block);
    cr_assert_eq(infer_vocab_build(NULL, &p, &section, &bytes, &err), expected, "%u %u: %s", step.op, step.argument, err.message);
    if (expected != INFER_OK) {
        cr_assert(strstr(err.message, words), "%s", err.message);
        return;
    }
    cr_assert_eq(infer_vocab_parse(section, bytes, "x", &v, NULL), INFER_OK);
    cr_assert(infer_vocab_next_step(v.steps, v.step_bytes, &at, &read) && at == v.step_bytes);
    cr_assert(read.op == step.op && read.argument == step.argument && read.text_bytes == step.text_bytes &&
              memcmp(read.text, step.text ? step.text : "", read.text_bytes) == 0);
    cr_assert_not(infer_vocab_next_step(v.steps, v.step_bytes, &at, &read));
    expect_refused_when_cut(section, bytes - v.step_bytes - 4, bytes);
    infer_free(NULL, section);
}

Test(vocab, steps)
{
    expect_step((infer_vocab_step){.op = INFER_STEP_FORM, .argument = 4}, INFER_OK, "");
    expect_step((infer_vocab_step){.op = INFER_STEP_REPLACE, .text = "ab", .content = "c"}, INFER_OK, "");
    expect_step((infer_vocab_step){.op = INFER_STEP_SPLIT, .argument = INFER_SPLIT_NEXT + INFER_SPLIT_INVERT, .text = "a+"}, INFER_OK, "");
    expect_step((infer_vocab_step){.op = 0}, INFER_ERROR_UNSUPPORTED, "step 0");
    expect_step((infer_vocab_step){.op = INFER_STEP_BEHIND + 1}, INFER_ERROR_UNSUPPORTED, "step 17");
    expect_step((infer_vocab_step){.op = INFER_STEP_FORM, .argument = 5}, INFER_ERROR_UNSUPPORTED, "argument 5");
    expect_step((infer_vocab_step){.op = INFER_STEP_SPLIT, .argument = INFER_SPLIT_INVERT, .text = "a"}, INFER_ERROR_UNSUPPORTED,
                "argument 16");
    expect_step((infer_vocab_step){.op = INFER_STEP_SPLIT, .argument = 1, .text = "(?R)"}, INFER_ERROR_UNSUPPORTED, "(?R)");
    expect_step((infer_vocab_step){.op = INFER_STEP_SPLIT, .argument = 1}, INFER_ERROR_FORMAT, "texts of 0");
    expect_step((infer_vocab_step){.op = INFER_STEP_LOWERCASE, .text = "a"}, INFER_ERROR_FORMAT, "texts of 1");
    expect_step((infer_vocab_step){.op = INFER_STEP_PREPEND, .text = "\xff"}, INFER_ERROR_FORMAT, "no UTF-8");
    expect_step((infer_vocab_step){.op = INFER_STEP_CHARSMAP}, INFER_ERROR_FORMAT, "map of characters");
    expect_step((infer_vocab_step){.op = INFER_STEP_BEHIND, .argument = 7}, INFER_ERROR_FORMAT, "found 7");
}

Test(vocab, patterns_of_another_syntax)
{
    static const char *const bad[] = {"(?R)", "a(?C1)", "(*UTF)a", "(a)\\1", "\\Ka", "\\C", "(?<n>a)", "(?i)a", "a\\"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t bytes;
        cr_assert_null(build_blocks(bad[i], 1, &bytes, INFER_ERROR_UNSUPPORTED), "%s", bad[i]);
    }
}

Test(vocab, patterns_that_look_like_another_syntax)
{
    static const char *const good[] = {"[(*]",        "[^(?R)]",     "[](?]+",    "\\(?",    "(?:a|b)", "(?i:'s)",
                                       "\\s+(?!\\S)", "(?=\\p{L})a", "\\x{4E00}", "(?<=a)b", "(?m:^)a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        size_t bytes;
        infer_free(NULL, build_blocks(good[i], 1, &bytes, INFER_OK));
    }
}

Test(vocab, unaligned)
{
    size_t bytes;
    uint8_t *section = build(&bytes), *moved = malloc(bytes + 1);
    infer_vocab_view v;
    memcpy(moved + 1, section, bytes);
    cr_assert_eq(infer_vocab_parse(moved + 1, bytes, "x", &v, NULL), INFER_ERROR_ARGUMENT);
    free(moved);
    infer_free(NULL, section);
}

Test(vocab, build_refuses_what_parse_refuses)
{
    infer_vocab_parts bad = parts;
    infer_error err = {0};
    void *section = NULL;
    size_t bytes;
    bad.bos = 7;
    cr_assert_eq(infer_vocab_build(NULL, &bad, &section, &bytes, &err), INFER_ERROR_FORMAT);
    cr_assert(strstr(err.message, "here"), "%s", err.message);
    bad = parts;
    bad.tokens = 0;
    cr_assert_eq(infer_vocab_build(NULL, &bad, &section, &bytes, &err), INFER_ERROR_FORMAT);
    cr_assert_null(section);
}

/* ---- llama2.c's tokenizer.bin ---- */

static infer_status import(const char *path, uint8_t **section, infer_vocab_view *v, infer_error *err)
{
    void *out = NULL;
    size_t bytes;
    infer_status s = infer_vocab_import(NULL, path, &out, &bytes, err);
    if (s == INFER_OK)
        cr_assert_eq(infer_vocab_parse(out, bytes, path, v, err), INFER_OK, "%s", err->message);
    else
        cr_assert_null(out);
    *section = out;
    return s;
}

static bool token_is(const infer_vocab_view *v, uint32_t id, const char *expected)
{
    uint32_t start = id ? v->ends[id - 1] : 0;
    return v->ends[id] - start == strlen(expected) && memcmp(v->text + start, expected, strlen(expected)) == 0;
}

Test(tokenizer_bin, imports)
{
    sample s = sample_tokenizer_bin();
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    cr_assert_eq(import(sample_write("tokenizer.bin", s.data, s.size), &section, &v, &err), INFER_OK, "%s", err.message);
    cr_assert(v.kind == INFER_VOCAB_SPM && v.tokens == 7 && v.merges == 0 && v.unk == 0 && v.bos == 1 && v.eos == 2);
    cr_assert_eq(v.flags, INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_BYTE_FALLBACK | INFER_VOCAB_ADD_BOS);
    cr_assert(token_is(&v, 1, "<s>") && token_is(&v, 2, "</s>") && token_is(&v, 6, "ab") && v.scores[6] == -6);
    cr_assert(v.types[0] == INFER_TOKEN_UNKNOWN && v.types[1] == INFER_TOKEN_CONTROL && v.types[3] == INFER_TOKEN_BYTE &&
              v.types[4] == INFER_TOKEN_NORMAL);
    infer_free(NULL, section);
    sample_free(&s);
}

/* Cut between two tokens the file is a smaller vocabulary: it has no count to compare with, the checkpoint has. */
Test(tokenizer_bin, truncated_at_every_byte)
{
    sample s = sample_tokenizer_bin();
    size_t accepted = 0;
    for (size_t n = 0; n < s.size; n++) {
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        accepted += import(sample_write("cut.bin", s.data, n), &section, &v, &err) == INFER_OK;
        infer_free(NULL, section);
    }
    cr_assert_eq(accepted, 4, "3 to 6 whole tokens");
    sample_free(&s);
}

Test(tokenizer_bin, refuses_bad_lengths)
{
    static const uint32_t lengths[] = {UINT32_MAX, 0x80000000u, 1000, 65537};
    for (size_t i = 0; i < 4; i++) {
        sample s = sample_tokenizer_bin();
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        put_u32(s.data + 8, lengths[i]);
        cr_assert_eq(import(sample_write("bad.bin", s.data, s.size), &section, &v, &err), INFER_ERROR_FORMAT);
        cr_assert(strstr(err.message, "token 0 at offset 4"), "%s", err.message);
        sample_free(&s);
    }
}

/* ---- GGUF ---- */

/* A vocabulary and nothing else. */
static void gguf_vocab(sample_gguf_parts *p, const char *model, const char *const *tokens, uint32_t count)
{
    *p = (sample_gguf_parts){.version = 3};
    sample_gguf_key_string(p, "tokenizer.ggml.model", model);
    sample_gguf_key_array(p, "tokenizer.ggml.tokens", 8, count);
    for (uint32_t i = 0; i < count; i++)
        sample_gguf_string(&p->values, tokens[i]);
}

static void gguf_merges(sample_gguf_parts *p, const char *const *list, uint32_t count)
{
    sample_gguf_key_array(p, "tokenizer.ggml.merges", 8, count);
    for (uint32_t i = 0; i < count; i++)
        sample_gguf_string(&p->values, list[i]);
}

static infer_status import_gguf(sample_gguf_parts *p, uint8_t **section, infer_vocab_view *v, infer_error *err)
{
    sample s = sample_gguf(p);
    infer_status status = import(sample_write("vocab.gguf", s.data, s.size), section, v, err);
    sample_free(&s);
    return status;
}

static const char *const byte_level[] = {"a",
                                         "b",
                                         "c",
                                         "ab",
                                         "abc",
                                         "\xc4\xa0",
                                         ("\xc4\xa0" /* a string of its own: \xa0a would be one number */
                                          "a")};

Test(gguf_vocab, byte_level_merges)
{
    static const char *const list[] = {"a b", "ab c", "\xc4\xa0 a", "ab c"}; /* a repeated merge is harmless: the first one counts */
    sample_gguf_parts p;
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    gguf_vocab(&p, "gpt2", byte_level, 7);
    sample_gguf_key_string(&p, "tokenizer.ggml.pre", "gpt-2");
    sample_gguf_key_u32(&p, "tokenizer.ggml.bos_token_id", 0xffffffff);
    gguf_merges(&p, list, 4);
    cr_assert_eq(import_gguf(&p, &section, &v, &err), INFER_OK, "%s", err.message);
    cr_assert(v.kind == INFER_VOCAB_BPE && v.flags == INFER_VOCAB_BYTE_LEVEL && v.pretokenizer == INFER_PRETOKENIZER_GPT2);
    cr_assert(v.bos == INFER_VOCAB_NO_ID && v.eos == INFER_VOCAB_NO_ID && v.unk == INFER_VOCAB_NO_ID && v.merges == 4);
    cr_assert(v.merge[1][0] == 3 && v.merge[1][1] == 2 && v.merge[2][0] == 5 && v.merge[2][1] == 0);
    infer_free(NULL, section);
}

Test(gguf_vocab, bad_merges)
{
    static const char *const bad[] = {"ab", "", " ", "a ", " b", "a x", "x a", "a b c", "a  b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sample_gguf_parts p;
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        gguf_vocab(&p, "gpt2", byte_level, 7);
        sample_gguf_key_string(&p, "tokenizer.ggml.pre", "gpt-2");
        gguf_merges(&p, &bad[i], 1);
        cr_assert_eq(import_gguf(&p, &section, &v, &err), INFER_ERROR_FORMAT, "merge \"%s\"", bad[i]);
        cr_assert(strstr(err.message, "merge 0"), "%s", err.message);
    }
}

Test(gguf_vocab, what_is_missing_here_is_named)
{
    static const struct {
        const char *model, *pre, *words;
    } cases[] = {{"rwkv", NULL, "\"rwkv\""}, {"no_vocab", NULL, "\"no_vocab\""}, {"gpt2", "nothing", "\"nothing\""}};
    for (size_t i = 0; i < 3; i++) {
        sample_gguf_parts p;
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        gguf_vocab(&p, cases[i].model, byte_level, 7);
        if (cases[i].pre)
            sample_gguf_key_string(&p, "tokenizer.ggml.pre", cases[i].pre);
        cr_assert_eq(import_gguf(&p, &section, &v, &err), INFER_ERROR_UNSUPPORTED);
        cr_assert(strstr(err.message, cases[i].words), "%s", err.message);
    }
}

/* The kinds of arrays and numbers that a vocabulary may be made of. */
Test(gguf_vocab, bad_arrays)
{
    for (int i = 0; i < 7; i++) {
        sample_gguf_parts p;
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        gguf_vocab(&p, "llama", byte_level, 7);
        switch (i) {
        case 0:
            sample_gguf_key_array(&p, "tokenizer.ggml.scores", 6, 1), sample_f32(&p.values, 1);
            break;
        case 1:
            sample_gguf_key_array(&p, "tokenizer.ggml.scores", 4, 1), sample_u32(&p.values, 1);
            break;
        case 2:
            sample_gguf_key_array(&p, "tokenizer.ggml.token_type", 5, 1), sample_u32(&p.values, 1);
            break;
        case 3:
            sample_gguf_key_string(&p, "tokenizer.ggml.token_type", "normal");
            break;
        case 4:
            sample_gguf_key_u32(&p, "tokenizer.ggml.bos_token_id", 7);
            break;
        case 5:
            sample_gguf_key_string(&p, "tokenizer.ggml.eos_token_id", "2");
            break;
        case 6:
            sample_gguf_key_u32(&p, "tokenizer.ggml.add_bos_token", 1);
            break;
        }
        cr_assert_eq(import_gguf(&p, &section, &v, &err), INFER_ERROR_FORMAT, "case %d", i);
        cr_assert(strstr(err.message, "vocab.gguf"));
    }
}

/* Scores that are all the same say nothing: the order of the tokens does. */
Test(gguf_vocab, merges_from_the_order_of_tokens)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc", "abc", "cab", "cabab", "zz"};
    static const uint32_t expected[][2] = {{3, 4}, {4, 5}, {6, 5}, {5, 6}, {9, 6}};
    sample_gguf_parts p;
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    gguf_vocab(&p, "llama", tokens, 12);
    sample_gguf_key_array(&p, "tokenizer.ggml.scores", 6, 12);
    for (int i = 0; i < 12; i++)
        sample_f32(&p.values, -1000);
    cr_assert_eq(import_gguf(&p, &section, &v, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(v.kind, INFER_VOCAB_BPE);
    cr_assert_eq(v.merges, 5);
    cr_assert_eq(memcmp(v.merge, expected, sizeof expected), 0);
    infer_free(NULL, section);
}

/* The merges that tinystories-656K's GGUF leaves out are those of its tokenizer.json. */
Test(gguf_vocab, recovers_the_merges_of_tinystories)
{
    const char *gguf = check_data("models/tinystories-656K/TinyStories-656K-Q8_0.gguf");
    const char *json_path = check_data("models/tinystories-656K/tokenizer.json");
    if (!gguf || !json_path)
        cr_skip_test("models/tinystories-656K is not there");
    infer_error err = {0};
    infer_vocab_view v;
    uint8_t *section;
    size_t bytes;
    uint32_t n = 0;
    char *json = check_read(json_path, &bytes);
    cJSON *root = cJSON_Parse(json);
    const cJSON *list = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "model"), "merges"), *item;
    cr_assert_eq(import(gguf, &section, &v, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(v.kind, INFER_VOCAB_BPE);
    cJSON_ArrayForEach(item, list)
    {
        const char *pair = item->valuestring, *space = strchr(pair, ' ');
        expect_that(n < v.merges, "only %u merges", v.merges);
        char *left = strndup(pair, (size_t)(space - pair));
        expect_that(token_is(&v, v.merge[n][0], left) && token_is(&v, v.merge[n][1], space + 1), "merge %u: %s", n, pair);
        free(left);
        n++;
    }
    cr_assert_eq(n, v.merges);
    cr_assert_gt(n, 1000);
    cJSON_Delete(root);
    free(json);
    infer_free(NULL, section);
}

Test(gguf_vocab, real_vocabularies)
{
    static const struct {
        const char *file;
        uint32_t kind, tokens, merges;
    } cases[] = {{"tokenizers/ggml-vocab-gpt-2.gguf", INFER_VOCAB_BPE, 50257, 50000},
                 {"tokenizers/ggml-vocab-llama-spm.gguf", INFER_VOCAB_SPM, 32000, 0},
                 {"tokenizers/tokenizer.bin", INFER_VOCAB_SPM, 32000, 0},
                 {"models/stories260K/stories260Ktok512.gguf", INFER_VOCAB_SPM, 512, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = check_data(cases[i].file);
        infer_error err = {0};
        infer_vocab_view v;
        uint8_t *section;
        if (!path)
            cr_skip_test("vocabularies are not there");
        cr_assert_eq(import(path, &section, &v, &err), INFER_OK, "%s", err.message);
        cr_assert(v.kind == cases[i].kind && v.tokens == cases[i].tokens && v.merges == cases[i].merges, "%s", path);
        infer_free(NULL, section);
    }
}
