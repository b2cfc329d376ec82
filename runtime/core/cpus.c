/* How many threads a run wants by default: what the affinity mask, the cgroup's quota and the topology under /sys allow. */
#include "core/core.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* infer_first_line below `root`. */
static bool read_line(const char *root, const char *path, char *line, size_t size)
{
    char full[1024];
    return (size_t)snprintf(full, sizeof full, "%s%s", root, path) < sizeof full && infer_first_line(full, line, size);
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

bool infer_cpu_range(const char **list, unsigned long *low, unsigned long *high)
{
    const char *p = *list;
    char *end;
    if (!digit(*p))
        return false;
    *low = *high = strtoul(p, &end, 10);
    if (*end == '-') {
        if (!digit(end[1]))
            return false;
        *high = strtoul(end + 1, &end, 10);
    }
    *list = *end == ',' && digit(end[1]) ? end + 1 : end;
    return true;
}

/* CPUs that the cgroup's quota pays for, rounded up; UINT32_MAX without a quota. */
static uint32_t quota_cpus(const char *root)
{
    char line[512], path[640];
    unsigned long long quota, period;
    const char *group = "";
    if (read_line(root, "/proc/self/cgroup", line, sizeof line) && strncmp(line, "0::", 3) == 0)
        group = strcmp(line + 3, "/") == 0 ? "" : line + 3;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
    if (!read_line(root, path, line, sizeof line) || sscanf(line, "%llu %llu", &quota, &period) != 2 || period == 0)
        return UINT32_MAX;
    quota = quota / period + (quota % period != 0);
    return quota < 1 ? 1 : quota > UINT32_MAX ? UINT32_MAX : (uint32_t)quota;
}

/* Whether no allowed CPU of a lower number is a hardware thread of the same core. */
static bool first_of_core(const char *root, const uint8_t *allowed, uint32_t cpu)
{
    char path[96], line[256];
    const char *list = line;
    unsigned long low, high;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
    if (!read_line(root, path, line, sizeof line))
        return true;
    while (infer_cpu_range(&list, &low, &high))
        for (; low <= high && low < cpu; low++)
            if (allowed[low])
                return false;
    return true;
}

static uint32_t at_least_1(uint32_t n, uint32_t most) { return n > most ? most : n ? n : 1; }

void infer_cpus_count(const char *root, const uint8_t *allowed, uint32_t size, infer_cpus *out)
{
    uint8_t core[INFER_MAX_CPUS]; /* allowed, and the first of its core */
    uint32_t quota = quota_cpus(root), cpus = 0, cores = 0, node_cores = 0, nodes = 0;
    char line[4096], cpulist[4096], path[96];
    const char *list = line, *members;
    unsigned long node, last, low, high;

    for (uint32_t cpu = 0; cpu < size; cpu++) {
        core[cpu] = allowed[cpu] && first_of_core(root, allowed, cpu);
        cpus += allowed[cpu] != 0;
        cores += core[cpu];
    }
    if (!read_line(root, "/sys/devices/system/node/has_cpu", line, sizeof line))
        *line = 0;
    while (infer_cpu_range(&list, &node, &last))
        for (; node <= last && node < INFER_MAX_NODES; node++) {
            uint32_t here = 0;
            snprintf(path, sizeof path, "/sys/devices/system/node/node%lu/cpulist", node);
            if (!read_line(root, path, cpulist, sizeof cpulist))
                continue;
            members = cpulist;
            while (infer_cpu_range(&members, &low, &high))
                for (; low <= high && low < size; low++)
                    here += core[low];
            nodes += here > 0;
            node_cores = here > node_cores ? here : node_cores;
        }
    *out = (infer_cpus){
        .logical = at_least_1(cpus, quota),
        .cores = at_least_1(cores, quota),
        .node_cores = at_least_1(node_cores ? node_cores : cores, quota),
        .nodes = nodes ? nodes : 1,
    };
}

#if defined(__linux__)

/* The affinity mask: which CPUs this process may use. */
static void read_allowed(uint8_t allowed[INFER_MAX_CPUS])
{
    cpu_set_t sets[INFER_MAX_CPUS / CPU_SETSIZE]; /* one would do for 1,024 CPUs */
    memset(allowed, 0, INFER_MAX_CPUS);
    if (sched_getaffinity(0, sizeof sets, sets) == 0)
        for (int cpu = 0; cpu < INFER_MAX_CPUS; cpu++)
            allowed[cpu] = CPU_ISSET_S(cpu, sizeof sets, sets) != 0;
}

void infer_cpus_available(infer_cpus *out)
{
    uint8_t allowed[INFER_MAX_CPUS];
    read_allowed(allowed);
    infer_cpus_count("", allowed, INFER_MAX_CPUS, out);
}

uint32_t infer_cpus_logical(void)
{
    uint8_t allowed[INFER_MAX_CPUS];
    uint32_t cpus = 0;
    read_allowed(allowed);
    for (uint32_t cpu = 0; cpu < INFER_MAX_CPUS; cpu++)
        cpus += allowed[cpu];
    return at_least_1(cpus, quota_cpus(""));
}

#else

uint32_t infer_cpus_logical(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

void infer_cpus_available(infer_cpus *out)
{
    uint32_t cpus = infer_cpus_logical();
    *out = (infer_cpus){.logical = cpus, .cores = cpus, .node_cores = cpus, .nodes = 1};
}

#endif
