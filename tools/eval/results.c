#include "results.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC "INFEVALS"
#define VERSION 1u
#define HEADER_BYTES 32u

infer_status eval_results_create(uint64_t job, size_t units, const uint32_t *items, size_t item_bytes, eval_results *out, infer_error *err)
{
    eval_results r = {.job = job, .units = units, .fd = -1};
    uint64_t total = 0, bytes;
    r.starts = infer_alloc_array(NULL, units + 1, sizeof *r.starts);
    for (size_t u = 0; r.starts && u < units; u++) {
        if (infer_mul_overflows(items ? items[u] : 1, item_bytes, &bytes) || infer_add_overflows(total, bytes, &total) || total > SIZE_MAX / 2)
            return infer_free(NULL, r.starts), infer_fail_memory(err, SIZE_MAX, "results");
        r.starts[u + 1] = (size_t)total;
    }
    r.data = infer_alloc_zero(NULL, (size_t)total + 1);
    if (!r.starts || !r.data) {
        infer_free(NULL, r.starts);
        infer_free(NULL, r.data);
        return infer_fail_memory(err, (size_t)total, "results");
    }
    *out = r;
    return INFER_OK;
}

void eval_results_free(eval_results *r)
{
    if (r->fd >= 0)
        close(r->fd);
    infer_free(NULL, r->starts);
    infer_free(NULL, r->data);
    *r = (eval_results){.fd = -1};
}

static infer_status fail_errno(const eval_results *r, const char *what, infer_error *err)
{
    return infer_fail(err, INFER_ERROR_IO, "%s: %s: %s", r->path, what, strerror(errno));
}

static void put_header(const eval_results *r, uint8_t h[HEADER_BYTES])
{
    memcpy(h, MAGIC, 8);
    put_u32(h + 8, VERSION);
    put_u32(h + 12, 0);
    put_u64(h + 16, r->job);
    put_u64(h + 24, r->units);
}

/* The hash of a unit's bytes, seeded with its number: a unit at another's place is noticed. */
static uint64_t unit_hash(const eval_results *r, size_t u)
{
    return XXH3_64bits_withSeed(r->data + r->starts[u], r->starts[u + 1] - r->starts[u], u);
}

static infer_status write_all(const eval_results *r, const void *data, size_t bytes, infer_error *err)
{
    const uint8_t *p = data;
    while (bytes) {
        ssize_t n = write(r->fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(r, "cannot write", err);
        p += n;
        bytes -= (size_t)n;
    }
    return INFER_OK;
}

/* True when all of the bytes were there. */
static bool read_all(const eval_results *r, void *data, size_t bytes)
{
    uint8_t *p = data;
    while (bytes) {
        ssize_t n = read(r->fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

static infer_status read_units(eval_results *r, infer_error *err)
{
    uint8_t h[HEADER_BYTES], expected[HEADER_BYTES], hash[8];
    off_t good = HEADER_BYTES;
    put_header(r, expected);
    if (!read_all(r, h, sizeof h) || memcmp(h, MAGIC, 8) != 0)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: not a state file: it does not start with " MAGIC, r->path);
    if (get_u32(h + 8) != VERSION)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: state file version: found %u, expected %u", r->path, get_u32(h + 8), VERSION);
    if (memcmp(h, expected, sizeof h) != 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "%s: state of another evaluation: the model, the text or a setting differs", r->path);
    for (; r->done < r->units; r->done++) {
        size_t u = r->done, bytes = r->starts[u + 1] - r->starts[u];
        if (!read_all(r, r->data + r->starts[u], bytes) || !read_all(r, hash, sizeof hash))
            break;
        if (get_u64(hash) != unit_hash(r, u))
            return infer_fail(err, INFER_ERROR_CORRUPT, "%s: unit %zu: its hash differs from the stored one", r->path, u);
        good += (off_t)(bytes + sizeof hash);
    }
    if (ftruncate(r->fd, good) != 0 || lseek(r->fd, good, SEEK_SET) != good)
        return fail_errno(r, "cannot drop what was cut off", err);
    return INFER_OK;
}

infer_status eval_results_attach(eval_results *r, const char *path, infer_error *err)
{
    struct stat st;
    r->path = path;
    r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666); /* O_NONBLOCK: a FIFO must not hang the caller */
    if (r->fd < 0 || fstat(r->fd, &st) != 0)
        return fail_errno(r, "cannot open", err);
    if (!S_ISREG(st.st_mode))
        return infer_fail(err, INFER_ERROR_IO, "%s: is not a file", path);
    if (st.st_size == 0) {
        uint8_t h[HEADER_BYTES];
        put_header(r, h);
        return write_all(r, h, sizeof h, err);
    }
    return read_units(r, err);
}

infer_status eval_results_add(eval_results *r, infer_error *err)
{
    size_t u = r->done++, bytes = r->starts[u + 1] - r->starts[u];
    uint8_t hash[8];
    infer_status s;
    if (r->fd < 0)
        return INFER_OK;
    put_u64(hash, unit_hash(r, u));
    s = write_all(r, r->data + r->starts[u], bytes, err);
    return s == INFER_OK ? write_all(r, hash, sizeof hash, err) : s;
}
