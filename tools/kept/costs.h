/* What `infer-bench --calibrate-cost` measured on this CPU, kept in the user's cache folder for infer-convert. */
#ifndef INFER_TOOLS_COSTS_H
#define INFER_TOOLS_COSTS_H

#include "convert/cost.h"

#include <cjson/cJSON.h>

/* The costs measured on this CPU, else infer_costs_default; returns where they are from, for people, to be freed. A file that is there and
 * cannot be used gives a note on standard error. */
char *costs_load(infer_costs *out);
/* Stores them, replacing older ones. Returns the file's name, to be freed; failure is cli_die. */
char *costs_store(const infer_costs *costs, const char *cpu_level, uint32_t threads);

#endif
