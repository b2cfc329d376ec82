/* Logits to a token. In this order: repetition penalty, temperature, top-k, top-p, min-p, draw.
 *
 * Candidates are taken in one order, the larger logit first, the lower id on ties, from a heap: what is never drawn is never sorted, and
 * with top-k what is not among the k best is only compared. All sums run in an order that follows from the logits alone, in doubles, and
 * exp is our own: the same logits and seed give the same token on every machine. */
#include "ref/mathf.h"
#include "text/text.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define MAX_TEMPERATURE 100.0f
#define MAX_REPEAT_LAST 4096u

typedef struct candidate {
    float logit; /* never NaN */
    int32_t id;
} candidate;

struct infer_sampler {
    const infer_allocator *allocator;
    uint32_t vocab;
    infer_sampler_options options;
    uint64_t state[4];     /* xoshiro256** */
    candidate *candidates; /* [kept] */
    uint32_t kept;         /* top_k, or vocab where it is off */
    float *penalized;      /* [vocab]: the logits with the penalty; NULL: there is none */
    int32_t *recent;       /* [repeat_last], a ring */
    uint32_t recent_count, recent_next;
};

/* ---- random numbers: xoshiro256** 1.0, seeded by splitmix64 (Blackman and Vigna 2018) ---- */

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static void seed_state(uint64_t state[4], uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        state[i] = z ^ z >> 31;
    }
}

/* Uniform in [0, 1), 53 bits. */
static double draw(uint64_t s[4])
{
    const uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

/* ---- life ---- */

static infer_status check_options(const infer_sampler_options *o, infer_error *err)
{
    if (o->size != sizeof *o)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "sampler options: size is %zu, expected %zu (start from INFER_SAMPLER_DEFAULTS)",
                          o->size, sizeof *o);
    /* Written so that NaN fails too. */
    if (!(o->temperature >= 0.0f && o->temperature <= MAX_TEMPERATURE))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "temperature is %g, expected 0 to %g", (double)o->temperature,
                          (double)MAX_TEMPERATURE);
    if (!(o->top_p > 0.0f && o->top_p <= 1.0f))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "top_p is %g, expected more than 0 and at most 1", (double)o->top_p);
    if (!(o->min_p >= 0.0f && o->min_p <= 1.0f))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "min_p is %g, expected 0 to 1", (double)o->min_p);
    if (!(o->repeat_penalty > 0.0f && o->repeat_penalty <= FLT_MAX))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "repeat_penalty is %g, expected more than 0 and finite", (double)o->repeat_penalty);
    if (o->repeat_last > MAX_REPEAT_LAST)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "repeat_last is %u, expected at most %u", o->repeat_last, MAX_REPEAT_LAST);
    return INFER_OK;
}

infer_status infer_sampler_open(const infer_allocator *a, uint32_t vocab, const infer_sampler_options *options, infer_sampler **out,
                                infer_error *err)
{
    static const infer_sampler_options defaults = INFER_SAMPLER_DEFAULTS;
    const infer_sampler_options *o = options ? options : &defaults;
    infer_sampler *s;
    infer_status status = check_options(o, err);
    if (status)
        return status;
    if (vocab == 0 || vocab > INT32_MAX)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "sampler: a vocabulary of %u tokens, expected 1 to %d", vocab, INT32_MAX);
    s = infer_alloc_zero(a, sizeof *s);
    if (!s)
        return infer_fail_memory(err, sizeof *s, "a sampler");
    s->allocator = a;
    s->vocab = vocab;
    s->options = *o;
    seed_state(s->state, o->seed);
    s->kept = o->top_k && o->top_k < vocab ? o->top_k : vocab;
    s->candidates = infer_alloc_array(a, s->kept, sizeof *s->candidates);
    s->recent = infer_alloc_array(a, o->repeat_last + 1, sizeof *s->recent);
    if (o->repeat_penalty != 1.0f)
        s->penalized = infer_alloc_array(a, vocab, sizeof *s->penalized);
    if (!s->candidates || !s->recent || (!s->penalized && o->repeat_penalty != 1.0f)) {
        size_t bytes = s->kept * sizeof *s->candidates + vocab * sizeof *s->penalized;
        infer_sampler_destroy(s);
        return infer_fail_memory(err, bytes, "a sampler's candidates");
    }
    *out = s;
    return INFER_OK;
}

void infer_sampler_destroy(infer_sampler *s)
{
    if (!s)
        return;
    infer_free(s->allocator, s->candidates);
    infer_free(s->allocator, s->penalized);
    infer_free(s->allocator, s->recent);
    infer_free(s->allocator, s);
}

infer_status infer_sampler_clone(const infer_sampler *s, infer_sampler **out, infer_error *err)
{
    infer_sampler *clone;
    infer_status status = infer_sampler_open(s->allocator, s->vocab, &s->options, &clone, err);
    if (status != INFER_OK)
        return status;
    infer_sampler_copy(clone, s);
    *out = clone;
    return INFER_OK;
}

void infer_sampler_copy(infer_sampler *to, const infer_sampler *from)
{
    memcpy(to->state, from->state, sizeof to->state);
    memcpy(to->recent, from->recent, from->options.repeat_last * sizeof *from->recent);
    to->recent_count = from->recent_count;
    to->recent_next = from->recent_next;
}

void infer_sampler_accept(infer_sampler *s, int32_t id)
{
    const uint32_t last = s->options.repeat_last;
    if (id < 0 || (uint32_t)id >= s->vocab || last == 0)
        return;
    if (s->recent_count < last)
        s->recent_count++;
    s->recent[s->recent_next] = id;
    s->recent_next = (s->recent_next + 1) % last;
}

/* ---- heaps of candidates ---- */

static bool better(candidate a, candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Lets h[i] sink. best: the best candidate is on top, else the worst. */
static void sink(candidate *h, size_t n, size_t i, bool best)
{
    const candidate c = h[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && better(h[child + 1], h[child]) == best)
            child++;
        if (better(h[child], c) != best)
            break;
        h[i] = h[child];
    }
    h[i] = c;
}

static void make_heap(candidate *h, size_t n, bool best)
{
    for (size_t i = n / 2; i-- > 0;)
        sink(h, n, i, best);
}

/* Index of the first of v[from..n) that is above `bound`; n: none is. Whole blocks first, which compilers turn into vectors. */
static size_t next_above(const float *v, size_t from, size_t n, float bound)
{
    enum { BLOCK = 32 };
    size_t i = from;
    for (; i + BLOCK <= n; i += BLOCK) {
        int above = 0;
        for (size_t j = 0; j < BLOCK; j++)
            above |= v[i + j] > bound;
        if (above)
            break;
    }
    while (i < n && !(v[i] > bound))
        i++;
    return i;
}

/* The best of the logits, in no order. Once there are as many as are kept, the worst of them stays on top of a heap; by its logit alone, as
 * later ids lose ties. */
static void select_candidates(infer_sampler *s, const float *logits)
{
    candidate *c = s->candidates;
    const size_t k = s->kept, n = s->vocab;
    for (size_t i = 0; i < k; i++)
        c[i] = (candidate){logits[i] == logits[i] ? logits[i] : -INFINITY, (int32_t)i};
    if (k == n)
        return;
    make_heap(c, k, false);
    for (size_t i = k; (i = next_above(logits, i, n, c[0].logit)) < n; i++) {
        c[0] = (candidate){logits[i], (int32_t)i};
        sink(c, k, 0, false);
    }
}

/* ---- choosing ---- */

/* Relative to the best candidate's. exp((logit - best) / temperature), but without inf - inf. */
static double weight(const infer_sampler *s, float logit, float best)
{
    if (logit == best)
        return 1.0;
    return logit == -INFINITY ? 0.0 : (double)infer_ref_expf((float)(((double)logit - (double)best) / (double)s->options.temperature));
}

/* Of a finite logit; the result is finite too, so that a token that could be chosen still can. */
static float penalized(float logit, float penalty)
{
    const float p = logit > 0.0f ? logit / penalty : logit * penalty;
    return p > FLT_MAX ? FLT_MAX : p < -FLT_MAX ? -FLT_MAX : p;
}

/* The logits as they are chosen from. */
static const float *penalize(infer_sampler *s, const float *logits)
{
    if (!s->penalized)
        return logits;
    memcpy(s->penalized, logits, s->vocab * sizeof *logits);
    for (uint32_t i = 0; i < s->recent_count; i++) {
        const int32_t id = s->recent[i];
        if (isfinite(logits[id]))
            s->penalized[id] = penalized(logits[id], s->options.repeat_penalty);
    }
    return s->penalized;
}

/* Candidates in order. The first `taken` lie, sorted, at the end of c[0..n), the best last; the others are a heap before them. */
typedef struct ordered {
    candidate *c;
    size_t n, taken;
} ordered;

static candidate at(ordered *o, size_t i)
{
    while (i >= o->taken) {
        const size_t left = o->n - ++o->taken;
        const candidate top = o->c[0];
        o->c[0] = o->c[left];
        o->c[left] = top;
        sink(o->c, left, 0, true);
    }
    return o->c[o->n - 1 - i];
}

static int32_t choose(infer_sampler *s, const float *logits)
{
    const infer_sampler_options *o = &s->options;
    ordered order = {s->candidates, s->kept, 0};
    double total = 0.0, mass = 0.0, sum = 0.0, target;
    float best;
    int32_t id = 0;
    size_t kept;
    select_candidates(s, logits);
    make_heap(order.c, order.n, true);
    best = order.c[0].logit;
    if (best == -INFINITY)
        return order.c[0].id;
    for (size_t i = 0; i < order.n; i++) {
        const double w = weight(s, order.c[i].logit, best);
        total += w;
        mass += w >= (double)o->min_p ? w : 0.0;
    }
    kept = order.n;
    if (o->top_p < 1.0f) { /* keep the fewest that have top_p of the total */
        mass = 0.0;
        for (kept = 0; kept < order.n && mass < (double)o->top_p * total; kept++) {
            const double w = weight(s, at(&order, kept).logit, best);
            if (w < (double)o->min_p)
                break;
            mass += w;
        }
    }
    target = draw(s->state) * mass;
    for (size_t i = 0; i < kept; i++) {
        const candidate c = at(&order, i);
        const double w = weight(s, c.logit, best);
        if (w == 0.0 || w < (double)o->min_p)
            break;
        id = c.id;
        if ((sum += w) > target)
            break;
    }
    return id;
}

int32_t infer_sampler_sample(infer_sampler *s, const float *logits)
{
    const float *from = penalize(s, logits);
    const int32_t id = s->options.temperature == 0.0f ? infer_argmax(from, s->vocab) : choose(s, from);
    infer_sampler_accept(s, id);
    return id;
}

double infer_logprob(const float *logits, size_t n, int32_t id)
{
    double sum = 0, most = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (logits[i] > most)
            most = logits[i];
    if (id < 0 || (size_t)id >= n || !isfinite(most))
        return NAN;
    for (size_t i = 0; i < n; i++)
        if (!isnan(logits[i]))
            sum += exp(logits[i] - most);
    return isnan(logits[id]) ? -INFINITY : logits[id] - most - log(sum);
}

int32_t infer_argmax(const float *values, size_t n)
{
    size_t best = 0;
    float value = -INFINITY;
    for (size_t i = 0; (i = next_above(values, i, n, value)) < n; i++) {
        value = values[i];
        best = i;
    }
    return (int32_t)best;
}
