/* Questions with given answers, from files of one JSON object a line. */
#ifndef INFER_TOOLS_EVAL_TASKS_H
#define INFER_TOOLS_EVAL_TASKS_H

#include "core/core.h"
#include "score.h"

#define EVAL_MAX_CHOICES 16u

typedef struct eval_question {
    char *context;                   /* allocated */
    char *choices[EVAL_MAX_CHOICES]; /* allocated; one for LAMBADA: the last word. Each stands behind the context and a space */
    uint32_t count, gold;
} eval_question;

typedef struct eval_questions {
    eval_question *list;
    size_t count, cap;
} eval_questions;

/* The name of a task that there is ("hellaswag"), NULL beyond the last. */
const char *eval_task_name(size_t index);
/* Index of a name; false for others. */
bool eval_task_find(const char *name, size_t *index);
bool eval_task_wants_labels(size_t index);
/* Whether the questions have choices (LAMBADA has none). */
bool eval_task_has_choices(size_t index);

/* Reads at most `limit` questions. `labels` (NULL: none): a whole number a line. `data_name` and `labels_name` are for messages. FORMAT names
 * the line; MEMORY. On failure nothing is to be freed. */
infer_status eval_questions_read(size_t task, const char *data, size_t bytes, const char *data_name, const char *labels, const char *labels_name,
                                 size_t limit, eval_questions *out, infer_error *err);
void eval_questions_free(eval_questions *q);

/* What is kept of a question. */
typedef struct eval_answer {
    double nll;        /* of the right choice, nats */
    uint32_t tokens;   /* of it */
    uint8_t right;     /* choices: the right one has the largest probability; LAMBADA: its tokens are each the most likely */
    uint8_t right_per_byte, right_per_token;
    uint8_t too_long;  /* a choice does not fit the context: not answered */
} eval_answer;

/* Asks one question. The probability of a choice is that of the tokens behind the context's, of the text context, space, choice; what the
 * choices' tokens have in common is evaluated once. Where it all is longer than the session's context, the beginning is left out. */
infer_status eval_ask(const infer_model *model, infer_session *session, uint32_t rows, const eval_question *q, eval_answer *out, infer_error *err);

typedef struct eval_task_report {
    size_t questions, too_long; /* answered, and not */
    eval_estimate acc, acc_per_byte, acc_per_token, nll, perplexity; /* nll: of a whole right choice */
} eval_task_report;
eval_task_report eval_answers_summarize(const eval_answer *answers, size_t n);

#endif
