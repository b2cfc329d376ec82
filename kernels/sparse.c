#include "sparse.h"

static bool is_sparse_type(uint32_t type) { return type == INFER_QTYPE_Q8G64 || type == INFER_QTYPE_Q4G64; }

/* *total = round64(*total + count x bytes) */
static bool add_part(uint64_t *total, uint64_t count, uint64_t bytes)
{
    uint64_t part;

    if (__builtin_mul_overflow(count, bytes, &part) || __builtin_add_overflow(*total, part, total) || *total > INT64_MAX - 64)
        return false;
    *total = (*total + 63) / 64 * 64;
    return true;
}

/* Units of a matrix from which nothing was pruned. */
static bool most_units(uint32_t layout, uint64_t n, uint64_t k, uint64_t *units)
{
    uint64_t rows = layout == INFER_LAYOUT_CSR ? n : n / 16 + (n % 16 != 0), each = layout == INFER_LAYOUT_CSR ? k : k / 4 + (k % 4 != 0);
    return !__builtin_mul_overflow(rows, each, units) && !(layout == INFER_LAYOUT_BITMASK && __builtin_mul_overflow(*units, 32, units));
}

bool infer_sparse_bytes(uint32_t type, uint32_t layout, uint64_t n, uint64_t k, uint64_t units, uint64_t *bytes)
{
    uint64_t panels = n / 16 + (n % 16 != 0), blocks = k / INFER_SPARSE_BLOCK + (k % INFER_SPARSE_BLOCK != 0), cells;
    uint64_t total = 0, values, most;
    bool csr = layout == INFER_LAYOUT_CSR;

    if (!is_sparse_type(type) || !infer_layout_sparse(layout) || n == UINT64_MAX || (csr && k > 65536) || units > UINT32_MAX ||
        !most_units(layout, n, k, &most) || units > most || __builtin_mul_overflow(panels, blocks, &cells))
        return false;
    if (!add_part(&total, (csr ? n : panels) + 1, sizeof(uint32_t)) || (layout == INFER_LAYOUT_BCSR16X1 && !add_part(&total, cells, 1)) ||
        !(layout == INFER_LAYOUT_BCSR16X4   ? add_part(&total, cells, 2)
          : layout == INFER_LAYOUT_BITMASK ? add_part(&total, cells, 16 * sizeof(uint64_t))
                                            : add_part(&total, units, csr ? 2 : 4)) ||
        !add_part(&total, cells, 32))
        return false;
    if (layout == INFER_LAYOUT_BITMASK)
        values = units * infer_sparse_mask_unit_bytes((infer_qtype)type) + INFER_SPARSE_TAIL_BYTES;
    else if (csr)
        values = type == INFER_QTYPE_Q8G64 ? units : units / 2 + units % 2;
    else
        values = units * infer_sparse_unit_bytes((infer_qtype)type);
    if (__builtin_add_overflow(total, values, &total) || total > INT64_MAX)
        return false;
    *bytes = total;
    return true;
}

bool infer_sparse_bytes_fit(uint32_t type, uint32_t layout, uint64_t n, uint64_t k, uint64_t bytes)
{
    uint64_t low = 0, high, middle, total;

    if (!infer_sparse_bytes(type, layout, n, k, 0, &total) || !most_units(layout, n, k, &high))
        return false;
    high = high < UINT32_MAX ? high : UINT32_MAX;
    while (low < high) { /* the least number of units that takes that many bytes */
        middle = low + (high - low) / 2;
        if (infer_sparse_bytes(type, layout, n, k, middle, &total) && total < bytes)
            low = middle + 1;
        else
            high = middle;
    }
    return infer_sparse_bytes(type, layout, n, k, low, &total) && total == bytes;
}

static bool fault_at(infer_sparse_fault *fault, const char *what, uint64_t at, uint64_t found, uint64_t expected)
{
    *fault = (infer_sparse_fault){what, at, found, expected};
    return false;
}

static bool check_fours(const infer_sparse *s, uint64_t k, infer_sparse_fault *fault)
{
    uint64_t at = 0;

    for (size_t p = 0; p < s->panels; p++) {
        for (size_t b = 0; b < s->blocks; b++) {
            uint64_t mask = infer_sparse_fours(s, p, b), left = (k + 3) / 4 - 16 * b;
            if (left < 16 && mask >> left)
                return fault_at(fault, "positions beyond the inputs in block", p * s->blocks + b, mask, mask & ((1ull << left) - 1));
            at += (uint64_t)__builtin_popcountll(mask);
        }
        if (s->pointers[p + 1] != at)
            return fault_at(fault, "pointer", p + 1, s->pointers[p + 1], at);
    }
    return true;
}

/* The pointers come first: they say where a panel's inputs stand. */
static bool check_inputs(const infer_sparse *s, uint64_t k, infer_sparse_fault *fault)
{
    uint64_t at = 0;

    for (size_t p = 0; p < s->panels; p++) {
        uint64_t kept = 0;
        for (size_t b = 0; b < s->blocks; b++) {
            uint64_t left = k - 64 * b, most = left < 64 ? left : 64, count = s->counts[p * s->blocks + b];
            if (count > most)
                return fault_at(fault, "inputs kept in block", p * s->blocks + b, count, most);
            kept += count;
        }
        at += (kept + 3) / 4;
        if (s->pointers[p + 1] != at)
            return fault_at(fault, "pointer", p + 1, s->pointers[p + 1], at);
    }
    for (size_t p = 0; p < s->panels; p++) {
        const uint8_t *input = infer_sparse_inputs(s, p);
        for (size_t b = 0; b < s->blocks; b++) {
            uint64_t left = k - 64 * b, width = left < 64 ? left : 64;
            for (uint32_t i = 0, least = 0; i < s->counts[p * s->blocks + b]; i++, input++) {
                if (*input < least || *input >= width)
                    return fault_at(fault, "input", (uint64_t)(input - (const uint8_t *)s->positions), *input, least);
                least = *input + 1u;
            }
        }
    }
    return true;
}

static bool check_rows(const infer_sparse *s, uint64_t n, uint64_t k, infer_sparse_fault *fault)
{
    const uint16_t *inputs = s->positions;

    for (uint64_t o = 0; o < n; o++) {
        if (s->pointers[o + 1] < s->pointers[o] || s->pointers[o + 1] > s->units)
            return fault_at(fault, "pointer", o + 1, s->pointers[o + 1], s->pointers[o]);
        for (uint32_t i = s->pointers[o]; i < s->pointers[o + 1]; i++) {
            uint64_t least = i > s->pointers[o] ? inputs[i - 1] + 1u : 0;
            if (inputs[i] < least || inputs[i] >= k)
                return fault_at(fault, "input", i, inputs[i], least);
        }
    }
    return true;
}

/* The bits of a tile of `rows` rows x `inputs` inputs, of which 16 x 4 have room. */
static uint64_t bits_within(uint64_t rows, uint64_t inputs)
{
    uint64_t row = inputs < 4 ? (1u << inputs) - 1 : 15;
    return (rows < 16 ? (1ull << 4 * rows) - 1 : ~0ull) & row * 0x1111111111111111;
}

static bool check_masks(const infer_sparse *s, uint64_t n, uint64_t k, infer_sparse_fault *fault)
{
    uint64_t at = 0;

    for (size_t p = 0; p < s->panels; p++) {
        for (size_t tile = 0; tile < 16 * s->blocks; tile++) {
            uint64_t mask = infer_sparse_masks(s, p, 0)[tile], within = 4 * tile < k ? bits_within(n - 16 * p, k - 4 * tile) : 0;
            if (mask & ~within)
                return fault_at(fault, "weights beyond the matrix in tile", 16 * p * s->blocks + tile, mask, mask & within);
            at += infer_sparse_mask_units(mask);
        }
        if (s->pointers[p + 1] != at)
            return fault_at(fault, "pointer", p + 1, s->pointers[p + 1], at);
    }
    return true;
}

bool infer_sparse_check(infer_qtype type, infer_layout layout, uint64_t n, uint64_t k, const void *w, uint64_t bytes,
                        infer_sparse_fault *fault)
{
    uint64_t pointers = (layout == INFER_LAYOUT_CSR ? n : (n + 15) / 16) + 1, expected = 0;
    infer_sparse s;

    if (!infer_sparse_bytes(type, layout, n, k, 0, &expected) || bytes < expected)
        return fault_at(fault, "bytes", 0, bytes, expected);
    if (((const uint32_t *)w)[0] != 0)
        return fault_at(fault, "pointer", 0, ((const uint32_t *)w)[0], 0);
    if (!infer_sparse_bytes(type, layout, n, k, ((const uint32_t *)w)[pointers - 1], &expected) || bytes != expected)
        return fault_at(fault, "bytes for the last pointer", pointers - 1, bytes, expected);
    s = infer_sparse_at(layout, w, (size_t)n, (size_t)k);
    switch (layout) {
    case INFER_LAYOUT_BCSR16X1:
        return check_inputs(&s, k, fault);
    case INFER_LAYOUT_BCSR16X4:
        return check_fours(&s, k, fault);
    case INFER_LAYOUT_BITMASK:
        return check_masks(&s, n, k, fault);
    default:
        return check_rows(&s, n, k, fault);
    }
}
