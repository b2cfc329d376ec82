#include "costs.h"

#include "cli.h"
#include "kept.h"
#include "machine.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define MOST_NS 1e9 /* of any coefficient */

static const char built_in[] = "built-in costs; infer-bench --calibrate-cost measures this CPU's";

/* NULL where there is no folder. */
static char *file_of_cpu(void)
{
    char cpu[160] = "";
    infer_machine_cpu_name(cpu, sizeof cpu);
    return kept_path("cost", XXH3_64bits(cpu, strlen(cpu)));
}

static bool get_ns(const cJSON *o, const char *name, double *out)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!cJSON_IsNumber(n) || !(n->valuedouble >= 0 && n->valuedouble <= MOST_NS))
        return false;
    *out = n->valuedouble;
    return true;
}

static bool parse(const cJSON *o, infer_costs *out)
{
    infer_costs costs;
    bool ok = get_ns(o, "byte_ns", &costs.byte_ns);

    for (size_t t = 0; t < INFER_COST_TYPES && ok; t++) {
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(o, infer_qtype_find(infer_cost_types[t])->name);
        for (size_t l = 0; l < INFER_COST_LAYOUTS && ok; l++) {
            const cJSON *kernel = cJSON_GetObjectItemCaseSensitive(type, infer_layout_name(infer_cost_layouts[l]));
            infer_cost *c = &costs.kernels[t][l];
            ok = get_ns(kernel, "unit_ns", &c->unit_ns) && get_ns(kernel, "block_ns", &c->block_ns) &&
                 get_ns(kernel, "panel_ns", &c->panel_ns);
        }
    }
    if (ok)
        *out = costs;
    return ok;
}

char *costs_load(infer_costs *out)
{
    char *path = file_of_cpu(), *from;
    cJSON *o = path ? kept_read(path) : NULL;

    *out = infer_costs_default;
    if (parse(o, out)) {
        from = path;
        path = NULL;
    } else {
        if (path && access(path, F_OK) == 0)
            cli_note("%s: not what infer-bench --calibrate-cost writes, and not used", path);
        from = strdup(built_in);
    }
    cJSON_Delete(o);
    free(path);
    if (!from)
        cli_die("out of memory");
    return from;
}

char *costs_store(const infer_costs *costs, const char *cpu_level, uint32_t threads)
{
    char *path = file_of_cpu(), cpu[160] = "";
    cJSON *o = cJSON_CreateObject();

    if (!path)
        cli_die("the costs cannot be kept: no cache folder");
    infer_machine_cpu_name(cpu, sizeof cpu);
    cJSON_AddStringToObject(o, "cpu", cpu);
    cJSON_AddStringToObject(o, "cpu_level", cpu_level);
    cJSON_AddNumberToObject(o, "threads", threads);
    cJSON_AddNumberToObject(o, "byte_ns", costs->byte_ns);
    for (size_t t = 0; t < INFER_COST_TYPES; t++) {
        cJSON *type = cJSON_AddObjectToObject(o, infer_qtype_find(infer_cost_types[t])->name);
        for (size_t l = 0; l < INFER_COST_LAYOUTS; l++) {
            cJSON *kernel = cJSON_AddObjectToObject(type, infer_layout_name(infer_cost_layouts[l]));
            cJSON_AddNumberToObject(kernel, "unit_ns", costs->kernels[t][l].unit_ns);
            cJSON_AddNumberToObject(kernel, "block_ns", costs->kernels[t][l].block_ns);
            cJSON_AddNumberToObject(kernel, "panel_ns", costs->kernels[t][l].panel_ns);
        }
    }
    kept_write(path, o);
    return path;
}
