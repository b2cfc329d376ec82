/* Readings -> joules. While a window is open, a thread reads counters before they can wrap twice, and powers often enough to integrate
 * them; sources that need neither have no thread. */
#include "energy/energy.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WRAP_SHARE 4.0 /* a counter is read so often within the time that it needs at full power to wrap */

/* Of one part, in the window that is open. */
typedef struct tally {
    double last; /* uJ or uW */
    uint64_t last_ns;
    double uj;
} tally;

struct infer_meter {
    infer_runtime *rt;
    infer_energy_kind kind;
    const infer_energy_source *source; /* MEASURED */
    infer_energy_model model;          /* ESTIMATED */
    char name[200], note[500];
    double idle_watts; /* NAN: not known */
    uint64_t wake_ns;
    infer_perf perf;
    infer_energy_parts parts;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    pthread_t thread;
    bool open, sampling, stop;
    uint64_t start_ns, start_cpu_ns, start_bytes;
    bool lost; /* part of the window's energy is not known */
    uint32_t jumps;
    infer_status failed;
    infer_error failure;
    tally tally[INFER_ENERGY_MAX_PARTS];
};

/* ---- readings ---- */

/* A counter's way since its last reading; what no machine can have used is not added. */
static void add_count(infer_meter *m, const infer_energy_part *part, tally *t, double value, double seconds)
{
    double most = INFER_ENERGY_MAX_WATTS * 1e6 * (seconds + m->source->update_s), delta = part->falls ? t->last - value : value - t->last;
    if (delta < 0 && part->range_uj)
        delta += (double)part->range_uj;
    if (delta < 0 || delta > most) {
        m->jumps++;
        m->lost = true;
    } else {
        t->uj += delta;
    }
    t->last = value;
}

/* Trapezoids between the good readings of a power: a bad one is bridged. False: this one is bad. */
static bool add_power(infer_meter *m, tally *t, double value, double seconds)
{
    if (value < 0 || value > INFER_ENERGY_MAX_WATTS * 1e6) {
        m->jumps++;
        return false;
    }
    t->uj += (t->last + value) / 2 * seconds;
    t->last = value;
    return true;
}

/* Reads all parts at about `now`; the first time in a window only notes where they stand. Lock held. */
static void sample(infer_meter *m, uint64_t now, bool first)
{
    for (uint32_t i = 0; i < m->parts.count && m->failed == INFER_OK; i++) {
        const infer_energy_part *part = &m->parts.part[i];
        tally *t = &m->tally[i];
        double value;
        m->failed = m->source->read(&m->parts, part, &value, &m->failure);
        if (m->failed != INFER_OK)
            return;
        if (first) {
            *t = (tally){.last = value};
            if (part->power && (value < 0 || value > INFER_ENERGY_MAX_WATTS * 1e6)) {
                m->jumps++;
                m->lost = true;
            }
        } else if (part->power) {
            if (add_power(m, t, value, (now - t->last_ns) / 1e9))
                t->last_ns = now;
        } else {
            add_count(m, part, t, value, (now - t->last_ns) / 1e9);
            t->last_ns = now;
        }
    }
}

static void *sampler_main(void *user)
{
    infer_meter *m = user;
    struct timespec due;
    pthread_mutex_lock(&m->lock);
    clock_gettime(CLOCK_MONOTONIC, &due);
    while (!m->stop) {
        uint64_t ns = (uint64_t)due.tv_nsec + m->wake_ns;
        due.tv_sec += (time_t)(ns / 1000000000u);
        due.tv_nsec = (long)(ns % 1000000000u);
        while (!m->stop && pthread_cond_timedwait(&m->changed, &m->lock, &due) == 0)
            ;
        if (!m->stop)
            sample(m, infer_now_ns(), false);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- choosing a source ---- */

/* ns between wake-ups that no counter can wrap in, and that integrate powers. */
static uint64_t wake_ns(const infer_meter *m)
{
    uint64_t ns = 0;
    for (uint32_t i = 0; i < m->parts.count; i++) {
        const infer_energy_part *part = &m->parts.part[i];
        uint64_t each =
            part->power ? m->source->sample_ns : (uint64_t)((double)part->range_uj / (INFER_ENERGY_MAX_WATTS * WRAP_SHARE) * 1e3);
        if (each && (!ns || each < ns))
            ns = each;
    }
    return ns && ns < 1000000 ? 1000000 : ns;
}

static infer_status try_source(infer_meter *m, const infer_energy_source *source, const infer_energy_place *place, infer_error *err)
{
    infer_status s;
    size_t at;
    memset(&m->parts, 0, sizeof m->parts);
    m->parts.place = *place;
    if (snprintf(m->parts.root, sizeof m->parts.root, "%s", place->root) >= (int)sizeof m->parts.root ||
        snprintf(m->parts.argument, sizeof m->parts.argument, "%s", place->argument) >= (int)sizeof m->parts.argument)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "energy source: the path is too long");
    m->parts.place.root = m->parts.root;
    m->parts.place.argument = m->parts.argument;
    if (!source->probe(&m->parts.place))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "energy source %s: this machine has none", source->name);
    if ((s = source->open(&m->parts, err)) != INFER_OK)
        return s;
    m->source = source;
    m->kind = INFER_ENERGY_MEASURED;
    m->wake_ns = wake_ns(m);
    at = (size_t)snprintf(m->name, sizeof m->name, "%s (", source->name);
    for (uint32_t i = 0; i < m->parts.count && at < sizeof m->name; i++)
        at += (size_t)snprintf(m->name + at, sizeof m->name - at, "%s%s", i ? "+" : "", m->parts.part[i].name);
    if (at < sizeof m->name)
        snprintf(m->name + at, sizeof m->name - at, ")");
    return INFER_OK;
}

static infer_status use_estimate(infer_meter *m, const infer_meter_options *o, infer_error *err)
{
    infer_status s = infer_energy_model_load(o->coefficients, &m->model, err);
    infer_cpus cpus;
    if (s != INFER_OK)
        return s;
    m->kind = INFER_ENERGY_ESTIMATED;
    infer_cpus_available(&cpus);
    m->idle_watts = m->model.idle_watts_per_core * cpus.cores;
    snprintf(m->name, sizeof m->name, "estimate");
    return INFER_OK;
}

/* The first counter that works; why others do not is kept as the note. */
static infer_status use_best(infer_meter *m, const infer_meter_options *o, const infer_energy_place *place, infer_error *err)
{
    const infer_energy_source *source;
    for (size_t i = 0; (source = infer_energy_source_at(i)); i++) {
        infer_error why = {INFER_OK, ""};
        size_t at = strlen(m->note);
        if (!source->automatic || !source->probe(place))
            continue;
        if (try_source(m, source, place, &why) == INFER_OK)
            return INFER_OK;
        snprintf(m->note + at, sizeof m->note - at, "%s%s", at ? "; " : "", why.message);
    }
    if (!*m->note)
        snprintf(m->note, sizeof m->note, "this machine shows no energy counter");
    return use_estimate(m, o, err);
}

static infer_status choose(infer_meter *m, const infer_meter_options *o, infer_error *err)
{
    const char *environment = getenv("INFER_ENERGY"), *wanted = o->source ? o->source : environment && *environment ? environment : "auto";
    infer_energy_place place = {o->root ? o->root : "", &m->perf, ""};
    const infer_energy_source *source;
    const char *colon = strchr(wanted, ':');
    size_t bytes = colon ? (size_t)(colon - wanted) : strlen(wanted);
    char known[160] = "auto, off, estimate";
    if (strcmp(wanted, "off") == 0) {
        snprintf(m->name, sizeof m->name, "off");
        return INFER_OK;
    }
    if (strcmp(wanted, "estimate") == 0)
        return use_estimate(m, o, err);
    if (strcmp(wanted, "auto") == 0)
        return use_best(m, o, &place, err);
    if (colon)
        place.argument = colon + 1;
    for (size_t i = 0; (source = infer_energy_source_at(i)); i++) {
        size_t at = strlen(known);
        if (strlen(source->name) == bytes && strncmp(source->name, wanted, bytes) == 0 && source->automatic == !colon)
            return try_source(m, source, &place, err);
        snprintf(known + at, sizeof known - at, ", %s%s", source->name, source->automatic ? "" : ":...");
    }
    return infer_fail(err, INFER_ERROR_ARGUMENT, "energy source: found \"%.60s\", expected one of %s", wanted, known);
}

/* ---- the interface ---- */

static void destroy(infer_meter *m)
{
    infer_allocator a = m->rt->allocator;
    if (m->source && m->source->close)
        m->source->close(&m->parts);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    infer_free(&a, m);
}

infer_status infer_meter_create_in(infer_runtime *rt, const infer_meter_options *options, const infer_perf *perf, infer_meter **out,
                                   infer_error *err)
{
    infer_meter_options o = INFER_METER_DEFAULTS;
    infer_meter *m;
    infer_status s;
    pthread_condattr_t monotonic;
    if (!rt || !out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_meter_create: rt or out is NULL");
    if (options) {
        if (options->size != sizeof o)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_meter_create: options.size: found %zu, expected %zu", options->size,
                              sizeof o);
        o = *options;
    }
    if (!(m = infer_alloc_zero(&rt->allocator, sizeof *m)))
        return infer_fail_memory(err, sizeof *m, "the energy meter");
    m->rt = rt;
    m->perf = *perf;
    m->idle_watts = NAN;
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if ((s = choose(m, &o, err)) != INFER_OK) {
        destroy(m);
        return s;
    }
    if (o.idle_watts > 0)
        m->idle_watts = o.idle_watts;
    *out = m;
    return INFER_OK;
}

infer_status infer_meter_create(infer_runtime *rt, const infer_meter_options *options, infer_meter **out, infer_error *err)
{
    return infer_meter_create_in(rt, options, &infer_perf_system, out, err);
}

/* Ends the sampling thread. */
static void end_sampling(infer_meter *m)
{
    if (!m->sampling)
        return;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    m->sampling = m->stop = false;
}

void infer_meter_destroy(infer_meter *m)
{
    if (!m)
        return;
    end_sampling(m);
    destroy(m);
}

infer_energy_kind infer_meter_kind(const infer_meter *m) { return m->kind; }
const char *infer_meter_source(const infer_meter *m) { return m->name; }
const char *infer_meter_note(const infer_meter *m) { return m->note; }
double infer_meter_update_s(const infer_meter *m) { return m->kind == INFER_ENERGY_MEASURED ? m->source->update_s : 0; }
bool infer_meter_reads_power(const infer_meter *m) { return m->parts.count && m->parts.part[0].power; }
uint64_t infer_meter_wake_ns(const infer_meter *m) { return m->wake_ns; }

infer_status infer_meter_start(infer_meter *m, infer_error *err)
{
    if (!m || m->open)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_meter_start: meter is NULL, or was started before, and not stopped");
    m->jumps = 0;
    m->lost = false;
    m->failed = INFER_OK;
    sample(m, 0, true);
    if (m->failed != INFER_OK) {
        if (err)
            *err = m->failure;
        return m->failed;
    }
    m->start_bytes = atomic_load(&m->rt->bytes_read);
    m->start_cpu_ns = infer_process_cpu_ns();
    m->start_ns = infer_now_ns(); /* the readings' own time, a command's for example, is not part of the window */
    for (uint32_t i = 0; i < m->parts.count; i++)
        m->tally[i].last_ns = m->start_ns;
    if (m->wake_ns) {
        int e = infer_thread_start(&m->thread, sampler_main, m);
        if (e)
            return infer_fail(err, INFER_ERROR_MEMORY, "cannot start the energy meter's thread: %s", strerror(e));
        m->sampling = true;
    }
    m->open = true;
    return INFER_OK;
}

static void estimate(const infer_meter *m, infer_energy *e)
{
    double core_s = (infer_process_cpu_ns() - m->start_cpu_ns) / 1e9, bytes = (double)(atomic_load(&m->rt->bytes_read) - m->start_bytes);
    e->net_uj = (core_s * m->model.watts_per_core + bytes / 1e9 * m->model.joules_per_gigabyte) * 1e6;
    e->gross_uj = e->net_uj + m->idle_watts * e->seconds * 1e6;
}

static void measured(const infer_meter *m, infer_energy *e)
{
    double uj = 0;
    for (uint32_t i = 0; i < m->parts.count; i++)
        uj += m->tally[i].uj;
    if (m->lost || uj <= 0) /* a counter that did not move tells that the window was too short, not that nothing was used */
        return;
    e->gross_uj = uj;
    e->net_uj = uj - m->idle_watts * e->seconds * 1e6; /* NAN where the baseline is not known */
}

infer_status infer_meter_stop(infer_meter *m, infer_energy *out, infer_error *err)
{
    infer_energy e = {.gross_uj = NAN, .net_uj = NAN};
    uint64_t end_ns;
    if (!m || !m->open || !out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_meter_stop: meter or out is NULL, or the meter was not started");
    e.kind = m->kind;
    e.idle_watts = m->idle_watts;
    end_sampling(m);
    m->open = false;
    end_ns = infer_now_ns();
    e.seconds = (end_ns - m->start_ns) / 1e9;
    sample(m, end_ns, false);
    if (m->failed != INFER_OK) {
        if (err)
            *err = m->failure;
        return m->failed;
    }
    e.jumps = m->jumps;
    if (m->kind == INFER_ENERGY_MEASURED)
        measured(m, &e);
    else if (m->kind == INFER_ENERGY_ESTIMATED)
        estimate(m, &e);
    *out = e;
    return INFER_OK;
}

infer_status infer_meter_idle(infer_meter *m, double seconds, double *watts, infer_error *err)
{
    infer_energy e;
    infer_status s;
    if (!m || !(seconds > 0 && seconds <= 3600))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_meter_idle: meter is NULL, or found %g s, expected 0..3600", seconds);
    if (m->kind == INFER_ENERGY_MEASURED) {
        if ((s = infer_meter_start(m, err)) != INFER_OK)
            return s;
        infer_sleep_until(infer_now_ns() + (uint64_t)(seconds * 1e9), NULL);
        if ((s = infer_meter_stop(m, &e, err)) != INFER_OK)
            return s;
        m->idle_watts = e.gross_uj / 1e6 / e.seconds;
    }
    if (watts)
        *watts = m->idle_watts;
    return INFER_OK;
}

infer_status infer_meter_peek(infer_meter *m, double *value, infer_error *err)
{
    double sum = 0, each;
    for (uint32_t i = 0; i < m->parts.count; i++) {
        infer_status s = m->source->read(&m->parts, &m->parts.part[i], &each, err);
        if (s != INFER_OK)
            return s;
        sum += each;
    }
    *value = sum;
    return INFER_OK;
}
