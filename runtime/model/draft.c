/*
 * Self-draft: the model guesses the next tokens with most of its inputs silent, then evaluates all guesses exactly in one batch, and keeps
 * those that the sampler chooses from the exact logits as well (Leviathan et al. 2023, arXiv:2211.17192, with one and the same model).
 * Every token that comes out was chosen from exact logits, with the random numbers that it would have got without drafts: guesses decide
 * about time alone.
 */
#include "model/model.h"
#include "text/text.h"

#include <infer/infer_experimental.h>
#include <string.h>

#define MEMORY 0.9       /* weight of what was before, for each new measurement */
#define BATCH_COST 0.15  /* of a token more in a batch, while it is not known, as a share of the first one's */
#define PROBE_STEPS 32u  /* steps without a draft before it is tried again */

struct infer_drafter {
    infer_session *session;
    infer_sampler *guesser; /* a copy of the caller's at each step: the same random numbers for the same tokens */
    double rate;
    uint32_t most;
    double guess_ns;                              /* 0: not known */
    double verify_ns[INFER_DRAFT_MAX + 2];        /* [tokens in the batch] */
    double agreement;                             /* chance that a guess is right after right ones */
    uint32_t idle;                                /* steps without a draft */
    infer_drafter_stats stats;
};

infer_status infer_drafter_create(infer_session *session, const infer_sampler *sampler, double rate, uint32_t most, infer_drafter **out,
                                  infer_error *err)
{
    const infer_allocator *a;
    infer_drafter *d;
    infer_status s;
    if (!session || !sampler || !out || !most || most > INFER_DRAFT_MAX || !(rate > 0))
        return infer_fail(err, INFER_ERROR_ARGUMENT,
                          "infer_drafter_create: session, sampler or out is NULL, or found rate %g and most %u, "
                          "expected above 0 and 1..%u",
                          rate, most, INFER_DRAFT_MAX);
    if (infer_session_plan(session)->max_logits < most + 1)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_drafter_create: the session keeps %u rows of logits, %u guesses need %u",
                          infer_session_plan(session)->max_logits, most, most + 1);
    if ((s = infer_session_set_events(session, rate, err)) != INFER_OK || (s = infer_session_set_events(session, 0, err)) != INFER_OK)
        return s;
    a = &infer_session_model(session)->rt->allocator;
    if (!(d = infer_alloc_zero(a, sizeof *d)))
        return infer_fail_memory(err, sizeof *d, "a drafter");
    *d = (infer_drafter){.session = session, .rate = rate, .most = most, .agreement = 0.7};
    if ((s = infer_sampler_clone(sampler, &d->guesser, err)) != INFER_OK) {
        infer_free(a, d);
        return s;
    }
    *out = d;
    return INFER_OK;
}

void infer_drafter_destroy(infer_drafter *d)
{
    if (!d)
        return;
    infer_sampler_destroy(d->guesser);
    infer_free(&infer_session_model(d->session)->rt->allocator, d);
}

void infer_drafter_get_stats(const infer_drafter *d, infer_drafter_stats *out) { *out = d->stats; }

static void learn(double *mean, double value) { *mean = *mean > 0 ? MEMORY * *mean + (1 - MEMORY) * value : value; }

/* Time of a batch of m tokens; where it was not measured, from the nearest smaller one that was. */
static double verify_ns(const infer_drafter *d, uint32_t m)
{
    uint32_t known = m;
    while (known > 1 && !(d->verify_ns[known] > 0))
        known--;
    return d->verify_ns[known] + (m - known) * BATCH_COST * d->verify_ns[1];
}

/* Guesses with which most tokens come out of a second. */
static uint32_t best_length(infer_drafter *d, uint32_t most)
{
    uint32_t best = 0;
    double rate, highest = 0, tokens = 0, chance = 1;
    if (!(d->verify_ns[1] > 0) || !most)
        return 0;
    if (!(d->guess_ns > 0))
        return most < 2 ? most : 2;
    for (uint32_t k = 0; k <= most; k++, chance *= d->agreement) {
        tokens += chance;
        rate = tokens / (k * d->guess_ns + verify_ns(d, k + 1));
        if (rate > highest) {
            highest = rate;
            best = k;
        }
    }
    d->idle = best ? 0 : d->idle + 1;
    if (d->idle >= PROBE_STEPS) {
        d->idle = 0;
        best = 1;
    }
    return best;
}

/* Behind `id`, at most k tokens. */
static infer_status guess(infer_drafter *d, const infer_sampler *sampler, int32_t id, uint32_t k, int32_t *out, uint32_t *count,
                          infer_error *err)
{
    uint64_t start = infer_now_ns();
    uint32_t position = infer_session_position(d->session);
    infer_status s = infer_session_set_events(d->session, d->rate, err), off;
    *count = 0;
    infer_sampler_copy(d->guesser, sampler);
    while (s == INFER_OK && *count < k) {
        if ((s = infer_session_eval(d->session, &id, 1, INFER_LOGITS_LAST, err)) != INFER_OK)
            break;
        id = out[(*count)++] = infer_sampler_sample(d->guesser, infer_session_logits(d->session, 0));
        if (infer_model_token_is_end(infer_session_model(d->session), id))
            break;
    }
    off = infer_session_set_events(d->session, 0, s == INFER_OK ? err : NULL);
    if (s == INFER_OK && (s = off) == INFER_OK)
        s = infer_session_rewind(d->session, position, err);
    else
        infer_session_rewind(d->session, position, NULL);
    if (s == INFER_OK && *count)
        learn(&d->guess_ns, (double)(infer_now_ns() - start) / *count);
    return s;
}

infer_status infer_drafter_step(infer_drafter *d, infer_sampler *sampler, int32_t id, int32_t *ids, size_t cap, size_t *count,
                                infer_error *err)
{
    int32_t batch[INFER_DRAFT_MAX + 1];
    uint32_t position, room, k, guesses = 0, right = 0;
    size_t n = 0;
    uint64_t start;
    infer_status s = INFER_OK;
    if (!d || !sampler || !ids || !cap || !count)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_drafter_step: drafter, sampler, ids or count is NULL, or cap is 0");
    position = infer_session_position(d->session);
    room = infer_session_context(d->session) - position; /* of which the id takes one */
    k = d->most < cap - 1 ? d->most : (uint32_t)(cap - 1);
    k = room ? best_length(d, k < room - 1 ? k : room - 1) : 0;
    batch[0] = id;
    if (k)
        s = guess(d, sampler, id, k, batch + 1, &guesses, err);
    start = infer_now_ns();
    if (s == INFER_OK)
        s = infer_session_eval(d->session, batch, guesses + 1, INFER_LOGITS_ALL, err);
    if (s != INFER_OK)
        return s;
    learn(&d->verify_ns[guesses + 1], (double)(infer_now_ns() - start));
    for (;;) {
        id = ids[n] = infer_sampler_sample(sampler, infer_session_logits(d->session, n));
        n++;
        if (right == guesses || id != batch[right + 1])
            break;
        right++;
        if (infer_model_token_is_end(infer_session_model(d->session), id))
            break;
    }
    if ((s = infer_session_rewind(d->session, position + (uint32_t)n, err)) != INFER_OK)
        return s;
    for (uint32_t i = 0; i < guesses && i <= right; i++)
        d->agreement = MEMORY * d->agreement + (1 - MEMORY) * (i < right);
    d->stats.steps++;
    d->stats.drafted += guesses;
    d->stats.accepted += right;
    d->stats.tokens += n;
    *count = n;
    return INFER_OK;
}
