#include "kept.h"

#include "cli.h"
#include "core/core.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool cache_folder(char out[PATH_MAX])
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n;

    errno = ENOENT;
    if (xdg && *xdg == '/') /* others are to be ignored: XDG Base Directory Specification 0.8 */
        n = snprintf(out, PATH_MAX, "%s/libinfer", xdg);
    else if (home && *home == '/')
        n = snprintf(out, PATH_MAX, "%s/.cache/libinfer", home);
    else
        return *out = '\0', false;
    errno = ENAMETOOLONG;
    if (n >= PATH_MAX - 300)
        return false;
    for (char *p = out + 1;; p++)
        if (*p == '/' || *p == '\0') {
            char end = *p;
            bool made;
            *p = '\0';
            made = mkdir(out, 0700) == 0 || errno == EEXIST;
            *p = end;
            if (!made)
                return false;
            if (end == '\0')
                return true;
        }
}

char *kept_path(const char *kind, uint64_t key)
{
    char folder[PATH_MAX], *out;
    size_t bytes;

    if (!cache_folder(folder))
        return NULL;
    bytes = strlen(folder) + strlen(kind) + 24;
    if (!(out = malloc(bytes)))
        cli_die("out of memory for a path");
    snprintf(out, bytes, "%s/%s-%016" PRIx64 ".json", folder, kind, key);
    return out;
}

cJSON *kept_read(const char *path)
{
    char text[16384];
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f)
        fclose(f);
    return n < sizeof text ? cJSON_ParseWithLength(text, n) : NULL;
}

void kept_write(const char *path, cJSON *o)
{
    infer_error err;
    char *text = cJSON_Print(o);
    size_t bytes;

    cJSON_Delete(o);
    if (!text)
        cli_die("out of memory for %s", path);
    bytes = strlen(text);
    text[bytes] = '\n'; /* in place of its NUL */
    if (infer_replace_file(NULL, path, text, bytes + 1, &err) != INFER_OK)
        cli_die("%s", err.message);
    cJSON_free(text);
}
