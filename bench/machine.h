/* On what and with what a record was made. */
#ifndef INFER_BENCH_MACHINE_H
#define INFER_BENCH_MACHINE_H

#include <stddef.h>

/* "AMD EPYC 7763 64-Core Processor"; implementer and part where an Arm system gives no name; "unknown" where nothing is told. */
void infer_machine_cpu_name(char *out, size_t size);
const char *infer_machine_compiler(void); /* "gcc 12.2.0" */
const char *infer_machine_commit(void);   /* `git describe` when it was built, or the version outside of a repository */

/* In what state the machine is; what sysfs does not tell is "" or 0. */
typedef struct infer_machine_state {
    char power[16];     /* "mains", "battery" */
    char governor[32];  /* of CPU 0: "schedutil" */
    double frequency_hz, temperature_c; /* of CPU 0 now; of the hottest zone */
} infer_machine_state;
/* `root` stands in front of "/sys"; "". */
void infer_machine_read_state(const char *root, infer_machine_state *out);

#endif
