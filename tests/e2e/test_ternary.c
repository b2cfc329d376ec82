/* The real ternary checkpoint, and the story that its authors' program wrote with it.
 *
 * That program rounds all activations of a token by one scale, which makes the last bit of a float large: on the other side of half a code
 * it moves logits by a tenth. At four of the 256 tokens the two best words are nearer than that, and no exact result says which one comes:
 * a float64 forward pass without that rounding prefers another word at token 166, by 0.016; one with it at token 223, by 0.014; of 30 whose
 * embeddings differ at random by 6e-8, one wrote the whole story; and the program itself writes another one when its compiler may fuse
 * products and sums. So the story is held against its own arithmetic, operation by operation (ternary.c), with the weights that our
 * importer finds: there it comes out to the last token. The runtime, whose activations have finer scales, must agree wherever the last bit
 * does not decide. */
#include "models.h"
#include "ternary.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BITLLAMA "models/bitllama-ternary/bit_model_3M.bin"
#define TOKENS 256u

TestSuite(ternary, .fini = models_clean);

/* The story, without the program's own messages: the first three and the last lines. To be freed. */
static char *read_story(void)
{
    const char *path = check_data("reference/bitllama-3M.greedy.empty.n256.txt");
    char *all, *start, *end;
    if (!path)
        cr_skip_test("test data is absent");
    all = check_read(path, &(size_t){0});
    start = all ? strstr(all, "Once upon") : NULL;
    end = start ? strstr(start, "\nTotal Time") : NULL;
    cr_assert_not_null(end);
    *end = '\0';
    memmove(all, start, strlen(start) + 1);
    return all;
}

/* The begin token and the story's. */
static void story_ids(const model_open *m, int32_t ids[TOKENS + 1])
{
    char *text = read_story();
    infer_error err = {0};
    size_t n = 0;
    cr_assert_eq(infer_model_tokenize(m->model, text, strlen(text), INFER_TOKENIZE_BOS, ids, TOKENS + 1, &n, &err), INFER_OK, "%s",
                 err.message);
    cr_assert_eq(n, TOKENS + 1);
    free(text);
}

static const char *converted(const char *type)
{
    const char *path = model_converted(BITLLAMA, NULL, type);
    if (!path)
        cr_skip_test("test data is absent");
    return path;
}

/* The largest difference between two rows. */
static float distance(const float *a, const float *b, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(a[i] - b[i]));
    return most;
}

/* By how much the most likely token leads over `other`; 0: it is the one. */
static float lead(const float *logits, size_t vocab, int32_t other)
{
    return logits[infer_argmax(logits, (uint32_t)vocab)] - logits[other];
}

/* By how much `id` leads over all others; below 0: it does not. */
static float margin(const float *logits, size_t vocab, int32_t id)
{
    float most = -INFINITY;
    for (size_t i = 0; i < vocab; i++)
        most = (int32_t)i != id ? fmaxf(most, logits[i]) : most;
    return logits[id] - most;
}

/* The story's ids, and the logits of its own arithmetic before each token, as it is and with the next larger embeddings. */
typedef struct story {
    int32_t ids[TOKENS + 1];
    size_t vocab;
    float *exact, *nudged; /* [TOKENS][vocab] */
} story;

static story tell(void)
{
    model_open m = model_start(converted("f32"), &(model_settings){0});
    story s;
    story_ids(&m, s.ids);
    model_stop(&m);
    s.exact = ternary_logits(check_data(BITLLAMA), s.ids, TOKENS, false, &s.vocab);
    s.nudged = ternary_logits(check_data(BITLLAMA), s.ids, TOKENS, true, &s.vocab);
    return s;
}

static void forget(story *s)
{
    free(s->exact);
    free(s->nudged);
}

Test(ternary, its_own_arithmetic_writes_the_story_to_the_last_token)
{
    story s = tell();
    for (size_t i = 0; i < TOKENS; i++)
        cr_expect_eq(infer_argmax(s.exact + i * s.vocab, (uint32_t)s.vocab), s.ids[i + 1], "token %zu", i);
    forget(&s);
}

Test(ternary, the_last_bit_of_the_embeddings_decides_some_words)
{
    story s = tell();
    unsigned parted = 0;
    for (size_t i = 0; i < TOKENS; i++)
        if (lead(s.nudged + i * s.vocab, s.vocab, s.ids[i + 1]) > 0) {
            parted++;
            cr_log_info("token %zu: another leads by %.4f, before by %.4f less", i,
                        (double)lead(s.nudged + i * s.vocab, s.vocab, s.ids[i + 1]),
                        (double)margin(s.exact + i * s.vocab, s.vocab, s.ids[i + 1]));
        }
    cr_expect(parted > 0 && parted < 8, "found %u", parted);
    forget(&s);
}

/* Given the story, we find its words the most likely ones, but for two at most where the last bit decides: there its lead in its own
 * arithmetic and the other word's in ours are together no more than what that bit moves two logits by. */
static void expect_agreement(const story *s, const char *type, infer_kv_type kv)
{
    model_open m = model_start(converted(type), &(model_settings){.logit_rows = TOKENS, .kv = kv});
    unsigned parted = 0;
    infer_error err = {0};
    cr_assert_eq(infer_model_vocab_size(m.model), s->vocab);
    cr_assert_eq(infer_session_eval(m.session, s->ids, TOKENS, INFER_LOGITS_ALL, &err), INFER_OK, "%s", err.message);
    for (uint32_t i = 0; i < TOKENS; i++) {
        const float ours = lead(infer_session_logits(m.session, i), s->vocab, s->ids[i + 1]);
        const float own = margin(s->exact + i * s->vocab, s->vocab, s->ids[i + 1]);
        const float moved = distance(s->exact + i * s->vocab, s->nudged + i * s->vocab, s->vocab);
        if (ours == 0)
            continue;
        parted++;
        cr_log_info("%s, token %u: another leads by %.4f, the story's by %.4f in its arithmetic, whose last bit moves logits by up to %.4f",
                    type ? type : "as stored", i, (double)ours, (double)own, (double)moved);
        cr_expect_leq(ours + own, 2 * moved, "token %u: another leads by %g", i, (double)ours);
    }
    cr_expect_leq(parted, 2, "parts at %u tokens", parted);
    model_stop(&m);
}

Test(ternary, we_agree_wherever_the_last_bit_does_not_decide)
{
    story s = tell();
    expect_agreement(&s, "f32", INFER_KV_F32);
    expect_agreement(&s, NULL, INFER_KV_F32);
    expect_agreement(&s, NULL, INFER_KV_AUTO);
    forget(&s);
}

/* Left to itself it writes the same text until two tokens are as good as equally likely. */
Test(ternary, the_runtime_tells_the_story_to_such_a_word)
{
    const char *path = converted(NULL);
    char *expected = read_story(), *parting = strstr(expected, ", mommy.\"\nHer mommy smiled"), *text;
    cr_assert_not_null(parting);
    text = model_greedy(path, &(model_settings){.kv = INFER_KV_F32}, "", TOKENS - 1);
    cr_expect(strncmp(text, expected, (size_t)(parting - expected)) == 0, "found \"%s\"", text);
    free(text);
    free(expected);
}
