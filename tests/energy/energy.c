/*
 * The energy sources on machines written down in trees/ (a line a file: path, content), with a perf that is told what to say; and the
 * meter's arithmetic: wraps, jumps, missing permission, files that vanish. A plain TAP program, so that ThreadSanitizer can run it.
 */
#include "check.h"
#include "check_tap.h"
#include "energy/energy.h"
#include "tree.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/infer-energy-XXXXXX";
static infer_runtime *rt;

/* ---- trees ---- */

static void put(const char *path, const char *line) { tree_put(root, path, line); }

static void put_number(const char *path, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.0f", value);
    put(path, text);
}

static void lose(const char *path)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    if (remove(full) != 0)
        perror(full);
}

/* The machine of trees/NAME.tree, alone. */
static void set_up(const char *name)
{
    char path[512], line[512];
    FILE *f;
    tree_clear(root);
    snprintf(path, sizeof path, "%s/%s.tree", TREES, name);
    if (!(f = fopen(path, "r"))) {
        perror(path);
        exit(1);
    }
    while (fgets(line, sizeof line, f)) {
        char *value = strchr(line, ' ');
        if (*line != '/' || !value)
            continue;
        *value++ = 0;
        value[strcspn(value, "\n")] = 0;
        put(line, value);
    }
    fclose(f);
}

/* ---- a perf that is told what to say ---- */

typedef struct fake {
    int denied; /* errno of open, 0: none */
    int broken; /* errno of read */
    uint32_t opened, closed;
    uint64_t config[8];
    int cpu[8];
    uint64_t count[8];
} fake;

static int fake_open(void *user, uint32_t type, uint64_t config, int cpu)
{
    fake *f = user;
    if (f->denied || type != 29 || f->opened == 8) {
        errno = f->denied ? f->denied : EINVAL;
        return -1;
    }
    f->config[f->opened] = config;
    f->cpu[f->opened] = cpu;
    return 100 + (int)f->opened++;
}

static int fake_read(void *user, int fd, uint64_t *count)
{
    fake *f = user;
    errno = f->broken;
    *count = f->count[fd - 100];
    return f->broken ? -1 : 0;
}

static void fake_close(void *user, int fd)
{
    fake *f = user;
    (void)fd;
    f->closed++;
}

static fake perf_state;
static const infer_perf perf = {fake_open, fake_read, fake_close, &perf_state};

/* ---- meters ---- */

static infer_error err;

static infer_meter *meter_of(const char *source)
{
    infer_meter_options o = INFER_METER_DEFAULTS;
    infer_meter *m = NULL;
    o.source = source;
    o.root = root;
    err = (infer_error){INFER_OK, ""};
    return infer_meter_create_in(rt, &o, &perf, &m, &err) == INFER_OK ? m : NULL;
}

static bool named(const infer_meter *m, const char *name)
{
    bool same = m && strcmp(infer_meter_source(m), name) == 0;
    if (!same)
        printf("# found %s, expected %s\n", m ? infer_meter_source(m) : err.message, name);
    return same;
}

/* On the machine of trees/TREE.tree the source is there, and the meter calls it `name`. */
static void finds(const char *tree, const char *source, const char *name, const char *what)
{
    infer_meter *m;
    set_up(tree);
    m = meter_of(source);
    tap_ok(named(m, name), "%s", what);
    infer_meter_destroy(m);
}

static bool refused(const infer_meter *m, infer_status status, const char *word)
{
    bool same = !m && err.status == status && strstr(err.message, word);
    if (!same)
        printf("# found status %d \"%s\", expected %d and \"%s\"\n", err.status, err.message, status, word);
    return same;
}

static bool near(double found, double expected, double within)
{
    bool same = fabs(found - expected) <= within;
    if (!same)
        printf("# found %.3f, expected %.3f\n", found, expected);
    return same;
}

static bool starts(infer_meter *m) { return infer_meter_start(m, &err) == INFER_OK; }

static infer_energy stopped(infer_meter *m)
{
    infer_energy e = {.gross_uj = -12345};
    if (infer_meter_stop(m, &e, &err) != INFER_OK)
        printf("# stop: %s\n", err.message);
    return e;
}

/* ---- cases ---- */

static void test_powercap(void)
{
    infer_meter *m;
    infer_energy e;
    set_up("xeon-two-packages");
    m = meter_of("powercap");
    tap_ok(named(m, "powercap (package-0+package-1+dram+dram)"),
           "powercap: two packages and their memory; cores, psys and mmio are not added again");
    tap_ok(infer_meter_kind(m) == INFER_ENERGY_MEASURED, "powercap: measured");
    tap_ok(infer_meter_wake_ns(m) == (uint64_t)(65712999613.0 / 8000 * 1e3),
           "powercap: woken four times within the shortest wrap at full power");
    tap_ok(starts(m), "powercap: a window starts");
    tap_ok(infer_meter_start(m, &err) == INFER_ERROR_ARGUMENT, "a second start is an error");
    put_number("/sys/class/powercap/intel-rapl:0/energy_uj", 1000300);
    put_number("/sys/class/powercap/intel-rapl:0:0/energy_uj", 500200);
    put_number("/sys/class/powercap/intel-rapl:0:1/energy_uj", 2000020);
    put_number("/sys/class/powercap/intel-rapl:1/energy_uj", 150); /* wrapped: 850 up to the end */
    put_number("/sys/class/powercap/intel-rapl:1:0/energy_uj", 3000004);
    put_number("/sys/class/powercap/intel-rapl:2/energy_uj", 9100000);
    e = stopped(m);
    tap_ok(near(e.gross_uj, 300 + 20 + 1000 + 4, 0.01) && e.jumps == 0, "powercap: the sum, one package wrapped");
    tap_ok(isnan(e.net_uj) && isnan(e.idle_watts), "no baseline: net is not known");
    tap_ok(infer_meter_stop(m, &e, &err) == INFER_ERROR_ARGUMENT, "stop without start is an error");

    starts(m);
    put_number("/sys/class/powercap/intel-rapl:0/energy_uj", 5); /* started anew: no wrap, the way would be 262 kJ */
    e = stopped(m);
    tap_ok(isnan(e.gross_uj) && e.jumps == 1, "powercap: a counter that falls is a jump, and the window's energy is not known");
    starts(m);
    put_number("/sys/class/powercap/intel-rapl:0/energy_uj", 5e9);
    e = stopped(m);
    tap_ok(isnan(e.gross_uj) && e.jumps == 1, "powercap: 5 kJ at once is a jump");
    starts(m);
    e = stopped(m);
    tap_ok(isnan(e.gross_uj) && e.jumps == 0, "powercap: a counter that did not move is not 0 joules");
    starts(m);
    put_number("/sys/class/powercap/intel-rapl:0/energy_uj", 5e9 + 70);
    e = stopped(m);
    tap_ok(near(e.gross_uj, 70, 0.01), "powercap: after a jump the next window counts from the new value");

    starts(m);
    lose("/sys/class/powercap/intel-rapl:1/energy_uj");
    tap_ok(infer_meter_stop(m, &e, &err) == INFER_ERROR_IO && strstr(err.message, "intel-rapl:1/energy_uj"),
           "powercap: a vanished file is an error that names it");
    tap_ok(infer_meter_start(m, &err) == INFER_ERROR_IO, "powercap: and so is the next start");
    put_number("/sys/class/powercap/intel-rapl:1/energy_uj", 4);
    tap_ok(starts(m), "powercap: back again, the meter works");
    put("/sys/class/powercap/intel-rapl:1/energy_uj", "nonsense");
    tap_ok(infer_meter_stop(m, &e, &err) == INFER_ERROR_FORMAT && strstr(err.message, "nonsense"),
           "powercap: what is no number is an error");
    infer_meter_destroy(m);

    finds("epyc", "powercap", "powercap (package-0-die-0+package-0-die-1)", "powercap: AMD, the dies of a package are added");
    finds("mmio-only", "powercap", "powercap (package-0)", "powercap: memory-mapped registers alone");
    finds("psys-only", "powercap", "powercap (psys)", "powercap: psys serves where there is no package");
    set_up("jetson");
    tap_ok(refused(meter_of("powercap"), INFER_ERROR_UNSUPPORTED, "powercap"), "powercap: none here");
}

static void test_permission(void)
{
    infer_meter *m;
    char path[512];
    uid_t user = geteuid();
    set_up("epyc");
    snprintf(path, sizeof path, "%s/sys/class/powercap/intel-rapl:0/energy_uj", root);
    chmod(root, 0755);
    chmod(path, 0);
    if (user == 0 && seteuid(65534) != 0) {
        tap_skip("root cannot give up its powers here", "powercap: without permission");
        return;
    }
    m = meter_of("powercap");
    if (user == 0 && seteuid(0) != 0)
        exit(1);
    tap_ok(refused(m, INFER_ERROR_IO, "only root") && strstr(err.message, "perf_event_paranoid"),
           "powercap: a counter that only root may read is explained");
    infer_meter_destroy(m);
}

static void test_perf(void)
{
    infer_meter *m;
    infer_energy e;
    set_up("perf-two-packages");
    perf_state = (fake){0};
    m = meter_of("perf");
    tap_ok(named(m, "perf (energy-pkg/cpu0+energy-pkg/cpu28+energy-ram/cpu0+energy-ram/cpu28)"),
           "perf: packages and memory, on a CPU of each package");
    tap_ok(perf_state.config[0] == 2 && perf_state.config[2] == 3 && perf_state.cpu[1] == 28 && perf_state.cpu[3] == 28,
           "perf: the events that sysfs names");
    tap_ok(infer_meter_wake_ns(m) == 0, "perf: no sampling thread");
    starts(m);
    perf_state.count[0] += 4294967296u / 4; /* 0.25 J */
    perf_state.count[1] += 4294967296u / 2;
    perf_state.count[3] += 4294967296u / 8;
    e = stopped(m);
    tap_ok(near(e.gross_uj, 875000, 0.5), "perf: counts x scale");
    starts(m);
    perf_state.count[0] -= 4294967296u / 8;
    e = stopped(m);
    tap_ok(isnan(e.gross_uj) && e.jumps == 1, "perf: a negative step is a jump");
    starts(m);
    perf_state.broken = ENODEV;
    tap_ok(infer_meter_stop(m, &e, &err) == INFER_ERROR_IO && strstr(err.message, "energy-pkg"),
           "perf: a counter that goes away is an error");
    infer_meter_destroy(m);
    tap_ok(perf_state.opened == 4 && perf_state.closed == 4, "perf: all descriptors are closed");
    perf_state = (fake){.denied = EACCES};
    tap_ok(refused(meter_of("perf"), INFER_ERROR_IO, "perf_event_paranoid is 2"), "perf: missing permission is explained");
    m = meter_of("auto");
    tap_ok(m && infer_meter_kind(m) == INFER_ENERGY_ESTIMATED && strstr(infer_meter_note(m), "CAP_PERFMON"),
           "auto: falls back to the estimate and keeps the reason");
    infer_meter_destroy(m);
    put("/sys/bus/event_source/devices/power/events/energy-pkg", "umask=1");
    perf_state = (fake){0};
    tap_ok(refused(meter_of("perf"), INFER_ERROR_FORMAT, "umask=1"), "perf: an event of another form is an error");
    finds("perf-psys-only", "perf", "perf (energy-psys/cpu0+energy-psys/cpu1)", "perf: psys where there is no package, a range of CPUs");
}

static void test_hwmon(void)
{
    size_t threads, with_sampler;
    infer_meter *m;
    infer_energy e;
    set_up("amd-energy");
    m = meter_of("hwmon");
    tap_ok(named(m, "hwmon (Esocket0+Esocket1)"), "amd_energy: sockets, not the cores inside of them");
    tap_ok(infer_meter_wake_ns(m) == 0, "amd_energy: no sampling thread, its driver widens the counters");
    starts(m);
    put_number("/sys/class/hwmon/hwmon1/energy3_input", 1500);
    put_number("/sys/class/hwmon/hwmon1/energy4_input", 2250);
    tap_ok(near(stopped(m).gross_uj, 750, 0.01), "amd_energy: the sum of the sockets");
    infer_meter_destroy(m);

    set_up("jetson");
    m = meter_of("hwmon");
    tap_ok(named(m, "hwmon (VDD_IN)"), "ina3221: the rail that feeds the others is counted alone");
    tap_ok(infer_meter_wake_ns(m) == 100000000, "ina3221: ten readings a second");
    starts(m);
    infer_sleep_until(infer_now_ns() + 350000000, NULL);
    e = stopped(m);
    tap_ok(near(e.gross_uj / 1e6 / e.seconds, 6, 0.1), "ina3221: 5 V x 1.2 A, integrated");
    starts(m);
    put_number("/sys/class/hwmon/hwmon3/curr1_input", -40);
    infer_sleep_until(infer_now_ns() + 250000000, NULL);
    put_number("/sys/class/hwmon/hwmon3/curr1_input", 1200);
    e = stopped(m);
    tap_ok(e.jumps >= 2 && near(e.gross_uj / 1e6 / e.seconds, 6, 0.1),
           "ina3221: negative readings are counted and bridged, not averaged in");
    starts(m);
    put_number("/sys/class/hwmon/hwmon3/curr1_input", 4e9);
    e = stopped(m);
    tap_ok(e.jumps == 1 && isnan(e.gross_uj), "ina3221: nothing but absurd readings: not known");
    put_number("/sys/class/hwmon/hwmon3/curr1_input", 1200);
    starts(m);
    lose("/sys/class/hwmon/hwmon3/curr1_input");
    infer_sleep_until(infer_now_ns() + 250000000, NULL); /* the sampling thread notices first */
    tap_ok(infer_meter_stop(m, &e, &err) == INFER_ERROR_IO && strstr(err.message, "curr1_input"), "ina3221: a vanished file is an error");
    starts(m);
    infer_meter_destroy(m);
    set_up("jetson");
    threads = check_entries("/proc/self/task");
    m = meter_of("hwmon");
    starts(m);
    with_sampler = check_entries("/proc/self/task");
    infer_meter_destroy(m); /* in the middle of a window */
    /* A thread that was joined may be listed for a moment yet. */
    for (int i = 0; i < 1000 && check_entries("/proc/self/task") != threads; i++)
        usleep(1000);
    tap_ok(with_sampler == threads + 1 && check_entries("/proc/self/task") == threads, "a meter destroyed within a window ends its thread");

    finds("jetson-rails", "hwmon", "hwmon (VDD_GPU_SOC+VDD_CPU_CV)",
          "ina3221: rails beside each other are added, unconnected ones left out");
    set_up("epyc");
    tap_ok(refused(meter_of("hwmon"), INFER_ERROR_UNSUPPORTED, "hwmon"), "hwmon: none here");
}

static void test_scmi(void)
{
    infer_meter *m;
    set_up("arm-scmi");
    m = meter_of("auto");
    tap_ok(named(m, "scmi (cluster-big+cluster-little)"), "scmi: outermost zones; auto finds them");
    starts(m);
    put_number("/sys/class/powercap/arm-scmi:0/energy_uj", 400);
    put_number("/sys/class/powercap/arm-scmi:0:0/energy_uj", 300);
    tap_ok(near(stopped(m).gross_uj, 300, 0.01), "scmi: nested zones are not added again");
    infer_meter_destroy(m);
}

static void test_battery(void)
{
    infer_meter *m;
    infer_energy e;
    set_up("laptop-battery");
    m = meter_of("auto");
    tap_ok(named(m, "battery (BAT0)"), "battery: the machine's, not the mouse's");
    starts(m);
    infer_sleep_until(infer_now_ns() + 50000000, NULL);
    e = stopped(m);
    tap_ok(near(e.gross_uj / 1e6 / e.seconds, 8, 0.01), "battery: power, integrated");
    starts(m);
    put("/sys/class/power_supply/BAT0/status", "Charging");
    tap_ok(infer_meter_stop(m, &e, &err) == INFER_ERROR_IO && strstr(err.message, "discharging"), "battery: plugged in during the window");
    infer_meter_destroy(m);
    set_up("battery-energy");
    m = meter_of("battery");
    tap_ok(m && infer_meter_wake_ns(m) == 0, "battery: energy needs no sampling");
    starts(m);
    put_number("/sys/class/power_supply/BAT0/energy_now", 39990000);
    tap_ok(near(stopped(m).gross_uj, 36e6, 1), "battery: 10 mWh less are 36 J");
    starts(m);
    put_number("/sys/class/power_supply/BAT0/energy_now", 39995000);
    tap_ok(stopped(m).jumps == 1, "battery: energy that rises is a jump");
    infer_meter_destroy(m);
    set_up("battery-charge");
    m = meter_of("battery");
    starts(m);
    put_number("/sys/class/power_supply/BAT1/charge_now", 2999000);
    tap_ok(near(stopped(m).gross_uj, 39.6e6, 1), "battery: 1 mAh at 11 V is 39.6 J");
    infer_meter_destroy(m);
    set_up("battery-charging");
    tap_ok(refused(meter_of("battery"), INFER_ERROR_UNSUPPORTED, "unplug"), "battery: while it is charged it measures nothing");
}

static void test_external(void)
{
    infer_meter *m;
    infer_energy e;
    char source[512];
    set_up("jetson");
    put("/meter", "1.5 J");
    snprintf(source, sizeof source, "file:%s/meter", root);
    m = meter_of(source);
    tap_ok(named(m, "file (external)"), "file: joules");
    starts(m);
    put("/meter", "1.75 J");
    tap_ok(near(stopped(m).gross_uj, 250000, 0.01), "file: the difference");
    starts(m);
    put("/meter", "3 W");
    tap_ok(infer_meter_stop(m, &e, &err) == INFER_ERROR_FORMAT && strstr(err.message, "watts"), "file: the unit must stay");
    infer_meter_destroy(m);
    put("/meter", "2 kWh");
    m = meter_of(source);
    starts(m);
    put("/meter", "2.0001 kWh");
    tap_ok(near(stopped(m).gross_uj, 360e6, 1), "file: kilowatt-hours");
    infer_meter_destroy(m);
    put("/meter", "12 parsecs");
    tap_ok(refused(meter_of(source), INFER_ERROR_FORMAT, "parsecs"), "file: an unknown unit");
    put("/meter", "");
    tap_ok(refused(meter_of(source), INFER_ERROR_FORMAT, "expected joules"), "file: nothing in it");
    lose("/meter");
    tap_ok(refused(meter_of(source), INFER_ERROR_IO, "meter"), "file: missing");
    tap_ok(refused(meter_of("file:"), INFER_ERROR_UNSUPPORTED, "file"), "file: without a name");
    tap_ok(refused(meter_of("file"), INFER_ERROR_ARGUMENT, "file:..."), "file: without a colon");
    tap_ok(refused(meter_of("perf:x"), INFER_ERROR_ARGUMENT, "perf:x"), "perf: takes no name");
    tap_ok(refused(meter_of("coal"), INFER_ERROR_ARGUMENT, "coal"), "an unknown source is named");

    snprintf(source, sizeof source, "cmd:cat %s/meter 2>/dev/null", root);
    put("/meter", "4000 mW");
    m = meter_of(source);
    tap_ok(named(m, "cmd (external)"), "cmd: watts");
    starts(m);
    infer_sleep_until(infer_now_ns() + 60000000, NULL);
    e = stopped(m);
    tap_ok(near(e.gross_uj / 1e6 / e.seconds, 4, 0.01), "cmd: integrated");
    starts(m);
    lose("/meter");
    tap_ok(infer_meter_stop(m, &e, &err) == INFER_ERROR_IO && strstr(err.message, "failed"), "cmd: a command that fails is an error");
    infer_meter_destroy(m);
    tap_ok(refused(meter_of("cmd:echo lots"), INFER_ERROR_FORMAT, "lots"), "cmd: words are no energy");
    {
        char line[32];
        uint64_t start = infer_now_ns();
        int ends[2]; /* open for writing in all that the command starts */
        struct pollfd last;
        tap_ok(pipe(ends) == 0 && infer_command_line("sleep 20; true", 50000000, line, sizeof line, &err) == INFER_ERROR_IO &&
                   infer_now_ns() - start < 10000000000u,
               "cmd: one that does not answer is ended");
        close(ends[1]);
        last = (struct pollfd){.fd = ends[0], .events = POLLIN};
        tap_ok(poll(&last, 1, 10000) == 1, "cmd: and so is what it started");
        close(ends[0]);
    }
}

static void burn(uint64_t ns)
{
    volatile unsigned sink = 0;
    for (uint64_t end = infer_process_cpu_ns() + ns; infer_process_cpu_ns() < end;)
        sink++;
}

static uint32_t cores(void)
{
    infer_cpus cpus;
    infer_cpus_available(&cpus);
    return cpus.cores;
}

static void test_estimate(void)
{
    infer_meter_options o = INFER_METER_DEFAULTS;
    infer_meter *m = meter_of("estimate");
    infer_energy e;
    char path[512];
    double idle = 2.0 * cores(), watts;
    tap_ok(named(m, "estimate") && infer_meter_kind(m) == INFER_ENERGY_ESTIMATED && infer_meter_wake_ns(m) == 0,
           "estimate: says so, and has no thread");
    starts(m);
    burn(100000000);
    e = stopped(m);
    tap_ok(e.kind == INFER_ENERGY_ESTIMATED && near(e.net_uj, 4e5, 2e4), "estimate: 0.1 s of a core at 4 W");
    tap_ok(near(e.gross_uj - e.net_uj, idle * e.seconds * 1e6, 1) && e.idle_watts == idle,
           "estimate: gross adds the idle power of the cores");
    tap_ok(infer_meter_idle(m, 1, &watts, &err) == INFER_OK && watts == idle, "estimate: its baseline comes from the model");
    infer_meter_destroy(m);
    snprintf(path, sizeof path, "%s/energy.json", root);
    put("/energy.json", "{\"watts_per_core\": 10, \"idle_watts_per_core\": 0.5}");
    o.source = "estimate";
    o.coefficients = path;
    tap_ok(infer_meter_create(rt, &o, &m, &err) == INFER_OK, "estimate: the user's coefficients");
    starts(m);
    burn(50000000);
    e = stopped(m);
    tap_ok(near(e.net_uj, 5e5, 5e4) && near(e.idle_watts, 0.5 * cores(), 1e-9), "estimate: are used");
    infer_meter_destroy(m);
    static const char *const bad[][2] = {{"[]", "object"},
                                         {"{\"watts_per_core\": \"many\"}", "watts_per_core"},
                                         {"{\"watts_per_core\": -1}", "watts_per_core"},
                                         {"{\"watts\": 1}", "\"watts\""},
                                         {"{", "object"},
                                         {"", "object"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put("/energy.json", bad[i][0]);
        m = NULL;
        infer_meter_create(rt, &o, &m, &err);
        tap_ok(refused(m, INFER_ERROR_FORMAT, bad[i][1]), "estimate: coefficients %s", bad[i][0]);
    }
    o.coefficients = "/nonexistent/energy.json";
    infer_meter_create(rt, &o, &m, &err);
    tap_ok(refused(m, INFER_ERROR_IO, "nonexistent"), "estimate: a missing file");
}

static void test_rest(void)
{
    infer_meter_options o = INFER_METER_DEFAULTS;
    infer_meter *m = meter_of("off");
    infer_energy e;
    double watts;
    tap_ok(named(m, "off") && infer_meter_kind(m) == INFER_ENERGY_NONE, "off");
    starts(m);
    e = stopped(m);
    tap_ok(e.kind == INFER_ENERGY_NONE && isnan(e.gross_uj) && isnan(e.net_uj) && e.seconds >= 0,
           "off: nothing is known, and that is not 0");
    infer_meter_destroy(m);
    o.size--;
    m = NULL;
    tap_ok(infer_meter_create(rt, &o, &m, &err) == INFER_ERROR_ARGUMENT && !m, "options of another size");
    tap_ok(infer_meter_create(rt, NULL, NULL, &err) == INFER_ERROR_ARGUMENT, "out is NULL");
    infer_meter_destroy(NULL);

    set_up("jetson");
    m = meter_of("hwmon");
    tap_ok(infer_meter_idle(m, 0, &watts, &err) == INFER_ERROR_ARGUMENT, "a baseline of no time");
    tap_ok(infer_meter_idle(m, 0.3, &watts, &err) == INFER_OK && near(watts, 6, 0.1), "a measured baseline");
    put_number("/sys/class/hwmon/hwmon3/curr1_input", 2000);
    starts(m);
    infer_sleep_until(infer_now_ns() + 150000000, NULL);
    e = stopped(m);
    tap_ok(near(e.gross_uj / 1e6 / e.seconds, 10, 0.2) && near(e.net_uj / 1e6 / e.seconds, 4, 0.3), "net is gross less the baseline");
    infer_meter_destroy(m);
}

int main(void)
{
    if (!mkdtemp(root) ||
        infer_runtime_create(&(infer_runtime_options){.size = sizeof(infer_runtime_options), .threads = 1}, &rt, &err) != INFER_OK) {
        printf("1..0 # SKIP cannot set up: %s\n", err.message);
        return 1;
    }
    unsetenv("INFER_ENERGY");
    setenv("XDG_CONFIG_HOME", root, 1);
    test_powercap();
    test_permission();
    test_perf();
    test_hwmon();
    test_scmi();
    test_battery();
    test_external();
    test_estimate();
    test_rest();
    infer_runtime_destroy(rt);
    tree_clear(root);
    rmdir(root);
    return tap_done();
}
