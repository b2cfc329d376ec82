#include "machine.h"

#include "build_info.h"
#include "core/core.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Calls each(first line, user) for the files below root that fit. */
static void read_files(const char *root, const char *pattern, void (*each)(const char *line, void *user), void *user)
{
    char full[512], line[64];
    glob_t found;
    snprintf(full, sizeof full, "%s%s", root, pattern);
    if (glob(full, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        if (infer_first_line(found.gl_pathv[i], line, sizeof line))
            each(line, user);
    globfree(&found);
}

static void note_mains(const char *line, void *state)
{
    if (strcmp(line, "1") == 0)
        strcpy(((infer_machine_state *)state)->power, "mains");
}

static void note_battery(const char *line, void *state)
{
    if (strcmp(line, "Discharging") == 0)
        strcpy(((infer_machine_state *)state)->power, "battery");
}

static void note_governor(const char *line, void *state)
{
    infer_machine_state *s = state;
    snprintf(s->governor, sizeof s->governor, "%.31s", line);
}

static void note_frequency(const char *line, void *state) { ((infer_machine_state *)state)->frequency_hz = atof(line) * 1e3; }

static void note_temperature(const char *line, void *state)
{
    infer_machine_state *s = state;
    double c = atof(line) / 1e3;
    s->temperature_c = c > s->temperature_c && c < 150 ? c : s->temperature_c;
}

void infer_machine_read_state(const char *root, infer_machine_state *out)
{
    *out = (infer_machine_state){.frequency_hz = 0};
    read_files(root, "/sys/class/power_supply/*/status", note_battery, out);
    read_files(root, "/sys/class/power_supply/*/online", note_mains, out);
    read_files(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", note_governor, out);
    read_files(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", note_frequency, out);
    read_files(root, "/sys/class/thermal/thermal_zone*/temp", note_temperature, out);
}
