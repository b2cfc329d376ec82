/* Unigram, WordPiece, pre-tokenizers and normalizers, on vocabularies of a few tokens. */
#include "vocabs.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define NONE INFER_VOCAB_NO_ID

static void expect(const vocab_words *w, const char *text, size_t bytes, unsigned flags, const int32_t *want, size_t want_count)
{
    size_t section_bytes, n = 0;
    void *section = vocab_from(w, &section_bytes);
    infer_tokenizer *t = vocab_open(NULL, section, section_bytes);
    infer_error err = {0};
    int32_t ids[200];
    cr_assert(infer_tokenizer_encode(t, text, bytes, flags, ids, 200, &n, &err) == INFER_OK, "\"%s\": %s", text, err.message);
    for (size_t i = 0; i < n && i < want_count; i++)
        cr_assert_eq(ids[i], want[i], "\"%s\": token %zu is %d, expected %d", text, i, ids[i], want[i]);
    cr_assert_eq(n, want_count, "\"%s\": %zu tokens, expected %zu", text, n, want_count);
    infer_tokenizer_close(t);
    infer_free(NULL, section);
}
#define EXPECT(w, text, flags, ...)                                                                                                        \
    expect(w, text, sizeof(text) - 1, flags, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))
#define EXPECT_NOTHING(w, text) expect(w, text, sizeof(text) - 1, 0, NULL, 0)

/* ---- unigram ---- */

enum { U_UNK, U_END, U_SPACE, U_A, U_B, U_AB, U_ABA, U_BA, U_SPACE_A };
static const vocab_token scored[] = {{"<unk>", 0, INFER_TOKEN_UNKNOWN},
                                     {"</s>", 0, INFER_TOKEN_CONTROL},
                                     {"\xe2\x96\x81", -4, 0},
                                     {"a", -3, 0},
                                     {"b", -3, 0},
                                     {"ab", -4, 0},
                                     {"aba", -9, 0},
                                     {"ba", -4.5f, 0},
                                     {"\xe2\x96\x81"
                                      "a",
                                      -4, 0},
                                     {NULL, 0, 0}};
static const vocab_words unigram = {
    .kind = INFER_VOCAB_UNIGRAM, .flags = INFER_VOCAB_META_SPACE, .unk = U_UNK, .bos = NONE, .tokens = scored};

Test(unigram, best_path)
{
    EXPECT(&unigram, "ab", 0, U_AB);
    EXPECT(&unigram, "aba", 0, U_AB, U_A); /* -7; a + ba -7.5, aba -9 */
    EXPECT(&unigram, "abab", 0, U_AB, U_AB);
    EXPECT(&unigram, "a a", 0, U_A, U_SPACE_A);
    EXPECT(&unigram,
           "ac\xc3\xa9"
           "ca",
           0, U_A, U_UNK, U_A); /* a run of unknown characters is one token */
    EXPECT_NOTHING(&unigram, "");
}

Test(unigram, spaces_and_end)
{
    vocab_words w = unigram;
    w.flags |= INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_SINGLE_SPACES | INFER_VOCAB_ADD_EOS;
    w.eos = U_END;
    EXPECT(&w, "  a   a ", INFER_TOKENIZE_BOS, U_SPACE_A, U_SPACE_A, U_END);
    EXPECT(&w, "a", 0, U_SPACE_A);
    EXPECT_NOTHING(&w, "   ");
}

/* A path is at least as good as any other: all cuttings of short texts are tried. */
static float best_of(const char *text, size_t n)
{
    static const float unknown = -19; /* the worst token less 10 */
    float best = n ? -1e30f : 0;
    for (size_t m = 1; m <= n; m++) {
        float score = m == 1 ? unknown : -1e30f;
        for (size_t i = 2; scored[i].text; i++)
            if (strlen(scored[i].text) == m && memcmp(scored[i].text, text, m) == 0)
                score = scored[i].score;
        if (score + best_of(text + m, n - m) > best)
            best = score + best_of(text + m, n - m);
    }
    return best;
}

Test(unigram, no_path_is_better)
{
    size_t bytes, n;
    void *section = vocab_from(&unigram, &bytes);
    infer_tokenizer *t = vocab_open(NULL, section, bytes);
    for (unsigned x = 0; x < 1u << 8; x++) {
        char text[9] = "";
        int32_t ids[8];
        float sum = 0;
        for (int i = 0; i < 8; i++)
            text[i] = "ab"[x >> i & 1];
        cr_assert(infer_tokenizer_encode(t, text, 8, 0, ids, 8, &n, NULL) == INFER_OK);
        for (size_t i = 0; i < n; i++)
            sum += scored[ids[i]].score;
        cr_assert_eq(sum, best_of(text, 8), "\"%s\": %g, the best is %g", text, sum, best_of(text, 8));
    }
    infer_tokenizer_close(t);
    infer_free(NULL, section);
}

/* ---- WordPiece ---- */

enum { W_UNK, W_CLS, W_SEP, W_RUN, W_NING, W_N, W_DOT, W_E, W_CJK };
#define WORD "\xe2\x96\x81"
static const vocab_token words[] = {{"[UNK]", 0, INFER_TOKEN_CONTROL},
                                    {"[CLS]", 0, INFER_TOKEN_CONTROL},
                                    {"[SEP]", 0, INFER_TOKEN_CONTROL},
                                    {WORD "run", 0, 0},
                                    {"ning", 0, 0},
                                    {"n", 0, 0},
                                    {WORD ".", 0, 0},
                                    {WORD "ete", 0, 0},
                                    {WORD "\xe6\x97\xa5", 0, 0},
                                    {NULL, 0, 0}};
static const vocab_words bert = {.kind = INFER_VOCAB_WORDPIECE,
                                 .flags = INFER_VOCAB_META_SPACE | INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_CLEAN |
                                          INFER_VOCAB_STRIP_ACCENTS | INFER_VOCAB_LOWERCASE | INFER_VOCAB_ADD_BOS | INFER_VOCAB_ADD_EOS,
                                 .pretokenizer = INFER_PRETOKENIZER_BERT,
                                 .unk = W_UNK,
                                 .bos = W_CLS,
                                 .eos = W_SEP,
                                 .tokens = words};

Test(wordpiece, longest_token_first)
{
    EXPECT(&bert, "running", 0, W_RUN, W_NING);
    EXPECT(&bert, "Run runn. RUN", 0, W_RUN, W_RUN, W_N, W_DOT, W_RUN);
    EXPECT(&bert, "runx run", 0, W_UNK, W_RUN); /* the whole word */
    EXPECT(&bert, "run", INFER_TOKENIZE_BOS, W_CLS, W_RUN, W_SEP);
    EXPECT_NOTHING(&bert, " \t\n");
}

Test(wordpiece, normalizes)
{
    EXPECT(&bert, "\xc3\x89t\xc3\xa9", 0, W_E);     /* precomposed */
    EXPECT(&bert, "E\xcc\x81te\xcc\x81", 0, W_E);   /* marks of their own */
    EXPECT(&bert, "ru\x01n\xe2\x80\x8b", 0, W_RUN); /* controls go */
    EXPECT(&bert, "run\xe6\x97\xa5run", 0, W_RUN, W_CJK, W_RUN);
    EXPECT(&bert, "run\xe3\x80\x80run\xc2\xa0.", 0, W_RUN, W_RUN, W_DOT);
    EXPECT(&bert, "ru\xffn", 0, W_RUN); /* malformed: as U+FFFD */
}

/* ---- pre-tokenizers ---- */

/* Bytes are tokens, and all merges of letters, digits or spaces exist: a piece becomes as few tokens as it can. */
enum { P_A, P_AA, P_AAA, P_1, P_11, P_111, P_SPACE, P_SPACE_A, P_NL, P_DOT, P_DOT_NL, P_UP };
static const vocab_token pieces[] = {{"a", 0, 0},
                                     {"aa", 0, 0},
                                     {"aaa", 0, 0},
                                     {"1", 0, 0},
                                     {"11", 0, 0},
                                     {"111", 0, 0},
                                     {"\xc4\xa0", 0, 0},
                                     {"\xc4\xa0"
                                      "a",
                                      0, 0},
                                     {"\xc4\x8a", 0, 0},
                                     {".", 0, 0},
                                     {".\xc4\x8a", 0, 0},
                                     {"A", 0, 0},
                                     {NULL, 0, 0}};
static const uint32_t joins[][2] = {{P_SPACE, P_A}, {P_A, P_A}, {P_AA, P_A}, {P_1, P_1}, {P_11, P_1}, {P_DOT, P_NL}};

static vocab_words cut_by(const char *patterns, uint32_t count)
{
    return (vocab_words){.kind = INFER_VOCAB_BPE,
                         .flags = INFER_VOCAB_BYTE_LEVEL,
                         .pretokenizer = INFER_PRETOKENIZER_PATTERNS,
                         .unk = NONE,
                         .bos = NONE,
                         .tokens = pieces,
                         .merges = joins,
                         .merge_count = 6,
                         .patterns = patterns,
                         .pattern_count = count};
}

Test(patterns, known_ones)
{
    vocab_words w = cut_by(NULL, 0);
    w.pretokenizer = INFER_PRETOKENIZER_GPT2;
    EXPECT(&w, "aa a1111.\n", 0, P_AA, P_SPACE_A, P_11, P_11, P_DOT, P_NL);
    w.pretokenizer = INFER_PRETOKENIZER_LLAMA3;
    EXPECT(&w, "aa a1111.\n", 0, P_AA, P_SPACE_A, P_111, P_1, P_DOT_NL);
    w.pretokenizer = INFER_PRETOKENIZER_QWEN2;
    EXPECT(&w, "aa a11.\n", 0, P_AA, P_SPACE_A, P_1, P_1, P_DOT_NL);
}

Test(patterns, one_after_the_other)
{
    vocab_words w = cut_by("1\0a{2}", 2);
    EXPECT(&w, "aaa11a", 0, P_AA, P_A, P_1, P_1, P_A);
    w = cut_by("x*", 1); /* matches nothing, everywhere */
    EXPECT(&w, "aaa", 0, P_A, P_A, P_A);
    w = cut_by("(?=1)", 1); /* a place */
    EXPECT(&w, "aa1aa1", 0, P_AA, P_1, P_AA, P_1);
    w = cut_by("\\s+$", 1); /* the end of a piece is the end of the text for the next pattern */
    EXPECT(&w, "a ", 0, P_A, P_SPACE);
    w = cut_by("1\0\\s+$", 2);
    EXPECT(&w, " 1 a", 0, P_SPACE, P_1, P_SPACE_A);
}

Test(patterns, malformed_text_is_a_piece_of_its_own)
{
    static const vocab_token bytes[] = {{"a", 0, 0}, {"\xc3\xbf", 0, 0}, {"aa", 0, 0}, {NULL, 0, 0}}; /* 0xff in the byte alphabet */
    static const uint32_t join[][2] = {{0, 0}};
    vocab_words w = cut_by("a+", 1);
    w.tokens = bytes;
    w.merges = join;
    w.merge_count = 1;
    EXPECT(&w,
           "aa\xff"
           "aa\xff",
           0, 2, 1, 2, 1);
}

Test(patterns, one_that_takes_for_ever_is_an_error)
{
    vocab_words w = cut_by("(?:a+)+[12]", 1);
    size_t bytes, n = 0;
    void *section = vocab_from(&w, &bytes);
    infer_tokenizer *t = vocab_open(NULL, section, bytes);
    infer_error err = {0};
    char text[200];
    memset(text, 'a', sizeof text);
    cr_assert_eq(infer_tokenizer_encode(t, text, sizeof text, 0, NULL, 0, &n, &err), INFER_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "takes too long"), "%s", err.message);
    infer_tokenizer_close(t);
    infer_free(NULL, section);
}

Test(patterns, whole_pieces)
{
    static const vocab_token tokens[] = {{"a", 0, 0}, {"b", 0, 0}, {"ab", 0, 0}, {NULL, 0, 0}};
    vocab_words w = cut_by("\\w+", 1);
    w.tokens = tokens;
    w.merges = NULL;
    w.merge_count = 0;
    EXPECT(&w, "ab", 0, 0, 1);
    w.flags |= INFER_VOCAB_WHOLE_PIECES;
    EXPECT(&w, "ab", 0, 2);
    EXPECT(&w, "aba", 0, 0, 1, 0);
}

/* ---- normalizers and special tokens ---- */

static const vocab_token forms[] = {{"<unk>", 0, INFER_TOKEN_UNKNOWN},
                                    {"\xc3\xa9", -1, 0},
                                    {"e\xcc\x81", -1, 0},
                                    {"e", -1, 0},
                                    {"E", -1, 0},
                                    {"\xcc\x81", -1, 0},
                                    {"f", -1, 0},
                                    {"i", -1, 0},
                                    {NULL, 0, 0}};

Test(normalize, forms)
{
    vocab_words w = {.kind = INFER_VOCAB_SPM, .unk = 0, .bos = NONE, .tokens = forms};
    EXPECT(&w, "e\xcc\x81", 0, 2);
    w.flags = INFER_VOCAB_NFC;
    EXPECT(&w,
           "e\xcc\x81"
           "E",
           0, 1, 4);
    w.flags = INFER_VOCAB_NFD;
    EXPECT(&w, "\xc3\xa9", 0, 2);
    w.flags = INFER_VOCAB_NFKC;
    EXPECT(&w,
           "\xef\xac\x81\xff"
           "e",
           0, 6, 7, 0, 3); /* U+FB01; malformed bytes stay */
    w.flags = INFER_VOCAB_LOWERCASE;
    EXPECT(&w, "E\xc3\x89", 0, 3, 1);
    w.flags = INFER_VOCAB_STRIP_ACCENTS;
    EXPECT(&w, "\xc3\x89\xc3\xa9", 0, 4, 3);
}

/* A map of two entries, built by hand: "A" -> "bb" and "Ax" -> "". Units (Darts-clone): label, bit 8 "has a value", offset from bit 10. */
Test(normalize, map_of_characters)
{
    static const vocab_token tokens[] = {{"<unk>", 0, INFER_TOKEN_UNKNOWN}, {"b", -1, 0}, {"c", -1, 0}, {NULL, 0, 0}};
    uint32_t units[512] = {0};
    uint8_t map[4 + sizeof units + 4];
    const uint32_t bytes = sizeof units;
    infer_vocab_step step = {.op = INFER_STEP_CHARSMAP, .argument = 1};
    uint8_t block[16];
    vocab_words w = {.kind = INFER_VOCAB_UNIGRAM, .flags = INFER_VOCAB_CHARSMAP, .unk = 0, .bos = NONE, .tokens = tokens, .charsmap = map};
    w.charsmap_bytes = sizeof map;
    units[0] = 256u << 10;                       /* root: children at 256 ^ label */
    units[256 ^ 'A'] = 'A' | 1u << 8 | 1u << 10; /* children at (256 ^ 'A') ^ 1 ^ label; its value there, too */
    units[256 ^ 'A' ^ 1] = 1u << 31 | 0;         /* "bb" */
    units[256 ^ 'A' ^ 1 ^ 'x'] = 'x' | 1u << 8 | 2u << 10;
    units[256 ^ 'A' ^ 1 ^ 'x' ^ 2] = 1u << 31 | 3; /* "" */
    memcpy(map, &bytes, 4);
    memcpy(map + 4, units, sizeof units);
    memcpy(map + 4 + sizeof units, "bb\0", 4);
    EXPECT(&w, "cAc", 0, 2, 1, 1, 2);
    EXPECT(&w, "cAxc", 0, 2, 2);
    EXPECT(&w, "\xff", 0, 0);

    /* As a step: SentencePiece's way, and Hugging Face's, by graphemes, of which the shortest beginning in the map stands for all. */
    w.pretokenizer = INFER_PRETOKENIZER_STEPS;
    w.steps = block;
    w.step_bytes = infer_vocab_put_step(&step, block);
    EXPECT(&w, "cA\xcc\x81xc", 0, 2, 1, 1, 0, 2);
    EXPECT(&w, "cAxc", 0, 2, 2);
    step.argument = 0;
    infer_vocab_put_step(&step, block);
    EXPECT(&w, "cA\xcc\x81xc", 0, 2, 1, 1, 0, 2);
    EXPECT(&w,
           "cA\xcc\x81"
           "c",
           0, 2, 1, 1, 2);
    EXPECT(&w, "cAxc", 0, 2, 1, 1, 0, 2);
    EXPECT(&w,
           "cA\xff"
           "c",
           0, 2, 1, 1, 0, 2);
    w.pretokenizer = INFER_PRETOKENIZER_NONE;

    /* One that points outside itself. */
    static const struct {
        uint32_t at, unit;
    } bad[] = {{0, 0x1ffffc00u}, {256 ^ 'A', 'A' | 1u << 8 | 0x3fffu << 10}, {256 ^ 'A' ^ 1, 1u << 31 | 4}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint32_t broken[512];
        size_t section_bytes, n = 0;
        infer_error err = {0};
        infer_tokenizer *t;
        void *section;
        memcpy(broken, units, sizeof broken);
        broken[bad[i].at] = bad[i].unit;
        memcpy(map + 4, broken, sizeof broken);
        section = vocab_from(&w, &section_bytes);
        t = vocab_open(NULL, section, section_bytes);
        cr_assert_eq(infer_tokenizer_encode(t, "A", 1, 0, NULL, 0, &n, &err), INFER_ERROR_FORMAT, "map %zu", i);
        cr_assert(strstr(err.message, "map of characters"), "%s", err.message);
        infer_tokenizer_close(t);
        infer_free(NULL, section);
    }
}

Test(special, white_space_goes_with_them)
{
    static const vocab_token tokens[] = {{"<m>", 0, INFER_TOKEN_CONTROL | INFER_TOKEN_LSTRIP},
                                         {"<r>", 0, INFER_TOKEN_CONTROL | INFER_TOKEN_RSTRIP},
                                         {" ", -1, 0},
                                         {"a", -1, 0},
                                         {"!", 0, INFER_TOKEN_USER},
                                         {NULL, 0, 0}};
    const vocab_words w = {.kind = INFER_VOCAB_SPM, .unk = NONE, .bos = NONE, .tokens = tokens};
    EXPECT(&w, "a <m> a", INFER_TOKENIZE_SPECIAL, 3, 0, 2, 3);
    EXPECT(&w, "a <r>\n a", INFER_TOKENIZE_SPECIAL, 3, 2, 1, 3);
    EXPECT(&w, "a!a!", 0, 3, 4, 3, 4); /* names of one byte, at the end too */
}

Test(special, space_before_the_text_or_after_each)
{
    static const vocab_token tokens[] = {{"<m>", 0, INFER_TOKEN_CONTROL}, {" ", -1, 0}, {"a", -1, 0}, {NULL, 0, 0}};
    vocab_words w = {.kind = INFER_VOCAB_SPM, .flags = INFER_VOCAB_SPACE_PREFIX, .unk = NONE, .bos = NONE, .tokens = tokens};
    EXPECT(&w, "a<m>a", INFER_TOKENIZE_SPECIAL, 1, 2, 0, 1, 2);
    w.flags |= INFER_VOCAB_PREFIX_ONCE;
    EXPECT(&w, "a<m>a", INFER_TOKENIZE_SPECIAL, 1, 2, 0, 2);
    EXPECT(&w, " a", 0, 1, 1, 2);
    w.flags |= INFER_VOCAB_PREFIX_UNLESS;
    EXPECT(&w, " a", 0, 1, 2);
}

/* A long text goes through the cache of pieces: the same ids as piece by piece. Runs of unknown characters end with their piece. */
Test(cache, changes_nothing)
{
    static const vocab_token tokens[] = {{"<unk>", 0, INFER_TOKEN_UNKNOWN}, {"a", 0, 0}, {NULL, 0, 0}};
    static const char part[] = "ax.xa.x.a.";
    const vocab_words w = {.kind = INFER_VOCAB_BPE,
                           .pretokenizer = INFER_PRETOKENIZER_PATTERNS,
                           .unk = 0,
                           .bos = NONE,
                           .tokens = tokens,
                           .patterns = "[.]|[^.]+",
                           .pattern_count = 1};
    static const int32_t want[] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0}; /* ax . xa . x . a . */
    char text[400 * (sizeof part - 1)];
    int32_t ids[400 * 10];
    size_t bytes, n;
    void *section = vocab_from(&w, &bytes);
    infer_tokenizer *t = vocab_open(NULL, section, bytes);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = part[i % (sizeof part - 1)];
    cr_assert(infer_tokenizer_encode(t, text, sizeof text, 0, ids, sizeof ids / sizeof *ids, &n, NULL) == INFER_OK);
    cr_assert_eq(n, sizeof ids / sizeof *ids);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(ids[i], want[i % 10], "token %zu", i);
    infer_tokenizer_close(t);
    infer_free(NULL, section);
}
