#include "vocabs.h"

#include <cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A vocabulary that is ready for use. */
typedef struct opened {
    infer_tokenizer *t;
    void *section;
} opened;

static opened open_section(void *section, size_t bytes)
{
    return (opened){vocab_open(NULL, section, bytes), section};
}

static void close_section(opened *o)
{
    infer_tokenizer_close(o->t);
    infer_free(NULL, o->section);
}

/* Opens a data file or ends the test as skipped. */
static opened open_data(const char *name, void *(*reader)(const char *, size_t *))
{
    const char *path = check_data(name);
    size_t bytes;
    void *section;
    if (!path)
        cr_skip_test("%s is absent", name);
    section = reader(path, &bytes);
    cr_assert(section);
    return open_section(section, bytes);
}

static char *read_data(const char *name, size_t *bytes)
{
    const char *path = check_data(name);
    char *text;
    if (!path)
        cr_skip_test("%s is absent", name);
    text = check_read(path, bytes);
    cr_assert(text);
    return text;
}

/* Ids in an array to be freed. */
static int32_t *encode(const infer_tokenizer *t, const char *text, size_t bytes, unsigned flags, size_t *count)
{
    infer_error err = {0};
    const size_t cap = 4 * bytes + 8; /* a replaced space may need 3 bytes; begin and space before */
    int32_t *ids = malloc(cap * sizeof *ids);
    cr_assert(ids);
    cr_assert(infer_tokenizer_encode(t, text, bytes, flags, ids, cap, count, &err) == INFER_OK, "%s", err.message);
    cr_assert_leq(*count, cap);
    return ids;
}

static void expect(const infer_tokenizer *t, const char *text, size_t bytes, unsigned flags, const int32_t *want, size_t want_count)
{
    size_t n;
    int32_t *ids = encode(t, text, bytes, flags, &n);
    for (size_t i = 0; i < n && i < want_count; i++)
        cr_assert_eq(ids[i], want[i], "\"%.*s\": token %zu is %d, expected %d", (int)bytes, text, i, ids[i], want[i]);
    cr_assert_eq(n, want_count, "\"%.*s\": %zu tokens, expected %zu", (int)bytes, text, n, want_count);
    free(ids);
}
#define EXPECT(t, text, flags, ...)                                                                                                        \
    expect(t, text, sizeof(text) - 1, flags, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* The tokens' bytes, one after the other, are the text again. */
static void expect_bytes(const infer_tokenizer *t, const char *text, size_t bytes)
{
    size_t n, at = 0, skip = infer_tokenizer_vocab(t)->flags & INFER_VOCAB_SPACE_PREFIX ? 1 : 0;
    int32_t *ids = encode(t, text, bytes, 0, &n);
    for (size_t i = 0; i < n; i++) {
        size_t m;
        const char *p = infer_tokenizer_token(t, ids[i], &m);
        cr_assert(p);
        if (i == 0) {
            p += skip;
            m -= skip;
        }
        cr_assert(at + m <= bytes && memcmp(p, text + at, m) == 0, "token %zu (id %d) is not the text at byte %zu", i, ids[i], at);
        at += m;
    }
    cr_assert_eq(at, bytes);
    free(ids);
}

/* ---- real vocabularies ---- */

Test(tokenizer, stories260K_prompt)
{
    opened o = open_data("models/stories260K/tok512.bin", vocab_llama2c);
    EXPECT(o.t, "Once upon a time, there was a little dog", INFER_TOKENIZE_BOS, 1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 400, 428);
    EXPECT(o.t, "Once upon a time, there was a little dog", 0, 403, 407, 261, 378, 432, 383, 286, 261, 376, 400, 428);
    EXPECT(o.t, "", INFER_TOKENIZE_BOS, 1);
    cr_assert_eq(infer_tokenizer_vocab(o.t)->tokens, 512);
    close_section(&o);
}

Test(tokenizer, tinystories_prompts)
{
    opened o = open_data("models/tinystories-656K/tokenizer.json", vocab_json);
    size_t bytes, prompts = 0;
    char *file = read_data("reference/tinystories-656K.greedy.txt", &bytes), *save = NULL;
    for (char *line = strtok_r(file, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cJSON *json = cJSON_Parse(line), *ids = cJSON_GetObjectItem(json, "ids");
        const char *prompt = cJSON_GetStringValue(cJSON_GetObjectItem(json, "prompt"));
        size_t n, i = 0;
        int32_t *found;
        cr_assert(prompt && ids);
        found = encode(o.t, prompt, strlen(prompt), INFER_TOKENIZE_BOS, &n);
        cr_assert_geq(cJSON_GetArraySize(ids), (int)n);
        for (cJSON *id = ids->child; i < n; id = id->next, i++)
            cr_assert_eq(found[i], id->valueint, "\"%s\": token %zu is %d, expected %d", prompt, i, found[i], id->valueint);
        prompts++;
        free(found);
        cJSON_Delete(json);
    }
    cr_assert_geq(prompts, 2);
    free(file);
    close_section(&o);
}

Test(tokenizer, stories_come_back)
{
    opened small = open_data("models/stories260K/tok512.bin", vocab_llama2c);
    opened large = open_data("tokenizers/ggml-vocab-llama-spm.gguf", vocab_gguf);
    opened gpt2 = open_data("tokenizers/ggml-vocab-gpt-2.gguf", vocab_gguf);
    size_t bytes;
    char *text = read_data("text/tinystories-valid.txt", &bytes);
    expect_bytes(small.t, text, bytes);
    expect_bytes(large.t, text, bytes);
    expect_bytes(gpt2.t, text, bytes);
    free(text);
    close_section(&small);
    close_section(&large);
    close_section(&gpt2);
}

/* ---- any bytes ---- */

Test(tokenizer, malformed_text_falls_back_to_bytes)
{
    opened o = open_data("models/stories260K/tok512.bin", vocab_llama2c);
    char all[256 * 3];
    /* token 3 is <0x00>, 410 the space before the text */
    EXPECT(o.t, "\x00", 0, 410, 3);
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    for (int i = 0; i < 512; i++)
        all[256 + i] = (char)(i * 167 + (i >> 3));
    expect_bytes(o.t, all, sizeof all);
    expect_bytes(o.t, "\xe2\x82", 2);         /* ends too early */
    expect_bytes(o.t, "a\xed\xa0\x80z", 5);   /* a surrogate */
    expect_bytes(o.t, "\xf4\x90\x80\x80", 4); /* beyond Unicode */
    expect_bytes(o.t, "\xc0\xaf\xff\xfe", 4); /* overlong, never valid */
    expect_bytes(o.t, "nul\0nul\0", 8);
    close_section(&o);
}

/* ---- small vocabularies: one rule at a time ---- */

enum { UNK, BOS, SPACE_, A, B, C, AB, BC, ABC };
static const vocab_token letters[] = {{"<unk>", 0, INFER_TOKEN_UNKNOWN},
                                      {"<s>", 0, INFER_TOKEN_CONTROL},
                                      {" ", -9, 0},
                                      {"a", -9, 0},
                                      {"b", -9, 0},
                                      {"c", -9, 0},
                                      {"ab", -2, 0},
                                      {"bc", -1, 0},
                                      {"abc", -3, 0},
                                      {NULL, 0, 0}};

static opened open_words(const vocab_words *w)
{
    size_t bytes;
    void *section = vocab_from(w, &bytes);
    return open_section(section, bytes);
}

Test(tokenizer, best_score_first)
{
    opened o = open_words(&(vocab_words){.kind = INFER_VOCAB_SPM, .unk = UNK, .bos = BOS, .tokens = letters});
    EXPECT(o.t, "abc", 0, ABC); /* a + bc */
    EXPECT(o.t, "abb", 0, AB, B);
    EXPECT(o.t, "abcab bc", 0, ABC, AB, SPACE_, BC);
    EXPECT(o.t, "xyz", 0, UNK); /* a run of unknown characters is one token */
    EXPECT(o.t, "xayz\xff", 0, UNK, A, UNK);
    EXPECT(o.t, "a", INFER_TOKENIZE_BOS, A); /* the vocabulary does not ask for a begin token */
    close_section(&o);
}

Test(tokenizer, equal_scores_leftmost_first)
{
    static const vocab_token even[] = {{"a", 0, 0}, {"aa", -1, 0}, {"aaa", -1, 0}, {NULL, 0, 0}};
    opened o = open_words(&(vocab_words){.kind = INFER_VOCAB_SPM, .unk = INFER_VOCAB_NO_ID, .bos = INFER_VOCAB_NO_ID, .tokens = even});
    EXPECT(o.t, "aa", 0, 1);
    EXPECT(o.t, "aaa", 0, 2);
    EXPECT(o.t, "aaaa", 0, 2, 0);
    close_section(&o);
}

/* The characters of "ab" are no tokens: the pair merges all the same, and alone they are unknown. */
Test(tokenizer, characters_that_are_no_tokens)
{
    static const vocab_token pairs[] = {{"?", 0, INFER_TOKEN_UNKNOWN}, {"ab", -1, 0}, {"\xc3\xa9x", -1, 0}, {NULL, 0, 0}};
    opened o = open_words(&(vocab_words){.kind = INFER_VOCAB_SPM, .unk = 0, .bos = INFER_VOCAB_NO_ID, .tokens = pairs});
    EXPECT(o.t, "ab", 0, 1);
    EXPECT(o.t, "aab", 0, 0, 1);
    EXPECT(o.t, "\xc3\xa9xb", 0, 2, 0);
    close_section(&o);
}

Test(tokenizer, merges_by_rank)
{
    static const uint32_t merges[][2] = {{B, C}, {A, B}, {AB, C}};
    opened o =
        open_words(&(vocab_words){.kind = INFER_VOCAB_BPE, .unk = UNK, .bos = BOS, .tokens = letters, .merges = merges, .merge_count = 3});
    EXPECT(o.t, "abc", 0, A, BC); /* a + bc has no rank */
    EXPECT(o.t, "abab", 0, AB, AB);
    close_section(&o);
}

Test(tokenizer, space_prefix_and_meta_space)
{
    static const vocab_token meta[] = {{"<unk>", 0, INFER_TOKEN_UNKNOWN},
                                       {"<s>", 0, INFER_TOKEN_CONTROL},
                                       {"\xe2\x96\x81", -9, 0},
                                       {"a", -9, 0},
                                       {"\xe2\x96\x81"
                                        "a",
                                        -1, 0},
                                       {"\xe2\x96\x81\xe2\x96\x81", -2, 0},
                                       {NULL, 0, 0}};
    const unsigned flags = INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_META_SPACE | INFER_VOCAB_ADD_BOS;
    opened o = open_words(&(vocab_words){.kind = INFER_VOCAB_SPM, .flags = flags, .unk = 0, .bos = 1, .tokens = meta});
    size_t n;
    EXPECT(o.t, "a", 0, 4);
    EXPECT(o.t, "a a", INFER_TOKENIZE_BOS, 1, 4, 4);
    EXPECT(o.t, "  a", 0, 5, 4);
    EXPECT(o.t,
           "a\xe2\x96\x81"
           "a",
           0, 4, 4); /* U+2581 in the text is a space */
    EXPECT(o.t, "", INFER_TOKENIZE_BOS, 1);
    EXPECT(o.t, "<s>a", INFER_TOKENIZE_SPECIAL, 1, 4); /* each piece of text gets its space */
    cr_assert(memcmp(infer_tokenizer_token(o.t, 5, &n), "  ", 2) == 0);
    cr_assert_eq(n, 2);
    close_section(&o);
}

Test(tokenizer, special_tokens)
{
    static const vocab_token special[] = {{"<", 0, 0},
                                          {"s", 0, 0},
                                          {">", 0, 0},
                                          {"<s>", 0, INFER_TOKEN_CONTROL},
                                          {"<s>>", 0, INFER_TOKEN_CONTROL},
                                          {"!!", 0, INFER_TOKEN_USER},
                                          {"!", 0, 0},
                                          {NULL, 0, 0}};
    opened o = open_words(&(vocab_words){.kind = INFER_VOCAB_SPM, .unk = INFER_VOCAB_NO_ID, .bos = INFER_VOCAB_NO_ID, .tokens = special});
    size_t n;
    EXPECT(o.t, "s<s>s", 0, 1, 0, 1, 2, 1);
    EXPECT(o.t, "s<s>s", INFER_TOKENIZE_SPECIAL, 1, 3, 1);
    EXPECT(o.t, "<s>><s", INFER_TOKENIZE_SPECIAL, 4, 0, 1); /* the longest name counts */
    EXPECT(o.t, "!!!", 0, 5, 6);                            /* user tokens always do */
    cr_assert(infer_tokenizer_token(o.t, 3, &n) && n == 0); /* control tokens have no bytes */
    cr_assert_null(infer_tokenizer_token(o.t, -1, &n));
    cr_assert_null(infer_tokenizer_token(o.t, 7, &n));
    close_section(&o);
}

Test(tokenizer, byte_level_alphabet)
{
    /* U+0120 is a space, U+010A a line feed, U+0100 NUL, U+00E9 byte 0xE9, U+0143 byte 0xAD, U+0121 byte 0x7F */
    static const vocab_token bytes[] = {{"a", 0, 0},
                                        {"\xc4\xa0", 0, 0},
                                        {"\xc4\xa0"
                                         "a",
                                         0, 0},
                                        {"\xc4\x8a", 0, 0},
                                        {"\xc4\x80", 0, 0},
                                        {"\xc3\xa9", 0, 0},
                                        {"\xc5\x83", 0, 0},
                                        {"\xc4\xa1", 0, 0},
                                        {NULL, 0, 0}};
    static const uint32_t merges[][2] = {{1, 0}};
    opened o = open_words(&(vocab_words){.kind = INFER_VOCAB_BPE,
                                         .flags = INFER_VOCAB_BYTE_LEVEL,
                                         .pretokenizer = INFER_PRETOKENIZER_GPT2,
                                         .unk = INFER_VOCAB_NO_ID,
                                         .bos = INFER_VOCAB_NO_ID,
                                         .tokens = bytes,
                                         .merges = merges,
                                         .merge_count = 1});
    EXPECT(o.t, "a a\n\0\xe9\xad\x7f", 0, 0, 2, 3, 4, 5, 6, 7);
    close_section(&o);
}

Test(tokenizer, room_for_fewer_ids)
{
    opened o = open_words(&(vocab_words){.kind = INFER_VOCAB_SPM, .flags = INFER_VOCAB_ADD_BOS, .unk = UNK, .bos = BOS, .tokens = letters});
    infer_error err = {0};
    int32_t ids[4] = {-7, -7, -7, -7};
    size_t n = 0;
    cr_assert_eq(infer_tokenizer_encode(o.t, "cab", 3, INFER_TOKENIZE_BOS, NULL, 0, &n, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(n, 3);
    cr_assert_str_eq(err.message, "tokenize: the text needs 3 tokens, there is room for 0");
    cr_assert_eq(infer_tokenizer_encode(o.t, "cab", 3, INFER_TOKENIZE_BOS, ids, 2, &n, NULL), INFER_ERROR_ARGUMENT);
    cr_assert_eq(ids[2], -7);
    cr_assert_eq(infer_tokenizer_encode(o.t, "cab", 3, INFER_TOKENIZE_BOS, ids, 3, &n, &err), INFER_OK);
    cr_assert(n == 3 && ids[0] == BOS && ids[1] == C && ids[2] == AB && ids[3] == -7);
    cr_assert_eq(infer_tokenizer_encode(o.t, "", 0, 0, NULL, 0, &n, &err), INFER_OK);
    cr_assert_eq(n, 0);
    close_section(&o);
}

Test(tokenizer, errors_name_what_is_wrong)
{
    static const uint32_t merges[][2] = {{A, B}, {C, A}};
    static char long_text[1025 + 1];
    static vocab_token long_tokens[] = {{long_text, 0, 0}, {NULL, 0, 0}};
    infer_tokenizer *t = NULL;
    infer_error err = {0};
    size_t bytes, n = 99;
    void *section = vocab_from(&(vocab_words){.kind = INFER_VOCAB_BPE,
                                              .pretokenizer = INFER_PRETOKENIZER_PATTERNS,
                                              .unk = UNK,
                                              .bos = BOS,
                                              .tokens = letters,
                                              .patterns = "a\0[b",
                                              .pattern_count = 2},
                               &bytes);
    opened o;
    cr_assert_eq(infer_tokenizer_open(NULL, section, bytes, "m.infer", &t, &err), INFER_ERROR_FORMAT);
    cr_assert_str_eq(err.message, "m.infer: tokenizer: pattern \"[b\": missing terminating ] for character class at byte 2");
    infer_free(NULL, section);

    section = vocab_from(
        &(vocab_words){.kind = INFER_VOCAB_SPM, .pretokenizer = INFER_PRETOKENIZER_BERT, .unk = UNK, .bos = BOS, .tokens = letters},
        &bytes);
    cr_assert_eq(infer_tokenizer_open(NULL, section, bytes, "m.infer", &t, &err), INFER_ERROR_UNSUPPORTED);
    infer_free(NULL, section);

    section = vocab_from(
        &(vocab_words){.kind = INFER_VOCAB_BPE, .unk = UNK, .bos = BOS, .tokens = letters, .merges = merges, .merge_count = 2}, &bytes);
    cr_assert_eq(infer_tokenizer_open(NULL, section, bytes, "m.infer", &t, &err), INFER_ERROR_FORMAT);
    cr_assert_str_eq(err.message, "m.infer: tokenizer: merge 1 joins tokens 5 and 3, but no token has the joined text \"ca\"");
    cr_assert_eq(infer_tokenizer_open(NULL, section, bytes - 1, "m.infer", &t, &err), INFER_ERROR_FORMAT);
    infer_free(NULL, section);

    section = vocab_from(
        &(vocab_words){.kind = INFER_VOCAB_SPM, .flags = INFER_VOCAB_BYTE_LEVEL, .unk = UNK, .bos = BOS, .tokens = letters}, &bytes);
    cr_assert_eq(infer_tokenizer_open(NULL, section, bytes, "m.infer", &t, &err), INFER_ERROR_UNSUPPORTED);
    infer_free(NULL, section);

    memset(long_text, 'x', sizeof long_text - 1);
    section = vocab_from(&(vocab_words){.kind = INFER_VOCAB_SPM, .unk = 0, .bos = INFER_VOCAB_NO_ID, .tokens = long_tokens}, &bytes);
    infer_free(NULL, section);
    section = vocab_from(&(vocab_words){.kind = INFER_VOCAB_SPM, .unk = INFER_VOCAB_NO_ID, .bos = INFER_VOCAB_NO_ID, .tokens = long_tokens},
                         &bytes);
    cr_assert_eq(infer_tokenizer_open(NULL, section, bytes, "m.infer", &t, &err), INFER_ERROR_UNSUPPORTED);
    cr_assert_str_eq(err.message, "m.infer: tokenizer: token 0 has 1025 bytes of text; at most 1024 are handled");
    infer_free(NULL, section);
    cr_assert_null(t);

    o = open_words(&(vocab_words){.kind = INFER_VOCAB_SPM, .unk = INFER_VOCAB_NO_ID, .bos = INFER_VOCAB_NO_ID, .tokens = letters + 2});
    EXPECT(o.t, "a!b", 0, 1, 2); /* neither a token nor an unknown one: left out, as other programs do */
    cr_assert_eq(infer_tokenizer_encode(o.t, "a", 1, 64, NULL, 0, &n, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(n, 99);
    close_section(&o);
}

/* ---- against a naive encoder that works on strings ---- */

typedef struct piece {
    const char *p;
    size_t n;
} piece;

/* Lower is better; false: no merge. Recomputed from the vocabulary's own arrays, every time. */
static bool naive_rank(const infer_vocab_view *v, piece a, piece b, double *rank)
{
    for (uint32_t i = 0; v->kind == INFER_VOCAB_SPM ? i < v->tokens : i < v->merges; i++) {
        uint32_t id = v->kind == INFER_VOCAB_SPM ? i : v->merge[i][0], start = id ? v->ends[id - 1] : 0;
        if (v->kind == INFER_VOCAB_SPM) {
            if (v->types[i] == INFER_TOKEN_NORMAL && v->ends[i] - start == a.n + b.n && !memcmp(v->text + start, a.p, a.n + b.n)) {
                *rank = -(double)v->scores[i];
                return true;
            }
        } else {
            uint32_t right = v->merge[i][1], right_start = right ? v->ends[right - 1] : 0;
            if (v->ends[id] - start == a.n && v->ends[right] - right_start == b.n && !memcmp(v->text + start, a.p, a.n) &&
                !memcmp(v->text + right_start, b.p, b.n)) {
                *rank = i;
                return true;
            }
        }
    }
    return false;
}

/* text: ASCII, all of whose characters are tokens; the space before it included. */
static size_t naive(const infer_vocab_view *v, const char *text, size_t n, piece *s)
{
    for (size_t i = 0; i < n; i++)
        s[i] = (piece){text + i, 1};
    for (;;) {
        double best = 0, rank;
        size_t at = n;
        for (size_t i = 0; i + 1 < n; i++)
            if (naive_rank(v, s[i], s[i + 1], &rank) && (at == n || rank < best)) {
                best = rank;
                at = i;
            }
        if (at == n)
            return n;
        s[at].n += s[at + 1].n;
        memmove(s + at + 1, s + at + 2, (n - at - 2) * sizeof *s);
        n--;
    }
}

static void against_naive(const infer_vocab_view *v, const infer_tokenizer *t, const char *text, size_t n, bool spaced)
{
    piece s[400];
    size_t m, found_count, at = 0;
    int32_t *found = encode(t, text + spaced, n - spaced, 0, &found_count);
    m = naive(v, text, n, s);
    cr_assert_eq(found_count, m, "\"%.*s\": %zu tokens, naively %zu", (int)n, text, found_count, m);
    for (size_t i = 0; i < m; at += s[i++].n) {
        size_t bytes;
        const char *p = infer_tokenizer_token(t, found[i], &bytes);
        cr_assert(bytes == s[i].n && !memcmp(p, s[i].p, bytes), "\"%.*s\": token %zu differs at byte %zu", (int)n, text, i, at);
    }
    free(found);
}

Test(tokenizer, as_a_naive_encoder_does_on_stories)
{
    opened o = open_data("models/stories260K/tok512.bin", vocab_llama2c);
    size_t bytes;
    char *text = read_data("text/tinystories-valid.txt", &bytes);
    for (size_t at = 0, n = 5, tests = 0; at + n < bytes && tests < 60; at += 3989, n = 2 + (n * 7 + 13) % 120, tests++) {
        bool plain = true;
        char spaced[128];
        for (size_t i = 0; i < n; i++)
            plain &= text[at + i] != '<' && text[at + i] != '>' && text[at + i] != '|' && (unsigned char)text[at + i] < 0x80;
        spaced[0] = ' ';
        memcpy(spaced + 1, text + at, n);
        if (plain)
            against_naive(infer_tokenizer_vocab(o.t), o.t, spaced, n + 1, true);
    }
    free(text);
    close_section(&o);
}

/* Few letters, many merges and many equal ranks: parts of all lengths around the border between the two ways of merging. */
Test(tokenizer, as_a_naive_encoder_does_on_random_vocabularies)
{
    uint32_t x = 12345;
    for (int round = 0; round < 60; round++) {
        char texts[64][16];
        vocab_token tokens[65] = {{NULL, 0, 0}};
        uint32_t merges[64][2], count = 3, merge_count = 0;
        opened o;
        memcpy(texts, (char[3][16]){"a", "b", "c"}, 3 * 16);
        while (count < 40) {
            uint32_t left = (x = x * 1664525 + 1013904223) >> 16, right = (x = x * 1664525 + 1013904223) >> 16;
            bool known = false;
            char joined[32];
            left %= count, right %= count;
            snprintf(joined, sizeof joined, "%s%s", texts[left], texts[right]);
            if (strlen(joined) > 9)
                continue;
            for (uint32_t i = 0; i < count; i++)
                known |= !strcmp(joined, texts[i]);
            merges[merge_count][0] = left, merges[merge_count][1] = right;
            merge_count += merge_count < 63 && (round & 1);
            if (!known)
                strcpy(texts[count++], joined);
        }
        for (uint32_t i = 0; i < count; i++)
            tokens[i] = (vocab_token){texts[i], -(float)(i * 7 % 5), 0};
        o = open_words(&(vocab_words){.kind = round & 1 ? INFER_VOCAB_BPE : INFER_VOCAB_SPM,
                                      .unk = INFER_VOCAB_NO_ID,
                                      .bos = INFER_VOCAB_NO_ID,
                                      .tokens = tokens,
                                      .merges = (const uint32_t(*)[2])merges,
                                      .merge_count = round & 1 ? merge_count : 0});
        for (size_t n = 1; n < 100; n += 1 + n / 9) {
            char text[100];
            for (size_t i = 0; i < n; i++)
                text[i] = (char)('a' + ((x = x * 1664525 + 1013904223) >> 24) % 3);
            against_naive(infer_tokenizer_vocab(o.t), o.t, text, n, false);
        }
        close_section(&o);
    }
}

/* ---- resources ---- */

Test(tokenizer, every_allocation_may_fail)
{
    static const uint32_t merges[][2] = {{A, B}, {B, C}, {AB, C}};
    static const vocab_words kinds[] = {
        {.kind = INFER_VOCAB_SPM, .unk = UNK, .bos = BOS, .tokens = letters},
        {.kind = INFER_VOCAB_BPE, .unk = UNK, .bos = BOS, .tokens = letters, .merges = merges, .merge_count = 3},
        {.kind = INFER_VOCAB_BPE,
         .flags = INFER_VOCAB_NFC | INFER_VOCAB_SPACE_PREFIX,
         .pretokenizer = INFER_PRETOKENIZER_PATTERNS,
         .unk = UNK,
         .bos = BOS,
         .tokens = letters,
         .merges = merges,
         .merge_count = 3,
         .patterns = "a+\0b+c",
         .pattern_count = 2},
        {.kind = INFER_VOCAB_UNIGRAM, .flags = INFER_VOCAB_SINGLE_SPACES, .unk = UNK, .bos = BOS, .tokens = letters},
        {.kind = INFER_VOCAB_WORDPIECE,
         .flags = INFER_VOCAB_CLEAN | INFER_VOCAB_STRIP_ACCENTS | INFER_VOCAB_LOWERCASE | INFER_VOCAB_SPACE_PREFIX,
         .pretokenizer = INFER_PRETOKENIZER_BERT,
         .unk = UNK,
         .bos = BOS,
         .tokens = letters},
    };
    char text[3000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "abc"[i * i % 3];
    memcpy(text + 50, "\xc3\xa9 ", 3);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t bytes, n, fail_at = 0;
        void *section = vocab_from(&kinds[i], &bytes);
        infer_status status;
        do {
            infer_tokenizer *t = NULL;
            infer_error err = {0};
            int32_t ids[3100];
            check_allocator a;
            check_allocator_init(&a, ++fail_at);
            status = infer_tokenizer_open(&a.allocator, section, bytes, "test", &t, &err);
            if (!status)
                status = infer_tokenizer_encode(t, text, sizeof text, 0, ids, 3100, &n, &err);
            cr_assert(status == INFER_OK || status == INFER_ERROR_MEMORY, "%s", err.message);
            cr_assert_eq(status, err.status);
            infer_tokenizer_close(t);
            cr_assert_eq(a.live, 0, "%zu blocks leak when allocation %zu fails", a.live, fail_at);
        } while (status);
        cr_assert_geq(fail_at, 7);
        infer_free(NULL, section);
    }
}

/* A megabyte that cannot be cut and merges everywhere: half a second when the machine is idle, and memory in proportion. */
static void hostile(const infer_tokenizer *t, check_allocator *a, const char *text, size_t n)
{
    clock_t start = clock(); /* processor time: other work on the machine does not count */
    size_t count = 0;
    infer_status status = infer_tokenizer_encode(t, text, n, 0, NULL, 0, &count, NULL);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    cr_assert_eq(status, INFER_ERROR_ARGUMENT);
    cr_assert_geq(count, 1);
    cr_assert_leq(a->peak_bytes, 160 * n);
    cr_assert_lt(seconds, 3.0 * CHECK_SLOWDOWN, "%.3f s", seconds);
}

Test(tokenizer, a_hostile_megabyte)
{
    const char *path = check_data("tokenizers/ggml-vocab-llama-spm.gguf");
    const size_t n = 1 << 20;
    size_t bytes;
    uint32_t x = 1;
    char *text = malloc(n);
    void *section;
    check_allocator a;
    infer_tokenizer *t;
    if (!path)
        cr_skip_test("tokenizers/ggml-vocab-llama-spm.gguf is absent");
    section = vocab_gguf(path, &bytes);
    check_allocator_init(&a, 0);
    t = vocab_open(&a.allocator, section, bytes);
    cr_assert(text);
    memset(text, 'a', n);
    hostile(t, &a, text, n);
    memset(text, ' ', n);
    hostile(t, &a, text, n);
    for (size_t i = 0; i < n; i++)
        text[i] = "etaoin"[(x = x * 1664525 + 1013904223) >> 24 & 3];
    hostile(t, &a, text, n);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
    hostile(t, &a, text, n);
    infer_tokenizer_close(t);
    cr_assert_eq(a.live, 0);
    infer_free(NULL, section);
    free(text);
}
