/* infer-convert: other people's model files -> .infer. Arguments and printing only; the work is in formats/. */
#include "cli.h"

#include "calibrate/calibrate.h"
#include "qtypes.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define EXIT_INTERRUPTED 130
#define CALIBRATE_WINDOW 512u /* tokens at once, or the model's context where that is less */
#define CALIBRATE_TOKENS_DEFAULT 65536u
#define DAMPING_DEFAULT 0.03

typedef struct arguments {
    const char *in, *out, *tokenizer, *calibrate, *separator;
    uint64_t calibrate_tokens;
    double damping;
    infer_convert_rule *rules; /* room for one per argument */
    size_t rule_count;
    infer_qtype type;
    bool force, quiet;
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
           "      --calibrate-tokens N  of the text's first tokens; default 65536\n"
           "      --separator LINE  lines that are just LINE divide the documents of the text\n"
           "      --damping X       added to the diagonal of the inputs' moments, as a share of their mean; default 0.03\n"
           "      --tokenizer FILE  take the vocabulary from this file (tokenizer.json, .model, .bin, .gguf, .infer)\n"
           "  -f, --force           replace the output file if it exists\n"
           "  -q, --quiet           no progress, no summary\n"
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

static void parse(int argc, char **argv, arguments *a)
{
    enum {
        TYPE = 256,
        TOKENIZER,
        CALIBRATE,
        CALIBRATE_TOKENS,
        SEPARATOR,
        DAMPING,
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
        case DAMPING: a->damping = cli_real("--damping", optarg, 1e-6, 10); break;
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
    if (!a->calibrate && (a->calibrate_tokens || a->separator || a->damping != 0))
        cli_usage("--calibrate-tokens, --separator and --damping go with --calibrate");
    if (a->separator && (!*a->separator || strpbrk(a->separator, "\r\n")))
        cli_usage("--separator: expected one line that is not empty");
    a->calibrate_tokens = a->calibrate_tokens ? a->calibrate_tokens : CALIBRATE_TOKENS_DEFAULT;
    a->damping = a->damping != 0 ? a->damping : DAMPING_DEFAULT;
    a->in = argv[optind];
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Ctrl-C ends the conversion at the next panel of rows, so that the temporary file goes; a second one ends the process. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

typedef struct watcher {
    cli_progress bar;
    bool started, quiet;
} watcher;

static int on_progress(void *user, const infer_convert_progress *p)
{
    watcher *w = user;
    if (!w->started && !w->quiet)
        cli_progress_start(&w->bar, "converting", p->total_bytes, NULL);
    w->started = true;
    if (!w->quiet)
        cli_progress_update(&w->bar, p->bytes);
    return interrupted;
}

static void summarize(const arguments *a, const infer_convert_result *r)
{
    char bytes[16], weights[32];
    struct stat st;
    uint64_t size = stat(a->out, &st) == 0 ? (uint64_t)st.st_size : 0;

    cli_note("%s: %s, %zu tensors, %s weights, %.2f bits each", a->out, cli_bytes(size, bytes), r->tensors, cli_count(r->weights, weights),
             (double)r->tensor_bytes * 8 / (double)r->weights);
}

static int on_calibrate(void *user, uint64_t done, uint64_t total)
{
    watcher *w = user;
    if (!w->started && !w->quiet)
        cli_progress_start(&w->bar, "calibrating", total, "tokens");
    w->started = true;
    if (!w->quiet)
        cli_progress_update(&w->bar, done);
    return interrupted;
}

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

static infer_status calibrate_text(const arguments *a, const infer_model *model, eval_text *out, uint32_t *window, infer_error *err)
{
    cli_buffer input = {0};
    uint64_t tokens = 0;
    infer_status s;

    *window = infer_model_context_length(model) < CALIBRATE_WINDOW ? infer_model_context_length(model) : CALIBRATE_WINDOW;
    cli_read_file(a->calibrate, &input);
    s = eval_text_cut(model, input.data, input.size, a->separator, *window, *window, out, err);
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

/* The metadata with a note of how the matrices were rounded; `text` NULL: without one. Freed with cJSON_free; NULL: out of memory. */
static char *note_quantization(const arguments *a, const char *metadata, const eval_text *text)
{
    cJSON *root = cJSON_Parse(metadata), *note;
    char hash[20], *out = NULL;

    if (!root)
        return NULL;
    cJSON_DeleteItemFromObjectCaseSensitive(root, "quantization");
    if (text && (note = cJSON_AddObjectToObject(root, "quantization")) != NULL) {
        uint64_t tokens = 0;
        for (size_t i = 0; i < text->window_count; i++)
            tokens += text->windows[i].inputs;
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)XXH3_64bits(text->ids, text->id_count * sizeof *text->ids));
        if (cJSON_AddStringToObject(note, "method", "gptq") && cJSON_AddNumberToObject(note, "tokens", (double)tokens) &&
            cJSON_AddStringToObject(note, "text", hash) && cJSON_AddNumberToObject(note, "damping", a->damping))
            out = cJSON_PrintUnformatted(root);
    } else if (!text) {
        out = cJSON_PrintUnformatted(root);
    }
    cJSON_Delete(root);
    return out;
}

/* Whether the note of an earlier calibration would be untrue: some matrix gets another type. */
static bool rounds_anew(const infer_source *source, const infer_qtype *types)
{
    for (size_t i = 0; i < source->tensor_count; i++)
        if (source->tensors[i].matrix && types[i] != source->tensors[i].stored)
            return true;
    return false;
}

/* With --calibrate, rounds what can be calibrated of the matrices, into packed [tensors]. *metadata: those of the new file, where they differ. */
static infer_status prepare(const arguments *a, const infer_source *source, const infer_convert_options *options, watcher *w,
                              infer_convert_packed *packed, char **metadata, infer_error *err)
{
    infer_qtype *types = calloc(source->tensor_count + 1, sizeof *types);
    calibrate_options o = {.damping = a->damping, .progress = on_calibrate, .user = w};
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    eval_text text = {0};
    infer_status s = types ? infer_convert_types(source, options, types, err) : infer_fail_memory(err, source->tensor_count * sizeof *types, "types");

    if (s == INFER_OK && !a->calibrate) {
        if (strstr(source->metadata, "\"quantization\"") && rounds_anew(source, types) && !(*metadata = note_quantization(a, source->metadata, NULL)))
            s = infer_fail_memory(err, strlen(source->metadata), "metadata");
    } else if (s == INFER_OK && (s = infer_runtime_create(NULL, &rt, err)) == INFER_OK && (s = open_floats(a, source, rt, w, &model, err)) == INFER_OK &&
        (s = calibrate_text(a, model, &text, &o.window, err)) == INFER_OK) {
        o.text = &text;
        s = calibrate_model(model, source, types, &o, packed, err);
        if (s == INFER_OK && !(*metadata = note_quantization(a, source->metadata, &text)))
            s = infer_fail_memory(err, strlen(source->metadata), "metadata");
        end_progress(w);
    }
    eval_text_free(&text);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    free(types);
    return s;
}

static int convert(const arguments *a)
{
    infer_error err = {0};
    infer_source source;
    infer_convert_result result;
    watcher w = {.quiet = a->quiet};
    infer_convert_packed *packed;
    char *metadata = NULL;
    infer_convert_options options = {a->type, a->rules, a->rule_count, a->force, on_progress, &w, NULL, NULL};
    infer_status status;

    if (same_file(a->in, a->out) || (a->tokenizer && same_file(a->tokenizer, a->out)))
        cli_die("%s: input and output are the same file", a->out);
    if (infer_source_open(NULL, a->in, a->tokenizer, &source, &err) != INFER_OK)
        cli_die("%s", err.message);
    catch_interrupts();
    packed = calloc(source.tensor_count + 1, sizeof *packed);
    if (!packed)
        cli_die("out of memory");
    status = prepare(a, &source, &options, &w, packed, &metadata, &err);
    options.packed = packed;
    options.metadata = metadata;
    if (status == INFER_OK)
        status = infer_convert(NULL, &source, a->out, &options, &result, &err);
    cli_progress_end(&w.bar);
    for (size_t i = 0; i < source.tensor_count; i++)
        infer_free(NULL, (void *)packed[i].data);
    free(packed);
    cJSON_free(metadata);
    infer_source_close(&source);
    if (status == INFER_ERROR_CANCELLED) {
        cli_note("interrupted, nothing was written");
        return EXIT_INTERRUPTED;
    }
    if (status != INFER_OK)
        cli_die("%s", err.message);
    if (!a->quiet)
        summarize(a, &result);
    return 0;
}

int main(int argc, char **argv)
{
    arguments a = {.type = INFER_QTYPE_NONE};
    int status;

    cli_start("infer-convert");
    a.rules = calloc((size_t)argc, sizeof *a.rules);
    if (!a.rules)
        cli_die("out of memory");
    parse(argc, argv, &a);
    status = convert(&a);
    free(a.rules);
    return status;
}
