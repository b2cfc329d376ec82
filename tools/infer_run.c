/* infer-run: continues a prompt. Arguments and printing only; the work is libinfer's. */
#include "chat.h"
#include "cli.h"
#include "cores.h"
#include "interrupts.h"
#include "joules.h"
#include "kept/cache.h"
#include "kept/tuned.h"
#include "model/default_model.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <infer/infer_experimental.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/core.h"

#define DRAFT_MAX_DEFAULT 6u

typedef struct arguments {
    const char *model, *prompt, *prompt_file;
    uint32_t tokens;
    infer_runtime_options runtime;
    infer_model_options load;
    infer_session_options session;
    infer_sampler_options sampler;
    chat_options chat;
    cache_options cache;
    const char *energy;
    double energy_idle_s, target_tps, events; /* events: a rate, 0 off, or INFER_EVENTS_AUTO */
    double draft;                              /* the same for guesses; 0 off */
    uint32_t draft_max;
    bool explain, profile, dot, json, no_prompt, quiet, converse;
} arguments;

typedef struct run {
    const arguments *args;
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
    infer_sampler *sampler;
    infer_decoder *decoder;
    infer_drafter *drafter; /* --draft */
    infer_meter *meter;
    infer_energy prompt_energy, generation_energy;
    tuned setting; /* threads 0: none is stored, or -t was given */
    cli_buffer text; /* --json collects instead of streaming */
    uint64_t load_ns, prompt_ns, generation_ns, first_token_ns;
    size_t prompt_tokens, generated, evaluated;
    bool context_full;
} run;

static const char usage[] =
    "usage: infer-run [options] [MODEL] [PROMPT]\n"
    "Continues PROMPT (or the text of -f FILE, or standard input) with the model in a .infer file. Models of other formats (Hugging Face folder, GGUF,\n"
    "llama2.c) are converted once, into the cache folder. Without MODEL: the built-in one, pupil, which tells stories.\n"
    "\n"
    "  -f, --file FILE          prompt from a file; - is standard input\n"
    "  -n, --tokens N           tokens to generate (256); 0 only evaluates the prompt\n"
    "  -t, --threads N          threads (what infer-bench --tune found for this model, else one per core)\n"
    "  -c, --ctx N              context in tokens (the model's, at most 4096)\n"
    "      --batch N            tokens evaluated at once while reading the prompt (512)\n"
    "      --temp T             temperature (0.8); 0 takes the most likely token\n"
    "      --top-k K            sample from the K most likely tokens (40); 0: all\n"
    "      --top-p P            sample from the fewest tokens that reach probability P (0.95)\n"
    "      --min-p P            drop tokens below P x the most likely one (0.05)\n"
    "      --repeat-penalty R   make recent tokens less likely (1: off)\n"
    "      --repeat-last N      how many tokens are recent (64)\n"
    "      --seed S             same seed, same text (0)\n"
    "      --target-tps X       generate at most X tokens a second, asleep in between\n"
    "      --energy SOURCE      auto, off, estimate, perf, powercap, scmi, hwmon, battery, file:PATH, cmd:COMMAND (auto; also environment INFER_ENERGY)\n"
    "      --energy-idle S      first sleep S seconds to measure the idle power, for net figures (0: do not)\n"
    "      --cpu LEVEL          ref, avx2, ... (the best there is; also environment INFER_CPU)\n"
    "      --kv auto|f16|f32|q8\n"
    "                           number type of the KV cache (auto: f32 for f32 models, else f16)\n"
    "      --chat               a conversation: PROMPT, then a message a line; /help in it lists its commands\n"
    "      --chat-template NAME chatml, llama2, llama3, ... (the one that the model's file asks for)\n"
    "      --system TEXT        instruction at the start of the conversation\n"
    "      --type TYPE          number type for a model of another format (its own integers, else q8g32)\n"
    "      --tokenizer FILE     its vocabulary, where it has none\n"
    "      --no-map             read the model into memory instead of mapping it: for a file that others may write to\n"
    "      --events auto|off|RATE\n"
    "                           while generating, skip the share RATE of the layers' inputs, those closest to silence; auto: the one that the model was\n"
    "                           converted for, if it was (off)\n"
    "      --draft RATE         guess tokens with the share RATE of the inputs skipped, check them all at once: the same text as without, sooner where\n"
    "                           that pays\n"
    "      --draft-max N        most tokens guessed at once, 1 to 15 (6)\n"
    "      --explain            print the plan\n"
    "      --profile            print the time of every node afterwards\n"
    "      --dot                draw the graph for Graphviz instead of generating\n"
    "      --json               print one JSON object instead of text\n"
    "      --no-prompt          print only the continuation\n"
    "  -q, --quiet              no closing line\n"
    "  -v, --version\n"
    "  -h, --help\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 the command line is wrong, 130 interrupted.\n";

/* ---- arguments ---- */

enum {
    OPT_BATCH = 256, OPT_TEMP, OPT_TOP_K, OPT_TOP_P, OPT_MIN_P, OPT_REPEAT_PENALTY, OPT_REPEAT_LAST, OPT_SEED, OPT_CPU, OPT_KV, OPT_EXPLAIN,
    OPT_PROFILE, OPT_DOT, OPT_JSON, OPT_NO_PROMPT, OPT_CHAT, OPT_CHAT_TEMPLATE, OPT_SYSTEM,
    OPT_TYPE, OPT_TOKENIZER, OPT_TARGET_TPS, OPT_ENERGY, OPT_ENERGY_IDLE, OPT_EVENTS, OPT_DRAFT, OPT_DRAFT_MAX, OPT_NO_MAP
};

static const struct option long_options[] = {
    {"file", required_argument, NULL, 'f'}, {"tokens", required_argument, NULL, 'n'}, {"threads", required_argument, NULL, 't'},
    {"ctx", required_argument, NULL, 'c'}, {"batch", required_argument, NULL, OPT_BATCH}, {"temp", required_argument, NULL, OPT_TEMP},
    {"top-k", required_argument, NULL, OPT_TOP_K}, {"top-p", required_argument, NULL, OPT_TOP_P}, {"min-p", required_argument, NULL, OPT_MIN_P},
    {"repeat-penalty", required_argument, NULL, OPT_REPEAT_PENALTY}, {"repeat-last", required_argument, NULL, OPT_REPEAT_LAST},
    {"seed", required_argument, NULL, OPT_SEED}, {"cpu", required_argument, NULL, OPT_CPU}, {"kv", required_argument, NULL, OPT_KV},
    {"explain", no_argument, NULL, OPT_EXPLAIN}, {"profile", no_argument, NULL, OPT_PROFILE},
    {"dot", no_argument, NULL, OPT_DOT}, {"json", no_argument, NULL, OPT_JSON}, {"no-prompt", no_argument, NULL, OPT_NO_PROMPT},
    {"chat", no_argument, NULL, OPT_CHAT}, {"chat-template", required_argument, NULL, OPT_CHAT_TEMPLATE}, {"system", required_argument, NULL, OPT_SYSTEM},
    {"type", required_argument, NULL, OPT_TYPE}, {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
    {"target-tps", required_argument, NULL, OPT_TARGET_TPS}, {"energy", required_argument, NULL, OPT_ENERGY},
    {"energy-idle", required_argument, NULL, OPT_ENERGY_IDLE}, {"events", required_argument, NULL, OPT_EVENTS},
    {"draft", required_argument, NULL, OPT_DRAFT}, {"draft-max", required_argument, NULL, OPT_DRAFT_MAX}, {"no-map", no_argument, NULL, OPT_NO_MAP},
    {"quiet", no_argument, NULL, 'q'}, {"version", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
};

static uint32_t whole(const char *option, uint64_t low, uint64_t high) { return (uint32_t)cli_whole(option, optarg, low, high); }
static float real(const char *option, double low, double high) { return (float)cli_real(option, optarg, low, high); }

static const char *chat_template(const char *name)
{
    char known[256] = "";
    for (size_t i = 0; infer_chat_template_name(i); i++) {
        size_t n = strlen(known);
        if (strcmp(infer_chat_template_name(i), name) == 0)
            return name;
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", infer_chat_template_name(i));
    }
    cli_usage("--chat-template: found \"%s\", expected one of %s", name, known);
}

/* Whether a single argument is a model, not a prompt for the built-in one: a file, or what only a file is called: no white space, and a slash or an
 * extension. */
static bool names_model(const char *text)
{
    const char *dot = strrchr(text, '.');
    return access(text, F_OK) == 0 || strcmp(text, DEFAULT_MODEL_NAME) == 0 ||
           (!strpbrk(text, " \t\n") && (strchr(text, '/') || (dot && dot != text && isalnum((unsigned char)dot[1]))));
}

/* Never returns on a wrong command line (status 2), --help or --version. */
static void parse(int argc, char **argv, arguments *a)
{
    int c;
    *a = (arguments){.tokens = 256, .runtime = INFER_RUNTIME_DEFAULTS, .load = INFER_MODEL_DEFAULTS, .session = INFER_SESSION_DEFAULTS, .sampler = INFER_SAMPLER_DEFAULTS};
    while ((c = getopt_long(argc, argv, ":f:n:t:c:qvh", long_options, NULL)) != -1)
        switch (c) {
        case 'f': a->prompt_file = optarg; break;
        case 'n': a->tokens = whole("-n", 0, 1u << 30); break;
        case 't': a->runtime.threads = whole("-t", 1, 256); break;
        case 'c': a->session.context = whole("-c", 1, 1u << 20); break;
        case OPT_BATCH: a->session.batch = whole("--batch", 1, 4096); break;
        case OPT_TEMP: a->sampler.temperature = real("--temp", 0, 100); break;
        case OPT_TOP_K: a->sampler.top_k = whole("--top-k", 0, UINT32_MAX); break;
        case OPT_TOP_P: a->sampler.top_p = real("--top-p", 1e-6, 1); break;
        case OPT_MIN_P: a->sampler.min_p = real("--min-p", 0, 1); break;
        case OPT_REPEAT_PENALTY: a->sampler.repeat_penalty = real("--repeat-penalty", 1e-3, 1e3); break;
        case OPT_REPEAT_LAST: a->sampler.repeat_last = whole("--repeat-last", 0, 4096); break;
        case OPT_SEED: a->sampler.seed = cli_whole("--seed", optarg, 0, UINT64_MAX); break;
        case OPT_CPU: a->runtime.cpu_level = optarg; break;
        case OPT_KV: a->session.kv_type = cli_kv_type(optarg); break;
        case OPT_EXPLAIN: a->explain = true; break;
        case OPT_PROFILE: a->profile = true; break;
        case OPT_DOT: a->dot = true; break;
        case OPT_JSON: a->json = true; break;
        case OPT_NO_PROMPT: a->no_prompt = true; break;
        case OPT_CHAT: a->converse = true; break;
        case OPT_CHAT_TEMPLATE: a->chat.template_name = chat_template(optarg); break;
        case OPT_SYSTEM: a->chat.system = optarg; break;
        case OPT_TYPE: a->cache.type = optarg; break;
        case OPT_TOKENIZER: a->cache.tokenizer = optarg; break;
        case OPT_TARGET_TPS: a->target_tps = cli_real("--target-tps", optarg, 1e-3, 1e6); break;
        case OPT_ENERGY: a->energy = optarg; break;
        case OPT_DRAFT: a->draft = cli_real("--draft", optarg, 0.05, 0.9); break;
        case OPT_DRAFT_MAX: a->draft_max = whole("--draft-max", 1, INFER_DRAFT_MAX); break;
        case OPT_EVENTS: a->events = cli_events(optarg); break;
        case OPT_ENERGY_IDLE: a->energy_idle_s = cli_real("--energy-idle", optarg, 0, 3600); break;
        case OPT_NO_MAP: a->load.load = INFER_LOAD_COPY; break;
        case 'q': a->quiet = true; break;
        case 'v': printf("infer-run %s\n", infer_version()); exit(0);
        case 'h': fputs(usage, stdout); exit(0);
        default: cli_bad_option(c, argv);
        }
    if (optind == argc && !a->prompt_file)
        cli_usage("no PROMPT given");
    a->model = optind == argc || (argc - optind == 1 && !names_model(argv[optind])) ? DEFAULT_MODEL_NAME : argv[optind++];
    if (optind < argc)
        a->prompt = argv[optind++];
    if (optind < argc)
        cli_usage("unexpected argument \"%s\" (a prompt of several words needs quotes)", argv[optind]);
    if (a->prompt && a->prompt_file)
        cli_usage("both a PROMPT and -f FILE given");
    if (a->converse && (a->prompt_file || a->dot || a->json || a->no_prompt))
        cli_usage("--chat goes without -f, --dot, --json and --no-prompt");
    if (a->converse && a->events != 0)
        cli_usage("--chat goes without --events");
    if (a->converse && a->target_tps > 0)
        cli_usage("--chat goes without --target-tps");
    if (!a->converse && (a->chat.template_name || a->chat.system))
        cli_usage("--chat-template and --system need --chat");
    a->chat.tokens = a->tokens;
    a->chat.first = a->prompt;
    a->chat.quiet = a->cache.quiet = a->quiet;
    a->session.profile = a->profile;
    if (a->draft_max && a->draft == 0)
        cli_usage("--draft-max needs --draft");
    if (a->draft > 0 && (a->converse || a->events != 0 || a->target_tps > 0))
        cli_usage("--draft goes without --chat, --events and --target-tps");
    a->draft_max = a->draft_max ? a->draft_max : DRAFT_MAX_DEFAULT;
    if (a->draft > 0)
        a->session.logit_rows = a->draft_max + 1;
}

/* ---- output ---- */

static void emit(run *r, const char *text, size_t bytes)
{
    if (r->args->json) {
        if (!cli_buffer_add(&r->text, text, bytes))
            cli_die("out of memory for the text");
    } else if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout) != 0) {
        cli_die("standard output: %s", strerror(errno));
    }
}

static void emit_token(run *r, int32_t id)
{
    const char *text;
    size_t bytes;
    if (infer_decoder_push(r->decoder, id, &text, &bytes) == INFER_OK && bytes)
        emit(r, text, bytes);
}

static int write_to(void *file, const char *text, size_t bytes) { return fwrite(text, 1, bytes, file) != bytes; }

static void describe(const run *r, const char *what, FILE *to)
{
    infer_error err;
    if (infer_session_describe(r->session, what, write_to, to, &err) != INFER_OK)
        cli_die("%s", err.message);
}

static double share(uint64_t part, uint64_t all) { return all ? (double)part / (double)all : 0; }

static double per_second(size_t tokens, uint64_t ns) { return ns ? tokens * 1e9 / ns : 0; }

/* Weights read for a token: guesses with events, and all of them for each exact evaluation. */
static double drafted_bytes(const run *r, const infer_drafter_stats *d)
{
    infer_events_stats e;
    infer_session_events_stats(r->session, &e);
    return d->tokens ? ((double)e.bytes_read + (double)d->steps * (double)infer_session_weight_bytes_per_token(r->session)) / (double)d->tokens : 0;
}

static void add_draft(cJSON *generation, const run *r)
{
    cJSON *o = cJSON_AddObjectToObject(generation, "draft");
    infer_drafter_stats d;
    infer_drafter_get_stats(r->drafter, &d);
    cJSON_AddNumberToObject(o, "drafted", (double)d.drafted);
    cJSON_AddNumberToObject(o, "accepted", (double)d.accepted);
    cJSON_AddNumberToObject(o, "steps", (double)d.steps);
    cJSON_AddNumberToObject(o, "weight_bytes_per_token", drafted_bytes(r, &d));
}

/* `tokens` beside `evaluated`: the first generated token comes out of the prompt's evaluation, and costs none of its own. */
static void add_rate(cJSON *object, const char *name, size_t tokens, size_t evaluated, uint64_t ns, const infer_energy *energy, const run *generation)
{
    cJSON *o = cJSON_AddObjectToObject(object, name);
    cJSON_AddNumberToObject(o, "tokens", tokens);
    cJSON_AddNumberToObject(o, "tokens_per_s", per_second(evaluated, ns));
    joules_add(o, energy->kind, joules_each(energy->gross_uj, evaluated), joules_each(energy->net_uj, evaluated));
    if (generation) {
        cJSON_AddNumberToObject(o, "weight_bytes_per_token", (double)infer_session_weight_bytes_per_token(generation->session));
        infer_events_stats events;
        infer_session_events_stats(generation->session, &events);
        cJSON_AddNumberToObject(o, "skipped_fraction", share(events.bytes_skipped, events.bytes_read + events.bytes_skipped));
        cJSON_AddNumberToObject(o, "silent_fraction", share(events.silent, events.inputs));
        if (generation->drafter)
            add_draft(o, generation);
    }
}

static void print_json(const run *r)
{
    cJSON *o = cJSON_CreateObject(), *energy;
    char *text;
    cJSON_AddStringToObject(o, "text", r->text.data ? r->text.data : "");
    cJSON_AddStringToObject(o, "model", r->args->model);
    cJSON_AddStringToObject(o, "cpu_level", infer_runtime_cpu_level(r->rt));
    cJSON_AddNumberToObject(o, "threads", infer_runtime_threads(r->rt));
    cJSON_AddNumberToObject(o, "load_ms", r->load_ns / 1e6);
    cJSON_AddNumberToObject(o, "first_token_ms", r->first_token_ns / 1e6);
    cJSON_AddNumberToObject(o, "peak_rss_bytes", (double)infer_peak_rss_bytes());
    add_rate(o, "prompt", r->prompt_tokens, r->prompt_tokens, r->prompt_ns, &r->prompt_energy, NULL);
    add_rate(o, "generation", r->generated, r->evaluated, r->generation_ns, &r->generation_energy, r);
    energy = joules_add_source(o, r->meter, r->prompt_energy.idle_watts);
    cJSON_AddNumberToObject(energy, "jumps", r->prompt_energy.jumps + r->generation_energy.jumps);
    text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    if (!text)
        cli_die("out of memory for the JSON");
    if (printf("%s\n", text) < 0 || fflush(stdout) != 0)
        cli_die("standard output: %s", strerror(errno));
    cJSON_free(text);
}

static void print_closing_line(const run *r)
{
    fprintf(stderr, "prompt %zu tokens, %.1f tokens/s; generation %zu tokens, %.1f tokens/s; load %.1f ms; peak memory %.1f MB; %s, %u thread%s\n",
            r->prompt_tokens, per_second(r->prompt_tokens, r->prompt_ns), r->generated, per_second(r->evaluated, r->generation_ns),
            r->load_ns / 1e6, infer_peak_rss_bytes() / 1e6, infer_runtime_cpu_level(r->rt), infer_runtime_threads(r->rt),
            infer_runtime_threads(r->rt) == 1 ? "" : "s");
    if (r->drafter) {
        infer_drafter_stats d;
        infer_drafter_get_stats(r->drafter, &d);
        fprintf(stderr, "draft: %llu of %llu guesses right; %.2f tokens an exact evaluation; %.2f MB of weights read a token, %.2f without\n",
                (unsigned long long)d.accepted, (unsigned long long)d.drafted, d.steps ? (double)d.tokens / (double)d.steps : 0, drafted_bytes(r, &d) / 1e6,
                infer_session_weight_bytes_per_token(r->session) / 1e6);
    }
    if (r->args->events != 0) {
        infer_events_stats e;
        infer_session_events_stats(r->session, &e);
        fprintf(stderr, "events: %.1f %% of the inputs silent, %.2f of %.2f MB of weights a token not read\n", 100 * share(e.silent, e.inputs),
                e.tokens ? e.bytes_skipped / 1e6 / e.tokens : 0, infer_session_weight_bytes_per_token(r->session) / 1e6);
    }
    if (infer_meter_kind(r->meter) != INFER_ENERGY_NONE) {
        const infer_energy *p = &r->prompt_energy, *g = &r->generation_energy;
        char prompt[80], generation[80];
        joules_text(prompt, joules_each(p->gross_uj, r->prompt_tokens), joules_each(p->net_uj, r->prompt_tokens));
        joules_text(generation, joules_each(g->gross_uj, r->evaluated), joules_each(g->net_uj, r->evaluated));
        fprintf(stderr, "energy, %s: prompt %s; generation %s; %s", joules_kind(infer_meter_kind(r->meter)), prompt, generation,
                infer_meter_kind(r->meter) == INFER_ENERGY_ESTIMATED ? "off by a factor of about 2" : infer_meter_source(r->meter));
        if (p->jumps + g->jumps)
            fprintf(stderr, "; %u readings made no sense and were left out", p->jumps + g->jumps);
        fputc('\n', stderr);
    }
}

/* ---- work ---- */

static int32_t *tokenize(const run *r, const char *text, size_t bytes, unsigned flags, size_t *count)
{
    infer_error err;
    size_t need = 0;
    int32_t *ids;
    infer_status s = infer_model_tokenize(r->model, text, bytes, flags, NULL, 0, &need, &err);
    if (s != INFER_OK && !(s == INFER_ERROR_ARGUMENT && need > 0))
        cli_die("%s", err.message);
    ids = malloc((need ? need : 1) * sizeof *ids);
    if (!ids)
        cli_die("out of memory for %zu tokens", need);
    if (need && infer_model_tokenize(r->model, text, bytes, flags, ids, need, count, &err) != INFER_OK)
        cli_die("%s", err.message);
    *count = need;
    return ids;
}

static void evaluate(run *r, const int32_t *ids, size_t n)
{
    infer_error err;
    infer_status s = infer_session_eval(r->session, ids, n, INFER_LOGITS_LAST, &err);
    if (s != INFER_OK && s != INFER_ERROR_CANCELLED)
        cli_die("%s", err.message);
}

/* A window of the meter. What goes wrong with it is said once and leaves the figure unknown; the text does not suffer. */
static void start_meter(run *r)
{
    infer_error err;
    if (r->meter && infer_meter_start(r->meter, &err) != INFER_OK)
        cli_note("energy: %s", err.message);
}

static void stop_meter(run *r, infer_energy *out)
{
    infer_error err;
    switch (r->meter ? infer_meter_stop(r->meter, out, &err) : INFER_OK) {
    case INFER_OK:
    case INFER_ERROR_ARGUMENT: break; /* it did not start, which was said */
    default: cli_note("energy: %s", err.message);
    }
}

/* Sleeps until the next token is due. A token that came late moves the later ones: nothing is made up for in a hurry. */
static void pace(const run *r, uint64_t *due)
{
    uint64_t now = infer_now_ns();
    *due += (uint64_t)(1e9 / r->args->target_tps);
    if (*due > now)
        infer_sleep_until(*due, &cli_interrupted);
    else
        *due = now;
}

/* The prompt was read exactly: it costs little there, and everything after it rests on it. */
static void use_events(const run *r)
{
    infer_error err;
    double rate = r->args->events == INFER_EVENTS_AUTO && infer_model_events_target(r->model) == 0 ? 0 : r->args->events;
    if (infer_session_set_events(r->session, rate, &err) != INFER_OK)
        cli_die("%s", err.message);
}

static void generate(run *r)
{
    int32_t id = 0;
    uint64_t start = infer_now_ns(), due = start;
    for (r->generated = 0; r->generated < r->args->tokens && !cli_interrupted;) {
        if (r->generated) {
            if (infer_session_position(r->session) == infer_session_context(r->session)) {
                r->context_full = true;
                break;
            }
            if (r->args->target_tps > 0)
                pace(r, &due);
            if (!cli_interrupted)
                evaluate(r, &id, 1);
            if (cli_interrupted)
                break;
            r->evaluated++;
        }
        id = infer_sampler_sample(r->sampler, infer_session_logits(r->session, 0));
        if (infer_model_token_is_end(r->model, id))
            break;
        emit_token(r, id);
        if (r->generated++ == 0)
            r->first_token_ns = r->prompt_ns + infer_now_ns() - start;
    }
    r->generation_ns = infer_now_ns() - start;
}

/* The same tokens, several at a time. */
static void generate_drafted(run *r)
{
    int32_t ids[INFER_DRAFT_MAX + 1] = {0};
    uint64_t start = infer_now_ns();
    size_t n = 1;
    bool ended = r->args->tokens == 0;
    infer_error err;
    if (!ended)
        ids[0] = infer_sampler_sample(r->sampler, infer_session_logits(r->session, 0));
    while (!ended && !cli_interrupted) {
        size_t left;
        for (size_t i = 0; i < n && !ended; i++) {
            ended = infer_model_token_is_end(r->model, ids[i]);
            if (!ended) {
                emit_token(r, ids[i]);
                if (r->generated++ == 0)
                    r->first_token_ns = r->prompt_ns + infer_now_ns() - start;
            }
        }
        left = r->args->tokens - r->generated;
        r->context_full = !ended && left && infer_session_position(r->session) == infer_session_context(r->session);
        if (ended || !left || r->context_full)
            break;
        switch (infer_drafter_step(r->drafter, r->sampler, ids[n - 1], ids, left < INFER_DRAFT_MAX + 1 ? left : INFER_DRAFT_MAX + 1, &n, &err)) {
        case INFER_OK: r->evaluated += n; break;
        case INFER_ERROR_CANCELLED: ended = true; break;
        default: cli_die("%s", err.message);
        }
    }
    r->generation_ns = infer_now_ns() - start;
}

static void continue_prompt(run *r, const char *prompt, size_t bytes)
{
    size_t n;
    int32_t *ids = tokenize(r, prompt, bytes, INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL, &n);
    uint64_t start;
    if (n == 0)
        cli_die("the prompt is empty, and this model has no begin token to start from");
    if (n > infer_session_context(r->session))
        cli_die("the prompt has %zu tokens, the context holds %u; see --ctx", n, infer_session_context(r->session));
    for (size_t i = 0; i < n; i++) {
        infer_sampler_accept(r->sampler, ids[i]);
        if (!r->args->no_prompt)
            emit_token(r, ids[i]);
    }
    start_meter(r);
    start = infer_now_ns();
    evaluate(r, ids, n);
    r->prompt_ns = infer_now_ns() - start;
    stop_meter(r, &r->prompt_energy);
    r->prompt_tokens = n;
    free(ids);
    if (!cli_interrupted) {
        use_events(r);
        start_meter(r);
        if (r->drafter)
            generate_drafted(r);
        else
            generate(r);
        stop_meter(r, &r->generation_energy);
    }
    emit_token(r, -1);
    if (!r->args->json)
        emit(r, "\n", 1);
    if (r->context_full)
        fprintf(stderr, "infer-run: the context of %u tokens is full\n", infer_session_context(r->session));
}

static void open_all(run *r)
{
    const arguments *a = r->args;
    infer_session_options session = a->session;
    infer_error err;
    char *path = cache_model(a->model, &a->cache);
    uint64_t start = infer_now_ns();
    infer_runtime_options runtime = a->runtime;
    if (!runtime.threads && tuned_load(path, &r->setting) && infer_pin_cpus(r->setting.cpus))
        runtime.threads = r->setting.threads;
    else
        r->setting.threads = 0;
    switch (infer_runtime_create(&runtime, &r->rt, &err)) {
    case INFER_OK: break;
    case INFER_ERROR_ARGUMENT: cli_usage("%s", err.message); /* an unknown level */
    default: cli_die("%s", err.message);
    }
    if (infer_model_open(r->rt, path, &r->args->load, &r->model, &err) != INFER_OK ||
        infer_session_create(r->model, &session, &r->session, &err) != INFER_OK ||
        infer_sampler_create(r->model, &a->sampler, &r->sampler, &err) != INFER_OK)
        cli_die("%s", err.message);
    if (a->draft > 0 && infer_drafter_create(r->session, r->sampler, a->draft, a->draft_max, &r->drafter, &err) != INFER_OK)
        cli_die("%s", err.message);
    r->load_ns = infer_now_ns() - start;
    free(path);
    cli_cancel_session(r->session);
    cli_catch_interrupts();
}

/* Before anything runs, so that the baseline is that of a machine at rest. */
static void open_meter(run *r)
{
    infer_error err;
    r->meter = joules_meter(r->rt, r->args->energy);
    r->prompt_energy.kind = r->generation_energy.kind = infer_meter_kind(r->meter);
    if (r->args->energy_idle_s > 0 && infer_meter_idle(r->meter, r->args->energy_idle_s, NULL, &err) != INFER_OK)
        cli_die("%s", err.message);
}

/* What was decided without being asked. */
static void explain(const run *r)
{
    describe(r, "explain", stderr);
    if (r->setting.threads)
        fprintf(stderr, "threads %u%s%s: the least energy that infer-bench --tune found (%s, %.3g J/token at %.3g tokens/s); -t sets it aside\n",
                r->setting.threads, *r->setting.cpus ? " on CPUs " : "", r->setting.cpus, r->setting.kind, r->setting.joules_per_token,
                r->setting.tokens_per_s);
    if (r->meter)
        fprintf(stderr, "energy meter: %s%s%s\n", infer_meter_source(r->meter), *infer_meter_note(r->meter) ? "; " : "", infer_meter_note(r->meter));
}

static void close_all(run *r)
{
    cli_cancel_session(NULL);
    infer_drafter_destroy(r->drafter);
    infer_meter_destroy(r->meter);
    infer_decoder_destroy(r->decoder);
    infer_sampler_destroy(r->sampler);
    infer_session_destroy(r->session);
    infer_model_close(r->model);
    infer_runtime_destroy(r->rt);
    cli_buffer_free(&r->text);
}

static void read_input(const arguments *a, cli_buffer *input)
{
    const char *path = a->prompt_file;
    if (a->converse || (!path && (a->dot || (isatty(STDIN_FILENO) && !a->prompt && a->explain))))
        return;
    if (!path && !a->prompt && isatty(STDIN_FILENO))
        cli_usage("no PROMPT given");
    if (!path && a->prompt) {
        if (!cli_buffer_add(input, a->prompt, strlen(a->prompt)))
            cli_die("out of memory for the prompt");
    } else {
        cli_read_file(path ? path : "-", input);
    }
}

int main(int argc, char **argv)
{
    arguments a;
    const infer_energy unknown = {.kind = INFER_ENERGY_NONE, .gross_uj = NAN, .net_uj = NAN, .idle_watts = NAN};
    run r = {.args = &a, .prompt_energy = unknown, .generation_energy = unknown};
    cli_buffer input = {0};
    cli_start("infer-run");
    parse(argc, argv, &a);
    read_input(&a, &input);
    open_all(&r);
    if (!a.dot && (!a.quiet || a.json || a.explain || a.energy || a.energy_idle_s > 0)) /* else nobody sees its figures */
        open_meter(&r);
    if (a.explain)
        explain(&r);
    if (a.converse) {
        a.chat.meter = r.meter;
        chat_run(r.model, r.session, r.sampler, &a.chat);
    } else if (a.dot) {
        describe(&r, "dot", stdout);
    } else if (input.data || !a.explain) {
        infer_error err;
        if (infer_decoder_create(r.model, &r.decoder, &err) != INFER_OK)
            cli_die("%s", err.message);
        continue_prompt(&r, input.data ? input.data : "", input.size);
        if (a.json)
            print_json(&r);
        if (!a.quiet && !a.json)
            print_closing_line(&r);
    }
    if (a.profile)
        describe(&r, "profile", stderr);
    cli_buffer_free(&input);
    close_all(&r);
    return cli_interrupted ? CLI_EXIT_INTERRUPTED : 0;
}
