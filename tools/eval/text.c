#include "text.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

/* ---- cutting ---- */

infer_status eval_tokenize(const infer_model *model, const char *text, size_t bytes, int32_t **ids, size_t *count, infer_error *err)
{
    size_t need = 0;
    infer_status s = infer_model_tokenize(model, text, bytes, INFER_TOKENIZE_BOS, NULL, 0, &need, err);
    *ids = NULL;
    *count = need;
    if (need == 0 || (s != INFER_OK && s != INFER_ERROR_ARGUMENT)) /* ARGUMENT: only that there was no room */
        return s;
    *ids = infer_alloc_array(NULL, need, sizeof **ids);
    if (!*ids)
        return infer_fail_memory(err, need * sizeof **ids, "tokens");
    s = infer_model_tokenize(model, text, bytes, INFER_TOKENIZE_BOS, *ids, need, count, err);
    if (s != INFER_OK) {
        infer_free(NULL, *ids);
        *ids = NULL;
    }
    return s;
}

uint64_t eval_vocab_hash(const infer_model *model)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < infer_model_vocab_size(model); i++) {
        size_t bytes = 0;
        const char *text = infer_model_token_text(model, (int32_t)i, &bytes);
        hash = XXH3_64bits_withSeed(text ? text : "", text ? bytes : 0, hash + bytes + 1);
    }
    return hash;
}

static infer_status add_window(eval_text *t, int32_t start, const int32_t *ids, uint32_t inputs, uint32_t skip, infer_error *err)
{
    size_t need = t->id_count + inputs + 1;
    if (!infer_grow(NULL, &t->ids, &t->id_cap, need, sizeof *t->ids) ||
        !infer_grow(NULL, &t->windows, &t->window_cap, t->window_count + 1, sizeof *t->windows))
        return infer_fail_memory(err, need * sizeof *t->ids, "windows");
    t->windows[t->window_count++] = (eval_window){t->id_count, inputs, skip};
    t->ids[t->id_count] = start;
    memcpy(t->ids + t->id_count + 1, ids + 1, inputs * sizeof *ids);
    t->id_count = need;
    t->tokens += inputs - skip;
    return INFER_OK;
}

/* begin: -1, or the token that stands first in every window. */
static infer_status add_document(eval_text *t, const int32_t *ids, size_t n, int32_t begin, uint32_t window, uint32_t stride, infer_error *err)
{
    infer_status s = INFER_OK;
    size_t covered = 0; /* predictions that windows have counted */
    for (size_t at = 0; s == INFER_OK && covered + 1 < n; at += stride) {
        uint32_t inputs = n - 1 - at < window ? (uint32_t)(n - 1 - at) : window;
        s = add_window(t, begin >= 0 ? begin : ids[at], ids + at, inputs, (uint32_t)(covered - at), err);
        covered = at + inputs;
    }
    return s;
}

/* The first line from p on that is just the separator: its start, *next behind its end. Else NULL. */
static const char *find_separator(const char *text, const char *p, const char *end, const char *separator, const char **next)
{
    size_t n = strlen(separator);
    for (; (p = memmem(p, (size_t)(end - p), separator, n)) != NULL; p++) {
        const char *behind = p + n;
        if (behind < end && *behind == '\r')
            behind++;
        if ((p == text || p[-1] == '\n') && (behind == end || *behind == '\n')) {
            *next = behind;
            return p;
        }
    }
    return NULL;
}

infer_status eval_text_cut(const infer_model *model, const char *text, size_t bytes, const char *separator, uint32_t window, uint32_t stride,
                           eval_text *out, infer_error *err)
{
    const char *end = text + bytes, *next;
    eval_text t = {0};
    infer_status s = INFER_OK;
    for (const char *p = text; s == INFER_OK && p < end; p = next) {
        const char *from = p, *to = separator ? find_separator(text, p, end, separator, &next) : NULL;
        int32_t *ids, bos = infer_model_token_bos(model);
        size_t n;
        if (!to)
            to = next = end;
        while (separator && from < to && (*from == '\n' || *from == '\r'))
            from++;
        while (separator && to > from && (to[-1] == '\n' || to[-1] == '\r'))
            to--;
        if (from == to)
            continue;
        s = eval_tokenize(model, from, (size_t)(to - from), &ids, &n, err);
        if (s != INFER_OK)
            break;
        if (n)
            s = add_document(&t, ids, n, separator || ids[0] != bos ? -1 : bos, window, stride, err);
        infer_free(NULL, ids);
        t.documents++;
        t.bytes += (uint64_t)(to - from);
    }
    if (s == INFER_OK && !(t.counted = infer_alloc_array(NULL, t.window_count + 1, sizeof *t.counted)))
        s = infer_fail_memory(err, t.window_count * sizeof *t.counted, "windows");
    for (size_t w = 0; s == INFER_OK && w < t.window_count; w++)
        t.counted[w] = t.windows[w].inputs - t.windows[w].skip;
    if (s != INFER_OK)
        eval_text_free(&t);
    else
        *out = t;
    return s;
}

void eval_text_limit(eval_text *t, size_t windows)
{
    uint64_t tokens = 0;
    if (windows >= t->window_count)
        return;
    for (size_t w = 0; w < windows; w++)
        tokens += t->counted[w];
    t->id_count = t->windows[windows].first;
    t->window_count = windows;
    t->bytes = (uint64_t)((double)t->bytes * (double)tokens / (double)t->tokens);
    t->tokens = tokens;
}

void eval_text_free(eval_text *t)
{
    infer_free(NULL, t->ids);
    infer_free(NULL, t->windows);
    infer_free(NULL, t->counted);
    *t = (eval_text){0};
}

/* ---- evaluating ---- */

infer_status eval_rows(infer_session *session, uint32_t rows, const int32_t *ids, size_t from, size_t first, size_t n, eval_row_fn *row,
                       void *user, infer_error *err)
{
    infer_status s = first - 1 > from ? infer_session_eval(session, ids + from, first - 1 - from, INFER_LOGITS_NONE, err) : INFER_OK;
    for (size_t at = first, count; s == INFER_OK && at < n; at += count) {
        count = n - at < rows ? n - at : rows;
        s = infer_session_eval(session, ids + at - 1, count, INFER_LOGITS_ALL, err);
        for (size_t k = 0; s == INFER_OK && k < count; k++)
            s = row(user, at + k, infer_session_logits(session, k), err);
    }
    return s;
}

size_t eval_token_bytes(const eval_text_run *run)
{
    return sizeof(eval_token) + (run->record ? infer_round_up(eval_record_bytes(run->vocab), 8) : 0);
}

typedef struct window_rows {
    const eval_text_run *run;
    size_t first;   /* id that the first row predicts */
    uint64_t token; /* its number among the counted */
    uint8_t *out;
} window_rows;

static infer_status score_row(void *user, size_t at, const float *logits, infer_error *err)
{
    const window_rows *w = user;
    const eval_text_run *run = w->run;
    double log_sum = eval_log_sum(logits, run->vocab), log_p = logits[run->text->ids[at]] - log_sum, unused;
    uint8_t *out = w->out + (at - w->first) * eval_token_bytes(run);
    eval_token token = {.nll = -log_p};
    eval_distribution d;
    if (!isfinite(log_p))
        return infer_fail(err, INFER_ERROR_FORMAT, "token %llu: the model's logits are not all numbers", (unsigned long long)(w->token + at - w->first));
    if (run->teacher) {
        eval_teacher_record(run->teacher, w->token + at - w->first, &d, &unused);
        token.kl = (float)eval_kl(&d, logits, run->vocab, log_sum);
        token.agrees = infer_argmax(logits, run->vocab) == d.ids[0];
    }
    memcpy(out, &token, sizeof token);
    if (run->record) {
        eval_top(logits, run->vocab, log_sum, &d);
        eval_record_put(out + sizeof token, run->vocab, &d, log_p);
    }
    return INFER_OK;
}

infer_status eval_text_window(const eval_text_run *run, size_t w, uint64_t token, uint8_t *out, infer_error *err)
{
    const eval_window *window = &run->text->windows[w];
    window_rows rows = {run, window->first + window->skip + 1, token, out};
    infer_status s = infer_session_rewind(run->session, 0, err);
    return s != INFER_OK ? s
                         : eval_rows(run->session, run->rows, run->text->ids, window->first, rows.first, window->first + window->inputs + 1, score_row,
                                     &rows, err);
}

/* ---- summing up ---- */

static eval_estimate scaled(eval_estimate e, double factor) { return (eval_estimate){e.mean * factor, e.se * factor}; }

infer_status eval_text_summarize(const eval_text_run *run, const uint8_t *data, eval_text_report *out, infer_error *err)
{
    const eval_text *text = run->text;
    eval_sums nll = {0}, kl = {0}, top1 = {0}, delta = {0};
    float *kls = infer_alloc_array(NULL, text->tokens, sizeof *kls);
    uint64_t i = 0;
    if (!kls)
        return infer_fail_memory(err, text->tokens * sizeof *kls, "divergences");
    for (size_t w = 0; w < text->window_count; w++) {
        double window_nll = 0, window_kl = 0, agreed = 0, teacher_nll = 0, count = text->counted[w];
        for (uint32_t k = 0; k < text->counted[w]; k++, i++) {
            eval_distribution d;
            eval_token token;
            double log_p = 0;
            memcpy(&token, data + i * eval_token_bytes(run), sizeof token);
            if (run->teacher)
                eval_teacher_record(run->teacher, i, &d, &log_p);
            window_nll += token.nll;
            window_kl += token.kl;
            agreed += token.agrees;
            teacher_nll -= log_p;
            kls[i] = token.kl;
        }
        eval_sums_add(&nll, window_nll, count);
        eval_sums_add(&kl, window_kl, count);
        eval_sums_add(&top1, agreed, count);
        eval_sums_add(&delta, window_nll - teacher_nll, count);
    }
    *out = (eval_text_report){.nll = eval_sums_mean(&nll), .kl = eval_sums_mean(&kl), .top1 = eval_sums_mean(&top1), .delta_nll = eval_sums_mean(&delta)};
    out->perplexity = (eval_estimate){exp(out->nll.mean), exp(out->nll.mean) * out->nll.se};
    out->bits_per_byte = scaled(out->nll, (double)text->tokens / (log(2) * (double)text->bytes));
    eval_sort(kls, text->tokens);
    out->kl_median = eval_quantile(kls, text->tokens, 0.5);
    out->kl_p99 = eval_quantile(kls, text->tokens, 0.99);
    infer_free(NULL, kls);
    return INFER_OK;
}
