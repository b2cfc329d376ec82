/* Opens a .infer file: everything outside the tensors is checked here, once, before anything of it is used. */
#include "bytes.h"
#include "file.h"
#include "layout.h"
#include "sparse.h"
#include "strmap.h"
#include "utf8.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

struct infer_file {
    infer_allocator allocator; /* zeros: the C library's */
    char *path;
    infer_mapping map;
    /* Metadata and directory are small and copied, so that what was checked is what is used, whatever becomes of the file. */
    char *metadata;
    char *names;
    infer_tensor_info *tensors;
    uint32_t tensor_count;
    infer_strmap by_name;
    uint64_t vocab_offset, vocab_bytes;
    uint8_t *vocab; /* a copy, NULL: in the map */
    uint64_t hash; /* of the header */
};

typedef struct header {
    uint64_t meta_offset, meta_bytes, vocab_offset, vocab_bytes, dir_offset, dir_bytes, data_offset;
    uint64_t meta_hash, vocab_hash, dir_hash;
    uint32_t tensors;
} header;

static infer_status fail_number(infer_error *err, infer_status status, const char *path, const char *what, uint64_t found,
                                uint64_t expected)
{
    return infer_fail(err, status, "%s: %s: found %" PRIu64 ", expected %" PRIu64, path, what, found, expected);
}

static infer_status fail_hash(infer_error *err, const char *path, const char *what, uint64_t offset, uint64_t found, uint64_t expected)
{
    return infer_fail(err, INFER_ERROR_CORRUPT, "%s: %s at offset %" PRIu64 " is damaged: hash %016" PRIx64 ", expected %016" PRIx64, path,
                      what, offset, found, expected);
}

/* Bytes [from, to) of the map, fewer than INFER_FILE_ALIGN of them. */
static infer_status check_padding(const infer_file *f, uint64_t from, uint64_t to, const char *after, infer_error *err)
{
    for (uint64_t i = from; i < to; i++)
        if (f->map.data[i] != 0)
            return infer_fail(err, INFER_ERROR_CORRUPT, "%s: padding after %s at offset %" PRIu64 ": found byte 0x%02x, expected 0x00",
                              f->path, after, i, f->map.data[i]);
    return INFER_OK;
}

static infer_status read_header(const infer_file *f, header *h, infer_error *err)
{
    const uint8_t *p = f->map.data;
    const char *path = f->path;
    uint64_t size = f->map.size, hash, end;
    uint32_t version;

    if (size == 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: the file is empty", path);
    if (memcmp(p, MAGIC, size < MAGIC_BYTES ? (size_t)size : MAGIC_BYTES) != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: not an .infer file (the first bytes differ)", path);
    if (size < HEADER_BYTES)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: the file ends within its header: %" PRIu64 " bytes, expected at least %d", path,
                          size, HEADER_BYTES);
    version = get_u32(p + HEADER_VERSION);
    if (version != INFER_FILE_VERSION)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: format version %" PRIu32 ", this library reads version %u", path, version,
                          INFER_FILE_VERSION);
    hash = XXH3_64bits(p, HEADER_HASH);
    if (hash != get_u64(p + HEADER_HASH))
        return fail_hash(err, path, "header", 0, hash, get_u64(p + HEADER_HASH));
    if (get_u32(p + HEADER_BYTES_FIELD) != HEADER_BYTES)
        return fail_number(err, INFER_ERROR_FORMAT, path, "header bytes", get_u32(p + HEADER_BYTES_FIELD), HEADER_BYTES);
    if (get_u32(p + HEADER_FLAGS) != 0)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: header flags 0x%" PRIx32 " are unknown to this library", path,
                          get_u32(p + HEADER_FLAGS));
    if (get_u64(p + HEADER_RESERVED) != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: reserved bytes at offset %d are not zero", path, HEADER_RESERVED);
    if (get_u64(p + HEADER_FILE_BYTES) != size)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: the file has %" PRIu64 " bytes, its header says %" PRIu64 "%s", path, size,
                          get_u64(p + HEADER_FILE_BYTES), size < get_u64(p + HEADER_FILE_BYTES) ? ": the end is missing" : "");

    h->meta_offset = get_u64(p + HEADER_META_OFFSET);
    h->meta_bytes = get_u64(p + HEADER_META_BYTES);
    h->vocab_offset = get_u64(p + HEADER_VOCAB_OFFSET);
    h->vocab_bytes = get_u64(p + HEADER_VOCAB_BYTES);
    h->dir_offset = get_u64(p + HEADER_DIR_OFFSET);
    h->dir_bytes = get_u64(p + HEADER_DIR_BYTES);
    h->data_offset = get_u64(p + HEADER_DATA_OFFSET);
    h->meta_hash = get_u64(p + HEADER_META_HASH);
    h->vocab_hash = get_u64(p + HEADER_VOCAB_HASH);
    h->dir_hash = get_u64(p + HEADER_DIR_HASH);
    h->tensors = get_u32(p + HEADER_TENSORS);

    /* Limits first: then no sum below can overflow. */
    if (h->meta_bytes < 2 || h->meta_bytes > INFER_FILE_MAX_META)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: metadata bytes: found %" PRIu64 ", expected 2 to %u", path, h->meta_bytes,
                          INFER_FILE_MAX_META);
    if (h->vocab_bytes > INFER_FILE_MAX_VOCAB)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tokenizer bytes: found %" PRIu64 ", expected at most %u", path, h->vocab_bytes,
                          INFER_FILE_MAX_VOCAB);
    if (h->tensors > INFER_FILE_MAX_TENSORS)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensors: found %" PRIu32 ", expected at most %u", path, h->tensors,
                          INFER_FILE_MAX_TENSORS);
    end = (uint64_t)h->tensors * (ENTRY_BYTES + 2);
    if (h->dir_bytes < end || h->dir_bytes > (uint64_t)h->tensors * (ENTRY_BYTES + INFER_FILE_MAX_NAME + 1))
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: directory bytes: found %" PRIu64 ", expected %" PRIu64 " to %" PRIu64 " for %" PRIu32 " tensors", path,
                          h->dir_bytes, end, (uint64_t)h->tensors * (ENTRY_BYTES + INFER_FILE_MAX_NAME + 1), h->tensors);

    /* The sections follow one another at multiples of 64. */
    end = HEADER_BYTES;
    if (h->meta_offset != end)
        return fail_number(err, INFER_ERROR_FORMAT, path, "metadata offset", h->meta_offset, end);
    end = align_up(end + h->meta_bytes);
    if (h->vocab_offset != end)
        return fail_number(err, INFER_ERROR_FORMAT, path, "tokenizer offset", h->vocab_offset, end);
    end = align_up(end + h->vocab_bytes);
    if (h->dir_offset != end)
        return fail_number(err, INFER_ERROR_FORMAT, path, "directory offset", h->dir_offset, end);
    end = align_up(end + h->dir_bytes);
    if (h->data_offset != end)
        return fail_number(err, INFER_ERROR_FORMAT, path, "data offset", h->data_offset, end);
    if (h->data_offset > size)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: the directory ends at offset %" PRIu64 ", beyond the file's %" PRIu64 " bytes",
                          path, h->data_offset, size);
    return INFER_OK;
}

static infer_status read_metadata(infer_file *f, const header *h, infer_error *err)
{
    size_t bytes = (size_t)h->meta_bytes;
    uint64_t hash;
    cJSON *json;
    bool object;

    f->metadata = infer_alloc(&f->allocator, bytes + 1);
    if (!f->metadata)
        return infer_fail_memory(err, bytes + 1, "metadata");
    memcpy(f->metadata, f->map.data + h->meta_offset, bytes);
    f->metadata[bytes] = '\0';
    hash = XXH3_64bits(f->metadata, bytes);
    if (hash != h->meta_hash)
        return fail_hash(err, f->path, "metadata", h->meta_offset, hash, h->meta_hash);
    for (size_t i = 0, n; i < bytes; i += n) {
        n = f->metadata[i] == '\0' ? 0 : utf8_character((const uint8_t *)f->metadata + i, bytes - i);
        if (n == 0)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: metadata: byte %zu is not UTF-8 text", f->path, i);
    }
    /* cJSON takes memory from the C library, not from the caller's allocator: its hooks are process-global, and the library has no global
     * state. The limit on the metadata bounds the memory (some 40 times its bytes), cJSON's own nesting limit the stack. */
    json = cJSON_ParseWithLengthOpts(f->metadata, bytes + 1, NULL, 1);
    object = cJSON_IsObject(json);
    cJSON_Delete(json);
    if (!object)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: metadata is not one JSON object", f->path);
    return check_padding(f, h->meta_offset + h->meta_bytes, h->vocab_offset, "metadata", err);
}

static infer_status read_vocab(infer_file *f, const header *h, infer_error *err)
{
    const uint8_t *section = f->map.data + h->vocab_offset;
    uint64_t hash;
    if (f->map.guard && h->vocab_bytes) {
        if (!(f->vocab = infer_alloc(&f->allocator, (size_t)h->vocab_bytes)))
            return infer_fail_memory(err, (size_t)h->vocab_bytes, "a copy of the tokenizer");
        section = memcpy(f->vocab, section, (size_t)h->vocab_bytes);
    }
    hash = XXH3_64bits(section, (size_t)h->vocab_bytes);
    if (hash != h->vocab_hash)
        return fail_hash(err, f->path, "tokenizer", h->vocab_offset, hash, h->vocab_hash);
    f->vocab_offset = h->vocab_offset;
    f->vocab_bytes = h->vocab_bytes;
    return check_padding(f, h->vocab_offset + h->vocab_bytes, h->dir_offset, "tokenizer", err);
}

/* Entry i of the directory. *name_at and *data_at: where its name and its data must begin; moved on to the next tensor's. */
static infer_status read_entry(infer_file *f, const uint8_t *entry, uint32_t i, uint64_t names_bytes, uint64_t *name_at, uint64_t *data_at,
                               infer_error *err)
{
    infer_tensor_info *t = &f->tensors[i];
    uint64_t name_offset = get_u32(entry + ENTRY_NAME_OFFSET), name_bytes = get_u16(entry + ENTRY_NAME_BYTES), expected;
    uint32_t type = entry[ENTRY_TYPE], layout = entry[ENTRY_LAYOUT];
    bool sparse;

    if (name_offset != *name_at)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %" PRIu32 ": name offset: found %" PRIu64 ", expected %" PRIu64, f->path, i,
                          name_offset, *name_at);
    if (name_bytes < 1 || name_bytes > INFER_FILE_MAX_NAME || name_bytes >= names_bytes - name_offset)
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tensor %" PRIu32 ": name of %" PRIu64 " bytes: expected 1 to %u, inside the directory", f->path, i,
                          name_bytes, INFER_FILE_MAX_NAME);
    for (uint64_t j = 0; j < name_bytes; j++)
        if (!name_byte_ok((unsigned char)f->names[name_offset + j]))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %" PRIu32 ": byte 0x%02x in its name, expected 0x21 to 0x7e", f->path, i,
                              (unsigned char)f->names[name_offset + j]);
    if (f->names[name_offset + name_bytes] != '\0')
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %" PRIu32 ": its name does not end with a zero byte", f->path, i);
    *name_at += name_bytes + 1;

    t->name = f->names + name_offset;
    t->offset = get_u64(entry + ENTRY_OFFSET);
    t->bytes = get_u64(entry + ENTRY_BYTES_FIELD);
    t->rows = get_u64(entry + ENTRY_ROWS);
    t->cols = get_u64(entry + ENTRY_COLS);
    t->hash = get_u64(entry + ENTRY_HASH);
    t->type = (infer_qtype)type;
    t->layout = (infer_layout)layout;
    if (!infer_qtype_find(type))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s: type %" PRIu32 " is unknown to this library", f->path, t->name,
                          type);
    if (!infer_layout_name(layout))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tensor %s: layout %" PRIu32 " is unknown to this library", f->path, t->name,
                          layout);
    if (t->rows < 1 || t->rows > INFER_FILE_MAX_DIM || t->cols < 1 || t->cols > INFER_FILE_MAX_DIM)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: shape [%" PRIu64 "][%" PRIu64 "], expected 1 to %u each", f->path,
                          t->name, t->rows, t->cols, INFER_FILE_MAX_DIM);
    sparse = infer_layout_sparse(layout);
    if (!(sparse ? infer_sparse_bytes(type, layout, t->rows, t->cols, 0, &expected)
                 : infer_tensor_bytes(type, layout, t->rows, t->cols, &expected)))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: type %s cannot be stored as %s", f->path, t->name,
                          infer_qtype_find(type)->name, infer_layout_name(layout));
    if (sparse && !infer_sparse_bytes_fit(type, layout, t->rows, t->cols, t->bytes))
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tensor %s: bytes: found %" PRIu64 ", expected %" PRIu64 " and what some units take for %s %s [%" PRIu64
                          "][%" PRIu64 "]",
                          f->path, t->name, t->bytes, expected, infer_qtype_find(type)->name, infer_layout_name(layout), t->rows, t->cols);
    if (!sparse && t->bytes != expected)
        return infer_fail(err, INFER_ERROR_FORMAT,
                          "%s: tensor %s: bytes: found %" PRIu64 ", expected %" PRIu64 " for %s %s [%" PRIu64 "][%" PRIu64 "]", f->path,
                          t->name, t->bytes, expected, infer_qtype_find(type)->name, infer_layout_name(layout), t->rows, t->cols);
    if (t->offset != *data_at)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: offset: found %" PRIu64 ", expected %" PRIu64, f->path, t->name,
                          t->offset, *data_at);
    /* *data_at is within the file and at a multiple of 64; so is the file's end, or the last tensor's padding would not fit. */
    if (t->bytes > f->map.size - t->offset || align_up(t->bytes) > f->map.size - t->offset)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %s: %" PRIu64 " bytes at offset %" PRIu64 " end beyond the file's %zu",
                          f->path, t->name, t->bytes, t->offset, f->map.size);
    *data_at += align_up(t->bytes);

    if (infer_strmap_put(&f->by_name, t->name, (uint32_t)name_bytes, i) != INFER_STRMAP_NONE)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %" PRIu32 ": there is another tensor named %s", f->path, i, t->name);
    return INFER_OK;
}

static infer_status read_directory(infer_file *f, const header *h, infer_error *err)
{
    const uint8_t *entries = f->map.data + h->dir_offset;
    uint64_t entries_bytes = (uint64_t)h->tensors * ENTRY_BYTES, names_bytes = h->dir_bytes - entries_bytes;
    uint64_t name_at = 0, data_at = h->data_offset;
    uint64_t hash = XXH3_64bits(entries, (size_t)h->dir_bytes);
    infer_status s;

    if (hash != h->dir_hash)
        return fail_hash(err, f->path, "tensor directory", h->dir_offset, hash, h->dir_hash);
    if (h->tensors) {
        f->tensors = infer_alloc_array(&f->allocator, h->tensors, sizeof *f->tensors);
        f->names = infer_alloc(&f->allocator, (size_t)names_bytes);
        if (!f->tensors || !f->names)
            return infer_fail_memory(err, h->tensors * sizeof *f->tensors + (size_t)names_bytes, "tensor directory");
        memcpy(f->names, entries + entries_bytes, (size_t)names_bytes);
    }
    f->tensor_count = h->tensors;
    if (!infer_strmap_init(&f->by_name, &f->allocator, h->tensors, h->dir_hash))
        return infer_fail_memory(err, h->tensors * 2 * sizeof(infer_strmap_slot), "tensor names");
    for (uint32_t i = 0; i < h->tensors; i++)
        if ((s = read_entry(f, entries + (uint64_t)i * ENTRY_BYTES, i, names_bytes, &name_at, &data_at, err)) != INFER_OK)
            return s;
    if (name_at != names_bytes)
        return fail_number(err, INFER_ERROR_FORMAT, f->path, "bytes of tensor names", names_bytes, name_at);
    if (data_at != f->map.size)
        return fail_number(err, INFER_ERROR_FORMAT, f->path, "file bytes after the last tensor", f->map.size, data_at);
    return check_padding(f, h->dir_offset + h->dir_bytes, h->data_offset, "tensor directory", err);
}

static infer_status map_origin(const infer_file *f, const infer_file_origin *from, infer_mapping *out, infer_error *err)
{
    uint8_t *copy;
    if (!from->data)
        return from->copy ? infer_copy_file(&f->allocator, f->path, from->fd, UINT64_MAX, out, err) : infer_map_fd(from->fd, f->path, out, err);
    if (!from->copy) {
        *out = (infer_mapping){.data = from->data, .size = from->bytes, .fd = -1, .borrowed = true};
        return INFER_OK;
    }
    if (!(copy = infer_alloc(&f->allocator, from->bytes ? from->bytes : 1)))
        return infer_fail_memory(err, from->bytes, "a copy of the file");
    memcpy(copy, from->data, from->bytes);
    *out = (infer_mapping){.data = copy, .size = from->bytes, .fd = -1, .allocator = &f->allocator};
    return INFER_OK;
}

infer_status infer_file_open_from(const infer_allocator *a, const infer_file_origin *from, infer_file **out, infer_error *err)
{
    const char *path = from->name;
    infer_file *f = infer_alloc_zero(a, sizeof *f);
    size_t path_bytes = strlen(path) + 1;
    header h = {0};
    infer_status s;

    if (!f)
        return infer_fail_memory(err, sizeof *f, "file");
    if (a)
        f->allocator = *a;
    f->map.fd = -1;
    f->path = infer_alloc(&f->allocator, path_bytes);
    if (!f->path) {
        s = infer_fail_memory(err, path_bytes, "path");
        goto fail;
    }
    memcpy(f->path, path, path_bytes);
    if ((s = map_origin(f, from, &f->map, err)) != INFER_OK || (from->guard && (s = infer_guard(&f->map, path, err)) != INFER_OK))
        goto fail;
    if ((s = read_header(f, &h, err)) != INFER_OK || (s = read_metadata(f, &h, err)) != INFER_OK ||
        (s = read_vocab(f, &h, err)) != INFER_OK || (s = read_directory(f, &h, err)) != INFER_OK)
        goto fail;
    f->hash = get_u64(f->map.data + HEADER_HASH);
    *out = f;
    return INFER_OK;
fail:
    infer_file_close(f);
    return s;
}

infer_status infer_file_open(const infer_allocator *a, const char *path, infer_file **out, infer_error *err)
{
    return infer_file_open_from(a, &(infer_file_origin){.name = path, .fd = -1}, out, err);
}

void infer_file_close(infer_file *f)
{
    infer_allocator allocator; /* outlives f */
    const infer_allocator *a = &allocator;
    if (!f)
        return;
    allocator = f->allocator;
    infer_unmap(&f->map);
    infer_strmap_free(&f->by_name, a);
    infer_free(a, f->tensors);
    infer_free(a, f->names);
    infer_free(a, f->metadata);
    infer_free(a, f->vocab);
    infer_free(a, f->path);
    infer_free(&allocator, f);
}

const char *infer_file_path(const infer_file *f) { return f->path; }
uint64_t infer_file_hash(const infer_file *f) { return f->hash; }
uint64_t infer_file_bytes(const infer_file *f) { return f->map.size; }
const char *infer_file_metadata(const infer_file *f) { return f->metadata; }

const uint8_t *infer_file_vocab(const infer_file *f, size_t *bytes)
{
    *bytes = (size_t)f->vocab_bytes;
    return f->vocab ? f->vocab : f->map.data + f->vocab_offset;
}

size_t infer_file_tensor_count(const infer_file *f) { return f->tensor_count; }

const infer_tensor_info *infer_file_tensor(const infer_file *f, size_t index)
{
    return index < f->tensor_count ? &f->tensors[index] : NULL;
}

const infer_tensor_info *infer_file_find(const infer_file *f, const char *name)
{
    uint32_t i = infer_strmap_get(&f->by_name, name, strlen(name));
    return i == INFER_STRMAP_NONE ? NULL : &f->tensors[i];
}

const void *infer_file_data(const infer_file *f, const infer_tensor_info *t) { return f->map.data + t->offset; }

#if defined(__x86_64__)
/* xxHash's own choice by CPU, twice as fast as its SSE2 baseline; not in every build of the library, hence weak. */
XXH64_hash_t XXH3_64bits_dispatch(const void *input, size_t length) __attribute__((weak));
#endif

static uint64_t hash_tensor(const void *data, size_t bytes)
{
#if defined(__x86_64__)
    if (XXH3_64bits_dispatch)
        return XXH3_64bits_dispatch(data, bytes);
#endif
    return XXH3_64bits(data, bytes);
}

infer_status infer_file_check_sparse(const infer_file *f, const infer_tensor_info *t, infer_error *err)
{
    infer_sparse_fault fault;

    if (!infer_layout_sparse(t->layout) ||
        infer_sparse_check(t->type, t->layout, t->rows, t->cols, f->map.data + t->offset, t->bytes, &fault))
        return INFER_OK;
    return infer_fail(err, INFER_ERROR_CORRUPT,
                      "%s: tensor %s at offset %" PRIu64 ": %s %" PRIu64 ": found %" PRIu64 ", expected %" PRIu64, f->path,
                      t->name, t->offset, fault.what, fault.at, fault.found, fault.expected);
}

infer_status infer_file_verify(const infer_file *f, const infer_tensor_info *t, infer_error *err)
{
    char what[INFER_FILE_MAX_NAME + 16];
    infer_status s = infer_file_check(f, err);
    uint64_t hash;

    if (s != INFER_OK)
        return s;
    snprintf(what, sizeof what, "tensor %s", t->name);
    hash = hash_tensor(f->map.data + t->offset, (size_t)t->bytes);
    if (hash != t->hash)
        return fail_hash(err, f->path, what, t->offset, hash, t->hash);
    if ((s = infer_file_check_sparse(f, t, err)) != INFER_OK)
        return s;
    return check_padding(f, t->offset + t->bytes, t->offset + align_up(t->bytes), what, err);
}

infer_status infer_file_check(const infer_file *f, infer_error *err) { return infer_map_check(&f->map, f->path, err); }
