/* How the pre-tokenizers that GGUF files name cut a text: by hand from the patterns in each family's tokenizer.json, since few of these
 * vocabularies are at hand. Pieces are divided by U+2016. */
#include "check.h"

#include "import/vocab/tokenizers.h"
#include "text/tables.h"
#include "vocab.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define CUT "\xe2\x80\x96"

typedef struct pieces {
    char text[1024];
    size_t n;
} pieces;

static infer_status add_piece(void *user, const char *piece, size_t n)
{
    pieces *p = user;
    cr_assert_lt(p->n + sizeof CUT + n, sizeof p->text);
    if (p->n) {
        memcpy(p->text + p->n, CUT, sizeof CUT - 1);
        p->n += sizeof CUT - 1;
    }
    memcpy(p->text + p->n, piece, n);
    p->n += n;
    return INFER_OK;
}

static void expect_pieces(const char *name, const char *text, const char *expected)
{
    infer_vocab_parts parts = {0};
    infer_vocab_view view = {0};
    infer_splitter *splitter;
    infer_error err = {0};
    pieces found = {0};
    cr_assert(infer_pretokenizer_by_name(name, strlen(name), &parts), "%s", name);
    view.patterns = parts.patterns ? parts.patterns : infer_vocab_known_patterns(parts.pretokenizer, &view.pattern_count);
    view.pattern_count = parts.patterns ? parts.pattern_count : view.pattern_count;
    cr_assert_eq(infer_splitter_open(NULL, &view, name, &splitter, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_split(splitter, text, strlen(text), add_piece, &found, &err), INFER_OK, "%s", err.message);
    cr_expect_str_eq(found.text, expected, "%s: found \"%s\", expected \"%s\"", name, found.text, expected);
    infer_splitter_close(splitter);
}

/* Each name of a family cuts as the first one does. */
static void expect_family(const char *const *names, const char *text, const char *expected)
{
    for (; *names; names++)
        expect_pieces(*names, text, expected);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

Test(pretokenizers, words_and_numbers)
{
    static const char text[] = "I'M it's 12345 x_y!\n\n  z";
    expect_family(NAMES("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "mellum", "exaone4", "modern-bert"), text,
                  "I" CUT "'" CUT "M" CUT " it" CUT "'s" CUT " 12345" CUT " x" CUT "_" CUT "y" CUT "!" CUT "\n\n " CUT " z");
    expect_family(NAMES("llama-bpe", "llama3", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "pixtral", "lfm2", "jina-v5-nano"), text,
                  "I" CUT "'M" CUT " it" CUT "'s" CUT " " CUT "123" CUT "45" CUT " x" CUT "_y" CUT "!\n\n" CUT " " CUT " z");
    expect_family(
        NAMES("qwen2", "stablelm2", "megrez", "deepseek-r1-qwen", "kormo", "f2llmv2", "hunyuan", "grok-2", "solar-open", "qwen35"), text,
        "I" CUT "'M" CUT " it" CUT "'s" CUT " " CUT "1" CUT "2" CUT "3" CUT "4" CUT "5" CUT " x" CUT "_y" CUT "!\n\n" CUT " " CUT " z");
    expect_family(NAMES("seed-coder"), text,
                  "I" CUT "'M" CUT " it" CUT "'s" CUT " " CUT "1" CUT "2" CUT "3" CUT "4" CUT "5" CUT " x" CUT "_y" CUT "!" CUT "\n\n" CUT
                  " " CUT " z");
    expect_family(NAMES("bailingmoe", "bailingmoe2", "llada-moe"), text,
                  "I" CUT "'M" CUT " it" CUT "'s" CUT " " CUT "1" CUT "2" CUT "3" CUT "4" CUT "5" CUT " x" CUT "_y" CUT "!\n\n" CUT " " CUT
                  " z");
    expect_family(NAMES("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"), text,
                  "I" CUT "'" CUT "M" CUT " it" CUT "'s" CUT " " CUT "1" CUT "2" CUT "3" CUT "4" CUT "5" CUT " x" CUT "_" CUT "y" CUT
                  "!" CUT "\n\n " CUT " z");
    expect_family(NAMES("deepseek-v3", "hunyuan-dense", "joyai-llm"), text,
                  "I" CUT "'M" CUT " it" CUT "'s" CUT " " CUT "123" CUT "45" CUT " x" CUT "_y" CUT "!\n\n" CUT " " CUT " z");
    expect_family(NAMES("superbpe"), text, "I'M it's " CUT "12" CUT "345" CUT " x_y!\n\n  z");
}

static infer_status count_piece(void *user, const char *piece, size_t n)
{
    size_t *count = user;
    cr_assert(n == 3 || (n == 2 && *count == 0), "piece %zu \"%.*s\"", *count, (int)n, piece);
    ++*count;
    return INFER_OK;
}

/* In time that grows as the number does. */
static void expect_long_number(void)
{
    enum { DIGITS = 300000 * 3 + 2 };
    infer_vocab_parts parts = {0};
    infer_vocab_view view = {0};
    infer_splitter *splitter;
    infer_error err = {0};
    char *text = malloc(DIGITS);
    size_t count = 0;
    cr_assert_not_null(text);
    memset(text, '7', DIGITS);
    cr_assert(infer_pretokenizer_by_name("superbpe", 8, &parts));
    view.patterns = parts.patterns;
    view.pattern_count = parts.pattern_count;
    cr_assert_eq(infer_splitter_open(NULL, &view, "superbpe", &splitter, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_split(splitter, text, DIGITS, count_piece, &count, &err), INFER_OK, "%s", err.message);
    cr_expect_eq(count, 300001);
    infer_splitter_close(splitter);
    free(text);
}

Test(pretokenizers, digits_in_threes_from_the_right)
{
    expect_pieces("superbpe", "1 12 123 1234 123456 1234567.5",
                  "1" CUT " " CUT "12" CUT " " CUT "123" CUT " " CUT "1" CUT "234" CUT " " CUT "123" CUT "456" CUT " " CUT "1" CUT "234" CUT
                  "567" CUT "." CUT "5");
    expect_long_number();
}

/* Marks that follow letters; line feeds one by one. */
Test(pretokenizers, marks_and_line_feeds)
{
    expect_pieces("qwen2",
                  "a\xcc\x81"
                  "b\n\nc",
                  "a" CUT "\xcc\x81"
                  "b" CUT "\n\n" CUT "c");
    expect_pieces("qwen35",
                  "a\xcc\x81"
                  "b\n\nc",
                  "a\xcc\x81"
                  "b" CUT "\n\n" CUT "c");
    expect_pieces("bailingmoe", "ab \n\nc", "ab" CUT " \n\n" CUT "c");
}

Test(pretokenizers, cases)
{
    static const char text[] = "camelCase HTTPServer's 1234 a/b//";
    expect_family(NAMES("gpt-4o", "llama4", "minimax-m2", "kanana2", "talkie"), text,
                  "camel" CUT "Case" CUT " HTTPServer's" CUT " " CUT "123" CUT "4" CUT " a" CUT "/b" CUT "//");
    expect_pieces("tekken", text,
                  "camel" CUT "Case" CUT " HTTPServer" CUT "'s" CUT " " CUT "1" CUT "2" CUT "3" CUT "4" CUT " a" CUT "/b" CUT "//");
    expect_pieces("kimi-k2", text, "camel" CUT "Case" CUT " HTTPServer's" CUT " " CUT "123" CUT "4" CUT " a" CUT "/b" CUT "//");
}

/* A run of Chinese characters is a piece, for Kimi without the marks that Chinese shares with other scripts: U+6C49 U+5B57, U+3001, U+6C49.
 */
Test(pretokenizers, chinese)
{
    static const char text[] = "ab\xe6\xb1\x89\xe5\xad\x97\xe3\x80\x81\xe6\xb1\x89"
                               "c";
    expect_pieces("gpt-4o", text,
                  "ab\xe6\xb1\x89\xe5\xad\x97" CUT "\xe3\x80\x81\xe6\xb1\x89"
                  "c");
    expect_pieces("kimi-k2", text, "ab" CUT "\xe6\xb1\x89\xe5\xad\x97" CUT "\xe3\x80\x81" CUT "\xe6\xb1\x89" CUT "c");
    expect_pieces("deepseek-v3", text, "ab" CUT "\xe6\xb1\x89\xe5\xad\x97" CUT "\xe3\x80\x81" CUT "\xe6\xb1\x89" CUT "c");
}

Test(pretokenizers, lines_and_threes)
{
    expect_family(NAMES("gemma4", "granite-embed-multi-311m", "sarvam-moe"), "a b\n\n c1", "a b" CUT "\n\n" CUT " c1");
    expect_pieces("whitespace", "ab  c", "ab" CUT "  " CUT "c");
    expect_pieces("laguna", "it's 12 \n", "it" CUT "'s" CUT " " CUT "1" CUT "2" CUT " " CUT "\n");
    expect_pieces("ufakzeka", "it's 12 \n", "it" CUT "'s" CUT " " CUT "1" CUT "2" CUT " \n");
    expect_pieces("minicpm5", "x 12345", "x" CUT " " CUT "123" CUT "45");
    expect_pieces("mellum2", "x 123", "x" CUT " " CUT "1" CUT "2" CUT "3");
    expect_pieces("afmoe", "x 12345 1234567", "x" CUT " " CUT "12" CUT "345" CUT " " CUT "1" CUT "234" CUT "567");
    expect_family(NAMES("tiny_aya", "cohere2moe"), "1234 aB's", "1" CUT "234" CUT " a" CUT "B's");
    expect_pieces("jais-2", "a       b", "a" CUT "    " CUT "  " CUT " b"); /* 7 spaces: 4 and 2, and one that goes with the word */
    expect_pieces("exaone-moe", "ab cd\n\n1", "ab cd" CUT "\n\n" CUT "1");
    expect_pieces("granite-embed-multi-97m", "camelCase's 1234", "camel" CUT "Case's" CUT " " CUT "123" CUT "4");
    expect_pieces("youtu", "aB 12\xe6\xb1\x89\xe3\x80\x81z",
                  "a" CUT "B" CUT " " CUT "1" CUT "2" CUT "\xe6\xb1\x89" CUT "\xe3\x80\x81" CUT "z");
    expect_pieces("hy_v4", "x1234", "x" CUT "123" CUT "4");
}

Test(pretokenizers, names)
{
    infer_vocab_parts parts = {0};
    cr_expect_not(infer_pretokenizer_by_name("gpt", 3, &parts));
    cr_expect_not(infer_pretokenizer_by_name("gpt-2 phi-2", 11, &parts));
    cr_expect_not(infer_pretokenizer_by_name("", 0, &parts));
}
