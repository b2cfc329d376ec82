/* The GGUF container (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). */
#include "import/gguf_read.h"

#include "bytes.h"
#include "file.h"

#include <inttypes.h>
#include <stdio.h>

#define MAX_VALUES 65536u
#define MAX_KEY 65535u /* bytes */
#define MAX_ALIGNMENT (1u << 20)
#define MAX_ARRAY_DEPTH 4
#define MAX_PARTS 512u /* every part keeps a file open; systems allow a process some 1,000 */
#define STRING_HEADER 8u

typedef struct cursor {
    const uint8_t *data;
    uint64_t at, size;
    const char *path;
    infer_error *err;
} cursor;

/* Bytes of a value; 0: strings and arrays, which say so themselves. */
static const uint8_t value_bytes[GGUF_TYPES] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

static infer_status take(cursor *c, uint64_t bytes, const uint8_t **out, const char *what)
{
    if (bytes > c->size - c->at)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: %s at offset %" PRIu64 " needs %" PRIu64 " bytes, the file has %" PRIu64 " more",
                          c->path, what, c->at, bytes, c->size - c->at);
    *out = c->data + c->at;
    c->at += bytes;
    return INFER_OK;
}

static infer_status take_u32(cursor *c, uint32_t *out, const char *what)
{
    const uint8_t *p = NULL;
    infer_status s = take(c, 4, &p, what);
    if (s == INFER_OK)
        *out = get_u32(p);
    return s;
}

static infer_status take_u64(cursor *c, uint64_t *out, const char *what)
{
    const uint8_t *p = NULL;
    infer_status s = take(c, 8, &p, what);
    if (s == INFER_OK)
        *out = get_u64(p);
    return s;
}

static infer_status take_string(cursor *c, const char **out, uint64_t *bytes, const char *what)
{
    const uint8_t *p = NULL;
    uint64_t n;
    infer_status s = take_u64(c, &n, what);
    if (s != INFER_OK || (s = take(c, n, &p, what)) != INFER_OK)
        return s;
    *out = (const char *)p;
    *bytes = n;
    return INFER_OK;
}

/* Moves over `count` elements of an array. Each takes at least a byte, so the file's size bounds the work. */
static infer_status skip_elements(cursor *c, uint32_t type, uint64_t count, int depth)
{
    const uint8_t *p;
    const char *text;
    uint64_t bytes, inner_count;
    uint32_t inner;
    infer_status s = INFER_OK;

    if (type >= GGUF_TYPES)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: array before offset %" PRIu64 " has elements of unknown type %" PRIu32, c->path,
                          c->at, type);
    if (value_bytes[type]) {
        if (infer_mul_overflows(count, value_bytes[type], &bytes))
            bytes = UINT64_MAX;
        return take(c, bytes, &p, "array");
    }
    if (type == GGUF_ARRAY && depth == MAX_ARRAY_DEPTH)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: arrays nested more than %d deep at offset %" PRIu64, c->path, MAX_ARRAY_DEPTH,
                          c->at);
    for (uint64_t i = 0; i < count && s == INFER_OK; i++) {
        if (type == GGUF_STRING)
            s = take_string(c, &text, &bytes, "string in an array");
        else if ((s = take_u32(c, &inner, "array")) == INFER_OK && (s = take_u64(c, &inner_count, "array")) == INFER_OK)
            s = skip_elements(c, inner, inner_count, depth + 1);
    }
    return s;
}

static infer_status read_value(cursor *c, infer_gguf_value *v)
{
    infer_status s = take_string(c, &v->key, &v->key_bytes, "key");
    if (s != INFER_OK)
        return s;
    if (v->key_bytes < 1 || v->key_bytes > MAX_KEY)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: key of %" PRIu64 " bytes before offset %" PRIu64 ", expected 1 to %u", c->path,
                          v->key_bytes, c->at, MAX_KEY);
    if ((s = take_u32(c, &v->type, "value type")) != INFER_OK)
        return s;
    if (v->type >= GGUF_TYPES)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: key %.*s: unknown value type %" PRIu32, c->path, (int)v->key_bytes, v->key,
                          v->type);
    if (v->type == GGUF_STRING) {
        const char *text;
        if ((s = take_string(c, &text, &v->count, "string")) == INFER_OK)
            v->data = (const uint8_t *)text;
        return s;
    }
    if (v->type == GGUF_ARRAY) {
        if ((s = take_u32(c, &v->element, "array")) != INFER_OK || (s = take_u64(c, &v->count, "array")) != INFER_OK)
            return s;
        v->data = c->data + c->at;
        return skip_elements(c, v->element, v->count, 1);
    }
    return take(c, value_bytes[v->type], &v->data, "value");
}

static infer_status read_values(infer_gguf *g, cursor *c, uint64_t count)
{
    infer_status s;

    if (count > MAX_VALUES)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: metadata keys: found %" PRIu64 ", expected at most %u", c->path, count,
                          MAX_VALUES);
    if (!infer_strmap_init(&g->keys, &g->allocator, (size_t)count, count))
        return infer_fail_memory(c->err, (size_t)count * 2 * sizeof(infer_strmap_slot), "metadata keys");
    for (uint32_t i = 0; i < count; i++) {
        infer_gguf_value v = {0};
        if ((s = read_value(c, &v)) != INFER_OK)
            return s;
        if (infer_strmap_put(&g->keys, v.key, (uint32_t)v.key_bytes, i) != INFER_STRMAP_NONE)
            return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: key %.*s appears twice", c->path, (int)v.key_bytes, v.key);
        if (!infer_grow(&g->allocator, &g->values, &g->value_cap, i + 1u, sizeof v))
            return infer_fail_memory(c->err, (i + 1u) * sizeof v, "metadata keys");
        g->values[i] = v;
        g->value_count = i + 1u;
    }
    return INFER_OK;
}

/* One entry of the tensor list. *at: where its data must begin, counted from the data section; moved on to the next tensor's. */
static infer_status read_tensor(cursor *c, infer_gguf_tensor *t, uint64_t alignment, uint64_t *at)
{
    const char *name;
    uint64_t name_bytes, dims[4] = {1, 1, 1, 1}, bytes;
    uint32_t dim_count, type;
    infer_status s = take_string(c, &name, &name_bytes, "tensor name");

    if (s != INFER_OK)
        return s;
    if (name_bytes < 1 || name_bytes >= sizeof t->name || memchr(name, '\0', (size_t)name_bytes))
        return infer_fail(c->err, INFER_ERROR_FORMAT,
                          "%s: tensor name of %" PRIu64 " bytes before offset %" PRIu64 ", expected 1 to %zu, none zero", c->path,
                          name_bytes, c->at, sizeof t->name - 1);
    memcpy(t->name, name, (size_t)name_bytes);
    if ((s = take_u32(c, &dim_count, "tensor dimensions")) != INFER_OK)
        return s;
    if (dim_count < 1 || dim_count > 4)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: tensor %s: dimensions: found %" PRIu32 ", expected 1 to 4", c->path, t->name,
                          dim_count);
    for (uint32_t i = 0; i < dim_count; i++) {
        if ((s = take_u64(c, &dims[i], "tensor dimensions")) != INFER_OK)
            return s;
        if (dims[i] < 1 || dims[i] > INFER_FILE_MAX_DIM)
            return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: tensor %s: dimension %" PRIu32 ": found %" PRIu64 ", expected 1 to %u",
                              c->path, t->name, i, dims[i], INFER_FILE_MAX_DIM);
    }
    if ((s = take_u32(c, &type, "tensor type")) != INFER_OK || (s = take_u64(c, &t->offset, "tensor offset")) != INFER_OK)
        return s;
    t->numbers = infer_gguf_number_type_find(type);
    if (!t->numbers || !t->numbers->read)
        return infer_fail(c->err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s: type %s (%" PRIu32 ") cannot be read", c->path, t->name,
                          t->numbers ? t->numbers->name : "unknown", type);
    if (dims[2] != 1 || dims[3] != 1)
        return infer_fail(c->err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s has more than two dimensions", c->path, t->name);
    if (dims[0] % t->numbers->numbers != 0)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: tensor %s: rows of %" PRIu64 " numbers, expected a multiple of %" PRIu32,
                          c->path, t->name, dims[0], t->numbers->numbers);
    t->cols = dims[0];
    t->rows = dims[1];
    t->row_bytes = dims[0] / t->numbers->numbers * t->numbers->bytes;
    if (t->offset != *at)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: tensor %s: offset: found %" PRIu64 ", expected %" PRIu64, c->path, t->name,
                          t->offset, *at);
    bytes = t->rows * t->row_bytes; /* < 2^63 */
    if (bytes > c->size || *at > c->size - bytes)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: tensor %s: %" PRIu64 " bytes, more than the file has", c->path, t->name, bytes);
    *at = (*at + bytes + alignment - 1) / alignment * alignment;
    return INFER_OK;
}

static infer_status read_tensors(infer_gguf *g, cursor *c, uint64_t count)
{
    uint64_t alignment = 32, at = 0, start, end;
    infer_status s = infer_gguf_uint(g, "general.alignment", false, MAX_ALIGNMENT, &alignment, c->err);

    if (s != INFER_OK)
        return s;
    if (alignment == 0 || alignment % 8 != 0)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: general.alignment: found %" PRIu64 ", expected a multiple of 8", c->path,
                          alignment);
    if (count > INFER_FILE_MAX_TENSORS || count > (c->size - c->at) / 8)
        return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: tensors: found %" PRIu64 ", expected at most %u that fit into the file", c->path,
                          count, INFER_FILE_MAX_TENSORS);
    if (count == 0)
        return infer_strmap_init(&g->names, &g->allocator, 0, 0) ? INFER_OK
                                                                 : infer_fail_memory(c->err, sizeof(infer_strmap_slot), "tensor names");
    g->tensors = infer_alloc_array(&g->allocator, (size_t)count, sizeof *g->tensors);
    if (!g->tensors || !infer_strmap_init(&g->names, &g->allocator, (size_t)count, count))
        return infer_fail_memory(c->err, (size_t)count * sizeof *g->tensors, "tensor list");
    for (uint32_t i = 0; i < count; i++) {
        infer_gguf_tensor *t = &g->tensors[i];
        if ((s = read_tensor(c, t, alignment, &at)) != INFER_OK)
            return s;
        if (infer_strmap_put(&g->names, t->name, (uint32_t)strlen(t->name), i) != INFER_STRMAP_NONE)
            return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: tensor %s appears twice", c->path, t->name);
    }
    g->tensor_count = (uint32_t)count;
    start = (c->at + alignment - 1) / alignment * alignment;
    for (uint32_t i = 0; i < g->tensor_count; i++) {
        infer_gguf_tensor *t = &g->tensors[i];
        t->offset += start;
        end = t->offset + t->rows * t->row_bytes;
        if (end > c->size)
            return infer_fail(c->err, INFER_ERROR_FORMAT, "%s: tensor %s ends at offset %" PRIu64 ", beyond the file's %" PRIu64 " bytes",
                              c->path, t->name, end, c->size);
    }
    return INFER_OK;
}

static infer_status read_all(infer_gguf *g, infer_error *err)
{
    cursor c = {g->files->map.data, 0, g->files->map.size, g->path, err};
    const uint8_t *magic = NULL;
    uint32_t version;
    uint64_t tensors, values;
    infer_status s;

    if ((s = take(&c, 4, &magic, "magic")) != INFER_OK)
        return s;
    if (memcmp(magic, "GGUF", 4) != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: not a GGUF file", g->path);
    if ((s = take_u32(&c, &version, "version")) != INFER_OK)
        return s;
    if (version != 2 && version != 3)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: GGUF version %" PRIu32 "%s, supported are 2 and 3", g->path, version,
                          (version & 0xffff) == 0 && version ? " (a big-endian file)" : "");
    if ((s = take_u64(&c, &tensors, "tensor count")) != INFER_OK || (s = take_u64(&c, &values, "key count")) != INFER_OK ||
        (s = read_values(g, &c, values)) != INFER_OK)
        return s;
    return read_tensors(g, &c, tensors);
}

static infer_status open_file(const infer_allocator *a, const char *path, infer_gguf *g, infer_error *err)
{
    size_t path_bytes = strlen(path) + 1;
    infer_status s;

    *g = (infer_gguf){0};
    if (a)
        g->allocator = *a;
    g->files = infer_alloc_zero(a, sizeof *g->files);
    if (!g->files)
        return infer_fail_memory(err, sizeof *g->files, "importer");
    g->file_count = 1;
    g->files->map.fd = -1;
    g->path = g->files->path = infer_alloc(a, path_bytes);
    if (!g->path) {
        infer_gguf_close(g);
        return infer_fail_memory(err, path_bytes, "path");
    }
    memcpy(g->files->path, path, path_bytes);
    if ((s = infer_map_file(path, &g->files->map, err)) != INFER_OK || (s = read_all(g, err)) != INFER_OK)
        infer_gguf_close(g);
    return s;
}

/* ---- models in several files, as llama.cpp's gguf-split writes them: NAME-00001-of-00003.gguf; the model's keys are in the first ---- */

typedef struct split {
    uint64_t number, count, tensors; /* number from 0; count 0 or 1: not split; tensors of all parts */
} split;

static infer_status read_split(const infer_gguf *g, split *out, infer_error *err)
{
    infer_status s;
    *out = (split){0};
    if ((s = infer_gguf_uint(g, "split.count", false, MAX_PARTS, &out->count, err)) != INFER_OK || out->count <= 1)
        return s;
    if ((s = infer_gguf_uint(g, "split.no", true, out->count - 1, &out->number, err)) != INFER_OK)
        return s;
    return infer_gguf_uint(g, "split.tensors.count", true, INFER_FILE_MAX_TENSORS, &out->tensors, err);
}

static void free_values(infer_gguf *g)
{
    infer_strmap_free(&g->keys, &g->allocator);
    infer_free(&g->allocator, g->values);
    g->values = NULL;
}

/* Opens the parts[] but the one that is open already. What they hold together stays small, whatever they say: keys are kept of the first only,
 * and no more tensors than the model has. */
static infer_status open_parts(infer_gguf *parts, const split *first, infer_error *err)
{
    const infer_allocator *a = &parts[first->number].allocator;
    const char *from = parts[first->number].path;
    size_t bytes = strlen(from), n;
    uint64_t tensors = parts[first->number].tensor_count;
    char suffix[32], *path;
    split other;
    infer_status s = INFER_OK;

    n = (size_t)snprintf(suffix, sizeof suffix, "-%05u-of-%05u.gguf", (unsigned)first->number + 1, (unsigned)first->count);
    if (bytes < n || strcmp(from + bytes - n, suffix) != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: a part of a split model, expected a name that ends in %s, as the others beside it", from,
                          suffix);
    path = infer_alloc(a, bytes + 1);
    if (!path)
        return infer_fail_memory(err, bytes + 1, "path");
    memcpy(path, from, bytes + 1);
    for (uint64_t i = 0; i < first->count && s == INFER_OK; i++) {
        if (i == first->number)
            continue;
        snprintf(path + bytes - n, n + 1, "-%05u-of-%05u.gguf", (unsigned)i + 1, (unsigned)first->count);
        if ((s = open_file(a, path, &parts[i], err)) != INFER_OK || (s = read_split(&parts[i], &other, err)) != INFER_OK)
            break;
        if (other.number != i || other.count != first->count || other.tensors != first->tensors)
            s = infer_fail(err, INFER_ERROR_FORMAT,
                           "%s: split.no %" PRIu64 ", split.count %" PRIu64 ", split.tensors.count %" PRIu64 ", expected %" PRIu64 ", %" PRIu64
                           " and %" PRIu64 " beside %s",
                           path, other.number, other.count, other.tensors, i, first->count, first->tensors, from);
        else if ((tensors += parts[i].tensor_count) > first->tensors)
            s = infer_fail(err, INFER_ERROR_FORMAT, "%s: more tensors up to this part than the %" PRIu64 " of split.tensors.count", path, first->tensors);
        if (i > 0)
            free_values(&parts[i]);
    }
    infer_free(a, path);
    return s;
}

/* Moves what the parts hold into *g, which is empty. */
static infer_status join_parts(infer_gguf *g, infer_gguf *parts, const split *all, infer_error *err)
{
    uint64_t tensors = 0;
    infer_gguf_tensor *next;

    for (uint64_t i = 0; i < all->count; i++)
        tensors += parts[i].tensor_count;
    if (tensors != all->tensors)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: %" PRIu64 " tensors in its %" PRIu64 " parts, expected %" PRIu64 " as split.tensors.count says",
                          parts->path, tensors, all->count, all->tensors);
    g->files = infer_alloc_array(&g->allocator, (size_t)all->count, sizeof *g->files);
    g->tensors = next = infer_alloc_array(&g->allocator, (size_t)tensors + 1, sizeof *g->tensors);
    if (!g->files || !g->tensors || !infer_strmap_init(&g->names, &g->allocator, (size_t)tensors, tensors))
        return infer_fail_memory(err, (size_t)tensors * sizeof *g->tensors, "tensor list");
    g->path = parts->path;
    g->values = parts->values;
    g->value_count = parts->value_count;
    g->keys = parts->keys;
    parts->values = NULL;
    parts->keys = (infer_strmap){0};
    for (; g->file_count < all->count; g->file_count++) {
        infer_gguf *part = &parts[g->file_count];
        g->files[g->file_count] = *part->files;
        part->file_count = 0;
    }
    for (uint32_t i = 0; i < g->file_count; i++)
        for (uint32_t j = 0; j < parts[i].tensor_count; j++, next++) {
            *next = parts[i].tensors[j];
            next->file = i;
            if (infer_strmap_put(&g->names, next->name, (uint32_t)strlen(next->name), g->tensor_count++) != INFER_STRMAP_NONE)
                return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s is in an earlier part, too", g->files[i].path, next->name);
        }
    return INFER_OK;
}

/* *g is one part of a model and becomes the whole. */
static infer_status open_split(infer_gguf *g, const split *all, infer_error *err)
{
    const infer_allocator a = g->allocator;
    infer_gguf *parts = infer_alloc_array(&a, (size_t)all->count, sizeof *parts);
    infer_status s;

    if (!parts)
        return infer_fail_memory(err, (size_t)all->count * sizeof *parts, "parts of a model");
    parts[all->number] = *g;
    *g = (infer_gguf){.allocator = a};
    if ((s = open_parts(parts, all, err)) == INFER_OK)
        s = join_parts(g, parts, all, err);
    for (uint64_t i = 0; i < all->count; i++)
        infer_gguf_close(&parts[i]);
    infer_free(&a, parts);
    return s;
}

infer_status infer_gguf_open(const infer_allocator *a, const char *path, infer_gguf *g, infer_error *err)
{
    split all;
    infer_status s = open_file(a, path, g, err);

    if (s != INFER_OK)
        return s;
    if ((s = read_split(g, &all, err)) == INFER_OK && all.count > 1)
        s = open_split(g, &all, err);
    if (s != INFER_OK)
        infer_gguf_close(g);
    return s;
}

void infer_gguf_close(infer_gguf *g)
{
    const infer_allocator a = g->allocator;

    free_values(g);
    infer_strmap_free(&g->names, &a);
    infer_free(&a, g->tensors);
    for (uint32_t i = 0; i < g->file_count; i++) {
        infer_free(&a, g->files[i].path);
        if (g->files[i].map.fd >= 0)
            infer_unmap(&g->files[i].map);
    }
    infer_free(&a, g->files);
    *g = (infer_gguf){.allocator = a};
}

infer_status infer_gguf_check(const infer_gguf *g, const infer_gguf_tensor *t, infer_error *err)
{
    return infer_map_check(&g->files[t->file].map, g->files[t->file].path, err);
}

const infer_gguf_value *infer_gguf_find(const infer_gguf *g, const char *key)
{
    uint32_t i = infer_strmap_get(&g->keys, key, strlen(key));
    return i == INFER_STRMAP_NONE ? NULL : &g->values[i];
}

const infer_gguf_tensor *infer_gguf_find_tensor(const infer_gguf *g, const char *name)
{
    uint32_t i = infer_strmap_get(&g->names, name, strlen(name));
    return i == INFER_STRMAP_NONE ? NULL : &g->tensors[i];
}

static infer_status fail_missing(const infer_gguf *g, const char *key, infer_error *err)
{
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: key %s is missing", g->path, key);
}

static infer_status fail_kind(const infer_gguf *g, const infer_gguf_value *v, const char *key, const char *expected, infer_error *err)
{
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: key %s: value of type %" PRIu32 ", expected %s", g->path, key, v->type, expected);
}

/* Integers of every width; negative ones come out as huge numbers and fail the caller's limit. */
static bool as_uint(const infer_gguf_value *v, uint64_t *out)
{
    switch (v->type) {
    case GGUF_U8: *out = v->data[0]; return true;
    case GGUF_I8: *out = (uint64_t)(int64_t)(int8_t)v->data[0]; return true;
    case GGUF_U16: *out = get_u16(v->data); return true;
    case GGUF_I16: *out = (uint64_t)(int64_t)(int16_t)get_u16(v->data); return true;
    case GGUF_U32: *out = get_u32(v->data); return true;
    case GGUF_I32: *out = (uint64_t)(int64_t)(int32_t)get_u32(v->data); return true;
    case GGUF_U64:
    case GGUF_I64: *out = get_u64(v->data); return true;
    default: return false;
    }
}

infer_status infer_gguf_uint(const infer_gguf *g, const char *key, bool required, uint64_t most, uint64_t *out, infer_error *err)
{
    const infer_gguf_value *v = infer_gguf_find(g, key);
    uint64_t n;
    if (!v)
        return required ? fail_missing(g, key, err) : INFER_OK;
    if (!as_uint(v, &n))
        return fail_kind(g, v, key, "an integer", err);
    if (n > most)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: key %s: found %" PRIu64 ", expected at most %" PRIu64, g->path, key, n, most);
    *out = n;
    return INFER_OK;
}

infer_status infer_gguf_float(const infer_gguf *g, const char *key, bool required, double *out, infer_error *err)
{
    const infer_gguf_value *v = infer_gguf_find(g, key);
    if (!v)
        return required ? fail_missing(g, key, err) : INFER_OK;
    if (v->type == GGUF_F32)
        *out = get_f32(v->data);
    else if (v->type == GGUF_F64)
        memcpy(out, v->data, sizeof *out);
    else
        return fail_kind(g, v, key, "a floating-point number", err);
    return INFER_OK;
}

infer_status infer_gguf_bool(const infer_gguf *g, const char *key, bool *out, infer_error *err)
{
    const infer_gguf_value *v = infer_gguf_find(g, key);
    if (!v)
        return INFER_OK;
    if (v->type != GGUF_BOOL)
        return fail_kind(g, v, key, "a truth value", err);
    *out = v->data[0] != 0;
    return INFER_OK;
}

infer_status infer_gguf_string(const infer_gguf *g, const char *key, bool required, const char **out, uint64_t *bytes, infer_error *err)
{
    const infer_gguf_value *v = infer_gguf_find(g, key);
    *out = NULL;
    *bytes = 0;
    if (!v)
        return required ? fail_missing(g, key, err) : INFER_OK;
    if (v->type != GGUF_STRING)
        return fail_kind(g, v, key, "text", err);
    *out = (const char *)v->data;
    *bytes = v->count;
    return INFER_OK;
}

infer_status infer_gguf_array(const infer_gguf *g, const char *key, infer_gguf_type element, bool required, const infer_gguf_value **out,
                              infer_error *err)
{
    const infer_gguf_value *v = infer_gguf_find(g, key);
    *out = NULL;
    if (!v)
        return required ? fail_missing(g, key, err) : INFER_OK;
    if (v->type != GGUF_ARRAY || v->element != element)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: key %s: expected an array of elements of type %d", g->path, key, (int)element);
    *out = v;
    return INFER_OK;
}

const char *infer_gguf_next_string(const uint8_t **p, uint64_t *bytes)
{
    const char *text = (const char *)*p + STRING_HEADER;
    *bytes = get_u64(*p);
    *p += STRING_HEADER + *bytes;
    return text;
}
