/* Energy per token in records and lines: measured and estimated figures never under the same name. */
#ifndef INFER_TOOLS_JOULES_H
#define INFER_TOOLS_JOULES_H

#include <cjson/cJSON.h>
#include <infer/infer.h>
#include <stddef.h>

const char *joules_kind(infer_energy_kind kind); /* "measured", "estimated", "none" */
/* Microjoules shared out over tokens, in joules; NAN where either is not known. */
double joules_each(double uj, double tokens);
/* A number of six digits, null where it is NAN. */
void joules_add_number(cJSON *o, const char *name, double value);
/* joules_per_token, joules_per_token_net, and the same with estimated_ in front: the two that do not apply are null. */
void joules_add(cJSON *o, infer_energy_kind kind, double gross, double net);
/* {"source", "kind", "idle_watts", "estimated_idle_watts"}; source is null without one. */
cJSON *joules_add_source(cJSON *o, const infer_meter *meter, double idle_watts);
/* "0.0123 J/token (net 0.0045)"; "not known" where it is not. */
void joules_text(char out[80], double gross, double net);
/* The meter for --energy VALUE (NULL: auto). An unknown source is cli_usage; one that cannot be opened is cli_die. */
infer_meter *joules_meter(infer_runtime *rt, const char *source);

#endif
