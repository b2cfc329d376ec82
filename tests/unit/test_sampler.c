#include "check.h"
#include "ref/mathf.h"
#include "text/text.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static infer_sampler_options plain(void)
{
    infer_sampler_options o = INFER_SAMPLER_DEFAULTS;
    o.temperature = 1.0f;
    o.top_k = 0;
    o.top_p = 1.0f;
    o.min_p = 0.0f;
    o.repeat_penalty = 1.0f;
    return o;
}

static infer_sampler *open_sampler(uint32_t vocab, infer_sampler_options o)
{
    infer_sampler *s = NULL;
    infer_error err = {0};
    cr_assert(infer_sampler_open(NULL, vocab, &o, &s, &err) == INFER_OK, "%s", err.message);
    return s;
}

static uint32_t next(uint32_t *x)
{
    return (*x = *x * 1664525 + 1013904223) >> 8;
}

/* Logits on a coarse grid, so that ties are common. */
static void random_logits(float *logits, size_t n, uint32_t *x)
{
    for (size_t i = 0; i < n; i++)
        logits[i] = (float)(next(x) % 97) / 8.0f - 6.0f;
}

/* ---- an independent sampler: sorts everything, computes every probability ---- */

typedef struct entry {
    double logit;
    int32_t id;
    double p;
} entry;

static int by_logit(const void *x, const void *y)
{
    const entry *a = x, *b = y;
    return a->logit != b->logit ? (a->logit < b->logit) - (a->logit > b->logit) : a->id - b->id;
}

/* Probabilities of all ids after the options; returns how many are left, in order, in e. */
static size_t naive(const infer_sampler_options *o, const float *logits, size_t n, const int32_t *history, size_t history_count, entry *e)
{
    double total = 0.0, sum = 0.0, top;
    size_t kept = n, limit;
    for (size_t i = 0; i < n; i++) {
        bool seen = false;
        for (size_t j = history_count > o->repeat_last ? history_count - o->repeat_last : 0; j < history_count; j++)
            seen |= history[j] == (int32_t)i;
        e[i] = (entry){isnan(logits[i]) ? -INFINITY : logits[i], (int32_t)i, 0.0};
        if (seen)
            e[i].logit = (float)(e[i].logit > 0.0 ? (float)e[i].logit / o->repeat_penalty : (float)e[i].logit * o->repeat_penalty);
    }
    qsort(e, n, sizeof *e, by_logit);
    if (o->top_k && o->top_k < kept)
        kept = o->top_k;
    for (size_t i = 0; i < kept; i++)
        total += e[i].p = exp((e[i].logit - e[0].logit) / (double)o->temperature);
    top = e[0].p / total;
    for (limit = 0; limit < kept && sum < (double)o->top_p * total * (1.0 - 1e-12); limit++)
        sum += e[limit].p;
    kept = limit;
    while (kept > 1 && (e[kept - 1].p / total < (double)o->min_p * top || e[kept - 1].p == 0.0))
        kept--;
    total = 0.0;
    for (size_t i = 0; i < kept; i++)
        total += e[i].p;
    for (size_t i = 0; i < kept; i++)
        e[i].p /= total;
    return kept;
}

/* Chi-square of `draws` samples against the naive probabilities; ids outside them must never come. */
static void expect_distribution(infer_sampler_options o, const float *logits, size_t n)
{
    enum { DRAWS = 20000 };
    infer_sampler *s = open_sampler((uint32_t)n, o);
    entry *e = calloc(n, sizeof *e);
    size_t *hits = calloc(n, sizeof *hits), kept, cells = 0, drawn = 0;
    double chi = 0.0, rest = 0.0, rest_hits = 0.0, limit;
    cr_assert(e && hits);
    kept = naive(&o, logits, n, NULL, 0, e);
    for (int i = 0; i < DRAWS; i++)
        hits[infer_sampler_sample(s, logits)]++;
    for (size_t i = 0; i < kept; i++) {
        double expected = e[i].p * DRAWS;
        drawn += hits[e[i].id];
        if (expected < 5.0) { /* cells that are too small go together */
            rest += expected;
            rest_hits += (double)hits[e[i].id];
            continue;
        }
        chi += ((double)hits[e[i].id] - expected) * ((double)hits[e[i].id] - expected) / expected;
        cells++;
    }
    if (rest >= 5.0) {
        chi += (rest_hits - rest) * (rest_hits - rest) / rest;
        cells++;
    }
    /* Mean + 4 standard deviations: the seeds are fixed, so it is passed once and for ever. */
    limit = (double)cells - 1.0 + 4.0 * sqrt(2.0 * ((double)cells - 1.0)) + 1e-9;
    cr_assert_eq(drawn, DRAWS, "%zu of %d draws were not among the %zu tokens left", DRAWS - drawn, DRAWS, kept);
    cr_assert_leq(chi, limit, "chi-square %.1f over %zu cells", chi, cells);
    infer_sampler_destroy(s);
    free(e);
    free(hits);
}

Test(sampler, distribution)
{
    static const struct {
        float temperature, top_p, min_p;
        uint32_t top_k;
    } cases[] = {
        {1.0f, 1.0f, 0.0f, 0},  {0.5f, 1.0f, 0.0f, 0},   {2.0f, 1.0f, 0.0f, 0},    {100.0f, 1.0f, 0.0f, 0},
        {1.0f, 1.0f, 0.0f, 1},  {1.0f, 1.0f, 0.0f, 7},   {3.0f, 1.0f, 0.0f, 1000}, {1.0f, 0.9f, 0.0f, 0},
        {2.0f, 0.5f, 0.0f, 0},  {1.0f, 1e-6f, 0.0f, 0},  {2.0f, 1.0f, 0.1f, 0},    {2.0f, 1.0f, 1.0f, 0},
        {2.0f, 0.9f, 0.05f, 0}, {1.5f, 0.8f, 0.02f, 12}, {4.0f, 0.95f, 0.05f, 40}, {3.0f, 0.99f, 0.3f, 0},
    };
    uint32_t x = 7;
    float logits[61];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        infer_sampler_options o = plain();
        o.temperature = cases[c].temperature;
        o.top_k = cases[c].top_k;
        o.top_p = cases[c].top_p;
        o.min_p = cases[c].min_p;
        o.seed = c;
        random_logits(logits, 61, &x);
        expect_distribution(o, logits, 61);
    }
}

Test(sampler, top_k_keeps_the_lowest_ids_of_equals)
{
    infer_sampler_options o = plain();
    float logits[300] = {0};
    bool hit[300] = {false};
    infer_sampler *s;
    o.top_k = 5;
    logits[200] = 1e-3f;
    s = open_sampler(300, o);
    for (int i = 0; i < 1000; i++)
        hit[infer_sampler_sample(s, logits)] = true;
    for (int i = 0; i < 300; i++)
        cr_assert_eq(hit[i], i < 4 || i == 200, "token %d", i);
    infer_sampler_destroy(s);
}

Test(sampler, greedy_takes_the_first_of_the_largest)
{
    infer_sampler_options o = plain();
    infer_sampler *s;
    uint32_t x = 3;
    float logits[50];
    o.temperature = 0.0f;
    s = open_sampler(50, o);
    for (int round = 0; round < 200; round++) {
        int32_t best = 0;
        random_logits(logits, 50, &x);
        for (int32_t i = 49; i >= 0; i--)
            if (logits[i] >= logits[best])
                best = i;
        cr_assert_eq(infer_sampler_sample(s, logits), best);
        cr_assert_eq(infer_argmax(logits, 50), best);
    }
    infer_sampler_destroy(s);
}

Test(sampler, penalty_as_naive)
{
    uint32_t x = 11;
    for (uint32_t last = 0; last < 9; last += 2) {
        infer_sampler_options o = plain();
        int32_t history[200];
        infer_sampler *s;
        size_t count = 0;
        o.temperature = 0.0f;
        o.repeat_penalty = last == 4 ? 0.7f : 1.6f;
        o.repeat_last = last;
        s = open_sampler(20, o);
        while (count < 100) {
            float logits[20];
            entry e[20];
            int32_t id;
            random_logits(logits, 20, &x);
            o.temperature = 1.0f; /* of no meaning for the order, but naive() divides by it */
            naive(&o, logits, 20, history, count, e);
            cr_assert_eq(id = infer_sampler_sample(s, logits), e[0].id);
            history[count++] = id;
            if (next(&x) % 3 == 0) { /* a token of a prompt; those outside the vocabulary are ignored */
                infer_sampler_accept(s, history[count] = (int32_t)(next(&x) % 20));
                count++;
                infer_sampler_accept(s, -1);
                infer_sampler_accept(s, 20);
            }
        }
        infer_sampler_destroy(s);
    }
}

Test(sampler, penalty_shapes_the_distribution)
{
    infer_sampler_options o = plain();
    float logits[2] = {2.0f, 1.0f};
    int hits = 0;
    infer_sampler *s;
    o.repeat_penalty = 2.0f;
    o.repeat_last = 1;
    s = open_sampler(2, o);
    for (int i = 0; i < 4000; i++) { /* after token 0 both logits are 1: an even draw */
        infer_sampler_accept(s, 0);
        hits += infer_sampler_sample(s, logits) == 0;
    }
    cr_assert(hits > 1874 && hits < 2126, "%d of 4000", hits); /* 4 standard deviations */
    infer_sampler_destroy(s);
}

Test(sampler, not_numbers_and_infinities)
{
    const float nan = NAN, inf = INFINITY;
    for (int greedy = 0; greedy < 2; greedy++)
        for (int limited = 0; limited < 2; limited++) {
            infer_sampler_options o = plain();
            infer_sampler *s;
            o.temperature = greedy ? 0.0f : 1.0f;
            o.top_k = limited ? 3 : 0;
            o.top_p = limited ? 0.9f : 1.0f;
            o.repeat_penalty = 1.5f;
            s = open_sampler(5, o);
            for (int i = 0; i < 200; i++) {
                int32_t id;
                cr_assert_eq(infer_sampler_sample(s, (float[]){nan, -inf, nan, -inf, nan}), 0); /* nothing to choose from */
                cr_assert_eq(infer_sampler_sample(s, (float[]){nan, -inf, nan, -3e38f, nan}), 3);
                id = infer_sampler_sample(s, (float[]){0, inf, 3e38f, inf, nan});
                cr_assert(id == 1 || (id == 3 && !greedy));
                id = infer_sampler_sample(s, (float[]){nan, 1, nan, 1, -inf});
                cr_assert(id == 1 || id == 3);
            }
            infer_sampler_destroy(s);
        }
    cr_assert_eq(infer_argmax((float[]){nan, -inf, nan}, 3), 0);
    cr_assert_eq(infer_argmax((float[]){nan, -inf, -5, nan, -5}, 5), 2);
}

Test(sampler, the_logits_stay)
{
    infer_sampler_options o = plain();
    uint32_t x = 5;
    float logits[100], copy[100];
    infer_sampler *s;
    o.repeat_penalty = 1.3f;
    o.top_k = 10;
    s = open_sampler(100, o);
    random_logits(logits, 100, &x);
    memcpy(copy, logits, sizeof copy);
    for (int i = 0; i < 20; i++)
        infer_sampler_sample(s, logits);
    cr_assert_arr_eq(copy, logits, sizeof copy);
    infer_sampler_destroy(s);
}

/* Fixed for all machines, and computed by a second program from the published generators: only a change of the method, which NEWS would
 * have to name, may change these. */
Test(sampler, same_seed_same_tokens)
{
    static const int32_t expected[12] = {432, 165, 892, 744, 202, 22, 970, 447, 995, 589, 892, 880};
    infer_sampler_options o = INFER_SAMPLER_DEFAULTS;
    float logits[1000];
    infer_sampler *a, *b, *c;
    uint32_t x = 99, differ = 0;
    o.seed = 42;
    o.temperature = 1.5f;
    a = open_sampler(1000, o);
    b = open_sampler(1000, o);
    o.seed = 43;
    c = open_sampler(1000, o);
    random_logits(logits, 1000, &x);
    for (int i = 0; i < 12; i++) {
        int32_t id = infer_sampler_sample(a, logits);
        cr_assert_eq(id, expected[i], "draw %d is %d", i, id);
        cr_assert_eq(id, infer_sampler_sample(b, logits));
        differ += id != infer_sampler_sample(c, logits);
    }
    cr_assert_geq(differ, 1);
    infer_sampler_destroy(a);
    infer_sampler_destroy(b);
    infer_sampler_destroy(c);
}

/* ---- options ---- */

static void refuse(infer_sampler_options o, const char *message)
{
    infer_sampler *s = NULL;
    infer_error err = {0};
    cr_assert_eq(infer_sampler_open(NULL, 10, &o, &s, &err), INFER_ERROR_ARGUMENT, "%s", message);
    cr_assert_str_eq(err.message, message);
    cr_assert_null(s);
}

#define REFUSE(field, value, message)                                                                                                      \
    do {                                                                                                                                   \
        infer_sampler_options o = INFER_SAMPLER_DEFAULTS;                                                                                  \
        o.field = value;                                                                                                                   \
        refuse(o, message);                                                                                                                \
    } while (0)

Test(sampler, options_out_of_range)
{
    infer_sampler *s = NULL;
    REFUSE(temperature, -0.1f, "temperature is -0.1, expected 0 to 100");
    REFUSE(temperature, 100.5f, "temperature is 100.5, expected 0 to 100");
    REFUSE(temperature, NAN, "temperature is nan, expected 0 to 100");
    REFUSE(top_p, 0.0f, "top_p is 0, expected more than 0 and at most 1");
    REFUSE(top_p, 1.5f, "top_p is 1.5, expected more than 0 and at most 1");
    REFUSE(min_p, -1.0f, "min_p is -1, expected 0 to 1");
    REFUSE(min_p, 1.25f, "min_p is 1.25, expected 0 to 1");
    REFUSE(repeat_penalty, 0.0f, "repeat_penalty is 0, expected more than 0 and finite");
    REFUSE(repeat_penalty, INFINITY, "repeat_penalty is inf, expected more than 0 and finite");
    REFUSE(repeat_last, 4097, "repeat_last is 4097, expected at most 4096");
    REFUSE(size, 3, "sampler options: size is 3, expected 40 (start from INFER_SAMPLER_DEFAULTS)");
    cr_assert_eq(infer_sampler_open(NULL, 0, NULL, &s, NULL), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_sampler_open(NULL, 0x80000000u, NULL, &s, NULL), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_sampler_open(NULL, 1, NULL, &s, NULL), INFER_OK);
    cr_assert_eq(infer_sampler_sample(s, (float[]){-1.0f}), 0);
    infer_sampler_destroy(s);
    infer_sampler_destroy(NULL);
}

/* The sampler, its candidates and the recent tokens; with a penalty, the logits that have it as well. */
Test(sampler, every_allocation_may_fail)
{
    for (size_t penalty = 0; penalty < 2; penalty++) {
        infer_sampler_options o = INFER_SAMPLER_DEFAULTS;
        infer_status status;
        size_t fail_at = 0;
        o.repeat_penalty = penalty ? 1.1f : 1;
        do {
            check_allocator a;
            infer_sampler *s = NULL;
            infer_error err = {0};
            check_allocator_init(&a, ++fail_at);
            status = infer_sampler_open(&a.allocator, 100, &o, &s, &err);
            cr_assert(status == INFER_OK || (status == INFER_ERROR_MEMORY && err.status == status && !s));
            infer_sampler_destroy(s);
            cr_assert_eq(a.live, 0);
        } while (status);
        cr_assert_eq(fail_at, 4 + penalty);
    }
}
