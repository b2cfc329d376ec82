/* Models of other formats, run directly: converted once into the user's cache folder, then mapped from there. */
#ifndef INFER_TOOLS_CACHE_H
#define INFER_TOOLS_CACHE_H

#include "cli.h"

typedef struct cache_options {
    const char *tokenizer; /* NULL: the model's own, or the one beside it */
    const char *type;      /* of all matrices; NULL: as stored where that is an integer type, else q8g32 */
    bool quiet;
} cache_options;

/* The path of the .infer file to map for `model`: the built-in one for its name (model/default_model.h); itself where it is one, or does not exist; else a file in $XDG_CACHE_HOME/libinfer (or
 * ~/.cache/libinfer), made if it is missing, cut off, or older than what it was made from. To be freed. Failure is cli_die, wrong options cli_usage;
 * an interruption ends the process with status 130, and leaves nothing behind. */
char *cache_model(const char *model, const cache_options *options);

#endif
