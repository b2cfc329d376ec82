/* Rows of floats -> the sparse layouts, and back. */
#include "pack.h"

#include "ref/mathf.h"
#include "sparse.h"

/* Inputs [i, i + width) of the panel hold a number other than 0. */
static bool any(const float *rows, uint32_t n, uint64_t k, uint64_t i, uint32_t width)
{
    for (uint32_t r = 0; r < n; r++)
        for (uint64_t j = i; j < i + width && j < k; j++)
            if (rows[r * k + j] != 0) /* a NaN too */
                return true;
    return false;
}

/* Tile of inputs i..i + 3 of a panel: a bit for every number other than 0. */
static uint64_t kept_mask(const float *rows, uint32_t n, uint64_t k, uint64_t i)
{
    uint64_t mask = 0;
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t j = 0; j < 4 && i + j < k; j++)
            mask |= (uint64_t)(rows[r * k + i + j] != 0) << (4 * r + j);
    return mask;
}

uint64_t infer_sparse_count(infer_layout layout, const float *rows, uint32_t n, uint64_t k)
{
    uint64_t kept = 0;

    switch (layout) {
    case INFER_LAYOUT_BCSR16X1:
        for (uint64_t i = 0; i < k; i++)
            kept += any(rows, n, k, i, 1);
        return (kept + 3) / 4;
    case INFER_LAYOUT_BCSR16X4:
        for (uint64_t i = 0; i < k; i += 4)
            kept += any(rows, n, k, i, 4);
        return kept;
    case INFER_LAYOUT_BITMASK:
        for (uint64_t i = 0; i < k; i += 4)
            kept += infer_sparse_mask_units(kept_mask(rows, n, k, i));
        return kept;
    default:
        for (uint64_t i = 0; i < n * k; i++)
            kept += rows[i] != 0;
        return kept;
    }
}

void infer_sparse_begin(infer_qtype type, infer_layout layout, uint64_t n, uint64_t k, uint64_t units, void *w)
{
    uint64_t bytes = 0;
    uint32_t *pointers = w;

    infer_sparse_bytes(type, layout, n, k, units, &bytes);
    memset(w, 0, (size_t)bytes);
    pointers[layout == INFER_LAYOUT_CSR ? n : (n + 15) / 16] = (uint32_t)units;
}

/* Codes of row r of a panel, codes [64] of its block b, into the units that begin at kept input `kept` of the panel. */
static void put_codes(infer_qtype type, uint8_t *units, uint64_t mask, size_t kept, uint32_t r, const int8_t codes[64])
{
    for (; mask; mask &= mask - 1, kept++) {
        int32_t code = codes[__builtin_ctzll(mask)];
        uint8_t *byte = units + kept / 4 * infer_sparse_unit_bytes(type) + infer_sparse_offset(type, r, kept % 4);
        uint32_t shift = infer_sparse_shift(r);
        *byte = type == INFER_QTYPE_Q8G64 ? (uint8_t)code : (uint8_t)((*byte & ~(15u << shift)) | (uint32_t)(code + 8) << shift);
    }
}

/* Number i of csr, or of a tile of bitmask. */
static void put_number(infer_qtype type, uint8_t *values, uint32_t i, int8_t code)
{
    if (type == INFER_QTYPE_Q8G64)
        values[i] = (uint8_t)code;
    else
        values[i / 2] |= (uint8_t)((uint32_t)(code + 8) << (i % 2 * 4));
}

static void put_numbers(infer_qtype type, uint16_t *inputs, uint8_t *values, uint32_t *at, const float *x, uint64_t first, uint32_t count,
                        const int8_t *codes)
{
    for (uint32_t i = 0; i < count; i++) {
        if (x[i] == 0)
            continue;
        inputs[*at] = (uint16_t)(first + i);
        put_number(type, values, (*at)++, codes[i]);
    }
}

/* A bit for every kept input of a block: of a tile all four, those beyond k too. */
static uint64_t kept_inputs(infer_layout layout, const float *rows, uint32_t n, uint64_t k, uint64_t first)
{
    uint32_t step = layout == INFER_LAYOUT_BCSR16X4 ? 4 : 1;
    uint64_t mask = 0;

    for (uint32_t i = 0; i < 64 && first + i < k; i += step)
        if (any(rows, n, k, first + i, step))
            mask |= (step == 4 ? 15ull : 1ull) << i;
    return mask;
}

/* Whether the panel's units have room, and the last panel's fill it. */
static bool units_fit(const infer_sparse *s, uint64_t panel, uint64_t units)
{
    const uint64_t left = s->units - s->pointers[panel];
    return panel + 1 == s->panels ? units == left : units <= left;
}

static bool pack_csr(infer_qtype type, uint64_t n, uint64_t k, uint64_t panel, const float *rows, void *w)
{
    infer_sparse s = infer_sparse_at(INFER_LAYOUT_CSR, w, (size_t)n, (size_t)k);
    uint32_t *pointers = w, count = n - 16 * panel < 16 ? (uint32_t)(n - 16 * panel) : 16, at = pointers[16 * panel];

    if (infer_sparse_count(INFER_LAYOUT_CSR, rows, count, k) > s.units - at)
        return false;
    for (uint32_t r = 0; r < count; r++) {
        for (uint64_t b = 0; b < s.blocks; b++) {
            uint32_t width = k - 64 * b < 64 ? (uint32_t)(k - 64 * b) : 64;
            const float *x = rows + r * k + 64 * b;
            int8_t codes[64];
            if (!infer_pack_group(type, x, width,
                                  (uint16_t *)s.scales + (panel * s.blocks + b) * 16 + r, codes))
                return false;
            put_numbers(type, (uint16_t *)s.positions, (uint8_t *)s.values, &at, x, 64 * b, width, codes);
        }
        if (16 * panel + r + 1 < n)
            pointers[16 * panel + r + 1] = at;
    }
    return 16 * panel + count < n || at == s.units;
}

static bool pack_bitmask(infer_qtype type, uint64_t n, uint64_t k, uint64_t panel, const float *rows, void *w)
{
    infer_sparse s = infer_sparse_at(INFER_LAYOUT_BITMASK, w, (size_t)n, (size_t)k);
    uint32_t *pointers = w, count = n - 16 * panel < 16 ? (uint32_t)(n - 16 * panel) : 16;
    uint8_t *values = (uint8_t *)s.values + pointers[panel] * infer_sparse_mask_unit_bytes(type);
    uint64_t kept = infer_sparse_count(INFER_LAYOUT_BITMASK, rows, count, k);

    if (!units_fit(&s, panel, kept))
        return false;
    for (uint64_t b = 0; b < s.blocks; b++) {
        uint64_t *masks = (uint64_t *)infer_sparse_masks(&s, panel, b);
        int8_t codes[16][64];
        for (uint32_t r = 0; r < count; r++)
            if (!infer_pack_group(type, rows + r * k + 64 * b, k - 64 * b < 64 ? (uint32_t)(k - 64 * b) : 64,
                                  (uint16_t *)s.scales + (panel * s.blocks + b) * 16 + r, codes[r]))
                return false;
        for (uint32_t c = 0; c < 16; c++) {
            uint32_t i = 0;
            masks[c] = kept_mask(rows, count, k, 64 * b + 4 * c);
            for (uint64_t mask = masks[c]; mask; mask &= mask - 1, i++)
                put_number(type, values, i, codes[__builtin_ctzll(mask) / 4][4 * c + __builtin_ctzll(mask) % 4]);
            values += infer_sparse_mask_units(masks[c]) * infer_sparse_mask_unit_bytes(type);
        }
    }
    pointers[panel + 1] = pointers[panel] + (uint32_t)kept;
    return true;
}

/* mask: kept_inputs of a block; kept: inputs kept before it in the panel. */
static void put_positions(infer_layout layout, const infer_sparse *s, uint64_t panel, size_t cell, uint64_t mask, size_t kept)
{
    if (layout == INFER_LAYOUT_BCSR16X4) {
        for (uint32_t i = 0; i < 16; i++)
            ((uint16_t *)s->positions)[cell] |= (uint16_t)((mask >> (4 * i) & 1) << i);
    } else {
        uint8_t *inputs = (uint8_t *)infer_sparse_inputs(s, panel) + kept;
        ((uint8_t *)s->counts)[cell] = (uint8_t)__builtin_popcountll(mask);
        for (; mask; mask &= mask - 1)
            *inputs++ = (uint8_t)__builtin_ctzll(mask);
    }
}

bool infer_sparse_pack_panel(infer_qtype type, infer_layout layout, uint64_t n, uint64_t k, uint64_t panel, const float *rows, void *w)
{
    infer_sparse s;
    uint32_t *pointers = w, rows_here = n - 16 * panel < 16 ? (uint32_t)(n - 16 * panel) : 16;
    uint64_t count;
    uint8_t *units;
    size_t kept = 0;

    if (layout == INFER_LAYOUT_CSR)
        return pack_csr(type, n, k, panel, rows, w);
    if (layout == INFER_LAYOUT_BITMASK)
        return pack_bitmask(type, n, k, panel, rows, w);
    s = infer_sparse_at(layout, w, (size_t)n, (size_t)k);
    units = (uint8_t *)s.values + pointers[panel] * infer_sparse_unit_bytes(type);
    count = infer_sparse_count(layout, rows, rows_here, k);
    if (!units_fit(&s, panel, count))
        return false;
    memset(units, type == INFER_QTYPE_Q8G64 ? 0 : 0x88, (size_t)count * infer_sparse_unit_bytes(type));
    for (uint64_t b = 0; b < s.blocks; b++) {
        uint32_t width = k - 64 * b < 64 ? (uint32_t)(k - 64 * b) : 64;
        uint64_t mask = kept_inputs(layout, rows, rows_here, k, 64 * b);
        size_t cell = panel * s.blocks + b;
        put_positions(layout, &s, panel, cell, mask, kept);
        for (uint32_t r = 0; r < rows_here; r++) {
            int8_t codes[64] = {0};
            if (!infer_pack_group(type, rows + r * k + 64 * b, width,
                                  (uint16_t *)s.scales + cell * 16 + r, codes))
                return false;
            put_codes(type, units, mask, kept, r, codes);
        }
        kept += (size_t)__builtin_popcountll(mask);
    }
    pointers[panel + 1] = pointers[panel] + (uint32_t)count;
    return true;
}

static void unpack_bitmask(infer_qtype type, const infer_sparse *s, uint64_t k, uint64_t row0, uint64_t count, float *rows)
{
    for (uint64_t o = row0; o < row0 + count; o++, rows += k) {
        const uint8_t *values = s->values + s->pointers[o / 16] * infer_sparse_mask_unit_bytes(type);
        const uint64_t *masks = infer_sparse_masks(s, o / 16, 0);
        for (uint64_t i = 0; i < k; i += 4) {
            uint64_t mask = masks[i / 4];
            float scale = infer_ref_f16_to_f32(infer_sparse_scale(s, o / 16, i / 64, o % 16));
            for (uint32_t j = 0; j < 4 && i + j < k; j++)
                rows[i + j] = (float)infer_sparse_mask_code(type, values, mask, 4 * (o % 16) + j) * scale;
            values += infer_sparse_mask_units(mask) * infer_sparse_mask_unit_bytes(type);
        }
    }
}

void infer_sparse_unpack(infer_qtype type, infer_layout layout, const void *w, uint64_t n, uint64_t k, uint64_t row0, uint64_t count,
                         float *rows)
{
    infer_sparse s = infer_sparse_at(layout, w, (size_t)n, (size_t)k);

    memset(rows, 0, (size_t)(count * k) * sizeof *rows);
    if (layout == INFER_LAYOUT_BITMASK) {
        unpack_bitmask(type, &s, k, row0, count, rows);
        return;
    }
    for (uint64_t o = row0; o < row0 + count; o++, rows += k) {
        const uint8_t *unit = s.values + s.pointers[o / 16] * infer_sparse_unit_bytes(type);
        uint32_t r = o % 16;
        size_t kept = 0;
        if (layout == INFER_LAYOUT_CSR) {
            for (uint32_t i = s.pointers[o]; i < s.pointers[o + 1]; i++) {
                uint64_t input = ((const uint16_t *)s.positions)[i];
                float scale = infer_ref_f16_to_f32(infer_sparse_scale(&s, o / 16, input / 64, r));
                rows[input] = (float)infer_sparse_number(type, s.values, i) * scale;
            }
            continue;
        }
        for (size_t b = 0; b < s.blocks; b++) {
            float scale = infer_ref_f16_to_f32(infer_sparse_scale(&s, o / 16, b, r));
            uint8_t inputs[64];
            uint32_t here = infer_sparse_kept(layout, &s, o / 16, b, kept, inputs);
            for (uint32_t i = 0; i < here; i++, kept++)
                if (64 * b + inputs[i] < k)
                    rows[64 * b + inputs[i]] = (float)infer_sparse_code(type, unit, r, kept) * scale;
        }
    }
}
