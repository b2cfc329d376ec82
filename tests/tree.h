/* Trees of small files, as /sys and /proc have them, below a folder of the test's own. */
#ifndef INFER_TESTS_TREE_H
#define INFER_TESTS_TREE_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A line into the file root + path, its folders made. A test that cannot write ends here. */
static inline void tree_put(const char *root, const char *path, const char *line)
{
    char full[512];
    FILE *f;
    if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full)
        exit(1);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        mkdir(full, 0755);
    }
    if (!(f = fopen(full, "w")) || fprintf(f, "%s\n", line) < 0 || fclose(f) != 0) {
        perror(full);
        exit(1);
    }
}

static inline int tree_remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    return at->level ? remove(path) : 0;
}

/* Everything below root, which stays. */
static inline void tree_clear(const char *root) { nftw(root, tree_remove_one, 8, FTW_DEPTH | FTW_PHYS); }

#endif
