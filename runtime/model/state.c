/*
 * What a session has read, as bytes: its KV cache up to its position. Little-endian:
 *    0 magic, 8 bytes           8 u32 version          12 u32 bytes of this header   16 u64 bytes in all
 *   24 u64 hash of the model   32 u32 type of the KV   36 u32 position               40 u32 layers, u32 KV heads, u32 head_dim, u32 zero
 *   56 u64 XXH3 of what follows the header, seeded with that of the header's first 56 bytes
 *   64 [layers][k, v][KV heads][panels of 16 positions], as the cache has them (kernels.h); positions of the last panel that hold nothing
 * are zeros. The model's hash is that of its file's header, which covers all of the file. A state file may come from anywhere: every size
 * is computed, not believed, and only numbers that the cache could hold are taken.
 */
#include "attention.h"
#include "bytes.h"
#include "model/session.h"

#include <string.h>
#include <xxhash.h>

#define STATE_MAGIC "\x89INFKV\r\n"
#define STATE_VERSION 1u

enum {
    AT_VERSION = 8,
    AT_HEADER = 12,
    AT_BYTES = 16,
    AT_MODEL = 24,
    AT_TYPE = 32,
    AT_POSITION = 36,
    AT_LAYERS = 40,
    AT_KV_HEADS = 44,
    AT_HEAD_DIM = 48,
    AT_ZERO = 52,
    AT_HASH = 56,
    STATE_HEADER = 64
};

/* ---- the cache as panels ---- */

/* The cache is an array of heads (of layers, of k and v), and a head an array of panels. */
static size_t head_count(const infer_plan *p) { return (size_t)p->graph.layers * 2 * p->graph.kv_heads; }
static size_t panel_bytes(const infer_plan *p) { return (size_t)infer_cache_bytes(p->kv_type, 1, 16, p->graph.head_dim); }
static size_t used_bytes(const infer_plan *p, uint32_t position) { return infer_ceil_div(position, 16) * panel_bytes(p); } /* of a head */
static uint8_t *head_at(const infer_plan *p, size_t head) { return p->cache + head * (p->positions / 16) * panel_bytes(p); }
static bool is_values(const infer_plan *p, size_t head) { return head / p->graph.kv_heads % 2; }

/* Zeros for the panel's positions from..15: what a session forgot is nobody's business. */
static void clear_positions(const infer_plan *p, bool values, uint8_t *panel, uint32_t from)
{
    uint32_t dim = p->graph.head_dim, left = 16 - from;
    size_t element = p->kv_type == INFER_QTYPE_F16 ? 2 : 4;
    if (p->kv_type == INFER_QTYPE_Q8G32) {
        for (uint32_t g = 0; g < infer_cache_groups(dim); g++) {
            uint8_t *group = panel + (size_t)g * INFER_TILE_Q8_GROUP_BYTES, *codes = group + INFER_TILE_SCALE_BYTES;
            memset(group + 2 * from, 0, 2 * left);
            if (values)
                memset(codes + (size_t)32 * from, 0, (size_t)32 * left);
            for (uint32_t tile = 0; !values && tile < 8; tile++)
                memset(codes + tile * INFER_TILE_BYTES + 4 * from, 0, 4 * left);
        }
    } else if (values) {
        memset(panel + from * dim * element, 0, left * dim * element);
    } else {
        for (uint32_t d = 0; d < dim; d++)
            memset(panel + (d * 16 + from) * element, 0, left * element);
    }
}

static bool halves_finite(const uint8_t *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= (get_u16(x + 2 * i) & 0x7c00) == 0x7c00;
    return !bad;
}

/* Whether `bytes` of panels hold only what the kernels store: finite numbers, codes from -127. */
static bool numbers_ok(const infer_plan *p, const uint8_t *x, size_t bytes)
{
    uint32_t bad = 0;
    if (p->kv_type == INFER_QTYPE_F16)
        return halves_finite(x, bytes / 2);
    if (p->kv_type == INFER_QTYPE_F32) {
        for (size_t i = 0; i < bytes / 4; i++)
            bad |= (get_u32(x + 4 * i) & 0x7f800000u) == 0x7f800000u;
        return !bad;
    }
    for (size_t g = 0; g < bytes; g += INFER_TILE_Q8_GROUP_BYTES) {
        bad |= !halves_finite(x + g, 16);
        for (size_t i = INFER_TILE_SCALE_BYTES; i < INFER_TILE_Q8_GROUP_BYTES; i++)
            bad |= x[g + i] == 0x80;
    }
    return !bad;
}

/* ---- save ---- */

static uint64_t state_hash(const uint8_t *state, size_t bytes)
{
    return XXH3_64bits_withSeed(state + STATE_HEADER, bytes - STATE_HEADER, XXH3_64bits(state, AT_HASH));
}

size_t infer_session_state_bytes(const infer_session *session)
{
    return STATE_HEADER + head_count(session->plan) * used_bytes(session->plan, session->position);
}

infer_status infer_session_save(const infer_session *session, void *state, size_t bytes, infer_error *err)
{
    const infer_plan *p;
    uint8_t *out = state, *at;
    size_t need, each;
    infer_status s;
    if (!state)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_save: state is NULL");
    if ((s = infer_session_is_free(session, "infer_session_save", err)) != INFER_OK)
        return s;
    need = infer_session_state_bytes(session);
    if (bytes != need)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_save: found room for %zu bytes, expected %zu", bytes, need);
    p = session->plan;
    each = used_bytes(p, session->position);
    at = out + STATE_HEADER;
    memset(out, 0, STATE_HEADER);
    memcpy(out, STATE_MAGIC, 8);
    put_u32(out + AT_VERSION, STATE_VERSION);
    put_u32(out + AT_HEADER, STATE_HEADER);
    put_u64(out + AT_BYTES, need);
    put_u64(out + AT_MODEL, infer_file_hash(session->model->file));
    put_u32(out + AT_TYPE, (uint32_t)p->kv_type);
    put_u32(out + AT_POSITION, session->position);
    put_u32(out + AT_LAYERS, p->graph.layers);
    put_u32(out + AT_KV_HEADS, p->graph.kv_heads);
    put_u32(out + AT_HEAD_DIM, p->graph.head_dim);
    for (size_t h = 0; each && h < head_count(p); h++, at += each) {
        memcpy(at, head_at(p, h), each);
        if (session->position % 16)
            clear_positions(p, is_values(p, h), at + each - panel_bytes(p), session->position % 16);
    }
    put_u64(out + AT_HASH, state_hash(out, need));
    return INFER_OK;
}

infer_status infer_session_save_file(const infer_session *session, const char *path, infer_error *err)
{
    const infer_allocator *a;
    size_t bytes;
    void *state;
    infer_status s;
    if (!path)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_save_file: path is NULL");
    if ((s = infer_session_is_free(session, "infer_session_save_file", err)) != INFER_OK)
        return s;
    a = &session->model->rt->allocator;
    bytes = infer_session_state_bytes(session);
    if (!(state = infer_alloc(a, bytes)))
        return infer_fail_memory(err, bytes, "the state");
    s = infer_session_save(session, state, bytes, err);
    if (s == INFER_OK)
        s = infer_replace_file(a, path, state, bytes, err);
    infer_free(a, state);
    return s;
}

/* ---- restore ---- */

static infer_status restore(infer_session *session, const uint8_t *in, size_t bytes, const char *name, infer_error *err)
{
    const infer_plan *p = session->plan;
    const uint8_t *at;
    const struct { size_t at; uint32_t expected; const char *what; } numbers[] = {
        {AT_VERSION, STATE_VERSION, "version"}, {AT_HEADER, STATE_HEADER, "header bytes"}, {AT_LAYERS, p->graph.layers, "layers"},
        {AT_KV_HEADS, p->graph.kv_heads, "KV heads"}, {AT_HEAD_DIM, p->graph.head_dim, "head_dim"}, {AT_ZERO, 0, "reserved bytes"}};
    uint32_t position, type;
    uint64_t need, hash;
    size_t each;
    if (bytes < STATE_HEADER || memcmp(in, STATE_MAGIC, 8) != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: not a session's state (%zu bytes, or the first ones differ)", name, bytes);
    at = in + STATE_HEADER;
    if (get_u32(in + AT_VERSION) != STATE_VERSION)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: state version %u, this library reads version %u", name,
                          get_u32(in + AT_VERSION), STATE_VERSION);
    if (get_u64(in + AT_BYTES) != bytes)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: found %zu bytes, expected %llu", name, bytes,
                          (unsigned long long)get_u64(in + AT_BYTES));
    hash = state_hash(in, bytes);
    if (hash != get_u64(in + AT_HASH))
        return infer_fail(err, INFER_ERROR_CORRUPT, "%s: the state is damaged: hash %016llx, expected %016llx", name,
                          (unsigned long long)hash, (unsigned long long)get_u64(in + AT_HASH));
    if (get_u64(in + AT_MODEL) != infer_file_hash(session->model->file))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: the state of another model: hash %016llx, expected %016llx", name,
                          (unsigned long long)get_u64(in + AT_MODEL), (unsigned long long)infer_file_hash(session->model->file));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (get_u32(in + numbers[i].at) != numbers[i].expected)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: %s: found %u, expected %u", name, numbers[i].what, get_u32(in + numbers[i].at),
                              numbers[i].expected);
    type = get_u32(in + AT_TYPE);
    if (type != (uint32_t)p->kv_type)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: KV cache of type %s, the session's is %s", name,
                          infer_qtype_find(type) ? infer_qtype_find(type)->name : "unknown", infer_qtype_find(p->kv_type)->name);
    position = get_u32(in + AT_POSITION);
    if (position > session->context)
        return infer_fail(err, INFER_ERROR_CONTEXT, "%s: position %u, the session's context is %u", name, position, session->context);
    each = used_bytes(p, position);
    need = STATE_HEADER + (uint64_t)head_count(p) * each; /* no more than the cache has */
    if (bytes != need)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: found %zu bytes, expected %llu for position %u", name, bytes,
                          (unsigned long long)need, position);
    if (!numbers_ok(p, at, bytes - STATE_HEADER))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: numbers that no KV cache holds", name);
    for (size_t h = 0; each && h < head_count(p); h++)
        memcpy(head_at(p, h), at + h * each, each);
    session->position = position;
    session->logit_rows = 0;
    return INFER_OK;
}

infer_status infer_session_restore(infer_session *session, const void *state, size_t bytes, infer_error *err)
{
    infer_status s;
    if (!state)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_restore: state is NULL");
    if ((s = infer_session_is_free(session, "infer_session_restore", err)) != INFER_OK)
        return s;
    return restore(session, state, bytes, "state", err);
}

infer_status infer_session_restore_file(infer_session *session, const char *path, infer_error *err)
{
    infer_mapping file;
    infer_status s;
    if (!path)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_restore_file: path is NULL");
    if ((s = infer_session_is_free(session, "infer_session_restore_file", err)) != INFER_OK)
        return s;
    /* A copy: what was checked is what is used, whatever becomes of the file. */
    if ((s = infer_copy_file(&session->model->rt->allocator, path, -1, STATE_HEADER + session->plan->cache_bytes, &file, err)) != INFER_OK)
        return s;
    s = restore(session, file.data, file.size, path, err);
    infer_unmap(&file);
    return s;
}

/* ---- fork ---- */

infer_status infer_session_fork(const infer_session *session, infer_session **out, infer_error *err)
{
    infer_session *fork = NULL;
    infer_status s;
    if (!out)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "infer_session_fork: out is NULL");
    if ((s = infer_session_is_free(session, "infer_session_fork", err)) != INFER_OK ||
        (s = infer_session_create(session->model, &session->options, &fork, err)) != INFER_OK)
        return s;
    for (size_t h = 0; h < head_count(session->plan); h++)
        memcpy(head_at(fork->plan, h), head_at(session->plan, h), used_bytes(session->plan, session->position));
    memcpy(fork->plan->logits, session->plan->logits, session->logit_rows * session->model->config.vocab * sizeof(float));
    fork->position = session->position;
    fork->logit_rows = session->logit_rows;
    *out = fork;
    return INFER_OK;
}
