/* What sysfs tells of cores and of the machine's state, on machines written down here. */
#include "check_tap.h"
#include "cores.h"
#include "machine.h"
#include "tree.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/infer-machine-XXXXXX";

static void put(const char *path, const char *line) { tree_put(root, path, line); }

int main(void)
{
    infer_core_class classes[INFER_CORE_CLASSES];
    infer_machine_state state;
    if (!mkdtemp(root))
        return 1;
    tap_ok(infer_core_classes(root, classes) == 0, "nothing told: no classes");
    infer_machine_read_state(root, &state);
    tap_ok(!*state.power && !*state.governor && state.frequency_hz == 0 && state.temperature_c == 0, "nothing told: no state");
    put("/sys/devices/system/cpu/cpu0/cpu_capacity", "446");
    put("/sys/devices/system/cpu/cpu1/cpu_capacity", "446");
    put("/sys/devices/system/cpu/cpu2/cpu_capacity", "1024");
    tap_ok(infer_core_classes(root, classes) == 2 && strcmp(classes[0].cpus, "0,1") == 0 && classes[0].count == 2 &&
               strcmp(classes[1].cpus, "2") == 0,
           "Arm: classes by capacity");
    put("/sys/devices/cpu_core/cpus", "0-11");
    put("/sys/devices/cpu_atom/cpus", "12-19");
    tap_ok(infer_core_classes(root, classes) == 2 && classes[0].count == 12 && classes[1].count == 8 &&
               strcmp(classes[1].cpus, "12-19") == 0,
           "Intel: cores and atoms");
    put("/sys/class/power_supply/AC/online", "0");
    put("/sys/class/power_supply/BAT0/status", "Discharging");
    put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil");
    put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2400000");
    put("/sys/class/thermal/thermal_zone0/temp", "41000");
    put("/sys/class/thermal/thermal_zone1/temp", "63000");
    infer_machine_read_state(root, &state);
    tap_ok(strcmp(state.power, "battery") == 0 && strcmp(state.governor, "schedutil") == 0 && state.frequency_hz == 2.4e9 &&
               state.temperature_c == 63,
           "battery, governor, frequency, the hottest zone");
    put("/sys/class/power_supply/AC/online", "1");
    infer_machine_read_state(root, &state);
    tap_ok(strcmp(state.power, "mains") == 0, "mains");
    tap_ok(!infer_pin_cpus("nonsense") && !infer_pin_cpus("3-1") && !infer_pin_cpus("0,") && !infer_pin_cpus("99999"),
           "lists of CPUs that are none");
    tap_ok(infer_pin_cpus("0-1023") && infer_pin_cpus(""), "and one that is");
    tree_clear(root);
    if (rmdir(root) != 0)
        return 1;
    return tap_done();
}
