/* Writes a .infer file, section after section; the directory and the header come last, when all hashes are known. */
#define XXH_STATIC_LINKING_ONLY /* XXH3_state_t inside our own struct: XXH3_createState would call malloc */
#include "bytes.h"
#include "file.h"
#include "layout.h"
#include "sparse.h"
#include "strmap.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* Written in pieces of two huge pages, at multiples of that: file systems with large folios then keep the file in huge pages, and a map of
 * it reads as fast as anonymous memory in huge pages. In 256 KiB pieces it was 10 to 20 % slower. */
#define BUFFER_BYTES (4u << 20)

typedef struct declared {
    infer_tensor_info info; /* name: see name_at */
    size_t name_at;
} declared;

struct infer_writer {
    XXH3_state_t hash; /* of the current tensor; wants 64-byte alignment, which infer_alloc gives */
    infer_allocator allocator;
    char *path, *temporary;
    int fd;
    bool overwrite, begun;
    uint64_t meta_bytes, meta_hash, vocab_offset, vocab_bytes, vocab_hash, dir_offset, dir_bytes, data_offset;
    declared *tensors;
    size_t tensor_cap;
    uint32_t tensor_count;
    char *names;
    size_t names_bytes, names_cap;
    uint32_t current;  /* tensor being written */
    uint64_t written;  /* bytes of it so far */
    uint64_t position; /* of the file, the buffer included */
    size_t buffered;
    uint8_t buffer[BUFFER_BYTES];
};

static void writer_free(infer_writer *w)
{
    infer_allocator a = w->allocator;
    if (w->fd >= 0)
        close(w->fd);
    infer_free(&a, w->path);
    infer_free(&a, w->temporary);
    infer_free(&a, w->tensors);
    infer_free(&a, w->names);
    infer_free(&a, w);
}

void infer_writer_abort(infer_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        unlink(w->temporary);
    writer_free(w);
}

static infer_status fail_errno(const infer_writer *w, const char *what, infer_error *err)
{
    int e = errno;
    return infer_fail(err, INFER_ERROR_IO, "%s: %s: %s", w->path, what, strerror(e));
}

static infer_status write_at(infer_writer *w, const uint8_t *p, size_t bytes, uint64_t offset, infer_error *err)
{
    while (bytes) {
        ssize_t n = pwrite(w->fd, p, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno(w, "cannot write", err);
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return INFER_OK;
}

static infer_status flush(infer_writer *w, infer_error *err)
{
    infer_status s = write_at(w, w->buffer, w->buffered, w->position - w->buffered, err);
    w->buffered = 0;
    return s;
}

static infer_status append(infer_writer *w, const void *data, size_t bytes, infer_error *err)
{
    const uint8_t *p = data;
    infer_status s;
    while (bytes) {
        size_t n = BUFFER_BYTES - (size_t)(w->position % BUFFER_BYTES);
        n = n < bytes ? n : bytes;
        memcpy(w->buffer + w->buffered, p, n);
        w->buffered += n;
        w->position += n;
        p += n;
        bytes -= n;
        if (w->position % BUFFER_BYTES == 0 && (s = flush(w, err)) != INFER_OK)
            return s;
    }
    return INFER_OK;
}

/* Zeros up to the next multiple of INFER_FILE_ALIGN. */
static infer_status pad(infer_writer *w, infer_error *err)
{
    static const uint8_t zeros[INFER_FILE_ALIGN];
    return append(w, zeros, (size_t)(align_up(w->position) - w->position), err);
}

/* An existing path must be a regular file that we were told to replace. */
static infer_status check_target(const infer_writer *w, infer_error *err)
{
    struct stat st;
    if (lstat(w->path, &st) != 0)
        return errno == ENOENT ? INFER_OK : fail_errno(w, "cannot be written", err);
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return infer_fail(err, INFER_ERROR_IO, "%s: exists and is %s, expected a regular file or none", w->path,
                          S_ISDIR(st.st_mode) ? "a directory" : "not a file");
    if (!w->overwrite)
        return infer_fail(err, INFER_ERROR_IO, "%s: exists already", w->path);
    return INFER_OK;
}

/* O_EXCL with a number that no other writer of this process or another one uses; unlike mkstemp it honours the umask. */
static infer_status open_temporary(infer_writer *w, size_t size, infer_error *err)
{
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(w->temporary, size, "%s.%ld-%u.tmp", w->path, (long)getpid(), i);
        w->fd = open(w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0)
            return INFER_OK;
        if (errno != EEXIST)
            break;
    }
    return fail_errno(w, "cannot create a temporary file beside it", err);
}

static bool is_json_object(const char *text, size_t bytes)
{
    cJSON *json = cJSON_ParseWithLengthOpts(text, bytes + 1, NULL, 1); /* on cJSON's memory: see reader.c */
    bool object = cJSON_IsObject(json);
    cJSON_Delete(json);
    return object;
}

infer_status infer_writer_create(const infer_allocator *a, const char *path, const infer_writer_options *options, infer_writer **out,
                                 infer_error *err)
{
    static const uint8_t no_header[HEADER_BYTES];
    size_t path_bytes = strlen(path) + 1, temporary_bytes = path_bytes + 48, meta_bytes = strlen(options->metadata);
    infer_writer *w;
    infer_status s;

    if (meta_bytes < 2 || meta_bytes > INFER_FILE_MAX_META || !is_json_object(options->metadata, meta_bytes))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: the metadata must be one JSON object of at most %u bytes", path,
                          INFER_FILE_MAX_META);
    if (options->vocab_bytes > INFER_FILE_MAX_VOCAB)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: tokenizer bytes: found %zu, expected at most %u", path, options->vocab_bytes,
                          INFER_FILE_MAX_VOCAB);
    w = infer_alloc_zero(a, sizeof *w);
    if (!w)
        return infer_fail_memory(err, sizeof *w, "file writer");
    if (a)
        w->allocator = *a;
    w->fd = -1;
    w->overwrite = options->overwrite;
    w->path = infer_alloc(a, path_bytes);
    w->temporary = infer_alloc(a, temporary_bytes);
    if (!w->path || !w->temporary) {
        s = infer_fail_memory(err, path_bytes + temporary_bytes, "path");
        goto fail;
    }
    memcpy(w->path, path, path_bytes);
    if ((s = check_target(w, err)) != INFER_OK || (s = open_temporary(w, temporary_bytes, err)) != INFER_OK)
        goto fail;

    w->meta_bytes = meta_bytes;
    w->meta_hash = XXH3_64bits(options->metadata, meta_bytes);
    w->vocab_bytes = options->vocab_bytes;
    w->vocab_hash = XXH3_64bits(options->vocab, options->vocab_bytes);
    w->vocab_offset = align_up(HEADER_BYTES + w->meta_bytes);
    w->dir_offset = align_up(w->vocab_offset + w->vocab_bytes);
    if ((s = append(w, no_header, sizeof no_header, err)) != INFER_OK || (s = append(w, options->metadata, meta_bytes, err)) != INFER_OK ||
        (s = pad(w, err)) != INFER_OK || (s = append(w, options->vocab, options->vocab_bytes, err)) != INFER_OK ||
        (s = pad(w, err)) != INFER_OK)
        goto fail;
    *out = w;
    return INFER_OK;
fail:
    infer_writer_abort(w);
    return s;
}

/* bytes 0: layout and shape do not go together. */
static infer_status declare(infer_writer *w, const char *name, infer_qtype type, infer_layout layout, uint64_t rows, uint64_t cols,
                            uint64_t bytes,
                            infer_error *err)
{
    size_t name_bytes = strlen(name);
    declared d = {{NULL, type, layout, rows, cols, 0, bytes, 0}, w->names_bytes};
    bool name_ok = name_bytes >= 1 && name_bytes <= INFER_FILE_MAX_NAME;

    for (size_t i = 0; name_ok && i < name_bytes; i++)
        name_ok = name_byte_ok((unsigned char)name[i]);
    if (!name_ok)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: tensor \"%s\": a name has 1 to %u bytes of printable ASCII without spaces",
                          w->path, name, INFER_FILE_MAX_NAME);
    if (w->begun)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: tensor %s: declared after data was written", w->path, name);
    if (w->tensor_count == INFER_FILE_MAX_TENSORS)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: more than %u tensors", w->path, INFER_FILE_MAX_TENSORS);
    if (rows < 1 || rows > INFER_FILE_MAX_DIM || cols < 1 || cols > INFER_FILE_MAX_DIM || bytes == 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: tensor %s: type %d, layout %d, shape [%" PRIu64 "][%" PRIu64 "] cannot be stored",
                          w->path, name, (int)type, (int)layout, rows, cols);
    if (!infer_grow(&w->allocator, &w->tensors, &w->tensor_cap, w->tensor_count + 1u, sizeof *w->tensors) ||
        !infer_grow(&w->allocator, &w->names, &w->names_cap, w->names_bytes + name_bytes + 1, 1))
        return infer_fail_memory(err, sizeof d + name_bytes + 1, "tensor directory");
    memcpy(w->names + w->names_bytes, name, name_bytes + 1);
    w->names_bytes += name_bytes + 1;
    w->tensors[w->tensor_count++] = d;
    return INFER_OK;
}

infer_status infer_writer_declare(infer_writer *w, const char *name, infer_qtype type, infer_layout layout, uint64_t rows, uint64_t cols,
                                  infer_error *err)
{
    uint64_t bytes;
    return declare(w, name, type, layout, rows, cols, infer_tensor_bytes(type, layout, rows, cols, &bytes) ? bytes : 0, err);
}

infer_status infer_writer_declare_sparse(infer_writer *w, const char *name, infer_qtype type, infer_layout layout, uint64_t rows,
                                         uint64_t cols,
                                         uint64_t bytes, infer_error *err)
{
    return declare(w, name, type, layout, rows, cols, infer_sparse_bytes_fit(type, layout, rows, cols, bytes) ? bytes : 0, err);
}

/* All tensors are declared: gives each its place, and leaves room for the directory. */
static infer_status begin(infer_writer *w, infer_error *err)
{
    static const uint8_t zeros[INFER_FILE_ALIGN];
    infer_strmap names;
    infer_status s = INFER_OK;
    uint64_t at;

    if (!infer_strmap_init(&names, &w->allocator, w->tensor_count, 0))
        return infer_fail_memory(err, w->tensor_count * sizeof(infer_strmap_slot), "tensor names");
    w->dir_bytes = (uint64_t)w->tensor_count * ENTRY_BYTES + w->names_bytes;
    w->data_offset = at = align_up(w->dir_offset + w->dir_bytes);
    for (uint32_t i = 0; i < w->tensor_count && s == INFER_OK; i++) {
        declared *d = &w->tensors[i];
        d->info.name = w->names + d->name_at;
        d->info.offset = at;
        if (infer_strmap_put(&names, d->info.name, (uint32_t)strlen(d->info.name), i) != INFER_STRMAP_NONE)
            s = infer_fail(err, INFER_ERROR_ARGUMENT, "%s: two tensors are named %s", w->path, d->info.name);
        else if (infer_add_overflows(at, align_up(d->info.bytes), &at) || at > INT64_MAX)
            s = infer_fail(err, INFER_ERROR_ARGUMENT, "%s: the file would have more than 2^63 bytes", w->path);
    }
    infer_strmap_free(&names, &w->allocator);
    while (s == INFER_OK && w->position < w->data_offset)
        s = append(w, zeros, sizeof zeros, err);
    XXH3_64bits_reset(&w->hash);
    w->begun = true;
    return s;
}

infer_status infer_writer_write(infer_writer *w, const void *data, size_t bytes, infer_error *err)
{
    declared *d;
    infer_status s;

    if (!w->begun && (s = begin(w, err)) != INFER_OK)
        return s;
    if (w->current == w->tensor_count)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: %zu bytes after the last tensor", w->path, bytes);
    d = &w->tensors[w->current];
    if (bytes > d->info.bytes - w->written)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: tensor %s: more than its %" PRIu64 " bytes", w->path, d->info.name,
                          d->info.bytes);
    XXH3_64bits_update(&w->hash, data, bytes);
    if ((s = append(w, data, bytes, err)) != INFER_OK)
        return s;
    w->written += bytes;
    if (w->written < d->info.bytes)
        return INFER_OK;
    d->info.hash = XXH3_64bits_digest(&w->hash);
    XXH3_64bits_reset(&w->hash);
    w->current++;
    w->written = 0;
    return pad(w, err);
}

static infer_status write_directory(infer_writer *w, uint64_t *hash, infer_error *err)
{
    uint8_t *dir, *e;
    infer_status s;

    *hash = XXH3_64bits(NULL, 0);
    if (w->dir_bytes == 0)
        return INFER_OK;
    dir = e = infer_alloc(&w->allocator, (size_t)w->dir_bytes);
    if (!dir)
        return infer_fail_memory(err, (size_t)w->dir_bytes, "tensor directory");
    for (uint32_t i = 0; i < w->tensor_count; i++, e += ENTRY_BYTES) {
        const declared *d = &w->tensors[i];
        put_u64(e + ENTRY_OFFSET, d->info.offset);
        put_u64(e + ENTRY_BYTES_FIELD, d->info.bytes);
        put_u64(e + ENTRY_ROWS, d->info.rows);
        put_u64(e + ENTRY_COLS, d->info.cols);
        put_u64(e + ENTRY_HASH, d->info.hash);
        put_u32(e + ENTRY_NAME_OFFSET, (uint32_t)d->name_at);
        put_u16(e + ENTRY_NAME_BYTES, (uint16_t)strlen(d->info.name));
        e[ENTRY_TYPE] = (uint8_t)d->info.type;
        e[ENTRY_LAYOUT] = (uint8_t)d->info.layout;
    }
    memcpy(e, w->names, w->names_bytes);
    *hash = XXH3_64bits(dir, (size_t)w->dir_bytes);
    s = write_at(w, dir, (size_t)w->dir_bytes, w->dir_offset, err);
    infer_free(&w->allocator, dir);
    return s;
}

static infer_status write_header(infer_writer *w, uint64_t dir_hash, infer_error *err)
{
    uint8_t h[HEADER_BYTES] = MAGIC;
    put_u32(h + HEADER_VERSION, INFER_FILE_VERSION);
    put_u32(h + HEADER_BYTES_FIELD, HEADER_BYTES);
    put_u64(h + HEADER_FILE_BYTES, w->position);
    put_u64(h + HEADER_META_OFFSET, HEADER_BYTES);
    put_u64(h + HEADER_META_BYTES, w->meta_bytes);
    put_u64(h + HEADER_VOCAB_OFFSET, w->vocab_offset);
    put_u64(h + HEADER_VOCAB_BYTES, w->vocab_bytes);
    put_u64(h + HEADER_DIR_OFFSET, w->dir_offset);
    put_u64(h + HEADER_DIR_BYTES, w->dir_bytes);
    put_u64(h + HEADER_DATA_OFFSET, w->data_offset);
    put_u32(h + HEADER_TENSORS, w->tensor_count);
    put_u64(h + HEADER_META_HASH, w->meta_hash);
    put_u64(h + HEADER_VOCAB_HASH, w->vocab_hash);
    put_u64(h + HEADER_DIR_HASH, dir_hash);
    put_u64(h + HEADER_HASH, XXH3_64bits(h, HEADER_HASH));
    return write_at(w, h, sizeof h, 0, err);
}

/* Makes the rename itself durable. Not every file system can, and the file is complete either way, so failures do not matter. */
static void sync_folder(const infer_writer *w)
{
    char *slash = strrchr(w->temporary, '/');
    int fd;
    if (slash)
        slash[slash == w->temporary] = '\0';
    fd = open(slash ? w->temporary : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

/* Without leave to overwrite, link() instead of rename(): it fails when somebody made the path meanwhile. */
static infer_status move_into_place(infer_writer *w, infer_error *err)
{
    infer_status s;
    if (!w->overwrite) {
        if (link(w->temporary, w->path) == 0) {
            unlink(w->temporary);
            return INFER_OK;
        }
        if (errno == EEXIST)
            return infer_fail(err, INFER_ERROR_IO, "%s: exists already", w->path);
        /* A file system without hard links. */
    }
    if ((s = check_target(w, err)) != INFER_OK)
        return s;
    return rename(w->temporary, w->path) == 0 ? INFER_OK : fail_errno(w, "cannot rename the temporary file", err);
}

infer_status infer_writer_finish(infer_writer *w, infer_error *err)
{
    infer_status s = INFER_OK;
    uint64_t dir_hash;
    int fd;

    if (!w->begun)
        s = begin(w, err);
    if (s == INFER_OK && w->current < w->tensor_count)
        s = infer_fail(err, INFER_ERROR_ARGUMENT, "%s: tensor %s: %" PRIu64 " bytes written, expected %" PRIu64, w->path,
                       w->tensors[w->current].info.name, w->written, w->tensors[w->current].info.bytes);
    if (s != INFER_OK || (s = flush(w, err)) != INFER_OK || (s = write_directory(w, &dir_hash, err)) != INFER_OK ||
        (s = write_header(w, dir_hash, err)) != INFER_OK)
        goto fail;
    if (fsync(w->fd) != 0) {
        s = fail_errno(w, "cannot write", err);
        goto fail;
    }
    if ((s = move_into_place(w, err)) != INFER_OK)
        goto fail;
    fd = w->fd;
    w->fd = -1; /* the temporary file is gone: nothing to remove any more */
    if (close(fd) != 0)
        s = fail_errno(w, "cannot write", err);
    sync_folder(w);
    writer_free(w);
    return s;
fail:
    infer_writer_abort(w);
    return s;
}
