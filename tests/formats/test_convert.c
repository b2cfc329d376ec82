/* From a source to a .infer file: types, rules, the same bits from every source. */
#include "check.h"
#include "samples.h"

#include "convert/convert.h"
#include "convert/matrix.h"
#include "pack/pack.h"
#include "ref/mathf.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static const infer_costs by_bytes = {.byte_ns = 1}; /* memory is all that counts */

static infer_source open_source(const char *path, const char *tokenizer)
{
    infer_error err = {0};
    infer_source s;
    cr_assert_eq(infer_source_open(NULL, path, tokenizer, &s, &err), INFER_OK, "%s", err.message);
    return s;
}

static infer_source sample_source(uint32_t type)
{
    sample_gguf_parts p;
    sample_gguf_model(&p, type);
    sample file = sample_gguf(&p);
    const char *path = sample_write("source.gguf", file.data, file.size);
    sample_free(&file);
    return open_source(path, NULL);
}

static infer_file *convert(const infer_source *s, const char *name, infer_qtype type)
{
    const infer_convert_options options = {.type = type, .overwrite = true};
    const char *path = sample_path(name);
    infer_error err = {0};
    infer_file *f;
    cr_assert_eq(infer_convert(NULL, s, path, &options, NULL, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_file_open(NULL, path, &f, &err), INFER_OK, "%s", err.message);
    for (size_t i = 0; i < infer_file_tensor_count(f); i++)
        cr_assert_eq(infer_file_verify(f, infer_file_tensor(f, i), &err), INFER_OK, "%s", err.message);
    return f;
}

static void expect_same_tensors(const infer_file *a, const infer_file *b)
{
    cr_assert_eq(infer_file_tensor_count(a), infer_file_tensor_count(b));
    for (size_t i = 0; i < infer_file_tensor_count(a); i++) {
        const infer_tensor_info *x = infer_file_tensor(a, i), *y = infer_file_tensor(b, i);
        cr_assert_str_eq(x->name, y->name);
        cr_assert(x->type == y->type && x->layout == y->layout && x->rows == y->rows && x->cols == y->cols && x->bytes == y->bytes, "%s",
                  x->name);
        cr_assert_eq(memcmp(infer_file_data(a, x), infer_file_data(b, y), x->bytes), 0, "%s", x->name);
    }
}

/* Every type of the table: each matrix has it, each vector is f32, and the numbers are near those of the source. */
Test(convert, every_type)
{
    infer_source s = sample_source(0);
    for (uint32_t id = 0; id < INFER_QTYPE_NONE; id++) {
        const infer_qtype_info *type = infer_qtype_find(id);
        infer_error err = {0};
        if (!type)
            continue;
        infer_file *f = convert(&s, "out.infer", type->type);
        if (infer_matrix_layout(type->type) == INFER_LAYOUT_COLS) { /* as they are, when the file is converted again */
            infer_source again = open_source(infer_file_path(f), NULL);
            infer_file *g = convert(&again, "again.infer", INFER_QTYPE_NONE);
            expect_same_tensors(f, g);
            infer_file_close(g);
            infer_source_close(&again);
        }
        for (size_t i = 0; i < s.tensor_count; i++) {
            const infer_source_tensor *t = &s.tensors[i];
            const infer_tensor_info *info = infer_file_find(f, t->name);
            float expected[16 * 16], found[16 * 16];
            bool cols = infer_matrix_layout(type->type) == INFER_LAYOUT_COLS && strncmp(t->name, "layers.", 7) == 0;
            infer_qtype stored = !t->matrix ? INFER_QTYPE_F32 : cols || !type->cols_bits ? type->type : type->cols_bits == 8 ? INFER_QTYPE_Q8G32 : INFER_QTYPE_Q4G32;
            double bound = cols ? (type->cols_bits == 8 ? 0.02 : 0.35) : stored == INFER_QTYPE_Q4G32 ? 1.0 / 8 :
                           id == INFER_QTYPE_T2R ? 1 : id == INFER_QTYPE_N4G32 ? 11.0 / 63 : id == INFER_QTYPE_F32 ? 0 : 1.0 / 127;
            cr_assert(info && info->type == stored && info->layout == (t->matrix ? infer_matrix_layout(stored) : INFER_LAYOUT_ROWS));
            cr_assert_eq(s.importer->read_f32(&s, i, 0, t->rows, expected, &err), INFER_OK);
            if (cols && t->matrix)
                infer_unpack_cols(info->type, infer_file_data(f, info), t->rows, t->cols, 0, t->rows, found);
            else if (t->matrix)
                infer_unpack_panel(info->type, infer_file_data(f, info), (uint32_t)t->rows, t->cols, found);
            else
                memcpy(found, infer_file_data(f, info), info->bytes);
            for (size_t j = 0; j < t->rows * t->cols; j++)
                expect_that(fabs((double)expected[j] - found[j]) <= (t->matrix ? bound : 0), "%s %s %zu", type->name, t->name, j);
        }
        infer_file_close(f);
    }
    infer_source_close(&s);
}

Test(convert, codes_are_carried_over)
{
    static const struct {
        uint32_t gguf;
        infer_qtype type;
    } cases[] = {{8, INFER_QTYPE_Q8G32}, {2, INFER_QTYPE_Q4G32}};
    for (size_t k = 0; k < 2; k++) {
        infer_source s = sample_source(cases[k].gguf);
        infer_file *f = convert(&s, "a.infer", INFER_QTYPE_NONE), *g;
        infer_source again = open_source(infer_file_path(f), NULL);
        int8_t codes[2][32 * 64];
        uint16_t scales[2][32 * 2];
        infer_error err = {0};
        for (size_t i = 0; i < s.tensor_count; i++) {
            const infer_source_tensor *t = &s.tensors[i];
            if (!t->matrix)
                continue;
            cr_assert_eq(infer_file_find(f, t->name)->type, cases[k].type);
            for (uint64_t r = 0; r < t->rows; r += 16) {
                uint64_t n = t->rows - r < 16 ? t->rows - r : 16;
                cr_assert_eq(s.importer->read_codes(&s, i, r, n, codes[0], scales[0], &err), INFER_OK);
                cr_assert_eq(again.importer->read_codes(&again, i, r, n, codes[1], scales[1], &err), INFER_OK);
                cr_assert_eq(memcmp(codes[0], codes[1], n * t->cols), 0, "%s", t->name);
                cr_assert_eq(memcmp(scales[0], scales[1], n * t->cols / 32 * 2), 0, "%s", t->name);
            }
        }
        g = convert(&again, "b.infer", INFER_QTYPE_NONE);
        expect_same_tensors(f, g);
        infer_file_close(g);
        infer_file_close(f);
        infer_source_close(&again);
        infer_source_close(&s);
    }
}

/* No importer but .infer knows n4g32: a second search for scales might find others, so the copy must not search. */
Test(convert, n4g32_codes_are_carried_over)
{
    infer_source s = sample_source(0), again;
    infer_file *first = convert(&s, "first.infer", INFER_QTYPE_N4G32), *copy;
    again = open_source(infer_file_path(first), NULL);
    copy = convert(&again, "copy.infer", INFER_QTYPE_NONE);
    expect_same_tensors(first, copy);
    infer_file_close(first);
    infer_file_close(copy);
    infer_source_close(&again);
    infer_source_close(&s);
}

/* Ternary rows stay what they are, also by way of f32. */
Test(convert, ternary_rows_are_carried_over)
{
    infer_source s = sample_source(0), again;
    infer_file *t2r = convert(&s, "t2r.infer", INFER_QTYPE_T2R), *copy, *f32, *back;
    again = open_source(infer_file_path(t2r), NULL);
    copy = convert(&again, "copy.infer", INFER_QTYPE_NONE);
    f32 = convert(&again, "f32.infer", INFER_QTYPE_F32);
    infer_source_close(&again);
    again = open_source(infer_file_path(f32), NULL);
    back = convert(&again, "back.infer", INFER_QTYPE_T2R);
    expect_same_tensors(t2r, copy);
    expect_same_tensors(t2r, back);
    infer_file_close(t2r);
    infer_file_close(copy);
    infer_file_close(f32);
    infer_file_close(back);
    infer_source_close(&again);
    infer_source_close(&s);
}

/* f32 as an intermediate file changes nothing. */
Test(convert, from_an_infer_file)
{
    infer_source s = sample_source(0), again;
    infer_file *f32 = convert(&s, "f32.infer", INFER_QTYPE_F32), *direct = convert(&s, "direct.infer", INFER_QTYPE_Q4G32), *detour;
    size_t a, b;
    again = open_source(infer_file_path(f32), NULL);
    detour = convert(&again, "detour.infer", INFER_QTYPE_Q4G32);
    expect_same_tensors(direct, detour);
    cr_assert_str_eq(infer_file_metadata(direct), infer_file_metadata(detour));
    const uint8_t *x = infer_file_vocab(direct, &a), *y = infer_file_vocab(detour, &b);
    cr_assert(a == b && memcmp(x, y, a) == 0);
    infer_file_close(f32);
    infer_file_close(direct);
    infer_file_close(detour);
    infer_source_close(&again);
    infer_source_close(&s);
}

Test(convert, damaged_infer_file)
{
    sample file = sample_infer();
    infer_convert_options options = {.type = INFER_QTYPE_F32};
    infer_error err = {0};
    file.data[file.size - 100] ^= 1;
    infer_source s = open_source(sample_write("damaged.infer", file.data, file.size), NULL);
    cr_assert_eq(infer_convert(NULL, &s, sample_path("out.infer"), &options, NULL, &err), INFER_ERROR_CORRUPT);
    cr_assert(strstr(err.message, "tensor z"), "%s", err.message);
    cr_assert_eq(sample_file_count(), 1);
    infer_source_close(&s);
    sample_free(&file);
}

Test(convert, rules)
{
    infer_source s = sample_source(0);
    const infer_convert_rule rules[] = {{"layers.*.down", INFER_QTYPE_F16}, {"layers.1.*", INFER_QTYPE_Q8G32}};
    infer_convert_options options = {.type = INFER_QTYPE_Q4G32, .rules = rules, .rule_count = 2};
    infer_convert_result result;
    infer_error err = {0};
    infer_file *f;
    cr_assert_eq(infer_convert(NULL, &s, sample_path("out.infer"), &options, &result, &err), INFER_OK, "%s", err.message);
    cr_assert(result.tensors == 20 && result.weights == 1056);
    cr_assert_eq(infer_file_open(NULL, sample_path("out.infer"), &f, &err), INFER_OK);
    cr_assert_eq(infer_file_find(f, "tok_embed")->type, INFER_QTYPE_Q4G32);
    cr_assert_eq(infer_file_find(f, "layers.0.down")->type, INFER_QTYPE_F16);
    cr_assert_eq(infer_file_find(f, "layers.1.down")->type, INFER_QTYPE_Q8G32, "the last match wins");
    cr_assert_eq(infer_file_find(f, "layers.1.attn_norm")->type, INFER_QTYPE_F32, "vectors stay");
    infer_file_close(f);

    const infer_convert_rule nothing = {"layers.*.attn_norm", INFER_QTYPE_F16};
    options.rules = &nothing;
    options.rule_count = 1;
    cr_assert_eq(infer_convert(NULL, &s, sample_path("no.infer"), &options, NULL, &err), INFER_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "layers.*.attn_norm"));
    infer_source_close(&s);
}

/* NaN, infinities, and numbers beyond f16. */
Test(convert, values_that_do_not_fit)
{
    static const struct {
        float value;
        infer_qtype type;
    } cases[] = {{NAN, INFER_QTYPE_F32},  {INFINITY, INFER_QTYPE_Q8G32}, {-INFINITY, INFER_QTYPE_Q4G32},
                 {1e5f, INFER_QTYPE_F16}, {1e8f, INFER_QTYPE_Q8G32},     {1e7f, INFER_QTYPE_Q4G32}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sample tokenizer = sample_tokenizer_bin(), bin = sample_llama2c(true);
        memcpy(bin.data + 28 + 4 * 100, &cases[i].value, 4); /* in layers.0.q */
        infer_source s = open_source(sample_write("m.bin", bin.data, bin.size), sample_write("t", tokenizer.data, tokenizer.size));
        infer_convert_options options = {.type = cases[i].type};
        infer_error err = {0};
        cr_assert_eq(infer_convert(NULL, &s, sample_path("out.infer"), &options, NULL, &err), INFER_ERROR_FORMAT);
        cr_assert(strstr(err.message, "layers.0.q, rows 0 to 7"), "%s", err.message);
        cr_assert_eq(sample_file_count(), 2, "nothing is left behind");
        infer_source_close(&s);
        sample_free(&bin);
        sample_free(&tokenizer);
    }
}

static int stop_at_third(void *user, const infer_convert_progress *p)
{
    cr_assert_leq(p->bytes, p->total_bytes);
    cr_assert(p->tensor);
    return ++*(int *)user == 3;
}

Test(convert, can_be_interrupted)
{
    infer_source s = sample_source(0);
    int calls = 0;
    infer_convert_options options = {.type = INFER_QTYPE_F32, .progress = stop_at_third, .user = &calls};
    infer_error err = {0};
    cr_assert_eq(infer_convert(NULL, &s, sample_path("out.infer"), &options, NULL, &err), INFER_ERROR_CANCELLED);
    cr_assert_eq(calls, 3);
    cr_assert_eq(sample_file_count(), 1, "only the source is left");
    infer_source_close(&s);
}

/* By magnitude, in every type and block: the share of each matrix of the layers is zero in the file, and nothing else is. */
Test(convert, prunes)
{
    infer_source s = sample_source(0);
    double rates[64] = {0};
    cr_assert_leq(s.tensor_count, 64);
    for (uint32_t id = 0; id < INFER_QTYPE_NONE; id++)
        for (uint32_t block = 0; infer_prune_block_names[block]; block++) {
            const infer_convert_prune_rule exempt = {"layers.0.o", 0};
            infer_convert_options options = {.type = (infer_qtype)id, .overwrite = true, .rates = rates, .block = block};
            infer_error err = {0};
            infer_file *f;
            if (!infer_qtype_find(id))
                continue;
            cr_assert_eq(infer_convert_rates(&s, 0.5, &exempt, 1, block, rates, &err), INFER_OK, "%s", err.message);
            cr_assert_eq(infer_convert(NULL, &s, sample_path("pruned.infer"), &options, NULL, &err), INFER_OK, "%s", err.message);
            cr_assert_eq(infer_file_open(NULL, sample_path("pruned.infer"), &f, &err), INFER_OK, "%s", err.message);
            for (size_t i = 0; i < s.tensor_count; i++) {
                const infer_source_tensor *t = &s.tensors[i];
                const infer_tensor_info *info = infer_file_find(f, t->name);
                bool pruned = strncmp(t->name, "layers.", 7) == 0 && t->matrix && strcmp(t->name, "layers.0.o") != 0;
                float before[16 * 16], found[16 * 16];
                size_t zeros = 0, natural = 0;
                if (!t->matrix)
                    continue;
                cr_expect(rates[i] == (pruned ? 0.5 : 0));
                cr_assert_eq(s.importer->read_f32(&s, i, 0, t->rows, before, &err), INFER_OK);
                infer_matrix_unpack(info->type, info->layout, infer_file_data(f, info), t->rows, t->cols, 0, t->rows, found);
                for (size_t j = 0; j < t->rows * t->cols; j++) {
                    zeros += found[j] == 0;
                    natural += before[j] == 0;
                }
                if (id == INFER_QTYPE_F32)
                    cr_expect(pruned ? zeros >= t->rows * t->cols / 2 : zeros == natural, "%s %s: %zu", t->name, infer_prune_block_names[block], zeros);
                else
                    cr_expect(!pruned || zeros >= t->rows * t->cols / 2, "%s %s: %zu", t->name, infer_prune_block_names[block], zeros);
            }
            infer_file_close(f);
        }
    infer_source_close(&s);
}

/* What is left of pruned weights, in either layout, is the rounding of the pruned rows; the same file again is the same bytes. */
Test(convert, prunes_into_sparse_layouts)
{
    static const struct {
        infer_qtype type;
        infer_prune_block block;
        double rate;
    } cases[] = {
        {INFER_QTYPE_Q4G64, INFER_PRUNE_16X1, 0.5},  {INFER_QTYPE_Q8G64, INFER_PRUNE_16X1, 0.5}, {INFER_QTYPE_Q4G64, INFER_PRUNE_16X4, 0.75},
        {INFER_QTYPE_Q8G64, INFER_PRUNE_16X4, 0.75}, {INFER_QTYPE_Q4G64, INFER_PRUNE_16X1, 1},
    };
    infer_source s = sample_source(0);
    double rates[64] = {0};
    cr_assert_leq(s.tensor_count, 64);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        infer_convert_options options = {.type = INFER_QTYPE_F32, .overwrite = true, .rates = rates, .block = cases[k].block};
        infer_convert_result result;
        uint64_t bytes = 0;
        infer_error err = {0};
        infer_file *f, *g;
        cr_assert_eq(infer_convert_rates(&s, cases[k].rate, NULL, 0, options.block, rates, &err), INFER_OK, "%s", err.message);
        cr_assert_eq(infer_convert(NULL, &s, sample_path("floats.infer"), &options, NULL, &err), INFER_OK, "%s", err.message);
        options.type = cases[k].type;
        options.sparse = &by_bytes;
        cr_assert_eq(infer_convert(NULL, &s, sample_path("sparse.infer"), &options, &result, &err), INFER_OK, "%s", err.message);
        infer_source floats = open_source(sample_path("floats.infer"), NULL), again = open_source(sample_path("sparse.infer"), NULL);
        f = convert(&again, "again.infer", INFER_QTYPE_NONE);
        for (size_t i = 0; i < s.tensor_count; i++) {
            const infer_tensor_info *info = infer_file_find(f, s.tensors[i].name);
            float pruned[16 * 16], found[16 * 16];
            uint64_t n = info->rows, width = info->cols;
            bytes += info->bytes;
            if (!s.tensors[i].matrix || strncmp(info->name, "layers.", 7) != 0)
                continue;
            cr_expect(infer_layout_sparse(info->layout) && info->type == cases[k].type, "%s: %s", info->name, infer_layout_name(info->layout));
            cr_assert_eq(floats.importer->read_f32(&floats, i, 0, n, pruned, &err), INFER_OK);
            cr_assert_eq(again.importer->read_f32(&again, i, 0, n, found, &err), INFER_OK);
            for (uint64_t r = 0; r < n; r++) {
                uint16_t scale;
                int8_t codes[64];
                cr_assert(infer_pack_group(info->type, pruned + r * width, (uint32_t)width, &scale, codes));
                for (uint64_t j = 0; j < width; j++) { /* as numbers: a kept 0 may have the sign of its scale */
                    float expected = pruned[r * width + j] == 0 ? 0 : (float)codes[j] * infer_ref_f16_to_f32(scale);
                    cr_expect(expected == found[r * width + j], "%s, row %u, input %u", info->name, (unsigned)r, (unsigned)j);
                }
            }
        }
        cr_expect_eq(bytes, result.tensor_bytes);
        infer_source_close(&again);
        cr_assert_eq(infer_file_open(NULL, sample_path("sparse.infer"), &g, &err), INFER_OK, "%s", err.message);
        expect_same_tensors(f, g);
        infer_file_close(f);
        infer_file_close(g);
        infer_source_close(&floats);
    }
    infer_source_close(&s);
}

/* Of the layouts of a type the smallest; what is dense stays in cols, and other types are left alone. */
Test(convert, layouts_follow_what_is_kept)
{
    enum { N = 512, K = 1024 };
    static float rows[N * K];
    const infer_qtype types[] = {INFER_QTYPE_Q4G64, INFER_QTYPE_Q8G64};
    for (size_t i = 0; i < N * K; i++)
        rows[i] = 1;
    for (size_t t = 0; t < 2; t++) {
        infer_matrix_choice dense = infer_matrix_choose(types[t], rows, N, K, &by_bytes), sparse;
        uint64_t bytes = 0;
        cr_assert(infer_tensor_bytes(types[t], INFER_LAYOUT_COLS, N, K, &bytes));
        cr_expect(dense.layout == INFER_LAYOUT_COLS && dense.bytes == bytes && dense.units == 0);
        for (size_t i = 0; i < N * K; i++)
            rows[i] = i % K / 4 % 2 ? 1 : 0;
        sparse = infer_matrix_choose(types[t], rows, N, K, &by_bytes);
        cr_expect(sparse.layout == INFER_LAYOUT_BCSR16X4 && sparse.units == N / 16 * K / 8 && sparse.bytes < dense.bytes * 0.6);
        for (size_t i = 0; i < N * K; i++)
            rows[i] = i % 2 ? 1 : 0;
        sparse = infer_matrix_choose(types[t], rows, N, K, &by_bytes);
        cr_expect(sparse.layout == INFER_LAYOUT_BCSR16X1 && sparse.units == N / 16 * K / 8 && sparse.bytes < dense.bytes * 0.6);
        cr_expect_eq(infer_matrix_choose(types[t], rows, N, K, NULL).layout, INFER_LAYOUT_COLS);
        for (size_t i = 0; i < N * K; i++)
            rows[i] = 1;
    }
    cr_expect_eq(infer_matrix_choose(INFER_QTYPE_Q4G32, NULL, N, K, &by_bytes).layout, INFER_LAYOUT_TILE16X4);
}

Test(convert, nothing_can_be_sparse)
{
    infer_source s = sample_source(0);
    infer_convert_options options = {.type = INFER_QTYPE_Q4G32, .sparse = &by_bytes};
    infer_error err = {0};
    cr_expect_eq(infer_convert(NULL, &s, sample_path("out.infer"), &options, NULL, &err), INFER_ERROR_ARGUMENT);
    cr_expect(strstr(err.message, "q4g64 and q8g64"), "%s", err.message);
    cr_assert_eq(sample_file_count(), 1, "only the source is left");
    infer_source_close(&s);
}

/* While layouts are chosen there is nothing to show, but it can be interrupted. */
static int stop_before_writing(void *user, const infer_convert_progress *p)
{
    cr_expect(p->total_bytes == 0 && p->bytes == 0);
    return ++*(int *)user == 2;
}

Test(convert, choosing_can_be_interrupted)
{
    infer_source s = sample_source(0);
    int calls = 0;
    infer_convert_options options = {.type = INFER_QTYPE_Q4G64, .sparse = &by_bytes, .progress = stop_before_writing, .user = &calls};
    infer_error err = {0};
    cr_assert_eq(infer_convert(NULL, &s, sample_path("out.infer"), &options, NULL, &err), INFER_ERROR_CANCELLED);
    cr_assert_eq(calls, 2);
    cr_assert_eq(sample_file_count(), 1, "only the source is left");
    infer_source_close(&s);
}

Test(convert, pruning_rules)
{
    infer_source s = sample_source(0);
    double rates[64];
    infer_error err = {0};
    const infer_convert_prune_rule none[] = {{"nothing.*", 0.5}}, embeddings[] = {{"tok*", 0.5}};
    cr_expect_eq(infer_convert_rates(&s, 0.5, none, 1, INFER_PRUNE_16X1, rates, &err), INFER_ERROR_ARGUMENT);
    cr_expect(strstr(err.message, "nothing.*"));
    cr_expect_eq(infer_convert_rates(&s, 0.5, embeddings, 1, INFER_PRUNE_16X1, rates, &err), INFER_ERROR_ARGUMENT);
    cr_expect(strstr(err.message, "tok_embed"));
    infer_source_close(&s);
}

static int change_at_the_end(void *user, const infer_convert_progress *p)
{
    if (p->bytes == p->total_bytes)
        cr_assert_eq(truncate(user, 5), 0);
    return 0;
}

Test(convert, a_source_that_changes)
{
    infer_source s = sample_source(0);
    infer_convert_options options = {.type = INFER_QTYPE_F32, .progress = change_at_the_end, .user = (void *)(uintptr_t)sample_path("source.gguf")};
    infer_error err = {0};
    cr_assert_eq(infer_convert(NULL, &s, sample_path("out.infer"), &options, NULL, &err), INFER_ERROR_CORRUPT, "%s", err.message);
    cr_assert_eq(sample_file_count(), 1, "only the source is left");
    infer_source_close(&s);
}

static void fail_allocations(const infer_convert_options *options, uint32_t gguf)
{
    infer_source s = sample_source(gguf);
    double rates[64] = {0};
    infer_convert_options o = *options;
    bool done = false;
    cr_assert_leq(s.tensor_count, 64);
    o.overwrite = true;
    o.rates = rates;
    o.block = INFER_PRUNE_16X1;
    cr_assert_eq(infer_convert_rates(&s, 0.5, NULL, 0, o.block, rates, NULL), INFER_OK);
    for (size_t n = 1; !done; n++) {
        check_allocator c;
        infer_error err = {0};
        check_allocator_init(&c, n);
        infer_status status = infer_convert(&c.allocator, &s, sample_path("out.infer"), &o, NULL, &err);
        done = status == INFER_OK;
        cr_assert(done || status == INFER_ERROR_MEMORY, "%s", err.message);
        cr_assert_eq(c.live, 0, "allocation %zu", n);
        cr_assert_eq(sample_file_count(), done ? 2 : 1);
        cr_assert_lt(n, 300);
    }
    unlink(sample_path("out.infer"));
    infer_source_close(&s);
}

Test(convert, failing_allocations)
{
    fail_allocations(&(infer_convert_options){.type = INFER_QTYPE_NONE}, 8);
    fail_allocations(&(infer_convert_options){.type = INFER_QTYPE_Q8G64, .sparse = &by_bytes}, 0);
}

/* The two files of stories260K hold the same weights: the same tensors come out, bit for bit, in every type. */
Test(convert, stories260K_from_gguf_and_bin)
{
    const char *bin = check_data("models/stories260K/stories260K.bin"), *tokenizer = check_data("models/stories260K/tok512.bin");
    const char *gguf = check_data("models/stories260K/stories260Ktok512.gguf");
    if (!bin || !gguf || !tokenizer)
        cr_skip_test("models/stories260K is not there");
    infer_source a = open_source(bin, tokenizer), b = open_source(gguf, NULL);
    for (uint32_t id = 0; id < INFER_QTYPE_NONE; id++) {
        if (!infer_qtype_find(id))
            continue;
        infer_file *x = convert(&a, "bin.infer", (infer_qtype)id), *y = convert(&b, "gguf.infer", (infer_qtype)id);
        expect_same_tensors(x, y);
        infer_file_close(x);
        infer_file_close(y);
    }
    infer_source_close(&a);
    infer_source_close(&b);
}

/* Memory does not grow with the model: 16 rows of the widest tensor. */
Test(convert, memory_is_bounded)
{
    const char *gguf = check_data("models/stories260K/stories260Ktok512.gguf");
    infer_convert_options options = {.type = INFER_QTYPE_F32};
    infer_error err = {0};
    check_allocator c;
    if (!gguf)
        cr_skip_test("models/stories260K is not there");
    infer_source s = open_source(gguf, NULL);
    check_allocator_init(&c, 0);
    cr_assert_eq(infer_convert(&c.allocator, &s, sample_path("out.infer"), &options, NULL, &err), INFER_OK, "%s", err.message);
    cr_assert_lt(c.peak_bytes, (4u << 20) + 150000, "the writer's buffer has 4 MiB; the file's megabyte must not come on top");
    infer_source_close(&s);
}
