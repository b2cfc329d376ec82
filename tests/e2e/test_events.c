/* Events: what is silent is skipped, with the same bits everywhere; without them nothing changes. */
#include "models.h"

#include "model/model.h"

#include <criterion/criterion.h>
#include <infer/infer_experimental.h>
#include <math.h>
#include <string.h>

TestSuite(events, .fini = models_clean);

enum { TOKENS = 40 };
static const char bin[] = "models/stories260K/stories260K.bin", tok[] = "models/stories260K/tok512.bin";

/* Thresholds for all matrices in the layout cols: not calibrated, so that the test needs no text. */
static void add_thresholds(infer_model *model)
{
    size_t tensors = infer_file_tensor_count(model->file);
    infer_events *e = &model->events;
    *e = (infer_events){.target = 0.5, .rates = 2, .rate = {0.5, 0.9}};
    e->thresholds = infer_alloc_array(&model->rt->allocator, tensors * e->rates, sizeof *e->thresholds);
    cr_assert(e->thresholds);
    for (size_t i = 0; i < tensors; i++) {
        e->thresholds[i * 2] = 0.3f;
        e->thresholds[i * 2 + 1] = 0.8f;
    }
}

/* Logits of all tokens, in batches of `batch`, at this rate. */
static void logits_at(const char *path, model_settings s, double rate, float *out, infer_events_stats *stats)
{
    model_open m;
    int32_t ids[TOKENS];
    uint32_t vocab, batch = s.batch;
    infer_error err = {0};
    s.logit_rows = TOKENS;
    m = model_start(path, &s);
    vocab = infer_model_vocab_size(m.model);
    add_thresholds(m.model);
    cr_assert_eq(infer_session_set_events(m.session, rate, &err), INFER_OK, "%s", err.message);
    for (uint32_t i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(i * i * 7 + 3) % (int32_t)vocab;
    for (uint32_t i = 0; i < TOKENS; i += batch) {
        uint32_t n = TOKENS - i < batch ? TOKENS - i : batch;
        cr_assert_eq(infer_session_eval(m.session, ids + i, n, INFER_LOGITS_ALL, &err), INFER_OK, "%s", err.message);
        memcpy(out + (size_t)i * vocab, infer_session_logits(m.session, 0), (size_t)n * vocab * sizeof *out);
    }
    infer_session_events_stats(m.session, stats);
    model_stop(&m);
}

Test(events, the_same_bits_at_every_level_thread_count_and_batch)
{
    static float want[TOKENS * 512], exact[TOKENS * 512], found[TOKENS * 512];
    infer_events_stats stats, other;
    for (int t = 0; t < 2; t++) {
        const char *path = model_converted(bin, tok, t ? "q8g64" : "q4g64");
        if (!path)
            cr_skip_test("models/stories260K is not there");
        logits_at(path, (model_settings){.level = "ref", .threads = 1, .batch = 1}, 0.5, want, &stats);
        cr_assert_eq(stats.tokens, TOKENS);
        cr_assert(stats.silent > stats.inputs / 10 && stats.silent < stats.inputs, "%llu of %llu silent", (unsigned long long)stats.silent,
                  (unsigned long long)stats.inputs);
        cr_assert(stats.bytes_skipped > 0 && stats.bytes_read > 0);
        for (uint32_t level = 0; level < INFER_CPU_LEVEL_COUNT; level++) {
            if (!(infer_cpu_levels_here() >> level & 1))
                continue;
            for (uint32_t batch = 1; batch <= 33; batch += 8) {
                model_settings s = {.level = infer_cpu_level_name((infer_cpu_level)level), .threads = 1 + batch % 3, .batch = batch};
                logits_at(path, s, 0.5, found, &other);
                cr_assert_eq(memcmp(found, want, sizeof want), 0, "%s %s, batches of %u", t ? "q8g64" : "q4g64", s.level, batch);
                cr_assert(other.silent == stats.silent && other.inputs == stats.inputs && other.bytes_skipped == stats.bytes_skipped);
            }
        }
        logits_at(path, (model_settings){.batch = 1}, 0, exact, &other);
        cr_assert(other.tokens == 0 && other.silent == 0 && other.bytes_skipped == 0);
        cr_assert_neq(memcmp(exact, want, sizeof want), 0);
    }
}

Test(events, off_again_is_exact)
{
    const char *path = model_converted(bin, tok, "q4g64");
    int32_t ids[4] = {5, 6, 7, 8};
    float first[512];
    infer_error err;
    model_open m;
    if (!path)
        cr_skip_test("models/stories260K is not there");
    m = model_start(path, &(model_settings){0});
    cr_assert_eq(infer_model_events_target(m.model), 0);
    cr_assert_eq(infer_session_set_events(m.session, 0, &err), INFER_OK);
    cr_assert_eq(infer_session_set_events(m.session, 0.5, &err), INFER_ERROR_UNSUPPORTED);
    cr_assert_eq(infer_session_set_events(m.session, INFER_EVENTS_AUTO, &err), INFER_ERROR_UNSUPPORTED);
    add_thresholds(m.model);
    cr_assert_eq(infer_session_eval(m.session, ids, 4, INFER_LOGITS_LAST, &err), INFER_OK);
    memcpy(first, infer_session_logits(m.session, 0), sizeof first);
    cr_assert_eq(infer_session_set_events(m.session, INFER_EVENTS_AUTO, &err), INFER_OK);
    cr_assert_eq(infer_session_rewind(m.session, 0, &err), INFER_OK);
    cr_assert_eq(infer_session_eval(m.session, ids, 4, INFER_LOGITS_LAST, &err), INFER_OK);
    cr_assert_neq(memcmp(first, infer_session_logits(m.session, 0), sizeof first), 0);
    cr_assert_eq(infer_session_set_events(m.session, 0, &err), INFER_OK);
    cr_assert_eq(infer_session_rewind(m.session, 0, &err), INFER_OK);
    cr_assert_eq(infer_session_eval(m.session, ids, 4, INFER_LOGITS_LAST, &err), INFER_OK);
    cr_assert_eq(memcmp(first, infer_session_logits(m.session, 0), sizeof first), 0);
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(infer_session_set_events(m.session, (double[]){0.91, -0.5, NAN, INFINITY}[i], &err), INFER_ERROR_ARGUMENT);
    model_stop(&m);
}

/* Between the table's rates, thresholds are interpolated; below the first one, from 0. */
Test(events, thresholds_between_rates)
{
    float t[] = {0, 0, 0, 1, 3, 4};
    infer_events e = {.target = 0.5, .rates = 3, .rate = {0.2, 0.4, 0.8}, .thresholds = t};
    static const double cases[][2] = {{0.1, 0.5}, {0.2, 1}, {0.3, 2}, {0.4, 3}, {0.6, 3.5}, {0.8, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_float_eq(infer_events_threshold(&e, 1, cases[i][0]), cases[i][1], 1e-6);
    cr_assert_eq(infer_events_threshold(&e, 0, 0.5), 0);
}
