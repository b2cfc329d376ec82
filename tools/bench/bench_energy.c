#include "bench_energy.h"

#include "cli.h"
#include "cores.h"
#include "interrupts.h"
#include "joules.h"
#include "kept/tuned.h"
#include "machine.h"
#include "model/model.h"
#include "svg.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(INFER_ENERGY_SUBJECTS <= CLI_SESSIONS, "an interrupt cancels all subjects");

/* One of those compared, opened. */
typedef struct subject {
    bench_model file;
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
    infer_meter *meter;
    char type[64], cpus[128];
    eval_estimate kl; /* NAN: not asked for */
} subject;

typedef struct bench {
    const bench_energy *o;
    subject subjects[INFER_ENERGY_SUBJECTS];
    uint32_t count;
    infer_energy_options options;
    infer_energy_result result;
    infer_machine_state before, after;
    char cpu[160];
} bench;

/* ---- subjects ---- */

/* The type with the most bytes of weights. */
static void name_type(const infer_model *model, char out[64])
{
    const infer_graph *g = &model->graph;
    uint64_t most = 0;
    for (size_t i = 0; i < g->node_count; i++)
        if (g->nodes[i].op == INFER_OP_MATMUL && g->nodes[i].weight.info->bytes > most) {
            most = g->nodes[i].weight.info->bytes;
            snprintf(out, 64, "%s", infer_qtype_find(g->nodes[i].weight.info->type)->name);
        }
}

static void add_subject(bench *b, const bench_model *file, uint32_t threads, const char *cpus)
{
    const infer_speed_options *speed = b->o->speed;
    subject *s = &b->subjects[b->count];
    infer_runtime_options runtime = *b->o->runtime;
    infer_session_options session = INFER_SESSION_DEFAULTS;
    infer_error err;
    if (b->count == INFER_ENERGY_SUBJECTS || !infer_pin_cpus(cpus))
        return; /* cores that this process may not use */
    *s = (subject){.file = *file, .kl = {NAN, NAN}};
    snprintf(s->cpus, sizeof s->cpus, "%.127s", cpus);
    runtime.threads = threads;
    session.context = speed->prompt > speed->depth + speed->tokens ? speed->prompt : speed->depth + speed->tokens;
    session.kv_type = b->o->kv_type;
    bench_check(infer_runtime_create(&runtime, &s->rt, &err), &err);
    s->model = bench_open(file, s->rt);
    bench_check(infer_session_create(s->model, &session, &s->session, &err), &err);
    s->meter = joules_meter(s->rt, b->o->source);
    if (infer_meter_kind(s->meter) == INFER_ENERGY_NONE)
        cli_usage("--energy=off leaves nothing to measure");
    name_type(s->model, s->type);
    cli_cancel_session(s->session);
    b->count++;
}

static void close_subjects(bench *b)
{
    cli_cancel_session(NULL);
    for (uint32_t i = 0; i < b->count; i++) {
        subject *s = &b->subjects[i];
        infer_meter_destroy(s->meter);
        infer_session_destroy(s->session);
        infer_model_close(s->model);
        infer_runtime_destroy(s->rt);
    }
}

/* --vs: another model, or the same shape in another type. */
static bench_model other_model(const bench_energy *o)
{
    const infer_qtype_info *type = infer_qtype_find_name(o->vs);
    bench_model other = *o->model;
    other.keep = NULL;
    other.prune.rate = 0;
    if (other.shape && type)
        other.type = type->type;
    else if (type)
        cli_usage("--vs %s: a type goes with --shape; give a second MODEL", o->vs);
    else
        other = (bench_model){.path = o->vs};
    return other;
}

/* 1, 2, 3, 4, 6, 8, 12, 16 ... and `most`. */
static uint32_t next_threads(uint32_t n, uint32_t most)
{
    uint32_t next = n < 4 ? n + 1 : (n & (n - 1)) == 0 ? n + n / 2 : n / 3 * 4;
    return n >= most ? 0 : next < most ? next : most;
}

static void add_settings(bench *b)
{
    infer_core_class classes[INFER_CORE_CLASSES];
    uint32_t n = infer_core_classes("", classes);
    infer_cpus cpus;
    infer_cpus_available(&cpus);
    for (uint32_t t = 1; t; t = next_threads(t, cpus.cores))
        add_subject(b, b->o->model, t, "");
    for (uint32_t k = 0; n > 1 && k < n; k++)
        for (uint32_t t = 1; t; t = next_threads(t, classes[k].count))
            add_subject(b, b->o->model, t, classes[k].cpus);
}

/* ---- measuring ---- */

static void measure(bench *b)
{
    const bench_energy *o = b->o;
    infer_energy_subject subjects[INFER_ENERGY_SUBJECTS];
    infer_error err;
    for (uint32_t i = 0; i < b->count; i++)
        subjects[i] = (infer_energy_subject){b->subjects[i].session, b->subjects[i].meter, infer_model_vocab_size(b->subjects[i].model),
                                             b->subjects[i].cpus};
    b->options = (infer_energy_options){o->tune ? 0 : o->speed->prompt, o->speed->tokens, o->speed->depth, o->speed->repeat, o->window_s, o->idle_s,
                                        o->seed};
    infer_machine_cpu_name(b->cpu, sizeof b->cpu);
    infer_machine_read_state("", &b->before);
    bench_check(infer_energy_measure(subjects, b->count, &b->options, &cli_interrupted, &b->result, &err), &err);
    infer_machine_read_state("", &b->after);
    cli_cancel_session(NULL);
    for (uint32_t i = 0; o->kl.reference && i < b->count; i++)
        b->subjects[i].kl = bench_kl(b->subjects[i].model, &o->kl);
}

/* ---- records ---- */

static void add_known(cJSON *o, const char *name, const char *text)
{
    if (*text)
        cJSON_AddStringToObject(o, name, text);
    else
        cJSON_AddNullToObject(o, name);
}

static void add_phase(const bench *b, cJSON *record, const char *name, uint32_t tokens, const infer_energy_phase *p, bool compared)
{
    bool measured = b->result.kind == INFER_ENERGY_MEASURED;
    cJSON *o = tokens ? cJSON_AddObjectToObject(record, name) : cJSON_AddNullToObject(record, name);
    if (!tokens)
        return;
    cJSON_AddNumberToObject(o, "tokens", tokens);
    joules_add_number(o, "tokens_per_s", p->tokens_per_s);
    joules_add(o, b->result.kind, p->gross, p->net);
    joules_add_number(o, "joules_spread", p->spread);
    joules_add_number(o, "watts", measured ? p->watts : NAN);
    joules_add_number(o, "estimated_watts", measured ? NAN : p->watts);
    joules_add_number(o, "tokens_per_joule", measured ? p->tokens_per_joule : NAN);
    joules_add_number(o, "estimated_tokens_per_joule", measured ? NAN : p->tokens_per_joule);
    cJSON_AddNumberToObject(o, "windows", p->windows);
    cJSON_AddNumberToObject(o, "windows_left_out", p->left_out);
    cJSON_AddNumberToObject(o, "jumps", p->jumps);
    joules_add_number(o, "counter_updates", p->updates);
    joules_add_number(o, "joules_vs_first", compared ? p->pair_ratio : NAN);
}

static void add_state(cJSON *record, const char *name, const infer_machine_state *s)
{
    cJSON *o = cJSON_AddObjectToObject(record, name);
    add_known(o, "power", s->power);
    add_known(o, "governor", s->governor);
    joules_add_number(o, "frequency_hz", s->frequency_hz > 0 ? s->frequency_hz : NAN);
    joules_add_number(o, "temperature_c", s->temperature_c > 0 ? s->temperature_c : NAN);
}

static cJSON *json_record(const bench *b, uint32_t i)
{
    const subject *s = &b->subjects[i];
    bool measured = b->result.kind == INFER_ENERGY_MEASURED;
    cJSON *record = cJSON_CreateObject(), *energy;
    cJSON_AddStringToObject(record, "model", bench_name(&s->file));
    cJSON_AddStringToObject(record, "type", s->type);
    cJSON_AddStringToObject(record, "cpu_level", infer_runtime_cpu_level(s->rt));
    cJSON_AddNumberToObject(record, "threads", infer_runtime_threads(s->rt));
    add_known(record, "cpus", s->cpus);
    add_phase(b, record, "prompt", b->options.prompt, &b->result.prompt[i], i > 0);
    add_phase(b, record, "generation", b->options.tokens, &b->result.generation[i], i > 0);
    joules_add_number(record, "kl_mean", s->kl.mean);
    joules_add_number(record, "kl_mean_se", s->kl.se);
    energy = joules_add_source(record, s->meter, (b->result.idle_before + b->result.idle_after) / 2);
    joules_add_number(energy, "idle_watts_before", measured ? b->result.idle_before : NAN);
    joules_add_number(energy, "idle_watts_after", measured ? b->result.idle_after : NAN);
    joules_add_number(energy, "counter_update_s", measured ? b->result.update_s : NAN);
    joules_add_number(energy, "window_s", b->result.window_s);
    cJSON_AddNumberToObject(energy, "order_seed", (double)b->options.seed);
    add_known(energy, "note", infer_meter_note(s->meter));
    cJSON_AddNumberToObject(record, "context_at", b->options.depth);
    cJSON_AddNumberToObject(record, "repetitions", b->options.repeat);
    add_state(record, "machine_before", &b->before);
    add_state(record, "machine_after", &b->after);
    cJSON_AddStringToObject(record, "version", infer_version());
    cJSON_AddStringToObject(record, "commit", infer_machine_commit());
    cJSON_AddStringToObject(record, "compiler", infer_machine_compiler());
    cJSON_AddStringToObject(record, "cpu", b->cpu);
    return record;
}

/* ---- tables ---- */

static void number(char out[24], double value)
{
    if (isfinite(value))
        snprintf(out, 24, "%.3g", value);
    else
        snprintf(out, 24, "-");
}

static void print_row(const bench *b, uint32_t i, const char *phase, const infer_energy_phase *p, bool md)
{
    const subject *s = &b->subjects[i];
    bool measured = b->result.kind == INFER_ENERGY_MEASURED;
    char gross[24], net[24], watts[24], each[24], kl[24], ratio[24] = "-";
    number(kl, s->kl.mean);
    number(gross, p->gross);
    number(net, p->net);
    number(watts, p->watts);
    number(each, p->tokens_per_joule);
    if (!measured) { /* never to be read as measured */
        memmove(watts + 1, watts, sizeof watts - 1);
        memmove(each + 1, each, sizeof each - 1);
        *watts = *each = '~';
    }
    if (i)
        number(ratio, p->pair_ratio);
    if (md)
        printf("| %s | %s | %s | %u | %s | %s | %s | %s | %s | %.0f %% | %s | %.2f | %s | %s | %s |\n", bench_name(&s->file), s->type,
               infer_runtime_cpu_level(s->rt), infer_runtime_threads(s->rt), phase, measured ? gross : "-", measured ? net : "-", measured ? "-" : gross,
               measured ? "-" : net, p->spread * 100, watts, p->tokens_per_s, each, ratio, kl);
    else
        printf("%-20.20s %-8s %3u%s%s %-11s %9s J/token %s, net %9s; spread %3.0f %%; %6s W; %9.2f tokens/s; %6s tokens/J; vs first %s; KL %s\n",
               bench_name(&s->file), s->type, infer_runtime_threads(s->rt), *s->cpus ? " on " : "", s->cpus, phase, gross, joules_kind(b->result.kind),
               net, p->spread * 100, watts, p->tokens_per_s, each, ratio, kl);
    if (p->left_out)
        cli_note("%s, %s: %u of %u windows were left out (%u readings made no sense)", bench_name(&s->file), phase, p->left_out, p->windows, p->jumps);
}

static void print_state(const char *when, const infer_machine_state *s)
{
    printf("%s: power %s, governor %s", when, *s->power ? s->power : "not told", *s->governor ? s->governor : "not told");
    if (s->frequency_hz > 0)
        printf(", %.2f GHz", s->frequency_hz / 1e9);
    if (s->temperature_c > 0)
        printf(", %.0f C", s->temperature_c);
    printf("; ");
}

static void print_tables(const bench *b, bool md)
{
    const infer_energy_result *r = &b->result;
    const char *note = infer_meter_note(b->subjects[0].meter);
    char before[24], after[24];
    number(before, r->idle_before);
    number(after, r->idle_after);
    if (md)
        printf("| model | type | level | threads | test | J/token, measured | net | J/token, estimated | net | spread | W | tokens/s | tokens/J | "
               "vs first | KL, nats |\n"
               "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    else
        printf("energy, %s: %s; %s\n", joules_kind(r->kind), infer_meter_source(b->subjects[0].meter), b->cpu);
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->options.prompt)
            print_row(b, i, "prompt", &r->prompt[i], md);
        if (b->options.tokens)
            print_row(b, i, "generation", &r->generation[i], md);
    }
    printf("%s%s figures%s; medians of %u windows of at least %.3g s, order of seed %llu; idle %s W before, %s W after%s\n", md ? "\n" : "",
           joules_kind(r->kind), r->kind == INFER_ENERGY_ESTIMATED ? ", off by a factor of about 2" : "", b->options.repeat, r->window_s,
           (unsigned long long)b->options.seed, before, after, r->kind == INFER_ENERGY_ESTIMATED ? " (estimated)" : "");
    if (*note)
        printf("%s\n", note);
    print_state("before", &b->before);
    print_state("after", &b->after);
    printf("%s, %s%s%s\n", infer_machine_commit(), infer_machine_compiler(), md ? ", " : "", md ? b->cpu : "");
}

/* ---- drawings ---- */

static void draw(const bench *b)
{
    infer_svg_point points[2 * INFER_ENERGY_SUBJECTS];
    size_t n = 0;
    char title[200];
    FILE *f = fopen(b->o->svg, "we");
    if (!f)
        cli_die("%s: %s", b->o->svg, strerror(errno));
    snprintf(title, sizeof title, "J/token, %s, %.100s", joules_kind(b->result.kind), b->cpu);
    for (uint32_t i = 0; i < b->count; i++)
        for (int phase = 0; phase < 2; phase++) {
            const infer_energy_phase *p = phase ? &b->result.generation[i] : &b->result.prompt[i];
            const subject *s = &b->subjects[i];
            const char *slash = strrchr(bench_name(&s->file), '/');
            if (!(phase ? b->options.tokens : b->options.prompt) || !isfinite(p->gross) || (b->o->tune && *s->cpus))
                continue;
            points[n] = (infer_svg_point){.x = infer_runtime_threads(s->rt), .value = p->gross};
            snprintf(points[n].label, sizeof points[n].label, "%.16s %.8s %s", slash ? slash + 1 : bench_name(&s->file), s->type,
                     phase ? "generation" : "prompt");
            n++;
        }
    if (n && b->o->tune)
        infer_svg_curve(f, title, "threads", "J", points, n);
    else if (n)
        infer_svg_bars(f, title, "J", points, n);
    if (!n)
        cli_die("%s: there is no figure to draw", b->o->svg);
    if (ferror(f) || fclose(f) != 0)
        cli_die("%s: %s", b->o->svg, strerror(errno));
}

/* ---- tuning ---- */

static void keep_best(const bench *b)
{
    const infer_energy_phase *p = b->result.generation;
    uint32_t best = b->count, fastest = 0;
    tuned setting = {0};
    char *file;
    for (uint32_t i = 0; i < b->count; i++) {
        if (p[i].tokens_per_s > p[fastest].tokens_per_s)
            fastest = i;
        if (isfinite(p[i].gross) && p[i].tokens_per_s >= b->o->min_tps && (best == b->count || p[i].gross < p[best].gross))
            best = i;
    }
    if (best == b->count)
        cli_die("no setting with a known energy reaches %g tokens/s: the fastest, %u threads, has %.1f; nothing was stored", b->o->min_tps,
                infer_runtime_threads(b->subjects[fastest].rt), p[fastest].tokens_per_s);
    setting.threads = infer_runtime_threads(b->subjects[best].rt);
    setting.tokens_per_s = p[best].tokens_per_s;
    setting.joules_per_token = p[best].gross;
    snprintf(setting.cpus, sizeof setting.cpus, "%s", b->subjects[best].cpus);
    snprintf(setting.kind, sizeof setting.kind, "%s", joules_kind(b->result.kind));
    file = tuned_store(b->o->model->path, &setting);
    cli_note("%u thread%s%s%s: %.3g J/token (%s) at %.1f tokens/s; kept in %s for infer-run", setting.threads, setting.threads == 1 ? "" : "s",
             *setting.cpus ? " on CPUs " : "", setting.cpus, setting.joules_per_token, setting.kind, setting.tokens_per_s, file);
    free(file);
}

void bench_energy_run(const bench_energy *o)
{
    bench *b = calloc(1, sizeof *b);
    if (!b)
        cli_die("out of memory for the measurement");
    b->o = o;
    if (o->tune) {
        add_settings(b);
    } else {
        add_subject(b, o->model, o->runtime->threads, "");
        if (o->vs) {
            bench_model other = other_model(o);
            add_subject(b, &other, o->runtime->threads, "");
        }
    }
    measure(b);
    if (o->format == RECORD_JSON || o->format == RECORD_CSV) {
        cJSON *list = cJSON_CreateArray();
        for (uint32_t i = 0; i < b->count; i++)
            cJSON_AddItemToArray(list, json_record(b, i));
        records_print(list, o->format);
    } else {
        print_tables(b, o->format == RECORD_MD);
    }
    if (o->svg)
        draw(b);
    if (o->tune)
        keep_best(b);
    close_subjects(b);
    free(b);
}
