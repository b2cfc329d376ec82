#include "sparse.h"

#include "shapes.h"

#include <string.h>

/* Positions of a panel (csr: row): which of `width` things are kept, rising; returns how many. */
static uint32_t choose(uint32_t *kept, uint32_t width, double rate, uint64_t *random)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < width; i++)
        if ((double)(infer_random(random) >> 40) >= rate * (1 << 24))
            kept[count++] = i;
    return count;
}

static void set_position(infer_layout layout, const infer_sparse *s, uint32_t line, uint32_t unit, uint32_t i, uint32_t kept)
{
    if (layout == INFER_LAYOUT_BCSR16X1) {
        ((uint8_t *)s->counts)[line * s->blocks + kept / 64]++;
        ((uint8_t *)s->positions)[4 * (size_t)unit + i] = kept % 64;
    } else if (layout == INFER_LAYOUT_BCSR16X4) {
        ((uint16_t *)s->positions)[line * s->blocks + kept / 16] |= (uint16_t)(1u << kept % 16);
    } else {
        ((uint16_t *)s->positions)[unit + i] = (uint16_t)kept;
    }
}

/* bitmask: which weights of every tile are kept; returns the units. */
static uint64_t choose_masks(uint64_t *masks, uint32_t rows, uint32_t k, size_t blocks, uint32_t *kept, double rate, uint64_t *random)
{
    uint64_t units = 0;
    for (uint32_t o = 0; o < rows; o++) {
        uint32_t count = choose(kept, k, rate, random);
        for (uint32_t i = 0; i < count; i++)
            masks[o / 16 * blocks * 16 + kept[i] / 4] |= 1ull << (4 * (o % 16) + kept[i] % 4);
    }
    for (size_t tile = 0; tile < (rows + 15) / 16 * blocks * 16; tile++)
        units += infer_sparse_mask_units(masks[tile]);
    return units;
}

static void fill_values(infer_qtype type, const infer_sparse *s, uint8_t *end, uint64_t *random)
{
    const uint16_t scale = type == INFER_QTYPE_Q8G64 ? 0x0c7c : 0x1ce1; /* deviation 0.02 of random codes: 0.00027, 0.0048 */
    for (size_t i = 0; i < s->panels * s->blocks * 16; i++)
        ((uint16_t *)s->scales)[i] = scale;
    for (uint8_t *at = (uint8_t *)s->values; at < end; at++)
        *at = (uint8_t)(infer_random(random) >> 32);
}

/* Room for so many units, zeros, the last pointer set, from which the sizes of the parts follow. */
static infer_status allocate(infer_qtype type, infer_layout layout, uint32_t rows, uint32_t k, uint64_t units, uint8_t **out, uint64_t *bytes,
                             infer_error *err)
{
    const size_t lines = layout == INFER_LAYOUT_CSR ? rows : (rows + 15) / 16;

    if (!infer_sparse_bytes(type, layout, rows, k, units, bytes))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "pruned weights of %u x %u cannot be stored", rows, k);
    if (!(*out = infer_alloc_zero(NULL, (size_t)*bytes)))
        return infer_fail_memory(err, (size_t)*bytes, "random weights");
    ((uint32_t *)(void *)*out)[lines] = (uint32_t)units;
    return INFER_OK;
}

static infer_status random_bitmask(infer_qtype type, uint32_t rows, uint32_t k, uint32_t *kept, double rate, uint64_t *random,
                                   uint8_t **out, uint64_t *bytes, infer_error *err)
{
    const size_t panels = (rows + 15) / 16, tiles = (k + 63) / 64 * 16;
    uint64_t *masks = infer_alloc_zero(NULL, panels * tiles * sizeof *masks);
    infer_status status;
    infer_sparse s;

    if (!masks)
        return infer_fail_memory(err, panels * tiles * sizeof *masks, "random weights");
    status = allocate(type, INFER_LAYOUT_BITMASK, rows, k, choose_masks(masks, rows, k, tiles / 16, kept, rate, random), out, bytes, err);
    if (status == INFER_OK) {
        uint32_t *pointers = (uint32_t *)(void *)*out, units = 0;
        s = infer_sparse_at(INFER_LAYOUT_BITMASK, *out, rows, k);
        memcpy((uint64_t *)infer_sparse_masks(&s, 0, 0), masks, panels * tiles * sizeof *masks);
        for (size_t tile = 0; tile < panels * tiles; tile++) {
            units += infer_sparse_mask_units(masks[tile]);
            pointers[tile / tiles + 1] = units;
        }
        fill_values(type, &s, *out + *bytes - INFER_SPARSE_TAIL_BYTES, random);
    }
    infer_free(NULL, masks);
    return status;
}

static infer_status random_lines(infer_qtype type, infer_layout layout, uint32_t rows, uint32_t k, uint32_t *kept, uint32_t width,
                                 double rate, uint64_t *random, uint8_t **out, uint64_t *bytes, infer_error *err)
{
    const uint32_t lines = layout == INFER_LAYOUT_CSR ? rows : (rows + 15) / 16;
    uint64_t units = 0, seed = *random;
    uint32_t *pointers;
    infer_status status;
    infer_sparse s;

    for (uint32_t l = 0; l < lines; l++) {
        uint32_t count = choose(kept, width, rate, &seed);
        units += layout == INFER_LAYOUT_BCSR16X1 ? (count + 3) / 4 : count;
    }
    if ((status = allocate(type, layout, rows, k, units, out, bytes, err)) != INFER_OK)
        return status;
    pointers = (uint32_t *)(void *)*out;
    s = infer_sparse_at(layout, *out, rows, k);
    for (uint32_t l = 0; l < lines; l++) { /* the same choices again */
        uint32_t count = choose(kept, width, rate, random);
        for (uint32_t i = 0; i < count; i++)
            set_position(layout, &s, l, pointers[l], i, kept[i]);
        pointers[l + 1] = pointers[l] + (layout == INFER_LAYOUT_BCSR16X1 ? (count + 3) / 4 : count);
    }
    fill_values(type, &s, *out + *bytes, random);
    return INFER_OK;
}

infer_status infer_random_sparse(infer_qtype type, infer_layout layout, uint32_t rows, uint32_t k, double rate, uint64_t *random, uint8_t **out,
                                 uint64_t *bytes, infer_error *err)
{
    const uint32_t width = layout == INFER_LAYOUT_BCSR16X4 ? (k + 3) / 4 : k;
    uint32_t *kept = infer_alloc_array(NULL, width, sizeof *kept);
    infer_status status;

    if (!kept)
        return infer_fail_memory(err, width * sizeof *kept, "random weights");
    status = layout == INFER_LAYOUT_BITMASK ? random_bitmask(type, rows, k, kept, rate, random, out, bytes, err)
                                            : random_lines(type, layout, rows, k, kept, width, rate, random, out, bytes, err);
    infer_free(NULL, kept);
    return status;
}
