/* Small findings about this machine, kept as JSON in the user's cache folder. */
#ifndef INFER_TOOLS_KEPT_H
#define INFER_TOOLS_KEPT_H

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* $XDG_CACHE_HOME/libinfer or ~/.cache/libinfer, made if need be. False: neither is set, or it cannot be made (errno). */
bool cache_folder(char out[PATH_MAX]);

/* FOLDER/KIND-KEY.json; NULL where there is no folder. To be freed. */
char *kept_path(const char *kind, uint64_t key);
/* The JSON at `path`, to be deleted; NULL where there is none, or it is none, or longer than 16 KiB. */
cJSON *kept_read(const char *path);
/* Replaces the file at `path`, and deletes `o`. Failure is cli_die. */
void kept_write(const char *path, cJSON *o);

#endif
