/*
 * llama2.c checkpoints (https://github.com/karpathy/llama2.c, export.py), little-endian. All begin with seven int32: dim, ffn dim, layers,
 * heads, KV heads, vocabulary size, context.
 *   Version 0: no magic; a negative vocabulary size says that the head is a tensor of its own. Float32 throughout: tok_embed [vocab][dim]; then
 *   each of these for all layers: attn_norm, q, k, v, o, ffn_norm, gate, down, up; out_norm [dim]; two tables of rotary angles
 *   [context][head_dim / 2], not used; head [vocab][dim] unless shared.
 *   Version 1: "ak42", 1, the seven, u8: head shared; zeros up to 256 bytes. Float32: the norms of all layers, out_norm, tok_embed, the matrices,
 *   head unless shared.
 *   Version 2: the same with 2, and behind the u8 an int32: how many numbers share a scale. Norms are float32; each matrix is int8 codes, then
 *   float32 scales. Groups run on from row to row.
 * The vocabulary is a file of its own: tokenizer_bin.c.
 */
#include "import/llama2c.h"
#include "import/vocab/tokenizers.h"

#include "bytes.h"
#include "vocab.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define MAGIC_LATER 0x616b3432u /* "ak42": versions 1 and 2 */

/* One kind of tensor after the other, each for all layers. */
static const infer_role legacy_order[] = {INFER_ROLE_TOK_EMBED, INFER_ROLE_ATTN_NORM, INFER_ROLE_Q,    INFER_ROLE_K,  INFER_ROLE_V,        INFER_ROLE_O,
                                          INFER_ROLE_FFN_NORM,  INFER_ROLE_GATE,      INFER_ROLE_DOWN, INFER_ROLE_UP, INFER_ROLE_OUT_NORM, INFER_ROLE_HEAD};
static const infer_role later_order[] = {INFER_ROLE_ATTN_NORM, INFER_ROLE_FFN_NORM, INFER_ROLE_OUT_NORM, INFER_ROLE_TOK_EMBED, INFER_ROLE_Q,  INFER_ROLE_K,
                                         INFER_ROLE_V,         INFER_ROLE_O,        INFER_ROLE_GATE,     INFER_ROLE_DOWN,      INFER_ROLE_UP, INFER_ROLE_HEAD};
#define KINDS (sizeof legacy_order / sizeof legacy_order[0])

static const struct version {
    uint32_t header_bytes;
    const infer_role *order;
    bool rotary_tables; /* before the head */
    bool codes;         /* matrices are int8 and scales */
} versions[] = {
    {28, legacy_order, true, false},
    {INFER_LLAMA2C_HEADER_BYTES, later_order, false, false},
    {INFER_LLAMA2C_HEADER_BYTES, later_order, false, true},
};
#define VERSIONS (sizeof versions / sizeof versions[0])

typedef struct llama2c_state {
    infer_mapping map;
    char *path;
    uint64_t group;    /* numbers of a matrix that share a scale; 0: floats */
    uint64_t offset[]; /* of each tensor */
} llama2c_state;

static int probe(const char *path, const uint8_t *head, size_t bytes)
{
    size_t n = strlen(path);
    return (bytes >= 4 && get_u32(head) == MAGIC_LATER) || (n > 4 && strcasecmp(path + n - 4, ".bin") == 0);
}

static infer_status fail_short(const char *path, size_t bytes, uint32_t expected, infer_error *err)
{
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: %zu bytes, expected at least %" PRIu32 " for the header of a llama2.c checkpoint", path, bytes, expected);
}

infer_status infer_llama2c_read_header(const uint8_t *data, size_t bytes, const char *path, infer_llama2c_header *out, infer_arch *m, infer_error *err)
{
    bool later = bytes >= 4 && get_u32(data) == MAGIC_LATER, shared;
    uint32_t at = later ? 8 : 0, least = later ? 41 : 28, version = 0, group = 0;
    int32_t h[7];
    infer_status s;

    if (bytes < (later ? 8 : least))
        return fail_short(path, bytes, least, err);
    if (later && ((version = get_u32(data + 4)) == 0 || version >= VERSIONS))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: llama2.c checkpoint of version %" PRIu32 ", supported are 0 (no magic), 1 and 2", path, version);
    if (bytes < least)
        return fail_short(path, bytes, least, err);
    memcpy(h, data + at, sizeof h);
    for (int i = 0; i < 7; i++)
        if (h[i] < 1 && (i != 5 || later || h[i] == 0 || h[i] == INT_MIN))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: not a llama2.c checkpoint: number %d of its header is %" PRId32, path, i + 1,
                              h[i]);
    shared = later ? data[36] == 1 : h[5] > 0;
    if (later && data[36] > 1)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: shared head, at offset 36: found %d, expected 0 or 1", path, data[36]);
    if (versions[version].codes && ((group = get_u32(data + 37)) < 1 || group > INT_MAX))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: numbers a scale, at offset 37: found %" PRId32 ", expected at least 1", path, (int32_t)group);
    *m = (infer_arch){
        .format = "llama2c",
        .path = path,
        .architecture = "llama",
        .gated = true,
        .dim = (uint64_t)h[0],
        .ffn_dim = (uint64_t)h[1],
        .layers = (uint64_t)h[2],
        .heads = (uint64_t)h[3],
        .kv_heads = (uint64_t)h[4],
        .vocab = (uint64_t)(h[5] < 0 ? -h[5] : h[5]),
        .context = (uint64_t)h[6],
        .head_dim = (uint64_t)h[0] / (uint64_t)h[3],
        .rope = {.dim = (uint64_t)h[0] / (uint64_t)h[3], .theta = 10000},
        .norm_eps = 1e-5,
        .bos = 1,
        .eos = {1, 2}, /* these models were trained on texts that only a begin token separates: llama2.c ends at it, too */
        .eos_count = 2,
        .tied_head = shared,
    };
    if ((s = infer_arch_check(m, err)) != INFER_OK)
        return s;
    if (m->dim % m->heads != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: dimension %" PRIu64 " is not a multiple of %" PRIu64 " heads", path, m->dim,
                          m->heads);
    *out = (infer_llama2c_header){version, group};
    return INFER_OK;
}

/* Our tensor for a role in a layer; tensor_count: the model has none. */
static size_t find_slot(const infer_source *s, const infer_slot *slots, infer_role role, uint32_t layer)
{
    size_t i = 0;
    while (i < s->tensor_count && (slots[i].role != role || slots[i].layer != layer))
        i++;
    return i;
}

/* The tensor at *at, which moves behind it. No sum overflows: every part is compared with what the file has left before it is added. */
static infer_status place_tensor(const infer_source *s, size_t index, llama2c_state *state, uint64_t *at, infer_error *err)
{
    const infer_source_tensor *t = &s->tensors[index];
    uint64_t left = *at <= state->map.size ? state->map.size - *at : 0;
    uint64_t numbers = t->rows * t->cols, codes = 0, floats = numbers; /* <= 2^60 */

    if (state->group && t->matrix) {
        if (numbers % state->group != 0)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: %s has %" PRIu64 " numbers, expected a multiple of the %" PRIu64 " that share a scale",
                              state->path, t->name, numbers, state->group);
        codes = numbers;
        floats = numbers / state->group;
    }
    if (codes > left || floats > (left - codes) / sizeof(float))
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: %zu bytes, but %s needs %" PRIu64 " at offset %" PRIu64 ": not a llama2.c checkpoint of this version, or its end is missing",
                          state->path, state->map.size, t->name, codes + floats * sizeof(float), *at);
    state->offset[index] = *at;
    *at += codes + floats * sizeof(float);
    return INFER_OK;
}

/* Where each tensor begins; the file must end where the last one does. */
static infer_status place_tensors(const infer_source *s, const infer_arch *m, const struct version *v, const infer_slot *slots, llama2c_state *state,
                                  infer_error *err)
{
    uint64_t at = v->header_bytes;
    infer_status status;

    for (size_t kind = 0; kind < KINDS; kind++) {
        infer_role role = v->order[kind];
        if (role == INFER_ROLE_HEAD && v->rotary_tables)
            at += m->context * m->head_dim * sizeof(float); /* < 2^49 */
        for (uint32_t layer = 0; layer < (infer_role_in_layer(role) ? m->layers : 1); layer++) {
            size_t i = find_slot(s, slots, role, layer);
            if (i < s->tensor_count && (status = place_tensor(s, i, state, &at, err)) != INFER_OK)
                return status;
        }
    }
    if (at != state->map.size)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %zu bytes, expected %" PRIu64 " for the sizes in its header", state->path,
                          state->map.size, at);
    return INFER_OK;
}

/* "tokenizer.bin" or "tok512.bin" (for 512 tokens) in the checkpoint's folder. */
static infer_status find_tokenizer(const char *path, uint64_t vocab, char *out, size_t size, infer_error *err)
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash + 1 - path) : 0;
    int n = snprintf(out, size, "%.*stokenizer.bin", folder, path);
    if (n < (int)size && access(out, F_OK) == 0)
        return INFER_OK;
    n = snprintf(out, size, "%.*stok%" PRIu64 ".bin", folder, path, vocab);
    if (n < (int)size && access(out, F_OK) == 0)
        return INFER_OK;
    return infer_fail(err, INFER_ERROR_IO, "%s: neither tokenizer.bin nor tok%" PRIu64 ".bin is beside it: name a tokenizer file", path,
                      vocab);
}

infer_status infer_llama2c_read_vocab(infer_source *s, const infer_arch *m, const char *tokenizer, infer_error *err)
{
    char beside[PATH_MAX];
    infer_vocab_view view;
    void *vocab;
    infer_status status;

    if (!tokenizer) {
        if ((status = find_tokenizer(m->path, m->vocab, beside, sizeof beside, err)) != INFER_OK)
            return status;
        tokenizer = beside;
    }
    if ((status = infer_vocab_import(&s->allocator, tokenizer, &vocab, &s->vocab_bytes, err)) != INFER_OK)
        return status;
    s->vocab = vocab;
    if ((status = infer_vocab_parse(vocab, s->vocab_bytes, tokenizer, &view, err)) != INFER_OK)
        return status;
    if (view.tokens != m->vocab)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %" PRIu32 " tokens, expected %" PRIu64 " for %s", tokenizer, view.tokens, m->vocab,
                          m->path);
    return INFER_OK;
}

static void close_source(infer_source *s)
{
    llama2c_state *state = s->state;
    infer_source_free_parts(s);
    if (state) {
        infer_unmap(&state->map);
        infer_free(&s->allocator, state->path);
        infer_free(&s->allocator, state);
        s->state = NULL;
    }
}

static infer_status open_source(const char *path, const char *tokenizer, infer_source *out, infer_error *err)
{
    infer_source s = {.importer = out->importer, .allocator = out->allocator};
    infer_mapping map;
    llama2c_state *state;
    infer_source_tensor *tensors;
    infer_slot *slots;
    infer_llama2c_header header;
    infer_arch m;
    char *metadata;
    size_t state_bytes, path_bytes = strlen(path) + 1;
    infer_status status = infer_map_file(path, &map, err);

    if (status != INFER_OK)
        return status;
    if ((status = infer_llama2c_read_header(map.data, map.size, path, &header, &m, err)) != INFER_OK ||
        (status = infer_arch_tensors(&s.allocator, &m, &tensors, &slots, &s.tensor_count, err)) != INFER_OK) {
        infer_unmap(&map);
        return status;
    }
    s.tensors = tensors;
    state_bytes = sizeof *state + s.tensor_count * sizeof state->offset[0];
    s.state = state = infer_alloc_zero(&s.allocator, state_bytes);
    if (!state) {
        infer_unmap(&map);
        status = infer_fail_memory(err, state_bytes, "importer");
        goto fail;
    }
    state->map = map;
    state->group = header.group;
    state->path = infer_alloc(&s.allocator, path_bytes);
    if (!state->path) {
        status = infer_fail_memory(err, path_bytes, "path");
        goto fail;
    }
    memcpy(state->path, path, path_bytes);
    if ((status = place_tensors(&s, &m, &versions[header.version], slots, state, err)) != INFER_OK ||
        (status = infer_llama2c_read_vocab(&s, &m, tokenizer, err)) != INFER_OK ||
        (status = infer_arch_metadata(&s.allocator, &m, &metadata, err)) != INFER_OK)
        goto fail;
    s.metadata = metadata;
    infer_free(&s.allocator, slots);
    *out = s;
    return INFER_OK;
fail:
    infer_free(&s.allocator, slots);
    close_source(&s);
    return status;
}

static infer_status read_f32(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const llama2c_state *state = s->state;
    infer_status status = infer_source_check_rows(s, index, row, n, err);
    const infer_source_tensor *t;
    const uint8_t *p, *scales;
    uint64_t first, count;

    if (status != INFER_OK || (status = infer_map_check(&state->map, state->path, err)) != INFER_OK)
        return status;
    t = &s->tensors[index];
    p = state->map.data + state->offset[index];
    first = row * t->cols;
    count = n * t->cols;
    if (!state->group || !t->matrix) {
        memcpy(out, p + first * sizeof(float), (size_t)(count * sizeof(float)));
        return INFER_OK;
    }
    scales = p + t->rows * t->cols;
    for (uint64_t i = 0; i < count; i++)
        out[i] = (float)(int8_t)p[first + i] * get_f32(scales + (first + i) / state->group * sizeof(float));
    return INFER_OK;
}

const infer_importer infer_importer_llama2c = {
    .name = "llama2c",
    .description = "llama2.c checkpoint, versions 0 to 2 (.bin, with tokenizer.bin)",
    .probe = probe,
    .open = open_source,
    .read_f32 = read_f32,
    .close = close_source,
};
