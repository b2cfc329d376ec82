/* Zones of /sys/class/powercap, for the sources that read there. */
#ifndef INFER_ENERGY_ZONES_H
#define INFER_ENERGY_ZONES_H

#include "energy/energy.h"

typedef struct infer_zone {
    const char *entry; /* "intel-rapl:0:1" */
    char name[48];     /* its file `name` */
    uint32_t depth;    /* 1: not nested in another zone */
} infer_zone;

bool infer_zones_exist(const infer_energy_place *place, const char *prefix);
/* Adds the zones that `wanted` takes. IO explains a counter that only root may read. */
infer_status infer_zones_add(infer_energy_parts *parts, const char *prefix, bool (*wanted)(const infer_zone *zone), infer_error *err);

#endif
