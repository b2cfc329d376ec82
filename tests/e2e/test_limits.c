/* Memory, wrong calls, files that change. Failing allocations: tests/faults, tests/statuses. */
#include "models.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(limits, .fini = models_clean);

Test(limits, opening_copies_no_weights)
{
    const char *path;
    struct stat st;
    uint64_t before, after;
    model_open m;
    int32_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    infer_error err = {0};
    if (!infer_anonymous_rss_bytes()) /* before there is a file: what is skipped is not cleaned up */
        cr_skip_test("this system does not tell resident anonymous memory");
#if defined(__SANITIZE_ADDRESS__)
    cr_skip_test("AddressSanitizer's shadow of the map counts as anonymous memory");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    cr_skip_test("AddressSanitizer's shadow of the map counts as anonymous memory");
#endif
#endif
    path = model_random(96u << 20);
    before = infer_anonymous_rss_bytes();
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_geq(st.st_size, 96 << 20);
    m = model_start(path, &(model_settings){.context = 64});
    cr_assert_eq(infer_session_eval(m.session, ids, 8, INFER_LOGITS_LAST, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_session_eval(m.session, ids, 1, INFER_LOGITS_LAST, &err), INFER_OK, "%s", err.message);
    after = infer_anonymous_rss_bytes();
    cr_expect_lt(after - before, infer_session_memory_bytes(m.session) + (2u << 20),
                 "file %lld, anonymous memory grew by %llu, the session has %llu", (long long)st.st_size,
                 (unsigned long long)(after - before), (unsigned long long)infer_session_memory_bytes(m.session));
    cr_expect_lt(after - before, (uint64_t)st.st_size / 8);
    model_stop(&m);
}

Test(limits, wrong_calls_are_refused)
{
    const char *path = model_random(1);
    model_open m = model_start(path, &(model_settings){.context = 8, .threads = 1});
    int32_t ids[16] = {0}, outside = 1 << 20;
    infer_error err = {0};
    infer_model *none = NULL;
    infer_session *no_session = NULL;
    infer_session_options so = INFER_SESSION_DEFAULTS;
    size_t n = 0;
    cr_expect_eq(infer_session_eval(m.session, ids, 0, INFER_LOGITS_LAST, &err), INFER_ERROR_ARGUMENT);
    cr_expect_eq(infer_session_eval(m.session, &outside, 1, INFER_LOGITS_LAST, &err), INFER_ERROR_ARGUMENT);
    cr_expect_eq(infer_session_eval(m.session, ids, 9, INFER_LOGITS_LAST, &err), INFER_ERROR_CONTEXT);
    cr_expect_eq(infer_session_eval(m.session, ids, 2, INFER_LOGITS_ALL, &err), INFER_ERROR_ARGUMENT);
    cr_expect_eq(infer_session_position(m.session), 0);
    cr_expect_null(infer_session_logits(m.session, 0));
    cr_expect_eq(infer_session_eval(m.session, ids, 8, INFER_LOGITS_NONE, &err), INFER_OK);
    cr_expect_null(infer_session_logits(m.session, 0));
    cr_expect_eq(infer_session_eval(m.session, ids, 1, INFER_LOGITS_LAST, &err), INFER_ERROR_CONTEXT);
    cr_expect_eq(infer_model_tokenize(m.model, "a", 1, 0, ids, 16, &n, &err), INFER_ERROR_UNSUPPORTED); /* no tokenizer in the file */
    cr_expect_eq(infer_model_open(m.rt, "/nonexistent", NULL, &none, &err), INFER_ERROR_IO);
    cr_expect_eq(infer_model_open(m.rt, "/", NULL, &none, &err), INFER_ERROR_IO);
    cr_expect_null(none);
    so.size = 1;
    cr_expect_eq(infer_session_create(m.model, &so, &no_session, &err), INFER_ERROR_ARGUMENT);
    so = (infer_session_options)INFER_SESSION_DEFAULTS;
    so.context = UINT32_MAX;
    cr_expect_eq(infer_session_create(m.model, &so, &no_session, &err), INFER_ERROR_ARGUMENT);
    cr_expect_eq(infer_session_describe(m.session, "nothing", NULL, NULL, &err), INFER_ERROR_ARGUMENT);
    model_stop(&m);
}

Test(limits, wrong_options_are_refused)
{
    infer_runtime_options ro = INFER_RUNTIME_DEFAULTS;
    infer_model_options mo = INFER_MODEL_DEFAULTS;
    infer_session_options so = INFER_SESSION_DEFAULTS;
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_error err = {0};
    const char *path = model_random(1);

    cr_expect_eq(infer_runtime_create(NULL, NULL, &err), INFER_ERROR_ARGUMENT);
    ro.size--;
    cr_expect_eq(infer_runtime_create(&ro, &rt, &err), INFER_ERROR_ARGUMENT);
    ro = (infer_runtime_options)INFER_RUNTIME_DEFAULTS;
    ro.threads = 257;
    cr_expect_eq(infer_runtime_create(&ro, &rt, &err), INFER_ERROR_ARGUMENT);
    ro.threads = 1;
    ro.cpu_level = "z80";
    cr_expect_eq(infer_runtime_create(&ro, &rt, &err), INFER_ERROR_ARGUMENT);
    cr_expect(strstr(err.message, "z80") != NULL, "%s", err.message);
#if defined(__x86_64__)
    ro.cpu_level = "neon";
#else
    ro.cpu_level = "avx2";
#endif
    cr_expect_eq(infer_runtime_create(&ro, &rt, &err), INFER_ERROR_UNSUPPORTED);
    ro.cpu_level = "ref";
    ro.allocator.user = &ro;
    ro.allocator.free = (void (*)(void *, void *))abort;
    cr_expect_eq(infer_runtime_create(&ro, &rt, &err), INFER_ERROR_ARGUMENT);
    cr_expect_null(rt);
    cr_assert_eq(infer_runtime_create(NULL, &rt, &err), INFER_OK, "%s", err.message);

    cr_expect_eq(infer_model_open(rt, NULL, NULL, &model, &err), INFER_ERROR_ARGUMENT);
    mo.size++;
    cr_expect_eq(infer_model_open(rt, path, &mo, &model, &err), INFER_ERROR_ARGUMENT);
    mo = (infer_model_options)INFER_MODEL_DEFAULTS;
    mo.verify = (infer_verify)3;
    cr_expect_eq(infer_model_open(rt, path, &mo, &model, &err), INFER_ERROR_ARGUMENT);
    mo.verify = INFER_VERIFY_OPEN;
    mo.load = (infer_load)3;
    cr_expect_eq(infer_model_open(rt, path, &mo, &model, &err), INFER_ERROR_ARGUMENT);
    cr_expect_null(model);
    mo.load = INFER_LOAD_MAP;
    cr_assert_eq(infer_model_open(rt, path, &mo, &model, &err), INFER_OK, "%s", err.message);

    cr_expect_eq(infer_session_create(NULL, NULL, &session, &err), INFER_ERROR_ARGUMENT);
    so.batch = 4097;
    cr_expect_eq(infer_session_create(model, &so, &session, &err), INFER_ERROR_ARGUMENT);
    so.batch = 0;
    so.kv_type = (infer_kv_type)4;
    cr_expect_eq(infer_session_create(model, &so, &session, &err), INFER_ERROR_ARGUMENT);
    cr_expect_null(session);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    for (int s = INFER_OK; s <= INFER_ERROR_CANCELLED; s++)
        cr_expect_str_neq(infer_status_name((infer_status)s), "unknown status");
    cr_expect_str_eq(infer_status_name((infer_status)1000), "unknown status");
}

/* A tensor that is damaged: found when all are checked, when it is first used, or never. */
Test(limits, a_damaged_tensor)
{
    const char *path = model_random(1);
    FILE *f = fopen(path, "r+b");
    infer_runtime *rt = NULL;
    infer_error err = {0};
    int32_t id = 1;
    int byte;
    cr_assert(f && fseek(f, -1000, SEEK_END) == 0 && (byte = fgetc(f)) != EOF && fseek(f, -1000, SEEK_END) == 0 &&
              fputc(byte ^ 1, f) != EOF && fclose(f) == 0);
    cr_assert_eq(infer_runtime_create(NULL, &rt, &err), INFER_OK, "%s", err.message);
    for (int verify = INFER_VERIFY_FIRST_USE; verify <= INFER_VERIFY_NEVER; verify++) {
        infer_model_options mo = INFER_MODEL_DEFAULTS;
        infer_model *model = NULL;
        infer_session *session = NULL;
        infer_status s;
        mo.verify = (infer_verify)verify;
        s = infer_model_open(rt, path, &mo, &model, &err);
        cr_expect_eq(s, verify == INFER_VERIFY_OPEN ? INFER_ERROR_CORRUPT : INFER_OK, "%s", err.message);
        if (s == INFER_OK)
            cr_assert_eq(infer_session_create(model, NULL, &session, &err), INFER_OK, "%s", err.message);
        /* The damage stays: it is found again. */
        for (int again = 0; again < 2 && session; again++) {
            s = infer_session_eval(session, &id, 1, INFER_LOGITS_LAST, &err);
            cr_expect_eq(s, verify == INFER_VERIFY_FIRST_USE ? INFER_ERROR_CORRUPT : INFER_OK, "%s", err.message);
            cr_expect_eq(infer_session_position(session), s == INFER_OK ? (uint32_t)again + 1 : 0);
        }
        if (s != INFER_OK)
            cr_expect(strstr(err.message, "hash") != NULL, "%s", err.message);
        infer_session_destroy(session);
        infer_model_close(model);
    }
    infer_runtime_destroy(rt);
}

Test(limits, a_file_that_shrinks_is_an_error)
{
    const char *path = model_random(4u << 20);
    model_open m = model_start(path, &(model_settings){.threads = 1});
    int32_t id = 1;
    infer_error err = {0};
    cr_assert_eq(truncate(path, 4096), 0);
    cr_expect_eq(infer_session_eval(m.session, &id, 1, INFER_LOGITS_LAST, &err), INFER_ERROR_CORRUPT);
    cr_expect(strstr(err.message, "shrank") != NULL, "%s", err.message);
    model_stop(&m);
}

/* What may happen to a file that is in use: how it is opened, what is done, what the next evaluation says. */
static void change(infer_load load, void (*act)(const char *path), infer_status expected)
{
    const char *path = model_random(1u << 20);
    infer_model_options o = INFER_MODEL_DEFAULTS;
    infer_session_options so = INFER_SESSION_DEFAULTS;
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
    const int32_t ids[2] = {1, 2};
    float before[512];
    infer_error err = {0};
    infer_status s;

    o.load = load;
    so.context = 16;
    cr_assert_eq(infer_runtime_create(NULL, &rt, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_model_open(rt, path, &o, &model, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_session_create(model, &so, &session, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_session_eval(session, ids, 2, INFER_LOGITS_LAST, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_model_vocab_size(model), 512);
    memcpy(before, infer_session_logits(session, 0), sizeof before);
    cr_assert_eq(infer_session_rewind(session, 0, NULL), INFER_OK);
    act(path);
    s = infer_session_eval(session, ids, 2, INFER_LOGITS_LAST, &err);
    cr_expect_eq(s, expected, "%s", err.message);
    if (s == INFER_OK)
        cr_expect_arr_eq(before, infer_session_logits(session, 0), sizeof before);
    else
        cr_expect_eq(infer_session_position(session), 0);
    infer_session_destroy(session);
    infer_model_close(model);
    infer_runtime_destroy(rt);
}

static void cut_off(const char *path) { cr_assert_eq(truncate(path, 1000), 0); }

static void overwrite(const char *path)
{
    FILE *f = fopen(path, "r+b");
    usleep(20000); /* the grain of times of modification */
    cr_assert(f && fseek(f, -100, SEEK_END) == 0 && fwrite("change", 1, 6, f) == 6 && fclose(f) == 0);
}

static void replace(const char *path)
{
    char other[300];
    FILE *f;
    snprintf(other, sizeof other, "%s.other", path);
    f = fopen(other, "wb");
    cr_assert(f && fwrite("other", 1, 5, f) == 5 && fclose(f) == 0 && rename(other, path) == 0);
}

static void delete(const char *path) { cr_assert_eq(unlink(path), 0); }

Test(limits, a_file_that_changes_in_use)
{
    static const struct {
        void (*act)(const char *path);
        infer_status mapped;
    } cases[] = {{cut_off, INFER_ERROR_CORRUPT}, {overwrite, INFER_ERROR_CORRUPT}, {replace, INFER_OK}, {delete, INFER_OK}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        change(INFER_LOAD_MAP, cases[i].act, cases[i].mapped);
        change(INFER_LOAD_COPY, cases[i].act, INFER_OK);
        change(INFER_LOAD_GUARD, cases[i].act, cases[i].mapped);
    }
}

Test(limits, cancel_ends_the_next_evaluation)
{
    const char *path = model_random(1);
    model_open m = model_start(path, &(model_settings){.threads = 2});
    int32_t ids[2] = {1, 2};
    infer_error err = {0};
    cr_assert_eq(infer_session_eval(m.session, ids, 2, INFER_LOGITS_LAST, &err), INFER_OK);
    infer_session_cancel(m.session);
    cr_expect_eq(infer_session_eval(m.session, ids, 2, INFER_LOGITS_LAST, &err), INFER_ERROR_CANCELLED);
    cr_expect_eq(infer_session_position(m.session), 2);
    cr_expect_eq(infer_session_eval(m.session, ids, 2, INFER_LOGITS_LAST, &err), INFER_OK);
    model_stop(&m);
}
