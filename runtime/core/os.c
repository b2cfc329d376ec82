#include "core/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

infer_status infer_map_file(const char *path, infer_mapping *out, infer_error *err)
{
    infer_mapping m = {NULL, 0, -1};
    struct stat st;
    m.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a FIFO must not hang the caller */
    if (m.fd < 0)
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", path, strerror(errno));
    if (fstat(m.fd, &st) != 0) {
        int e = errno;
        close(m.fd);
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", path, strerror(e));
    }
    if (!S_ISREG(st.st_mode)) {
        close(m.fd);
        return infer_fail(err, INFER_ERROR_IO, "%s: %s, expected a regular file", path, S_ISDIR(st.st_mode) ? "is a directory" : "is not a file");
    }
    m.size = (size_t)st.st_size;
    if (m.size > 0) {
        void *p = mmap(NULL, m.size, PROT_READ, MAP_SHARED, m.fd, 0);
        if (p == MAP_FAILED) {
            int e = errno;
            close(m.fd);
            return infer_fail(err, INFER_ERROR_MEMORY, "%s: cannot map %zu bytes: %s", path, m.size, strerror(e));
        }
        m.data = p;
#if defined(MADV_HUGEPAGE)
        (void)madvise(p, m.size, MADV_HUGEPAGE); /* what is not in memory yet is read in huge pages, where the file system can */
#endif
    }
    *out = m;
    return INFER_OK;
}

infer_status infer_map_check(const infer_mapping *m, const char *path, infer_error *err)
{
    struct stat st;
    if (fstat(m->fd, &st) != 0)
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", path, strerror(errno));
    if ((uint64_t)st.st_size < m->size)
        return infer_fail(err, INFER_ERROR_CORRUPT, "%s: the file shrank while in use: found %lld bytes, expected %zu", path,
                          (long long)st.st_size, m->size);
    return INFER_OK;
}

void infer_unmap(infer_mapping *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    if (m->fd >= 0)
        close(m->fd);
    *m = (infer_mapping){NULL, 0, -1};
}

uint64_t infer_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#if defined(__linux__)

uint64_t infer_anonymous_rss_bytes(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

#else

uint64_t infer_anonymous_rss_bytes(void) { return 0; }

#endif

uint64_t infer_peak_rss_bytes(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return 0;
#if defined(__APPLE__)
    return (uint64_t)u.ru_maxrss;
#else
    return (uint64_t)u.ru_maxrss * 1024;
#endif
}
