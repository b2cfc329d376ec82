/* What the fuzz targets share: the limit of time, and their input as files, because everything that reads a format maps one. Each source
 * defines fuzz_one; one that serves several targets knows by FUZZ_NAME, from meson.build, which it is. */
#ifndef INFER_TESTS_FUZZ_H
#define INFER_TESTS_FUZZ_H

#include "core/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FUZZ_REQUIRE(x)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(x)) {                                                                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);                                                                \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

static void fuzz_one(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A second of processor time, sanitizers and all, then SIGABRT, which libFuzzer takes for a find: unlike its own limit, this one does not
 * depend on what else the machine does, nor on the process being stopped for a while. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct itimerspec second = {.it_value = {.tv_sec = 1}}, never;
    static timer_t timer;
    static bool made;
    struct sigevent abort_signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGABRT};
    FUZZ_REQUIRE(made || timer_create(CLOCK_PROCESS_CPUTIME_ID, &abort_signal, &timer) == 0);
    made = true;
    FUZZ_REQUIRE(timer_settime(timer, 0, &second, NULL) == 0);
    fuzz_one(data, size);
    FUZZ_REQUIRE(timer_settime(timer, 0, &never, NULL) == 0);
    return 0;
}

/* ---- files: links in a folder of this process, to memory ---- */

enum { FUZZ_FILES = 4 };

typedef struct fuzz_entry {
    char path[96];
    int fd;
    bool there;
} fuzz_entry;

static fuzz_entry fuzz_entries[FUZZ_FILES];
static char fuzz_folder_path[64];

static inline void fuzz_clean(void)
{
    for (size_t i = 0; i < FUZZ_FILES; i++)
        if (fuzz_entries[i].there)
            unlink(fuzz_entries[i].path);
    rmdir(fuzz_folder_path);
}

static inline const char *fuzz_folder(void)
{
    if (!*fuzz_folder_path) {
        snprintf(fuzz_folder_path, sizeof fuzz_folder_path, "/tmp/infer-fuzz-%ld", (long)getpid());
        FUZZ_REQUIRE(mkdir(fuzz_folder_path, 0700) == 0 && atexit(fuzz_clean) == 0);
    }
    return fuzz_folder_path;
}

static inline fuzz_entry *fuzz_find(const char *name)
{
    char path[sizeof fuzz_entries[0].path];
    fuzz_entry *e = fuzz_entries;
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    while (*e->path && strcmp(e->path, path) != 0)
        FUZZ_REQUIRE(++e < fuzz_entries + FUZZ_FILES);
    if (!*e->path) {
        e->fd = memfd_create("fuzz", MFD_CLOEXEC);
        FUZZ_REQUIRE(e->fd >= 0);
        memcpy(e->path, path, sizeof path);
    }
    return e;
}

/* The path of the file `name` of that folder, which now holds these bytes. */
static inline const char *fuzz_file(const char *name, const void *data, size_t size)
{
    fuzz_entry *e = fuzz_find(name);
    char target[64];
    snprintf(target, sizeof target, "/proc/self/fd/%d", e->fd);
    FUZZ_REQUIRE(ftruncate(e->fd, 0) == 0 && pwrite(e->fd, data, size, 0) == (ssize_t)size);
    FUZZ_REQUIRE(e->there || symlink(target, e->path) == 0);
    e->there = true;
    return e->path;
}

/* Now there is no such file. */
static inline void fuzz_no_file(const char *name)
{
    fuzz_entry *e = fuzz_find(name);
    if (e->there)
        unlink(e->path);
    e->there = false;
}

/* ---- parts of an input ---- */

/* The next part: two bytes that say how long it is, or as much as is left. */
static inline const uint8_t *fuzz_part(const uint8_t **data, size_t *size, size_t *bytes)
{
    const uint8_t *part;
    size_t wanted = *size >= 2 ? (size_t)((*data)[0] | (*data)[1] << 8) : 0, skip = *size >= 2 ? 2 : *size;
    *data += skip;
    *size -= skip;
    *bytes = wanted < *size ? wanted : *size;
    part = *data;
    *data += *bytes;
    *size -= *bytes;
    return part;
}

#endif
