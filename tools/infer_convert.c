/* infer-convert: other people's model files -> .infer. Arguments and printing only; the work is in formats/. */
#include "cli.h"

#include "calibrate/calibrate.h"
#include "calibrate/events.h"
#include "core/core.h"
#include "eval/writing.h"
#include "interrupts.h"
#include "kept/costs.h"
#include "qtypes.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define CALIBRATE_WINDOW 512u /* tokens at once, or the model's context where that is less */
#define CALIBRATE_TOKENS_DEFAULT 65536u
#define CALIBRATE_GENERATE "generate" /* in place of a file: the model writes the text */
#define CALIBRATE_SEED 1u
#define DAMPING_DEFAULT 0.03
#define EVENTS_TRIAL_TOKENS 512u

typedef struct arguments {
    const char *in, *out, *tokenizer, *calibrate, *separator;
    uint64_t calibrate_tokens;
    double damping, events, bits; /* events and bits a weight 0: not wanted */
    infer_convert_rule *rules; /* room for one per argument */
    size_t rule_count;
    infer_qtype type;
    infer_convert_prune_rule *prune_rules; /* room for one per argument */
    size_t prune_rule_count;
    double prune_rate; /* of the layers' matrices */
    int method, block; /* of infer_prune_method and infer_prune_block; -1: not given */
    bool prune, spread, sparse, explain, force, quiet, json;
} arguments;

/* " f32 f16 ..." */
static void type_names(char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t id = 0; id < INFER_QTYPE_NONE; id++) {
        const infer_qtype_info *t = infer_qtype_find(id);
        if (t && at < size)
            at += (size_t)snprintf(out + at, size - at, " %s", t->name);
    }
}

static void help(void)
{
    char types[128];

    type_names(types, sizeof types);
    printf("usage: infer-convert IN -o OUT.infer [--type TYPE] [--type GLOB=TYPE]... [--tokenizer FILE]\n"
           "Reads a model of another format and writes it as .infer.\n\n"
           "  -o, --output FILE     the file to write\n"
           "      --type TYPE       number type of all matrices; default: as stored in IN. Types:%s\n"
           "      --type GLOB=TYPE  number type of the matrices whose names match; the last match wins\n"
           "      --calibrate FILE  round q4g32, n4g32, q8g32 matrices so that what they make of this text changes least\n"
           "      --calibrate generate  the same with a text that the model writes itself\n"
           "      --bpw X           q4g32, n4g32 or q8g32 for each matrix, as its rounding is felt on the text of --calibrate: X bits a "
           "weight in all,\n"
           "                        or fewer where ternary matrices, which t2r keeps as they are, leave some over\n"
           "      --events TARGET   find thresholds with which this share of the layers' inputs, 0.05 to 0.9, is silent and skipped on the "
           "text of\n"
           "                        --calibrate; for matrices in q4g64 and q8g64\n"
           "      --calibrate-tokens N  of the text's first tokens; default 65536\n"
           "      --separator LINE  lines that are just LINE divide the documents of the text\n"
           "      --damping X       added to the diagonal of the inputs' moments, as a share of their mean; default 0.03\n"
           "      --prune RATE      share of the weights of the layers' matrices that become zero, 0 to 1\n"
           "      --prune GLOB=RATE  of the matrices whose names match; the last match wins\n"
           "      --prune-spread    more of the matrices that the predictions miss least, for the same bytes; with --calibrate\n"
           "      --method NAME     magnitude; with --calibrate also wanda, sparsegpt and obs, the default there\n"
           "      --block SHAPE     weights that go together: 16x1 (default), 16x4, 1x1 or 2:4\n"
           "      --sparse          what is zero in q4g64 and q8g64 matrices is not stored, where that is predicted to save time\n"
           "      --explain         why each tensor gets its layout, with the predicted times of the alternatives\n"
           "      --tokenizer FILE  take the vocabulary from this file (tokenizer.json, .model, .bin, .gguf, .infer)\n"
           "  -f, --force           replace the output file if it exists\n"
           "  -q, --quiet           no progress, no summary\n"
           "      --json            the summary as JSON on standard output\n"
           "  -h, --help\n"
           "      --version\n\n"
           "Inputs:\n",
           types);
    for (const infer_importer *const *i = infer_importers; *i; i++)
        printf("  %-8s  %s\n", (*i)->name, (*i)->description);
    printf("\nExit status: 0 done, 1 it could not be done, 2 the command line is wrong, 130 interrupted.\n");
    if (fflush(stdout) != 0)
        cli_die("standard output: %s", strerror(errno));
}

/* TYPE or GLOB=TYPE. */
static void add_type(arguments *a, char *text)
{
    char *equals = strrchr(text, '='), types[128];
    const infer_qtype_info *t = infer_qtype_find_name(equals ? equals + 1 : text);

    if (!t || equals == text) {
        type_names(types, sizeof types);
        cli_usage("--type: found \"%s\", expected TYPE or GLOB=TYPE with a type of%s", text, types);
    }
    if (!equals) {
        a->type = t->type;
        return;
    }
    *equals = '\0';
    a->rules[a->rule_count++] = (infer_convert_rule){text, t->type};
}

/* RATE or GLOB=RATE. */
static void add_prune(arguments *a, char *text)
{
    char *equals = strrchr(text, '=');
    double rate = cli_real("--prune", equals ? equals + 1 : text, 0, 1);

    a->prune = true;
    if (!equals) {
        a->prune_rate = rate;
        return;
    }
    if (equals == text)
        cli_usage("--prune: found \"%s\", expected RATE or GLOB=RATE", text);
    *equals = '\0';
    a->prune_rules[a->prune_rule_count++] = (infer_convert_prune_rule){text, rate};
}

/* The place of `name` among `names`. */
static int find_name(const char *option, const char *const *names, const char *name)
{
    char expected[64] = "";
    size_t at = 0;
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
        at += (size_t)snprintf(expected + at, sizeof expected - at, "%s%s", i ? ", " : "", names[i]);
    }
    cli_usage("%s: found \"%s\", expected one of %s", option, name, expected);
}

static void check_prune(arguments *a)
{
    bool half = a->prune_rate == 0 || a->prune_rate == 0.5;

    if (!a->prune && (a->method >= 0 || a->block >= 0 || a->spread))
        cli_usage("--method, --block and --prune-spread go with --prune");
    if (a->spread && !a->calibrate)
        cli_usage("--prune-spread looks at the model's predictions: --calibrate FILE gives a text");
    if (a->method > INFER_PRUNE_MAGNITUDE && !a->calibrate)
        cli_usage("--method %s looks at the inputs of the matrices: --calibrate FILE gives them", infer_prune_method_names[a->method]);
    if (a->method < 0)
        a->method = a->calibrate ? INFER_PRUNE_OBS : INFER_PRUNE_MAGNITUDE;
    if (a->block < 0)
        a->block = INFER_PRUNE_16X1;
    for (size_t i = 0; i < a->prune_rule_count; i++)
        half = half && (a->prune_rules[i].rate == 0 || a->prune_rules[i].rate == 0.5);
    if (a->block == INFER_PRUNE_2_4 && !half)
        cli_usage("--block 2:4 drops two of four: --prune expects 0.5, or 0 for none");
    if (a->block == INFER_PRUNE_2_4 && a->spread)
        cli_usage("--block 2:4 drops two of four in each matrix: there is nothing to spread");
}

/* --calibrate generate */
static bool writes_text(const arguments *a) { return a->calibrate && strcmp(a->calibrate, CALIBRATE_GENERATE) == 0; }

static void parse(int argc, char **argv, arguments *a)
{
    enum {
        TYPE = 256,
        TOKENIZER,
        CALIBRATE,
        CALIBRATE_TOKENS,
        SEPARATOR,
        DAMPING,
        BPW,
        EVENTS,
        PRUNE,
        PRUNE_SPREAD,
        METHOD,
        BLOCK,
        SPARSE,
        EXPLAIN,
        JSON,
        VERSION
    };
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'},
        {"type", required_argument, NULL, TYPE},
        {"tokenizer", required_argument, NULL, TOKENIZER},
        {"calibrate", required_argument, NULL, CALIBRATE},
        {"calibrate-tokens", required_argument, NULL, CALIBRATE_TOKENS},
        {"separator", required_argument, NULL, SEPARATOR},
        {"damping", required_argument, NULL, DAMPING},
        {"bpw", required_argument, NULL, BPW},
        {"events", required_argument, NULL, EVENTS},
        {"prune", required_argument, NULL, PRUNE},
        {"prune-spread", no_argument, NULL, PRUNE_SPREAD},
        {"method", required_argument, NULL, METHOD},
        {"block", required_argument, NULL, BLOCK},
        {"sparse", no_argument, NULL, SPARSE},
        {"explain", no_argument, NULL, EXPLAIN},
        {"json", no_argument, NULL, JSON},
        {"force", no_argument, NULL, 'f'},
        {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, VERSION},
        {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, ":o:fqh", options, NULL)) != -1)
        switch (c) {
        case 'o': a->out = optarg; break;
        case 'f': a->force = true; break;
        case 'q': a->quiet = true; break;
        case TOKENIZER: a->tokenizer = optarg; break;
        case TYPE: add_type(a, optarg); break;
        case CALIBRATE: a->calibrate = optarg; break;
        case CALIBRATE_TOKENS: a->calibrate_tokens = cli_whole("--calibrate-tokens", optarg, 1, 1u << 30); break;
        case SEPARATOR: a->separator = optarg; break;
        case BPW: a->bits = cli_real("--bpw", optarg, 2, 32); break;
        case EVENTS: a->events = cli_real("--events", optarg, 0.05, 0.9); break;
        case DAMPING: a->damping = cli_real("--damping", optarg, 1e-6, 10); break;
        case PRUNE: add_prune(a, optarg); break;
        case PRUNE_SPREAD: a->spread = true; break;
        case METHOD: a->method = find_name("--method", infer_prune_method_names, optarg); break;
        case BLOCK: a->block = find_name("--block", infer_prune_block_names, optarg); break;
        case SPARSE: a->sparse = true; break;
        case EXPLAIN: a->explain = true; break;
        case JSON: a->json = true; break;
        case 'h': help(); exit(0);
        case VERSION: printf("infer-convert %s\n", infer_version()); exit(0);
        default: cli_bad_option(c, argv);
        }
    if (optind == argc)
        cli_usage("no IN given");
    if (optind + 1 < argc)
        cli_usage("unexpected argument \"%s\": one IN at a time", argv[optind + 1]);
    if (!a->out || !*a->out)
        cli_usage("no output given: -o OUT.infer");
    if (a->events > 0 && !a->calibrate)
        cli_usage("--events needs --calibrate FILE, a text");
    if (a->events > 0 && a->sparse)
        cli_usage("--events skips inputs of matrices in the layout cols: it goes without --sparse");
    if (a->bits > 0 && !a->calibrate)
        cli_usage("--bpw looks at the model's predictions: --calibrate FILE gives a text");
    if (a->bits > 0 && a->type != INFER_QTYPE_NONE)
        cli_usage("--bpw chooses the types: --type goes with it only as GLOB=TYPE, for matrices that have no choice");
    if (!a->calibrate && (a->calibrate_tokens || a->separator || a->damping != 0))
        cli_usage("--calibrate-tokens, --separator and --damping go with --calibrate");
    if (a->separator && writes_text(a))
        cli_usage("--separator divides a file: --calibrate generate writes its texts apart");
    if (a->separator && (!*a->separator || strpbrk(a->separator, "\r\n")))
        cli_usage("--separator: expected one line that is not empty");
    check_prune(a);
    if (a->bits > 0)
        a->type = INFER_QTYPE_Q8G32; /* of a matrix that cannot be measured */
    a->calibrate_tokens = a->calibrate_tokens ? a->calibrate_tokens : CALIBRATE_TOKENS_DEFAULT;
    a->damping = a->damping != 0 ? a->damping : DAMPING_DEFAULT;
    a->in = argv[optind];
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

typedef struct watcher {
    cli_progress bar;
    bool started, quiet;
    const char *from; /* --explain: of the costs; NULL once they were named */
} watcher;

static int on_progress(void *user, const infer_convert_progress *p)
{
    watcher *w = user;
    if (!p->total_bytes)
        return cli_interrupted;
    if (!w->started && !w->quiet)
        cli_progress_start(&w->bar, "converting", p->total_bytes, NULL);
    w->started = true;
    if (!w->quiet)
        cli_progress_update(&w->bar, p->bytes);
    return cli_interrupted;
}

/* Why a tensor has its layout. */
static void put_reason(const infer_source_tensor *t, infer_qtype type, const infer_matrix_choice *c)
{
    const infer_matrix_option *o = c->options;

    while (c->option_count && o->layout != c->layout)
        o++;
    if (c->option_count)
        fprintf(stderr, "least time, bound by %s", o->memory_ns > o->kernel_ns ? "memory" : "its kernel");
    else if (!t->matrix)
        fputs("a vector", stderr);
    else if (infer_layout_sparse(c->layout))
        fputs("as it was stored", stderr);
    else if (c->layout == INFER_LAYOUT_COLS)
        fputs("dense, without --sparse", stderr);
    else
        fprintf(stderr, "the only one of %s", infer_qtype_find(type)->name);
}

/* "name type layout bytes why; alternatives", a line for each tensor. */
static void explain(void *user, const infer_source_tensor *t, infer_qtype type, const infer_matrix_choice *c)
{
    watcher *w = user;

    if (w->from) {
        fprintf(stderr, "times of a product with one token, in us, by %s\n%-22s %-6s %-9s %10s  why\n", w->from, "tensor", "type", "layout", "bytes");
        w->from = NULL;
    }
    fprintf(stderr, "%-22s %-6s %-9s %10" PRIu64 "  ", t->name, infer_qtype_find(type)->name, infer_layout_name(c->layout), c->bytes);
    put_reason(t, type, c);
    for (uint32_t i = 0; i < c->option_count; i++)
        fprintf(stderr, "%s %s %.3f (%" PRIu64 " bytes)", i ? "," : ":", infer_layout_name(c->options[i].layout), infer_matrix_ns(&c->options[i]) / 1e3,
                c->options[i].bytes);
    fputc('\n', stderr);
}

static void summarize(const arguments *a, const infer_convert_result *r)
{
    char bytes[16], weights[32];
    struct stat st;
    uint64_t size = stat(a->out, &st) == 0 ? (uint64_t)st.st_size : 0;

    cli_note("%s: %s, %zu tensors, %s weights, %.2f bits each", a->out, cli_bytes(size, bytes), r->tensors, cli_count(r->weights, weights),
             (double)r->tensor_bytes * 8 / (double)r->weights);
}

static int on_tokens(watcher *w, const char *label, uint64_t done, uint64_t total)
{
    if (!w->started && !w->quiet)
        cli_progress_start(&w->bar, label, total, "tokens");
    w->started = true;
    if (!w->quiet)
        cli_progress_update(&w->bar, done);
    return cli_interrupted;
}

static int on_measure(void *user, uint64_t done, uint64_t total) { return on_tokens(user, "measuring", done, total); }

static int on_write(void *user, uint64_t done, uint64_t total) { return on_tokens(user, "writing", done, total); }

static int on_calibrate(void *user, uint64_t done, uint64_t total) { return on_tokens(user, "calibrating", done, total); }

/* The bar of the next part of the work is a new one. */
static void end_progress(watcher *w)
{
    cli_progress_end(&w->bar);
    *w = (watcher){.quiet = w->quiet};
}

/* The model in floats, in a file beside the output that has no name any more: mapped, so that memory need not hold it. */
static infer_status open_floats(const arguments *a, const infer_source *source, infer_runtime *rt, watcher *w, infer_model **out, infer_error *err)
{
    infer_model_options model_options = INFER_MODEL_DEFAULTS;
    infer_convert_options options = {.type = INFER_QTYPE_F32, .overwrite = true, .progress = on_progress, .user = w};
    size_t bytes = strlen(a->out) + 40;
    char *path = malloc(bytes);
    infer_status s;

    if (!path)
        return infer_fail_memory(err, bytes, "a path");
    snprintf(path, bytes, "%s.%ld.f32.tmp", a->out, (long)getpid());
    s = infer_convert(NULL, source, path, &options, NULL, err);
    end_progress(w);
    if (s == INFER_OK) {
        model_options.verify = INFER_VERIFY_NEVER;
        s = infer_model_open(rt, path, &model_options, out, err);
        unlink(path);
    }
    free(path);
    return s;
}

/* The first tokens of the file. */
static infer_status read_text(const arguments *a, const infer_model *model, uint32_t window, eval_text *out, infer_error *err)
{
    cli_buffer input = {0};
    uint64_t tokens = 0;
    infer_status s;

    cli_read_file(a->calibrate, &input);
    s = eval_text_cut(model, input.data, input.size, a->separator, window, window, out, err);
    cli_buffer_free(&input);
    if (s != INFER_OK)
        return s;
    for (size_t i = 0; i < out->window_count; i++) {
        tokens += out->windows[i].inputs;
        if (tokens >= a->calibrate_tokens)
            eval_text_limit(out, i + 1);
    }
    return out->tokens ? INFER_OK : infer_fail(err, INFER_ERROR_ARGUMENT, "%s: no text to calibrate with", a->calibrate);
}

static infer_status write_text(const arguments *a, infer_model *model, uint32_t window, watcher *bar, eval_text *out, infer_error *err)
{
    const eval_writing writing = {.tokens = a->calibrate_tokens, .window = window, .seed = CALIBRATE_SEED, .progress = on_write, .user = bar};
    infer_status s = eval_text_write(model, &writing, out, err);
    end_progress(bar);
    return s;
}

static infer_status calibrate_text(const arguments *a, infer_model *model, watcher *bar, eval_text *out, uint32_t *window, infer_error *err)
{
    *window = infer_model_context_length(model) < CALIBRATE_WINDOW ? infer_model_context_length(model) : CALIBRATE_WINDOW;
    return writes_text(a) ? write_text(a, model, *window, bar, out, err) : read_text(a, model, *window, out, err);
}

/* What is done to the matrices, [tensors of the source] each. */
typedef struct work {
    infer_qtype *types;
    double *rates;                /* shares to prune */
    infer_convert_packed *packed; /* results of calibration */
    calibrate_pruned *pruned;     /* the same */
    char *metadata;               /* of the new file, where it differs; of cJSON_malloc */
    infer_costs costs;            /* with --sparse or --explain */
} work;

static bool add_quantization(cJSON *root, const arguments *a, const eval_text *text)
{
    cJSON *note = cJSON_AddObjectToObject(root, "quantization");
    uint64_t tokens = 0;
    char hash[20];

    for (size_t i = 0; i < text->window_count; i++)
        tokens += text->windows[i].inputs;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)XXH3_64bits(text->ids, text->id_count * sizeof *text->ids));
    return cJSON_AddStringToObject(note, "method", "gptq") && cJSON_AddNumberToObject(note, "tokens", (double)tokens) &&
           cJSON_AddStringToObject(note, "text", hash) && cJSON_AddNumberToObject(note, "damping", a->damping) &&
           (a->bits <= 0 || cJSON_AddNumberToObject(note, "bits", a->bits));
}

/* A share without the digits that sums of it leave. */
static double short_of(double share) { return rint(share * 1e6) / 1e6; }

static bool add_pruning(cJSON *root, const arguments *a, const infer_source *source, const double *rates)
{
    cJSON *note = cJSON_AddObjectToObject(root, "pruning");
    double all = 0, gone = 0;

    for (size_t i = 0; i < source->tensor_count; i++) {
        double weights = rates[i] > 0 ? (double)source->tensors[i].rows * (double)source->tensors[i].cols : 0;
        all += weights;
        gone += weights * rates[i];
    }
    return cJSON_AddStringToObject(note, "method", infer_prune_method_names[a->method]) &&
           cJSON_AddStringToObject(note, "block", infer_prune_block_names[a->block]) && cJSON_AddBoolToObject(note, "spread", a->spread) &&
           cJSON_AddNumberToObject(note, "rate", all > 0 ? short_of(gone / all) : 0);
}

/* Whether the note of an earlier calibration would be untrue: some matrix gets another type. */
static bool rounds_anew(const infer_source *source, const infer_qtype *types)
{
    for (size_t i = 0; i < source->tensor_count; i++)
        if (source->tensors[i].matrix && types[i] != source->tensors[i].stored)
            return true;
    return false;
}

/* The metadata with notes of how the matrices were pruned and, with `text`, rounded; those that are no longer true go. */
static infer_status note_work(const arguments *a, const infer_source *source, const eval_text *text, work *w, infer_error *err)
{
    bool anew = rounds_anew(source, w->types), done;
    cJSON *root;

    if (!text && !a->prune && !(anew && strstr(source->metadata, "\"quantization\"")))
        return INFER_OK;
    root = cJSON_Parse(source->metadata);
    if (text || anew || a->prune)
        cJSON_DeleteItemFromObjectCaseSensitive(root, "quantization");
    if (text || a->prune)
        cJSON_DeleteItemFromObjectCaseSensitive(root, "pruning");
    done = root && (!text || add_quantization(root, a, text)) && (!a->prune || add_pruning(root, a, source, w->rates));
    w->metadata = done ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return w->metadata ? INFER_OK : infer_fail_memory(err, strlen(source->metadata), "metadata");
}

/* With --bpw, the types of the matrices that no rule names. */
static infer_status mix(const arguments *a, const infer_source *source, infer_model *model, const calibrate_options *options, watcher *bar, work *w,
                        infer_error *err)
{
    calibrate_options o = *options;
    bool *open = infer_alloc_array(NULL, source->tensor_count, sizeof *open);
    infer_status s;

    if (!open)
        return infer_fail_memory(err, source->tensor_count * sizeof *open, "a list of tensors");
    for (size_t i = 0; i < source->tensor_count; i++) {
        open[i] = source->tensors[i].matrix;
        for (size_t r = 0; r < a->rule_count; r++)
            open[i] = open[i] && fnmatch(a->rules[r].glob, source->tensors[i].name, 0) != 0;
    }
    o.rates = NULL;
    o.progress = on_measure;
    s = calibrate_mix(model, source, &o, a->bits, open, w->types, err);
    end_progress(bar);
    infer_free(NULL, open);
    return s;
}

/* With --calibrate, prunes and rounds what can be calibrated of the matrices. */
static infer_status calibrate(const arguments *a, const infer_source *source, watcher *bar, work *w, infer_error *err)
{
    calibrate_options o = {.damping = a->damping, .method = (infer_prune_method)a->method, .block = (infer_prune_block)a->block,
                           .rates = a->prune ? w->rates : NULL, .pruned = w->pruned, .sparse = a->sparse ? &w->costs : NULL,
                           .progress = on_calibrate, .user = bar};
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    eval_text text = {0};
    infer_status s = infer_runtime_create(NULL, &rt, err);

    if (s == INFER_OK && (s = open_floats(a, source, rt, bar, &model, err)) == INFER_OK &&
        (s = calibrate_text(a, model, bar, &text, &o.window, err)) == INFER_OK) {
        o.text = &text;
        if (a->bits > 0)
            s = mix(a, source, model, &o, bar, w, err);
        if (s == INFER_OK && a->spread) {
            o.progress = on_measure;
            s = calibrate_spread(model, source, w->types, &o, w->rates, err);
            end_progress(bar);
            o.progress = on_calibrate;
        }
        if (s == INFER_OK)
            s = calibrate_model(model, source, w->types, &o, w->packed, err);
        end_progress(bar);
        if (s == INFER_OK)
            s = note_work(a, source, &text, w, err);
    }
    eval_text_free(&text);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    return s;
}

static infer_status prepare(const arguments *a, const infer_source *source, const infer_convert_options *options, watcher *bar, work *w,
                            infer_error *err)
{
    infer_status s = infer_convert_types(source, options, w->types, err);
    if (s == INFER_OK)
        s = infer_convert_rates(source, a->prune_rate, a->prune_rules, a->prune_rule_count, options->block, w->rates, err);
    if (s == INFER_OK)
        s = a->calibrate ? calibrate(a, source, bar, w, err) : note_work(a, source, NULL, w, err);
    return s;
}

static bool add_matrix(cJSON *list, const arguments *a, const infer_source_tensor *t, double rate, const calibrate_pruned *pruned)
{
    cJSON *item = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(list, item))
        return false;
    return cJSON_AddStringToObject(item, "tensor", t->name) && cJSON_AddNumberToObject(item, "rate", short_of(rate)) &&
           (!a->calibrate ||
            (cJSON_AddNumberToObject(item, "zeros", pruned->zeros) && cJSON_AddNumberToObject(item, "loss", pruned->loss)));
}

static void print_json(const arguments *a, const infer_source *source, const infer_convert_result *r, const work *w)
{
    cJSON *root = cJSON_CreateObject(), *list;
    bool done = cJSON_AddStringToObject(root, "file", a->out) && cJSON_AddNumberToObject(root, "tensors", (double)r->tensors) &&
                cJSON_AddNumberToObject(root, "weights", (double)r->weights) &&
                cJSON_AddNumberToObject(root, "tensor_bytes", (double)r->tensor_bytes) && (list = cJSON_AddArrayToObject(root, "pruned")) != NULL;
    char *text;

    for (size_t i = 0; i < source->tensor_count && done; i++)
        if (w->rates[i] > 0)
            done = add_matrix(list, a, &source->tensors[i], w->rates[i], &w->pruned[i]);
    text = done ? cJSON_Print(root) : NULL;
    if (!text)
        cli_die("out of memory");
    puts(text);
    if (fflush(stdout) != 0)
        cli_die("standard output: %s", strerror(errno));
    cJSON_free(text);
    cJSON_Delete(root);
}

static void free_work(const infer_source *source, work *w)
{
    for (size_t i = 0; i < source->tensor_count; i++)
        infer_free(NULL, (void *)w->packed[i].data);
    free(w->types);
    free(w->rates);
    free(w->packed);
    free(w->pruned);
    cJSON_free(w->metadata);
}

/* The file at `path` again as the output, with thresholds for events in its metadata. */
static infer_status add_events(const arguments *a, const char *path, watcher *bar, infer_convert_result *result, infer_error *err)
{
    infer_convert_options options = {.type = INFER_QTYPE_NONE, .overwrite = a->force, .progress = on_progress, .user = bar};
    events_options o = {.target = a->events, .trial_tokens = EVENTS_TRIAL_TOKENS, .progress = on_calibrate, .user = bar};
    infer_model_options model_options = INFER_MODEL_DEFAULTS;
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    infer_source source;
    eval_text text = {0};
    infer_events events = {0};
    char *metadata = NULL;
    infer_status s = infer_source_open(NULL, path, NULL, &source, err);

    model_options.verify = INFER_VERIFY_NEVER; /* just written */
    if (s != INFER_OK)
        return s;
    if ((s = infer_runtime_create(NULL, &rt, err)) == INFER_OK && (s = infer_model_open(rt, path, &model_options, &model, err)) == INFER_OK &&
        (s = calibrate_text(a, model, bar, &text, &o.window, err)) == INFER_OK) {
        o.text = &text;
        s = events_calibrate(model, &o, &events, err);
        end_progress(bar);
    }
    if (s == INFER_OK && !(metadata = events_metadata(source.metadata, model, &events)))
        s = infer_fail_memory(err, strlen(source.metadata), "metadata");
    options.metadata = metadata;
    if (s == INFER_OK)
        s = infer_convert(NULL, &source, a->out, &options, result, err);
    cJSON_free(metadata);
    infer_events_free(&events, NULL);
    eval_text_free(&text);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    infer_source_close(&source);
    return s;
}

/* With --events, first into a file beside the output. */
static infer_status write_output(const arguments *a, const infer_source *source, infer_convert_options *options, watcher *bar,
                                 infer_convert_result *result, infer_error *err)
{
    size_t bytes = strlen(a->out) + 40;
    char *path = malloc(bytes);
    infer_status s;

    if (!path)
        return infer_fail_memory(err, bytes, "a path");
    snprintf(path, bytes, "%s.%ld.exact.tmp", a->out, (long)getpid());
    if (a->events > 0)
        options->overwrite = true;
    s = infer_convert(NULL, source, a->events > 0 ? path : a->out, options, result, err);
    end_progress(bar);
    if (s == INFER_OK && a->events > 0) {
        s = add_events(a, path, bar, result, err);
        unlink(path);
    }
    free(path);
    return s;
}

static int convert(const arguments *a)
{
    infer_error err = {0};
    infer_source source;
    infer_convert_result result;
    watcher bar = {.quiet = a->quiet};
    infer_convert_options options = {.type = a->type, .rules = a->rules, .rule_count = a->rule_count, .overwrite = a->force,
                                     .progress = on_progress, .user = &bar, .block = (infer_prune_block)a->block};
    work w = {0};
    char *from = NULL;
    infer_status status;

    if (same_file(a->in, a->out) || (a->tokenizer && same_file(a->tokenizer, a->out)))
        cli_die("%s: input and output are the same file", a->out);
    cli_catch_interrupts();
    if (infer_source_open(NULL, a->in, a->tokenizer, &source, &err) != INFER_OK)
        cli_die("%s", err.message);
    w.types = calloc(source.tensor_count + 1, sizeof *w.types);
    w.rates = calloc(source.tensor_count + 1, sizeof *w.rates);
    w.packed = calloc(source.tensor_count + 1, sizeof *w.packed);
    w.pruned = calloc(source.tensor_count + 1, sizeof *w.pruned);
    if (!w.types || !w.rates || !w.packed || !w.pruned)
        cli_die("out of memory");
    if (a->sparse || a->explain)
        from = costs_load(&w.costs);
    options.sparse = a->sparse ? &w.costs : NULL;
    status = prepare(a, &source, &options, &bar, &w, &err);
    options.types = w.types;
    options.packed = w.packed;
    options.metadata = w.metadata;
    options.rates = w.rates;
    if (a->explain) {
        options.explain = explain;
        bar.from = from;
    }
    if (status == INFER_OK)
        status = write_output(a, &source, &options, &bar, &result, &err);
    cli_progress_end(&bar.bar);
    if (status == INFER_OK && !a->quiet)
        summarize(a, &result);
    if (status == INFER_OK && a->json)
        print_json(a, &source, &result, &w);
    free_work(&source, &w);
    free(from);
    infer_source_close(&source);
    if (status == INFER_ERROR_CANCELLED) {
        cli_note("interrupted, nothing was written");
        return CLI_EXIT_INTERRUPTED;
    }
    if (status != INFER_OK)
        cli_die("%s", err.message);
    return 0;
}

int main(int argc, char **argv)
{
    arguments a = {.type = INFER_QTYPE_NONE, .method = -1, .block = -1};
    int status;

    cli_start("infer-convert");
    a.rules = calloc((size_t)argc, sizeof *a.rules);
    a.prune_rules = calloc((size_t)argc, sizeof *a.prune_rules);
    if (!a.rules || !a.prune_rules)
        cli_die("out of memory");
    parse(argc, argv, &a);
    status = convert(&a);
    free(a.rules);
    free(a.prune_rules);
    return status;
}
