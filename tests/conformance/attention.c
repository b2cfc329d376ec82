/* The KV cache: writing it and attending to it. */
#include "conformance.h"

#include "attention.h"

#include <string.h>

/* What the first byte of a cache is aligned to, at least. */
static size_t cache_align(const test *t) { return t->kernel->type == INFER_QTYPE_Q8G32 ? 32 : infer_qtype_find(t->kernel->type)->element_bytes; }

/* ---- store_k, store_v ---- */

static void store_case(test *t, uint32_t m, uint32_t kv_heads, uint32_t head_dim, uint32_t positions, uint32_t pos0, fill f)
{
    if (skip_case(t))
        return;

    uint32_t n = kv_heads * head_dim, stride = n + random_below(t, 3), head0, head1;
    size_t bytes = (size_t)infer_cache_bytes(t->kernel->type, kv_heads, positions, head_dim), x_count = (size_t)(m - 1) * stride + n;
    float *x = buffer(SLOT_X, x_count * sizeof *x, sizeof *x);
    uint8_t *got = buffer(SLOT_Y, bytes, cache_align(t)), *want = buffer(SLOT_WANT, bytes, cache_align(t));
    infer_store_args a = {.x = x, .cache = want, .m = m, .n = n, .stride = stride, .head_dim = head_dim, .positions = positions,
                          .pos0 = pos0};
    infer_region at;

    begin_case(t, "m %u heads %u head_dim %u positions %u pos0 %u x %s", m, kv_heads, head_dim, positions, pos0, fill_name(f));
    fill_floats(t, x, x_count, f);
    if (f == FILL_WIDE)
        for (size_t i = 0; i < x_count; i++)
            x[i] = ldexpf(x[i], 10); /* into the subnormals of fp16 and over its end, also as a scale of q8g32 */
    at.row0 = random_below(t, m);
    at.row1 = at.row0 + 1 + random_below(t, m - at.row0);
    head0 = random_below(t, kv_heads);
    head1 = head0 + 1 + random_below(t, kv_heads - head0);
    at.col0 = head0 * head_dim;
    at.col1 = head1 * head_dim;
    t->ref(&a, at);
    a.cache = got;
    t->kernel->fn(&a, at);
    for (size_t i = 0; i < bytes; i++)
        if (got[i] != want[i])
            fail(t, "byte %zu of the cache is %02x, reference %02x", i, got[i], want[i]);
    check_canaries(t, SLOT_Y);
}

void test_store(test *t)
{
    for (uint32_t head_dim = 1; head_dim <= 33; head_dim++) {
        for (int f = 0; f < FILL_COUNT; f++) {
            uint32_t m = 1 + random_below(t, 20), pos0 = random_below(t, 40);
            store_case(t, m, 1 + random_below(t, 3), head_dim, (pos0 + m + 15) / 16 * 16 + 16 * random_below(t, 2), pos0, (fill)f);
        }
    }
    for (int f = 0; f < FILL_COUNT; f++) {
        store_case(t, 1, 4, 64, 64, 63, (fill)f);
        store_case(t, 17, 2, 128, 64, 30, (fill)f);
    }
}

/* ---- attention ---- */

/* Any finite values: what lies behind the last position is old, not zero. */
static void *cache_buffer(test *t, slot s, const infer_attention_args *a, float size)
{
    infer_qtype type = t->kernel->type;
    size_t bytes = (size_t)infer_cache_bytes(type, a->kv_heads, a->positions, a->head_dim);
    uint8_t *cache = buffer(s, bytes, type == INFER_QTYPE_F32 ? 64 : 32);

    for (size_t i = 0; i < bytes; i += type == INFER_QTYPE_F32 ? sizeof(float) : sizeof(uint16_t)) {
        float x = random_unit(t) * size;
        uint16_t half = infer_ref_f32_to_f16(x);
        if (type == INFER_QTYPE_F32)
            memcpy(cache + i, &x, sizeof x);
        else
            memcpy(cache + i, &half, sizeof half);
        if (type == INFER_QTYPE_Q8G32 && i % INFER_TILE_Q8_GROUP_BYTES >= INFER_TILE_SCALE_BYTES)
            for (size_t k = i; k < i + sizeof half; k++)
                cache[k] = (uint8_t)(random_below(t, 255) - 127); /* all codes, the padding's too */
    }
    return cache;
}

/* No window or softcap, or any of a size that matters. */
static uint32_t random_window(test *t, uint32_t end)
{
    static const uint32_t sizes[] = {1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 300};
    return random_below(t, 2) ? 0 : random_below(t, 2) ? sizes[random_below(t, ARRAY_COUNT(sizes))] : 1 + random_below(t, end);
}

static float random_softcap(test *t) { return random_below(t, 2) ? 0 : 0.1f + 50 * fabsf(random_unit(t)); }

static void attention_case(test *t, uint32_t m, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t pos0, fill f)
{
    if (skip_case(t))
        return;

    uint32_t n = heads * head_dim, share = heads / kv_heads, positions = (pos0 + m + 15) / 16 * 16;
    infer_attention_args a = {.m = m, .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim, .positions = positions, .pos0 = pos0,
                              .q_stride = n + random_below(t, 3), .y_stride = n + random_below(t, 3), .scale = 1.0f / sqrtf((float)head_dim),
                              .window = random_window(t, pos0 + m), .softcap = random_softcap(t)};
    size_t q_count = (size_t)(m - 1) * a.q_stride + n, y_count = (size_t)m * a.y_stride;
    float *q = buffer(SLOT_X, q_count * sizeof *q, sizeof *q), *y, *want;
    infer_region all = {0, m, 0, n}, part;
    uint32_t kv0;

    begin_case(t, "m %u heads %u kv_heads %u head_dim %u pos0 %u window %u softcap %g q %s", m, heads, kv_heads, head_dim, pos0, a.window,
               (double)a.softcap, fill_name(f));
    fill_floats(t, q, q_count, f);
    a.q = q;
    a.k = cache_buffer(t, SLOT_W, &a, t->kernel->type == INFER_QTYPE_Q8G32 ? 0.03f : 3.0f);
    a.v = cache_buffer(t, SLOT_AUX, &a, t->kernel->type == INFER_QTYPE_Q8G32 ? 0.01f : 1.0f);
    want = a.y = buffer(SLOT_WANT, y_count * sizeof *want, sizeof *want);
    t->ref(&a, all);
    y = a.y = buffer(SLOT_Y, y_count * sizeof *y, sizeof *y);
    t->kernel->fn(&a, all);
    check_region(t, y, want, m, a.y_stride, all);
    check_canaries(t, SLOT_Y);

    part.row0 = random_below(t, m);
    part.row1 = part.row0 + 1 + random_below(t, m - part.row0);
    kv0 = random_below(t, kv_heads);
    part.col0 = kv0 * share * head_dim;
    part.col1 = (kv0 + 1 + random_below(t, kv_heads - kv0)) * share * head_dim;
    memset(y, CANARY, y_count * sizeof *y);
    t->kernel->fn(&a, part);
    check_region(t, y, want, m, a.y_stride, part);
    check_canaries(t, SLOT_Y);
}

void test_attention(test *t)
{
    static const uint32_t starts[] = {0, 1, 7, 14, 15, 16, 17, 31, 100, 254, 255, 256, 257, 270, 520};
    static const uint32_t shapes[][3] = {{1, 1, 8}, {8, 4, 8}, {6, 6, 48}, {6, 2, 32}, {4, 1, 64}, {9, 3, 64}, {2, 2, 80}, {8, 1, 128}, {17, 1, 16},
                                         {1, 1, 512}};
    static const uint32_t ms[] = {1, 2, 3, 4, 5, 7, 8, 16, 17};

    for (uint32_t head_dim = 1; head_dim <= 33; head_dim++)
        attention_case(t, 1 + random_below(t, 6), 1 + random_below(t, 3), 1, head_dim, random_below(t, 40), (fill)(head_dim % FILL_COUNT));
    for (size_t i = 0; i < ARRAY_COUNT(starts); i++)
        for (size_t j = 0; j < ARRAY_COUNT(ms); j++)
            attention_case(t, ms[j], 1 + random_below(t, 5), 1, 8 + random_below(t, 9), starts[i], (fill)random_below(t, FILL_COUNT));
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++)
        for (uint32_t m = 1; m <= 19; m += 6)
            attention_case(t, m, shapes[i][0], shapes[i][1], shapes[i][2], starts[random_below(t, ARRAY_COUNT(starts))], FILL_RANDOM);
}

/* ---- attention_chunks, attention_merge ---- */

typedef struct split {
    infer_attention_args a;
    infer_region lines; /* all of partial */
    size_t partial_count;
} split;

static split split_of(test *t, uint32_t m, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t pos0)
{
    uint32_t n = heads * head_dim, share = heads / kv_heads;
    split s = {.a = {.m = m, .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim, .positions = (pos0 + m + 15) / 16 * 16, .pos0 = pos0,
                     .q_stride = n + random_below(t, 3), .y_stride = n + random_below(t, 3), .scale = 1.0f / sqrtf((float)head_dim),
                     .window = random_window(t, pos0 + m), .softcap = random_softcap(t)}};
    s.a.chunks = (pos0 + m - 1) / INFER_ATTENTION_CHUNK + 1;
    s.a.partial_stride = m * share * infer_attention_record_floats(head_dim) + random_below(t, 3);
    s.lines = (infer_region){0, kv_heads * s.a.chunks, 0, s.a.partial_stride};
    s.partial_count = (size_t)s.lines.row1 * s.a.partial_stride;
    return s;
}

static void chunks_case(test *t, uint32_t m, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t pos0, fill f)
{
    if (skip_case(t))
        return;

    split s = split_of(t, m, heads, kv_heads, head_dim, pos0);
    size_t q_count = (size_t)(m - 1) * s.a.q_stride + (size_t)heads * head_dim, bytes = s.partial_count * sizeof(float);
    float *q = buffer(SLOT_X, q_count * sizeof *q, sizeof *q), *got, *want;
    uint32_t line0, line1;

    begin_case(t, "m %u heads %u kv_heads %u head_dim %u pos0 %u window %u softcap %g q %s", m, heads, kv_heads, head_dim, pos0, s.a.window,
               (double)s.a.softcap, fill_name(f));
    fill_floats(t, q, q_count, f);
    s.a.q = q;
    s.a.k = cache_buffer(t, SLOT_W, &s.a, t->kernel->type == INFER_QTYPE_Q8G32 ? 0.03f : 3.0f);
    s.a.v = cache_buffer(t, SLOT_AUX, &s.a, t->kernel->type == INFER_QTYPE_Q8G32 ? 0.01f : 1.0f);
    want = s.a.partial = buffer(SLOT_WANT, bytes, sizeof *want);
    t->ref(&s.a, s.lines);
    got = s.a.partial = buffer(SLOT_Y, bytes, sizeof *got);
    line0 = random_below(t, s.lines.row1);
    line1 = line0 + 1 + random_below(t, s.lines.row1 - line0);
    t->kernel->fn(&s.a, (infer_region){line0, line1, 0, s.lines.col1});
    for (size_t i = 0; i < s.partial_count; i++) {
        size_t line = i / s.a.partial_stride;
        uint32_t untouched;
        memset(&untouched, CANARY, sizeof untouched);
        if (line >= line0 && line < line1 ? !same_float(got[i], want[i]) : infer_ref_float_bits(got[i]) != untouched)
            fail(t, "float %zu of line %zu is %a, reference %a; lines %u..%u were asked for", i % s.a.partial_stride, line, got[i], want[i], line0, line1);
    }
    check_canaries(t, SLOT_Y);
}

static void merge_case(test *t, uint32_t m, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t pos0, fill f)
{
    if (skip_case(t))
        return;

    split s = split_of(t, m, heads, kv_heads, head_dim, pos0);
    size_t y_count = (size_t)m * s.a.y_stride;
    float *partial = buffer(SLOT_X, s.partial_count * sizeof *partial, sizeof *partial), *y, *want;
    infer_region all = {0, m, 0, heads * head_dim}, part;

    begin_case(t, "m %u heads %u kv_heads %u head_dim %u pos0 %u window %u partial %s", m, heads, kv_heads, head_dim, pos0, s.a.window,
               fill_name(f));
    fill_floats(t, partial, s.partial_count, f);
    s.a.partial = partial;
    want = s.a.y = buffer(SLOT_WANT, y_count * sizeof *want, sizeof *want);
    t->ref(&s.a, all);
    y = s.a.y = buffer(SLOT_Y, y_count * sizeof *y, sizeof *y);
    part.row0 = random_below(t, m);
    part.row1 = part.row0 + 1 + random_below(t, m - part.row0);
    part.col0 = random_below(t, heads) * head_dim;
    part.col1 = part.col0 + (1 + random_below(t, heads - part.col0 / head_dim)) * head_dim;
    t->kernel->fn(&s.a, part);
    check_region(t, y, want, m, s.a.y_stride, part);
    check_canaries(t, SLOT_Y);
}

typedef void split_case(test *t, uint32_t m, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t pos0, fill f);

static void split_cases(test *t, split_case *one)
{
    static const uint32_t starts[] = {0, 15, 200, 248, 254, 255, 256, 257, 505, 520, 767, 1030};
    static const uint32_t shapes[][3] = {{1, 1, 8}, {8, 4, 8}, {6, 2, 32}, {9, 3, 64}, {2, 2, 80}, {8, 1, 128}, {17, 1, 16}, {1, 1, 512}};

    for (size_t i = 0; i < ARRAY_COUNT(starts); i++)
        for (uint32_t m = 1; m <= INFER_ATTENTION_SPLIT_ROWS; m++)
            one(t, m, 1 + random_below(t, 5), 1, 1 + random_below(t, 33), starts[i], (fill)random_below(t, FILL_COUNT));
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++)
        for (uint32_t m = 1; m <= INFER_ATTENTION_SPLIT_ROWS; m += 7)
            one(t, m, shapes[i][0], shapes[i][1], shapes[i][2], starts[random_below(t, ARRAY_COUNT(starts))], FILL_RANDOM);
}

void test_attention_chunks(test *t) { split_cases(t, chunks_case); }
void test_attention_merge(test *t) { split_cases(t, merge_case); }
