/* The teacher file: a recorded run of a model over a text, to compare other models with. SPEC.md describes its bytes. */
#ifndef INFER_TOOLS_EVAL_TEACHER_H
#define INFER_TOOLS_EVAL_TEACHER_H

#include "core/core.h"
#include "score.h"

#define EVAL_TEACHER_MAX_NAME 4096u

/* What a model was run on: two runs can be compared only when all of it is the same. */
typedef struct eval_setting {
    uint32_t vocab, window, stride;
    bool documents;      /* the text was split at a separator */
    uint64_t tokens;     /* counted ones */
    uint64_t ids_hash;   /* XXH3 of all windows' ids */
    uint64_t vocab_hash; /* XXH3 of all tokens' bytes */
} eval_setting;

/* Bytes of one token's record: depends on the vocabulary only. vocab >= 1. */
size_t eval_record_bytes(uint32_t vocab);
/* log_p: natural logarithm of the probability that the distribution gives to the token that came. */
void eval_record_put(uint8_t *record, uint32_t vocab, const eval_distribution *d, double log_p);

/* Writes beside `path` and renames: an existing file is replaced whole (with `overwrite`; else it is an error) or left as it was. records:
 * setting->tokens of them, `stride_bytes` apart. IO, MEMORY, ARGUMENT (name longer than EVAL_TEACHER_MAX_NAME). */
infer_status eval_teacher_write(const char *path, const eval_setting *setting, const char *name, const uint8_t *records, size_t stride_bytes,
                                bool overwrite, infer_error *err);

typedef struct eval_teacher {
    infer_mapping map;
    const char *path; /* borrowed */
    eval_setting setting;
    uint64_t hash;    /* of the file's content */
    const char *name; /* of the recorded model, in the map; not NUL-terminated */
    uint32_t name_bytes;
    const uint8_t *records;
} eval_teacher;

/* Maps the file and checks all of it: sizes, hashes, every id and number. `path` must outlive the teacher. IO, FORMAT, CORRUPT, UNSUPPORTED
 * (version). On failure nothing is to be closed. */
infer_status eval_teacher_open(const char *path, eval_teacher *out, infer_error *err);
void eval_teacher_close(eval_teacher *t);
/* ARGUMENT, and a line that says what differs, unless the teacher ran on the same. */
infer_status eval_teacher_check(const eval_teacher *t, const eval_setting *setting, infer_error *err);
/* Record `i` < setting.tokens; *log_p as in eval_record_put. */
void eval_teacher_record(const eval_teacher *t, uint64_t i, eval_distribution *d, double *log_p);

#endif
