/* Real checkpoints, the whole way: import, quantize, write, map, plan, run, text. */
#include "models.h"

#include "cpu.h"
#include "emulate/full_logits.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORIES "models/stories260K/stories260K.bin"
#define STORIES_GGUF "models/stories260K/stories260Ktok512.gguf"
#define STORIES_TOKENIZER "models/stories260K/tok512.bin"
#define BITLLAMA "models/bitllama-ternary/bit_model_3M.bin"
#define TINY_GGUF "models/tinystories-656K/TinyStories-656K-Q8_0.gguf"

TestSuite(story, .fini = models_clean);

static const char *need(const char *path)
{
    if (!path)
        cr_skip_test("test data is absent");
    return path;
}

Test(story, f32_greedy_text_is_the_reference)
{
    const char *path = need(model_converted(STORIES, STORIES_TOKENIZER, "f32")),
               *reference = check_data("reference/stories260K.f32.once.n200.txt");
    size_t bytes;
    char *expected = check_read(reference, &bytes), *text;
    cr_assert_not_null(expected);
    while (bytes && expected[bytes - 1] == '\n')
        expected[--bytes] = 0;
    /* The reference run made 200 steps in all, the prompt's 12 tokens among them. */
    text = model_greedy(path, &(model_settings){0}, "Once upon a time, there was a little dog", 188);
    cr_expect_str_eq(text, expected);
    free(text);
    free(expected);
}

/* The float32 rows of a .npy file (version 1, little-endian, C order): returns the data, fills the shape. */
static float *read_npy(const char *path, uint32_t *rows, uint32_t *cols, char **file)
{
    size_t bytes, header;
    *file = check_read(path, &bytes);
    cr_assert(*file && bytes > 10 && memcmp(*file, "\x93NUMPY\x01", 7) == 0);
    header = 10u + (uint8_t)(*file)[8] + 256u * (uint8_t)(*file)[9];
    cr_assert_eq(sscanf(strstr(*file + 10, "'shape': (") + 10, "%u, %u", rows, cols), 2);
    cr_assert_geq(bytes, header + sizeof(float) * *rows * *cols);
    return (float *)(void *)(*file + header);
}

static int32_t *read_ids(const char *path, size_t *count)
{
    size_t bytes;
    char *text = check_read(path, &bytes);
    cJSON *list = cJSON_Parse(text), *item;
    int32_t *ids = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *ids);
    *count = 0;
    cJSON_ArrayForEach(item, list) ids[(*count)++] = item->valueint;
    cJSON_Delete(list);
    free(text);
    return ids;
}

/* Largest difference between our logits and a float64 forward pass, over all positions. */
static float logits_error(const char *model, const char *name, infer_kv_type kv)
{
    char file[256], *memory;
    uint32_t rows, cols;
    float *expected, worst = 0;
    size_t count;
    int32_t *ids;
    model_open m;
    infer_error err = {0};
    snprintf(file, sizeof file, "reference/%s.logits_f64.npy", name);
    expected = read_npy(need(check_data(file)), &rows, &cols, &memory);
    snprintf(file, sizeof file, "reference/%s.logits_ids.json", name);
    ids = read_ids(need(check_data(file)), &count);
    cr_assert_eq(count, rows);
    m = model_start(model, &(model_settings){.logit_rows = rows, .kv = kv});
    cr_assert_eq(infer_model_vocab_size(m.model), cols);
    cr_assert_eq(infer_session_eval(m.session, ids, count, INFER_LOGITS_ALL, &err), INFER_OK, "%s", err.message);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < cols; c++)
            worst = fmaxf(worst, fabsf(infer_session_logits(m.session, r)[c] - expected[(size_t)r * cols + c]));
    model_stop(&m);
    free(ids);
    free(memory);
    return worst;
}

Test(story, f32_logits_match_float64)
{
    const char *path = need(model_converted(STORIES, STORIES_TOKENIZER, "f32"));
    float f32 = logits_error(path, "stories260K", INFER_KV_F32), f16 = logits_error(path, "stories260K", INFER_KV_F16),
          q8 = logits_error(path, "stories260K", INFER_KV_Q8);
    cr_log_info("largest difference of a logit: kv f32 %.2e, kv f16 %.2e, kv q8 %.2e", f32, f16, q8);
    cr_expect_leq(f32, 1e-3f);
    cr_expect_leq(f16, 5e-2f); /* 11-bit keys and values */
    cr_expect_leq(q8, 1.5f);   /* 8-bit keys, values and queries: the worst of all logits, which differ by tens; the NLL moves by 0.002 */
}

/* Largest difference between the logits of two models, over `count` positions. */
static float logits_apart(const char *a, const char *b, const int32_t *ids, size_t count)
{
    model_settings s = {.logit_rows = (uint32_t)count, .kv = INFER_KV_F32};
    model_open x = model_start(a, &s), y = model_start(b, &s);
    infer_error err = {0};
    float worst = 0;
    cr_assert_eq(infer_model_vocab_size(x.model), infer_model_vocab_size(y.model));
    cr_assert_eq(infer_session_eval(x.session, ids, count, INFER_LOGITS_ALL, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_session_eval(y.session, ids, count, INFER_LOGITS_ALL, &err), INFER_OK, "%s", err.message);
    for (uint32_t r = 0; r < count; r++)
        for (uint32_t v = 0; v < infer_model_vocab_size(x.model); v++)
            worst = fmaxf(worst, fabsf(infer_session_logits(x.session, r)[v] - infer_session_logits(y.session, r)[v]));
    model_stop(&x);
    model_stop(&y);
    return worst;
}

/* Two files of one model, in float32: the same logits to float rounding. The GGUF of tinystories-656K holds its numbers in Q8_0, so those
 * of the folder are rounded likewise, by the test; what is left is all that two importers could do differently. */
Test(story, both_forms_of_a_model_give_the_same_logits)
{
    static const struct { const char *name, *one, *tokenizer, *gguf; } models[] = {
        {"stories260K", STORIES, STORIES_TOKENIZER, STORIES_GGUF}, {"tinystories-656K", "models/tinystories-656K", NULL, TINY_GGUF}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const char *one = need(i ? model_rounded_q8_0(models[i].one) : model_converted(models[i].one, models[i].tokenizer, "f32")),
                   *gguf = need(model_converted(models[i].gguf, models[i].tokenizer, "f32"));
        char file[64];
        size_t count;
        int32_t *ids;
        float apart;
        snprintf(file, sizeof file, "reference/%s.logits_ids.json", models[i].name);
        ids = read_ids(need(check_data(file)), &count);
        apart = logits_apart(one, gguf, ids, count);
        cr_log_info("%s: largest difference of a logit %.2e", models[i].name, apart);
        cr_expect_leq(apart, 2e-5f);
        free(ids);
    }
}

/* The GGUF has the same numbers rounded to 8 bits, which formats import compares one by one: its logits move by as much as that rounding
 * moves them. */
Test(story, folder_and_gguf_are_the_same_model)
{
    const char *folder = need(model_converted("models/tinystories-656K", NULL, "f32")),
               *gguf = need(model_converted(TINY_GGUF, NULL, "f32"));
    float exact = logits_error(folder, "tinystories-656K", INFER_KV_F32), rounded = logits_error(gguf, "tinystories-656K", INFER_KV_F32);
    cr_log_info("largest difference of a logit: folder %.2e, GGUF %.2e", exact, rounded);
    cr_expect_leq(exact, 1e-4f);
    cr_expect_leq(rounded, 0.5f);
}

/* The golden texts come from another runtime, which rounds activations to int8 in its own way. With float activations (the same file
 * dequantized to f32) we write the golden text to the letter. With int8 activations our most likely token is the same one, or the two are
 * closer than what int8 rounding moves the logits at that place: the f32 run tells how far. */
Test(story, q8_0_gguf_follows_the_golden_text)
{
    const char *q8_path = need(model_converted(TINY_GGUF, NULL, "q8g32")), *f32_path = need(model_converted(TINY_GGUF, NULL, "f32"));
    char *json = check_read(need(check_data("reference/tinystories-656K.llamacpp-golden.json")), &(size_t){0});
    cJSON *list = cJSON_Parse(json), *item;
    cr_assert_not_null(list);
    cJSON_ArrayForEach(item, list)
    {
        model_open q8 = model_start(q8_path, &(model_settings){0}), f32 = model_start(f32_path, &(model_settings){0});
        uint32_t vocab = infer_model_vocab_size(q8.model), parted = 0;
        const char *prompt = cJSON_GetObjectItem(item, "prompt")->valuestring, *golden = cJSON_GetObjectItem(item, "text")->valuestring;
        int32_t ids[64];
        size_t n = 0, steps = (size_t)cJSON_GetObjectItem(item, "new_tokens")->valueint;
        char *text = model_greedy(f32_path, &(model_settings){0}, prompt, steps);
        infer_error err = {0};
        cr_expect(strncmp(text, prompt, strlen(prompt)) == 0 && strncmp(text + strlen(prompt), golden, strlen(golden)) == 0,
                  "float activations write \"%s\", expected \"%s%s\"", text, prompt, golden);
        free(text);
        cr_assert_eq(infer_model_tokenize(q8.model, prompt, strlen(prompt), INFER_TOKENIZE_BOS, ids, 64, &n, &err), INFER_OK, "%s",
                     err.message);
        for (size_t i = 0; i < steps; i++) {
            const float *ours, *exact;
            int32_t best;
            float moved = 0;
            cr_assert_eq(infer_session_eval(q8.session, ids, n, INFER_LOGITS_LAST, &err), INFER_OK, "%s", err.message);
            cr_assert_eq(infer_session_eval(f32.session, ids, n, INFER_LOGITS_LAST, &err), INFER_OK, "%s", err.message);
            ours = infer_session_logits(q8.session, 0);
            exact = infer_session_logits(f32.session, 0);
            best = infer_argmax(ours, vocab);
            ids[0] = infer_argmax(exact, vocab); /* both go on with the golden token */
            n = 1;
            if (best == ids[0])
                continue;
            for (uint32_t v = 0; v < vocab; v++)
                moved = fmaxf(moved, fabsf(ours[v] - exact[v]));
            parted++;
            cr_expect_leq(ours[best] - ours[ids[0]], 2 * moved);
            cr_log_info("\"%s\": token %zu: %d beats the golden %d by %.3f; int8 rounding moves logits by up to %.3f", prompt, i, best,
                        ids[0], ours[best] - ours[ids[0]], moved);
        }
        cr_expect_leq(parted, 2, "\"%s\": parts at %u of %zu tokens", prompt, parted, steps);
        model_stop(&q8);
        model_stop(&f32);
    }
    cJSON_Delete(list);
    free(json);
}

/* All logits of a fixed text, hashed bit by bit. */
static uint64_t logits_bits(const char *path, const model_settings *settings, size_t step)
{
    static const char text[] = "Once upon a time, there was a little dog named Max. Max loved to play with his toys and run around.";
    model_settings s = *settings;
    model_open m;
    int32_t ids[64];
    size_t n = 0, need_n = 0;
    uint64_t hash = 1469598103934665603ull;
    infer_error err = {0};
    s.logit_rows = 64;
    m = model_start(path, &s);
    infer_model_tokenize(m.model, text, sizeof text - 1, INFER_TOKENIZE_BOS, ids, 64, &need_n, &err);
    n = need_n < 64 ? need_n : 64;
    for (size_t i = 0; i < n; i += step) {
        size_t k = n - i < step ? n - i : step;
        cr_assert_eq(infer_session_eval(m.session, ids + i, k, INFER_LOGITS_ALL, &err), INFER_OK, "%s", err.message);
        for (size_t r = 0; r < k; r++) {
            const float *logits = infer_session_logits(m.session, r);
            for (uint32_t v = 0; v < infer_model_vocab_size(m.model); v++) {
                uint32_t bits;
                memcpy(&bits, &logits[v], sizeof bits);
                hash = (hash ^ bits) * 1099511628211ull;
            }
        }
    }
    model_stop(&m);
    return hash;
}

/* The same numbers as on the CPUs of tests/emulate, through file, session and threads. */
Test(story, logits_are_those_of_every_architecture)
{
    uint32_t levels = infer_cpu_levels_here();
    int32_t ids[FULL_LOGITS_TOKENS];
    for (uint32_t i = 0; i < FULL_LOGITS_TOKENS; i++)
        ids[i] = full_logits_id(i);
    for (size_t t = 0; t < sizeof full_logits_expected / sizeof *full_logits_expected; t++) {
        const char *type = infer_qtype_find(full_logits_expected[t].type)->name;
        infer_kv_type kv = full_logits_expected[t].kv == INFER_QTYPE_F32 ? INFER_KV_F32 : INFER_KV_F16;
        const char *path = need(model_converted(STORIES, STORIES_TOKENIZER, type));
        for (infer_cpu_level level = 0; level < INFER_CPU_LEVEL_COUNT; level++) {
            infer_error err = {0};
            model_open m;
            uint64_t hash;
            if (!(levels >> level & 1))
                continue;
            m = model_start(
                path, &(model_settings){.level = infer_cpu_level_name(level), .threads = 2, .logit_rows = FULL_LOGITS_TOKENS, .kv = kv});
            cr_assert_eq(infer_session_eval(m.session, ids, FULL_LOGITS_TOKENS, INFER_LOGITS_ALL, &err), INFER_OK, "%s", err.message);
            hash = full_logits_hash(infer_session_logits(m.session, 0), (size_t)FULL_LOGITS_TOKENS * FULL_LOGITS_VOCAB);
            cr_expect_eq(hash, full_logits_expected[t].hash, "%s, cache %d, at %s: found %016llx", type, (int)kv,
                         infer_cpu_level_name(level), (unsigned long long)hash);
            model_stop(&m);
        }
    }
}

Test(story, same_bits_at_every_level_thread_count_and_batch)
{
    static const struct { const char *name, *tokenizer, *type; } models[] = {
        {STORIES, STORIES_TOKENIZER, "f32"}, {STORIES, STORIES_TOKENIZER, "q8g32"}, {STORIES, STORIES_TOKENIZER, "q4g32"},
        {TINY_GGUF, NULL, "f32"}, {TINY_GGUF, NULL, "q8g32"}, {TINY_GGUF, NULL, "q4g32"}, {BITLLAMA, NULL, NULL}};
    static const infer_kv_type kvs[] = {INFER_KV_AUTO, INFER_KV_Q8};
    static const struct {
        uint32_t threads, batch;
        size_t step;
    } cases[] = {{1, 64, 64}, {2, 64, 64}, {4, 64, 64}, {1, 64, 1}, {2, 7, 64}, {4, 3, 5}};
    uint32_t levels = infer_cpu_levels_here();
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const char *path = need(model_converted(models[i].name, models[i].tokenizer, models[i].type));
        for (int kv = 0; kv < 2; kv++) {
            uint64_t expected = logits_bits(path, &(model_settings){.level = "ref", .threads = 1, .batch = 64, .kv = kvs[kv]}, 64);
            for (infer_cpu_level level = 0; level < INFER_CPU_LEVEL_COUNT; level++)
                for (size_t c = 0; levels >> level & 1 && c < sizeof cases / sizeof *cases; c++) {
                    model_settings s = {
                        .level = infer_cpu_level_name(level), .threads = cases[c].threads, .batch = cases[c].batch, .kv = kvs[kv]};
                    cr_expect_eq(logits_bits(path, &s, cases[c].step), expected, "%s %s at %s, kv %d, %u threads, batch %u, %zu at a time",
                                 models[i].name, models[i].type ? models[i].type : "as stored", s.level, kvs[kv], s.threads, s.batch,
                                 cases[c].step);
                }
        }
    }
}

Test(story, gguf_and_bin_are_the_same_model)
{
    const char *a = need(model_converted(STORIES, STORIES_TOKENIZER, "q4g32")),
               *b = need(model_converted(STORIES_GGUF, STORIES_TOKENIZER, "q4g32"));
    cr_expect_eq(logits_bits(a, &(model_settings){.context = 64}, 64), logits_bits(b, &(model_settings){.context = 64}, 64));
}

Test(story, rewinding_repeats_the_bits)
{
    const char *path = need(model_converted(STORIES, STORIES_TOKENIZER, "q8g32"));
    model_open m = model_start(path, &(model_settings){0});
    int32_t ids[] = {1, 403, 407, 261, 378, 432};
    float first[512];
    cr_assert_eq(infer_session_eval(m.session, ids, 6, INFER_LOGITS_LAST, NULL), INFER_OK);
    memcpy(first, infer_session_logits(m.session, 0), sizeof first);
    cr_assert_eq(infer_session_eval(m.session, ids, 6, INFER_LOGITS_LAST, NULL), INFER_OK);
    cr_assert_eq(infer_session_position(m.session), 12);
    cr_assert_eq(infer_session_rewind(m.session, 13, NULL), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_session_rewind(m.session, 3, NULL), INFER_OK);
    cr_assert_eq(infer_session_eval(m.session, ids + 3, 3, INFER_LOGITS_LAST, NULL), INFER_OK);
    cr_expect_eq(memcmp(first, infer_session_logits(m.session, 0), sizeof first), 0);
    model_stop(&m);
}

Test(story, text_to_tokens_and_back)
{
    static const char text[] = "Once upon a time, there was a caf\xc3\xa9.";
    const char *path = need(model_converted(STORIES, STORIES_TOKENIZER, "q8g32"));
    model_open m = model_start(path, &(model_settings){0});
    int32_t ids[64];
    char back[64];
    size_t n = 0, bytes = 0;
    infer_error err = {0};
    cr_assert_eq(infer_model_tokenize(m.model, text, strlen(text), INFER_TOKENIZE_BOS, ids, 64, &n, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_model_detokenize(m.model, ids, n, back, sizeof back, &bytes, &err), INFER_OK, "%s", err.message);
    cr_expect(bytes == strlen(text) && memcmp(back, text, bytes) == 0);
    bytes = 0;
    cr_expect_eq(infer_model_detokenize(m.model, ids, n, NULL, 0, &bytes, &err), INFER_ERROR_ARGUMENT);
    cr_expect_eq(bytes, strlen(text), "what it needs");
    cr_expect_eq(infer_model_detokenize(m.model, ids, 0, NULL, 0, &bytes, &err), INFER_OK);
    cr_expect_eq(bytes, 0);
    for (int i = 0; i < 2; i++) {
        ids[1] = i ? -1 : (int32_t)infer_model_vocab_size(m.model);
        bytes = 77;
        cr_expect_eq(infer_model_detokenize(m.model, ids, n, back, sizeof back, &bytes, &err), INFER_ERROR_ARGUMENT);
        cr_expect(bytes == 77 && strstr(err.message, "token 1"), "%s", err.message);
    }
    cr_expect_eq(infer_model_detokenize(NULL, ids, n, back, sizeof back, &bytes, &err), INFER_ERROR_ARGUMENT);
    cr_expect_eq(infer_model_detokenize(m.model, ids, n, back, sizeof back, NULL, &err), INFER_ERROR_ARGUMENT);
    model_stop(&m);
}

Test(story, no_tokenizer_is_unsupported)
{
    model_open m = model_start(model_random(1 << 16), &(model_settings){0});
    char back[8];
    size_t bytes = 0;
    int32_t id = 1;
    infer_decoder *decoder = NULL;
    cr_expect_eq(infer_model_detokenize(m.model, &id, 1, back, sizeof back, &bytes, NULL), INFER_ERROR_UNSUPPORTED);
    cr_expect_eq(infer_model_tokenize(m.model, "a", 1, 0, &id, 1, &bytes, NULL), INFER_ERROR_UNSUPPORTED);
    cr_expect_eq(infer_decoder_create(m.model, &decoder, NULL), INFER_ERROR_UNSUPPORTED);
    cr_expect(!decoder);
    model_stop(&m);
}
