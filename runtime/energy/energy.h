/* Energy counters behind one table. A source finds its parts (packages, rails, batteries) and reads one at a time; meter.c turns readings
 * into joules. */
#ifndef INFER_ENERGY_ENERGY_H
#define INFER_ENERGY_ENERGY_H

#include "core/core.h"

#define INFER_ENERGY_MAX_PARTS 64u
#define INFER_ENERGY_PATH 320u
#define INFER_ENERGY_MAX_WATTS 2000.0 /* of one part; what is above is no power of a computer but a glitch of its counter */

/* System calls that a test replaces. As perf_event_open for counting on one CPU: descriptors, or -1 and errno. */
typedef struct infer_perf {
    int (*open)(void *user, uint32_t type, uint64_t config, int cpu);
    int (*read)(void *user, int fd, uint64_t *count); /* 0, or -1 and errno */
    void (*close)(void *user, int fd);
    void *user;
} infer_perf;

/* Where a source looks. */
typedef struct infer_energy_place {
    const char *root;       /* in front of "/sys/..."; "" */
    const infer_perf *perf; /* never NULL */
    const char *argument;   /* what follows "file:" or "cmd:"; else "" */
} infer_energy_place;

/* Parts that a source counts lie beside each other: none is contained in another one, so that they can be added up. */
typedef struct infer_energy_part {
    char name[48];
    char path[INFER_ENERGY_PATH];  /* the file read */
    char other[INFER_ENERGY_PATH]; /* a second one, where the source needs two; else "" */
    bool power;        /* readings are microwatts now; else microjoules since some start */
    bool falls;        /* the count is what is left */
    uint64_t range_uj; /* the count starts again from 0 when it reaches this; 0: it does not start again */
    double scale;      /* from the unit read */
    int fd;            /* -1: none */
} infer_energy_part;

typedef struct infer_energy_parts {
    infer_energy_place place;
    char argument[INFER_ENERGY_PATH * 2]; /* place.argument points here */
    char root[INFER_ENERGY_PATH];
    uint32_t count;
    infer_energy_part part[INFER_ENERGY_MAX_PARTS];
} infer_energy_parts;

typedef struct infer_energy_source {
    const char *name;
    bool automatic;     /* tried without being asked for, in the table's order */
    double update_s;    /* about the longest time between two updates of its counters */
    uint64_t sample_ns; /* how often power must be read to be integrated; 0: the source has no power readings */
    /* Whether the hardware or the driver is there at all. */
    bool (*probe)(const infer_energy_place *place);
    /* Fills in parts (zeroed, `place` set), at least one. IO or UNSUPPORTED says what is missing, and how to get it. */
    infer_status (*open)(infer_energy_parts *parts, infer_error *err);
    /* Microjoules or microwatts of one part. May be called by the sampling thread. */
    infer_status (*read)(const infer_energy_parts *parts, const infer_energy_part *part, double *value, infer_error *err);
    void (*close)(infer_energy_parts *parts); /* NULL: nothing to close */
} infer_energy_source;

/* sources.c: the i-th source, NULL behind the last. */
const infer_energy_source *infer_energy_source_at(size_t i);

extern const infer_energy_source infer_energy_perf, infer_energy_powercap, infer_energy_scmi, infer_energy_hwmon, infer_energy_battery,
    infer_energy_file, infer_energy_cmd;

/* core/os.c's system calls. */
extern const infer_perf infer_perf_system;

/* ---- sysfs.c: small files below a root ---- */

/* root + path, formatted; false when it does not fit into INFER_ENERGY_PATH. */
bool infer_sysfs_path(char out[INFER_ENERGY_PATH], const infer_energy_place *place, const char *format, ...) INFER_PRINTF(3, 4);
/* The number in a file. IO: cannot be read; FORMAT: no finite number. */
infer_status infer_sysfs_number(const char *path, double *out, infer_error *err);
/* part->path's number x part->scale: the `read` of most sources. */
infer_status infer_sysfs_read(const infer_energy_parts *parts, const infer_energy_part *part, double *value, infer_error *err);
/* Calls each(entry's name) for the entries of a folder whose names begin with `prefix`, in the order of their names, until it fails. False:
 * no such folder. */
typedef infer_status infer_sysfs_each(void *user, const char *name, infer_error *err);
bool infer_sysfs_walk(const char *folder, const char *prefix, infer_sysfs_each *each, void *user, infer_status *status, infer_error *err);
bool infer_sysfs_exists(const infer_energy_place *place, const char *path);
/* A new part, or NULL and a filled-in error when there are too many. */
infer_energy_part *infer_energy_add(infer_energy_parts *parts, infer_error *err);

/* ---- estimate.c ---- */

/* What the estimate is made of; see README.md for where the defaults come from. */
typedef struct infer_energy_model {
    double watts_per_core;      /* of a core while it works, above idle */
    double joules_per_gigabyte; /* read from memory */
    double idle_watts_per_core; /* the machine's idle power, shared out */
} infer_energy_model;

/* `path` NULL: the user's file where there is one, else the defaults. FORMAT names the key and what was found; IO only where `path` was
 * given. */
infer_status infer_energy_model_load(const char *path, infer_energy_model *out, infer_error *err);

/* ---- meter.c ---- */

/* infer_meter_create with another perf. */
infer_status infer_meter_create_in(infer_runtime *rt, const infer_meter_options *options, const infer_perf *perf, infer_meter **out,
                                   infer_error *err);
/* About the longest time between two updates of the counters, in seconds; 0: every reading is new. */
double infer_meter_update_s(const infer_meter *meter);
/* The sum of the parts' readings now, to watch a counter move: microjoules or microwatts. */
infer_status infer_meter_peek(infer_meter *meter, double *value, infer_error *err);
/* Whether it integrates powers, so that every reading counts as an update. */
bool infer_meter_reads_power(const infer_meter *meter);
/* How often the sampling thread of this meter wakes up while a window is open, ns; 0: it has none. */
uint64_t infer_meter_wake_ns(const infer_meter *meter);

#endif
