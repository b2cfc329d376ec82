#define XXH_STATIC_LINKING_ONLY /* the size of XXH3_state_t: XXH3_createState would call malloc */
#include "teacher.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC "INFTEACH"
#define VERSION 1u
#define HEADER_BYTES 96u
#define HASHED_BYTES 88u   /* the header's own hash lies behind them */
#define LOG_STEPS 2048.0   /* log-probabilities are stored in steps of 1/2048, from 0 down to -32 */

static uint32_t top_of(uint32_t vocab) { return vocab < EVAL_TOP ? vocab : EVAL_TOP; }
static uint32_t id_bytes_of(uint32_t vocab) { return vocab <= 65536 ? 2 : 4; }

size_t eval_record_bytes(uint32_t vocab) { return 8 + (size_t)top_of(vocab) * (id_bytes_of(vocab) + 2); }

static void put_f32(void *p, float v) { memcpy(p, &v, sizeof v); }

void eval_record_put(uint8_t *record, uint32_t vocab, const eval_distribution *d, double log_p)
{
    uint8_t *ids = record + 8, *codes = ids + (size_t)d->top * id_bytes_of(vocab);
    put_f32(record, (float)fmin(log_p, 0)); /* rounding may leave a certain token a hair above 1 */
    put_f32(record + 4, (float)fmin(d->tail, 1));
    for (uint32_t k = 0; k < d->top; k++) {
        if (id_bytes_of(vocab) == 2)
            put_u16(ids + 2 * k, (uint16_t)d->ids[k]);
        else
            put_u32(ids + 4 * k, (uint32_t)d->ids[k]);
        put_u16(codes + 2 * k, (uint16_t)fmin(fmax(round(-d->log_p[k] * LOG_STEPS), 0), 65535));
    }
}

void eval_teacher_record(const eval_teacher *t, uint64_t i, eval_distribution *d, double *log_p)
{
    uint32_t vocab = t->setting.vocab, wide = id_bytes_of(vocab);
    const uint8_t *record = t->records + i * eval_record_bytes(vocab), *ids = record + 8, *codes;
    d->top = top_of(vocab);
    codes = ids + (size_t)d->top * wide;
    *log_p = get_f32(record);
    d->tail = get_f32(record + 4);
    for (uint32_t k = 0; k < d->top; k++) {
        d->ids[k] = (int32_t)(wide == 2 ? get_u16(ids + 2 * k) : get_u32(ids + 4 * k));
        d->log_p[k] = -get_u16(codes + 2 * k) / LOG_STEPS;
    }
}

/* ---- writing ---- */

static void put_header(uint8_t h[HEADER_BYTES], const eval_setting *s, uint32_t name_bytes, uint64_t content_hash)
{
    memset(h, 0, HEADER_BYTES);
    memcpy(h, MAGIC, 8);
    put_u32(h + 8, VERSION);
    put_u32(h + 12, s->vocab);
    put_u32(h + 16, s->window);
    put_u32(h + 20, s->stride);
    put_u32(h + 24, s->documents);
    put_u32(h + 28, top_of(s->vocab));
    put_u32(h + 32, (uint32_t)eval_record_bytes(s->vocab));
    put_u32(h + 36, name_bytes);
    put_u64(h + 40, s->tokens);
    put_u64(h + 48, s->ids_hash);
    put_u64(h + 56, s->vocab_hash);
    put_u64(h + 64, content_hash);
    put_u64(h + HASHED_BYTES, XXH3_64bits(h, HASHED_BYTES));
}

/* The hash is made while writing, so the header comes last, over zeros. */
static bool write_all(FILE *f, const eval_setting *s, const char *name, uint32_t name_bytes, const uint8_t *records, size_t stride_bytes,
                      XXH3_state_t *hash)
{
    uint8_t header[HEADER_BYTES] = {0};
    size_t bytes = eval_record_bytes(s->vocab);
    bool ok = fwrite(header, HEADER_BYTES, 1, f) == 1 && fwrite(name, 1, name_bytes, f) == name_bytes;
    XXH3_64bits_reset(hash);
    XXH3_64bits_update(hash, name, name_bytes);
    for (uint64_t i = 0; ok && i < s->tokens; i++) {
        XXH3_64bits_update(hash, records + i * stride_bytes, bytes);
        ok = fwrite(records + i * stride_bytes, bytes, 1, f) == 1;
    }
    put_header(header, s, name_bytes, XXH3_64bits_digest(hash));
    return ok && fseek(f, 0, SEEK_SET) == 0 && fwrite(header, HEADER_BYTES, 1, f) == 1 && fflush(f) == 0 && fsync(fileno(f)) == 0;
}

infer_status eval_teacher_write(const char *path, const eval_setting *setting, const char *name, const uint8_t *records, size_t stride_bytes,
                                bool overwrite, infer_error *err)
{
    size_t name_bytes = strlen(name), path_bytes = strlen(path) + 32;
    XXH3_state_t *hash = infer_alloc(NULL, sizeof *hash);
    char *temporary = infer_alloc(NULL, path_bytes);
    infer_status s = INFER_OK;
    FILE *f = NULL;
    if (name_bytes > EVAL_TEACHER_MAX_NAME) {
        s = infer_fail(err, INFER_ERROR_ARGUMENT, "%s: name of %zu bytes, expected at most %u", path, name_bytes, EVAL_TEACHER_MAX_NAME);
    } else if (!hash || !temporary) {
        s = infer_fail_memory(err, path_bytes, "teacher file");
    } else if (!overwrite && access(path, F_OK) == 0) {
        s = infer_fail(err, INFER_ERROR_IO, "%s: exists already", path);
    } else {
        snprintf(temporary, path_bytes, "%s.%ld.tmp", path, (long)getpid());
        f = fopen(temporary, "wbxe");
        if (!f)
            s = infer_fail(err, INFER_ERROR_IO, "%s: %s", temporary, strerror(errno));
    }
    if (f) {
        bool ok = write_all(f, setting, name, (uint32_t)name_bytes, records, stride_bytes, hash);
        ok = fclose(f) == 0 && ok;
        if (!ok || (overwrite ? rename(temporary, path) : link(temporary, path)) != 0)
            s = infer_fail(err, INFER_ERROR_IO, "%s: cannot write: %s", path, strerror(errno));
        if (s != INFER_OK || !overwrite)
            unlink(temporary);
    }
    infer_free(NULL, temporary);
    infer_free(NULL, hash);
    return s;
}

/* ---- reading ---- */

static infer_status bad(const eval_teacher *t, infer_status status, const char *what, uint64_t found, uint64_t expected, infer_error *err)
{
    return infer_fail(err, status, "%s: %s: found %" PRIu64 ", expected %" PRIu64, t->path, what, found, expected);
}

static infer_status check_header(eval_teacher *t, infer_error *err)
{
    const uint8_t *h = t->map.data;
    eval_setting *s = &t->setting;
    uint64_t size;
    if (t->map.size < HEADER_BYTES)
        return bad(t, INFER_ERROR_FORMAT, "bytes of a teacher file", t->map.size, HEADER_BYTES, err);
    if (memcmp(h, MAGIC, 8) != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: not a teacher file: it does not start with " MAGIC, t->path);
    if (get_u32(h + 8) != VERSION)
        return bad(t, INFER_ERROR_UNSUPPORTED, "teacher file version", get_u32(h + 8), VERSION, err);
    if (get_u64(h + HASHED_BYTES) != XXH3_64bits(h, HASHED_BYTES))
        return infer_fail(err, INFER_ERROR_CORRUPT, "%s: the header's hash differs from the stored one", t->path);
    *s = (eval_setting){get_u32(h + 12), get_u32(h + 16), get_u32(h + 20), get_u32(h + 24) != 0, get_u64(h + 40), get_u64(h + 48), get_u64(h + 56)};
    t->name_bytes = get_u32(h + 36);
    if (s->vocab == 0 || s->vocab > INT32_MAX)
        return bad(t, INFER_ERROR_FORMAT, "vocabulary", s->vocab, INT32_MAX, err);
    if (get_u32(h + 24) > 1)
        return bad(t, INFER_ERROR_FORMAT, "documents", get_u32(h + 24), 1, err);
    if (get_u32(h + 28) != top_of(s->vocab))
        return bad(t, INFER_ERROR_FORMAT, "tokens a record", get_u32(h + 28), top_of(s->vocab), err);
    if (get_u32(h + 32) != eval_record_bytes(s->vocab))
        return bad(t, INFER_ERROR_FORMAT, "bytes a record", get_u32(h + 32), eval_record_bytes(s->vocab), err);
    if (t->name_bytes > EVAL_TEACHER_MAX_NAME)
        return bad(t, INFER_ERROR_FORMAT, "bytes of the model's name", t->name_bytes, EVAL_TEACHER_MAX_NAME, err);
    for (size_t i = 72; i < HASHED_BYTES; i++)
        if (h[i])
            return bad(t, INFER_ERROR_FORMAT, "a reserved byte", h[i], 0, err);
    if (infer_mul_overflows(s->tokens, eval_record_bytes(s->vocab), &size) || infer_add_overflows(size, HEADER_BYTES + t->name_bytes, &size) ||
        size != t->map.size)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: found %zu bytes, which is not what %" PRIu64 " records need", t->path, t->map.size, s->tokens);
    t->name = (const char *)h + HEADER_BYTES;
    t->records = h + HEADER_BYTES + t->name_bytes;
    t->hash = get_u64(h + 64);
    if (t->hash != XXH3_64bits(t->name, t->map.size - HEADER_BYTES))
        return infer_fail(err, INFER_ERROR_CORRUPT, "%s: the content's hash differs from the stored one", t->path);
    return INFER_OK;
}

/* A right hash says that the bytes are what somebody wrote, not that they mean something. */
static infer_status check_records(const eval_teacher *t, infer_error *err)
{
    eval_distribution d;
    double log_p;
    for (uint64_t i = 0; i < t->setting.tokens; i++) {
        eval_teacher_record(t, i, &d, &log_p);
        if (!(log_p <= 0 && isfinite(log_p) && d.tail >= 0 && d.tail <= 1))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: record %" PRIu64 ": found log-probability %g and tail %g, expected at most 0 and 0..1",
                              t->path, i, log_p, d.tail);
        for (uint32_t k = 0; k < d.top; k++) {
            if ((uint32_t)d.ids[k] >= t->setting.vocab)
                return infer_fail(err, INFER_ERROR_FORMAT, "%s: record %" PRIu64 ": found id %u, expected less than %u", t->path, i,
                                  (uint32_t)d.ids[k], t->setting.vocab);
            if (k && d.log_p[k] > d.log_p[k - 1])
                return infer_fail(err, INFER_ERROR_FORMAT, "%s: record %" PRIu64 ": probabilities do not fall", t->path, i);
        }
    }
    return INFER_OK;
}

infer_status eval_teacher_open(const char *path, eval_teacher *out, infer_error *err)
{
    eval_teacher t = {.path = path};
    infer_status s = infer_map_file(path, &t.map, err);
    if (s != INFER_OK)
        return s;
    s = check_header(&t, err);
    if (s == INFER_OK)
        s = check_records(&t, err);
    if (s != INFER_OK)
        infer_unmap(&t.map);
    else
        *out = t;
    return s;
}

void eval_teacher_close(eval_teacher *t)
{
    if (t->records)
        infer_unmap(&t->map);
    *t = (eval_teacher){0};
}

infer_status eval_teacher_check(const eval_teacher *t, const eval_setting *setting, infer_error *err)
{
    const eval_setting *a = &t->setting, *b = setting;
    const struct {
        const char *what;
        uint64_t recorded, now;
    } same[] = {
        {"tokens in the vocabulary", a->vocab, b->vocab}, {"the vocabulary's hash", a->vocab_hash, b->vocab_hash},
        {"window", a->window, b->window},                 {"stride", a->stride, b->stride},
        {"split in documents", a->documents, b->documents}, {"counted tokens", a->tokens, b->tokens},
        {"the text's hash", a->ids_hash, b->ids_hash},
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (same[i].recorded != same[i].now)
            return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: recorded on something else: %s: found %" PRIu64 ", expected %" PRIu64, t->path, same[i].what,
                              same[i].recorded, same[i].now);
    return INFER_OK;
}
