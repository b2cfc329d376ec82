/* Kinds of cores in one processor, and staying on them. */
#ifndef INFER_BENCH_CORES_H
#define INFER_BENCH_CORES_H

#include <stdbool.h>
#include <stdint.h>

#define INFER_CORE_CLASSES 4u

typedef struct infer_core_class {
    char cpus[128]; /* "0-7" */
    uint32_t count; /* of them */
} infer_core_class;

/* The classes that sysfs below `root` ("") tells apart, at most INFER_CORE_CLASSES: Intel's core and atom lists, else Arm's capacities. 0 or 1: all cores
 * are of one kind, or nothing is told. */
uint32_t infer_core_classes(const char *root, infer_core_class out[INFER_CORE_CLASSES]);

/* Keeps the calling thread, and those it starts from now on, on these CPUs ("0-3,8"); "": on those it had at the first call. False: it is no list, or
 * none of them may be used; nothing has changed then. One thread at a time. */
bool infer_pin_cpus(const char *list);

#endif
