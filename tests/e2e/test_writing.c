/* Text that a model writes for its own calibration (tools/eval/writing.h). */
#include "models.h"

#include "eval/writing.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(writing, .fini = models_clean);

static model_open stories(const char *level, uint32_t threads)
{
    const char *path = model_converted("models/stories260K/stories260K.bin", "models/stories260K/tok512.bin", "f32");
    if (!path)
        cr_skip_test("test data is absent");
    return model_start(path, &(model_settings){.level = level, .threads = threads});
}

static eval_text write_text(model_open *m, uint64_t tokens, uint64_t seed)
{
    const eval_writing w = {.tokens = tokens, .window = 512, .seed = seed};
    eval_text text;
    infer_error err = {0};
    cr_assert_eq(eval_text_write(m->model, &w, &text, &err), INFER_OK, "%s", err.message);
    return text;
}

static bool same_text(const eval_text *a, const eval_text *b)
{
    return a->id_count == b->id_count && memcmp(a->ids, b->ids, a->id_count * sizeof *a->ids) == 0;
}

Test(writing, the_same_text_for_a_seed_whatever_computes)
{
    model_open best = stories(NULL, 0), ref = stories("ref", 1);
    eval_text a = write_text(&best, 700, 1), b = write_text(&ref, 700, 1), c = write_text(&best, 700, 2);
    cr_expect(same_text(&a, &b));
    cr_expect_not(same_text(&a, &c));
    eval_text_free(&a);
    eval_text_free(&b);
    eval_text_free(&c);
    model_stop(&best);
    model_stop(&ref);
}

/* So many inputs as were asked for, in windows that begin with the begin token and end with an end token, the window or the count. */
Test(writing, windows)
{
    model_open m = stories(NULL, 0);
    const int32_t bos = infer_model_token_bos(m.model);
    eval_text t = write_text(&m, 3000, 1);
    uint64_t inputs = 0;
    size_t at = 0, ended = 0;
    for (size_t w = 0; w < t.window_count; w++) {
        const int32_t *ids = t.ids + t.windows[w].first;
        const uint32_t n = t.windows[w].inputs;
        cr_assert_eq(t.windows[w].first, at);
        cr_assert(n >= 1 && n <= 512 && t.windows[w].skip == 0);
        cr_expect_eq(ids[0], bos);
        cr_expect_eq(t.counted[w], n);
        for (uint32_t i = 1; i < n; i++)
            cr_expect_not(infer_model_token_is_end(m.model, ids[i]));
        ended += infer_model_token_is_end(m.model, ids[n]) != 0;
        cr_expect(infer_model_token_is_end(m.model, ids[n]) || n == 512 || w + 1 == t.window_count);
        at += n + 1;
        inputs += n;
    }
    cr_expect_eq(at, t.id_count);
    cr_expect_eq(inputs, 3000);
    cr_expect_eq(t.tokens, 3000);
    cr_expect_eq(t.documents, t.window_count);
    cr_expect_gt(ended, 0);
    eval_text_free(&t);
    model_stop(&m);
}

static int stop_behind_100(void *user, uint64_t done, uint64_t total)
{
    *(uint64_t *)user = done;
    cr_expect_eq(total, 3000);
    return done >= 100;
}

Test(writing, cancelled)
{
    model_open m = stories(NULL, 0);
    uint64_t done = 0;
    const eval_writing w = {.tokens = 3000, .window = 512, .seed = 1, .progress = stop_behind_100, .user = &done};
    eval_text text;
    infer_error err = {0};
    cr_expect_eq(eval_text_write(m.model, &w, &text, &err), INFER_ERROR_CANCELLED);
    cr_expect(done >= 100 && done < 200);
    model_stop(&m);
}

Test(writing, no_begin_token)
{
    model_open m = model_start(model_random(1u << 20), &(model_settings){0});
    const eval_writing w = {.tokens = 10, .window = 8};
    eval_text text;
    infer_error err = {0};
    cr_assert_lt(infer_model_token_bos(m.model), 0);
    cr_expect_eq(eval_text_write(m.model, &w, &text, &err), INFER_ERROR_UNSUPPORTED);
    cr_expect(strstr(err.message, "begin token"));
    model_stop(&m);
}
