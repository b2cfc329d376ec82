#include "tasks.h"

#include "text.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the files: prompts as in EleutherAI's lm-evaluation-harness, whose published figures are the ones to compare with ---- */

/* Copies of `bytes` bytes in one string; pieces end with NULL. NULL: no memory. */
static char *joined(const char *const *pieces)
{
    size_t bytes = 1;
    char *text;
    for (size_t i = 0; pieces[i]; i++)
        bytes += strlen(pieces[i]);
    text = infer_alloc(NULL, bytes);
    if (text)
        *text = 0;
    for (size_t i = 0; text && pieces[i]; i++)
        strcat(text, pieces[i]);
    return text;
}

static const char *text_field(const cJSON *o, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* A whole number 0..limit-1, else `limit`. */
static uint32_t index_field(const cJSON *o, const char *name, uint32_t limit)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
    double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
    return v >= 0 && v < limit && v == floor(v) ? (uint32_t)v : limit;
}

/* HellaSwag's WikiHow texts hold markup: " [title]" is the end of a sentence, other brackets are dropped, double spaces become one. In place. */
static void drop_markup(char *text)
{
    static const char title[] = " [title]";
    char *to = text;
    for (const char *p = text; *p;) {
        const char *close = *p == '[' ? strchr(p, ']') : NULL;
        if (strncmp(p, title, sizeof title - 1) == 0) {
            *to++ = '.';
            *to++ = ' ';
            p += sizeof title - 1;
        } else if (close) {
            p = close + 1;
        } else {
            *to++ = *p++;
        }
    }
    *to = 0;
    to = text;
    for (const char *p = text; *p; p++)
        if (!(*p == ' ' && (to == text || to[-1] == ' ')))
            *to++ = *p;
    while (to > text && to[-1] == ' ')
        to--;
    *to = 0;
}

/* Each fills a question whose fields are all zero. False: a field is missing or no memory; what was allocated stays in the question. */

static bool read_choices(const cJSON *list, eval_question *q)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item) || q->count == EVAL_MAX_CHOICES || !(q->choices[q->count] = joined((const char *[]){item->valuestring, NULL})))
            return false;
        q->count++;
    }
    return q->count > 1;
}

static bool read_hellaswag(const cJSON *o, eval_question *q)
{
    const char *label = text_field(o, "activity_label"), *a = text_field(o, "ctx_a"), *b = text_field(o, "ctx_b");
    if (!label || !a || !b || !read_choices(cJSON_GetObjectItemCaseSensitive(o, "endings"), q))
        return false;
    q->gold = index_field(o, "label", q->count);
    q->context = joined((const char *[]){label, ": ", a, " ", b, NULL});
    if (!q->context)
        return false;
    for (char *p = q->context + strlen(label) + 2 + strlen(a) + 1, *first = p; *p; p++) /* as Python's capitalize does with ASCII */
        *p = (char)(p == first ? toupper((unsigned char)*p) : tolower((unsigned char)*p));
    drop_markup(q->context);
    for (uint32_t i = 0; i < q->count; i++)
        drop_markup(q->choices[i]);
    return true;
}

static bool read_arc(const cJSON *o, eval_question *q)
{
    const char *query = text_field(o, "query");
    if (!query || !read_choices(cJSON_GetObjectItemCaseSensitive(o, "choices"), q))
        return false;
    q->gold = index_field(o, "gold", q->count);
    return (q->context = joined((const char *[]){query, "\nAnswer:", NULL})) != NULL;
}

static bool read_piqa(const cJSON *o, eval_question *q)
{
    const char *goal = text_field(o, "goal"), *choices[] = {text_field(o, "sol1"), text_field(o, "sol2")};
    for (; q->count < 2; q->count++)
        if (!choices[q->count] || !(q->choices[q->count] = joined((const char *[]){choices[q->count], NULL})))
            return false;
    return goal && (q->context = joined((const char *[]){"Question: ", goal, "\nAnswer:", NULL})) != NULL;
}

static bool read_lambada(const cJSON *o, eval_question *q)
{
    const char *text = text_field(o, "text"), *space = text ? strrchr(text, ' ') : NULL;
    if (!space || space == text || !space[1] || !(q->context = joined((const char *[]){text, NULL})))
        return false;
    q->context[space - text] = 0;
    q->count = 1;
    return (q->choices[0] = joined((const char *[]){space + 1, NULL})) != NULL;
}

static const struct task {
    const char *name;
    bool (*read)(const cJSON *o, eval_question *q);
    bool labels, choices;
    const char *fields; /* for messages */
} tasks[] = {
    {"hellaswag", read_hellaswag, false, true, "activity_label, ctx_a, ctx_b, endings and label"},
    {"arc", read_arc, false, true, "query, choices and gold"},
    {"piqa", read_piqa, true, true, "goal, sol1 and sol2, and labels of 0 or 1"},
    {"lambada", read_lambada, false, false, "text of several words"},
};
#define TASKS (sizeof tasks / sizeof tasks[0])

const char *eval_task_name(size_t index) { return index < TASKS ? tasks[index].name : NULL; }
bool eval_task_wants_labels(size_t index) { return tasks[index].labels; }
bool eval_task_has_choices(size_t index) { return tasks[index].choices; }

bool eval_task_find(const char *name, size_t *index)
{
    for (*index = 0; *index < TASKS; ++*index)
        if (strcmp(tasks[*index].name, name) == 0)
            return true;
    return false;
}

/* The next line that is not blank: its start, *end behind its last byte, *p behind its newline; counts lines. NULL: none. */
static const char *next_line(const char **p, const char *stop, const char **end, size_t *number)
{
    while (*p < stop) {
        const char *start = *p, *newline = memchr(start, '\n', (size_t)(stop - start));
        *end = newline ? newline : stop;
        *p = newline ? newline + 1 : stop;
        ++*number;
        for (const char *c = start; c < *end; c++)
            if (!isspace((unsigned char)*c))
                return start;
    }
    return NULL;
}

static void free_question(eval_question *q)
{
    infer_free(NULL, q->context);
    for (uint32_t i = 0; i < EVAL_MAX_CHOICES; i++)
        infer_free(NULL, q->choices[i]);
}

void eval_questions_free(eval_questions *q)
{
    for (size_t i = 0; i < q->count; i++)
        free_question(&q->list[i]);
    infer_free(NULL, q->list);
    *q = (eval_questions){0};
}

infer_status eval_questions_read(size_t task, const char *data, size_t bytes, const char *data_name, const char *labels, const char *labels_name,
                                 size_t limit, eval_questions *out, infer_error *err)
{
    const char *p = data, *end, *line, *label_at = labels, *label_end, *label;
    size_t number = 0, label_number = 0;
    eval_questions all = {0};
    infer_status s = INFER_OK;
    while (s == INFER_OK && all.count < limit && (line = next_line(&p, data + bytes, &end, &number)) != NULL) {
        cJSON *o = cJSON_ParseWithLength(line, (size_t)(end - line));
        eval_question q = {0};
        bool good = cJSON_IsObject(o) && tasks[task].read(o, &q);
        cJSON_Delete(o);
        if (good && labels) {
            label = next_line(&label_at, labels + strlen(labels), &label_end, &label_number);
            if (!label || label_end - label < 1 || label[0] < '0' || label[0] >= '0' + (int)q.count || (label_end - label > 1 && !isspace((unsigned char)label[1])))
                s = infer_fail(err, INFER_ERROR_FORMAT, "%s: line %zu: no label, expected 0..%u", labels_name, label_number, q.count - 1);
            else
                q.gold = (uint32_t)(label[0] - '0');
        }
        if (!good || q.gold >= q.count)
            s = infer_fail(err, INFER_ERROR_FORMAT, "%s: line %zu: expected an object with %s", data_name, number, tasks[task].fields);
        else if (s == INFER_OK && !infer_grow(NULL, &all.list, &all.cap, all.count + 1, sizeof *all.list))
            s = infer_fail_memory(err, (all.count + 1) * sizeof *all.list, "questions");
        if (s == INFER_OK)
            all.list[all.count++] = q;
        else
            free_question(&q);
    }
    if (s == INFER_OK && all.count == 0)
        s = infer_fail(err, INFER_ERROR_FORMAT, "%s: no questions", data_name);
    if (s != INFER_OK)
        eval_questions_free(&all);
    else
        *out = all;
    return s;
}

/* ---- asking ---- */

typedef struct choice_sum {
    const int32_t *ids;
    uint32_t vocab;
    double nll;
    bool greedy;
} choice_sum;

static infer_status add_row(void *user, size_t at, const float *logits, infer_error *err)
{
    choice_sum *c = user;
    double log_p = logits[c->ids[at]] - eval_log_sum(logits, c->vocab);
    if (!isfinite(log_p))
        return infer_fail(err, INFER_ERROR_FORMAT, "the model's logits are not all numbers");
    c->nll -= log_p;
    c->greedy &= infer_argmax(logits, c->vocab) == c->ids[at];
    return INFER_OK;
}

typedef struct sequences {
    int32_t *ids[EVAL_MAX_CHOICES];
    size_t n[EVAL_MAX_CHOICES];
    size_t context; /* tokens of the context, 1..; scored are those behind */
    size_t longest;
} sequences;

static infer_status tokenize_all(const infer_model *model, const eval_question *q, sequences *all, infer_error *err)
{
    int32_t *ids = NULL;
    infer_status s = eval_tokenize(model, q->context, strlen(q->context), &ids, &all->context, err);
    infer_free(NULL, ids);
    for (uint32_t i = 0; s == INFER_OK && i < q->count; i++) {
        char *text = joined((const char *[]){q->context, " ", q->choices[i], NULL});
        if (!text)
            return infer_fail_memory(err, strlen(q->context), "question");
        s = eval_tokenize(model, text, strlen(text), &all->ids[i], &all->n[i], err);
        infer_free(NULL, text);
        all->longest = all->n[i] > all->longest ? all->n[i] : all->longest;
        /* A merge across the border may leave the choice no token of its own: its last one is scored. */
        if (s == INFER_OK && all->n[i] <= all->context)
            all->context = all->n[i] - 1;
    }
    if (s == INFER_OK && (all->context == 0 || all->context > all->longest))
        s = infer_fail(err, INFER_ERROR_ARGUMENT, "a question without a token before its choices");
    return s;
}

static infer_status score_choices(const infer_model *model, infer_session *session, uint32_t rows, const eval_question *q, const sequences *all,
                                  size_t drop, choice_sum *sums, infer_error *err)
{
    size_t first = all->context, shared = drop;
    infer_status s = infer_session_rewind(session, 0, err);
    for (bool same = true; same && shared + 1 < first; shared += same)
        for (uint32_t i = 1; i < q->count; i++)
            same &= all->ids[i][shared] == all->ids[0][shared];
    if (s == INFER_OK && shared > drop)
        s = infer_session_eval(session, all->ids[0] + drop, shared - drop, INFER_LOGITS_NONE, err);
    for (uint32_t i = 0; s == INFER_OK && i < q->count; i++) {
        sums[i] = (choice_sum){all->ids[i], infer_model_vocab_size(model), 0, true};
        s = eval_rows(session, rows, all->ids[i], shared, first, all->n[i], add_row, &sums[i], err);
        if (s == INFER_OK)
            s = infer_session_rewind(session, (uint32_t)(shared - drop), err);
    }
    return s;
}

/* Whether the right choice has the smallest of all sums, each divided by its length; the first of equal ones wins. */
static bool right_by(const eval_question *q, const choice_sum *sums, const double *lengths)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < q->count; i++)
        if (sums[i].nll / lengths[i] < sums[best].nll / lengths[best])
            best = i;
    return best == q->gold;
}

infer_status eval_ask(const infer_model *model, infer_session *session, uint32_t rows, const eval_question *q, eval_answer *out, infer_error *err)
{
    sequences all = {0};
    choice_sum sums[EVAL_MAX_CHOICES];
    double ones[EVAL_MAX_CHOICES], bytes[EVAL_MAX_CHOICES], tokens[EVAL_MAX_CHOICES];
    size_t context = infer_session_context(session), drop;
    infer_status s = tokenize_all(model, q, &all, err);
    memset(out, 0, sizeof *out); /* padding too: it is stored and hashed */
    if (s == INFER_OK) {
        drop = all.longest - 1 > context ? all.longest - 1 - context : 0;
        out->too_long = drop >= all.context;
        if (!out->too_long)
            s = score_choices(model, session, rows, q, &all, drop, sums, err);
    }
    if (s == INFER_OK && !out->too_long) {
        for (uint32_t i = 0; i < q->count; i++) {
            ones[i] = 1;
            bytes[i] = fmax((double)strlen(q->choices[i]), 1);
            tokens[i] = (double)(all.n[i] - all.context);
        }
        out->nll = sums[q->gold].nll;
        out->tokens = (uint32_t)(all.n[q->gold] - all.context);
        out->right = q->count == 1 ? sums[0].greedy : right_by(q, sums, ones);
        out->right_per_byte = right_by(q, sums, bytes);
        out->right_per_token = right_by(q, sums, tokens);
    }
    for (uint32_t i = 0; i < q->count; i++)
        infer_free(NULL, all.ids[i]);
    return s;
}

eval_task_report eval_answers_summarize(const eval_answer *answers, size_t n)
{
    eval_sums acc = {0}, per_byte = {0}, per_token = {0}, nll = {0};
    eval_task_report r = {0};
    for (size_t i = 0; i < n; i++) {
        if (answers[i].too_long) {
            r.too_long++;
            continue;
        }
        eval_sums_add(&acc, answers[i].right, 1);
        eval_sums_add(&per_byte, answers[i].right_per_byte, 1);
        eval_sums_add(&per_token, answers[i].right_per_token, 1);
        eval_sums_add(&nll, answers[i].nll, 1);
    }
    r.questions = n - r.too_long;
    r.acc = eval_sums_mean(&acc);
    r.acc_per_byte = eval_sums_mean(&per_byte);
    r.acc_per_token = eval_sums_mean(&per_token);
    r.nll = eval_sums_mean(&nll);
    r.perplexity = (eval_estimate){exp(r.nll.mean), exp(r.nll.mean) * r.nll.se};
    return r;
}
