#include "energy/energy.h"

/* Best first: what needs no root and no sampling, down to what is coarse. */
static const infer_energy_source *const sources[] = {
    &infer_energy_perf,    &infer_energy_powercap, &infer_energy_scmi, &infer_energy_hwmon,
    &infer_energy_battery, &infer_energy_file,     &infer_energy_cmd,
};

const infer_energy_source *infer_energy_source_at(size_t i) { return i < sizeof sources / sizeof sources[0] ? sources[i] : NULL; }
