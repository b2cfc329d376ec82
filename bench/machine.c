#include "machine.h"

#include "build_info.h"

#include <stdio.h>
#include <string.h>

/* "key   : value" -> value, or NULL. */
static const char *value_of(char *line, const char *key)
{
    char *colon = strchr(line, ':');
    if (!colon || strncmp(line, key, strlen(key)) != 0)
        return NULL;
    line[strcspn(line, "\n")] = 0;
    return colon[1] == ' ' ? colon + 2 : colon + 1;
}

void infer_machine_cpu_name(char *out, size_t size)
{
    char line[512], implementer[32] = "";
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *v;
        if ((v = value_of(line, "model name")) || (v = value_of(line, "Model"))) {
            snprintf(out, size, "%s", v);
            break;
        }
        if ((v = value_of(line, "CPU implementer")))
            snprintf(implementer, sizeof implementer, "%s", v);
        if ((v = value_of(line, "CPU part")) && *implementer)
            snprintf(out, size, "implementer %s part %s", implementer, v);
    }
    if (f)
        fclose(f);
}

const char *infer_machine_compiler(void)
{
#if defined(__clang__)
    return __VERSION__; /* names itself: "Clang 14.0.6" */
#else
    return "gcc " __VERSION__;
#endif
}

const char *infer_machine_commit(void) { return INFER_BUILD_COMMIT; }
