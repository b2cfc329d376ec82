/* A text in windows of tokens, and what a model says of them. */
#ifndef INFER_TOOLS_EVAL_TEXT_H
#define INFER_TOOLS_EVAL_TEXT_H

#include "core/core.h"
#include "teacher.h"

/* Inputs ids[first .. first + inputs) are evaluated from an empty context; each predicts the id behind it. The first `skip` predictions are only
 * context; the others count. */
typedef struct eval_window {
    size_t first;
    uint32_t inputs, skip;
} eval_window;

typedef struct eval_text {
    int32_t *ids; /* of all windows, one behind the other */
    size_t id_count, id_cap;
    eval_window *windows;
    size_t window_count, window_cap;
    uint32_t *counted; /* [window_count] = inputs - skip */
    size_t documents;
    uint64_t bytes;    /* of the documents */
    uint64_t tokens;   /* sum of counted */
} eval_text;

/* Cuts a text. Without `separator` it is one document, and every window starts with the begin token (where the model has one) in place
 * of the token before; with it, lines that are just `separator` divide documents, newlines around them are dropped, and only a document's
 * first window starts with the begin token, later ones with the token before. A document's tokens are all counted once, except its
 * first where there is no begin token. Window k of a document covers `window` predictions from k x stride on and counts those that window
 * k - 1 does not cover. 1 <= stride <= window. MEMORY, UNSUPPORTED (no tokenizer). On failure nothing is to be freed. */
infer_status eval_text_cut(const infer_model *model, const char *text, size_t bytes, const char *separator, uint32_t window, uint32_t stride,
                           eval_text *out, infer_error *err);
/* Drops all but the first `windows` >= 1; bytes become fewer as tokens do. */
void eval_text_limit(eval_text *t, size_t windows);
void eval_text_free(eval_text *t);

/* Token ids of a text, freed with infer_free. */
infer_status eval_tokenize(const infer_model *model, const char *text, size_t bytes, int32_t **ids, size_t *count, infer_error *err);
/* Hash of all tokens' texts: models with the same one can be compared. */
uint64_t eval_vocab_hash(const infer_model *model);

/* Receives the row of logits that predicts ids[at]. */
typedef infer_status eval_row_fn(void *user, size_t at, const float *logits, infer_error *err);
/* Evaluates ids[from .. n - 1) behind the session's position, and hands out the rows that predict ids[first .. n), at most `rows` (the
 * session's logit_rows) at once; no other logits are computed. from < first < n. */
infer_status eval_rows(infer_session *session, uint32_t rows, const int32_t *ids, size_t from, size_t first, size_t n, eval_row_fn *row,
                       void *user, infer_error *err);

/* What is kept of a counted token; a record of the teacher file follows when one is made. */
typedef struct eval_token {
    double nll;      /* nats */
    float kl;        /* nats; 0 without a teacher */
    uint32_t agrees; /* 1: the most likely token is the teacher's */
} eval_token;

typedef struct eval_text_run {
    infer_session *session;
    uint32_t vocab, rows;
    const eval_text *text;
    const eval_teacher *teacher; /* NULL: none */
    bool record;
} eval_text_run;

/* Bytes of a counted token in the results. */
size_t eval_token_bytes(const eval_text_run *run);
/* Window `w` to its counted tokens' results at `out`. `token`: the number of counted tokens before it. CANCELLED, FORMAT (logits that are not
 * numbers), and what infer_session_eval returns. */
infer_status eval_text_window(const eval_text_run *run, size_t w, uint64_t token, uint8_t *out, infer_error *err);

typedef struct eval_text_report {
    eval_estimate nll, perplexity, bits_per_byte;
    eval_estimate kl, top1, delta_nll; /* with a teacher */
    float kl_median, kl_p99;
} eval_text_report;
/* data: results of all windows. MEMORY. */
infer_status eval_text_summarize(const eval_text_run *run, const uint8_t *data, eval_text_report *out, infer_error *err);

#endif
