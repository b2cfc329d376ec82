/*
 * llama2.c checkpoints, version 0 (https://github.com/karpathy/llama2.c, export.py "legacy"): seven int32 and float32 arrays,
 * little-endian. dim, ffn dim, layers, heads, KV heads, vocabulary size (negative: the head is a tensor of its own), context tok_embed
 * [vocab][dim]; then each of these for all layers: attn_norm, q, k, v, o, ffn_norm, gate, down, up; out_norm [dim]; two tables of rotary
 * angles [context][head_dim / 2], not used; head [vocab][dim] unless shared The vocabulary is a file of its own: tokenizer_bin.c.
 */
#include "import/arch.h"
#include "import/vocab/tokenizers.h"

#include "bytes.h"
#include "vocab.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define HEADER_BYTES 28u
#define MAGIC_LATER 0x616b3432u /* "ak42": versions 1 and 2 */

typedef struct llama2c_state {
    infer_mapping map;
    char *path;
    uint64_t offset[]; /* of each tensor */
} llama2c_state;

static int probe(const char *path, const uint8_t *head, size_t bytes)
{
    size_t n = strlen(path);
    return (bytes >= 4 && get_u32(head) == MAGIC_LATER) || (n > 4 && strcasecmp(path + n - 4, ".bin") == 0);
}

static infer_status read_header(const infer_mapping *map, const char *path, infer_arch *m, infer_error *err)
{
    int32_t h[7];
    infer_status s;

    if (map->size >= 8 && get_u32(map->data) == MAGIC_LATER)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED,
                          "%s: llama2.c checkpoint of version %" PRIu32 ", supported is version 0 (float32, no magic)", path,
                          get_u32(map->data + 4));
    if (map->size < HEADER_BYTES)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %zu bytes, expected at least %u for the header of a llama2.c checkpoint", path,
                          map->size, HEADER_BYTES);
    memcpy(h, map->data, sizeof h);
    for (int i = 0; i < 7; i++)
        if (h[i] < 1 && (i != 5 || h[i] == 0 || h[i] == INT_MIN))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: not a llama2.c checkpoint: number %d of its header is %" PRId32, path, i + 1,
                              h[i]);
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
        .tied_head = h[5] > 0,
    };
    if ((s = infer_arch_check(m, err)) != INFER_OK)
        return s;
    if (m->dim % m->heads != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: dimension %" PRIu64 " is not a multiple of %" PRIu64 " heads", path, m->dim,
                          m->heads);
    return INFER_OK;
}

static size_t find_slot(const infer_source *s, const infer_slot *slots, infer_role role, uint32_t layer)
{
    size_t i = 0;
    while (i + 1 < s->tensor_count && (slots[i].role != role || slots[i].layer != layer))
        i++;
    return i;
}

/* Where each tensor begins; the file must end where the last one does. No sum overflows: a model has at most 2^16 tensors of 2^60 floats,
 * so each is checked against the file's size before it is added. */
static infer_status place_tensors(const infer_source *s, const infer_arch *m, const infer_slot *slots, llama2c_state *state, infer_error *err)
{
    static const infer_role order[] = {INFER_ROLE_ATTN_NORM, INFER_ROLE_Q,    INFER_ROLE_K,    INFER_ROLE_V, INFER_ROLE_O,
                                       INFER_ROLE_FFN_NORM,  INFER_ROLE_GATE, INFER_ROLE_DOWN, INFER_ROLE_UP};
    uint64_t at = HEADER_BYTES, skipped = m->context * m->head_dim * sizeof(float); /* < 2^49 */
    size_t placed = 0, layers = (size_t)m->layers, each = sizeof order / sizeof order[0];

    while (placed < s->tensor_count) {
        size_t i = placed; /* first and last tensors lie as in our list; those of the layers lie kind by kind */
        uint64_t floats;
        if (placed >= 1 && placed < 1 + layers * each)
            i = find_slot(s, slots, order[(placed - 1) / layers], (uint32_t)((placed - 1) % layers));
        if (slots[i].role == INFER_ROLE_HEAD)
            at += skipped;
        floats = s->tensors[i].rows * s->tensors[i].cols;
        if (at > state->map.size || floats > (state->map.size - at) / sizeof(float))
            return infer_fail(err, INFER_ERROR_FORMAT,
                              "%s: %zu bytes, but %s needs %" PRIu64 " floats at offset %" PRIu64
                              ": not a llama2.c version 0 checkpoint, or its end is missing",
                              state->path, state->map.size, s->tensors[i].name, floats, at);
        state->offset[i] = at;
        at += floats * sizeof(float);
        placed++;
    }
    if (m->tied_head)
        at += skipped;
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

static infer_status read_vocab(infer_source *s, const infer_arch *m, const char *tokenizer, infer_error *err)
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
    infer_arch m;
    char *metadata;
    size_t state_bytes, path_bytes = strlen(path) + 1;
    infer_status status = infer_map_file(path, &map, err);

    if (status != INFER_OK)
        return status;
    if ((status = read_header(&map, path, &m, err)) != INFER_OK ||
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
    state->path = infer_alloc(&s.allocator, path_bytes);
    if (!state->path) {
        status = infer_fail_memory(err, path_bytes, "path");
        goto fail;
    }
    memcpy(state->path, path, path_bytes);
    if ((status = place_tensors(&s, &m, slots, state, err)) != INFER_OK || (status = read_vocab(&s, &m, tokenizer, err)) != INFER_OK ||
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
    uint64_t cols;

    if (status != INFER_OK || (status = infer_map_check(&state->map, state->path, err)) != INFER_OK)
        return status;
    cols = s->tensors[index].cols;
    memcpy(out, state->map.data + state->offset[index] + row * cols * sizeof(float), (size_t)(n * cols * sizeof(float)));
    return INFER_OK;
}

const infer_importer infer_importer_llama2c = {
    .name = "llama2c",
    .description = "llama2.c checkpoint, version 0 (.bin, with tokenizer.bin)",
    .probe = probe,
    .open = open_source,
    .read_f32 = read_f32,
    .close = close_source,
};
