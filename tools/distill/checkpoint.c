/*
 * A checkpoint, of the machine's own byte order: it goes on where it was made.
 *   head: magic, identity, step, tokens, windows written, numbers of parameters, records and kept tokens, sums since the last record, time and energy
 *   parameters, both moments, f32; kept windows, int32; records
 *   XXH3 of all of it
 */
#include "trainer_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

typedef struct head {
    char magic[8];
    uint64_t identity, step, tokens, written_count, params, records, kept;
    uint64_t sum_steps;
    double sum_loss;
    distill_losses sum;
    double spent_s, spent_uj;
} head;

static const char magic[8] = {'d', 'i', 's', 't', 'i', 'l', 'l', '2'};

/* Tokens of the ring that are in use. */
static uint64_t kept_tokens(const distill_trainer *t, uint64_t written_count)
{
    uint64_t ring = distill_ring(&t->set);
    return (written_count < ring ? written_count : ring) * ((uint64_t)t->set.window + 1);
}

static bool put(FILE *f, XXH3_state_t *hash, const void *data, size_t bytes)
{
    XXH3_64bits_update(hash, data, bytes);
    return bytes == 0 || fwrite(data, 1, bytes, f) == bytes;
}

infer_status distill_checkpoint_save(const distill_trainer *t, const char *path, double spent_s, double spent_uj, infer_error *err)
{
    size_t name = strlen(path) + 5, params = t->student->params * sizeof(float);
    uint64_t kept = kept_tokens(t, t->written_count), sum;
    head h = {.identity = t->identity, .step = t->step, .tokens = t->tokens, .written_count = t->written_count, .params = t->student->params,
              .records = t->record_count, .kept = kept, .sum_steps = t->sum_steps, .sum_loss = t->sum_loss, .sum = t->sum,
              .spent_s = spent_s, .spent_uj = spent_uj};
    char *beside = infer_alloc(NULL, name);
    XXH3_state_t *hash = XXH3_createState();
    infer_status status = INFER_OK;
    FILE *f;
    bool good;

    memcpy(h.magic, magic, sizeof magic);
    if (!beside || !hash) {
        infer_free(NULL, beside);
        XXH3_freeState(hash);
        return infer_fail_memory(err, name, "checkpoint");
    }
    snprintf(beside, name, "%s.new", path);
    f = fopen(beside, "wb");
    XXH3_64bits_reset(hash);
    good = f && put(f, hash, &h, sizeof h) && put(f, hash, t->student->param, params) && put(f, hash, t->moment1, params) &&
           put(f, hash, t->moment2, params) && put(f, hash, t->written, (size_t)kept * sizeof *t->written) &&
           put(f, hash, t->records, t->record_count * sizeof *t->records);
    sum = XXH3_64bits_digest(hash);
    good = good && fwrite(&sum, sizeof sum, 1, f) == 1 && fflush(f) == 0 && fsync(fileno(f)) == 0;
    if (f && fclose(f) != 0)
        good = false;
    if (!good || rename(beside, path) != 0) {
        status = infer_fail(err, INFER_ERROR_IO, "checkpoint %s: %s", path, strerror(errno));
        if (f)
            unlink(beside);
    }
    XXH3_freeState(hash);
    infer_free(NULL, beside);
    return status;
}

infer_status distill_checkpoint_load(distill_trainer *t, const char *path, double *spent_s, double *spent_uj, infer_error *err)
{
    infer_mapping map;
    infer_status status = infer_map_file(path, &map, err);
    size_t params = t->student->params * sizeof(float), expected, at = sizeof(head);
    distill_record *records = NULL;
    uint64_t sum;
    head h;

    if (status != INFER_OK)
        return status;
    if (map.size < sizeof h + sizeof sum || memcmp(map.data, magic, sizeof magic) != 0) {
        status = infer_fail(err, INFER_ERROR_FORMAT, "%s: not a checkpoint of this version", path);
        goto end;
    }
    memcpy(&h, map.data, sizeof h);
    memcpy(&sum, map.data + map.size - sizeof sum, sizeof sum);
    if (sum != XXH3_64bits(map.data, map.size - sizeof sum)) {
        status = infer_fail(err, INFER_ERROR_CORRUPT, "%s: hash at its end: found %016" PRIx64 ", expected %016" PRIx64, path, sum,
                            (uint64_t)XXH3_64bits(map.data, map.size - sizeof sum));
        goto end;
    }
    if (h.identity != t->identity || h.params != t->student->params) {
        status = infer_fail(err, INFER_ERROR_ARGUMENT, "%s: of another run: its settings, student, teacher or text differ from these", path);
        goto end;
    }
    expected = sizeof h + 3 * params + (size_t)kept_tokens(t, h.written_count) * sizeof *t->written;
    if (h.step > UINT32_MAX || h.sum_steps > UINT32_MAX || h.kept != kept_tokens(t, h.written_count) || h.records > map.size / sizeof *records ||
        map.size != expected + (size_t)h.records * sizeof *records + sizeof sum) {
        status = infer_fail(err, INFER_ERROR_FORMAT, "%s: %zu bytes, expected %zu and its records", path, map.size, expected);
        goto end;
    }
    for (size_t i = 0; i < h.kept; i++) {
        int32_t id;
        memcpy(&id, map.data + at + 3 * params + i * sizeof id, sizeof id);
        if (id < 0 || (uint32_t)id >= t->student->config.vocab) {
            status = infer_fail(err, INFER_ERROR_FORMAT, "%s: token %zu is %" PRId32 ", expected less than %" PRIu32, path, i, id, t->student->config.vocab);
            goto end;
        }
    }
    if (h.records && !(records = infer_alloc_array(NULL, (size_t)h.records, sizeof *records))) {
        status = infer_fail_memory(err, (size_t)h.records * sizeof *records, "records");
        goto end;
    }
    memcpy(t->student->param, map.data + at, params);
    memcpy(t->moment1, map.data + at + params, params);
    memcpy(t->moment2, map.data + at + 2 * params, params);
    if (h.kept)
        memcpy(t->written, map.data + at + 3 * params, (size_t)h.kept * sizeof *t->written);
    if (records)
        memcpy(records, map.data + expected, (size_t)h.records * sizeof *records);
    infer_free(NULL, t->records);
    t->records = records;
    t->record_count = t->record_cap = (size_t)h.records;
    t->step = (uint32_t)h.step;
    t->tokens = h.tokens;
    t->written_count = h.written_count;
    t->sum_steps = (uint32_t)h.sum_steps;
    t->sum_loss = h.sum_loss;
    t->sum = h.sum;
    *spent_s = h.spent_s;
    *spent_uj = h.spent_uj;
    for (size_t i = 0; i < t->student->tensor_count; i++)
        distill_student_refresh(t->student, i);
end:
    infer_unmap(&map);
    return status;
}
