#include "check.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *check_data(const char *name)
{
    static char path[4][4096];
    static unsigned turn;
    const char *root = CHECK_TEST_DATA;
    char *out = path[turn++ % 4];
    if (!*root)
        root = getenv("INFER_TEST_DATA");
    if (!root || !*root)
        root = CHECK_SOURCE_ROOT "/../shared/data";
    int n = snprintf(out, sizeof path[0], "%s/%s", root, name);
    return n > 0 && (size_t)n < sizeof path[0] && access(out, R_OK) == 0 ? out : NULL;
}

char *check_read(const char *path, size_t *bytes)
{
    FILE *f = path ? fopen(path, "rb") : NULL;
    char *data = NULL;
    long size;
    if (!f)
        return NULL;
    if (fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0 && (data = malloc((size_t)size + 1))) {
        if (fread(data, 1, (size_t)size, f) == (size_t)size) {
            data[size] = 0;
            *bytes = (size_t)size;
        } else {
            free(data);
            data = NULL;
        }
    }
    fclose(f);
    return data;
}

size_t check_entries(const char *folder)
{
    DIR *d = opendir(folder);
    size_t n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* The size stands in the 64 bytes before each block, so that the alignment stays. */
static void *check_alloc(void *user, size_t bytes)
{
    check_allocator *c = user;
    size_t now, peak;
    unsigned char *p;
    if (++c->calls >= c->fail_at && c->fail_at)
        return NULL;
    p = aligned_alloc(64, infer_round_up(bytes, 64) + 64);
    if (!p)
        return NULL;
    memcpy(p, &bytes, sizeof bytes);
    c->live++;
    now = atomic_fetch_add(&c->live_bytes, bytes) + bytes;
    peak = c->peak_bytes;
    while (now > peak && !atomic_compare_exchange_weak(&c->peak_bytes, &peak, now))
        ;
    return p + 64;
}

static void check_free(void *user, void *p)
{
    check_allocator *c = user;
    size_t bytes;
    if (!p)
        return;
    memcpy(&bytes, (unsigned char *)p - 64, sizeof bytes);
    c->live--;
    c->live_bytes -= bytes;
    free((unsigned char *)p - 64);
}

void check_allocator_init(check_allocator *c, size_t fail_at)
{
    *c = (check_allocator){.allocator = {check_alloc, check_free, c}, .fail_at = fail_at};
}
