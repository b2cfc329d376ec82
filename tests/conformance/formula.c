/*
 * The reference against what the operations mean: formulas in double precision that share no code with it, within bounds that follow from
 * the number of roundings. EPS is the relative error of one rounding, DENORMAL its absolute error near zero.
 */
#include "conformance.h"

#include "attention.h"
#include "pack/pack.h"

#include <string.h>

#define EPS 0x1p-24
#define DENORMAL 0x1p-149

enum { MAX_N = 48, MAX_K = 608, MAX_M = 5 };

static float *float_buffer(slot s, size_t count) { return buffer(s, count * sizeof(float), sizeof(float)); }

static bool is_float(infer_qtype type) { return infer_qtype_find(type)->group == 4; }

/* ---- weights: random codes and scales (groups of 32), or floats that the type holds exactly; packed, and as doubles [n][k] ---- */

static double value_of[MAX_N * MAX_K];

/* The table of formats/SPEC.md, apart from the library's. */
static const int n4_values[16] = {-63, -49, -39, -30, -23, -17, -11, -5, 0, 6, 12, 18, 25, 32, 41, 52};

static void *make_weights(test *t, infer_qtype type, uint32_t n, uint32_t k)
{
    static int8_t codes[MAX_N * MAX_K];
    static uint16_t scales[MAX_N * (MAX_K / 32 + 1)];
    static float values[MAX_N * MAX_K];
    size_t panel_bytes = (size_t)infer_panel_bytes(type, k), groups = (k + 31) / 32;
    uint8_t *w = buffer(SLOT_W, (n + 15) / 16 * panel_bytes, 64);

    if (is_float(type)) {
        for (size_t i = 0; i < (size_t)n * k; i++) {
            values[i] = (float)((int)random_below(t, 255) - 127) / 64.0f; /* 8 bits: exact in bf16 */
            value_of[i] = values[i];
        }
    } else if (type == INFER_QTYPE_T2R) {
        for (uint32_t r = 0; r < n; r++) {
            float scale = (1024.0f + (float)random_below(t, 1024)) / 2048.0f; /* 11 bits: the sums of doubles below are exact */
            for (uint32_t i = 0; i < k; i++)
                value_of[(size_t)r * k + i] = values[(size_t)r * k + i] = scale * (float)((int)random_below(t, 3) - 1);
        }
    } else {
        int32_t low, high;
        CHECK(t, infer_code_range(type, &low, &high));
        fill_ints(t, codes, (size_t)n * k, low, high, FILL_RANDOM);
        for (uint32_t r = 0; r < n; r++) {
            for (uint32_t i = 0; i < k; i++) {
                size_t g = r * groups + i / 32;
                int8_t code = codes[(size_t)r * k + i];
                if (i % 32 == 0)
                    scales[g] = (uint16_t)(0x3000 + random_below(t, 0x400)); /* 1/8 to 1/4: (1024 + mantissa) / 8192 */
                value_of[(size_t)r * k + i] = (type == INFER_QTYPE_N4G32 ? n4_values[code + 8] : code) * ((1024.0 + (scales[g] & 0x3ff)) / 8192.0);
            }
        }
    }
    for (uint32_t r = 0; r < n; r += 16) {
        uint32_t rows = n - r < 16 ? n - r : 16;
        uint8_t *panel = w + r / 16 * panel_bytes;
        CHECK(t, is_float(type) || type == INFER_QTYPE_T2R ? infer_pack_panel(type, values + (size_t)r * k, rows, k, panel)
                                                           : infer_pack_panel_codes(type, codes + (size_t)r * k, scales + r * groups, rows, k, panel));
    }
    return w;
}

/*
 * Half a step where no code is clamped; 127 steps of f32 arithmetic are good to 1/1000. 4-bit codes are clamped to -8 and 7 from 9 steps (extreme / 9, the
 * finest scale tried) and 1/32 more, where 4 bits of mantissa round the scale down.
 */
double cols_bound(double step, uint32_t bits, int code) { return step * (bits == 4 && (code == -8 || code == 7) ? 9 * 33 / 32.0 - 7 + 0.001 : 0.501); }

/* The same in the layout cols: random floats packed, and the numbers of formats/SPEC.md read back without the library. */
static void *make_cols(test *t, infer_qtype type, uint32_t n, uint32_t k)
{
    static float values[MAX_N * MAX_K];
    static double scratch[2 * MAX_K + MAX_N];
    uint32_t bits = type == INFER_QTYPE_Q8G64 ? 8 : 4, groups = (k + 63) / 64, padded = (n + 127) / 128 * 128;
    size_t group_bytes = padded + 64 * padded * bits / 8;
    uint8_t *w = buffer(SLOT_W, 256 * groups + 4 * padded + groups * group_bytes, 64);
    const float *column = (const float *)(const void *)w, *row = column + 64 * groups;

    fill_floats(t, values, (size_t)n * k, FILL_RANDOM);
    CHECK(t, infer_pack_cols(type, values, n, k, scratch, w));
    for (uint32_t o = 0; o < n; o++)
        for (uint32_t i = 0; i < k; i++) {
            const uint8_t *group = (const uint8_t *)(row + padded) + i / 64 * group_bytes, *codes = group + padded + i % 64 * (padded * bits / 8);
            int code = bits == 8 ? (int8_t)codes[o] : (o & 64 ? codes[o & 63] >> 4 : codes[o & 63] & 15) - 8;
            double scale = ldexp(1 + (group[o] & 15) / 16.0, (group[o] >> 4 & 7) - 7) * (group[o] & 128 ? -1 : 1);
            double step = fabs(scale * row[o] * column[i]);
            value_of[(size_t)o * k + i] = code * scale * row[o]; /* the factor of the input belongs to the activations */
            check_near(t, value_of[(size_t)o * k + i] * column[i], values[(size_t)o * k + i], cols_bound(step, bits, code), "packed weight");
        }
    return w;
}

static void formula_matmul_case(test *t, uint32_t m, uint32_t n, uint32_t k)
{
    static int8_t codes[MAX_M * MAX_K];
    static float scales[MAX_M * (MAX_K / 32 + 1)];
    static int16_t offset8[MAX_M * (MAX_K / 32 + 1) * 2]; /* the reference multiplies signed codes: it needs none */
    infer_qtype type = t->kernel->type;
    uint32_t groups = (uint32_t)infer_q8_groups(k), k_padded = 32 * groups, width = infer_qtype_find(type)->group;
    infer_matmul_args a = {.m = m, .n = n, .k = k, .x_stride = k, .y_stride = n};
    float *x = float_buffer(SLOT_X, (size_t)m * k);

    begin_case(t, "m %u n %u k %u", m, n, k);
    a.w = infer_matrix_layout(type) == INFER_LAYOUT_COLS ? make_cols(t, type, n, k) : make_weights(t, type, n, k);
    fill_floats(t, x, (size_t)m * k, FILL_RANDOM);
    a.x = x;
    memset(codes, 0, sizeof codes);
    for (uint32_t r = 0; r < m; r++) {
        fill_ints(t, codes + (size_t)r * k_padded, k, -127, 127, FILL_RANDOM);
        for (uint32_t g = 0; g < groups; g++)
            scales[r * groups + g] = 32 * g % width ? scales[r * groups + g - 1] : random_unit(t);
    }
    a.xq = (infer_q8_rows){codes, scales, offset8, groups};
    a.y = float_buffer(SLOT_Y, (size_t)m * n);
    t->kernel->fn(&a, (infer_region){0, m, 0, n});
    for (uint32_t r = 0; r < m; r++) {
        for (uint32_t o = 0; o < n; o++) {
            double want = 0, magnitude = 0, products = 0, roundings;
            if (is_float(type)) {
                for (uint32_t i = 0; i < k; i++) {
                    double product = value_of[(size_t)o * k + i] * (double)x[(size_t)r * k + i];
                    want += product;
                    magnitude += fabs(product);
                }
                roundings = (k + 3) / 4 + 2; /* one a term of a partial sum, then two additions */
            } else {
                for (uint32_t first = 0; first < k; first += width) {
                    double sum = 0, scale = scales[r * groups + first / 32];
                    for (uint32_t i = first; i < k && i < first + width; i++) {
                        double product = value_of[(size_t)o * k + i] * codes[(size_t)r * k_padded + i] * scale;
                        sum += product;
                        products += fabs(product);
                    }
                    want += sum;
                    magnitude += fabs(sum);
                }
                roundings = (k + width - 1) / width + 2; /* one a group, and those of the products of the scales and with the row's factor */
            }
            check_near(t, a.y[(size_t)r * n + o], want, magnitude * roundings * EPS * (1 + roundings * EPS) + roundings * DENORMAL + products * 0x1p-47, "y");
        }
    }
}

void formula_matmul(test *t)
{
    if (infer_layout_sparse(t->kernel->layout)) {
        formula_sparse(t);
        return;
    }
    for (uint32_t i = 1; i <= 70; i++)
        formula_matmul_case(t, 1 + random_below(t, MAX_M), 1 + random_below(t, MAX_N), i);
    formula_matmul_case(t, MAX_M, MAX_N, MAX_K);
}

void formula_embed(test *t)
{
    for (uint32_t k = 1; k <= 70; k++) {
        uint32_t n = 1 + random_below(t, MAX_N);
        int32_t id = (int32_t)random_below(t, n);
        infer_embed_args a = {.ids = k % 2 ? &id : NULL, .m = 1, .n = n, .k = k, .y_stride = k, .pos0 = (uint32_t)id, .scale = k % 3 ? 1.0f : random_unit(t)};

        begin_case(t, "n %u k %u id %d", n, k, (int)id);
        a.w = make_weights(t, t->kernel->type, n, k);
        a.y = float_buffer(SLOT_Y, k);
        t->kernel->fn(&a, (infer_region){0, 1, 0, k});
        for (uint32_t i = 0; i < k; i++) {
            double want = value_of[(size_t)id * k + i] * (double)a.scale;
            check_near(t, a.y[i], want, a.scale == 1 ? 0 : fabs(want) * EPS + DENORMAL, "y");
        }
    }
}

/* ---- rows ---- */

void formula_quantize(test *t)
{
    static const fill fills[] = {FILL_RANDOM, FILL_WIDE, FILL_EXTREME, FILL_ONE_HOT};

    for (uint32_t c = 0; c < 200; c++) {
        uint32_t k = 1 + c / 2, width = 32 << c % 2, groups = (uint32_t)infer_q8_groups(k);
        float *x = float_buffer(SLOT_X, k);
        int8_t codes[128];
        float scales[4];
        int16_t offset8[8];
        infer_quantize_args a = {.x = x, .y = {codes, scales, offset8, groups}, .m = 1, .k = k, .x_stride = k, .group = width};

        begin_case(t, "k %u in groups of %u", k, width);
        fill_floats(t, x, k, fills[k % ARRAY_COUNT(fills)]);
        t->kernel->fn(&a, (infer_region){0, 1, 0, k});
        for (uint32_t g = 0; g < groups; g++) {
            double amax = 0;
            int first = 0, second = 0; /* k mod 4 in {0, 1}; {2, 3} */
            for (uint32_t i = 32 * g / width * width; i < 32 * g / width * width + width && i < k; i++)
                amax = fabs((double)x[i]) > amax ? fabs((double)x[i]) : amax;
            check_near(t, scales[g], amax < 0x1p-100 ? 0 : amax / 127, amax * EPS, "scale");
            for (uint32_t i = 32 * g; i < 32 * g + 32; i++) {
                double value = i < k ? x[i] : 0; /* half a code, and the roundings of 127 / amax and of the product */
                if (scales[g] != 0)
                    check_near(t, (double)codes[i] * (double)scales[g], value, (double)scales[g] * (0.5 + 127 * 4 * EPS), "code x scale");
                else
                    CHECK(t, codes[i] == 0);
                CHECK(t, codes[i] >= -127);
            }
            for (uint32_t i = 32 * g; i < 32 * g + 32; i += 4) {
                first += codes[i] + codes[i + 1];
                second += codes[i + 2] + codes[i + 3];
            }
            CHECK(t, offset8[2 * g] == -8 * first && offset8[2 * g + 1] == -8 * second);
        }
    }
}

void formula_rmsnorm(test *t)
{
    for (uint32_t n = 1; n <= 300; n += 7) {
        float *x = float_buffer(SLOT_X, n), *weight = float_buffer(SLOT_AUX, n), *y = float_buffer(SLOT_Y, n);
        infer_norm_args a = {.x = x, .weight = weight, .y = y, .m = 1, .n = n, .width = n, .x_stride = n, .y_stride = n, .eps = 1e-5f};
        double sum = 0, r;

        begin_case(t, "n %u", n);
        fill_floats(t, x, n, FILL_RANDOM);
        fill_floats(t, weight, n, FILL_RANDOM);
        t->kernel->fn(&a, (infer_region){0, 1, 0, n});
        for (uint32_t i = 0; i < n; i++)
            sum += (double)x[i] * (double)x[i];
        r = 1 / sqrt(sum / n + (double)a.eps);
        for (uint32_t i = 0; i < n; i++) {
            double want = x[i] * r * (double)weight[i];
            /* all terms of the sum are positive: n / 16 + 1 fused, 4 folds, the mean and eps; the root halves it, then 4 more */
            check_near(t, y[i], want, fabs(want) * (n / 16 + 16.0) * EPS + DENORMAL, "y");
        }
    }
}

void formula_layernorm(test *t)
{
    for (uint32_t n = 1; n <= 300; n += 7) {
        float *x = float_buffer(SLOT_X, n), *weight = float_buffer(SLOT_AUX, n), *y = float_buffer(SLOT_Y, n);
        infer_norm_args a = {.x = x, .weight = weight, .y = y, .m = 1, .n = n, .width = n, .x_stride = n, .y_stride = n, .eps = 1e-5f};
        double sum = 0, magnitude = 0, squares = 0, mean_error, r;

        begin_case(t, "n %u", n);
        fill_floats(t, x, n, FILL_RANDOM);
        fill_floats(t, weight, n, FILL_RANDOM);
        for (uint32_t i = 0; i < n; i++) {
            x[i] += 2; /* a mean worth subtracting */
            sum += (double)x[i];
            magnitude += fabs((double)x[i]);
        }
        t->kernel->fn(&a, (infer_region){0, 1, 0, n});
        for (uint32_t i = 0; i < n; i++)
            squares += ((double)x[i] - sum / n) * ((double)x[i] - sum / n);
        r = 1 / sqrt(squares / n + (double)a.eps);
        mean_error = magnitude / n * (n / 16 + 6.0) * EPS; /* n / 16 + 1 sums, 4 folds, the quotient */
        for (uint32_t i = 0; i < n; i++) {
            double want = ((double)x[i] - sum / n) * r * (double)weight[i];
            /* Each difference is off by the mean's error and a rounding; the root averages theirs, at most the same again. The rest as in rmsnorm. */
            double difference = (mean_error + 3 * EPS) * r * fabs((double)weight[i]);
            check_near(t, y[i], want, difference + fabs(want) * (mean_error * r * 2 + (n / 16 + 20.0) * EPS) + DENORMAL, "y");
        }
    }
}

void formula_rope(test *t)
{
    enum { HEADS = 3, DIM = 16, POSITIONS = 5 };

    for (int pairs = 0; pairs < 2; pairs++) {
        for (uint32_t rope_dim = 2; rope_dim <= DIM; rope_dim += 2) {
            uint32_t half = rope_dim / 2;
            float x[HEADS * DIM], before[HEADS * DIM], cosines[POSITIONS * DIM], sines[POSITIONS * DIM];
            infer_rope_args a = {.x = x, .cos = cosines, .sin = sines, .m = 1, .n = HEADS * DIM, .stride = HEADS * DIM, .head_dim = DIM,
                                 .rope_dim = rope_dim, .pos0 = POSITIONS - 1, .pairs = (infer_rope_pairs)pairs};

            begin_case(t, "rope_dim %u pairs %d", rope_dim, pairs);
            fill_floats(t, before, HEADS * DIM, FILL_RANDOM);
            memcpy(x, before, sizeof x);
            for (uint32_t i = 0; i < POSITIONS * half; i++) {
                cosines[i] = cosf((float)i);
                sines[i] = sinf((float)i);
            }
            t->kernel->fn(&a, (infer_region){0, 1, 0, HEADS * DIM});
            for (uint32_t h = 0; h < HEADS; h++) {
                const float *in = before + h * DIM, *out = x + h * DIM;
                for (uint32_t i = 0; i < half; i++) {
                    uint32_t first = pairs == INFER_ROPE_ADJACENT ? 2 * i : i, second = pairs == INFER_ROPE_ADJACENT ? first + 1 : i + half;
                    double c = cosines[(POSITIONS - 1) * half + i], s = sines[(POSITIONS - 1) * half + i], u = in[first], v = in[second];
                    double bound = (fabs(u) + fabs(v)) * 2 * EPS;
                    check_near(t, out[first], u * c - v * s, bound, "first of a pair");
                    check_near(t, out[second], u * s + v * c, bound, "second of a pair");
                }
                for (uint32_t i = rope_dim; i < DIM; i++)
                    CHECK(t, out[i] == in[i]);
            }
        }
    }
}

/* What the activations approximate, and by how much they may be off. */
static double activation_of(infer_activation kind, double cap, double x, double *bound)
{
    double u;

    switch (kind) {
    case INFER_ACTIVATION_SILU:
        *bound = fabs(x / (1 + exp(-x))) * (2 * INFER_REF_EXPF_ULP + 3) * EPS;
        return x / (1 + exp(-x));
    case INFER_ACTIVATION_GELU_TANH: /* the exponent has four roundings and those of two constants */
        u = 2 * sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x);
        *bound = fabs(x / (1 + exp(-u))) * (2 * INFER_REF_EXPF_ULP + 3 + 6 * fabs(u)) * EPS;
        return u < -2 ? x / (1 + exp(-u)) : x / 2 * (1 + tanh(u / 2)); /* the same; 1 + tanh cancels close to -1 */
    case INFER_ACTIVATION_GELU:
        *bound = fabs(x) * 0.75e-7 + (fabs(x) + 1) * 4 * EPS;
        return x / 2 * erfc(-x / sqrt(2.0));
    case INFER_ACTIVATION_RELU2:
        *bound = x * x * EPS;
        return x > 0 ? x * x : 0;
    default: /* softcap */
        *bound = cap * INFER_REF_SOFTCAP_EPS;
        return cap * tanh(x / cap);
    }
}

void formula_activation(test *t)
{
    enum { N = 4000, CAP = 30 };
    static float x[N], up[N], y[N];

    for (int kind = 0; kind < INFER_ACTIVATION_COUNT; kind++) {
        for (int gated = 0; gated < 2; gated++) {
            infer_activation_args a = {.x = x, .up = gated ? up : NULL, .y = y, .m = 1, .n = N, .stride = N, .kind = (infer_activation)kind, .cap = CAP};

            begin_case(t, "kind %d%s", kind, gated ? " gated" : "");
            fill_floats(t, x, N, FILL_RANDOM);
            fill_floats(t, up, N, FILL_RANDOM);
            for (int i = 0; i < N; i++)
                x[i] *= i % 2 ? 80 : 6; /* exp(80) is finite: the quotient keeps its relative precision */
            t->kernel->fn(&a, (infer_region){0, 1, 0, N});
            for (int i = 0; i < N; i++) {
                double bound, want = activation_of(a.kind, CAP, x[i], &bound), factor = gated ? (double)up[i] : 1;
                /* Far out, gelu_tanh's exp overflows: what is lost is below 88 x exp(-88). */
                check_near(t, y[i], want * factor, bound * fabs(factor) + fabs(want * factor) * EPS + 1e-36, "y");
            }
        }
    }
}

void formula_add(test *t)
{
    enum { N = 1000 };
    float u[2 * N], v[2 * N], y[2 * N];

    for (int bias = 0; bias < 2; bias++) {
        infer_add_args a = {.a = u, .b = v, .y = y, .m = 2, .n = N, .stride = N, .b_stride = bias ? 0 : N};

        begin_case(t, "n %d%s", N, bias ? " bias" : "");
        fill_floats(t, u, 2 * N, FILL_WIDE);
        fill_floats(t, v, 2 * N, FILL_WIDE);
        t->kernel->fn(&a, (infer_region){0, 2, 0, N});
        for (int i = 0; i < 2 * N; i++) {
            double want = (double)u[i] + (double)v[bias ? i % N : i];
            check_near(t, y[i], want, fabs(want) * EPS + DENORMAL, "y");
        }
    }
}

/* ---- cache ---- */

/* Element d of a head's position in k (keys) or v. */
static double cache_value(const test *t, const void *cache, bool keys, uint32_t kv_head, uint32_t positions, uint32_t position, uint32_t head_dim, uint32_t d)
{
    if (t->kernel->type == INFER_QTYPE_Q8G32) { /* 16 scales, then the codes, of k in tiles of 16 positions x 4, of v in rows of 32 */
        const uint8_t *group = (const uint8_t *)cache + (((size_t)kv_head * (positions / 16) + position / 16) * ((head_dim + 31) / 32) + d / 32) * 544;
        uint32_t row = position % 16, i = d % 32;
        uint16_t scale;
        memcpy(&scale, group + 2 * row, sizeof scale);
        return (double)infer_ref_f16_to_f32(scale) * (int8_t)group[32 + (keys ? i / 4 * 64 + row * 4 + i % 4 : row * 32 + i)];
    } else {
        size_t i = keys ? (((size_t)kv_head * (positions / 16) + position / 16) * head_dim + d) * 16 + position % 16
                        : ((size_t)kv_head * positions + position) * head_dim + d;
        return t->kernel->type == INFER_QTYPE_F16 ? (double)infer_ref_f16_to_f32(((const uint16_t *)cache)[i]) : (double)((const float *)cache)[i];
    }
}

static double finite_within(double x, double limit) { return isnan(x) ? 0 : x > limit ? limit : x < -limit ? -limit : x; }

void formula_store(test *t)
{
    enum { M = 19, HEADS = 2, DIM = 44, POSITIONS = 48, POS0 = 20, N = HEADS * DIM };
    infer_qtype type = t->kernel->type;
    double largest = type == INFER_QTYPE_F16 ? 65504.0 : type == INFER_QTYPE_Q8G32 ? 127 * 65504.0 : 0x1.fffffep127;
    static float x[M * N];
    size_t bytes = (size_t)infer_cache_bytes(type, HEADS, POSITIONS, DIM);
    void *cache = buffer(SLOT_Y, bytes, 32);
    infer_store_args a = {.x = x, .cache = cache, .m = M, .n = N, .stride = N, .head_dim = DIM, .positions = POSITIONS, .pos0 = POS0};

    for (int f = 0; f < FILL_COUNT; f++) {
        begin_case(t, "m %d x %s", M, fill_name((fill)f));
        memset(cache, 0, bytes);
        fill_floats(t, x, M * N, (fill)f);
        t->kernel->fn(&a, (infer_region){0, M, 0, N});
        for (uint32_t p = 0; p < POSITIONS; p++) {
            for (uint32_t c = 0; c < N; c++) {
                uint32_t h = c / DIM, d = c % DIM;
                bool written = p >= POS0 && p < POS0 + M;
                const float *row = x + (written ? p - POS0 : 0) * N + h * DIM;
                double want = written ? finite_within(row[d], largest) : 0, bound = 0, amax = 0;
                for (uint32_t i = d / 32 * 32; written && i < DIM && i < d / 32 * 32 + 32; i++)
                    amax = fmax(amax, fabs(finite_within(row[i], largest)));
                if (type == INFER_QTYPE_F16)
                    bound = fabs(want) * 0x1p-11 + 0x1p-25;
                else if (type == INFER_QTYPE_Q8G32) /* half a code; the largest code falls short where the scale was rounded down */
                    bound = 0.5001 * (amax / 127 * (1 + 0x1p-11) + 0x1p-25) + 127 * (amax / 127 * 0x1p-11 + 0x1p-25);
                check_near(t, cache_value(t, cache, t->kernel->op == INFER_OP_STORE_K, h, POSITIONS, p, DIM, d), want, bound, "cache");
            }
        }
    }
}

/* Arguments of an attention over a cache filled with random numbers. */
static infer_attention_args make_attention(test *t, uint32_t m, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t pos0)
{
    infer_qtype type = t->kernel->type == INFER_QTYPE_NONE ? INFER_QTYPE_F32 : t->kernel->type;
    uint32_t n = heads * head_dim, positions = (pos0 + m + 15) / 16 * 16;
    size_t bytes = (size_t)infer_cache_bytes(type, kv_heads, positions, head_dim);
    float *q = float_buffer(SLOT_X, (size_t)m * n), *x = float_buffer(SLOT_X2, (size_t)positions * kv_heads * head_dim);
    void *k = buffer(SLOT_W, bytes, 32), *v = buffer(SLOT_AUX, bytes, 32);
    infer_store_args store = {.x = x, .m = positions, .n = kv_heads * head_dim, .stride = kv_heads * head_dim, .head_dim = head_dim,
                              .positions = positions};
    infer_region all = {0, positions, 0, store.n};

    fill_floats(t, q, (size_t)m * n, FILL_RANDOM);
    memset(k, 0, bytes);
    memset(v, 0, bytes);
    fill_floats(t, x, (size_t)positions * store.n, FILL_RANDOM);
    store.cache = v;
    infer_kernel_find(INFER_OP_STORE_V, type, INFER_LAYOUT_NONE, INFER_CPU_REF)->fn(&store, all);
    for (size_t i = 0; i < (size_t)positions * store.n; i++)
        x[i] = random_unit(t) * 4;
    store.cache = k;
    infer_kernel_find(INFER_OP_STORE_K, type, INFER_LAYOUT_NONE, INFER_CPU_REF)->fn(&store, all);
    return (infer_attention_args){.q = q, .k = k, .v = v, .y = float_buffer(SLOT_Y, (size_t)m * n), .m = m, .heads = heads, .kv_heads = kv_heads,
                                  .head_dim = head_dim, .positions = positions, .pos0 = pos0, .q_stride = n, .y_stride = n, .scale = 0.25f};
}

/* q[head_dim] as the scores see it: for q8g32 what its codes stand for. */
static void query_values(const test *t, const float *q, uint32_t head_dim, double *out)
{
    int8_t codes[INFER_MAX_HEAD_DIM];
    float scales[INFER_MAX_HEAD_DIM / 32];
    int16_t offset8[INFER_MAX_HEAD_DIM / 32 * 2];
    infer_quantize_args a = {.x = q, .y = {codes, scales, offset8, (head_dim + 31) / 32 * 32}, .m = 1, .k = head_dim, .x_stride = head_dim, .group = 32};

    infer_kernel_find(INFER_OP_QUANTIZE, INFER_QTYPE_NONE, INFER_LAYOUT_NONE, INFER_CPU_REF)->fn(&a, (infer_region){0, 1, 0, head_dim});
    for (uint32_t d = 0; d < head_dim; d++)
        out[d] = t->kernel->type == INFER_QTYPE_Q8G32 ? codes[d] * (double)scales[d / 32] : (double)q[d];
}

static void formula_attention_case(test *t, uint32_t m, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t pos0, uint32_t window,
                                   float softcap)
{
    enum { MAX_POSITIONS = 640 };
    uint32_t n = heads * head_dim;
    infer_attention_args a = make_attention(t, m, heads, kv_heads, head_dim, pos0);

    a.window = window;
    a.softcap = softcap;
    begin_case(t, "m %u heads %u kv_heads %u head_dim %u pos0 %u window %u softcap %g", m, heads, kv_heads, head_dim, pos0, window, (double)softcap);
    t->kernel->fn(&a, (infer_region){0, m, 0, n});
    for (uint32_t r = 0; r < m; r++) {
        for (uint32_t h = 0; h < heads; h++) {
            static double score[MAX_POSITIONS], q[INFER_MAX_HEAD_DIM];
            uint32_t kv = h / (heads / kv_heads), end = pos0 + r + 1, begin = window && window < end ? end - window : 0;
            double max = -INFINITY, sum = 0, score_error = 0, relative;
            query_values(t, a.q + (size_t)r * n + h * head_dim, head_dim, q);
            for (uint32_t j = begin; j < end; j++) {
                double magnitude = 0;
                score[j] = 0;
                for (uint32_t d = 0; d < head_dim; d++) {
                    double product = q[d] * cache_value(t, a.k, true, kv, a.positions, j, head_dim, d) * (double)a.scale;
                    score[j] += product;
                    magnitude += fabs(product);
                }
                score_error = fmax(score_error, magnitude * (head_dim + 2) * EPS);
                if (softcap > 0) {
                    score[j] = softcap * tanh(score[j] / (double)softcap); /* its slope is at most 1 */
                    score_error = fmax(score_error, magnitude * (head_dim + 2) * EPS + INFER_REF_SOFTCAP_EPS * (double)softcap);
                }
                max = fmax(max, score[j]);
            }
            for (uint32_t j = begin; j < end; j++)
                sum += exp(score[j] - max);
            /* A weight: its score and the maximum are off by score_error, their difference is rounded, exp, two merges of chunks. Its numerator
             * adds up to 256 of them one by one, the denominator 16 at a time. */
            relative = 2 * score_error + (fabs(max) * 4 + 2 * INFER_REF_EXPF_ULP * 4 + INFER_ATTENTION_CHUNK + 64) * EPS;
            for (uint32_t d = 0; d < head_dim; d++) {
                double want = 0, magnitude = 0;
                for (uint32_t j = begin; j < end; j++) {
                    double term = exp(score[j] - max) / sum * cache_value(t, a.v, false, kv, a.positions, j, head_dim, d);
                    want += term;
                    magnitude += fabs(term);
                }
                check_near(t, a.y[(size_t)r * n + h * head_dim + d], want, 2 * relative * magnitude, "y");
            }
        }
    }
}

void formula_attention(test *t)
{
    formula_attention_case(t, 1, 1, 1, 1, 0, 0, 0);
    formula_attention_case(t, 17, 4, 2, 8, 0, 0, 0);
    formula_attention_case(t, 5, 6, 3, 40, 253, 0, 0);
    formula_attention_case(t, 2, 2, 1, 64, 530, 0, 0);
    formula_attention_case(t, 17, 4, 2, 8, 0, 5, 0);
    formula_attention_case(t, 5, 6, 3, 40, 253, 0, 2.5f);
    formula_attention_case(t, 6, 2, 1, 64, 530, 300, 30);
}

/* ATTENTION_CHUNKS and then ATTENTION_MERGE make the bits of ATTENTION. */
void formula_attention_split(test *t)
{
    static const uint32_t starts[] = {0, 250, 255, 256, 511, 515, 800};
    infer_qtype type = t->kernel->type == INFER_QTYPE_NONE ? INFER_QTYPE_F32 : t->kernel->type;

    for (size_t i = 0; i < ARRAY_COUNT(starts); i++) {
        for (uint32_t m = 1; m <= INFER_ATTENTION_SPLIT_ROWS; m += 3) {
            uint32_t kv_heads = 1 + random_below(t, 3), heads = kv_heads * (1 + random_below(t, 3)), head_dim = 1 + random_below(t, 40);
            infer_attention_args a = make_attention(t, m, heads, kv_heads, head_dim, starts[i]);
            infer_region all = {0, m, 0, heads * head_dim};
            float *whole = a.y, *merged;

            a.window = random_below(t, 2) ? 0 : 1 + random_below(t, starts[i] + m);
            a.softcap = random_below(t, 2) ? 0 : 5;

            begin_case(t, "m %u heads %u kv_heads %u head_dim %u pos0 %u window %u", m, heads, kv_heads, head_dim, starts[i], a.window);
            infer_kernel_find(INFER_OP_ATTENTION, type, INFER_LAYOUT_NONE, INFER_CPU_REF)->fn(&a, all);
            a.chunks = (starts[i] + m - 1) / INFER_ATTENTION_CHUNK + 1;
            a.partial_stride = m * (heads / kv_heads) * infer_attention_record_floats(head_dim);
            a.partial = float_buffer(SLOT_X2, (size_t)kv_heads * a.chunks * a.partial_stride);
            infer_kernel_find(INFER_OP_ATTENTION_CHUNKS, type, INFER_LAYOUT_NONE, INFER_CPU_REF)
                ->fn(&a, (infer_region){0, kv_heads * a.chunks, 0, a.partial_stride});
            merged = a.y = float_buffer(SLOT_WANT, (size_t)m * all.col1);
            infer_kernel_find(INFER_OP_ATTENTION_MERGE, INFER_QTYPE_NONE, INFER_LAYOUT_NONE, INFER_CPU_REF)->fn(&a, all);
            for (size_t k = 0; k < (size_t)m * all.col1; k++)
                if (!same_float(whole[k], merged[k]))
                    fail(t, "element %zu: %a in one go, %a merged", k, whole[k], merged[k]);
        }
    }
}
