/* What `infer-bench --tune` found for a model on this CPU, kept in the user's cache folder for infer-run. */
#ifndef INFER_TOOLS_TUNED_H
#define INFER_TOOLS_TUNED_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tuned {
    uint32_t threads;
    char cpus[128]; /* "0-3": the CPUs to stay on; "": all */
    double tokens_per_s, joules_per_token;
    char kind[16];  /* "measured", "estimated" */
} tuned;

/* The setting for the .infer file at `path`; false where none is stored, or it cannot be read. */
bool tuned_load(const char *path, tuned *out);
/* Stores it, replacing an older one. Returns the file's name, to be freed; failure is cli_die. */
char *tuned_store(const char *path, const tuned *setting);

#endif
