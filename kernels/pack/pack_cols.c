/* Rows of floats -> the layout `cols`, and back. */
#include "cols.h"
#include "pack.h"
#include "ref/mathf.h"

#define BALANCE_ROUNDS 10
#define LARGEST_SCALE 1.9375f /* infer_cols_scale(127) */

static uint32_t bits_of(infer_qtype type) { return infer_qtype_find(type)->cols_bits; }

size_t infer_pack_cols_scratch(uint64_t n, uint64_t k) { return (size_t)(2 * k + n) * sizeof(double); }

/* Factors that give all columns of rows / (row x column) the same mean square, and all rows. A column of zeros has the factor 1. Sinkhorn's iteration (Sinkhorn and Knopp 1967) on the squares. False: a value is not finite. */
static bool balance(const float *w, uint64_t n, uint64_t k, double *column, double *row, double *sum)
{
    for (uint64_t i = 0; i < k; i++)
        column[i] = 1;
    for (int round = 0; round < BALANCE_ROUNDS; round++) {
        for (uint64_t o = 0; o < n; o++) {
            double squares = 0;
            for (uint64_t i = 0; i < k; i++)
                squares += (double)w[o * k + i] / column[i] * ((double)w[o * k + i] / column[i]);
            if (!isfinite(squares))
                return false;
            row[o] = squares > 0 ? sqrt(squares / (double)k) : 1;
        }
        memset(sum, 0, k * sizeof *sum);
        for (uint64_t o = 0; o < n; o++) {
            double inverse = 1 / row[o];
            for (uint64_t i = 0; i < k; i++)
                sum[i] += (double)w[o * k + i] * inverse * ((double)w[o * k + i] * inverse);
        }
        for (uint64_t i = 0; i < k; i++)
            column[i] = sum[i] > 0 ? sqrt(sum[i] / (double)n) : 1;
    }
    return true;
}

/* The nearest byte of infer_cols_scale; `up`: none below. */
static uint8_t scale_byte(float scale, bool up)
{
    int32_t steps = (int32_t)((infer_ref_float_bits(fabsf(scale)) + (up ? 0x7ffff : 0x40000)) >> 19) - (120 << 4);
    return (uint8_t)((scale < 0 ? 0x80 : 0) | (steps < 0 ? 0 : steps > 127 ? 127 : steps));
}

static int32_t code_of(float x, uint32_t bits)
{
    float code = rintf(x);
    return bits == 8 ? (code < -127 ? -127 : code > 127 ? 127 : (int32_t)code) : code < -8 ? -8 : code > 7 ? 7 : (int32_t)code;
}

/* 64 numbers, in units of the row's factor, with a 4-bit scale of least squared error: extreme / d for d = -8 and, in quarters, +-6.5 to +-9. */
static uint8_t search_scale(const float *x, uint32_t count, float extreme)
{
    uint8_t best = 0;
    float least = INFINITY;

    for (int i = -1; i < 22; i++) {
        float d = i < 0 ? -8 : (6.5f + 0.25f * (float)(i / 2)) * (i % 2 ? -1.0f : 1.0f), error = 0, scale, inverse;
        uint8_t byte = scale_byte(extreme / d, false);
        scale = infer_cols_scale(byte);
        inverse = 1 / scale;
        for (uint32_t j = 0; j < count; j++) {
            float off = x[j] - scale * (float)code_of(x[j] * inverse, 4);
            error += off * off;
        }
        if (error < least) {
            least = error;
            best = byte;
        }
    }
    return best;
}

static void set_code(uint8_t *group, size_t width, uint32_t bits, uint32_t i, size_t o, int32_t code)
{
    uint8_t *codes = group + width + i * infer_cols_codes_bytes(width, bits), *byte = bits == 8 ? codes + o : codes + o / 128 * 64 + o % 64;
    uint32_t shift = (uint32_t)(o % 128 / 64 * 4);
    *byte = bits == 8 ? (uint8_t)code : (uint8_t)((*byte & ~(15u << shift)) | (uint32_t)(code + 8) << shift);
}

/* Codes -1, 0, 1, all scales 1. */
static float pack_ternary_row(const float *w, uint64_t k, const infer_cols *c, uint64_t o, float scale)
{
    infer_cols_stripe s = infer_cols_stripe_of(c, (size_t)o);
    size_t lane = (size_t)o - s.at;
    for (uint64_t i = 0; i < k; i++) {
        uint8_t *group = (uint8_t *)infer_cols_group(c, &s, (size_t)(i / 64));
        group[lane] = scale_byte(1, false);
        set_code(group, s.width, c->bits, (uint32_t)(i % 64), lane, (w[i] > 0) - (w[i] < 0));
    }
    return scale;
}

/* Row o, whose factor it returns. */
static float pack_row(const float *w, uint64_t k, const infer_cols *c, uint64_t o)
{
    infer_cols_stripe s = infer_cols_stripe_of(c, (size_t)o);
    size_t lane = (size_t)o - s.at;
    float largest = 0, row;

    for (uint64_t i = 0; i < k; i++)
        largest = fmaxf(largest, fabsf(w[i] / c->column[i]));
    row = largest / (c->bits == 8 ? 127.0f : 6.5f) / LARGEST_SCALE;
    for (size_t g = 0; g < c->groups && row > 0; g++) {
        uint8_t *group = (uint8_t *)infer_cols_group(c, &s, g);
        uint32_t count = k - 64 * g < 64 ? (uint32_t)(k - 64 * g) : 64;
        float x[64], extreme = 0, scale;
        for (uint32_t i = 0; i < count; i++) {
            x[i] = w[64 * g + i] / c->column[64 * g + i] / row;
            extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
        }
        group[lane] = c->bits == 8 ? scale_byte(fabsf(extreme) / 127, true) : search_scale(x, count, extreme);
        scale = infer_cols_scale(group[lane]);
        for (uint32_t i = 0; i < count; i++)
            set_code(group, s.width, c->bits, i, lane, code_of(x[i] / scale, c->bits));
    }
    return row;
}

bool infer_pack_cols(infer_qtype type, const float *rows, uint64_t n, uint64_t k, void *scratch, void *out)
{
    infer_cols c = infer_cols_at(out, (size_t)n, (size_t)k, bits_of(type));
    float *column = out, *row = column + c.groups * INFER_COLS_GROUP;
    double *factors = scratch;
    bool exact = true;

    for (uint64_t i = 0; i < n * k; i++)
        if (!isfinite(rows[i]))
            return false;
    for (uint64_t o = 0; o < n && exact; o++)
        exact = infer_ternary_scale(rows + o * k, k) >= 0;
    for (uint64_t i = 0; i < k && exact; i++)
        factors[i] = 1;
    if (!exact && !balance(rows, n, k, factors, factors + k, factors + k + n))
        return false;
    memset(column, 0, (size_t)(c.stripes - (const uint8_t *)out));
    for (uint64_t i = 0; i < k; i++)
        column[i] = (float)factors[i];
    for (size_t o = 0, width; o < c.padded; o += width) {
        infer_cols_stripe s = infer_cols_stripe_of(&c, o);
        width = s.width;
        for (size_t g = 0; g < c.groups; g++) {
            uint8_t *group = (uint8_t *)infer_cols_group(&c, &s, g);
            memset(group, 0, width);
            memset(group + width, c.bits == 8 ? 0 : 0x88, infer_cols_group_bytes(width, c.bits) - width);
        }
    }
    for (uint64_t o = 0; o < n; o++)
        row[o] = exact ? pack_ternary_row(rows + o * k, k, &c, o, infer_ternary_scale(rows + o * k, k)) : pack_row(rows + o * k, k, &c, o);
    return true;
}

void infer_unpack_cols(infer_qtype type, const void *w, uint64_t n, uint64_t k, uint64_t row0, uint64_t count, float *rows)
{
    infer_cols c = infer_cols_at(w, (size_t)n, (size_t)k, bits_of(type));

    for (uint64_t o = row0; o < row0 + count; o++) {
        infer_cols_stripe s = infer_cols_stripe_of(&c, (size_t)o);
        size_t lane = (size_t)o - s.at;
        for (uint64_t i = 0; i < k; i++) {
            const uint8_t *group = infer_cols_group(&c, &s, (size_t)(i / 64));
            *rows++ = (float)infer_cols_code(group, s.width, c.bits, (uint32_t)(i % 64), lane) * infer_cols_scale(group[lane]) * c.row[o] * c.column[i];
        }
    }
}
