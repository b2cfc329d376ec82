#include "joules.h"

#include "cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *joules_kind(infer_energy_kind kind)
{
    static const char *const names[] = {"none", "measured", "estimated"};
    return names[kind];
}

double joules_each(double uj, double tokens) { return tokens > 0 ? uj / 1e6 / tokens : NAN; }

void joules_add_number(cJSON *o, const char *name, double value)
{
    char digits[40];
    snprintf(digits, sizeof digits, "%.6g", value);
    if (isfinite(value))
        cJSON_AddNumberToObject(o, name, strtod(digits, NULL));
    else
        cJSON_AddNullToObject(o, name);
}

void joules_add(cJSON *o, infer_energy_kind kind, double gross, double net)
{
    bool measured = kind == INFER_ENERGY_MEASURED, estimated = kind == INFER_ENERGY_ESTIMATED;
    joules_add_number(o, "joules_per_token", measured ? gross : NAN);
    joules_add_number(o, "joules_per_token_net", measured ? net : NAN);
    joules_add_number(o, "estimated_joules_per_token", estimated ? gross : NAN);
    joules_add_number(o, "estimated_joules_per_token_net", estimated ? net : NAN);
}

cJSON *joules_add_source(cJSON *o, const infer_meter *meter, double idle_watts)
{
    infer_energy_kind kind = meter ? infer_meter_kind(meter) : INFER_ENERGY_NONE;
    cJSON *energy = cJSON_AddObjectToObject(o, "energy");
    if (kind == INFER_ENERGY_NONE)
        cJSON_AddNullToObject(energy, "source");
    else
        cJSON_AddStringToObject(energy, "source", infer_meter_source(meter));
    cJSON_AddStringToObject(energy, "kind", joules_kind(kind));
    joules_add_number(energy, "idle_watts", kind == INFER_ENERGY_MEASURED ? idle_watts : NAN);
    joules_add_number(energy, "estimated_idle_watts", kind == INFER_ENERGY_ESTIMATED ? idle_watts : NAN);
    return energy;
}

void joules_text(char out[80], double gross, double net)
{
    if (!isfinite(gross))
        snprintf(out, 80, "not known");
    else if (isfinite(net))
        snprintf(out, 80, "%.3g J/token (net of idle %.3g)", gross, net);
    else
        snprintf(out, 80, "%.3g J/token", gross);
}

infer_meter *joules_meter(infer_runtime *rt, const char *source)
{
    infer_meter_options options = INFER_METER_DEFAULTS;
    infer_meter *meter = NULL;
    infer_error err;
    options.source = source;
    switch (infer_meter_create(rt, &options, &meter, &err)) {
    case INFER_OK: return meter;
    case INFER_ERROR_ARGUMENT: cli_usage("%s", err.message);
    default: cli_die("%s", err.message);
    }
}
