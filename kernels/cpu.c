#include "cpu.h"

#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static const char *const level_names[INFER_CPU_LEVEL_COUNT] = {
    [INFER_CPU_REF] = "ref",
    [INFER_CPU_AVX2] = "avx2",
    [INFER_CPU_ZEN] = "zen",
    [INFER_CPU_AVXVNNI] = "avxvnni",
    [INFER_CPU_AVX512] = "avx512",
    [INFER_CPU_AVX512VNNI] = "avx512vnni",
    [INFER_CPU_NEON] = "neon",
    [INFER_CPU_NEON_DOTPROD] = "neon-dotprod",
    [INFER_CPU_NEON_I8MM] = "neon-i8mm",
};

/* The level each level builds on. AVX-512 builds on AVX2 and not on AVX-VNNI: Ice Lake and Zen 4 have the former without the latter. */
static const infer_cpu_level base[INFER_CPU_LEVEL_COUNT] = {
    [INFER_CPU_REF] = INFER_CPU_REF,
    [INFER_CPU_AVX2] = INFER_CPU_REF,
    [INFER_CPU_ZEN] = INFER_CPU_AVX2,
    [INFER_CPU_AVXVNNI] = INFER_CPU_AVX2,
    [INFER_CPU_AVX512] = INFER_CPU_AVX2,
    [INFER_CPU_AVX512VNNI] = INFER_CPU_AVX512,
    [INFER_CPU_NEON] = INFER_CPU_REF,
    [INFER_CPU_NEON_DOTPROD] = INFER_CPU_NEON,
    [INFER_CPU_NEON_I8MM] = INFER_CPU_NEON_DOTPROD,
};

/* ---- reading ---- */

#if defined(__x86_64__) || defined(__i386__)

void infer_cpu_read(infer_cpu_regs *regs)
{
    unsigned eax, ebx, ecx, edx;

    memset(regs, 0, sizeof *regs);
    if (__get_cpuid(0, &eax, &ebx, &ecx, &edx))
        regs->leaf0_ebx = ebx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) {
        regs->leaf1_eax = eax;
        regs->leaf1_ecx = ecx;
        regs->leaf1_edx = edx;
    }
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        unsigned last_subleaf = eax;
        regs->leaf7_ebx = ebx;
        regs->leaf7_ecx = ecx;
        regs->leaf7_edx = edx;
        if (last_subleaf >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
            regs->leaf7_1_eax = eax;
    }
    if (regs->leaf1_ecx & 1u << 27) { /* OSXSAVE: without it XGETBV is an illegal instruction */
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        regs->xcr0 = (uint64_t)high << 32 | low;
    }
}

infer_cpu_family infer_cpu_family_here(void) { return INFER_CPU_X86; }

#elif defined(__aarch64__)

void infer_cpu_read(infer_cpu_regs *regs)
{
    memset(regs, 0, sizeof *regs);
#ifdef __linux__
    regs->hwcap = getauxval(AT_HWCAP);
    regs->hwcap2 = getauxval(AT_HWCAP2);
#else
    regs->hwcap = 1u << 0 | 1u << 1; /* FP and ASIMD belong to every AArch64 application processor */
#endif
}

infer_cpu_family infer_cpu_family_here(void) { return INFER_CPU_ARM64; }

#else

void infer_cpu_read(infer_cpu_regs *regs) { memset(regs, 0, sizeof *regs); }
infer_cpu_family infer_cpu_family_here(void) { return INFER_CPU_OTHER; }

#endif

/* ---- decoding: register bits by their names in the vendors' manuals ---- */

static bool all_set(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

/* AMD's CPUs from Zen on, and Hygon's, which are Zen 1. */
static bool is_zen(const infer_cpu_regs *regs)
{
    enum { AUTH = 0x68747541, HYGO = 0x6f677948 /* letters of AuthenticAMD, HygonGenuine */, ZEN_1 = 0x17 };
    uint32_t family = regs->leaf1_eax >> 8 & 15;

    if (family == 15)
        family += regs->leaf1_eax >> 20 & 255;
    return (regs->leaf0_ebx == AUTH || regs->leaf0_ebx == HYGO) && family >= ZEN_1;
}

static uint32_t decode_x86(const infer_cpu_regs *regs)
{
    enum {
        /* leaf 1 ecx */
        FMA = 1 << 12, SSE42 = 1 << 20, POPCNT = 1 << 23, OSXSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29,
        /* leaf 7.0 ebx */
        BMI1 = 1 << 3, AVX2 = 1 << 5, BMI2 = 1 << 8, AVX512F = 1 << 16, AVX512DQ = 1 << 17, AVX512BW = 1 << 30,
        /* leaf 7.0 ecx */
        AVX512_VBMI = 1 << 1, AVX512_VBMI2 = 1 << 6, AVX512_VNNI = 1 << 11,
        /* leaf 7.1 eax */
        AVX_VNNI = 1 << 4,
        /* XCR0: the state the operating system saves */
        XCR0_YMM = 0x06, /* SSE and the upper halves of YMM */
        XCR0_ZMM = 0xe6  /* and mask registers, upper halves of ZMM0-15, ZMM16-31 */
    };
    const uint32_t AVX512VL = 1u << 31;
    uint32_t levels = 1u << INFER_CPU_REF;

    if (!all_set(regs->leaf1_ecx, FMA | SSE42 | POPCNT | OSXSAVE | AVX | F16C) || !all_set(regs->xcr0, XCR0_YMM) ||
        !all_set(regs->leaf7_ebx, BMI1 | AVX2 | BMI2))
        return levels;
    levels |= 1u << INFER_CPU_AVX2;
    if (is_zen(regs))
        levels |= 1u << INFER_CPU_ZEN;
    if (all_set(regs->leaf7_1_eax, AVX_VNNI))
        levels |= 1u << INFER_CPU_AVXVNNI;
    if (!all_set(regs->leaf7_ebx, AVX512F | AVX512DQ | AVX512BW | AVX512VL) || !all_set(regs->xcr0, XCR0_ZMM))
        return levels;
    levels |= 1u << INFER_CPU_AVX512;
    if (all_set(regs->leaf7_ecx, AVX512_VBMI | AVX512_VBMI2 | AVX512_VNNI))
        levels |= 1u << INFER_CPU_AVX512VNNI;
    return levels;
}

static uint32_t decode_arm64(const infer_cpu_regs *regs)
{
    enum { FP = 1 << 0, ASIMD = 1 << 1, ASIMDDP = 1 << 20 /* AT_HWCAP */, I8MM = 1 << 13 /* AT_HWCAP2 */ };
    uint32_t levels = 1u << INFER_CPU_REF;

    if (!all_set(regs->hwcap, FP | ASIMD))
        return levels;
    levels |= 1u << INFER_CPU_NEON;
    if (!all_set(regs->hwcap, ASIMDDP))
        return levels;
    levels |= 1u << INFER_CPU_NEON_DOTPROD;
    if (all_set(regs->hwcap2, I8MM))
        levels |= 1u << INFER_CPU_NEON_I8MM;
    return levels;
}

uint32_t infer_cpu_levels(const infer_cpu_regs *regs, infer_cpu_family family)
{
    switch (family) {
    case INFER_CPU_X86:
        return decode_x86(regs);
    case INFER_CPU_ARM64:
        return decode_arm64(regs);
    default:
        return 1u << INFER_CPU_REF;
    }
}

uint32_t infer_cpu_levels_here(void)
{
    infer_cpu_regs regs;

    infer_cpu_read(&regs);
    return infer_cpu_levels(&regs, infer_cpu_family_here());
}

/* ---- levels ---- */

bool infer_cpu_level_includes(infer_cpu_level at, infer_cpu_level kernel)
{
    while (at != kernel && at != INFER_CPU_REF)
        at = base[at];
    return at == kernel;
}

infer_cpu_level infer_cpu_best(uint32_t levels)
{
    infer_cpu_level best = INFER_CPU_REF;

    for (int l = 0; l < INFER_CPU_LEVEL_COUNT; l++)
        if (levels & 1u << l)
            best = (infer_cpu_level)l;
    return best;
}

const char *infer_cpu_level_name(infer_cpu_level level) { return (unsigned)level < INFER_CPU_LEVEL_COUNT ? level_names[level] : "?"; }

bool infer_cpu_level_find(const char *name, infer_cpu_level *out)
{
    for (int l = 0; l < INFER_CPU_LEVEL_COUNT; l++) {
        if (strcmp(level_names[l], name) == 0) {
            *out = (infer_cpu_level)l;
            return true;
        }
    }
    return false;
}
