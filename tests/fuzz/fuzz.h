/* What the fuzz targets share: their input as a file, because everything that reads a format maps one. */
#ifndef INFER_TESTS_FUZZ_H
#define INFER_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char fuzz_path[64];
static inline void fuzz_remove(void) { unlink(fuzz_path); }

/* A path under which the bytes can be opened. `suffix` (".bin") is there for importers that go by it: the path is a link with that name. */
static inline const char *fuzz_file(const uint8_t *data, size_t size, const char *suffix)
{
    static int fd = -1;
    static char target[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
        snprintf(fuzz_path, sizeof fuzz_path, "/tmp/infer-fuzz-%ld%s", (long)getpid(), suffix);
        unlink(fuzz_path);
        if (fd < 0 || symlink(target, fuzz_path) != 0 || atexit(fuzz_remove) != 0)
            abort();
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    return fuzz_path;
}

/* A file beside that one. */
static inline void fuzz_write(const char *path, const uint8_t *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
}

#endif
