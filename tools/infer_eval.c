/* infer-eval: what a model knows, and what quantization cost it. Arguments and printing only; eval/ does the work. */
#include "kept/cache.h"
#include "cli.h"

#include "eval/results.h"
#include "eval/tasks.h"
#include "eval/teacher.h"
#include "eval/text.h"
#include "file.h"
#include "interrupts.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <infer/infer_experimental.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define LOGITS_AT_ONCE (1u << 23) /* 32 MiB of logits: enough rows for the prompt kernels at every vocabulary */

typedef struct arguments {
    const char *model, *text, *separator, *record, *reference, *task_name, *data, *labels, *state;
    uint32_t window, stride;
    uint64_t limit;
    size_t task;
    infer_runtime_options runtime;
    infer_session_options session;
    double events;
    bool force, json;
} arguments;

static const char usage[] =
    "usage: infer-eval [options] MODEL --text FILE\n"
    "       infer-eval [options] MODEL --task NAME --data FILE\n"
    "Measures the model in a .infer file: perplexity, distance from another model, or answers to questions.\n"
    "\n"
    "      --text FILE          perplexity of a text; - is standard input\n"
    "      --separator LINE     lines that are just LINE divide documents, each evaluated from an empty context\n"
    "      --window N           tokens predicted from one empty context (the context)\n"
    "      --stride N           from one window's start to the next one's (the window: no overlap)\n"
    "      --record FILE        write the distributions to a teacher file\n"
    "      --reference FILE     KL divergence and agreement with the teacher file of another model on the same text\n"
    "  -f, --force              replace an existing teacher file\n"
    "      --task NAME          hellaswag, arc, piqa or lambada\n"
    "      --data FILE          its questions, a JSON object a line\n"
    "      --labels FILE        piqa: the right choices, a number a line\n"
    "      --limit N            the first N windows or questions (all)\n"
    "      --state FILE         keep finished windows or questions there, and go on from there\n"
    "  -t, --threads N          threads (one per core)\n"
    "  -c, --ctx N              context in tokens (the model's, at most 4096)\n"
    "      --batch N            tokens evaluated at once (512)\n"
    "      --cpu LEVEL          ref, avx2, ... (the best there is; also environment INFER_CPU)\n"
    "      --kv auto|f16|f32|q8\n"
    "                           number type of the KV cache (auto: f32 for f32 models, else f16)\n"
    "      --events auto|off|RATE\n"
    "                           with the share RATE of the layers' inputs skipped; auto: the one that the model was converted for (off)\n"
    "      --json               print one JSON object instead of text\n"
    "  -v, --version\n"
    "  -h, --help\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 the command line is wrong, 130 interrupted.\n";

/* ---- arguments ---- */

enum {
    OPT_TEXT = 256, OPT_SEPARATOR, OPT_WINDOW, OPT_STRIDE, OPT_RECORD, OPT_REFERENCE, OPT_TASK, OPT_DATA, OPT_LABELS, OPT_LIMIT, OPT_STATE,
    OPT_BATCH, OPT_CPU, OPT_KV, OPT_JSON, OPT_EVENTS
};

static const struct option long_options[] = {
    {"text", required_argument, NULL, OPT_TEXT}, {"separator", required_argument, NULL, OPT_SEPARATOR}, {"window", required_argument, NULL, OPT_WINDOW},
    {"stride", required_argument, NULL, OPT_STRIDE}, {"record", required_argument, NULL, OPT_RECORD}, {"reference", required_argument, NULL, OPT_REFERENCE},
    {"force", no_argument, NULL, 'f'}, {"task", required_argument, NULL, OPT_TASK}, {"data", required_argument, NULL, OPT_DATA},
    {"labels", required_argument, NULL, OPT_LABELS}, {"limit", required_argument, NULL, OPT_LIMIT}, {"state", required_argument, NULL, OPT_STATE},
    {"threads", required_argument, NULL, 't'}, {"ctx", required_argument, NULL, 'c'}, {"batch", required_argument, NULL, OPT_BATCH},
    {"cpu", required_argument, NULL, OPT_CPU}, {"kv", required_argument, NULL, OPT_KV}, {"json", no_argument, NULL, OPT_JSON}, {"events", required_argument, NULL, OPT_EVENTS},
    {"version", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
};

static uint32_t whole(const char *option, uint64_t low, uint64_t high) { return (uint32_t)cli_whole(option, optarg, low, high); }

static void check_task(arguments *a)
{
    if (!eval_task_find(a->task_name, &a->task)) {
        char known[128] = "";
        for (size_t i = 0; eval_task_name(i); i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", eval_task_name(i));
        cli_usage("--task: found \"%s\", expected one of %s", a->task_name, known);
    }
    if (!a->data)
        cli_usage("--task needs --data FILE");
    if (eval_task_wants_labels(a->task) != (a->labels != NULL))
        cli_usage("--task %s goes %s --labels", a->task_name, a->labels ? "without" : "with");
    if (a->separator || a->window || a->stride || a->record || a->reference)
        cli_usage("--separator, --window, --stride, --record and --reference go with --text");
}

/* Never returns on a wrong command line (status 2), --help or --version. */
static void parse(int argc, char **argv, arguments *a)
{
    int c;
    *a = (arguments){.limit = SIZE_MAX, .runtime = INFER_RUNTIME_DEFAULTS, .session = INFER_SESSION_DEFAULTS};
    while ((c = getopt_long(argc, argv, ":ft:c:vh", long_options, NULL)) != -1)
        switch (c) {
        case OPT_TEXT: a->text = optarg; break;
        case OPT_SEPARATOR: a->separator = optarg; break;
        case OPT_WINDOW: a->window = whole("--window", 1, 1u << 20); break;
        case OPT_STRIDE: a->stride = whole("--stride", 1, 1u << 20); break;
        case OPT_RECORD: a->record = optarg; break;
        case OPT_REFERENCE: a->reference = optarg; break;
        case 'f': a->force = true; break;
        case OPT_TASK: a->task_name = optarg; break;
        case OPT_DATA: a->data = optarg; break;
        case OPT_LABELS: a->labels = optarg; break;
        case OPT_LIMIT: a->limit = cli_whole("--limit", optarg, 1, 1u << 30); break;
        case OPT_STATE: a->state = optarg; break;
        case 't': a->runtime.threads = whole("-t", 1, 256); break;
        case 'c': a->session.context = whole("-c", 1, 1u << 20); break;
        case OPT_BATCH: a->session.batch = whole("--batch", 1, 4096); break;
        case OPT_CPU: a->runtime.cpu_level = optarg; break;
        case OPT_KV: a->session.kv_type = cli_kv_type(optarg); break;
        case OPT_EVENTS: a->events = cli_events(optarg); break;
        case OPT_JSON: a->json = true; break;
        case 'v': printf("infer-eval %s\n", infer_version()); exit(0);
        case 'h': fputs(usage, stdout); exit(0);
        default: cli_bad_option(c, argv);
        }
    if (optind == argc)
        cli_usage("no MODEL given");
    a->model = argv[optind++];
    if (optind < argc)
        cli_usage("unexpected argument \"%s\"", argv[optind]);
    if (!a->text == !a->task_name)
        cli_usage("expected one of --text FILE and --task NAME");
    if (a->task_name)
        check_task(a);
    else if (a->data || a->labels)
        cli_usage("--data and --labels go with --task");
    if (a->separator && (!*a->separator || strpbrk(a->separator, "\r\n")))
        cli_usage("--separator: expected one line that is not empty");
    if (a->record && !a->force && access(a->record, F_OK) == 0) /* before the work, not after it */
        cli_die("%s: exists already; see -f", a->record);
}

/* ---- what both kinds of evaluation need ---- */

typedef struct run {
    const arguments *args;
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
    uint32_t rows;       /* of logits at once */
    uint64_t model_hash; /* of metadata, vocabulary and all tensors */
    uint64_t job;        /* of all that decides the results */
    eval_results results;
} run;

/* Dies unless all went well. */
static void check(infer_status s, const infer_error *err)
{
    if (s != INFER_OK)
        cli_die("%s", err->message);
}

static uint64_t hash_more(uint64_t hash, const void *data, size_t bytes) { return XXH3_64bits_withSeed(data, bytes, hash + 1); }

static uint64_t model_hash(const char *path)
{
    infer_error err;
    infer_file *f;
    size_t bytes;
    uint64_t hash;
    const uint8_t *vocab;
    const infer_tensor_info *t;
    check(infer_file_open(NULL, path, &f, &err), &err);
    hash = hash_more(0, infer_file_metadata(f), strlen(infer_file_metadata(f)));
    vocab = infer_file_vocab(f, &bytes);
    hash = hash_more(hash, vocab, bytes);
    for (size_t i = 0; (t = infer_file_tensor(f, i)); i++) {
        hash = hash_more(hash, t->name, strlen(t->name));
        hash = hash_more(hash, &t->hash, sizeof t->hash);
    }
    infer_file_close(f);
    return hash;
}

static void open_all(run *r)
{
    const arguments *a = r->args;
    infer_session_options session = a->session;
    infer_error err;
    char *path = cache_model(a->model, &(cache_options){0});
    switch (infer_runtime_create(&a->runtime, &r->rt, &err)) {
    case INFER_OK: break;
    case INFER_ERROR_ARGUMENT: cli_usage("%s", err.message); /* an unknown level */
    default: cli_die("%s", err.message);
    }
    check(infer_model_open(r->rt, path, NULL, &r->model, &err), &err);
    r->rows = LOGITS_AT_ONCE / infer_model_vocab_size(r->model);
    r->rows = r->rows < 64 ? 64 : r->rows > 512 ? 512 : r->rows;
    session.logit_rows = r->rows;
    check(infer_session_create(r->model, &session, &r->session, &err), &err);
    check(infer_session_set_events(r->session, a->events, &err), &err);
    r->model_hash = model_hash(path);
    free(path);
    r->job = hash_more(r->model_hash, &a->session.kv_type, sizeof a->session.kv_type);
    if (a->events != 0)
        r->job = hash_more(r->job, &a->events, sizeof a->events);
    cli_cancel_session(r->session);
    cli_catch_interrupts();
}

static void close_all(run *r)
{
    cli_cancel_session(NULL);
    eval_results_free(&r->results);
    infer_session_destroy(r->session);
    infer_model_close(r->model);
    infer_runtime_destroy(r->rt);
}

typedef infer_status unit_fn(const void *user, size_t unit, uint8_t *out, infer_error *err);

/* All units that the state file does not have; stops when interrupted. True: all are there. */
static bool evaluate_units(run *r, const char *label, unit_fn *unit, const void *user)
{
    eval_results *all = &r->results;
    cli_progress progress;
    infer_error err;
    if (r->args->state)
        check(eval_results_attach(all, r->args->state, &err), &err);
    cli_progress_start(&progress, "evaluating", all->units - all->done, label);
    for (size_t first = all->done; all->done < all->units && !cli_interrupted; cli_progress_update(&progress, all->done - first)) {
        infer_status s = unit(user, all->done, all->data + all->starts[all->done], &err);
        if (s == INFER_ERROR_CANCELLED)
            break;
        if (s == INFER_OK)
            s = eval_results_add(all, &err);
        if (s != INFER_OK)
            cli_progress_end(&progress);
        check(s, &err);
    }
    cli_progress_end(&progress);
    return all->done == all->units;
}

/* ---- output ---- */

static void add_number(cJSON *o, const char *name, double value)
{
    cJSON_AddItemToObject(o, name, isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull());
}

/* `NAME` and `NAME_se`. */
static void add_estimate(cJSON *o, const char *name, eval_estimate e)
{
    char se_name[64];
    snprintf(se_name, sizeof se_name, "%s_se", name);
    add_number(o, name, e.mean);
    add_number(o, se_name, e.se);
}

static void print_object(cJSON *o)
{
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    if (!text)
        cli_die("out of memory for the JSON");
    puts(text);
    cJSON_free(text);
}

static void print_estimate(const char *name, eval_estimate e, const char *unit)
{
    printf("%-14s %.6g", name, e.mean);
    if (isfinite(e.se))
        printf(" +- %.2g", e.se);
    printf("%s%s\n", *unit ? " " : "", unit);
}

/* ---- text ---- */

typedef struct text_job {
    eval_text_run run;
    eval_text text;
    eval_teacher teacher;
    eval_setting setting;
    uint64_t *first_token; /* [window]: counted tokens before it */
} text_job;

static infer_status evaluate_window(const void *user, size_t unit, uint8_t *out, infer_error *err)
{
    const text_job *job = user;
    return eval_text_window(&job->run, unit, job->first_token[unit], out, err);
}

static void cut_text(run *r, text_job *job)
{
    const arguments *a = r->args;
    cli_buffer input = {0};
    infer_error err;
    uint32_t context = infer_session_context(r->session), window = a->window ? a->window : context, stride = a->stride ? a->stride : window;
    if (window > context)
        cli_die("--window: found %u, expected at most the context of %u; see --ctx", window, context);
    if (stride > window)
        cli_usage("--stride: found %u, expected at most the window of %u", stride, window);
    cli_read_file(a->text, &input);
    check(eval_text_cut(r->model, input.data, input.size, a->separator, window, stride, &job->text, &err), &err);
    cli_buffer_free(&input);
    eval_text_limit(&job->text, a->limit);
    if (job->text.tokens == 0)
        cli_die("%s: no text with two tokens or more", a->text);
    job->setting = (eval_setting){.vocab = infer_model_vocab_size(r->model), .window = window, .stride = stride, .documents = a->separator != NULL,
                                  .tokens = job->text.tokens, .vocab_hash = eval_vocab_hash(r->model),
                                  .ids_hash = XXH3_64bits(job->text.ids, job->text.id_count * sizeof *job->text.ids)};
    job->first_token = infer_alloc_array(NULL, job->text.window_count, sizeof *job->first_token);
    if (!job->first_token)
        cli_die("out of memory for %zu windows", job->text.window_count);
    for (size_t w = 1; w < job->text.window_count; w++)
        job->first_token[w] = job->first_token[w - 1] + job->text.counted[w - 1];
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void print_text(const run *r, const text_job *job, const eval_text_report *report)
{
    const eval_text *text = &job->text;
    bool compared = job->run.teacher != NULL;
    if (r->args->json) {
        cJSON *o = cJSON_CreateObject();
        eval_estimate none = {NAN, NAN};
        cJSON_AddStringToObject(o, "task", "text");
        cJSON_AddStringToObject(o, "model", r->args->model);
        cJSON_AddStringToObject(o, "text", r->args->text);
        cJSON_AddNumberToObject(o, "bytes", (double)text->bytes);
        cJSON_AddNumberToObject(o, "documents", (double)text->documents);
        cJSON_AddNumberToObject(o, "windows", (double)text->window_count);
        cJSON_AddNumberToObject(o, "window", job->setting.window);
        cJSON_AddNumberToObject(o, "stride", job->setting.stride);
        cJSON_AddNumberToObject(o, "tokens", (double)text->tokens);
        add_estimate(o, "nll", report->nll);
        add_estimate(o, "perplexity", report->perplexity);
        add_estimate(o, "bits_per_byte", report->bits_per_byte);
        add_estimate(o, "kl_mean", compared ? report->kl : none);
        add_number(o, "kl_median", compared ? report->kl_median : NAN);
        add_number(o, "kl_p99", compared ? report->kl_p99 : NAN);
        add_estimate(o, "top1_agreement", compared ? report->top1 : none);
        add_estimate(o, "delta_nll", compared ? report->delta_nll : none);
        print_object(o);
        return;
    }
    printf("%-14s %llu in %zu windows of up to %u, %zu document%s\n", "tokens", (unsigned long long)text->tokens, text->window_count,
           job->setting.window, text->documents, text->documents == 1 ? "" : "s");
    print_estimate("nll", report->nll, "nats per token");
    print_estimate("perplexity", report->perplexity, "");
    print_estimate("bits per byte", report->bits_per_byte, "");
    if (!compared)
        return;
    printf("%-14s ", "compared with");
    cli_put_text(stdout, job->teacher.name, job->teacher.name_bytes);
    printf("\n");
    print_estimate("KL divergence", report->kl, "nats per token");
    printf("%-14s %.6g, 99 %% of tokens below %.6g\n", "  median", report->kl_median, report->kl_p99);
    print_estimate("same top token", report->top1, "");
    print_estimate("delta nll", report->delta_nll, "nats per token");
}

static void measure_text(run *r)
{
    const arguments *a = r->args;
    text_job job = {0};
    infer_error err;
    eval_text_report report;
    size_t token_bytes;
    cut_text(r, &job);
    job.run = (eval_text_run){.session = r->session, .vocab = job.setting.vocab, .rows = r->rows, .text = &job.text, .record = a->record != NULL};
    if (a->reference) {
        check(eval_teacher_open(a->reference, &job.teacher, &err), &err);
        check(eval_teacher_check(&job.teacher, &job.setting, &err), &err);
        job.run.teacher = &job.teacher;
    }
    token_bytes = eval_token_bytes(&job.run);
    r->job = hash_more(r->job, (const uint64_t[]){job.setting.ids_hash, job.setting.window, job.setting.stride, job.setting.documents, job.teacher.hash, token_bytes},
                       6 * sizeof(uint64_t));
    check(eval_results_create(r->job, job.text.window_count, job.text.counted, token_bytes, &r->results, &err), &err);
    if (evaluate_units(r, "windows", evaluate_window, &job)) {
        check(eval_text_summarize(&job.run, r->results.data, &report, &err), &err);
        if (a->record)
            check(eval_teacher_write(a->record, &job.setting, base_name(a->model), r->results.data + sizeof(eval_token), token_bytes, a->force, &err), &err);
        print_text(r, &job, &report);
    }
    eval_teacher_close(&job.teacher);
    eval_text_free(&job.text);
    infer_free(NULL, job.first_token);
}

/* ---- questions ---- */

typedef struct task_job {
    const run *r;
    eval_questions questions;
} task_job;

static infer_status answer_question(const void *user, size_t unit, uint8_t *out, infer_error *err)
{
    const task_job *job = user;
    eval_answer answer;
    infer_status s = eval_ask(job->r->model, job->r->session, job->r->rows, &job->questions.list[unit], &answer, err);
    if (s == INFER_OK)
        memcpy(out, &answer, sizeof answer);
    return s;
}

static void print_answers(const run *r, const eval_task_report *report)
{
    bool choices = eval_task_has_choices(r->args->task);
    if (r->args->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "task", r->args->task_name);
        cJSON_AddStringToObject(o, "model", r->args->model);
        cJSON_AddStringToObject(o, "data", r->args->data);
        cJSON_AddNumberToObject(o, "questions", (double)report->questions);
        cJSON_AddNumberToObject(o, "too_long", (double)report->too_long);
        add_estimate(o, "acc", report->acc);
        if (choices) {
            add_estimate(o, "acc_norm", report->acc_per_byte);
            add_estimate(o, "acc_norm_tokens", report->acc_per_token);
        } else {
            add_estimate(o, "nll", report->nll);
            add_estimate(o, "perplexity", report->perplexity);
        }
        print_object(o);
        return;
    }
    printf("%-14s %zu answered, %zu too long for the context\n", r->args->task_name, report->questions, report->too_long);
    print_estimate("accuracy", report->acc, "");
    if (choices) {
        print_estimate("  per byte", report->acc_per_byte, "");
        print_estimate("  per token", report->acc_per_token, "");
    } else {
        print_estimate("nll", report->nll, "nats per last word");
        print_estimate("perplexity", report->perplexity, "of the last word");
    }
}

static void measure_task(run *r)
{
    const arguments *a = r->args;
    task_job job = {.r = r};
    cli_buffer data = {0}, labels = {0};
    infer_error err;
    uint32_t context = infer_session_context(r->session);
    cli_read_file(a->data, &data);
    if (a->labels)
        cli_read_file(a->labels, &labels);
    check(eval_questions_read(a->task, data.data, data.size, a->data, labels.data, a->labels, a->limit, &job.questions, &err), &err);
    r->job = hash_more(r->job, data.data, data.size);
    if (a->labels)
        r->job = hash_more(r->job, labels.data, labels.size);
    r->job = hash_more(r->job, (const uint64_t[]){a->task, context}, 2 * sizeof(uint64_t));
    cli_buffer_free(&data);
    cli_buffer_free(&labels);
    check(eval_results_create(r->job, job.questions.count, NULL, sizeof(eval_answer), &r->results, &err), &err);
    if (evaluate_units(r, "questions", answer_question, &job)) {
        eval_task_report report = eval_answers_summarize((const eval_answer *)(const void *)r->results.data, job.questions.count);
        print_answers(r, &report);
    }
    eval_questions_free(&job.questions);
}

int main(int argc, char **argv)
{
    arguments a;
    run r = {.args = &a, .results = {.fd = -1}};
    cli_start("infer-eval");
    parse(argc, argv, &a);
    open_all(&r);
    if (a.text)
        measure_text(&r);
    else
        measure_task(&r);
    if (fflush(stdout) != 0 || ferror(stdout))
        cli_die("standard output: %s", strerror(errno));
    close_all(&r);
    return cli_interrupted ? CLI_EXIT_INTERRUPTED : 0;
}
