/* Training: gradients against finite differences, operation by operation and of the whole model; the same bits for any number of threads and across
 * interruptions; recovery keeps grid and pruning. */
#include "check.h"

#include "distill/attention.h"
#include "distill/products.h"
#include "distill/random.h"
#include "distill/trainer.h"

#include "convert/convert.h"
#include "import/arch.h"
#include "vocab.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- finite differences ---- */

typedef double function(void *arg);

static void fill(float *x, size_t n, uint64_t stream)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)distill_normal(stream, i);
}

static double weighted(const float *y, const float *w, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)y[i] * (double)w[i];
    return sum;
}

/* dx [n] is the gradient of f by x, to within a fiftieth of its largest number, or a thousandth where f's own rounding shows. */
static void check_gradient(const char *what, function *f, void *arg, float *x, const float *dx, size_t n)
{
    const float step = 0x1p-7f;
    double largest = 0, worst = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)dx[i]));
    for (size_t i = 0; i < n; i++) {
        float kept = x[i];
        double up, down;
        x[i] = kept + step;
        up = f(arg);
        x[i] = kept - step;
        down = f(arg);
        x[i] = kept;
        worst = fmax(worst, fabs((up - down) / (2.0 * (double)step) - (double)dx[i]));
    }
    cr_expect_gt(largest, 0, "%s: no gradient at all", what);
    cr_expect_leq(worst, largest / 50 + 1e-3, "%s: off by %g, the largest is %g", what, worst, largest);
}

/* ---- operations ---- */

enum { M = 5, N = 37 };

typedef struct operands {
    float x[M * N], weight[N], up[M * N], r[M * N]; /* r: what the outputs count */
} operands;

static double rmsnorm_of(void *arg)
{
    operands *o = arg;
    float y[M * N], rstd[M];
    distill_rmsnorm(o->x, o->weight, M, N, 1e-5f, y, rstd);
    return weighted(y, o->r, M * N);
}

Test(distill_gradients, rmsnorm)
{
    operands o;
    float y[M * N], rstd[M], dx[M * N], dweight[N] = {0};
    fill((float *)&o, sizeof o / sizeof(float), 1);
    distill_rmsnorm(o.x, o.weight, M, N, 1e-5f, y, rstd);
    distill_rmsnorm_back(o.x, o.weight, rstd, o.r, M, N, dx, dweight);
    check_gradient("x", rmsnorm_of, &o, o.x, dx, M * N);
    check_gradient("weight", rmsnorm_of, &o, o.weight, dweight, N);
}

static double silu_of(void *arg)
{
    operands *o = arg;
    float y[M * N];
    distill_silu_mul(o->x, o->up, M * N, y);
    return weighted(y, o->r, M * N);
}

Test(distill_gradients, silu_mul)
{
    operands o;
    float dgate[M * N], dup[M * N];
    fill((float *)&o, sizeof o / sizeof(float), 2);
    distill_silu_mul_back(o.x, o.up, o.r, M * N, dgate, dup);
    check_gradient("gate", silu_of, &o, o.x, dgate, M * N);
    check_gradient("up", silu_of, &o, o.up, dup, M * N);
}

typedef struct rope_operands {
    float x[3 * 16], r[3 * 16], cos[3 * 3], sin[3 * 3];
    int halves;
} rope_operands;

static double rope_of(void *arg)
{
    rope_operands *o = arg;
    float y[3 * 16];
    memcpy(y, o->x, sizeof y);
    distill_rope(y, 3, 2, 8, 6, o->halves, o->cos, o->sin, 1);
    return weighted(y, o->r, 3 * 16);
}

Test(distill_gradients, rope)
{
    rope_operands o;
    for (o.halves = 0; o.halves < 2; o.halves++) {
        fill(o.x, 3 * 16, 3);
        fill(o.r, 3 * 16, 4);
        for (int i = 0; i < 9; i++) {
            o.cos[i] = cosf((float)i);
            o.sin[i] = sinf((float)i);
        }
        float dx[3 * 16];
        memcpy(dx, o.r, sizeof dx);
        distill_rope(dx, 3, 2, 8, 6, o.halves, o.cos, o.sin, -1);
        check_gradient(o.halves ? "halves" : "adjacent", rope_of, &o, o.x, dx, 3 * 16);
    }
}

typedef struct loss_operands {
    float z[N], t[N], temperature, share;
} loss_operands;

static double loss_of(void *arg)
{
    loss_operands *o = arg;
    float z[N], scratch[2 * N];
    memcpy(z, o->z, sizeof z);
    distill_loss l = distill_loss_row(z, o->t, N, 5, o->temperature, o->share, 1, scratch);
    return (double)o->share * (double)o->temperature * (double)o->temperature * (double)l.kl + (1 - (double)o->share) * (double)l.ce;
}

Test(distill_gradients, loss)
{
    const float cases[][2] = {{1, 1}, {1, 0.3f}, {2, 0.7f}, {0.5f, 0}};
    loss_operands o;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float dz[N], scratch[2 * N];
        double kl = 0, p_sum = 0, q_sum = 0;
        fill(o.z, N, 5 + i);
        fill(o.t, N, 6 + i);
        o.temperature = cases[i][0];
        o.share = cases[i][1];
        memcpy(dz, o.z, sizeof dz);
        distill_loss l = distill_loss_row(dz, o.t, N, 5, o.temperature, o.share, 1, scratch);
        check_gradient("logits", loss_of, &o, o.z, dz, N);
        for (int k = 0; k < N; k++) {
            p_sum += exp((double)o.t[k] / (double)o.temperature);
            q_sum += exp((double)o.z[k] / (double)o.temperature);
        }
        for (int k = 0; k < N; k++) {
            double p = exp((double)o.t[k] / (double)o.temperature) / p_sum, q = exp((double)o.z[k] / (double)o.temperature) / q_sum;
            kl += p * log(p / q);
        }
        cr_expect_float_eq(l.kl, kl, 1e-5, "divergence: found %g, expected %g", (double)l.kl, kl);
    }
}

enum { TOKENS = 70, HEADS = 4, KV_HEADS = 2, HEAD = 6 }; /* more than a block of queries */

typedef struct attention_operands {
    float q[TOKENS * HEADS * HEAD], k[TOKENS * KV_HEADS * HEAD], v[TOKENS * KV_HEADS * HEAD], r[TOKENS * HEADS * HEAD];
    distill_attention_shape shape;
    infer_kernel_fn *matmul;
    float *scratch, y[TOKENS * HEADS * HEAD], lse[HEADS * TOKENS];
} attention_operands;

static double attention_of(void *arg)
{
    attention_operands *o = arg;
    distill_attention(o->matmul, &o->shape, o->q, o->k, o->v, TOKENS, o->y, o->lse, o->scratch);
    return weighted(o->y, o->r, TOKENS * HEADS * HEAD);
}

static infer_kernel_fn *reference_matmul(void)
{
    return infer_kernel_find(INFER_OP_MATMUL, INFER_QTYPE_F32, INFER_LAYOUT_TILE16X4, INFER_CPU_REF)->fn;
}

Test(distill_gradients, attention, .timeout = 120)
{
    static attention_operands o;
    static float dq[TOKENS * HEADS * HEAD], dk[TOKENS * KV_HEADS * HEAD], dv[TOKENS * KV_HEADS * HEAD];
    fill(o.q, TOKENS * HEADS * HEAD, 7);
    fill(o.k, TOKENS * KV_HEADS * HEAD, 8);
    fill(o.v, TOKENS * KV_HEADS * HEAD, 9);
    fill(o.r, TOKENS * HEADS * HEAD, 10);
    o.shape = (distill_attention_shape){HEADS, KV_HEADS, HEAD, 0.4f};
    o.matmul = reference_matmul();
    o.scratch = infer_alloc_array(NULL, distill_attention_scratch(&o.shape, TOKENS), sizeof(float));
    attention_of(&o);
    distill_attention_back(o.matmul, &o.shape, o.q, o.k, o.v, o.y, o.lse, o.r, TOKENS, dq, dk, dv, o.scratch);
    check_gradient("q", attention_of, &o, o.q, dq, TOKENS * HEADS * HEAD);
    check_gradient("k", attention_of, &o, o.k, dk, TOKENS * KV_HEADS * HEAD);
    check_gradient("v", attention_of, &o, o.v, dv, TOKENS * KV_HEADS * HEAD);
    infer_free(NULL, o.scratch);
}

/* Both ways of packing, whole and by parts of the inputs, against sums in double. */
Test(distill_products, against_sums)
{
    enum { ROWS = 37, K = 22, X = 7 };
    float w[ROWS * K], turned[K * ROWS], x[X * K], y[X * ROWS], *packed = infer_alloc_array(NULL, distill_packed_size(ROWS, K), sizeof(float));
    fill(w, ROWS * K, 11);
    fill(x, X * K, 12);
    distill_transpose(w, K, ROWS, K, turned, ROWS);
    for (int columns = 0; columns < 2; columns++)
        for (uint32_t k0 = 0; k0 < K; k0 += 8) {
            uint32_t k = k0 == 8 ? 5 : K - k0;
            if (columns)
                distill_pack_columns(turned, ROWS, ROWS, K, packed);
            else
                distill_pack(w, K, ROWS, K, packed);
            distill_multiply(reference_matmul(), x + k0, K, X, (distill_packed){packed, ROWS, K}, k0, k, ROWS, y, ROWS);
            for (int t = 0; t < X; t++)
                for (int r = 0; r < ROWS; r++) {
                    double sum = 0;
                    for (uint32_t i = k0; i < k0 + k; i++)
                        sum += (double)x[(uint32_t)t * K + i] * (double)w[(uint32_t)r * K + i];
                    cr_assert_float_eq(y[t * ROWS + r], sum, 1e-5, "token %d, row %d, inputs from %u", t, r, k0);
                }
        }
    infer_free(NULL, packed);
}

/* ---- a random model in a file ---- */

static char folder[] = "/tmp/test_distill_XXXXXX";
static const char *path_of(const char *name)
{
    static char paths[8][128];
    static int next;
    char *p = paths[next++ % 8];
    snprintf(p, 128, "%s/%s", folder, name);
    return p;
}

static void make_folder(void) { cr_assert_not_null(mkdtemp(folder)); }
static void remove_folder(void)
{
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

static uint64_t random_seed; /* of the model that is being written */

static infer_status random_rows(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const infer_source_tensor *t = &s->tensors[index];
    (void)err;
    for (uint64_t i = 0; i < n * t->cols; i++) {
        float z = (float)distill_normal(random_seed + index, row * t->cols + i);
        bool pruned = s->state && distill_uniform(99 + index, (row + i / t->cols) / 16 * t->cols + i % t->cols) < 0.5; /* 16x1 blocks */
        out[i] = !t->matrix ? 1 + 0.1f * z : pruned ? 0 : strcmp(t->name, "tok_embed") == 0 ? z : z * 2 / sqrtf((float)t->cols);
    }
    return INFER_OK;
}

enum { VOCAB = 40, CONTEXT = 48 };

/* Writes a model of `architecture` ("llama", or "bitnet": with norms before o and down), its matrices in `type`. */
static const char *write_layers(const char *name, const char *architecture, infer_qtype type, bool pruned, uint32_t layers)
{
    static const infer_importer importer = {.name = "random", .read_f32 = random_rows};
    infer_arch m = {.format = "test", .path = "test", .name = "t", .name_bytes = 1, .architecture = architecture, .gated = true, .dim = 32, .layers = layers,
                    .heads = 4, .kv_heads = 2, .head_dim = 8, .ffn_dim = 48, .vocab = VOCAB, .context = CONTEXT, .norm_eps = 1e-5, .tied_head = true,
                    .sub_norms = strcmp(architecture, "bitnet") == 0, .rope = {.dim = 8, .theta = 10000, .halves = true}, .bos = 1, .eos = {2}, .eos_count = 1};
    static char letters[VOCAB][2];
    const char *texts[VOCAB];
    uint32_t bytes[VOCAB];
    infer_vocab_parts vocab = {.kind = INFER_VOCAB_SPM, .flags = INFER_VOCAB_ADD_BOS, .unk = 0, .bos = 1, .eos = 2, .tokens = VOCAB, .text = texts,
                               .text_bytes = bytes};
    infer_source s = {.importer = &importer, .state = pruned ? letters : NULL};
    infer_source_tensor *tensors;
    infer_slot *slots;
    infer_convert_options options = {.type = type, .overwrite = true};
    char *metadata;
    void *section;
    infer_error err = {INFER_OK, ""};
    const char *path = path_of(name);

    random_seed = 75 + layers;
    for (int i = 0; i < VOCAB; i++) {
        letters[i][0] = (char)(i < 3 ? '0' + i : 'A' + i - 3);
        texts[i] = letters[i];
        bytes[i] = 1;
    }
    cr_assert_eq(infer_arch_tensors(NULL, &m, &tensors, &slots, &s.tensor_count, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_arch_metadata(NULL, &m, &metadata, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_vocab_build(NULL, &vocab, &section, &s.vocab_bytes, &err), INFER_OK, "%s", err.message);
    s.tensors = tensors;
    s.metadata = metadata;
    s.vocab = section;
    cr_assert_eq(infer_convert(NULL, &s, path, &options, NULL, &err), INFER_OK, "%s", err.message);
    infer_free(NULL, tensors);
    infer_free(NULL, slots);
    infer_free(NULL, metadata);
    infer_free(NULL, section);
    return path;
}

static const char *write_model(const char *name, const char *architecture, infer_qtype type, bool pruned)
{
    return write_layers(name, architecture, type, pruned, 2);
}

/* ---- the whole model ---- */

enum { WINDOW = 21 };

typedef struct model_operands {
    distill_student student, shown;
    distill_pass *pass, *layers; /* layers: of `shown`, with more layers; NULL: they do not count */
    int32_t ids[WINDOW + 1];
    float teacher[WINDOW * VOCAB];
    distill_objective objective;
} model_operands;

static double model_of(void *arg)
{
    model_operands *o = arg;
    const distill_objective *w = &o->objective;
    distill_losses sum = {0, 0, 0};
    for (size_t i = 0; i < o->student.tensor_count; i++)
        distill_student_refresh(&o->student, i);
    distill_pass_run(o->pass, o->ids, WINDOW, o->teacher, o->layers, w, NULL, &sum);
    return ((double)w->kl_share * sum.kl + (1 - (double)w->kl_share) * sum.ce + (double)w->layer_loss * sum.layers) * (double)w->weight;
}

static void check_model(const char *architecture, bool layers)
{
    static model_operands o;
    infer_error err = {INFER_OK, ""};
    distill_losses sum = {0, 0, 0};
    float *gradient;

    cr_assert_eq(distill_student_open(write_model("m.infer", architecture, INFER_QTYPE_F32, false), DISTILL_RECOVER_NONE, true, &o.student, &err), INFER_OK,
                 "%s", err.message);
    cr_assert_eq(distill_pass_create(&o.student, INFER_CPU_REF, WINDOW, &o.pass, &err), INFER_OK, "%s", err.message);
    if (layers) {
        cr_assert_eq(distill_student_open(write_layers("t.infer", architecture, INFER_QTYPE_F32, false, 5), DISTILL_RECOVER_NONE, true, &o.shown, &err),
                     INFER_OK, "%s", err.message);
        cr_assert_eq(distill_pass_create(&o.shown, INFER_CPU_REF, WINDOW, &o.layers, &err), INFER_OK, "%s", err.message);
    }
    for (int i = 0; i <= WINDOW; i++)
        o.ids[i] = (int32_t)(distill_mix(13, (uint64_t)i) % VOCAB);
    if (layers)
        distill_pass_predict(o.layers, o.ids, WINDOW);
    fill(o.teacher, WINDOW * VOCAB, 14);
    o.objective = (distill_objective){1, 0.6f, 0.5f, layers ? 3.0f : 0.0f};
    gradient = infer_alloc_array(NULL, o.student.weights, sizeof *gradient);
    model_of(&o);
    distill_pass_run(o.pass, o.ids, WINDOW, o.teacher, o.layers, &o.objective, gradient, &sum);
    cr_expect_eq(sum.layers > 0, layers);
    for (size_t i = 0; i < o.student.tensor_count; i++) {
        const distill_tensor *t = &o.student.tensors[i];
        size_t n = t->weights < 40 ? t->weights : 40, first = t->weights > n ? (t->weights - n) / 2 : 0;
        check_gradient(t->info.name, model_of, &o, o.student.weight + t->weight + first, gradient + t->weight + first, n);
    }
    infer_free(NULL, gradient);
    distill_pass_destroy(o.pass);
    distill_pass_destroy(o.layers);
    distill_student_free(&o.student);
    distill_student_free(&o.shown);
}

Test(distill_gradients, llama, .init = make_folder, .fini = remove_folder, .timeout = 240) { check_model("llama", false); }
Test(distill_gradients, layers, .init = make_folder, .fini = remove_folder, .timeout = 240) { check_model("llama", true); }
Test(distill_gradients, bitnet, .init = make_folder, .fini = remove_folder, .timeout = 240) { check_model("bitnet", false); }

/* ---- training ---- */

static const distill_settings settings = {.seed = 3, .steps = 12, .warmup = 3, .batch = 6, .window = 24, .rate = 0.01f, .rate_end = 0.1f, .beta1 = 0.9f,
                                          .beta2 = 0.95f, .decay = 0.1f, .clip = 1, .temperature = 1.5f, .kl_share = 0.8f, .generated = 0.5f, .fresh = 1,
                                          .kept = 5, .sampling = 1};

typedef struct training {
    infer_runtime *rt;
    infer_model *teacher;
    eval_text text;
    distill_student student;
    distill_trainer *trainer;
} training;

/* `model` NULL: a new student. */
static void training_open(training *r, const char *teacher, const char *model, distill_recovery recovery, const distill_settings *set, uint32_t threads)
{
    char text[4000];
    infer_error err = {INFER_OK, ""};
    distill_inputs in = {&r->student, teacher, NULL, threads, &r->text, &r->text};

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 60 == 59 ? '\n' : i % 60 >= 57 ? '#' : (char)('A' + (i * i / 7 + i / 60) % 30);
    for (size_t i = 57; i < sizeof text; i += 60)
        text[i - 1] = '\n';
    cr_assert_eq(infer_runtime_create(NULL, &r->rt, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_model_open(r->rt, teacher, NULL, &r->teacher, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(eval_text_cut(r->teacher, text, sizeof text, "##", set->window, set->window, &r->text, &err), INFER_OK, "%s", err.message);
    cr_assert_gt(r->text.window_count, 20);
    if (model)
        cr_assert_eq(distill_student_open(model, recovery, true, &r->student, &err), INFER_OK, "%s", err.message);
    else if (set->layer_loss > 0)
        cr_assert_eq(distill_student_create("dim=32,layers=1,heads=2,ffn=32", r->teacher, 5, &r->student, &err), INFER_OK, "%s", err.message);
    else
        cr_assert_eq(distill_student_create("dim=16,layers=2,heads=2,ffn=32", r->teacher, 5, &r->student, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(distill_trainer_create(&in, set, &r->trainer, &err), INFER_OK, "%s", err.message);
}

static void training_close(training *r)
{
    distill_trainer_destroy(r->trainer);
    distill_student_free(&r->student);
    eval_text_free(&r->text);
    infer_model_close(r->teacher);
    infer_runtime_destroy(r->rt);
    memset(r, 0, sizeof *r);
}

static void train(training *r, uint32_t steps)
{
    infer_error err = {INFER_OK, ""};
    while (distill_trainer_steps(r->trainer) < steps)
        cr_assert_eq(distill_trainer_step(r->trainer, &err), INFER_OK, "%s", err.message);
}

static float *copy_params(const training *r)
{
    float *p = malloc(r->student.params * sizeof *p);
    return memcpy(p, r->student.param, r->student.params * sizeof *p);
}

Test(distill_training, same_bits_for_any_threads, .init = make_folder, .fini = remove_folder, .timeout = 120)
{
    const char *teacher = write_model("t.infer", "llama", INFER_QTYPE_F32, false);
    training r = {0};
    float *expected = NULL;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        training_open(&r, teacher, NULL, DISTILL_RECOVER_NONE, &settings, threads);
        train(&r, settings.steps);
        if (!expected)
            expected = copy_params(&r);
        cr_expect_eq(memcmp(expected, r.student.param, r.student.params * sizeof(float)), 0, "%u threads", threads);
        training_close(&r);
    }
    free(expected);
}

Test(distill_training, learns, .init = make_folder, .fini = remove_folder, .timeout = 120)
{
    const char *teacher = write_model("t.infer", "llama", INFER_QTYPE_F32, false);
    distill_settings set = settings;
    training r = {0};
    double before, after, ce;
    set.steps = 150;
    set.kl_share = 1;
    set.temperature = 1;
    training_open(&r, teacher, NULL, DISTILL_RECOVER_NONE, &set, 2);
    cr_assert_eq(distill_trainer_validate(r.trainer, &before, &ce, NULL), INFER_OK);
    train(&r, set.steps);
    cr_assert_eq(distill_trainer_validate(r.trainer, &after, &ce, NULL), INFER_OK);
    cr_expect_lt(after, 0.9 * before, "divergence %g before, %g after", before, after);
    training_close(&r);
}

/* With nothing else to learn, a student's layers come close to the teacher's. */
Test(distill_training, learns_from_layers, .init = make_folder, .fini = remove_folder, .timeout = 120)
{
    const char *teacher = write_model("t.infer", "llama", INFER_QTYPE_F32, false);
    distill_settings set = settings;
    float *expected = NULL;
    set.steps = 200;
    set.kl_share = 1;
    set.layer_loss = 100;
    for (uint32_t threads = 1; threads <= 2; threads++) {
        training r = {0};
        const distill_record *records;
        size_t n;
        training_open(&r, teacher, NULL, DISTILL_RECOVER_NONE, &set, threads);
        train(&r, 10);
        cr_assert_eq(distill_trainer_record(r.trainer, NULL), INFER_OK);
        train(&r, set.steps);
        cr_assert_eq(distill_trainer_record(r.trainer, NULL), INFER_OK);
        records = distill_trainer_records(r.trainer, &n);
        cr_expect_lt(records[1].layers, 0.8f * records[0].layers, "%g, then %g", (double)records[0].layers, (double)records[1].layers);
        if (!expected)
            expected = copy_params(&r);
        cr_expect_eq(memcmp(expected, r.student.param, r.student.params * sizeof(float)), 0, "%u threads", threads);
        training_close(&r);
    }
    free(expected);
}

Test(distill_training, layers_of_another_width, .init = make_folder, .fini = remove_folder)
{
    const char *teacher = write_model("t.infer", "llama", INFER_QTYPE_F32, false);
    distill_settings set = settings;
    training r = {0};
    distill_trainer *trainer = NULL;
    infer_error err;
    training_open(&r, teacher, NULL, DISTILL_RECOVER_NONE, &set, 1);
    set.layer_loss = 1;
    cr_expect_eq(distill_trainer_create(&(distill_inputs){&r.student, teacher, NULL, 1, &r.text, NULL}, &set, &trainer, &err), INFER_ERROR_ARGUMENT);
    cr_expect(strstr(err.message, "equally wide") != NULL, "%s", err.message);
    cr_expect_null(trainer);
    training_close(&r);
}

Test(distill_training, interrupted_as_uninterrupted, .init = make_folder, .fini = remove_folder, .timeout = 120)
{
    const char *teacher = write_model("t.infer", "llama", INFER_QTYPE_F32, false), *path = path_of("checkpoint");
    training whole = {0}, first = {0}, second = {0};
    double s = 0, uj = 0;
    infer_error err = {INFER_OK, ""};
    size_t n, m;
    const distill_record *a, *b;

    training_open(&whole, teacher, NULL, DISTILL_RECOVER_NONE, &settings, 2);
    train(&whole, 9);
    cr_assert_eq(distill_trainer_record(whole.trainer, NULL), INFER_OK);
    train(&whole, settings.steps);
    training_open(&first, teacher, NULL, DISTILL_RECOVER_NONE, &settings, 1);
    train(&first, 7);
    cr_assert_eq(distill_checkpoint_save(first.trainer, path, 12.5, 3e6, &err), INFER_OK, "%s", err.message);
    training_open(&second, teacher, NULL, DISTILL_RECOVER_NONE, &settings, 2);
    cr_assert_eq(distill_checkpoint_load(second.trainer, path, &s, &uj, &err), INFER_OK, "%s", err.message);
    cr_expect_eq(s, 12.5);
    cr_expect_eq(uj, 3e6);
    train(&second, 9);
    cr_assert_eq(distill_trainer_record(second.trainer, NULL), INFER_OK);
    train(&second, settings.steps);
    cr_expect_eq(memcmp(whole.student.param, second.student.param, whole.student.params * sizeof(float)), 0);
    a = distill_trainer_records(whole.trainer, &n);
    b = distill_trainer_records(second.trainer, &m);
    cr_assert_eq(n, 1);
    cr_assert_eq(m, 1);
    cr_expect_eq(memcmp(a, b, sizeof *a), 0);
    training_close(&whole);
    training_close(&first);
    training_close(&second);
}

/* Every byte of a checkpoint counts, and so does its end; another run's is refused; the trainer is as it was. */
Test(distill_training, bad_checkpoints, .init = make_folder, .fini = remove_folder, .timeout = 120)
{
    const char *teacher = write_model("t.infer", "llama", INFER_QTYPE_F32, false), *path = path_of("checkpoint"), *bad = path_of("bad");
    distill_settings other = settings;
    training r = {0};
    double s = 0, uj = 0;
    size_t bytes;
    char *data;
    float *params;

    training_open(&r, teacher, NULL, DISTILL_RECOVER_NONE, &settings, 1);
    train(&r, 3);
    cr_assert_eq(distill_checkpoint_save(r.trainer, path, 0, 0, NULL), INFER_OK);
    data = check_read(path, &bytes);
    params = copy_params(&r);
    for (size_t i = 0; i < 40; i++) {
        size_t at = i < 20 ? distill_mix(21, i) % bytes : bytes, size = i < 20 ? bytes : distill_mix(22, i) % bytes;
        FILE *f = fopen(bad, "wb");
        if (at < bytes)
            data[at] ^= 4;
        cr_assert_eq(fwrite(data, 1, size, f), size);
        fclose(f);
        if (at < bytes)
            data[at] ^= 4;
        cr_expect_neq(distill_checkpoint_load(r.trainer, bad, &s, &uj, NULL), INFER_OK, "byte %zu, size %zu of %zu", at, size, bytes);
        cr_expect_eq(memcmp(params, r.student.param, r.student.params * sizeof(float)), 0);
    }
    training_close(&r);
    other.rate = 0.02f;
    training_open(&r, teacher, NULL, DISTILL_RECOVER_NONE, &other, 1);
    cr_expect_eq(distill_checkpoint_load(r.trainer, path, &s, &uj, NULL), INFER_ERROR_ARGUMENT);
    training_close(&r);
    free(data);
    free(params);
}

/* ---- recovery ---- */

static void check_recovery(infer_qtype type, distill_recovery recovery)
{
    const char *teacher = write_model("t.infer", "bitnet", INFER_QTYPE_F32, false), *pruned = write_model("p.infer", "bitnet", type, true);
    distill_settings set = settings;
    training r = {0};
    double before, after, ce;
    infer_error err = {INFER_OK, ""};
    distill_student again, old;
    infer_source source;
    infer_convert_options options = {.type = INFER_QTYPE_NONE, .overwrite = true};
    size_t moved = 0;

    set.steps = 60;
    set.kl_share = 1;
    set.temperature = 1;
    set.rate = type == INFER_QTYPE_T2R ? 0.001f : 0.003f; /* a row's scale that changes its sign would come back as the negative codes */
    training_open(&r, teacher, pruned, recovery, &set, 2);
    cr_assert_eq(distill_trainer_validate(r.trainer, &before, &ce, NULL), INFER_OK);
    train(&r, set.steps);
    cr_assert_eq(distill_trainer_validate(r.trainer, &after, &ce, NULL), INFER_OK);
    cr_expect_lt(after, 0.9 * before, "divergence %g before, %g after", before, after);
    distill_student_source(&r.student, &source);
    cr_assert_eq(infer_convert(NULL, &source, path_of("r.infer"), &options, NULL, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(distill_student_open(path_of("r.infer"), DISTILL_RECOVER_CODES, true, &again, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(distill_student_open(pruned, DISTILL_RECOVER_CODES, true, &old, &err), INFER_OK, "%s", err.message);
    for (size_t i = 0; i < again.tensor_count; i++) {
        const distill_tensor *t = &again.tensors[i], *o = &old.tensors[i];
        const float *w = again.weight + t->weight;
        cr_expect_eq(t->info.stored, o->info.stored);
        for (size_t k = 0; k < t->weights; k++) /* 0 may be -0 */
            if (w[k] != r.student.weight[r.student.tensors[i].weight + k])
                cr_assert_fail("%s: weight %zu is not what was trained", t->info.name, k);
        if (!t->codes)
            continue;
        for (size_t k = 0; k < t->weights; k++) {
            moved += t->codes[k] != o->codes[k];
            if (o->pruned[k])
                cr_assert_eq(w[k], 0, "%s: weight %zu was pruned", t->info.name, k);
            if (recovery == DISTILL_RECOVER_SCALES)
                cr_assert_eq(t->codes[k], o->codes[k], "%s: code %zu", t->info.name, k);
        }
        if (recovery == DISTILL_RECOVER_CODES && type != INFER_QTYPE_T2R)
            cr_expect_eq(memcmp(t->scales, o->scales, t->info.rows * infer_ceil_div(t->info.cols, t->group) * sizeof(float)), 0, "%s: scales", t->info.name);
    }
    if (recovery == DISTILL_RECOVER_CODES)
        cr_expect_gt(moved, 0);
    distill_student_free(&again);
    distill_student_free(&old);
    training_close(&r);
}

Test(distill_recovery, q4g32_codes, .init = make_folder, .fini = remove_folder, .timeout = 120) { check_recovery(INFER_QTYPE_Q4G32, DISTILL_RECOVER_CODES); }
Test(distill_recovery, q4g32_scales, .init = make_folder, .fini = remove_folder, .timeout = 120) { check_recovery(INFER_QTYPE_Q4G32, DISTILL_RECOVER_SCALES); }
Test(distill_recovery, n4g32_codes, .init = make_folder, .fini = remove_folder, .timeout = 120) { check_recovery(INFER_QTYPE_N4G32, DISTILL_RECOVER_CODES); }
Test(distill_recovery, q8g32_codes, .init = make_folder, .fini = remove_folder, .timeout = 120) { check_recovery(INFER_QTYPE_Q8G32, DISTILL_RECOVER_CODES); }
Test(distill_recovery, t2r_scales, .init = make_folder, .fini = remove_folder, .timeout = 120) { check_recovery(INFER_QTYPE_T2R, DISTILL_RECOVER_SCALES); }

Test(distill_recovery, nothing_to_recover, .init = make_folder, .fini = remove_folder)
{
    distill_student s;
    cr_expect_eq(distill_student_open(write_model("f.infer", "llama", INFER_QTYPE_F32, false), DISTILL_RECOVER_CODES, true, &s, NULL), INFER_ERROR_UNSUPPORTED);
}

Test(distill_student, bad_shapes, .init = make_folder, .fini = remove_folder)
{
    static const char *const shapes[] = {"", "dim=32", "layers=2", "dim=32,layers=0", "dim=33,layers=1", "dim=32,layers=2,heads=5", "dim=32,layers=2,head=2",
                                         "dim=99999999999999999999,layers=1", "dim=32layers=2", "dim=,layers=2", "dim=32,layers=2,heads=4,kv_heads=3"};
    const char *teacher = write_model("t.infer", "llama", INFER_QTYPE_F32, false);
    infer_runtime *rt;
    infer_model *model;
    distill_student s;
    cr_assert_eq(infer_runtime_create(NULL, &rt, NULL), INFER_OK);
    cr_assert_eq(infer_model_open(rt, teacher, NULL, &model, NULL), INFER_OK);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        cr_expect_eq(distill_student_create(shapes[i], model, 0, &s, NULL), INFER_ERROR_ARGUMENT, "\"%s\"", shapes[i]);
    infer_model_close(model);
    infer_runtime_destroy(rt);
}
