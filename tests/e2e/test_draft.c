/* Self-draft gives what exact decoding gives, token for token, whatever it guesses. */
#include "models.h"

#include "model/model.h"

#include <criterion/criterion.h>
#include <infer/infer_experimental.h>

TestSuite(draft, .fini = models_clean);

enum { TOKENS = 120, CONTEXT = 140 };
static const char bin[] = "models/stories260K/stories260K.bin", tok[] = "models/stories260K/tok512.bin";

/* Thresholds of about `scale`: 0.05 leaves nearly all guesses right, 0.8 nearly none. */
static void add_thresholds(infer_model *model, float scale)
{
    size_t tensors = infer_file_tensor_count(model->file);
    infer_events *e = &model->events;
    *e = (infer_events){.target = 0.5, .rates = 1, .rate = {0.9}};
    e->thresholds = infer_alloc_array(&model->rt->allocator, tensors, sizeof *e->thresholds);
    cr_assert(e->thresholds);
    for (size_t i = 0; i < tensors; i++)
        e->thresholds[i] = scale;
}

/* Up to TOKENS tokens behind a prompt; returns how many. */
static size_t decode(model_open *m, const infer_sampler_options *options, uint32_t most, int32_t *out, infer_drafter_stats *stats)
{
    infer_sampler *sampler = NULL;
    infer_drafter *drafter = NULL;
    int32_t prompt[5] = {1, 403, 407, 261, 378}, ids[INFER_DRAFT_MAX + 1];
    size_t n = 0, count;
    infer_error err = {0};
    cr_assert_eq(infer_session_rewind(m->session, 0, &err), INFER_OK);
    cr_assert_eq(infer_sampler_create(m->model, options, &sampler, &err), INFER_OK, "%s", err.message);
    for (size_t i = 0; i < 5; i++)
        infer_sampler_accept(sampler, prompt[i]);
    if (most)
        cr_assert_eq(infer_drafter_create(m->session, sampler, 0.9, most, &drafter, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_session_eval(m->session, prompt, 5, INFER_LOGITS_LAST, &err), INFER_OK);
    out[n++] = infer_sampler_sample(sampler, infer_session_logits(m->session, 0));
    while (n < TOKENS && !infer_model_token_is_end(m->model, out[n - 1]) && infer_session_position(m->session) < CONTEXT) {
        if (!drafter) {
            cr_assert_eq(infer_session_eval(m->session, out + n - 1, 1, INFER_LOGITS_LAST, &err), INFER_OK);
            out[n++] = infer_sampler_sample(sampler, infer_session_logits(m->session, 0));
            continue;
        }
        cr_assert_eq(infer_drafter_step(drafter, sampler, out[n - 1], ids, TOKENS - n < 7 ? TOKENS - n : 7, &count, &err), INFER_OK, "%s",
                     err.message);
        cr_assert(count >= 1 && count <= 7 && n + count <= TOKENS);
        for (size_t i = 0; i < count; i++)
            out[n++] = ids[i];
    }
    if (drafter)
        infer_drafter_get_stats(drafter, stats);
    infer_drafter_destroy(drafter);
    infer_sampler_destroy(sampler);
    return n;
}

Test(draft, equals_exact_decoding)
{
    static const float scales[] = {0, 0.02f, 0.1f, 0.3f, 3};
    const char *path = model_converted(bin, tok, "q4g64");
    model_open m;
    if (!path)
        cr_skip_test("models/stories260K is not there");
    m = model_start(path, &(model_settings){.logit_rows = INFER_DRAFT_MAX + 1, .context = CONTEXT});
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        uint64_t drafted = 0, accepted = 0;
        infer_events_free(&m.model->events, &m.rt->allocator);
        add_thresholds(m.model, scales[s]);
        for (uint32_t i = 0; i < 8; i++) {
            infer_sampler_options o = INFER_SAMPLER_DEFAULTS;
            int32_t want[TOKENS], found[TOKENS];
            infer_drafter_stats stats;
            size_t n;
            o.temperature = i % 4 == 0 ? 0 : 0.4f * (float)i;
            o.repeat_penalty = i % 3 == 1 ? 1.3f : 1;
            o.seed = 77 + i;
            n = decode(&m, &o, 0, want, NULL);
            cr_assert_eq(decode(&m, &o, 1 + i * 2, found, &stats), n, "thresholds %g, sampler %u", (double)scales[s], i);
            cr_assert_eq(memcmp(found, want, n * sizeof *want), 0, "thresholds %g, sampler %u", (double)scales[s], i);
            cr_assert_eq(stats.tokens, n - 1);
            cr_assert(stats.accepted <= stats.drafted && stats.steps <= stats.tokens);
            drafted += stats.drafted;
            accepted += stats.accepted;
        }
        cr_assert_gt(drafted, 0);
        if (scales[s] == 0) /* nothing is silent: the cloned sampler guesses what the sampler will choose, every time */
            cr_assert_eq(accepted, drafted);
        if (scales[s] == 3)
            cr_assert_lt(accepted, drafted);
    }
    model_stop(&m);
}

Test(draft, wrong_calls)
{
    const char *path = model_converted(bin, tok, "q4g64");
    infer_sampler *sampler = NULL;
    infer_drafter *drafter = NULL;
    infer_error err;
    model_open m;
    if (!path)
        cr_skip_test("models/stories260K is not there");
    m = model_start(path, &(model_settings){.logit_rows = 4});
    cr_assert_eq(infer_sampler_create(m.model, NULL, &sampler, &err), INFER_OK);
    cr_assert_eq(infer_drafter_create(m.session, sampler, 0.5, 3, &drafter, &err), INFER_ERROR_UNSUPPORTED, "no thresholds");
    add_thresholds(m.model, 0.1f);
    cr_assert_eq(infer_drafter_create(m.session, sampler, 0.5, 4, &drafter, &err), INFER_ERROR_ARGUMENT, "too few rows of logits");
    cr_assert_eq(infer_drafter_create(m.session, sampler, 0, 3, &drafter, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_drafter_create(m.session, sampler, 0.95, 3, &drafter, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_drafter_create(m.session, sampler, 0.5, 0, &drafter, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_drafter_create(m.session, sampler, 0.5, 3, &drafter, &err), INFER_OK);
    infer_drafter_destroy(drafter);
    infer_drafter_destroy(NULL);
    infer_sampler_destroy(sampler);
    model_stop(&m);
}
