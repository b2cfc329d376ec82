/* The kernel's `power` PMU (Intel and AMD RAPL): counts for the whole machine, without root where perf_event_paranoid is 0 or less, or with
 * CAP_PERFMON. The kernel widens the 32-bit registers and catches their overflow, so that nothing here needs to. */
#include "energy/energy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOLDER "/sys/bus/event_source/devices/power"

static bool probe(const infer_energy_place *place) { return infer_sysfs_exists(place, FOLDER "/type"); }

static infer_status cannot_open(const infer_energy_place *place, const char *event, int e, infer_error *err)
{
    char path[INFER_ENERGY_PATH], paranoid[16] = "?";
    if (infer_sysfs_path(path, place, "/proc/sys/kernel/perf_event_paranoid"))
        infer_first_line(path, paranoid, sizeof paranoid);
    if (e == EACCES || e == EPERM)
        return infer_fail(err, INFER_ERROR_IO,
                          "perf %s: %s: perf_event_paranoid is %s, and counting for the whole machine needs 0 or less, or CAP_PERFMON "
                          "(sysctl kernel.perf_event_paranoid=0)",
                          event, strerror(e), paranoid);
    return infer_fail(err, INFER_ERROR_IO, "perf %s: %s", event, strerror(e));
}

static infer_status bad_cpumask(const char *cpus, infer_error *err)
{
    return infer_fail(err, INFER_ERROR_FORMAT, "perf cpumask: found \"%.40s\", expected a list of CPUs", cpus);
}

/* Opens one event on each CPU of the mask ("0" or "0,28"; one a package). Not an error where this machine has no such event: no part is
 * added. */
static infer_status add_event(infer_energy_parts *parts, const char *event, uint32_t type, const char *cpus, infer_error *err)
{
    const infer_energy_place *place = &parts->place;
    char path[INFER_ENERGY_PATH], line[64];
    unsigned long long config;
    const char *at = cpus;
    unsigned long cpu, last;
    double scale;
    if (!infer_sysfs_path(path, place, FOLDER "/events/%s", event) || !infer_first_line(path, line, sizeof line))
        return INFER_OK;
    if (sscanf(line, "event=%llx", &config) != 1)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: found \"%.40s\", expected event=0x..", path, line);
    if (!infer_sysfs_path(path, place, FOLDER "/events/%s.scale", event) || infer_sysfs_number(path, &scale, err) != INFER_OK)
        return infer_fail(err, INFER_ERROR_IO, "perf %s: its scale cannot be read from %s", event, path);
    while (infer_cpu_range(&at, &cpu, &last)) {
        if (last < cpu)
            return bad_cpumask(cpus, err);
        for (; cpu <= last; cpu++) {
            infer_energy_part *part = infer_energy_add(parts, err);
            if (!part)
                return INFER_ERROR_UNSUPPORTED;
            snprintf(part->name, sizeof part->name, "%s/cpu%lu", event, cpu);
            snprintf(part->path, sizeof part->path, "%s", path);
            part->scale = scale * 1e6; /* of joules */
            part->fd = place->perf->open(place->perf->user, type, config, (int)cpu);
            if (part->fd < 0)
                return cannot_open(place, event, errno, err);
        }
    }
    return *at ? bad_cpumask(cpus, err) : INFER_OK;
}

static void close_all(infer_energy_parts *parts)
{
    for (uint32_t i = 0; i < parts->count; i++)
        if (parts->part[i].fd >= 0)
            parts->place.perf->close(parts->place.perf->user, parts->part[i].fd);
    parts->count = 0;
}

/* Packages and, beside them, memory. energy-psys holds both and is known to be wrong on some machines, energy-cores and energy-gpu are
 * inside of the package: they serve where there is nothing better, and are never added. */
static infer_status open_events(infer_energy_parts *parts, infer_error *err)
{
    static const char *const whole[] = {"energy-pkg", "energy-psys", "energy-cores"};
    char path[INFER_ENERGY_PATH], cpus[256] = "0";
    double type;
    infer_status s;
    if (!infer_sysfs_path(path, &parts->place, FOLDER "/type"))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "the root folder's name is too long");
    if ((s = infer_sysfs_number(path, &type, err)) != INFER_OK)
        return s;
    if (infer_sysfs_path(path, &parts->place, FOLDER "/cpumask"))
        infer_first_line(path, cpus, sizeof cpus);
    for (size_t i = 0; i < sizeof whole / sizeof whole[0] && s == INFER_OK && !parts->count; i++) {
        s = add_event(parts, whole[i], (uint32_t)type, cpus, err);
        if (s == INFER_OK && i == 0 && parts->count)
            s = add_event(parts, "energy-ram", (uint32_t)type, cpus, err);
    }
    if (s == INFER_OK && !parts->count)
        s = infer_fail(err, INFER_ERROR_UNSUPPORTED, "perf: the power PMU has none of energy-pkg, energy-psys and energy-cores");
    if (s != INFER_OK)
        close_all(parts);
    return s;
}

static infer_status read_event(const infer_energy_parts *parts, const infer_energy_part *part, double *value, infer_error *err)
{
    uint64_t count;
    if (parts->place.perf->read(parts->place.perf->user, part->fd, &count) != 0)
        return infer_fail(err, INFER_ERROR_IO, "perf %s: %s", part->name, strerror(errno));
    *value = (double)count * part->scale;
    return INFER_OK;
}

const infer_energy_source infer_energy_perf = {
    .name = "perf", .automatic = true, .update_s = 0.001, .probe = probe, .open = open_events, .read = read_event, .close = close_all,
};

static int system_open(void *user, uint32_t type, uint64_t config, int cpu)
{
    (void)user;
    return infer_perf_event_open(type, config, cpu);
}

static int system_read(void *user, int fd, uint64_t *count)
{
    ssize_t n = read(fd, count, sizeof *count);
    (void)user;
    if (n >= 0 && n != (ssize_t)sizeof *count)
        errno = EIO;
    return n == (ssize_t)sizeof *count ? 0 : -1;
}

static void system_close(void *user, int fd)
{
    (void)user;
    close(fd);
}

const infer_perf infer_perf_system = {system_open, system_read, system_close, NULL};
