/* infer-bench: how fast a model reads a prompt and generates, beside what the machine can do. Arguments and printing only; bench/speed.c measures. Energy:
 * bench/. */
#include "bench/bench_energy.h"
#include "bench/bench_model.h"
#include "bench/records.h"
#include "cli.h"
#include "cost.h"
#include "interrupts.h"
#include "joules.h"
#include "kept/costs.h"
#include "model/default_model.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "speed.h"

#include "calibrate/events.h"
#include "model/model.h"

typedef struct arguments {
    bench_model model;
    infer_runtime_options runtime;
    infer_speed_options speed;
    infer_kv_type kv_type;
    bench_energy energy;
    bool measures_energy, calibrates_cost;
    record_format format;
} arguments;

/* Everything a record says. */
typedef struct record {
    const arguments *args;
    const char *model, *cpu_level;
    uint32_t threads;
    char cpu[160];
    infer_speed speed;
} record;

static const char usage[] =
    "usage: infer-bench [options] [MODEL]\n"
    "       infer-bench [options] --shape NAME --type TYPE\n"
    "Measures how fast a model reads a prompt and generates, and which part that is of the machine's memory bandwidth and arithmetic.\n"
    "Without MODEL and --shape: the built-in model, pupil.\n"
    "\n"
    "      --shape NAME         a model of this shape with random weights instead of a file\n"
    "      --type TYPE          its number type: f32, f16, bf16, q8g32, q4g32, n4g32, t2r, q8g64, q4g64\n"
    "      --prune RATE         blocks of its weights are zero at random, and not stored\n"
    "      --block 16x1|16x4|1x1|csr\n"
    "                           of so many rows x inputs (16x1)\n"
    "      --dir FOLDER         where its temporary file goes (TMPDIR, else /tmp)\n"
    "      --keep FILE          write it to FILE and leave it there\n"
    "  -t, --threads N          threads (one per core)\n"
    "      --prompt N           tokens of the prompt (512); 0: none\n"
    "      --tokens N           tokens to generate (128); 0: none\n"
    "      --ctx-at N           tokens in the context when generation starts (0)\n"
    "      --repeat N           repetitions (5)\n"
    "      --events RATE        generation with the share RATE of the layers' inputs skipped too, in turn: A B A B. Types q4g64 and q8g64; "
    "where the model\n"
    "                           has no thresholds (--shape), found on random tokens, the same rate for all matrices\n"
    "      --cpu LEVEL          ref, avx2, ... (the best there is; also environment INFER_CPU)\n"
    "      --kv auto|f16|f32|q8\n"
    "                           number type of the KV cache (auto: f32 for f32 models, else f16)\n"
    "\n"
    "      --energy[=SOURCE]    measure joules per token: auto, estimate, perf, powercap, scmi, hwmon, battery, file:PATH, cmd:COMMAND "
    "(auto)\n"
    "      --vs OTHER           beside this model, or with --shape this type, in turn: A B A B\n"
    "      --reference FILE     and how far each is from the run in FILE, which infer-eval --record made: KL divergence in nats\n"
    "      --text FILE          the text of that run\n"
    "      --separator LINE     that divides it into documents (it is one)\n"
    "      --window S           least seconds of a window (2, or what 100 updates of the counter take)\n"
    "      --idle S             seconds of each baseline (10)\n"
    "      --seed N             of the order of the windows (1)\n"
    "      --svg FILE           draw the figures into FILE\n"
    "      --tune               find the threads with the least energy per generated token, for infer-run\n"
    "      --min-tps X          among those that reach X tokens/s\n"
    "\n"
    "      --calibrate-cost     measure the costs by which infer-convert --sparse chooses layouts, with the kernels of this CPU, and keep "
    "them; goes with\n"
    "                           -t and --cpu\n"
    "\n"
    "      --json               print a list of records\n"
    "      --csv                print the records as a head line and lines\n"
    "      --md                 print a table for Markdown\n"
    "  -v, --version\n"
    "  -h, --help\n"
    "\n";

/* ---- arguments ---- */

enum { OPT_SHAPE = 256, OPT_TYPE, OPT_DIR, OPT_KEEP, OPT_PROMPT, OPT_TOKENS, OPT_CTX_AT, OPT_REPEAT, OPT_CPU, OPT_KV, OPT_JSON, OPT_CSV, OPT_MD,
       OPT_ENERGY, OPT_VS, OPT_WINDOW, OPT_IDLE, OPT_SEED, OPT_SVG, OPT_TUNE, OPT_MIN_TPS, OPT_EVENTS,
       OPT_REFERENCE, OPT_TEXT, OPT_SEPARATOR, OPT_PRUNE, OPT_BLOCK, OPT_CALIBRATE_COST };

static const struct option long_options[] = {
    {"calibrate-cost", no_argument, NULL, OPT_CALIBRATE_COST}, {"prune", required_argument, NULL, OPT_PRUNE}, {"block", required_argument, NULL, OPT_BLOCK},
    {"shape", required_argument, NULL, OPT_SHAPE}, {"type", required_argument, NULL, OPT_TYPE}, {"dir", required_argument, NULL, OPT_DIR},
    {"keep", required_argument, NULL, OPT_KEEP}, {"threads", required_argument, NULL, 't'}, {"prompt", required_argument, NULL, OPT_PROMPT},
    {"tokens", required_argument, NULL, OPT_TOKENS}, {"ctx-at", required_argument, NULL, OPT_CTX_AT}, {"repeat", required_argument, NULL, OPT_REPEAT},
    {"cpu", required_argument, NULL, OPT_CPU}, {"kv", required_argument, NULL, OPT_KV}, {"json", no_argument, NULL, OPT_JSON},
    {"energy", optional_argument, NULL, OPT_ENERGY}, {"vs", required_argument, NULL, OPT_VS}, {"window", required_argument, NULL, OPT_WINDOW},
    {"idle", required_argument, NULL, OPT_IDLE}, {"seed", required_argument, NULL, OPT_SEED}, {"svg", required_argument, NULL, OPT_SVG},
    {"tune", no_argument, NULL, OPT_TUNE}, {"min-tps", required_argument, NULL, OPT_MIN_TPS}, {"events", required_argument, NULL, OPT_EVENTS},
    {"reference", required_argument, NULL, OPT_REFERENCE}, {"text", required_argument, NULL, OPT_TEXT},
    {"separator", required_argument, NULL, OPT_SEPARATOR}, {"csv", no_argument, NULL, OPT_CSV}, {"md", no_argument, NULL, OPT_MD}, {"version", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* "a, b, c" for messages. */
static void list_shapes(char *out, size_t size)
{
    size_t count, at = 0;
    const infer_shape *shapes = infer_shapes(&count);
    for (size_t i = 0; i < count && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", shapes[i].name);
}

static const infer_shape *shape_of(const char *name)
{
    const infer_shape *shape = infer_shape_find(name);
    char known[400];
    list_shapes(known, sizeof known);
    if (!shape)
        cli_usage("--shape: found \"%s\", expected one of %s", name, known);
    return shape;
}

static infer_qtype type_of(const char *name)
{
    const infer_qtype_info *info = infer_qtype_find_name(name);
    if (!info)
        cli_usage("--type: found \"%s\", expected f32, f16, bf16, q8g32, q4g32, n4g32, t2r, q8g64 or q4g64", name);
    return info->type;
}

static infer_layout block_of(const char *name)
{
    if (strcmp(name, "16x1") == 0)
        return INFER_LAYOUT_BCSR16X1;
    if (strcmp(name, "16x4") == 0)
        return INFER_LAYOUT_BCSR16X4;
    if (strcmp(name, "1x1") == 0)
        return INFER_LAYOUT_BITMASK;
    if (strcmp(name, "csr") != 0)
        cli_usage("--block: found \"%s\", expected 16x1, 16x4, 1x1 or csr", name);
    return INFER_LAYOUT_CSR;
}

static uint32_t whole(const char *option, uint64_t low, uint64_t high) { return (uint32_t)cli_whole(option, optarg, low, high); }

static record_format one_format(record_format before, record_format now)
{
    if (before != RECORD_TEXT && before != now)
        cli_usage("only one of --json, --csv and --md");
    return now;
}

static void print_usage(void)
{
    char known[400];
    list_shapes(known, sizeof known);
    printf("%sShapes: %s.\nExit status: 0 done, 1 it could not be done, 2 the command line is wrong, 130 interrupted.\n", usage, known);
}

static void check_model(const bench_model *m)
{
    if (m->path && m->shape)
        cli_usage("both a MODEL and --shape given");
    if (m->shape && m->type == INFER_QTYPE_NONE)
        cli_usage("--shape needs --type");
    if (m->path && (m->type != INFER_QTYPE_NONE || m->folder || m->keep))
        cli_usage("--type, --dir and --keep go with --shape; a MODEL has its own type");
    if ((m->path && m->prune.rate > 0) || (m->prune.layout != INFER_LAYOUT_BCSR16X1 && m->prune.rate <= 0))
        cli_usage("--prune goes with --shape, --block with --prune");
    if (m->prune.rate > 0 && infer_prune_type(m->type) == INFER_QTYPE_NONE)
        cli_usage("--prune goes with --type q8g32 or q4g32");
    if (m->folder && m->keep)
        cli_usage("both --dir and --keep given");
}

static void check_energy(const arguments *a)
{
    const bench_energy *e = &a->energy;
    if (e->tune && (!a->model.path || e->vs || a->runtime.threads || !a->speed.tokens))
        cli_usage("--tune needs a MODEL and --tokens, and goes without --vs and -t");
    if (e->min_tps > 0 && !e->tune)
        cli_usage("--min-tps goes with --tune");
    if (!a->measures_energy && !e->tune && (e->vs || e->window_s > 0 || e->svg))
        cli_usage("--vs, --window and --svg go with --energy");
    if (!e->kl.reference != !e->kl.text || (e->kl.reference && !a->measures_energy) || (e->kl.separator && !e->kl.text))
        cli_usage("--reference and --text go together, and with --energy; --separator goes with them");
    if (e->kl.separator && (!*e->kl.separator || strpbrk(e->kl.separator, "\r\n")))
        cli_usage("--separator: expected one line that is not empty");
    if ((a->measures_energy || e->tune) && a->speed.repeat > INFER_ENERGY_MAX_REPEAT)
        cli_usage("--repeat: with --energy at most %u", INFER_ENERGY_MAX_REPEAT);
}

/* Never returns on a wrong command line (status 2), --help or --version. */
static void parse(int argc, char **argv, arguments *a)
{
    int c;
    *a = (arguments){.model = {.type = INFER_QTYPE_NONE, .prune = {INFER_LAYOUT_BCSR16X1, 0}}, .runtime = INFER_RUNTIME_DEFAULTS, .speed = {.prompt = 512, .tokens = 128, .repeat = 5},
                     .energy = {.idle_s = 10, .seed = 1}};
    while ((c = getopt_long(argc, argv, ":t:vh", long_options, NULL)) != -1)
        switch (c) {
        case OPT_SHAPE: a->model.shape = shape_of(optarg); break;
        case OPT_TYPE: a->model.type = type_of(optarg); break;
        case OPT_PRUNE: a->model.prune.rate = cli_real("--prune", optarg, 1e-6, 1); break;
        case OPT_BLOCK: a->model.prune.layout = block_of(optarg); break;
        case OPT_DIR: a->model.folder = optarg; break;
        case OPT_KEEP: a->model.keep = optarg; break;
        case 't': a->runtime.threads = whole("-t", 1, 256); break;
        case OPT_PROMPT: a->speed.prompt = whole("--prompt", 0, 1u << 19); break;
        case OPT_TOKENS: a->speed.tokens = whole("--tokens", 0, 1u << 18); break;
        case OPT_CTX_AT: a->speed.depth = whole("--ctx-at", 0, 1u << 19); break;
        case OPT_EVENTS: a->speed.events = cli_real("--events", optarg, 0.05, 0.9); break;
        case OPT_REPEAT: a->speed.repeat = whole("--repeat", 1, INFER_SPEED_MAX_REPEAT); break;
        case OPT_CPU: a->runtime.cpu_level = optarg; break;
        case OPT_KV: a->kv_type = cli_kv_type(optarg); break;
        case OPT_ENERGY: a->measures_energy = true; a->energy.source = optarg; break;
        case OPT_VS: a->energy.vs = optarg; break;
        case OPT_WINDOW: a->energy.window_s = cli_real("--window", optarg, 1e-3, 1e5); break;
        case OPT_IDLE: a->energy.idle_s = cli_real("--idle", optarg, 0.1, 3600); break;
        case OPT_SEED: a->energy.seed = cli_whole("--seed", optarg, 0, UINT64_MAX); break;
        case OPT_SVG: a->energy.svg = optarg; break;
        case OPT_REFERENCE: a->energy.kl.reference = optarg; break;
        case OPT_TEXT: a->energy.kl.text = optarg; break;
        case OPT_SEPARATOR: a->energy.kl.separator = optarg; break;
        case OPT_TUNE: a->energy.tune = true; break;
        case OPT_CALIBRATE_COST: a->calibrates_cost = true; break;
        case OPT_MIN_TPS: a->energy.min_tps = cli_real("--min-tps", optarg, 1e-3, 1e6); break;
        case OPT_JSON: a->format = one_format(a->format, RECORD_JSON); break;
        case OPT_CSV: a->format = one_format(a->format, RECORD_CSV); break;
        case OPT_MD: a->format = one_format(a->format, RECORD_MD); break;
        case 'v': printf("infer-bench %s\n", infer_version()); exit(0);
        case 'h': print_usage(); exit(0);
        default: cli_bad_option(c, argv);
        }
    if (optind < argc)
        a->model.path = argv[optind++];
    if (optind < argc)
        cli_usage("unexpected argument \"%s\"", argv[optind]);
    if (a->calibrates_cost && (a->model.path || a->model.shape || a->measures_energy || a->energy.tune || a->format != RECORD_TEXT))
        cli_usage("--calibrate-cost measures kernels, not a model: it goes with -t and --cpu only");
    if (!a->model.path && !a->model.shape)
        a->model.path = DEFAULT_MODEL_NAME;
    check_model(&a->model);
    check_energy(a);
    if (a->speed.events > 0 && (!a->speed.tokens || a->measures_energy || a->energy.tune))
        cli_usage("--events needs --tokens, and goes without --energy and --tune");
    if (!a->speed.prompt && !a->speed.tokens)
        cli_usage("--prompt 0 and --tokens 0 leave nothing to measure");
}

/* ---- speed ---- */

enum { RANDOM_WINDOWS = 4, RANDOM_TOKENS = 32 };

/* For weights that no text fits: from the distribution of the inputs on random tokens. */
static void find_thresholds(infer_model *model, double rate)
{
    static int32_t ids[RANDOM_WINDOWS * RANDOM_TOKENS];
    static eval_window windows[RANDOM_WINDOWS];
    eval_text text = {.ids = ids, .id_count = RANDOM_WINDOWS * RANDOM_TOKENS, .windows = windows, .window_count = RANDOM_WINDOWS};
    events_options o = {.text = &text, .window = RANDOM_TOKENS, .target = rate};
    uint64_t random = 2;
    infer_error err;
    for (size_t i = 0; i < text.id_count; i++)
        ids[i] = (int32_t)(infer_random(&random) % infer_model_vocab_size(model));
    for (size_t w = 0; w < RANDOM_WINDOWS; w++)
        windows[w] = (eval_window){.first = w * RANDOM_TOKENS, .inputs = RANDOM_TOKENS};
    bench_check(events_calibrate(model, &o, &model->events, &err), &err);
}

static void measure(const arguments *a, record *r)
{
    const infer_speed_options *o = &a->speed;
    infer_session_options session_options = INFER_SESSION_DEFAULTS;
    infer_runtime *rt = NULL;
    infer_model *model;
    infer_session *session = NULL;
    infer_error err;
    infer_status s;
    bench_check(infer_runtime_create(&a->runtime, &rt, &err), &err);
    model = bench_open(&a->model, rt);
    session_options.context = o->prompt > o->depth + o->tokens ? o->prompt : o->depth + o->tokens;
    session_options.kv_type = a->kv_type;
    if (o->events > 0 && model->events.rates == 0)
        find_thresholds(model, o->events);
    bench_check(infer_session_create(model, &session_options, &session, &err), &err);
    cli_cancel_session(session);
    s = cli_interrupted ? INFER_ERROR_CANCELLED : infer_speed_measure(model, session, o, &r->speed, &err);
    cli_cancel_session(NULL);
    r->args = a;
    r->model = bench_name(&a->model);
    r->cpu_level = infer_runtime_cpu_level(rt); /* static storage */
    r->threads = infer_runtime_threads(rt);
    infer_machine_cpu_name(r->cpu, sizeof r->cpu);
    infer_session_destroy(session);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    bench_check(s, &err);
}

/* ---- costs ---- */

static void calibrate_cost(const arguments *a)
{
    infer_runtime *rt = NULL;
    infer_costs costs;
    infer_error err;
    char *path;

    bench_check(infer_runtime_create(&a->runtime, &rt, &err), &err);
    bench_check(infer_costs_measure(rt->pool, rt->level, &costs, &err), &err);
    path = costs_store(&costs, infer_runtime_cpu_level(rt), infer_runtime_threads(rt));
    printf("%s, %u threads; memory %.4f ns a byte\n%-6s %-9s %16s %16s %16s\n", infer_runtime_cpu_level(rt), infer_runtime_threads(rt), costs.byte_ns, "type",
           "layout", "ns a unit", "ns a block", "ns a panel");
    for (size_t t = 0; t < INFER_COST_TYPES; t++)
        for (size_t l = 0; l < INFER_COST_LAYOUTS; l++) {
            const infer_cost *c = &costs.kernels[t][l];
            printf("%-6s %-9s %16.4f %16.4f %16.4f\n", infer_qtype_find(infer_cost_types[t])->name, infer_layout_name(infer_cost_layouts[l]), c->unit_ns, c->block_ns,
                   c->panel_ns);
        }
    printf("kept in %s\n", path);
    free(path);
    infer_runtime_destroy(rt);
}

/* ---- records ---- */

/* What was not measured, or is not known, is null; rounded to six digits. */
static void add_number(cJSON *o, const char *name, double value)
{
    char digits[40];
    snprintf(digits, sizeof digits, "%.6g", value);
    if (value > 0)
        cJSON_AddNumberToObject(o, name, strtod(digits, NULL));
    else
        cJSON_AddNullToObject(o, name);
}

static cJSON *add_rate(cJSON *record_object, const char *name, uint32_t tokens, const infer_rate *rate)
{
    cJSON *o = cJSON_AddObjectToObject(record_object, name);
    cJSON_AddNumberToObject(o, "tokens", tokens);
    add_number(o, "tokens_per_s", rate->tokens_per_s);
    if (tokens)
        cJSON_AddNumberToObject(o, "spread", floor(rate->spread * 1e4 + 0.5) / 1e4);
    else
        cJSON_AddNullToObject(o, "spread");
    return o;
}

static cJSON *json_record(const record *r)
{
    const infer_speed *s = &r->speed;
    const infer_speed_options *o = &r->args->speed;
    cJSON *object = cJSON_CreateObject(), *rate;
    cJSON_AddStringToObject(object, "model", r->model);
    cJSON_AddStringToObject(object, "type", s->type);
    cJSON_AddStringToObject(object, "cpu_level", r->cpu_level);
    cJSON_AddNumberToObject(object, "threads", r->threads);
    add_number(object, "read_bandwidth_bytes_per_s", s->bandwidth_bytes_per_s);
    add_number(object, "integer_peak_ops_per_s", s->ops_per_s);
    rate = add_rate(object, "prompt", o->prompt, &s->prompt);
    add_number(rate, "peak_fraction", s->prompt.fraction);
    joules_add(rate, INFER_ENERGY_NONE, NAN, NAN); /* --energy measures it */
    rate = add_rate(object, "generation", o->tokens, &s->generation);
    cJSON_AddNumberToObject(rate, "context_at", o->depth);
    add_number(rate, "bytes_per_token", s->bytes_per_token);
    add_number(rate, "bandwidth_fraction", s->generation.fraction);
    joules_add(rate, INFER_ENERGY_NONE, NAN, NAN);
    joules_add_source(object, NULL, NAN);
    if (o->events > 0) {
        rate = add_rate(object, "events", o->tokens, &s->events);
        cJSON_AddNumberToObject(rate, "rate", o->events);
        add_number(rate, "silent_fraction", s->silent_fraction);
        add_number(rate, "skipped_fraction", s->skipped_fraction);
        add_number(rate, "bandwidth_fraction", s->events.fraction);
        add_number(rate, "speedup", s->events_speedup);
    }
    add_number(object, "first_token_ms", s->first_token_ns / 1e6);
    add_number(object, "peak_rss_bytes", (double)s->peak_rss_bytes);
    cJSON_AddStringToObject(object, "kv_type", s->kv_type);
    cJSON_AddNumberToObject(object, "repetitions", o->repeat);
    if (o->tokens)
        cJSON_AddStringToObject(object, "read_by", s->bandwidth_way);
    else
        cJSON_AddNullToObject(object, "read_by");
    cJSON_AddStringToObject(object, "version", infer_version());
    cJSON_AddStringToObject(object, "commit", infer_machine_commit());
    cJSON_AddStringToObject(object, "compiler", infer_machine_compiler());
    cJSON_AddStringToObject(object, "cpu", r->cpu);
    return object;
}

static void part_of(char *out, size_t size, double fraction, double peak, const char *unit)
{
    if (fraction > 0)
        snprintf(out, size, "%.1f %% of %.1f %s", fraction * 100, peak / 1e9, unit);
    else
        snprintf(out, size, "not known");
}

static void print_md_row(const record *r, const char *what, const infer_rate *rate, const char *part)
{
    printf("| %s | %s | %s | %u | %s | %.2f | %.1f %% | %s |\n", r->model, r->speed.type, r->cpu_level, r->threads, what, rate->tokens_per_s,
           rate->spread * 100, part);
}

static void print_tables(const record *r, bool md)
{
    const infer_speed *s = &r->speed;
    const infer_speed_options *o = &r->args->speed;
    char what[64], part[96];
    if (md)
        printf("| model | type | level | threads | test | tokens/s | spread | of the machine's best |\n|---|---|---|---|---|---|---|---|\n");
    else
        printf("%s, %s, %s, %u thread%s; %s\n", r->model, s->type, r->cpu_level, r->threads, r->threads == 1 ? "" : "s", r->cpu);
    if (o->prompt) {
        snprintf(what, sizeof what, "prompt %u", o->prompt);
        part_of(part, sizeof part, s->prompt.fraction, s->ops_per_s, "Gop/s");
        if (md)
            print_md_row(r, what, &s->prompt, part);
        else
            printf("prompt      %6u tokens  %10.2f tokens/s  spread %4.1f %%  %s; first token after %.1f ms\n", o->prompt, s->prompt.tokens_per_s,
                   s->prompt.spread * 100, part, s->first_token_ns / 1e6);
    }
    if (o->tokens) {
        snprintf(what, sizeof what, "generation %u at %u", o->tokens, o->depth);
        part_of(part, sizeof part, s->generation.fraction, s->bandwidth_bytes_per_s, "GB/s");
        if (md)
            print_md_row(r, what, &s->generation, part);
        else
            printf("generation  %6u tokens  %10.2f tokens/s  spread %4.1f %%  %s; %.1f MB a token\n", o->tokens, s->generation.tokens_per_s,
                   s->generation.spread * 100, part, s->bytes_per_token / 1e6);
    }
    if (o->events > 0) {
        snprintf(what, sizeof what, "events %.2f at %u", o->events, o->depth);
        part_of(part, sizeof part, s->events.fraction, s->bandwidth_bytes_per_s, "GB/s");
        if (md)
            print_md_row(r, what, &s->events, part);
        else
            printf("events        %4.2f           %10.2f tokens/s  spread %4.1f %%  %s; %.2fx; %.1f %% of the inputs silent, %.1f %% of the weights' bytes\n", o->events,
                   s->events.tokens_per_s, s->events.spread * 100, part, s->events_speedup, 100 * s->silent_fraction, 100 * s->skipped_fraction);
    }
    printf("%speak memory %.1f MB; medians of %u; KV cache %s%s%s; %s, %s%s%s\n", md ? "\n" : "", s->peak_rss_bytes / 1e6, o->repeat,
           s->kv_type, o->tokens ? "; bandwidth by " : "", s->bandwidth_way, infer_machine_commit(), infer_machine_compiler(),
           md ? ", " : "", md ? r->cpu : "");
}

int main(int argc, char **argv)
{
    arguments a;
    record r = {0};
    cli_start("infer-bench");
    parse(argc, argv, &a);
    bench_start();
    if (a.calibrates_cost) {
        calibrate_cost(&a);
    } else if (a.measures_energy || a.energy.tune) {
        a.energy.model = &a.model;
        a.energy.runtime = &a.runtime;
        a.energy.speed = &a.speed;
        a.energy.kv_type = a.energy.kl.kv_type = a.kv_type;
        a.energy.format = a.format;
        bench_energy_run(&a.energy);
    } else {
        measure(&a, &r);
        if (a.format == RECORD_JSON || a.format == RECORD_CSV)
            records_print(json_record(&r), a.format);
        else
            print_tables(&r, a.format == RECORD_MD);
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        cli_die("standard output: %s", strerror(errno));
    return 0;
}
