/* What the CPU and the operating system offer. Reading the registers and decoding them are apart, so that tests decode recorded dumps. */
#ifndef INFER_KERNELS_CPU_H
#define INFER_KERNELS_CPU_H

#include "kernels.h"

/* Raw registers. x86: cpuid leaf 1 ecx/edx, leaf 7.0 ebx/ecx/edx, leaf 7.1 eax, XCR0, leaf 0 ebx (the vendor's first four letters) and leaf 1 eax
 * (family and model). Arm: AT_HWCAP and AT_HWCAP2. */
typedef struct infer_cpu_regs {
    uint32_t leaf1_ecx, leaf1_edx, leaf7_ebx, leaf7_ecx, leaf7_edx, leaf7_1_eax;
    uint64_t xcr0;
    uint64_t hwcap, hwcap2;
    uint32_t leaf0_ebx, leaf1_eax;
} infer_cpu_regs;

typedef enum infer_cpu_family { INFER_CPU_OTHER, INFER_CPU_X86, INFER_CPU_ARM64 } infer_cpu_family;

void infer_cpu_read(infer_cpu_regs *regs);
infer_cpu_family infer_cpu_family_here(void);
/* Bit l is set when level l can run; bit 0 (ref) always is. */
uint32_t infer_cpu_levels(const infer_cpu_regs *regs, infer_cpu_family family);
/* Levels of this machine, read anew: infer_cpu_read + infer_cpu_levels. */
uint32_t infer_cpu_levels_here(void);
/* True when a machine at level `at` may run kernels of level `kernel` (what the level includes: see infer_cpu_level). */
bool infer_cpu_level_includes(infer_cpu_level at, infer_cpu_level kernel);
/* Highest level in the mask. */
infer_cpu_level infer_cpu_best(uint32_t levels);
const char *infer_cpu_level_name(infer_cpu_level level); /* "neon-dotprod" */
/* False: no such name. */
bool infer_cpu_level_find(const char *name, infer_cpu_level *out);

#endif
