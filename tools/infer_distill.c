/* infer-distill: a small model learns from a large one. Arguments, progress and files; the work is in distill/. */
#include "cli.h"
#include "convert/convert.h"
#include "distill/trainer.h"
#include "interrupts.h"
#include "joules.h"
#include "kept/cache.h"
#include "svg.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct arguments {
    const char *teacher, *student, *text, *valid, *separator, *out, *checkpoint, *curve, *cpu, *energy;
    uint32_t threads, report, valid_windows;
    double checkpoint_s;
    infer_qtype type;
    distill_recovery recover;
    bool zeros, force, quiet;
    distill_settings set;
    bool rate_given, decay_given;
} arguments;

typedef struct run {
    const arguments *a;
    distill_student student;
    distill_trainer *trainer;
    infer_runtime *rt; /* for reading the texts */
    infer_model *vocabulary;
    eval_text text, valid;
    infer_meter *meter;
    uint64_t window_ns;          /* since when the meter runs */
    double spent_s, spent_uj;    /* before that, and by runs before this one; spent_uj NAN: not known */
    uint32_t first_step;         /* of this run */
    uint64_t started_ns, drawn_ns;
    bool terminal, shown;
} run;

static const char usage[] =
    "usage: infer-distill [options] TEACHER --student SHAPE|FILE --text FILE -o OUT\n"
    "Trains a Llama-shaped student to predict what TEACHER (a model that libinfer runs) predicts, on a text and on what the teacher writes itself.\n"
    "\n"
    "      --student SHAPE      dim=128,layers=4[,heads=][,kv_heads=][,ffn=][,context=]: from random weights, with the teacher's vocabulary\n"
    "      --student FILE       or go on from a model's weights\n"
    "      --recover codes|scales\n"
    "                           FILE has integer weights that stay on their grid, and pruned ones that stay away: train norms and codes, or\n"
    "                           norms and scales only\n"
    "      --zeros              with --recover: every weight that is 0 counts as pruned (where 16 rows have it at one input)\n"
    "      --text FILE          the text\n"
    "      --valid FILE         a text to measure on\n"
    "      --valid-windows N    of which only the first N windows (40)\n"
    "      --separator LINE     the line between documents of both texts (<|endoftext|>)\n"
    "  -o, --output FILE        the trained student\n"
    "      --type TYPE          number type of its matrices (f32; with --recover as they were)\n"
    "  -f, --force              replace FILE\n"
    "      --steps N            (1000)\n"
    "      --batch N            windows a step (8)\n"
    "      --window N           tokens predicted in a window (256, at most the student's context)\n"
    "      --rate R             learning rate (0.003; with --recover 0.0005), reached after --warmup N steps (100), then falling along a cosine\n"
    "      --rate-end SHARE     to this share of it (0.05)\n"
    "      --decay D            weight decay of matrices (0.1)\n"
    "      --clip NORM          longest gradient (1); 0: any\n"
    "      --temperature T      of both distributions compared (1)\n"
    "      --kl-share S         of the divergence in the loss; the rest is cross-entropy (0.9)\n"
    "      --layer-loss W       weight of what layers put out, student's beside teacher's (0: they do not count); needs a teacher as wide as the student\n"
    "      --generated S        share of windows that the teacher wrote (0.7)\n"
    "      --fresh N            windows it writes a step (1), of which the last --kept N (16384) are drawn from\n"
    "      --sampling T         temperature at which it writes (1)\n"
    "      --seed S             same seed, same student (0)\n"
    "      --checkpoint FILE    kept up to date while training; where it exists, training goes on from it, with the same result\n"
    "      --checkpoint-every S seconds (60)\n"
    "      --report N           steps between validations (200)\n"
    "      --curve FILE         draw the loss over the steps, SVG\n"
    "  -t, --threads N          at most 4 (one per core); the result does not depend on it\n"
    "      --cpu LEVEL          ref, avx2, ... (the best there is)\n"
    "      --energy SOURCE      as in infer-run (auto)\n"
    "  -q, --quiet\n"
    "  -v, --version\n"
    "  -h, --help\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 the command line is wrong, 130 interrupted.\n";

/* ---- arguments ---- */

enum {
    OPT_STUDENT = 256, OPT_RECOVER, OPT_ZEROS, OPT_TEXT, OPT_VALID, OPT_VALID_WINDOWS, OPT_SEPARATOR, OPT_TYPE, OPT_STEPS, OPT_BATCH, OPT_WINDOW, OPT_RATE,
    OPT_WARMUP, OPT_RATE_END, OPT_DECAY, OPT_CLIP, OPT_TEMPERATURE, OPT_KL_SHARE, OPT_LAYER_LOSS, OPT_GENERATED, OPT_FRESH, OPT_KEPT, OPT_SAMPLING,
    OPT_SEED, OPT_CHECKPOINT, OPT_CHECKPOINT_EVERY, OPT_REPORT, OPT_CURVE, OPT_CPU, OPT_ENERGY
};

static const struct option long_options[] = {
    {"student", required_argument, NULL, OPT_STUDENT}, {"recover", required_argument, NULL, OPT_RECOVER}, {"zeros", no_argument, NULL, OPT_ZEROS},
    {"text", required_argument, NULL, OPT_TEXT}, {"valid", required_argument, NULL, OPT_VALID}, {"valid-windows", required_argument, NULL, OPT_VALID_WINDOWS},
    {"separator", required_argument, NULL, OPT_SEPARATOR}, {"output", required_argument, NULL, 'o'}, {"type", required_argument, NULL, OPT_TYPE},
    {"force", no_argument, NULL, 'f'}, {"steps", required_argument, NULL, OPT_STEPS}, {"batch", required_argument, NULL, OPT_BATCH},
    {"window", required_argument, NULL, OPT_WINDOW}, {"rate", required_argument, NULL, OPT_RATE}, {"warmup", required_argument, NULL, OPT_WARMUP},
    {"rate-end", required_argument, NULL, OPT_RATE_END}, {"decay", required_argument, NULL, OPT_DECAY}, {"clip", required_argument, NULL, OPT_CLIP},
    {"temperature", required_argument, NULL, OPT_TEMPERATURE}, {"kl-share", required_argument, NULL, OPT_KL_SHARE},
    {"layer-loss", required_argument, NULL, OPT_LAYER_LOSS}, {"generated", required_argument, NULL, OPT_GENERATED},
    {"fresh", required_argument, NULL, OPT_FRESH}, {"kept", required_argument, NULL, OPT_KEPT},
    {"sampling", required_argument, NULL, OPT_SAMPLING}, {"seed", required_argument, NULL, OPT_SEED}, {"checkpoint", required_argument, NULL, OPT_CHECKPOINT},
    {"checkpoint-every", required_argument, NULL, OPT_CHECKPOINT_EVERY}, {"report", required_argument, NULL, OPT_REPORT},
    {"curve", required_argument, NULL, OPT_CURVE}, {"threads", required_argument, NULL, 't'}, {"cpu", required_argument, NULL, OPT_CPU},
    {"energy", required_argument, NULL, OPT_ENERGY}, {"quiet", no_argument, NULL, 'q'}, {"version", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static uint32_t whole(const char *option, uint64_t low, uint64_t high) { return (uint32_t)cli_whole(option, optarg, low, high); }
static float real(const char *option, double low, double high) { return (float)cli_real(option, optarg, low, high); }

static distill_recovery recovery(const char *name)
{
    if (strcmp(name, "codes") == 0)
        return DISTILL_RECOVER_CODES;
    if (strcmp(name, "scales") == 0)
        return DISTILL_RECOVER_SCALES;
    cli_usage("--recover: found \"%s\", expected codes or scales", name);
}

static infer_qtype type_named(const char *name)
{
    const infer_qtype_info *info = infer_qtype_find_name(name);
    if (!info)
        cli_usage("--type: no number type \"%s\"", name);
    return info->type;
}

static void parse(int argc, char **argv, arguments *a)
{
    int c;
    *a = (arguments){.separator = "<|endoftext|>", .report = 200, .valid_windows = 40, .checkpoint_s = 60, .type = INFER_QTYPE_NONE};
    a->set = (distill_settings){.steps = 1000, .warmup = 100, .batch = 8, .window = 256, .rate = 0.003f, .rate_end = 0.05f, .beta1 = 0.9f, .beta2 = 0.95f,
                                .decay = 0.1f, .clip = 1, .temperature = 1, .kl_share = 0.9f, .generated = 0.7f, .fresh = 1, .kept = 16384, .sampling = 1};
    while ((c = getopt_long(argc, argv, ":o:ft:qvh", long_options, NULL)) != -1)
        switch (c) {
        case OPT_STUDENT: a->student = optarg; break;
        case OPT_RECOVER: a->recover = recovery(optarg); break;
        case OPT_ZEROS: a->zeros = true; break;
        case OPT_TEXT: a->text = optarg; break;
        case OPT_VALID: a->valid = optarg; break;
        case OPT_VALID_WINDOWS: a->valid_windows = whole("--valid-windows", 1, 1u << 20); break;
        case OPT_SEPARATOR: a->separator = optarg; break;
        case 'o': a->out = optarg; break;
        case OPT_TYPE: a->type = type_named(optarg); break;
        case 'f': a->force = true; break;
        case OPT_STEPS: a->set.steps = whole("--steps", 1, 1u << 30); break;
        case OPT_BATCH: a->set.batch = whole("--batch", 1, 4096); break;
        case OPT_WINDOW: a->set.window = whole("--window", 2, 4095); break;
        case OPT_RATE: a->set.rate = real("--rate", 1e-9, 10); a->rate_given = true; break;
        case OPT_WARMUP: a->set.warmup = whole("--warmup", 0, 1u << 30); break;
        case OPT_RATE_END: a->set.rate_end = real("--rate-end", 0, 1); break;
        case OPT_DECAY: a->set.decay = real("--decay", 0, 10); break;
        case OPT_CLIP: a->set.clip = real("--clip", 0, 1e9); break;
        case OPT_TEMPERATURE: a->set.temperature = real("--temperature", 0.05, 100); break;
        case OPT_KL_SHARE: a->set.kl_share = real("--kl-share", 0, 1); break;
        case OPT_LAYER_LOSS: a->set.layer_loss = real("--layer-loss", 0, 1000); break;
        case OPT_GENERATED: a->set.generated = real("--generated", 0, 1); break;
        case OPT_FRESH: a->set.fresh = whole("--fresh", 1, 4096); break;
        case OPT_KEPT: a->set.kept = whole("--kept", 1, 1u << 20); break;
        case OPT_SAMPLING: a->set.sampling = real("--sampling", 0.01, 100); break;
        case OPT_SEED: a->set.seed = cli_whole("--seed", optarg, 0, UINT64_MAX); break;
        case OPT_CHECKPOINT: a->checkpoint = optarg; break;
        case OPT_CHECKPOINT_EVERY: a->checkpoint_s = cli_real("--checkpoint-every", optarg, 0, 1e6); break;
        case OPT_REPORT: a->report = whole("--report", 1, 1u << 30); break;
        case OPT_CURVE: a->curve = optarg; break;
        case 't': a->threads = whole("-t", 1, 256); break;
        case OPT_CPU: a->cpu = optarg; break;
        case OPT_ENERGY: a->energy = optarg; break;
        case 'q': a->quiet = true; break;
        case 'v': printf("infer-distill %s\n", infer_version()); exit(0);
        case 'h': fputs(usage, stdout); exit(0);
        default: cli_bad_option(c, argv);
        }
    if (optind == argc)
        cli_usage("no TEACHER given");
    a->teacher = argv[optind++];
    if (optind < argc)
        cli_usage("unexpected argument \"%s\"", argv[optind]);
    if (!a->student || !a->text || !a->out)
        cli_usage("%s is needed", !a->student ? "--student" : !a->text ? "--text" : "-o");
    if (a->recover != DISTILL_RECOVER_NONE && strchr(a->student, '=') && access(a->student, F_OK) != 0)
        cli_usage("--recover needs a model's file, not a shape");
    if (a->recover == DISTILL_RECOVER_NONE && a->zeros)
        cli_usage("--zeros needs --recover");
    if (a->set.fresh > a->set.kept)
        cli_usage("--fresh is more than --kept");
    if (a->recover != DISTILL_RECOVER_NONE && !a->rate_given)
        a->set.rate = 0.0005f;
    if (a->type == INFER_QTYPE_NONE && a->recover == DISTILL_RECOVER_NONE)
        a->type = INFER_QTYPE_F32;
    if (!a->force && access(a->out, F_OK) == 0)
        cli_usage("%s exists: -f replaces it", a->out);
}

/* ---- reading ---- */

static void check(infer_status status, const infer_error *err)
{
    if (status != INFER_OK)
        cli_die("%s", err->message);
}

/* Documents in windows of at most `window` tokens; without a limit, a window each. */
static void read_text(const run *r, const char *path, uint32_t window, eval_text *out)
{
    infer_error err;
    cli_buffer text = {0};
    cli_read_file(path, &text);
    check(eval_text_cut(r->vocabulary, text.data, text.size, r->a->separator, window, window, out, &err), &err);
    if (!out->window_count)
        cli_die("%s: no text in it", path);
    cli_buffer_free(&text);
}

/* ---- progress ---- */

static void draw_progress(run *r)
{
    uint64_t now = infer_now_ns();
    double seconds = (double)(now - r->started_ns) / 1e9;
    uint32_t done = distill_trainer_steps(r->trainer), total = r->a->set.steps;
    double each = done > r->first_step ? seconds / (done - r->first_step) : 0;
    char bar[25];

    if (!r->terminal || r->a->quiet || now - r->drawn_ns < 200000000)
        return;
    r->drawn_ns = now;
    r->shown = true;
    for (uint32_t i = 0; i < 24; i++)
        bar[i] = i * (uint64_t)total < 24 * (uint64_t)done ? '#' : '.';
    bar[24] = 0;
    fprintf(stderr, "\r[%s] step %u/%u  loss %.4f  %.0f tokens/s  %.0f s left  %.3g J \033[K", bar, done, total, (double)distill_trainer_loss(r->trainer),
            each > 0 ? r->a->set.batch * (double)r->a->set.window / each : 0, each * (total - done), r->spent_uj * 1e-6);
    fflush(stderr);
}

static void clear_progress(run *r)
{
    if (r->shown)
        fputs("\r\033[K", stderr);
    r->shown = false;
}

/* Adds what the meter saw to what was spent, and goes on. */
static void read_meter(run *r, bool go_on)
{
    uint64_t now = infer_now_ns();
    infer_energy e;
    infer_error err;
    r->spent_s += (double)(now - r->window_ns) / 1e9;
    r->window_ns = now;
    if (infer_meter_kind(r->meter) == INFER_ENERGY_NONE || infer_meter_stop(r->meter, &e, &err) != INFER_OK)
        r->spent_uj = NAN;
    else
        r->spent_uj += e.gross_uj;
    if (go_on && infer_meter_kind(r->meter) != INFER_ENERGY_NONE)
        check(infer_meter_start(r->meter, &err), &err);
}

static void save_checkpoint(run *r)
{
    infer_error err;
    if (r->a->checkpoint)
        check(distill_checkpoint_save(r->trainer, r->a->checkpoint, r->spent_s, r->spent_uj, &err), &err);
}

static void report(run *r)
{
    infer_error err;
    size_t n;
    const distill_record *record;
    double seconds = (double)(infer_now_ns() - r->started_ns) / 1e9;
    uint32_t done = distill_trainer_steps(r->trainer);

    check(distill_trainer_record(r->trainer, &err), &err);
    record = distill_trainer_records(r->trainer, &n) + n - 1;
    clear_progress(r);
    if (r->a->quiet)
        return;
    fprintf(stderr, "step %u of %u: loss %.4f (KL %.4f, cross-entropy %.4f", done, r->a->set.steps, (double)record->loss, (double)record->kl, (double)record->ce);
    if (r->a->set.layer_loss > 0)
        fprintf(stderr, ", layers %.4f", (double)record->layers);
    fputc(')', stderr);
    if (r->a->valid)
        fprintf(stderr, "; validation KL %.4f, NLL %.4f", (double)record->valid_kl, (double)record->valid_ce);
    fprintf(stderr, "; gradient %.3g; %.0f tokens/s; %.0f s left", (double)distill_trainer_norm(r->trainer),
            (done - r->first_step) * (double)r->a->set.batch * r->a->set.window / seconds, seconds / (done - r->first_step) * (r->a->set.steps - done));
    if (isfinite(r->spent_uj))
        fprintf(stderr, "; %.4g J %s", r->spent_uj * 1e-6, joules_kind(infer_meter_kind(r->meter)));
    fputc('\n', stderr);
}

static void draw_curve(const run *r)
{
    size_t n;
    const distill_record *records = distill_trainer_records(r->trainer, &n);
    infer_svg_point *points = n && r->a->curve ? infer_alloc_array(NULL, n, sizeof *points) : NULL;
    FILE *f;

    if (!points)
        return;
    for (size_t i = 0; i < n; i++) {
        points[i].x = records[i].step;
        points[i].value = r->a->valid ? (double)records[i].valid_ce : (double)records[i].loss;
    }
    f = fopen(r->a->curve, "wbe");
    if (!f)
        cli_die("%s: %s", r->a->curve, strerror(errno));
    infer_svg_curve(f, r->a->valid ? "Negative log-likelihood on the validation text" : "Loss", "steps", "nats a token", points, n);
    if (fclose(f) != 0)
        cli_die("%s: %s", r->a->curve, strerror(errno));
    infer_free(NULL, points);
}

/* ---- training ---- */

static void open_all(run *r, const char *teacher)
{
    const arguments *a = r->a;
    infer_runtime_options options = INFER_RUNTIME_DEFAULTS;
    distill_inputs in;
    infer_error err;

    options.threads = 1;
    options.cpu_level = a->cpu;
    check(infer_runtime_create(&options, &r->rt, &err), &err);
    check(infer_model_open(r->rt, teacher, NULL, &r->vocabulary, &err), &err);
    if (strchr(a->student, '=') && access(a->student, F_OK) != 0) {
        infer_status status = distill_student_create(a->student, r->vocabulary, a->set.seed, &r->student, &err);
        if (status == INFER_ERROR_ARGUMENT)
            cli_usage("%s", err.message);
        check(status, &err);
    } else {
        check(distill_student_open(a->student, a->recover, !a->zeros, &r->student, &err), &err);
    }
    if (a->set.window > r->student.config.context)
        cli_usage("--window: found %u, expected at most %u, the student's context", a->set.window, r->student.config.context);
    read_text(r, a->text, 1u << 30, &r->text);
    if (a->valid) {
        read_text(r, a->valid, a->set.window, &r->valid);
        eval_text_limit(&r->valid, a->valid_windows);
    }
    in = (distill_inputs){&r->student, teacher, a->cpu, a->threads, &r->text, a->valid ? &r->valid : NULL};
    check(distill_trainer_create(&in, &a->set, &r->trainer, &err), &err);
    r->meter = joules_meter(distill_trainer_runtime(r->trainer), a->energy);
    if (a->checkpoint && access(a->checkpoint, F_OK) == 0)
        check(distill_checkpoint_load(r->trainer, a->checkpoint, &r->spent_s, &r->spent_uj, &err), &err);
}

static void train(run *r)
{
    const arguments *a = r->a;
    uint64_t saved_ns;
    infer_error err;

    r->first_step = distill_trainer_steps(r->trainer);
    r->started_ns = r->window_ns = saved_ns = infer_now_ns();
    if (infer_meter_kind(r->meter) != INFER_ENERGY_NONE)
        check(infer_meter_start(r->meter, &err), &err);
    while (distill_trainer_steps(r->trainer) < a->set.steps && !cli_interrupted) {
        check(distill_trainer_step(r->trainer, &err), &err);
        draw_progress(r);
        if (distill_trainer_steps(r->trainer) % a->report == 0 || distill_trainer_steps(r->trainer) == a->set.steps) {
            read_meter(r, true);
            report(r);
        }
        if ((double)(infer_now_ns() - saved_ns) / 1e9 >= a->checkpoint_s) {
            read_meter(r, true);
            save_checkpoint(r);
            saved_ns = infer_now_ns();
        }
    }
    read_meter(r, false);
    clear_progress(r);
    save_checkpoint(r);
}

static void write_student(const run *r)
{
    infer_convert_options options = {.type = r->a->type, .overwrite = r->a->force};
    infer_source source;
    infer_error err;
    distill_student_source(&r->student, &source);
    check(infer_convert(NULL, &source, r->a->out, &options, NULL, &err), &err);
}

static void print_summary(const run *r)
{
    const arguments *a = r->a;
    char numbers[32];
    if (a->quiet)
        return;
    fprintf(stderr, "%s: %s weights, %u steps, ", a->out, cli_count(r->student.weights, numbers), distill_trainer_steps(r->trainer));
    fprintf(stderr, "%s tokens, %.0f s", cli_count(distill_trainer_tokens(r->trainer), numbers), r->spent_s);
    if (isfinite(r->spent_uj))
        fprintf(stderr, ", %.4g J %s%s", r->spent_uj * 1e-6, joules_kind(infer_meter_kind(r->meter)),
                infer_meter_kind(r->meter) == INFER_ENERGY_ESTIMATED ? " (off by a factor of about 2)" : "");
    fprintf(stderr, "; the teacher wrote %" PRIu64 " windows\n", distill_trainer_written(r->trainer));
}

int main(int argc, char **argv)
{
    arguments a;
    run r = {.a = &a, .terminal = isatty(STDERR_FILENO)};
    char *teacher;

    cli_start("infer-distill");
    parse(argc, argv, &a);
    teacher = cache_model(a.teacher, &(cache_options){.quiet = a.quiet});
    open_all(&r, teacher);
    cli_catch_interrupts();
    train(&r);
    draw_curve(&r);
    if (!cli_interrupted) {
        write_student(&r);
        print_summary(&r);
    }
    infer_meter_destroy(r.meter);
    distill_trainer_destroy(r.trainer);
    distill_student_free(&r.student);
    eval_text_free(&r.text);
    eval_text_free(&r.valid);
    infer_model_close(r.vocabulary);
    infer_runtime_destroy(r.rt);
    free(teacher);
    return cli_interrupted ? CLI_EXIT_INTERRUPTED : 0;
}
