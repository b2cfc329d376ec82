/*
 * The number types of GGUF tensors. Layouts as published with the format (https://github.com/ggml-org/ggml, docs/gguf.md and the block
 * structures of ggml-common.h), the values as in its gguf-py. Every product and sum is rounded to float in the order written here, which is that of the
 * reference, so that any reader of the format gets the same bits.
 */
#include "import/gguf_types.h"

#include "bytes.h"
#include "core/core.h"

#include <string.h>

static float half(const uint8_t *p) { return half_to_float(get_u16(p)); }

/* ---- plain numbers ---- */

static void read_f32(const uint8_t *p, float *out) { *out = get_f32(p); }
static void read_f16(const uint8_t *p, float *out) { *out = half(p); }
static void read_bf16(const uint8_t *p, float *out) { *out = bf16_to_float(get_u16(p)); }
static void read_i8(const uint8_t *p, float *out) { *out = (float)(int8_t)*p; }
static void read_i16(const uint8_t *p, float *out) { *out = (float)(int16_t)get_u16(p); }
static void read_i32(const uint8_t *p, float *out) { *out = (float)(int32_t)get_u32(p); }

static void read_f64(const uint8_t *p, float *out)
{
    double v;
    memcpy(&v, p, sizeof v);
    *out = (float)v;
}

/* ---- blocks of 32: where nibbles are packed, byte i holds number i below and number i + 16 above ---- */

static int nibble32(const uint8_t *qs, int i) { return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4; }
/* The same with bit i of a word as the fifth bit. */
static int five_bits(const uint8_t *qh, const uint8_t *qs, int i) { return nibble32(qs, i) | (int)(get_u32(qh) >> i & 1) << 4; }

/* scale f16, 16 bytes */
static uint16_t codes_q4_0(const uint8_t *p, int8_t *codes)
{
    for (int i = 0; i < 32; i++)
        codes[i] = (int8_t)(nibble32(p + 2, i) - 8);
    return get_u16(p);
}

static void read_q4_0(const uint8_t *p, float *out)
{
    for (int i = 0; i < 32; i++)
        out[i] = half(p) * (float)(nibble32(p + 2, i) - 8);
}

/* scale f16, minimum f16, 16 bytes */
static void read_q4_1(const uint8_t *p, float *out)
{
    for (int i = 0; i < 32; i++)
        out[i] = half(p) * (float)nibble32(p + 4, i) + half(p + 2);
}

/* scale f16, fifth bits u32, 16 bytes */
static void read_q5_0(const uint8_t *p, float *out)
{
    for (int i = 0; i < 32; i++)
        out[i] = half(p) * (float)(five_bits(p + 2, p + 6, i) - 16);
}

/* scale f16, minimum f16, fifth bits u32, 16 bytes */
static void read_q5_1(const uint8_t *p, float *out)
{
    for (int i = 0; i < 32; i++)
        out[i] = half(p) * (float)five_bits(p + 4, p + 8, i) + half(p + 2);
}

/* scale f16, 32 int8 */
static uint16_t codes_q8_0(const uint8_t *p, int8_t *codes)
{
    memcpy(codes, p + 2, 32);
    return get_u16(p);
}

static void read_q8_0(const uint8_t *p, float *out)
{
    for (int i = 0; i < 32; i++)
        out[i] = half(p) * (float)(int8_t)p[2 + i];
}

/* scale f16, scale x sum f16 (not needed), 32 int8 */
static void read_q8_1(const uint8_t *p, float *out)
{
    for (int i = 0; i < 32; i++)
        out[i] = half(p) * (float)(int8_t)p[4 + i];
}

/* The codebook of the IQ4 types. */
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* scale f16, 16 bytes */
static void read_iq4_nl(const uint8_t *p, float *out)
{
    for (int i = 0; i < 32; i++)
        out[i] = half(p) * (float)iq4_values[nibble32(p + 2, i)];
}

/* ---- super-blocks of 256 ---- */

/* Two bits of number i: each 32 bytes hold four runs of 32 numbers, the first run lowest. */
static int two_bits(const uint8_t *qs, int i) { return qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3; }
/* Four bits of number i: each 32 bytes hold two runs of 32 numbers. */
static int four_bits(const uint8_t *qs, int i) { return qs[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15; }
/* One bit of number i: 32 bytes hold eight runs of 32 numbers. */
static int one_bit(const uint8_t *qh, int i) { return qh[i % 32] >> i / 32 & 1; }

/* scale and minimum nibbles of 16 groups of 16, 64 bytes of two bits, scale f16, minimum f16 */
static void read_q2_k(const uint8_t *p, float *out)
{
    float d = half(p + 80), min = half(p + 82);
    for (int i = 0; i < 256; i++)
        out[i] = d * (float)(p[i / 16] & 15) * (float)two_bits(p + 16, i) - min * (float)(p[i / 16] >> 4);
}

/* 32 bytes of third bits (clear: minus 4), 64 of two bits, 16 group scales of six bits (offset 32) in 12 bytes, scale f16 */
static void read_q3_k(const uint8_t *p, float *out)
{
    const uint8_t *scales = p + 96;
    float d = half(p + 108);
    for (int i = 0; i < 256; i++) {
        int g = i / 16, low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4, high = scales[8 + g % 4] >> g / 4 * 2 & 3;
        out[i] = d * (float)((low | high << 4) - 32) * (float)(two_bits(p + 32, i) - 4 * !one_bit(p, i));
    }
}

/* Six bits each of scale and minimum of group g of eight, in 12 bytes: those of groups 4 to 7 lie in the nibbles of the last four bytes and
 * in the top bits of the first eight. */
static void scale_and_min(const uint8_t *p, int g, float *scale, float *min)
{
    *scale = (float)(g < 4 ? p[g] & 63 : (p[g + 4] & 15) | (p[g - 4] >> 6) << 4);
    *min = (float)(g < 4 ? p[g + 4] & 63 : p[g + 4] >> 4 | (p[g] >> 6) << 4);
}

/* scale f16, minimum f16, 12 bytes of group scales and minima, 128 bytes of four bits */
static void read_q4_k(const uint8_t *p, float *out)
{
    float scale, min;
    for (int i = 0; i < 256; i++) {
        scale_and_min(p + 4, i / 32, &scale, &min);
        out[i] = half(p) * scale * (float)four_bits(p + 16, i) - half(p + 2) * min;
    }
}

/* The same with 32 bytes of fifth bits before the four. */
static void read_q5_k(const uint8_t *p, float *out)
{
    float scale, min;
    for (int i = 0; i < 256; i++) {
        scale_and_min(p + 4, i / 32, &scale, &min);
        out[i] = half(p) * scale * (float)(four_bits(p + 48, i) | one_bit(p + 16, i) << 4) - half(p + 2) * min;
    }
}

/* 128 bytes of four bits (each 64 bytes: two runs of 64 numbers), 64 bytes of two, 16 int8 group scales, scale f16 */
static void read_q6_k(const uint8_t *p, float *out)
{
    float d = half(p + 208);
    for (int i = 0; i < 256; i++) {
        int low = p[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15;
        out[i] = d * (float)(int8_t)p[192 + i / 16] * (float)((low | two_bits(p + 128, i) << 4) - 32);
    }
}

/* scale f32, 256 int8, sums of groups (not needed) */
static void read_q8_k(const uint8_t *p, float *out)
{
    for (int i = 0; i < 256; i++)
        out[i] = get_f32(p) * (float)(int8_t)p[4 + i];
}

/* scale f16, two top bits of eight group scales u16, their low nibbles, 8 groups packed like IQ4_NL's */
static void read_iq4_xs(const uint8_t *p, float *out)
{
    for (int i = 0; i < 256; i++) {
        int g = i / 32, scale = (p[4 + g / 2] >> g % 2 * 4 & 15) | (get_u16(p + 2) >> 2 * g & 3) << 4;
        out[i] = half(p) * (float)(scale - 32) * (float)iq4_values[nibble32(p + 8 + g * 16, i % 32)];
    }
}

/* Digit n of a fraction in base three, 256 x the fraction rounded up: three to the power n shifts it up, the next digit is the carry. */
static float digit(uint8_t fraction, int n)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    uint8_t rest = (uint8_t)(fraction * power[n]);
    return (float)((rest * 3 >> 8) - 1);
}

/* 32 bytes of five runs of 32 digits, 16 bytes of five runs of 16, 4 bytes of four runs of 4, scale f16 */
static void read_tq1_0(const uint8_t *p, float *out)
{
    float d = half(p + 52);
    for (int i = 0; i < 160; i++)
        out[i] = d * digit(p[i % 32], i / 32);
    for (int i = 0; i < 80; i++)
        out[160 + i] = d * digit(p[32 + i % 16], i / 16);
    for (int i = 0; i < 16; i++)
        out[240 + i] = d * digit(p[48 + i % 4], i / 4);
}

/* 64 bytes of two bits, scale f16 */
static void read_tq2_0(const uint8_t *p, float *out)
{
    for (int i = 0; i < 256; i++)
        out[i] = half(p + 64) * (float)(two_bits(p, i) - 1);
}

static const infer_gguf_number_type types[] = {
    /* id, name, numbers and bytes a block, what the importer calls it, readers */
    {INFER_GGUF_F32, "F32", 1, 4, INFER_QTYPE_F32, read_f32, NULL},
    {1, "F16", 1, 2, INFER_QTYPE_F16, read_f16, NULL},
    {2, "Q4_0", 32, 18, INFER_QTYPE_Q4G32, read_q4_0, codes_q4_0},
    {3, "Q4_1", 32, 20, INFER_QTYPE_F32, read_q4_1, NULL},
    {6, "Q5_0", 32, 22, INFER_QTYPE_F32, read_q5_0, NULL},
    {7, "Q5_1", 32, 24, INFER_QTYPE_F32, read_q5_1, NULL},
    {8, "Q8_0", 32, 34, INFER_QTYPE_Q8G32, read_q8_0, codes_q8_0},
    {9, "Q8_1", 32, 36, INFER_QTYPE_F32, read_q8_1, NULL},
    {10, "Q2_K", 256, 84, INFER_QTYPE_F32, read_q2_k, NULL},
    {11, "Q3_K", 256, 110, INFER_QTYPE_F32, read_q3_k, NULL},
    {12, "Q4_K", 256, 144, INFER_QTYPE_F32, read_q4_k, NULL},
    {13, "Q5_K", 256, 176, INFER_QTYPE_F32, read_q5_k, NULL},
    {14, "Q6_K", 256, 210, INFER_QTYPE_F32, read_q6_k, NULL},
    {15, "Q8_K", 256, 292, INFER_QTYPE_F32, read_q8_k, NULL},
    {20, "IQ4_NL", 32, 18, INFER_QTYPE_F32, read_iq4_nl, NULL},
    {23, "IQ4_XS", 256, 136, INFER_QTYPE_F32, read_iq4_xs, NULL},
    {24, "I8", 1, 1, INFER_QTYPE_F32, read_i8, NULL},
    {25, "I16", 1, 2, INFER_QTYPE_F32, read_i16, NULL},
    {26, "I32", 1, 4, INFER_QTYPE_F32, read_i32, NULL},
    {28, "F64", 1, 8, INFER_QTYPE_F32, read_f64, NULL},
    {30, "BF16", 1, 2, INFER_QTYPE_BF16, read_bf16, NULL},
    {34, "TQ1_0", 256, 54, INFER_QTYPE_T2R, read_tq1_0, NULL},
    {35, "TQ2_0", 256, 66, INFER_QTYPE_T2R, read_tq2_0, NULL},
    /* known by name only */
    {16, "IQ2_XXS", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {17, "IQ2_XS", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {18, "IQ3_XXS", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {19, "IQ1_S", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {21, "IQ3_S", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {22, "IQ2_S", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {27, "I64", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {29, "IQ1_M", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {36, "I2_S", 0, 0, INFER_QTYPE_NONE, NULL, NULL}, /* bitnet.cpp; the order of its numbers is that of the machine which wrote it */
    {39, "MXFP4", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {40, "NVFP4", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
    {41, "Q1_0", 0, 0, INFER_QTYPE_NONE, NULL, NULL},
};

const infer_gguf_number_type *infer_gguf_number_type_find(uint32_t id)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}
