/* What the kernels stand on: exp, conversions, CPU detection, the table, types, packing. */
#include "conformance.h"

#include "cols.h"
#include "cpu.h"
#include "pack/pack.h"
#include "ref/mathf.h"
#include "tile16x4.h"

#include <string.h>

/* ---- mathf.h ---- */

static void check_exp(test *t, float x)
{
    float got = infer_ref_expf(x);
    double want = exp((double)x), ulp;
    int exponent;

    frexp(want, &exponent);
    ulp = ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
    if (want > 0x1.fffffep127 + ulp / 2) {
        if (got != INFINITY)
            fail(t, "exp(%a) is %a, expected infinity", x, got);
    } else {
        check_near(t, got, want, INFER_REF_EXPF_ULP * ulp, "exp");
    }
}

void unit_exp(test *t)
{
    begin_case(t, "special values");
    CHECK(t, infer_ref_expf(0.0f) == 1.0f && infer_ref_expf(-0.0f) == 1.0f);
    CHECK(t, infer_ref_expf(-INFINITY) == 0.0f && !signbit(infer_ref_expf(-INFINITY)));
    CHECK(t, infer_ref_expf(INFINITY) == INFINITY);
    CHECK(t, isnan(infer_ref_expf(NAN)) && isnan(infer_ref_expf(-NAN)));
    CHECK(t, infer_ref_expf(-104.0f) == 0.0f && infer_ref_expf(-103.9f) == 0x1p-149f);
    CHECK(t, infer_ref_expf(88.72f) < INFINITY && infer_ref_expf(88.73f) == INFINITY);
    begin_case(t, "an even walk over the bits of all floats");
    for (uint32_t bits = random_below(t, 4001); bits < 0x7f800000; bits += 4001) {
        check_exp(t, infer_ref_float_from_bits(bits));
        check_exp(t, -infer_ref_float_from_bits(bits));
    }
    begin_case(t, "random values in the range of exp");
    for (int i = 0; i < 200000; i++)
        check_exp(t, random_unit(t) * 105.0f);
}

/* The nearest of the numbers that a 16-bit type holds, ties to the even pattern: found by search, not by arithmetic on bits. */
static uint16_t nearest_half(double x, float (*widen)(uint16_t), uint16_t infinity, double beyond_largest)
{
    uint16_t low = 0, high = infinity; /* widen(low) <= |x| < widen(high) */
    double magnitude = fabs(x), below, above;

    if (magnitude >= beyond_largest)
        return (uint16_t)(infinity | (signbit(x) ? 0x8000 : 0));
    while (high - low > 1) {
        uint16_t middle = (uint16_t)((low + high) / 2);
        if ((double)widen(middle) <= magnitude)
            low = middle;
        else
            high = middle;
    }
    below = magnitude - (double)widen(low);
    above = (high == infinity ? beyond_largest : (double)widen(high)) - magnitude;
    if (above < below || (above == below && low % 2))
        low = high;
    return (uint16_t)(low | (signbit(x) ? 0x8000 : 0));
}

static float widen_f16(uint16_t h) { return infer_ref_f16_to_f32(h); }
static float widen_bf16(uint16_t h) { return infer_ref_bf16_to_f32(h); }

void unit_half(test *t)
{
    begin_case(t, "every pattern there and back");
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float f16 = infer_ref_f16_to_f32((uint16_t)h), bf16 = infer_ref_bf16_to_f32((uint16_t)h);
        int exponent = h >> 10 & 31;
        double value = exponent ? ldexp(1024 + (h & 0x3ff), exponent - 25) : ldexp(h & 0x3ff, -24);
        CHECK(t, exponent == 31 ? (h & 0x3ff ? isnan(f16) : isinf(f16)) : (double)f16 == (h & 0x8000 ? -value : value));
        CHECK(t, isnan(f16) ? isnan(infer_ref_f16_to_f32(infer_ref_f32_to_f16(f16))) : infer_ref_f32_to_f16(f16) == h);
        CHECK(t, isnan(bf16) ? isnan(infer_ref_bf16_to_f32(infer_ref_f32_to_bf16(bf16))) : infer_ref_f32_to_bf16(bf16) == h);
    }
    begin_case(t, "rounding");
    for (int i = 0; i < 300000; i++) {
        float x = infer_ref_float_from_bits((uint32_t)random_u64(t));
        if (i % 2) /* halfway between two fp16 numbers, or one step beside it */
            x = infer_ref_float_from_bits(((uint32_t)random_below(t, 0x2000) << 13) + 0x38000000 - 0x0a000000 + 0x1000 + random_below(t, 3) - 1);
        if (isnan(x))
            continue;
        CHECK(t, infer_ref_f32_to_f16(x) == nearest_half(x, widen_f16, 0x7c00, 65536));
        CHECK(t, infer_ref_f32_to_bf16(x) == nearest_half(x, widen_bf16, 0x7f80, 0x1p128));
    }
}

/* ---- cpu.c ---- */

void unit_cpu(test *t)
{
    enum {
        REF = 1 << INFER_CPU_REF,
        AVX2 = REF | 1 << INFER_CPU_AVX2,
        ZEN = AVX2 | 1 << INFER_CPU_ZEN,
        AVXVNNI = AVX2 | 1 << INFER_CPU_AVXVNNI,
        AVX512 = AVX2 | 1 << INFER_CPU_AVX512,
        AVX512VNNI = AVX512 | 1 << INFER_CPU_AVX512VNNI,
        NEON = REF | 1 << INFER_CPU_NEON,
        DOTPROD = NEON | 1 << INFER_CPU_NEON_DOTPROD,
        I8MM = DOTPROD | 1 << INFER_CPU_NEON_I8MM
    };
    /* The bits that cpu.c decodes are as these CPUs report them; other bits are typical. */
    static const struct {
        const char *name;
        infer_cpu_family family;
        infer_cpu_regs regs; /* leaf 1 ecx, edx; leaf 7.0 ebx, ecx, edx; leaf 7.1 eax; XCR0; hwcap, hwcap2; leaf 0 ebx; leaf 1 eax */
        uint32_t levels;
    } dumps[] = {
        {"Sandy Bridge", INFER_CPU_X86, {0x1fbae3ff, 0xbfebfbff, 0, 0, 0, 0, 0x7, 0, 0, 0x756e6547, 0}, REF},
        {"Haswell", INFER_CPU_X86, {0x7ffafbff, 0xbfebfbff, 0x000027ab, 0, 0, 0, 0x7, 0, 0, 0x756e6547, 0x000306c3}, AVX2},
        {"Haswell, OS without AVX", INFER_CPU_X86, {0x7ffafbff, 0xbfebfbff, 0x000027ab, 0, 0, 0, 0x3, 0, 0, 0x756e6547, 0}, REF},
        {"Haswell, OS without XSAVE", INFER_CPU_X86, {0x77fafbff, 0xbfebfbff, 0x000027ab, 0, 0, 0, 0x7, 0, 0, 0x756e6547, 0}, REF},
        {"Haswell, FMA hidden by a hypervisor", INFER_CPU_X86, {0x7ffaebff, 0xbfebfbff, 0x000027ab, 0, 0, 0, 0x7, 0, 0, 0x756e6547, 0}, REF},
        {"Skylake-X", INFER_CPU_X86, {0x7ffefbff, 0xbfebfbff, 0xd39ffffb, 0x00000008, 0xbc000400, 0, 0xe7, 0, 0, 0x756e6547, 0}, AVX512},
        {"Skylake-X, OS without ZMM", INFER_CPU_X86, {0x7ffefbff, 0xbfebfbff, 0xd39ffffb, 0x00000008, 0xbc000400, 0, 0x7, 0, 0, 0x756e6547, 0}, AVX2},
        {"Skylake-X, OS without ZMM16-31", INFER_CPU_X86, {0x7ffefbff, 0xbfebfbff, 0xd39ffffb, 0x00000008, 0xbc000400, 0, 0x67, 0, 0, 0x756e6547, 0}, AVX2},
        {"Cascade Lake: VNNI without VBMI", INFER_CPU_X86, {0x7ffefbff, 0xbfebfbff, 0xd39ffffb, 0x00000808, 0xbc000400, 0, 0xe7, 0, 0, 0x756e6547, 0}, AVX512},
        {"Ice Lake", INFER_CPU_X86, {0x7ffafbbf, 0xbfebfbff, 0xf2bf27eb, 0x40405f4e, 0xbc000410, 0, 0xe7, 0, 0, 0x756e6547, 0}, AVX512VNNI},
        {"Alder Lake", INFER_CPU_X86, {0x7ffafbff, 0xbfebfbff, 0x239c27eb, 0x98c027ac, 0xfc1cc410, 0x00400810, 0x207, 0, 0, 0x756e6547, 0}, AVXVNNI},
        {"Sapphire Rapids", INFER_CPU_X86, {0x7ffefbff, 0xbfebfbff, 0xf3bfbfeb, 0xfb417ffe, 0xffd94432, 0x00001c30, 0x602e7, 0, 0, 0x756e6547, 0},
         AVX512VNNI | AVXVNNI},
        {"Zen 3", INFER_CPU_X86, {0x7ef8320b, 0x178bfbff, 0x219c97a9, 0x0040068c, 0x00000010, 0, 0x207, 0, 0, 0x68747541, 0x00a00f11}, ZEN},
        {"Excavator", INFER_CPU_X86, {0x7ed8320b, 0x178bfbff, 0x000001a9, 0, 0, 0, 0x7, 0, 0, 0x68747541, 0x00660f51}, AVX2},
        {"Hygon Dhyana", INFER_CPU_X86, {0x7ed8320b, 0x178bfbff, 0x209c01a9, 0, 0, 0, 0x7, 0, 0, 0x6f677948, 0x00900f02}, ZEN},
        {"Zen 4", INFER_CPU_X86, {0x7ef8320b, 0x178bfbff, 0xf1bf97a9, 0x00405fce, 0x10000010, 0x00000020, 0x2e7, 0, 0, 0x68747541, 0x00a60f12},
         AVX512VNNI | ZEN},
        {"Cortex-A53", INFER_CPU_ARM64, {0, 0, 0, 0, 0, 0, 0, 0x000008ff, 0, 0, 0}, NEON},
        {"Neoverse N1", INFER_CPU_ARM64, {0, 0, 0, 0, 0, 0, 0, 0x00119fff, 0, 0, 0}, DOTPROD},
        {"Neoverse V1", INFER_CPU_ARM64, {0, 0, 0, 0, 0, 0, 0, 0xdfffffff, 0x0000e000, 0, 0}, I8MM},
        {"Arm without ASIMD", INFER_CPU_ARM64, {0, 0, 0, 0, 0, 0, 0, 0x1, 0x2000, 0, 0}, REF},
        {"Arm with i8mm but dot products hidden", INFER_CPU_ARM64, {0, 0, 0, 0, 0, 0, 0, 0x3, 0x2000, 0, 0}, NEON},
        {"unknown family", INFER_CPU_OTHER, {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0ull, ~0ull, ~0ull, ~0u, ~0u}, REF},
    };

    for (size_t i = 0; i < ARRAY_COUNT(dumps); i++) {
        uint32_t levels = infer_cpu_levels(&dumps[i].regs, dumps[i].family);
        begin_case(t, "%s", dumps[i].name);
        if (levels != dumps[i].levels)
            fail(t, "levels %#x, expected %#x", levels, dumps[i].levels);
    }
}

void unit_levels(test *t)
{
    infer_cpu_level found = INFER_CPU_LEVEL_COUNT;
    uint32_t here = infer_cpu_levels_here();

    begin_case(t, "names");
    for (int l = 0; l < INFER_CPU_LEVEL_COUNT; l++) {
        CHECK(t, infer_cpu_level_find(infer_cpu_level_name((infer_cpu_level)l), &found));
        CHECK(t, found == (infer_cpu_level)l);
    }
    CHECK(t, !infer_cpu_level_find("avx3", &found) && !infer_cpu_level_find("", &found));
    begin_case(t, "what includes what");
    CHECK(t, infer_cpu_level_includes(INFER_CPU_AVX512VNNI, INFER_CPU_AVX2));
    CHECK(t, !infer_cpu_level_includes(INFER_CPU_AVX512VNNI, INFER_CPU_AVXVNNI));
    CHECK(t, infer_cpu_level_includes(INFER_CPU_AVXVNNI, INFER_CPU_AVX2));
    CHECK(t, infer_cpu_level_includes(INFER_CPU_ZEN, INFER_CPU_AVX2) && !infer_cpu_level_includes(INFER_CPU_AVX512VNNI, INFER_CPU_ZEN));
    CHECK(t, !infer_cpu_level_includes(INFER_CPU_AVX2, INFER_CPU_AVX512));
    CHECK(t, infer_cpu_level_includes(INFER_CPU_NEON_I8MM, INFER_CPU_NEON));
    CHECK(t, !infer_cpu_level_includes(INFER_CPU_NEON_I8MM, INFER_CPU_AVX2));
    CHECK(t, !infer_cpu_level_includes(INFER_CPU_REF, INFER_CPU_NEON));
    for (int l = 0; l < INFER_CPU_LEVEL_COUNT; l++)
        CHECK(t, infer_cpu_level_includes((infer_cpu_level)l, INFER_CPU_REF) && infer_cpu_level_includes((infer_cpu_level)l, (infer_cpu_level)l));
    begin_case(t, "this machine");
    CHECK(t, here & 1);
    CHECK(t, here >> infer_cpu_best(here) == 1);
    for (int l = 0; l < INFER_CPU_LEVEL_COUNT; l++) /* whatever the best level includes must be there */
        CHECK(t, !infer_cpu_level_includes(infer_cpu_best(here), (infer_cpu_level)l) || here & 1u << l);
}

/* ---- registry.c ---- */

void unit_registry(test *t)
{
    size_t count;
    const infer_kernel *kernels = infer_kernels(&count);

    begin_case(t, "unsupported");
    CHECK(t, !infer_kernel_find(INFER_OP_MATMUL, INFER_QTYPE_NONE, INFER_LAYOUT_TILE16X4, INFER_CPU_REF));
    CHECK(t, !infer_kernel_find(INFER_OP_MATMUL, INFER_QTYPE_F32, INFER_LAYOUT_NONE, INFER_CPU_REF));
    for (size_t i = 0; i < count; i++) {
        const infer_kernel *k = &kernels[i];
        begin_case(t, "%s", k->name);
        CHECK(t, strncmp(k->name, infer_op_name(k->op), strlen(infer_op_name(k->op))) == 0);
        CHECK(t, infer_kernel_find(k->op, k->type, k->layout, INFER_CPU_REF)); /* nothing without a reference */
        for (int level = 0; level < INFER_CPU_LEVEL_COUNT; level++) {
            const infer_kernel *best = infer_kernel_find(k->op, k->type, k->layout, (infer_cpu_level)level);
            CHECK(t, infer_cpu_level_includes((infer_cpu_level)level, best->level));
            if (infer_cpu_level_includes((infer_cpu_level)level, k->level)) /* best first: no later line is of a level above */
                CHECK(t, infer_cpu_level_includes(best->level, k->level));
        }
        for (size_t j = 0; j < i; j++)
            CHECK(t, kernels[j].fn != k->fn);
    }
}

/* ---- qtypes.c ---- */

void unit_qtypes(test *t)
{
    uint64_t bytes = 77;

    begin_case(t, "look-up");
    CHECK(t, infer_qtype_find(INFER_QTYPE_Q4G32)->panel_bytes == 288 && infer_qtype_find(INFER_QTYPE_Q8G32)->panel_bytes == 544);
    CHECK(t, infer_qtype_find_name("bf16") == infer_qtype_find(INFER_QTYPE_BF16));
    CHECK(t, !infer_qtype_find(99) && !infer_qtype_find(INFER_QTYPE_NONE) && !infer_qtype_find(~0u) && !infer_qtype_find_name("q5"));
    CHECK(t, strcmp(infer_layout_name(INFER_LAYOUT_TILE16X4), "tile16x4") == 0 && !infer_layout_name(2) && !infer_layout_name(7) && !infer_layout_name(9));
    CHECK(t, strcmp(infer_layout_name(INFER_LAYOUT_COLS), "cols") == 0);
    begin_case(t, "bytes");
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_Q8G32, INFER_LAYOUT_ROWS, 1, 1, &bytes));
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_F32, 3, 1, 1, &bytes) && !infer_tensor_bytes(77, INFER_LAYOUT_ROWS, 1, 1, &bytes));
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_F32, INFER_LAYOUT_ROWS, UINT64_MAX, UINT64_MAX, &bytes));
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1ull << 61, 1, &bytes)); /* 2^63: one too many */
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_F32, INFER_LAYOUT_TILE16X4, UINT64_MAX, 1, &bytes));
    CHECK(t, bytes == 77); /* untouched on failure */
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_F32, INFER_LAYOUT_ROWS, (1ull << 61) - 1, 1, &bytes) && bytes == (1ull << 63) - 4);
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_F16, INFER_LAYOUT_ROWS, 3, 5, &bytes) && bytes == 30);
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_Q8G32, INFER_LAYOUT_TILE16X4, 17, 33, &bytes) && bytes == 4 * 544);
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_Q4G32, INFER_LAYOUT_TILE16X4, 16, 32, &bytes) && bytes == 288);
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_T2R, INFER_LAYOUT_TILE16X4, 17, 33, &bytes) && bytes == 2 * (64 + 2 * 128));
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_T2R, INFER_LAYOUT_TILE16X4, 16, UINT64_MAX / 4, &bytes));
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_BF16, INFER_LAYOUT_TILE16X4, 1, 5, &bytes) && bytes == 256);
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_F32, INFER_LAYOUT_TILE16X4, 0, 5, &bytes) && bytes == 0);
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_F32, INFER_LAYOUT_COLS, 1, 1, &bytes));
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_Q4G64, INFER_LAYOUT_TILE16X4, 1, 1, &bytes) && !infer_tensor_bytes(INFER_QTYPE_Q4G64, INFER_LAYOUT_ROWS, 1, 1, &bytes));
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_Q4G64, INFER_LAYOUT_COLS, 129, 65, &bytes) && bytes == 4 * 128 + 4 * 256 + 2 * 256 * 33);
    CHECK(t, infer_tensor_bytes(INFER_QTYPE_Q8G64, INFER_LAYOUT_COLS, 128, 64, &bytes) && bytes == 4 * 64 + 4 * 128 + 128 * 65);
    CHECK(t, !infer_tensor_bytes(INFER_QTYPE_Q8G64, INFER_LAYOUT_COLS, INT64_MAX, 1, &bytes) &&
                 !infer_tensor_bytes(INFER_QTYPE_Q8G64, INFER_LAYOUT_COLS, 1ull << 32, 1ull << 32, &bytes));
}

/* ---- pack.c ---- */

static const infer_qtype types[] = {INFER_QTYPE_F32, INFER_QTYPE_F16, INFER_QTYPE_BF16, INFER_QTYPE_Q8G32, INFER_QTYPE_Q4G32, INFER_QTYPE_N4G32,
                                    INFER_QTYPE_T2R};

/* Largest error of packing a group (t2r: a row) whose largest magnitude is amax, x one of its values. */
static double pack_bound(infer_qtype type, double x, double amax)
{
    switch (type) {
    case INFER_QTYPE_F32:
        return 0;
    case INFER_QTYPE_F16:
        return fabs(x) * 0x1p-11 + 0x1p-25;
    case INFER_QTYPE_BF16:
        return fabs(x) * 0x1p-8 + 0x1p-133;
    case INFER_QTYPE_Q8G32: /* half a step, and what the rounded scale cuts off at the end */
        return amax / 127 * 0.5 * (1 + 0x1p-10) + amax * 0x1p-11 + 127 * 0x1p-25;
    case INFER_QTYPE_T2R: /* unit_pack_ternary says more */
        return amax;
    case INFER_QTYPE_N4G32: /* the extreme value of the other sign: 63 of the scale where the table ends at 52 */
        return amax * 11 / 63 * (1 + 0x1p-10) + amax * 0x1p-11 + 63 * 0x1p-25;
    default: /* a whole step at the end without the extreme value (code 7 of 8) */
        return amax / 8 * (1 + 0x1p-10) + amax * 0x1p-11 + 8 * 0x1p-25;
    }
}

static void pack_case(test *t, infer_qtype type, uint32_t n, uint32_t k, fill f)
{
    uint32_t group = infer_qtype_find(type)->group, shared = type == INFER_QTYPE_T2R ? k : group; /* inputs that share a scale */
    float *rows = buffer(SLOT_X, (size_t)n * k * sizeof *rows, sizeof *rows), *back = buffer(SLOT_Y, (size_t)n * k * sizeof *back, sizeof *back);
    float *whole = buffer(SLOT_WANT, (size_t)16 * ((k + group - 1) / group * group) * sizeof *whole, sizeof *whole);
    void *panel = buffer(SLOT_W, (size_t)infer_panel_bytes(type, k), 32);
    uint32_t k_padded = (k + group - 1) / group * group;

    begin_case(t, "%s n %u k %u %s", infer_qtype_find(type)->name, n, k, fill_name(f));
    fill_floats(t, rows, (size_t)n * k, f);
    CHECK(t, infer_pack_panel(type, rows, n, k, panel));
    check_canaries(t, SLOT_W);
    infer_unpack_panel(type, panel, n, k, back);
    check_canaries(t, SLOT_Y);
    for (uint32_t r = 0; r < n; r++) {
        for (uint32_t i = 0; i < k; i++) {
            double amax = 0;
            for (uint32_t j = i / shared * shared; j < k && j < i / shared * shared + shared; j++)
                amax = fmax(amax, fabs((double)rows[(size_t)r * k + j]));
            check_near(t, back[(size_t)r * k + i], rows[(size_t)r * k + i], pack_bound(type, rows[(size_t)r * k + i], amax), "unpacked value");
        }
    }
    infer_unpack_panel(type, panel, 16, k_padded, whole); /* the padding is zero */
    for (uint32_t r = 0; r < 16; r++)
        for (uint32_t i = 0; i < k_padded; i++)
            CHECK(t, (r < n && i < k) || whole[(size_t)r * k_padded + i] == 0);
}

/* Layout cols: what is packed comes back within cols_bound, ternary rows exactly; zeros stay zeros; what is not finite is refused. */
void unit_pack_cols(test *t)
{
    static const infer_qtype cols[] = {INFER_QTYPE_Q8G64, INFER_QTYPE_Q4G64};
    enum { MAX_N = 4110, MAX_K = 70 };
    static double scratch[2 * MAX_K + MAX_N];

    for (uint32_t i = 0; i < 40; i++) {
        infer_qtype type = cols[i % 2];
        uint32_t n = i < 36 ? 1 + random_below(t, 140) : MAX_N, k = 1 + random_below(t, MAX_K);
        float *rows = buffer(SLOT_X, (size_t)n * k * sizeof *rows, sizeof *rows), *back = buffer(SLOT_Y, (size_t)n * k * sizeof *back, sizeof *back), scale = 0.37f;
        bool ternary = i % 4 == 3;
        uint64_t bytes = 0;
        infer_cols c;
        void *w;
        CHECK(t, infer_tensor_bytes(type, INFER_LAYOUT_COLS, n, k, &bytes));
        w = buffer(SLOT_W, (size_t)bytes, 64);
        begin_case(t, "%s n %u k %u%s", infer_qtype_find(type)->name, n, k, ternary ? " ternary" : "");
        for (size_t j = 0; j < (size_t)n * k; j++)
            rows[j] = ternary ? scale * (float)((int)random_below(t, 3) - 1) : j / k == 1 || j % k == 2 ? 0 : random_unit(t);
        CHECK(t, infer_pack_cols(type, rows, n, k, scratch, w));
        check_canaries(t, SLOT_W);
        infer_unpack_cols(type, w, n, k, 0, n, back);
        c = infer_cols_at(w, n, k, infer_qtype_find(type)->cols_bits);
        for (size_t j = 0; j < (size_t)n * k; j++) {
            size_t o = j / k, input = j % k;
            infer_cols_stripe s = infer_cols_stripe_of(&c, o);
            const uint8_t *group = infer_cols_group(&c, &s, input / 64);
            double step = fabs((double)infer_cols_scale(group[o - s.at]) * c.row[o] * c.column[input]);
            int32_t code = infer_cols_code(group, s.width, c.bits, (uint32_t)(input % 64), o - s.at);
            check_near(t, back[j], rows[j], ternary || rows[j] == 0 ? 0 : cols_bound(step, c.bits, code), "unpacked value");
        }
        rows[random_below(t, n * k)] = i % 8 ? NAN : INFINITY;
        CHECK(t, !infer_pack_cols(type, rows, n, k, scratch, w));
    }
}

void unit_pack(test *t)
{
    static const fill fills[] = {FILL_RANDOM, FILL_EXTREME, FILL_ALTERNATE, FILL_ONE_HOT, FILL_ZERO};

    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        uint8_t panel[2 * 544];
        float bad[3] = {1, NAN, 2}, large[2] = {0x1.fffffep127f, 1};
        for (uint32_t n = 1; n <= 16; n++)
            for (uint32_t k = 1; k <= 65; k += 1 + k / 4)
                for (size_t f = 0; f < ARRAY_COUNT(fills); f++)
                    pack_case(t, types[i], n, k, fills[f]);
        begin_case(t, "%s refuses", infer_qtype_find(types[i])->name);
        CHECK(t, !infer_pack_panel(types[i], bad, 1, 3, panel));
        bad[1] = -INFINITY;
        CHECK(t, !infer_pack_panel(types[i], bad, 1, 3, panel));
        CHECK(t, infer_pack_panel(types[i], large, 1, 2, panel) == (types[i] == INFER_QTYPE_F32 || types[i] == INFER_QTYPE_T2R));
    }
}

/* Rows of -s, 0 and s come back to the bit; others as codes of their mean magnitude; where each code lies. */
void unit_pack_ternary(test *t)
{
    static float rows[16 * 97], back[16 * 97];
    static const float uneven[] = {3, -1, 0.5f, -0.25f, 0.25f}; /* mean magnitude 1 */
    static const float expected[] = {1, -1, 0, 0, 0};
    static uint8_t panel[64 + 4 * 128];

    for (uint32_t k = 1; k <= 97; k++) {
        uint32_t n = 1 + random_below(t, 16);
        begin_case(t, "n %u k %u", n, k);
        for (uint32_t r = 0; r < n; r++) {
            float scale = ldexpf(1 + fabsf(random_unit(t)), (int)random_below(t, 240) - 120);
            for (uint32_t i = 0; i < k; i++)
                rows[r * k + i] = scale * (float)((int)random_below(t, 3) - 1);
        }
        CHECK(t, infer_pack_panel(INFER_QTYPE_T2R, rows, n, k, panel));
        infer_unpack_panel(INFER_QTYPE_T2R, panel, n, k, back);
        for (uint32_t i = 0; i < n * k; i++)
            CHECK(t, back[i] == rows[i]);
        for (uint32_t r = 0; r < n; r++)
            CHECK(t, infer_ternary_scale(rows + r * k, k) == infer_tile_t2_scale(panel, r));
        for (uint32_t i = 0; i < (k + 31) / 32 * 128; i++) /* codes of 3 are never written */
            CHECK(t, (panel[64 + i] & panel[64 + i] >> 1 & 0x55) == 0);
    }
    begin_case(t, "mean of the magnitudes");
    CHECK(t,
          infer_ternary_scale(uneven, 5) == -1 && infer_ternary_scale(uneven + 3, 2) == 0.25f && infer_ternary_scale(expected + 2, 3) == 0);
    CHECK(t, infer_pack_panel(INFER_QTYPE_T2R, uneven, 1, 5, panel));
    infer_unpack_panel(INFER_QTYPE_T2R, panel, 1, 5, back);
    for (size_t i = 0; i < 5; i++)
        CHECK(t, back[i] == expected[i]);
    begin_case(t, "places");
    memset(rows, 0, sizeof rows);
    rows[2 * 64 + 32 + 16 + 4 * 3 + 1] = -0.5f; /* row 2, group 1, tile 1, b 3, j 1 */
    CHECK(t, infer_pack_panel(INFER_QTYPE_T2R, rows, 3, 64, panel));
    CHECK(t, infer_tile_t2_scale(panel, 2) == 0.5f && infer_tile_t2_scale(panel, 1) == 0);
    for (size_t i = 0; i < 2 * 128; i++)
        CHECK(t, panel[64 + i] == (i == 128 + 64 + 4 * 2 + 1 ? 0x15 : 0x55));
}

/* Groups of normal numbers: each entry of the table is the mean, with the squared scales as weights, of what its code stands for, to the nearest
 * integer but for the noise of 20,000 groups; the codes are the nearest; and the error is what Lloyd's algorithm ended at. */
void unit_pack_n4(test *t)
{
    enum { GROUPS = 20000 };
    double sums[16] = {0}, weights[16] = {0}, error = 0, power = 0;
    uint8_t panel[288];

    begin_case(t, "fixed point");
    for (int g = 0; g < GROUPS; g++) {
        float x[32];
        double scale;
        for (int i = 0; i < 32; i++) /* Box and Muller 1958 */
            x[i] = (float)(sqrt(-2 * log((random_below(t, 1 << 24) + 0.5) * 0x1p-24)) * cos(6.283185307179586 * random_below(t, 1 << 24) * 0x1p-24));
        CHECK(t, infer_pack_panel(INFER_QTYPE_N4G32, x, 1, 32, panel));
        scale = (double)infer_ref_f16_to_f32(infer_tile_scale(panel, 0));
        for (uint32_t i = 0; i < 32; i++) {
            int code = infer_tile_q4_code(panel, 0, i) + 8;
            double off = x[i] - scale * infer_n4_values[code];
            for (int other = 0; other < 16; other++)
                CHECK(t, fabs(off) <= fabs(x[i] - scale * infer_n4_values[other]) + 1e-6);
            sums[code] += scale * (double)x[i];
            weights[code] += scale * scale;
            error += off * off;
            power += (double)x[i] * x[i];
        }
    }
    for (int code = 0; code < 16; code++)
        check_near(t, sums[code] / weights[code], infer_n4_values[code], 0.6, "mean of a code");
    check_near(t, error / power, 0.0053, 0.0001, "relative squared error");
    CHECK(t, infer_n4_values[8] == 0);
}

void unit_pack_codes(test *t)
{
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        infer_qtype type = types[i];
        int8_t codes[16 * 65];
        int32_t low = 0, high = 0;
        uint16_t scales[16 * 3];
        float values[16 * 65];
        uint8_t panel[3 * 544];
        bool packs = infer_code_range(type, &low, &high);

        for (uint32_t k = 1; k <= 65; k++) {
            uint32_t n = 1 + random_below(t, 16), groups = (k + 31) / 32;
            begin_case(t, "%s n %u k %u", infer_qtype_find(type)->name, n, k);
            fill_ints(t, codes, (size_t)n * k, low, high, FILL_RANDOM);
            for (uint32_t j = 0; j < n * groups; j++)
                scales[j] = (uint16_t)random_below(t, 0x7c00);
            CHECK(t, infer_pack_panel_codes(type, codes, scales, n, k, panel) == packs);
            if (!packs)
                continue;
            infer_unpack_panel(type, panel, n, k, values);
            for (uint32_t r = 0; r < n; r++)
                for (uint32_t c = 0; c < k; c++) {
                    int value = type == INFER_QTYPE_N4G32 ? infer_n4_values[codes[r * k + c] + 8] : codes[r * k + c];
                    CHECK(t, values[r * k + c] == (float)value * infer_ref_f16_to_f32(scales[r * groups + c / 32]));
                }
            codes[n * k - 1] = (int8_t)(high + 1);
            CHECK(t, !infer_pack_panel_codes(type, codes, scales, n, k, panel));
            codes[n * k - 1] = 0;
            scales[0] = 0x7c00;
            CHECK(t, !infer_pack_panel_codes(type, codes, scales, n, k, panel));
        }
    }
}
