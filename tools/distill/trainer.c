#include "trainer_inside.h"

#include "eval/writing.h"
#include "random.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

/* ---- set up ---- */

static infer_status open_worker(distill_trainer *t, const distill_inputs *in, distill_worker *w, infer_error *err)
{
    infer_runtime_options runtime = INFER_RUNTIME_DEFAULTS;
    infer_session_options session = INFER_SESSION_DEFAULTS;
    size_t logits = (size_t)t->set.window * t->student->config.vocab;
    infer_status status;

    runtime.threads = 1;
    runtime.cpu_level = in->cpu_level;
    session.context = t->set.window + 1;
    session.batch = t->set.window < 512 ? t->set.window : 512;
    session.logit_rows = t->set.window;
    if ((status = infer_runtime_create(&runtime, &w->rt, err)) != INFER_OK || (status = infer_model_open(w->rt, in->teacher, NULL, &w->teacher, err)) != INFER_OK ||
        (status = infer_session_create(w->teacher, &session, &w->session, err)) != INFER_OK ||
        (status = distill_pass_create(t->student, w->rt->level, t->set.window, &w->pass, err)) != INFER_OK ||
        (t->set.layer_loss > 0 && (status = distill_pass_create(&t->layers, w->rt->level, t->set.window, &w->layers, err)) != INFER_OK))
        return status;
    w->logits = infer_alloc_array(NULL, logits, sizeof *w->logits);
    w->ids = infer_alloc_array(NULL, (size_t)t->set.window + 1, sizeof *w->ids);
    return w->logits && w->ids ? INFER_OK : infer_fail_memory(err, logits * sizeof *w->logits, "the teacher's logits");
}

static uint64_t hash_more(uint64_t hash, const void *data, size_t bytes) { return XXH3_64bits_withSeed(data, bytes, hash); }

/* Of what a checkpoint has to share. Hashes of the teacher's tensors stand for the teacher. */
static uint64_t identify(const distill_trainer *t)
{
    distill_settings s = t->set;
    const infer_file *file = t->workers[0].teacher->file;
    uint64_t h = 1;
    s.steps = 0;
    h = hash_more(h, &s, offsetof(distill_settings, sampling) + sizeof s.sampling); /* without padding */
    h = hash_more(h, t->student->metadata, strlen(t->student->metadata));
    h = hash_more(h, t->student->param, t->student->params * sizeof(float));
    h = hash_more(h, t->text->ids, t->text->id_count * sizeof *t->text->ids);
    for (size_t i = 0; i < infer_file_tensor_count(file); i++)
        h = hash_more(h, &infer_file_tensor(file, i)->hash, sizeof(uint64_t));
    for (size_t i = 0; i < t->student->tensor_count; i++)
        h = hash_more(h, &t->student->tensors[i].kind, sizeof t->student->tensors[i].kind);
    return h;
}

static infer_status check_inputs(const distill_trainer *t, const distill_inputs *in, infer_error *err)
{
    const infer_model *teacher = t->workers[0].teacher;
    size_t bytes;
    const void *vocab = infer_file_vocab(teacher->file, &bytes);

    if (bytes != t->student->vocab_bytes || memcmp(vocab, t->student->vocab, bytes) != 0 || teacher->config.vocab != t->student->config.vocab)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: the teacher has another vocabulary than the student", in->teacher);
    if (t->text->id_count < (size_t)t->set.window + 1 || !t->text->window_count)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "the text has %zu tokens, expected at least a window of %u", t->text->id_count, t->set.window + 1);
    if (t->set.layer_loss > 0 && teacher->config.dim != t->student->config.dim)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: layers can be compared only where teacher and student are equally wide: found %u, expected %u",
                          in->teacher, teacher->config.dim, t->student->config.dim);
    if (in->valid && !in->valid->window_count)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "the validation text is empty");
    if (t->set.generated > 0 && infer_model_token_bos(teacher) < 0)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: without a begin token the teacher cannot begin a text: --generated 0 goes without", in->teacher);
    return INFER_OK;
}

infer_status distill_trainer_create(const distill_inputs *in, const distill_settings *settings, distill_trainer **out, infer_error *err)
{
    distill_trainer *t = infer_alloc_zero(NULL, sizeof *t);
    infer_status status = INFER_OK;
    infer_cpus cpus;
    size_t written;

    if (!t)
        return infer_fail_memory(err, sizeof *t, "trainer");
    t->set = *settings;
    t->student = in->student;
    t->text = in->text;
    t->valid = in->valid;
    infer_cpus_available(&cpus);
    t->threads = in->threads ? in->threads : cpus.node_cores;
    if (t->threads > DISTILL_PARTS)
        t->threads = DISTILL_PARTS;
    written = distill_ring(settings) * (settings->window + 1);
    t->workers = infer_alloc_array(NULL, t->threads, sizeof *t->workers);
    t->moment1 = infer_alloc_array(NULL, t->student->params, sizeof(float));
    t->moment2 = infer_alloc_array(NULL, t->student->params, sizeof(float));
    t->squares = infer_alloc_array(NULL, t->student->tensor_count, sizeof(double));
    t->written = infer_alloc_array(NULL, written, sizeof *t->written);
    for (int p = 0; p < DISTILL_PARTS; p++)
        t->gradient[p] = infer_alloc_array(NULL, t->student->weights, sizeof(float));
    t->dparam = t->student->param == t->student->weight ? t->gradient[0] : infer_alloc_array(NULL, t->student->params, sizeof(float));
    if (!t->workers || !t->moment1 || !t->moment2 || !t->squares || !t->dparam || (written && !t->written) || !t->gradient[DISTILL_PARTS - 1])
        status = infer_fail_memory(err, (DISTILL_PARTS * t->student->weights + 3 * t->student->params + written) * sizeof(float), "gradients");
    else
        status = infer_pool_create(NULL, t->threads, &t->pool, err);
    if (status == INFER_OK && settings->layer_loss > 0)
        status = distill_student_open(in->teacher, DISTILL_RECOVER_NONE, false, &t->layers, err);
    for (uint32_t i = 0; i < t->threads && status == INFER_OK; i++)
        status = open_worker(t, in, &t->workers[i], err);
    if (status == INFER_OK)
        status = check_inputs(t, in, err);
    if (status != INFER_OK) {
        distill_trainer_destroy(t);
        return status;
    }
    t->identity = identify(t);
    *out = t;
    return INFER_OK;
}

void distill_trainer_destroy(distill_trainer *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; t->workers && i < t->threads; i++) {
        distill_worker *w = &t->workers[i];
        infer_free(NULL, w->logits);
        infer_free(NULL, w->ids);
        distill_pass_destroy(w->pass);
        distill_pass_destroy(w->layers);
        infer_session_destroy(w->session);
        infer_model_close(w->teacher);
        infer_runtime_destroy(w->rt);
    }
    distill_student_free(&t->layers);
    infer_pool_destroy(t->pool);
    if (t->dparam != t->gradient[0])
        infer_free(NULL, t->dparam);
    for (int p = 0; p < DISTILL_PARTS; p++)
        infer_free(NULL, t->gradient[p]);
    infer_free(NULL, t->workers);
    infer_free(NULL, t->moment1);
    infer_free(NULL, t->moment2);
    infer_free(NULL, t->squares);
    infer_free(NULL, t->written);
    infer_free(NULL, t->records);
    infer_free(NULL, t);
}

/* ---- work on all threads ---- */

typedef struct job {
    distill_trainer *t;
    uint32_t items;
    float rate, correct1, correct2, shrink; /* of the optimizer */
    distill_losses *valid;                  /* [items] */
    _Atomic uint32_t next;
} job;

static void run_job(job *j, infer_pool_work *work) { infer_pool_run(j->t->pool, work, j); }

static void run(distill_trainer *t, infer_pool_work *work, uint32_t items)
{
    job j = {.t = t, .items = items};
    run_job(&j, work);
}

/* The first failure of any thread. */
static infer_status failure(const distill_trainer *t, infer_error *err)
{
    for (uint32_t i = 0; i < t->threads; i++)
        if (t->workers[i].err.status != INFER_OK) {
            if (err)
                *err = t->workers[i].err;
            return t->workers[i].err.status;
        }
    return INFER_OK;
}

/* ---- windows ---- */

/* The teacher's logits for ids[0..m), until the next call; NULL: w->err. Where its layers count, its forward pass here tells both. */
static const float *ask_teacher(distill_worker *w, const int32_t *ids, uint32_t m)
{
    size_t vocab = infer_model_vocab_size(w->teacher);
    infer_status status;
    if (w->layers)
        return distill_pass_predict(w->layers, ids, m);
    status = infer_session_rewind(w->session, 0, &w->err);
    if (status == INFER_OK)
        status = infer_session_eval(w->session, ids, m, INFER_LOGITS_ALL, &w->err);
    for (uint32_t t = 0; t < m && status == INFER_OK; t++)
        memcpy(w->logits + t * vocab, infer_session_logits(w->session, t), vocab * sizeof(float));
    return status == INFER_OK ? w->logits : NULL;
}

/* A window that the teacher writes: stories one behind the other, each from the begin token on. */
static void write_window(const distill_trainer *t, distill_worker *w, uint64_t index)
{
    int32_t *ids = t->written + index % distill_ring(&t->set) * (t->set.window + 1), bos = infer_model_token_bos(w->teacher);
    infer_sampler *sampler = NULL;

    if (infer_session_rewind(w->session, 0, &w->err) != INFER_OK ||
        eval_writer(w->teacher, t->set.sampling, distill_mix(t->set.seed ^ 0x77726974u, index), &sampler, &w->err) != INFER_OK)
        return;
    ids[0] = bos;
    for (uint32_t at = 0, n; at < t->set.window; at += n) {
        if (eval_write(w->session, w->teacher, sampler, ids + at, t->set.window - at, &n, &w->err) != INFER_OK)
            break;
        if (infer_model_token_is_end(w->teacher, ids[at + n]))
            ids[at + n] = bos;
    }
    infer_sampler_destroy(sampler);
}

/* Window `b` of this step: one that the teacher wrote before this step, or of the text: from a document's start on, or, a quarter of them, from
 * somewhere in it. */
static const int32_t *choose(const distill_trainer *t, uint32_t b)
{
    uint64_t stream = distill_mix(t->set.seed, (uint64_t)t->step * t->set.batch + b);
    uint64_t written = t->written_count < t->set.kept ? t->written_count : t->set.kept;
    const eval_window *document;
    size_t first, last = t->text->id_count - t->set.window - 1;

    if (written && distill_uniform(stream, 0) < t->set.generated)
        return t->written + (t->written_count - 1 - (uint64_t)(distill_uniform(stream, 1) * (double)written)) % distill_ring(&t->set) * (t->set.window + 1);
    document = &t->text->windows[(size_t)(distill_uniform(stream, 1) * (double)t->text->window_count)];
    first = document->first;
    if (distill_uniform(stream, 2) < 0.25)
        first += (size_t)(distill_uniform(stream, 3) * document->inputs);
    return t->text->ids + (first < last ? first : last);
}

/* Items: windows that the teacher writes for later steps, then the parts of the batch. */
static void learn(void *arg, uint32_t thread)
{
    job *j = arg;
    distill_trainer *t = j->t;
    distill_worker *w = &t->workers[thread];
    distill_objective objective = {t->set.temperature, t->set.kl_share, 1.0f / ((float)t->set.batch * (float)t->set.window), t->set.layer_loss};
    uint32_t fresh = j->items - DISTILL_PARTS, i;

    while ((i = atomic_fetch_add(&j->next, 1)) < j->items && w->err.status == INFER_OK) {
        uint32_t part = i - fresh;
        if (i < fresh) {
            write_window(t, w, t->written_count + i);
            continue;
        }
        memset(t->gradient[part], 0, t->student->weights * sizeof(float));
        t->part[part] = (distill_losses){0, 0, 0};
        for (uint32_t b = part; b < t->set.batch; b += DISTILL_PARTS) {
            const int32_t *ids = choose(t, b);
            const float *logits = ask_teacher(w, ids, t->set.window);
            if (!logits)
                break;
            distill_pass_run(w->pass, ids, t->set.window, logits, w->layers, &objective, t->gradient[part], &t->part[part]);
        }
    }
}

/* ---- optimizer: AdamW (Loshchilov, Hutter 2017, arXiv:1711.05101), tensors being the items ---- */

static void sum_gradients(void *arg, uint32_t thread)
{
    job *j = arg;
    distill_trainer *t = j->t;
    uint32_t i;
    (void)thread;
    while ((i = atomic_fetch_add(&j->next, 1)) < t->student->tensor_count) {
        const distill_tensor *tensor = &t->student->tensors[i];
        float *g = t->gradient[0] + tensor->weight;
        double squares = 0;
        for (int p = 1; p < DISTILL_PARTS; p++)
            distill_add(g, t->gradient[p] + tensor->weight, tensor->weights);
        distill_student_pull_back(t->student, i, t->gradient[0], t->dparam);
        for (size_t k = 0; k < tensor->params; k++)
            squares += (double)t->dparam[tensor->param + k] * (double)t->dparam[tensor->param + k];
        t->squares[i] = squares;
    }
}

static void update(void *arg, uint32_t thread)
{
    job *j = arg;
    distill_trainer *t = j->t;
    const float beta1 = t->set.beta1, beta2 = t->set.beta2, rate = j->rate, shrink = j->shrink, correct1 = j->correct1, correct2 = j->correct2;
    uint32_t i;
    (void)thread;
    while ((i = atomic_fetch_add(&j->next, 1)) < t->student->tensor_count) {
        const distill_tensor *tensor = &t->student->tensors[i];
        float *w = t->student->param + tensor->param, *m = t->moment1 + tensor->param, *v = t->moment2 + tensor->param;
        const float *g = t->dparam + tensor->param;
        float keep = tensor->kind == DISTILL_FREE && tensor->info.matrix ? 1.0f - rate * t->set.decay : 1.0f;
        for (size_t k = 0; k < tensor->params; k++) {
            float x = g[k] * shrink;
            m[k] = m[k] * beta1 + x * (1.0f - beta1);
            v[k] = v[k] * beta2 + x * x * (1.0f - beta2);
            w[k] = w[k] * keep - rate * (m[k] * correct1) / (sqrtf(v[k] * correct2) + 1e-8f);
        }
        distill_student_refresh(t->student, i);
    }
}

static float rate_at(const distill_settings *s, uint32_t step)
{
    double progress, low = s->rate_end;
    if (step < s->warmup)
        return s->rate * (float)(step + 1) / (float)s->warmup;
    progress = s->steps > s->warmup ? (double)(step - s->warmup) / (double)(s->steps - s->warmup) : 1;
    progress = progress < 1 ? progress : 1;
    return (float)(s->rate * (low + (1 - low) * 0.5 * (1 + cos(3.14159265358979323846 * progress))));
}

static void add_losses(distill_losses *sum, const distill_losses *more, double weight)
{
    sum->kl += more->kl * weight;
    sum->ce += more->ce * weight;
    sum->layers += more->layers * weight;
}

infer_status distill_trainer_step(distill_trainer *t, infer_error *err)
{
    job j = {.t = t};
    distill_losses mean = {0, 0, 0};
    double squares = 0, tokens = (double)t->set.batch * t->set.window, tt = (double)t->set.temperature * (double)t->set.temperature;
    uint32_t fresh = t->set.generated > 0 ? t->set.fresh : 0;
    infer_status status;

    run(t, learn, fresh + DISTILL_PARTS);
    if ((status = failure(t, err)) != INFER_OK)
        return status;
    t->written_count += fresh;
    for (int p = 0; p < DISTILL_PARTS; p++)
        add_losses(&mean, &t->part[p], 1 / tokens);
    run(t, sum_gradients, 0);
    for (size_t i = 0; i < t->student->tensor_count; i++)
        squares += t->squares[i];
    t->norm = (float)sqrt(squares);
    if (!isfinite(squares) || !isfinite(mean.kl) || !isfinite(mean.ce) || !isfinite(mean.layers))
        return infer_fail(err, INFER_ERROR_FORMAT, "step %u: the loss is not a number: a lower rate may help", t->step);
    j.rate = rate_at(&t->set, t->step);
    j.correct1 = (float)(1 / (1 - pow(t->set.beta1, t->step + 1.0)));
    j.correct2 = (float)(1 / (1 - pow(t->set.beta2, t->step + 1.0)));
    j.shrink = t->set.clip > 0 && t->norm > t->set.clip ? t->set.clip / t->norm : 1;
    run_job(&j, update);
    t->kl = (float)mean.kl;
    t->loss = (float)(t->set.kl_share * tt * mean.kl + (1 - t->set.kl_share) * mean.ce + t->set.layer_loss * mean.layers);
    t->sum_loss += t->loss;
    add_losses(&t->sum, &mean, 1);
    t->sum_steps++;
    t->tokens += (uint64_t)tokens;
    t->step++;
    return INFER_OK;
}

uint32_t distill_trainer_steps(const distill_trainer *t) { return t->step; }
uint64_t distill_trainer_tokens(const distill_trainer *t) { return t->tokens; }
uint64_t distill_trainer_written(const distill_trainer *t) { return t->written_count; }
float distill_trainer_loss(const distill_trainer *t) { return t->loss; }
float distill_trainer_kl(const distill_trainer *t) { return t->kl; }
float distill_trainer_norm(const distill_trainer *t) { return t->norm; }
infer_runtime *distill_trainer_runtime(const distill_trainer *t) { return t->workers[0].rt; }

/* ---- validation ---- */

static void validate_windows(void *arg, uint32_t thread)
{
    job *j = arg;
    distill_trainer *t = j->t;
    distill_worker *w = &t->workers[thread];
    distill_objective objective = {1, 1, 0, 0};
    uint32_t i;
    while ((i = atomic_fetch_add(&j->next, 1)) < j->items && w->err.status == INFER_OK) {
        const eval_window *window = &t->valid->windows[i];
        const int32_t *ids = t->valid->ids + window->first;
        const float *logits = ask_teacher(w, ids, window->inputs);
        if (logits)
            distill_pass_run(w->pass, ids, window->inputs, logits, NULL, &objective, NULL, &j->valid[i]);
    }
}

infer_status distill_trainer_validate(distill_trainer *t, double *kl, double *ce, infer_error *err)
{
    size_t n = t->valid->window_count;
    distill_losses *each = infer_alloc_array(NULL, n, sizeof *each), sum = {0, 0, 0};
    job j = {.t = t, .items = (uint32_t)n, .valid = each};
    double tokens = 0;
    infer_status status;

    if (!each)
        return infer_fail_memory(err, n * sizeof *each, "validation");
    run_job(&j, validate_windows);
    for (size_t i = 0; i < n; i++) {
        add_losses(&sum, &each[i], 1);
        tokens += t->valid->windows[i].inputs;
    }
    *kl = sum.kl / tokens;
    *ce = sum.ce / tokens;
    status = failure(t, err);
    infer_free(NULL, each);
    return status;
}

infer_status distill_trainer_record(distill_trainer *t, infer_error *err)
{
    double kl = NAN, ce = NAN, steps = t->sum_steps ? t->sum_steps : 1;
    infer_status status = t->valid ? distill_trainer_validate(t, &kl, &ce, err) : INFER_OK;

    if (status != INFER_OK)
        return status;
    if (!infer_grow(NULL, &t->records, &t->record_cap, t->record_count + 1, sizeof *t->records))
        return infer_fail_memory(err, (t->record_count + 1) * sizeof *t->records, "records");
    t->records[t->record_count++] = (distill_record){t->step, (float)(t->sum_loss / steps), (float)(t->sum.kl / steps), (float)(t->sum.ce / steps),
                                                     (float)(t->sum.layers / steps), (float)kl, (float)ce};
    t->sum_loss = 0;
    t->sum = (distill_losses){0, 0, 0};
    t->sum_steps = 0;
    return INFER_OK;
}

const distill_record *distill_trainer_records(const distill_trainer *t, size_t *count)
{
    *count = t->record_count;
    return t->records;
}
