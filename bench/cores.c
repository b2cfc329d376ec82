#include "cores.h"

#include "core/core.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse(const char *list, cpu_set_t *out)
{
    unsigned long low, high;
    CPU_ZERO(out);
    while (infer_cpu_range(&list, &low, &high)) {
        if (high < low || high >= CPU_SETSIZE)
            return false;
        for (; low <= high; low++)
            CPU_SET((int)low, out);
    }
    return !*list && CPU_COUNT(out);
}

bool infer_pin_cpus(const char *list)
{
    static cpu_set_t before; /* of the process, as it was started */
    static bool known;
    cpu_set_t wanted;
    if (!known && sched_getaffinity(0, sizeof before, &before) != 0)
        return false;
    known = true;
    if (!*list)
        return sched_setaffinity(0, sizeof before, &before) == 0;
    if (!parse(list, &wanted))
        return false;
    CPU_AND(&wanted, &wanted, &before);
    return CPU_COUNT(&wanted) && sched_setaffinity(0, sizeof wanted, &wanted) == 0;
}

static bool read_text(const char *root, const char *path, char *out, size_t size)
{
    char full[512];
    return (size_t)snprintf(full, sizeof full, "%s%s", root, path) < sizeof full && infer_first_line(full, out, size);
}

/* "4" or "4,5,6": short enough for any processor that has classes. */
static void add_cpu(infer_core_class *c, int cpu)
{
    size_t n = strlen(c->cpus);
    if (n + 8 > sizeof c->cpus)
        return;
    snprintf(c->cpus + n, sizeof c->cpus - n, "%s%d", n ? "," : "", cpu);
    c->count++;
}

uint32_t infer_core_classes(const char *root, infer_core_class out[INFER_CORE_CLASSES])
{
    static const char *const intel[] = {"/sys/devices/cpu_core/cpus", "/sys/devices/cpu_atom/cpus"};
    long capacity[INFER_CORE_CLASSES];
    uint32_t n = 0;
    for (int i = 0; i < 2; i++) {
        cpu_set_t set;
        if (!read_text(root, intel[i], out[n].cpus, sizeof out[n].cpus) || !parse(out[n].cpus, &set))
            continue;
        out[n++].count = (uint32_t)CPU_COUNT(&set);
    }
    if (n)
        return n;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[80], line[32];
        uint32_t k = 0;
        long value;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpu_capacity", cpu);
        if (!read_text(root, path, line, sizeof line))
            break;
        value = strtol(line, NULL, 10);
        while (k < n && capacity[k] != value)
            k++;
        if (k == INFER_CORE_CLASSES)
            continue;
        if (k == n) {
            capacity[n++] = value;
            out[k] = (infer_core_class){.count = 0};
        }
        add_cpu(&out[k], cpu);
    }
    return n;
}
