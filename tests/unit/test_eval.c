/* The arithmetic and the files of infer-eval: divergence and errors against direct computations; teacher and state files, whole and broken. */
#include "check.h"

#include "eval/results.h"
#include "eval/score.h"
#include "eval/teacher.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t rng = 1;

static double uniform(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (double)(rng >> 11) * 0x1p-53;
}

static void fill_logits(float *x, uint32_t n, double spread)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = (float)((uniform() + uniform() + uniform() - 1.5) * spread);
}

static double exact_kl(const float *p, const float *q, uint32_t n)
{
    double lp = eval_log_sum(p, n), lq = eval_log_sum(q, n), kl = 0;
    for (uint32_t i = 0; i < n; i++)
        kl += exp(p[i] - lp) * ((p[i] - lp) - (q[i] - lq));
    return kl;
}

Test(eval_score, log_sum)
{
    const float logits[] = {1, 2, 3}, large[] = {1000, 1000}, broken[] = {1, NAN};
    cr_expect_float_eq(eval_log_sum(logits, 3), log(exp(1) + exp(2) + exp(3)), 1e-12);
    cr_expect_float_eq(eval_log_sum(large, 2), 1000 + log(2), 1e-9);
    cr_expect_not(isfinite(eval_log_sum(broken, 2)));
}

/* With no tail the divergence is exact; with one it is a lower bound, and close where the tail is small. */
Test(eval_score, divergence)
{
    float p[500], q[500];
    eval_distribution d;
    for (int round = 0; round < 50; round++) {
        const uint32_t n = round % 2 ? 500 : 40;
        double exact, found;
        fill_logits(p, n, 8);
        fill_logits(q, n, 1);
        for (uint32_t i = 0; i < n; i++)
            q[i] += p[i];
        eval_top(p, n, eval_log_sum(p, n), &d);
        exact = exact_kl(p, q, n);
        found = eval_kl(&d, q, n, eval_log_sum(q, n));
        if (n <= EVAL_TOP)
            cr_expect_float_eq(found, exact, 1e-9 + 1e-6 * exact, "%g, %g", found, exact);
        cr_expect(found <= exact + 1e-9 && found > 0.3 * exact, "%g, %g", found, exact);
        cr_expect_float_eq(eval_kl(&d, p, n, eval_log_sum(p, n)), 0, 1e-9);
    }
}

Test(eval_score, top)
{
    float logits[100];
    double sum = 0;
    eval_distribution d;
    fill_logits(logits, 100, 5);
    logits[7] = logits[3] = 20; /* a tie: the lower id first */
    eval_top(logits, 100, eval_log_sum(logits, 100), &d);
    cr_assert_eq(d.top, EVAL_TOP);
    cr_expect(d.ids[0] == 3 && d.ids[1] == 7);
    for (uint32_t k = 0; k < d.top; k++) {
        cr_expect(k == 0 || d.log_p[k] <= d.log_p[k - 1]);
        sum += exp(d.log_p[k]);
    }
    cr_expect_float_eq(sum + d.tail, 1, 1e-9);
}

/* The error of a mean over clusters, against many repetitions of the same experiment. */
Test(eval_score, errors)
{
    double means = 0, squares = 0, errors = 0;
    const int repetitions = 400;
    for (int r = 0; r < repetitions; r++) {
        eval_sums s = {0};
        eval_estimate e;
        for (int c = 0; c < 60; c++) {
            double common = uniform(), items = 5 + floor(uniform() * 10), sum = 0;
            for (int i = 0; i < items; i++)
                sum += common + 0.1 * uniform();
            eval_sums_add(&s, sum, items);
        }
        e = eval_sums_mean(&s);
        means += e.mean;
        squares += e.mean * e.mean;
        errors += e.se;
    }
    means /= repetitions;
    cr_expect_float_eq(errors / repetitions, sqrt(squares / repetitions - means * means), 0.25 * errors / repetitions);
}

Test(eval_score, few_clusters)
{
    eval_sums s = {0};
    cr_expect(isnan(eval_sums_mean(&s).mean));
    eval_sums_add(&s, 6, 3);
    cr_expect(eval_sums_mean(&s).mean == 2 && isnan(eval_sums_mean(&s).se));
}

Test(eval_score, quantiles)
{
    float values[] = {5, 1, 4, 2, 3};
    eval_sort(values, 5);
    cr_expect(eval_quantile(values, 5, 0.5) == 3 && eval_quantile(values, 5, 0.99) == 5 && eval_quantile(values, 5, 0.2) == 1);
}

/* ---- files ---- */

static char folder[] = "/tmp/infer-eval-XXXXXX";

static void set_up(void) { cr_assert(mkdtemp(folder)); }

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void tear_down(void)
{
    unlink(path_of("f"));
    unlink(path_of("broken"));
    rmdir(folder);
}

static void write_bytes(const char *path, const uint8_t *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

enum { VOCAB = 300, TOKENS = 5 };

static const eval_setting setting = {.vocab = VOCAB, .window = 8, .stride = 4, .tokens = TOKENS, .ids_hash = 1, .vocab_hash = 2};

static uint8_t *write_teacher(eval_distribution d[TOKENS], size_t *bytes)
{
    size_t each = eval_record_bytes(VOCAB);
    uint8_t *records = malloc(TOKENS * each);
    infer_error err = {0};
    float logits[VOCAB];
    for (int i = 0; i < TOKENS; i++) {
        fill_logits(logits, VOCAB, 6);
        eval_top(logits, VOCAB, eval_log_sum(logits, VOCAB), &d[i]);
        eval_record_put(records + i * each, VOCAB, &d[i], -i);
    }
    cr_assert(eval_teacher_write(path_of("f"), &setting, "a model", records, each, true, &err) == INFER_OK, "%s", err.message);
    cr_expect(eval_teacher_write(path_of("f"), &setting, "a model", records, each, false, &err) == INFER_ERROR_IO);
    free(records);
    records = (uint8_t *)check_read(path_of("f"), bytes);
    cr_assert(records);
    return records;
}

Test(eval_files, teacher, .init = set_up, .fini = tear_down)
{
    eval_distribution d[TOKENS], found;
    eval_setting other = setting;
    eval_teacher t;
    infer_error err = {0};
    size_t bytes;
    double log_p;
    free(write_teacher(d, &bytes));
    cr_assert(eval_teacher_open(path_of("f"), &t, &err) == INFER_OK, "%s", err.message);
    cr_expect(t.name_bytes == 7 && memcmp(t.name, "a model", 7) == 0);
    cr_expect(eval_teacher_check(&t, &setting, &err) == INFER_OK);
    for (int i = 0; i < TOKENS; i++) {
        eval_teacher_record(&t, (uint64_t)i, &found, &log_p);
        cr_expect(log_p == -i && found.top == EVAL_TOP);
        cr_expect_float_eq(found.tail, d[i].tail, 1e-6);
        for (uint32_t k = 0; k < found.top; k++)
            cr_expect(found.ids[k] == d[i].ids[k] && fabs(found.log_p[k] - d[i].log_p[k]) <= 0.5 / 2048);
    }
    other.window = 9;
    cr_expect(eval_teacher_check(&t, &other, &err) == INFER_ERROR_ARGUMENT);
    eval_teacher_close(&t);
}

Test(eval_files, broken_teachers, .init = set_up, .fini = tear_down)
{
    eval_distribution d[TOKENS];
    eval_teacher t;
    infer_error err;
    size_t bytes;
    uint8_t *raw = write_teacher(d, &bytes);
    char broken[128];
    snprintf(broken, sizeof broken, "%s", path_of("broken"));
    for (size_t n = 0; n < bytes; n++) {
        write_bytes(broken, raw, n);
        if (eval_teacher_open(broken, &t, &err) == INFER_OK)
            cr_assert_fail("cut after %zu bytes", n);
    }
    for (size_t bit = 0; bit < 8 * bytes; bit += 3) {
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        write_bytes(broken, raw, bytes);
        if (eval_teacher_open(broken, &t, &err) == INFER_OK)
            cr_assert_fail("bit %zu of byte %zu", bit % 8, bit / 8);
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(raw);
}

static size_t resume(const char *path, uint64_t job, infer_status *status)
{
    eval_results r;
    infer_error err = {0};
    size_t done;
    cr_assert(eval_results_create(job, 3, (uint32_t[]){1, 2, 1}, 4, &r, &err) == INFER_OK);
    *status = eval_results_attach(&r, path, &err);
    done = r.done;
    for (size_t u = 0; u < done && *status == INFER_OK; u++)
        cr_expect(r.data[r.starts[u]] == u + 1);
    eval_results_free(&r);
    return done;
}

Test(eval_files, state, .init = set_up, .fini = tear_down)
{
    eval_results r;
    infer_error err = {0};
    infer_status status;
    size_t bytes;
    uint8_t *raw;
    char broken[128];
    cr_assert(eval_results_create(7, 3, (uint32_t[]){1, 2, 1}, 4, &r, &err) == INFER_OK);
    cr_assert(eval_results_attach(&r, path_of("f"), &err) == INFER_OK, "%s", err.message);
    for (size_t u = 0; u < 2; u++) {
        memset(r.data + r.starts[u], (int)u + 1, r.starts[u + 1] - r.starts[u]);
        cr_assert(eval_results_add(&r, &err) == INFER_OK, "%s", err.message);
    }
    eval_results_free(&r);
    cr_expect(resume(path_of("f"), 7, &status) == 2 && status == INFER_OK);
    resume(path_of("f"), 8, &status);
    cr_expect_eq(status, INFER_ERROR_ARGUMENT);
    raw = (uint8_t *)check_read(path_of("f"), &bytes);
    snprintf(broken, sizeof broken, "%s", path_of("broken"));
    for (size_t n = bytes; n-- > 32;) { /* a unit that was cut off is done again */
        size_t done;
        write_bytes(broken, raw, n);
        done = resume(broken, 7, &status);
        cr_expect(status == INFER_OK && done < 2, "cut after %zu bytes: %zu units, status %d", n, done, (int)status);
    }
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        write_bytes(broken, raw, bytes);
        resume(broken, 7, &status);
        if (status == INFER_OK)
            cr_assert_fail("bit %zu of byte %zu", bit % 8, bit / 8);
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(raw);
}
