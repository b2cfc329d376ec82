#include "energy.h"

#include "cores.h"
#include "shapes.h"
#include "stats.h"

#include "core/core.h"
#include "energy/energy.h"

#include <math.h>

#define WATCH_NS 3000000000u /* how long a counter's updates are watched for at most */
#define WATCH_UPDATES 50
#define WATCH_STEP_NS 200000u
#define DEFAULT_WINDOW_S 2.0
#define LONGEST_UNASKED_S 60.0

enum { PROMPT, GENERATION, PHASES };

typedef struct window {
    double gross; /* J/token, NAN: left out */
    double seconds, tokens;
    uint32_t jumps;
} window;

typedef struct run {
    const infer_energy_subject *subjects;
    uint32_t count;
    const infer_energy_options *options;
    const volatile sig_atomic_t *stop;
    infer_energy_result *result;
    int32_t *ids;    /* [most tokens evaluated at once] */
    window *windows; /* [PHASES][repeat][count] */
} run;

static window *window_at(const run *r, int phase, uint32_t repetition, uint32_t subject)
{
    return &r->windows[((size_t)phase * r->options->repeat + repetition) * r->count + subject];
}

static bool measures(const run *r, int phase) { return phase == PROMPT ? r->options->prompt > 0 : r->options->tokens > 0; }

/* ---- work ---- */

static infer_status once(const run *r, const infer_energy_subject *s, int phase, uint32_t tokens, infer_error *err)
{
    const infer_energy_options *o = r->options;
    infer_status status = infer_session_rewind(s->session, phase == PROMPT ? 0 : o->depth, err);
    if (phase == PROMPT)
        return status == INFER_OK ? infer_session_eval(s->session, r->ids, tokens, INFER_LOGITS_LAST, err) : status;
    for (uint32_t i = 0; i < tokens && status == INFER_OK; i++)
        status = infer_session_eval(s->session, r->ids + i % (o->prompt + o->depth + 1), 1, INFER_LOGITS_LAST, err);
    return status;
}

/* Before a phase's windows: what generation starts behind. */
static infer_status prepare(const run *r, const infer_energy_subject *s, int phase, infer_error *err)
{
    infer_status status = phase == PROMPT ? INFER_OK : infer_session_rewind(s->session, 0, err);
    if (phase == PROMPT || status != INFER_OK || !r->options->depth)
        return status;
    return infer_session_eval(s->session, r->ids, r->options->depth, INFER_LOGITS_NONE, err);
}

/* Brings weights into memory and the clock up. */
static infer_status warm_up(const run *r, infer_error *err)
{
    infer_status status = INFER_OK;
    for (uint32_t i = 0; i < r->count && status == INFER_OK; i++)
        for (int phase = 0; phase < PHASES && status == INFER_OK; phase++)
            if (measures(r, phase)) {
                uint32_t tokens = phase == PROMPT ? r->options->prompt : r->options->tokens < 8 ? r->options->tokens : 8;
                infer_pin_cpus(r->subjects[i].cpus);
                if ((status = prepare(r, &r->subjects[i], phase, err)) == INFER_OK)
                    status = once(r, &r->subjects[i], phase, tokens, err);
            }
    return status;
}

/* ---- the counter ---- */

/* Mean time between two updates, watched. Power readings are taken on time, counters that are too slow to watch count with what their source says. */
static infer_status watch(const run *r, double *update_s, infer_error *err)
{
    infer_meter *m = r->subjects[0].meter;
    uint64_t start = infer_now_ns(), first = 0, last = 0;
    double before, now;
    int updates = -1; /* the first change only tells where an interval begins */
    infer_status s;
    *update_s = infer_meter_update_s(m);
    if (infer_meter_kind(m) != INFER_ENERGY_MEASURED)
        return INFER_OK;
    if (infer_meter_reads_power(m)) {
        *update_s = infer_meter_wake_ns(m) / 1e9;
        return INFER_OK;
    }
    if ((s = infer_meter_peek(m, &before, err)) != INFER_OK)
        return s;
    while (updates < WATCH_UPDATES && (last = infer_now_ns()) - start < WATCH_NS && !*r->stop) {
        infer_sleep_until(last + WATCH_STEP_NS, NULL);
        if ((s = infer_meter_peek(m, &now, err)) != INFER_OK)
            return s;
        if (now == before)
            continue;
        before = now;
        if (++updates == 0)
            first = infer_now_ns();
        else
            *update_s = (infer_now_ns() - first) / 1e9 / updates;
    }
    return INFER_OK;
}

static infer_status choose_window(const run *r, double update_s, double *window_s, infer_error *err)
{
    double need = update_s * INFER_ENERGY_UPDATES, wanted = r->options->window_s;
    if (wanted > 0 && wanted < need)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "the counter changes every %.3g s; a window of %.3g s has fewer than %u updates, it needs %.3g s",
                          update_s, wanted, INFER_ENERGY_UPDATES, need);
    if (!(wanted > 0) && need > LONGEST_UNASKED_S)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "the counter changes every %.3g s; %u updates need windows of %.3g s: ask for them with --window",
                          update_s, INFER_ENERGY_UPDATES, need);
    *window_s = wanted > 0 ? wanted : need > DEFAULT_WINDOW_S ? need : DEFAULT_WINDOW_S;
    return INFER_OK;
}

/* Watts of the machine at rest. Estimates have a baseline of their own. */
static infer_status rest(const run *r, double *watts, infer_error *err)
{
    infer_meter *m = r->subjects[0].meter;
    infer_energy e;
    infer_status s = infer_meter_start(m, err);
    if (s != INFER_OK)
        return s;
    if (infer_meter_kind(m) == INFER_ENERGY_MEASURED)
        infer_sleep_until(infer_now_ns() + (uint64_t)(r->options->idle_s * 1e9), r->stop);
    if ((s = infer_meter_stop(m, &e, err)) == INFER_OK)
        *watts = infer_meter_kind(m) == INFER_ENERGY_MEASURED ? e.gross_uj / 1e6 / e.seconds : e.idle_watts;
    return s;
}

/* ---- windows ---- */

static infer_status measure_window(const run *r, uint32_t subject, int phase, window *w, infer_error *err)
{
    const infer_energy_subject *s = &r->subjects[subject];
    uint32_t tokens = phase == PROMPT ? r->options->prompt : r->options->tokens;
    infer_energy e;
    infer_error ignored;
    uint64_t start;
    infer_status status;
    *w = (window){.gross = NAN};
    infer_pin_cpus(s->cpus);
    if ((status = prepare(r, s, phase, err)) != INFER_OK || (status = infer_meter_start(s->meter, err)) != INFER_OK)
        return status;
    start = infer_now_ns();
    do {
        status = once(r, s, phase, tokens, err);
        w->tokens += tokens;
    } while (status == INFER_OK && (infer_now_ns() - start) / 1e9 < r->result->window_s);
    if (status != INFER_OK) {
        infer_meter_stop(s->meter, &e, &ignored);
        return status;
    }
    if ((status = infer_meter_stop(s->meter, &e, err)) != INFER_OK)
        return status;
    w->seconds = e.seconds;
    w->jumps = e.jumps;
    if (!e.jumps)
        w->gross = e.gross_uj / 1e6 / w->tokens;
    return INFER_OK;
}

static infer_status measure_all(const run *r, infer_error *err)
{
    uint32_t jobs[PHASES * INFER_ENERGY_MAX_REPEAT], n = 0;
    uint64_t random = r->options->seed ? r->options->seed : ~(uint64_t)0; /* 0 is no state of infer_random */
    infer_status s = INFER_OK;
    for (uint32_t i = 0; i < PHASES * r->options->repeat; i++)
        if (measures(r, (int)(i % PHASES)))
            jobs[n++] = i;
    for (uint32_t i = n; i > 1; i--) { /* Fisher and Yates */
        uint32_t k = (uint32_t)(infer_random(&random) % i), swap = jobs[i - 1];
        jobs[i - 1] = jobs[k];
        jobs[k] = swap;
    }
    for (uint32_t i = 0; i < n && s == INFER_OK; i++)
        for (uint32_t k = 0; k < r->count && s == INFER_OK; k++)
            s = *r->stop ? infer_fail(err, INFER_ERROR_CANCELLED, "the measurement was cancelled")
                         : measure_window(r, k, (int)(jobs[i] % PHASES), window_at(r, (int)(jobs[i] % PHASES), jobs[i] / PHASES, k), err);
    return s;
}

/* ---- figures ---- */

static double median_or_nan(double *v, uint32_t n) { return n ? infer_median(v, n) : NAN; }

static void summarize(const run *r, int phase, uint32_t subject, infer_energy_phase *out)
{
    double gross[INFER_ENERGY_MAX_REPEAT], net[INFER_ENERGY_MAX_REPEAT], watts[INFER_ENERGY_MAX_REPEAT], rate[INFER_ENERGY_MAX_REPEAT],
        ratio[INFER_ENERGY_MAX_REPEAT], shortest = INFINITY, idle = (r->result->idle_before + r->result->idle_after) / 2;
    uint32_t n = 0, rates = 0, pairs = 0;
    *out = (infer_energy_phase){.windows = r->options->repeat};
    for (uint32_t i = 0; i < r->options->repeat; i++) {
        const window *w = window_at(r, phase, i, subject), *first = window_at(r, phase, i, 0);
        out->jumps += w->jumps;
        rate[rates++] = w->tokens / w->seconds;
        shortest = w->seconds < shortest ? w->seconds : shortest;
        if (isnan(w->gross)) {
            out->left_out++;
            continue;
        }
        gross[n] = w->gross;
        net[n] = w->gross - idle * w->seconds / w->tokens;
        watts[n++] = w->gross * w->tokens / w->seconds;
        if (!isnan(first->gross))
            ratio[pairs++] = w->gross / first->gross;
    }
    out->gross = median_or_nan(gross, n);
    out->spread = n ? infer_spread(gross, n) : NAN;
    out->net = isnan(idle) ? NAN : median_or_nan(net, n);
    out->watts = median_or_nan(watts, n);
    out->tokens_per_s = infer_median(rate, rates);
    out->tokens_per_joule = 1 / out->gross;
    out->pair_ratio = median_or_nan(ratio, pairs);
    out->updates = r->result->update_s > 0 ? shortest / r->result->update_s : NAN;
}

static infer_status measure(const run *r, infer_error *err)
{
    infer_energy_result *out = r->result;
    infer_status s;
    if ((s = warm_up(r, err)) != INFER_OK || (s = watch(r, &out->update_s, err)) != INFER_OK ||
        (s = choose_window(r, out->update_s, &out->window_s, err)) != INFER_OK || (s = rest(r, &out->idle_before, err)) != INFER_OK ||
        (s = warm_up(r, err)) != INFER_OK || (s = measure_all(r, err)) != INFER_OK || (s = rest(r, &out->idle_after, err)) != INFER_OK)
        return s;
    for (int phase = 0; phase < PHASES; phase++)
        for (uint32_t i = 0; i < r->count; i++)
            if (measures(r, phase))
                summarize(r, phase, i, phase == PROMPT ? &out->prompt[i] : &out->generation[i]);
    return INFER_OK;
}

infer_status infer_energy_measure(const infer_energy_subject *subjects, uint32_t count, const infer_energy_options *options,
                                  const volatile sig_atomic_t *stop, infer_energy_result *out, infer_error *err)
{
    size_t ids = (size_t)options->prompt + options->depth + 1, windows = (size_t)PHASES * options->repeat * count;
    run r = {subjects, count, options, stop, out, infer_alloc(NULL, ids * sizeof *r.ids), infer_alloc_array(NULL, windows, sizeof *r.windows)};
    uint64_t random = 1;
    infer_status s;
    *out = (infer_energy_result){.kind = infer_meter_kind(subjects[0].meter)};
    if (!r.ids || !r.windows) {
        s = infer_fail_memory(err, ids * sizeof *r.ids + windows * sizeof *r.windows, "the windows");
    } else {
        uint32_t vocab = subjects[0].vocab;
        for (uint32_t i = 1; i < count; i++)
            vocab = subjects[i].vocab < vocab ? subjects[i].vocab : vocab;
        for (size_t i = 0; i < ids; i++)
            r.ids[i] = (int32_t)(infer_random(&random) % vocab);
        s = measure(&r, err);
    }
    infer_pin_cpus("");
    infer_free(NULL, r.ids);
    infer_free(NULL, r.windows);
    return s;
}
