/*
 * Ternary checkpoints of bitllama, a llama2.c whose layers are BitLinear (Wang et al. 2023, arXiv:2310.11453). Little-endian: the header of llama2.c's
 * version 1 (256 bytes: magic, version, seven int32, a byte for the shared head), which is all that they have in common; out_norm f32 [dim]; tok_embed
 * f32 [vocab][dim], which is the head, too; then each of q, k, v, o, gate, down, up for all layers: a scale f32 and the matrix, row after row, four
 * numbers a byte, the first in the low bits: 1 means scale, 3 means -scale, others 0.
 *
 * The size tells the two formats apart: a llama2.c file with the same numbers in its header is always larger.
 *
 * A BitLinear norms its inputs by x / sqrt(mean(x^2)) / width, without weights: norms before q, k and v, before o, before gate and up and before down
 * whose weights are all 1 / width. Their epsilon is too small to matter: with 1e-5 the text of the 3M checkpoint is another one after a few sentences. Only the
 * last norm has 1e-5, which moves differences between that checkpoint's logits by less than 1e-4; a model here has one epsilon.
 */
#include "import/llama2c.h"

#include "bytes.h"

#include <inttypes.h>
#include <sys/stat.h>

#define NO_EPSILON 1e-12

typedef struct bitllama_state {
    infer_mapping map;
    char *path;
    infer_slot *slots;                /* of each tensor */
    uint64_t first[INFER_ROLE_COUNT]; /* offset of the role's first tensor, of matrices: of its scale; 0: not in the file */
    uint64_t each[INFER_ROLE_COUNT];  /* bytes from layer to layer */
} bitllama_state;

/* The order in the file. */
static const infer_role matrices[] = {INFER_ROLE_Q, INFER_ROLE_K, INFER_ROLE_V, INFER_ROLE_O, INFER_ROLE_GATE, INFER_ROLE_DOWN, INFER_ROLE_UP};
#define MATRICES (sizeof matrices / sizeof matrices[0])

/* Numbers in a matrix of the role, below 2^60. */
static uint64_t numbers_of(const infer_arch *m, infer_role role)
{
    switch (role) {
    case INFER_ROLE_Q:
    case INFER_ROLE_O:
        return m->dim * m->dim;
    case INFER_ROLE_K:
    case INFER_ROLE_V:
        return m->dim * m->kv_heads * m->head_dim;
    default:
        return m->dim * m->ffn_dim;
    }
}

static uint64_t matrix_bytes(const infer_arch *m, infer_role role) { return sizeof(float) + numbers_of(m, role) / 4; }

static uint64_t matrices_offset(const infer_arch *m) { return INFER_LLAMA2C_HEADER_BYTES + (m->vocab + 1) * m->dim * sizeof(float); }

/* Of the file. A checked model has at most 1,024 layers of 7 matrices of 2^58 bytes: UINT64_MAX where that is too many to count. */
static uint64_t file_bytes(const infer_arch *m)
{
    uint64_t layer = 0, all;
    for (size_t i = 0; i < MATRICES; i++)
        layer += matrix_bytes(m, matrices[i]);
    return __builtin_mul_overflow(layer, m->layers, &all) || __builtin_add_overflow(all, matrices_offset(m), &all) ? UINT64_MAX : all;
}

/* The model of a header of llama2.c's version 1. */
static infer_status read_header(const uint8_t *head, size_t bytes, const char *path, infer_arch *m, infer_error *err)
{
    infer_llama2c_header header;
    infer_status s = infer_llama2c_read_header(head, bytes, path, &header, m, err);

    if (s != INFER_OK)
        return s;
    if (header.version != 1)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: a header of version %" PRIu32 ", expected 1 for a bitllama checkpoint", path,
                          header.version);
    if (m->dim % 4 != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: dimension: found %" PRIu64 ", expected a multiple of 4", path, m->dim);
    if (!m->tied_head)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: a head of its own, supported is the one shared with the embeddings", path);
    m->format = "bitllama";
    m->architecture = "bitnet";
    m->sub_norms = true;
    m->norm_eps = NO_EPSILON;
    return INFER_OK;
}

static int probe(const char *path, const uint8_t *head, size_t bytes)
{
    infer_arch m;
    struct stat st;
    return read_header(head, bytes, path, &m, NULL) == INFER_OK && stat(path, &st) == 0 && (uint64_t)st.st_size <= file_bytes(&m);
}

static void close_source(infer_source *s)
{
    bitllama_state *state = s->state;
    infer_source_free_parts(s);
    if (state) {
        infer_unmap(&state->map);
        infer_free(&s->allocator, state->path);
        infer_free(&s->allocator, state->slots);
        infer_free(&s->allocator, state);
        s->state = NULL;
    }
}

/* Of a model that fills its file: no sum overflows. */
static void place_tensors(const infer_arch *m, bitllama_state *state)
{
    uint64_t at = matrices_offset(m);

    state->first[INFER_ROLE_OUT_NORM] = INFER_LLAMA2C_HEADER_BYTES;
    state->first[INFER_ROLE_TOK_EMBED] = INFER_LLAMA2C_HEADER_BYTES + m->dim * sizeof(float);
    for (size_t i = 0; i < MATRICES; i++) {
        state->first[matrices[i]] = at;
        state->each[matrices[i]] = matrix_bytes(m, matrices[i]);
        at += m->layers * matrix_bytes(m, matrices[i]);
    }
}

/* Everything but the mapping, into *s, which the caller closes on failure. */
static infer_status read_parts(infer_source *s, const infer_arch *m, const char *tokenizer, infer_error *err)
{
    bitllama_state *state = s->state;
    infer_source_tensor *tensors;
    size_t path_bytes = strlen(m->path) + 1;
    char *metadata;
    infer_status status;

    state->path = infer_alloc(&s->allocator, path_bytes);
    if (!state->path)
        return infer_fail_memory(err, path_bytes, "path");
    memcpy(state->path, m->path, path_bytes);
    place_tensors(m, state);
    if ((status = infer_arch_tensors(&s->allocator, m, &tensors, &state->slots, &s->tensor_count, err)) != INFER_OK)
        return status;
    s->tensors = tensors;
    for (size_t i = 0; i < s->tensor_count; i++)
        if (state->each[state->slots[i].role])
            tensors[i].stored = INFER_QTYPE_T2R;
    if ((status = infer_llama2c_read_vocab(s, m, tokenizer, err)) != INFER_OK ||
        (status = infer_arch_metadata(&s->allocator, m, &metadata, err)) != INFER_OK)
        return status;
    s->metadata = metadata;
    return INFER_OK;
}

static infer_status open_source(const char *path, const char *tokenizer, infer_source *out, infer_error *err)
{
    infer_source s = {.importer = out->importer, .allocator = out->allocator};
    bitllama_state *state;
    infer_mapping map;
    infer_arch m;
    infer_status status = infer_map_file(path, &map, err);

    if (status != INFER_OK)
        return status;
    if ((status = read_header(map.data, map.size, path, &m, err)) == INFER_OK && map.size != file_bytes(&m))
        status = infer_fail(err, INFER_ERROR_FORMAT, "%s: %zu bytes, expected %" PRIu64 " of a bitllama checkpoint with the sizes in its header", path,
                            map.size, file_bytes(&m));
    if (status == INFER_OK && !(s.state = infer_alloc_zero(&s.allocator, sizeof *state)))
        status = infer_fail_memory(err, sizeof *state, "importer");
    if (status != INFER_OK) {
        infer_unmap(&map);
        return status;
    }
    state = s.state;
    state->map = map;
    if ((status = read_parts(&s, &m, tokenizer, err)) != INFER_OK) {
        close_source(&s);
        return status;
    }
    *out = s;
    return INFER_OK;
}

static infer_status read_f32(const infer_source *s, size_t index, uint64_t row, uint64_t n, float *out, infer_error *err)
{
    const bitllama_state *state = s->state;
    infer_status status = infer_source_check_rows(s, index, row, n, err);
    uint64_t cols, first;
    infer_slot slot;
    const uint8_t *p;

    if (status != INFER_OK || (status = infer_map_check(&state->map, state->path, err)) != INFER_OK)
        return status;
    cols = s->tensors[index].cols;
    slot = state->slots[index];
    p = state->map.data + state->first[slot.role] + slot.layer * state->each[slot.role];
    first = row * cols;
    if (s->tensors[index].stored == INFER_QTYPE_T2R) {
        const float scale = get_f32(p), values[4] = {0, scale, 0, -scale};
        for (uint64_t i = 0; i < n * cols; i++)
            out[i] = values[p[sizeof scale + (first + i) / 4] >> (first + i) % 4 * 2 & 3];
    } else if (state->first[slot.role]) {
        memcpy(out, p + first * sizeof(float), (size_t)(n * cols * sizeof(float)));
    } else { /* the norms of the BitLinears */
        for (uint64_t i = 0; i < n * cols; i++)
            out[i] = 1.0f / (float)cols;
    }
    return INFER_OK;
}

const infer_importer infer_importer_bitllama = {
    .name = "bitllama",
    .description = "ternary checkpoint of bitllama (.bin, with tokenizer.bin)",
    .probe = probe,
    .open = open_source,
    .read_f32 = read_f32,
    .close = close_source,
};
