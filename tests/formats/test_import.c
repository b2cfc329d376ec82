/* Importers: what they read from good files, and what they say of bad ones. */
#include "check.h"
#include "samples.h"

#include "bytes.h"
#include "import/import.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static size_t find(const infer_source *s, const char *name)
{
    for (size_t i = 0; i < s->tensor_count; i++)
        if (strcmp(s->tensors[i].name, name) == 0)
            return i;
    cr_assert_fail("no tensor %s", name);
    return 0;
}

static void expect_failure(const sample *file, const char *name, infer_status status, const char *words)
{
    infer_error err = {0};
    infer_source s;
    memset(&s, 0x55, sizeof s);
    infer_status found = infer_source_open(NULL, sample_write(name, file->data, file->size), NULL, &s, &err);
    cr_assert_eq(found, status, "expected %s (%s), found %s: %s", infer_status_name(status), words, infer_status_name(found), err.message);
    cr_assert(strstr(err.message, words), "\"%s\" is not in: %s", words, err.message);
    cr_assert_eq(s.tensor_count, (size_t)0x5555555555555555, "out-parameter changed on failure");
}

/* ---- llama2.c ---- */

Test(llama2c, names_shapes_and_order)
{
    sample tokenizer = sample_tokenizer_bin();
    sample_write("tokenizer.bin", tokenizer.data, tokenizer.size);
    for (int shared = 0; shared < 2; shared++) {
        sample file = sample_llama2c(shared);
        infer_error err = {0};
        infer_source s;
        float x[96];
        cr_assert_eq(infer_source_open(NULL, sample_write("m.bin", file.data, file.size), NULL, &s, &err), INFER_OK, "%s", err.message);
        cr_assert_eq(s.tensor_count, shared ? 20 : 21);
        cr_assert_str_eq(s.importer->name, "llama2c");
        /* Offsets in floats, counted by hand: tok_embed 56, attn_norm 16, q 128, k 64, v 64, o 128, ffn_norm 16, gate 192, down 192, up
         * 192. */
        const struct {
            const char *name;
            uint64_t rows, cols, first;
        } expected[] = {{"tok_embed", 7, 8, 0},        {"layers.0.attn_norm", 1, 8, 56}, {"layers.1.attn_norm", 1, 8, 64},
                        {"layers.0.q", 8, 8, 72},      {"layers.1.q", 8, 8, 136},        {"layers.0.k", 4, 8, 200},
                        {"layers.1.v", 4, 8, 296},     {"layers.0.o", 8, 8, 328},        {"layers.1.ffn_norm", 1, 8, 464},
                        {"layers.0.gate", 12, 8, 472}, {"layers.1.down", 8, 12, 760},    {"layers.1.up", 12, 8, 952},
                        {"out_norm", 1, 8, 1048},      {"head", 7, 8, 1056 + 16}};
        for (size_t i = 0; i < sizeof expected / sizeof expected[0] - (size_t)shared; i++) {
            size_t t = find(&s, expected[i].name);
            cr_assert(s.tensors[t].rows == expected[i].rows && s.tensors[t].cols == expected[i].cols, "%s", expected[i].name);
            cr_assert_eq(s.tensors[t].matrix, expected[i].rows > 1);
            cr_assert_eq(s.importer->read_f32(&s, t, expected[i].rows - 1, 1, x, &err), INFER_OK);
            for (size_t c = 0; c < expected[i].cols; c++)
                expect_that(x[c] == sample_weight(expected[i].first + (expected[i].rows - 1) * expected[i].cols + c), "%s",
                            expected[i].name);
        }
        cr_assert_eq(s.importer->read_f32(&s, 0, 7, 1, x, &err), INFER_ERROR_ARGUMENT);
        cr_assert_eq(s.importer->read_f32(&s, 0, UINT64_MAX, 2, x, &err), INFER_ERROR_ARGUMENT);
        cr_assert_eq(s.importer->read_f32(&s, 99, 0, 1, x, &err), INFER_ERROR_ARGUMENT);
        infer_source_close(&s);
        sample_free(&file);
    }
    sample_free(&tokenizer);
}

Test(llama2c, truncated_at_every_byte)
{
    sample tokenizer = sample_tokenizer_bin(), file = sample_llama2c(true);
    sample_write("tokenizer.bin", tokenizer.data, tokenizer.size);
    for (size_t n = 0; n < file.size; n++) {
        infer_error err = {0};
        infer_source s;
        infer_status status = infer_source_open(NULL, sample_write("cut.bin", file.data, n), NULL, &s, &err);
        expect_that(status != INFER_OK && strstr(err.message, "cut.bin"), "cut to %zu bytes: %s", n, err.message);
    }
    sample_u8(&file, 0);
    expect_failure(&file, "long.bin", INFER_ERROR_FORMAT, "expected 4316");
    sample_free(&file);
    sample_free(&tokenizer);
}

Test(llama2c, header_out_of_range)
{
    static const int32_t bad[] = {0, -1, INT32_MIN, INT32_MAX};
    for (int field = 0; field < 7; field++)
        for (int i = 0; i < 4; i++) {
            sample file = sample_llama2c(true);
            if (field == 5 && bad[i] == -1)
                put_u32(file.data + 20, (uint32_t)-3); /* a negative vocabulary size is fine, its number of tokens is not */
            else
                put_u32(file.data + field * 4, (uint32_t)bad[i]);
            expect_failure(&file, "bad.bin", INFER_ERROR_FORMAT, "bad.bin");
            sample_free(&file);
        }
}

Test(llama2c, other_versions_are_named)
{
    for (uint32_t version = 0; version < 4; version++) {
        char words[32];
        sample s = {0};
        sample_u32(&s, 0x616b3432);
        sample_u32(&s, version);
        snprintf(words, sizeof words, version % 3 ? "8 bytes" : "version %u", version);
        expect_failure(&s, "later.bin", version % 3 ? INFER_ERROR_FORMAT : INFER_ERROR_UNSUPPORTED, words);
        sample_free(&s);
    }
}

Test(llama2c, tokenizer_must_fit)
{
    sample file = sample_llama2c(true), tokenizer = sample_tokenizer_bin();
    infer_error err = {0};
    infer_source s;
    expect_failure(&file, "alone.bin", INFER_ERROR_IO, "tokenizer");
    sample_f32(&tokenizer, 1);
    sample_u32(&tokenizer, 1);
    sample_u8(&tokenizer, 'x');
    cr_assert_eq(infer_source_open(NULL, sample_write("alone.bin", file.data, file.size), sample_write("t", tokenizer.data, tokenizer.size),
                                   &s, &err),
                 INFER_ERROR_FORMAT);
    cr_assert(strstr(err.message, "8 tokens, expected 7"), "%s", err.message);
    sample_write("tok7.bin", tokenizer.data, tokenizer.size - 9);
    cr_assert_eq(infer_source_open(NULL, sample_path("alone.bin"), NULL, &s, &err), INFER_OK, "found beside the checkpoint: %s",
                 err.message);
    infer_source_close(&s);
    sample_free(&file);
    sample_free(&tokenizer);
}

Test(llama2c, failing_allocations)
{
    sample tokenizer = sample_tokenizer_bin(), file = sample_llama2c(true);
    bool done = false;
    sample_write("tokenizer.bin", tokenizer.data, tokenizer.size);
    const char *path = sample_write("m.bin", file.data, file.size);
    for (size_t n = 1; !done; n++) {
        check_allocator c;
        infer_error err = {0};
        infer_source s = {0};
        check_allocator_init(&c, n);
        infer_status status = infer_source_open(&c.allocator, path, NULL, &s, &err);
        done = status == INFER_OK;
        cr_assert(done || status == INFER_ERROR_MEMORY, "%s", err.message);
        infer_source_close(&s);
        cr_assert_eq(c.live, 0, "allocation %zu", n);
        cr_assert_lt(n, 100);
    }
    sample_free(&file);
    sample_free(&tokenizer);
}

/* ---- bitllama ---- */

/* Number i of the sample's matrices, all of them one after the other, without its scale. */
static int ternary(size_t i)
{
    int bits = 157 * (int)(i / 4) >> 2 * (i % 4) & 3;
    return bits == 1 ? 1 : bits == 3 ? -1 : 0;
}

Test(bitllama, names_shapes_and_numbers)
{
    sample tokenizer = sample_tokenizer_bin(), file = sample_bitllama();
    /* First numbers, counted by hand through the matrices: q 2 x 64, k 2 x 32, v 2 x 32, o 2 x 64, gate 2 x 96, down 2 x 96, up. */
    static const struct {
        const char *name;
        uint64_t rows, cols;
        size_t first;
        float scale;
    } expected[] = {{"layers.0.q", 8, 8, 0, 0.5f},      {"layers.1.q", 8, 8, 64, 0.75f},    {"layers.1.k", 4, 8, 160, 1.75f},
                    {"layers.0.v", 4, 8, 192, 2.5f},    {"layers.1.o", 8, 8, 320, 3.75f},   {"layers.0.gate", 12, 8, 384, 4.5f},
                    {"layers.1.down", 8, 12, 672, 5.75f}, {"layers.1.up", 12, 8, 864, 6.75f}};
    static const struct {
        const char *name;
        uint64_t cols;
    } norms[] = {{"layers.0.attn_norm", 8}, {"layers.1.attn_sub_norm", 8}, {"layers.1.ffn_norm", 8}, {"layers.0.ffn_sub_norm", 12}};
    infer_error err = {0};
    infer_source s;
    float x[96];
    sample_write("tokenizer.bin", tokenizer.data, tokenizer.size);
    cr_assert_eq(infer_source_open(NULL, sample_write("bit.bin", file.data, file.size), NULL, &s, &err), INFER_OK, "%s", err.message);
    cr_assert_str_eq(s.importer->name, "bitllama");
    cr_assert_eq(s.tensor_count, 2 + 2 * 11);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        size_t t = find(&s, expected[i].name), cols = expected[i].cols;
        cr_assert(s.tensors[t].rows == expected[i].rows && s.tensors[t].cols == cols && s.tensors[t].stored == INFER_QTYPE_T2R, "%s", expected[i].name);
        for (uint64_t r = 0; r < expected[i].rows; r++) {
            cr_assert_eq(s.importer->read_f32(&s, t, r, 1, x, &err), INFER_OK);
            for (size_t c = 0; c < cols; c++)
                expect_that(x[c] == expected[i].scale * (float)ternary(expected[i].first + r * cols + c), "%s", expected[i].name);
        }
    }
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        size_t t = find(&s, norms[i].name);
        cr_assert(s.tensors[t].rows == 1 && s.tensors[t].cols == norms[i].cols && !s.tensors[t].matrix);
        cr_assert_eq(s.importer->read_f32(&s, t, 0, 1, x, &err), INFER_OK);
        for (size_t c = 0; c < norms[i].cols; c++)
            expect_that(x[c] == 1.0f / (float)norms[i].cols, "%s", norms[i].name);
    }
    cr_assert_eq(s.importer->read_f32(&s, find(&s, "out_norm"), 0, 1, x, &err), INFER_OK);
    cr_assert(x[0] == sample_weight(0) && x[7] == sample_weight(7));
    cr_assert_eq(s.tensors[find(&s, "tok_embed")].stored, INFER_QTYPE_F32);
    cr_assert_eq(s.importer->read_f32(&s, find(&s, "tok_embed"), 6, 1, x, &err), INFER_OK);
    cr_assert(x[0] == sample_weight(8 + 48) && x[7] == sample_weight(8 + 55));
    cr_assert_eq(s.importer->read_f32(&s, 0, 7, 1, x, &err), INFER_ERROR_ARGUMENT);
    infer_source_close(&s);
    sample_free(&file);
    sample_free(&tokenizer);
}

Test(bitllama, truncated_at_every_byte)
{
    sample tokenizer = sample_tokenizer_bin(), file = sample_bitllama();
    sample_write("tokenizer.bin", tokenizer.data, tokenizer.size);
    for (size_t n = 0; n < file.size; n++) {
        infer_error err = {0};
        infer_source s;
        infer_status status = infer_source_open(NULL, sample_write("cut.bin", file.data, n), NULL, &s, &err);
        expect_that(status != INFER_OK && strstr(err.message, n < 41 ? "cut.bin" : "expected 808 of a bitllama checkpoint"), "cut to %zu bytes: %s", n,
                    err.message);
    }
    sample_u8(&file, 0); /* now it is taken for a llama2.c checkpoint, which is larger with such a header */
    infer_error err = {0};
    infer_source s;
    cr_assert_neq(infer_source_open(NULL, sample_write("long.bin", file.data, file.size), NULL, &s, &err), INFER_OK);
    cr_assert(strstr(err.message, "long.bin"), "%s", err.message);
    sample_free(&file);
    sample_free(&tokenizer);
}

/* The file itself, not what finds it: a header that cannot be is not taken for this format. */
Test(bitllama, header_out_of_range)
{
    extern const infer_importer infer_importer_bitllama;
    static const uint32_t bad[] = {0, (uint32_t)-1, 0x80000000, 0x7fffffff};
    for (int field = 0; field < 7; field++)
        for (int i = 0; i < 4; i++) {
            sample file = sample_bitllama();
            infer_error err = {0};
            infer_source s = {0};
            put_u32(file.data + 8 + field * 4, bad[i]);
            const char *path = sample_write("bad.bin", file.data, file.size);
            cr_assert_eq(infer_importer_bitllama.open(path, NULL, &s, &err), field == 6 && i == 3 ? INFER_ERROR_IO : INFER_ERROR_FORMAT, "%s", err.message);
            cr_assert(strstr(err.message, "bad.bin"), "%s", err.message);
            cr_assert_neq(infer_source_open(NULL, path, NULL, &s, &err), INFER_OK);
            sample_free(&file);
        }
    sample file = sample_bitllama();
    infer_error err = {0};
    infer_source s = {0};
    file.data[36] = 0;
    cr_assert_eq(infer_importer_bitllama.open(sample_write("head.bin", file.data, file.size), NULL, &s, &err), INFER_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "a head of its own"), "%s", err.message);
    sample_free(&file);
}

Test(bitllama, failing_allocations)
{
    sample tokenizer = sample_tokenizer_bin(), file = sample_bitllama();
    bool done = false;
    sample_write("tokenizer.bin", tokenizer.data, tokenizer.size);
    const char *path = sample_write("bit.bin", file.data, file.size);
    for (size_t n = 1; !done; n++) {
        check_allocator c;
        infer_error err = {0};
        infer_source s = {0};
        check_allocator_init(&c, n);
        infer_status status = infer_source_open(&c.allocator, path, NULL, &s, &err);
        done = status == INFER_OK;
        cr_assert(done || status == INFER_ERROR_MEMORY, "%s", err.message);
        infer_source_close(&s);
        cr_assert_eq(c.live, 0, "allocation %zu", n);
        cr_assert_lt(n, 100);
    }
    sample_free(&file);
    sample_free(&tokenizer);
}

/* ---- GGUF ---- */

static sample model(uint32_t type)
{
    sample_gguf_parts p;
    sample_gguf_model(&p, type);
    return sample_gguf(&p);
}

Test(gguf, same_model_as_llama2c)
{
    sample tokenizer = sample_tokenizer_bin(), bin = sample_llama2c(true), gguf = model(0);
    infer_error err = {0};
    infer_source a, b;
    float x[16], y[16];
    sample_write("tokenizer.bin", tokenizer.data, tokenizer.size);
    cr_assert_eq(infer_source_open(NULL, sample_write("m.bin", bin.data, bin.size), NULL, &a, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_source_open(NULL, sample_write("m.gguf", gguf.data, gguf.size), NULL, &b, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(a.tensor_count, b.tensor_count);
    for (size_t i = 0; i < a.tensor_count; i++) {
        cr_assert_str_eq(a.tensors[i].name, b.tensors[i].name);
        cr_assert(a.tensors[i].rows == b.tensors[i].rows && a.tensors[i].cols == b.tensors[i].cols &&
                  a.tensors[i].matrix == b.tensors[i].matrix);
        for (uint64_t r = 0; r < a.tensors[i].rows; r++) {
            cr_assert_eq(a.importer->read_f32(&a, i, r, 1, x, &err), INFER_OK);
            cr_assert_eq(b.importer->read_f32(&b, i, r, 1, y, &err), INFER_OK);
            cr_assert_eq(memcmp(x, y, a.tensors[i].cols * sizeof(float)), 0, "%s", a.tensors[i].name);
        }
    }
    infer_source_close(&a);
    infer_source_close(&b);
    sample_free(&tokenizer);
    sample_free(&bin);
    sample_free(&gguf);
}

/* Independent arithmetic on the bytes that the sample holds. */
static double half(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double v = exponent ? ldexp(1024 + (h & 1023), exponent - 25) : ldexp(h & 1023, -24);
    return h & 0x8000 ? -v : v;
}

Test(gguf, number_types)
{
    static const struct {
        uint32_t type;
        infer_qtype stored;
    } cases[] = {{1, INFER_QTYPE_F16}, {30, INFER_QTYPE_BF16}, {8, INFER_QTYPE_Q8G32}, {2, INFER_QTYPE_Q4G32}};
    for (size_t k = 0; k < 4; k++) {
        sample file = model(cases[k].type);
        infer_error err = {0};
        infer_source s;
        float x[64];
        int8_t codes[64];
        uint16_t scales[2];
        cr_assert_eq(infer_source_open(NULL, sample_write("m.gguf", file.data, file.size), NULL, &s, &err), INFER_OK, "%s", err.message);
        size_t t = find(&s, "tok_embed"), cols = s.tensors[t].cols;
        cr_assert_eq(s.tensors[t].stored, cases[k].stored);
        /* The token embedding is the first of the data: it begins where all the data that follows, padded to 32, leaves off. */
        size_t row_bytes = cases[k].type == 8 ? 34 : cases[k].type == 2 ? 18 : cols * 2, at;
        uint64_t rest = 0;
        for (size_t i = 0; i < s.tensor_count; i++) {
            uint64_t n = s.tensors[i].rows * s.tensors[i].cols;
            uint64_t bytes = !s.tensors[i].matrix ? n * 4 : cases[k].type == 8 ? n / 32 * 34 : cases[k].type == 2 ? n / 32 * 18 : n * 2;
            rest += i == find(&s, "out_norm") ? bytes : (bytes + 31) / 32 * 32; /* the file ends with out_norm */
        }
        at = file.size - rest;
        cr_assert_eq(at % 32, 0);
        for (uint64_t r = 0; r < 7; r++) {
            const uint8_t *p = file.data + at + r * row_bytes;
            cr_assert_eq(s.importer->read_f32(&s, t, r, 1, x, &err), INFER_OK);
            if (cases[k].type == 8 || cases[k].type == 2) {
                cr_assert_eq(s.importer->read_codes(&s, t, r, 1, codes, scales, &err), INFER_OK);
                cr_assert_eq(scales[0], get_u16(p));
            } else {
                cr_assert_eq(s.importer->read_codes(&s, t, r, 1, codes, scales, &err), INFER_ERROR_ARGUMENT);
            }
            for (size_t c = 0; c < cols; c++) {
                int code = cases[k].type == 8 ? (int8_t)p[2 + c] : ((c < 16 ? p[2 + c] & 15 : p[2 + c - 16] >> 4) - 8);
                uint32_t bits = (uint32_t)get_u16(p + 2 * (cols == 8 ? c : 0)) << 16;
                float b;
                memcpy(&b, &bits, sizeof b);
                double expected = cases[k].type == 1 ? half(get_u16(p + 2 * c)) : cases[k].type == 30 ? b : half(get_u16(p)) * code;
                expect_that(x[c] == (float)expected, "type %u row %u col %zu", cases[k].type, (unsigned)r, c);
                if (cases[k].type == 8 || cases[k].type == 2)
                    expect_that(codes[c] == code, "type %u row %u col %zu", cases[k].type, (unsigned)r, c);
            }
        }
        infer_source_close(&s);
        sample_free(&file);
    }
}

Test(gguf, truncated_at_every_byte)
{
    sample file = model(0);
    for (size_t n = 0; n < file.size; n++) {
        infer_error err = {0};
        infer_source s;
        infer_status status = infer_source_open(NULL, sample_write("cut.gguf", file.data, n), NULL, &s, &err);
        expect_that(status != INFER_OK && strstr(err.message, "cut.gguf"), "cut to %zu bytes: %s", n, err.message);
    }
    sample_free(&file);
}

/* Every bit of everything before the tensor data: an error or a model, never a crash. */
Test(gguf, every_flipped_bit_is_survived)
{
    sample file = model(0);
    size_t head = file.size - 1056 * sizeof(float) - 18 * 32; /* about where the data begins */
    const char *path = sample_write("flip.gguf", file.data, file.size);
    FILE *f = fopen(path, "r+b");
    cr_assert(f);
    setvbuf(f, NULL, _IONBF, 0);
    for (size_t bit = 0; bit < head * 8; bit++) {
        infer_error err = {0};
        infer_source s;
        fseek(f, (long)(bit / 8), SEEK_SET);
        fputc(file.data[bit / 8] ^ (1 << bit % 8), f);
        if (infer_source_open(NULL, path, NULL, &s, &err) == INFER_OK)
            infer_source_close(&s);
        else
            expect_that(err.message[0], "bit %zu of byte %zu", bit % 8, bit / 8);
        fseek(f, (long)(bit / 8), SEEK_SET);
        fputc(file.data[bit / 8], f);
    }
    fclose(f);
    sample_free(&file);
}

Test(gguf, bad_containers)
{
    const struct {
        uint32_t version;
        uint64_t tensors, values;
        infer_status status;
        const char *words;
    } cases[] = {
        {1, 0, 0, INFER_ERROR_UNSUPPORTED, "version 1"},
        {4, 0, 0, INFER_ERROR_UNSUPPORTED, "version 4"},
        {0x03000000, 0, 0, INFER_ERROR_UNSUPPORTED, "big-endian"},
        {3, UINT64_MAX, 0, INFER_ERROR_FORMAT, "tensors: found"},
        {3, 65536, 0, INFER_ERROR_FORMAT, "tensors: found"},
        {3, 21, 0, INFER_ERROR_FORMAT, "bad.gguf"},
        {3, 0, UINT64_MAX, INFER_ERROR_FORMAT, "metadata keys: found"},
        {3, 0, 13, INFER_ERROR_FORMAT, "bad.gguf"},
        {3, 0, 11, INFER_ERROR_FORMAT, "bad.gguf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sample_gguf_parts p;
        sample_gguf_model(&p, 0);
        p.version = cases[i].version;
        p.tensor_count = cases[i].tensors;
        p.value_count = cases[i].values;
        sample file = sample_gguf(&p);
        expect_failure(&file, "bad.gguf", cases[i].status, cases[i].words);
        sample_free(&file);
    }
}

Test(gguf, bad_values)
{
    for (int i = 0; i < 12; i++) {
        static const char *const words[] = {"needs 18446744073709551615 bytes",
                                            "unknown value type 13",
                                            "appears twice",
                                            "unknown type 99",
                                            "nested",
                                            "needs",
                                            "expected 1 to 65535",
                                            "alignment",
                                            "alignment",
                                            "needs",
                                            "needs",
                                            "general.name"};
        sample_gguf_parts p;
        sample_gguf_model(&p, 0);
        sample *v = &p.values;
        p.values_added++;
        switch (i) {
        case 0: sample_gguf_string(v, "k"), sample_u32(v, 8), sample_u64(v, UINT64_MAX); break;
        case 1: sample_gguf_string(v, "k"), sample_u32(v, 13), sample_u64(v, 0); break;
        case 2: sample_gguf_string(v, "llama.block_count"), sample_u32(v, 4), sample_u32(v, 2); break;
        case 3: sample_gguf_string(v, "k"), sample_u32(v, 9), sample_u32(v, 99), sample_u64(v, 0); break;
        case 4:
            sample_gguf_string(v, "k"), sample_u32(v, 9);
            for (int depth = 0; depth < 50; depth++)
                sample_u32(v, 9), sample_u64(v, 1);
            break;
        case 5: sample_gguf_string(v, "k"), sample_u32(v, 9), sample_u32(v, 10), sample_u64(v, 1ull << 61); break;
        case 6: sample_gguf_string(v, ""), sample_u32(v, 4), sample_u32(v, 0); break;
        case 7: sample_gguf_string(v, "general.alignment"), sample_u32(v, 4), sample_u32(v, 0); break;
        case 8: sample_gguf_string(v, "general.alignment"), sample_u32(v, 4), sample_u32(v, 33); break;
        case 9: sample_gguf_string(v, "k"), sample_u32(v, 9), sample_u32(v, 8), sample_u64(v, UINT64_MAX); break;
        case 10: sample_gguf_string(v, "k"), sample_u32(v, 9), sample_u32(v, 0), sample_u64(v, UINT64_MAX); break;
        case 11: sample_gguf_string(v, "general.name"), sample_u32(v, 4), sample_u32(v, 0); break;
        }
        sample file = sample_gguf(&p);
        expect_failure(&file, "bad.gguf", INFER_ERROR_FORMAT, words[i]);
        sample_free(&file);
    }
}

Test(gguf, bad_hyperparameters)
{
    static const struct {
        const char *key;
        uint32_t value;
        const char *words;
    } cases[] = {
        {"llama.block_count", 0, "layers: found 0"},
        {"llama.block_count", 3, "blk.2."},
        {"llama.block_count", 1, "blk.1.attn_norm.weight has no place"},
        {"llama.block_count", UINT32_MAX, "llama.block_count"},
        {"llama.attention.head_count", 0, "heads"},
        {"llama.attention.head_count_kv", 0, "KV heads: found 0"},
        {"llama.attention.head_count_kv", 3, "KV heads: found 3"},
        {"llama.embedding_length", 0, "dimension: found 0"},
        {"llama.embedding_length", 16, "expected"},
        {"llama.feed_forward_length", 13, "expected"},
        {"llama.context_length", 0, "context"},
        {"llama.context_length", UINT32_MAX, "context"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sample file = model(0);
        uint8_t *at = NULL;
        for (size_t j = 0; !at && j + strlen(cases[i].key) < file.size; j++)
            if (get_u64(file.data + j) == strlen(cases[i].key) && memcmp(file.data + j + 8, cases[i].key, strlen(cases[i].key)) == 0)
                at = file.data + j + 8 + strlen(cases[i].key) + 4;
        cr_assert(at);
        put_u32(at, cases[i].value);
        infer_error err = {0};
        infer_source s;
        cr_assert_neq(infer_source_open(NULL, sample_write("bad.gguf", file.data, file.size), NULL, &s, &err), INFER_OK, "%s",
                      cases[i].key);
        cr_assert(strstr(err.message, cases[i].words), "\"%s\" is not in: %s", cases[i].words, err.message);
        sample_free(&file);
    }
}

Test(gguf, bad_tensors)
{
    for (int i = 0; i < 9; i++) {
        static const char *const words[] = {"IQ1_S (19)",    "unknown (77)",         "attn_q.bias has no place",
                                            "rows of 33",    "name of 0 bytes",      "missing",
                                            "appears twice", "dimension 0: found 0", "token_embd.weight is missing"};
        sample_gguf_parts p;
        infer_error err = {0};
        infer_source s;
        sample_gguf_model(&p, 0);
        switch (i) {
        case 0: p.tensors[3].type = 19; break;
        case 1: p.tensors[3].type = 77; break;
        case 2: sample_gguf_tensor_add(&p, "blk.0.attn_q.bias", 8, 0, 0); break;
        case 3: sample_gguf_tensor_add(&p, "x", 33, 1, 8); break;
        case 4: p.tensors[3].name[0] = '\0'; break;
        case 5: strcpy(p.tensors[3].name, "blk.0.something.weight"); break;
        case 6: strcpy(p.tensors[3].name, p.tensors[4].name); break;
        case 7: sample_gguf_tensor_add(&p, "x", 0, 1, 0); break;
        case 8: p.tensors[0].name[0] = 'T'; break;
        }
        sample file = sample_gguf(&p);
        cr_assert_neq(infer_source_open(NULL, sample_write("bad.gguf", file.data, file.size), NULL, &s, &err), INFER_OK, "case %d", i);
        cr_assert(strstr(err.message, words[i]), "\"%s\" is not in: %s", words[i], err.message);
        sample_free(&file);
    }
}

/* The second tensor's offset: into the first, beyond the end, unaligned. */
Test(gguf, bad_offsets)
{
    static const uint64_t offsets[] = {0, 32, 1, UINT64_MAX, 1ull << 40};
    for (size_t i = 0; i < 5; i++) {
        sample file = model(0);
        static const char name[] = "blk.0.attn_norm.weight";
        size_t at = 0;
        while (memcmp(file.data + at, name, sizeof name - 1) != 0)
            at++;
        put_u64(file.data + at + sizeof name - 1 + 4 + 8 + 4, offsets[i]);
        expect_failure(&file, "bad.gguf", INFER_ERROR_FORMAT, "blk.0.attn_norm.weight: offset");
        sample_free(&file);
    }
}

Test(gguf, other_architectures_are_named)
{
    sample_gguf_parts p = {.version = 3};
    sample_gguf_key_string(&p, "general.architecture", "mamba");
    sample file = sample_gguf(&p);
    expect_failure(&file, "mamba.gguf", INFER_ERROR_UNSUPPORTED, "\"mamba\"");
    sample_free(&file);
}

Test(gguf, head_that_repeats_the_embedding_is_stored_once)
{
    for (int differs = 0; differs < 2; differs++) {
        sample_gguf_parts p;
        infer_error err = {0};
        infer_source s;
        sample_gguf_model(&p, 0);
        sample_gguf_tensor_add(&p, "output.weight", 8, 7, 0);
        p.tensors[p.tensors_added - 1].first = (size_t)differs;
        sample file = sample_gguf(&p);
        cr_assert_eq(infer_source_open(NULL, sample_write("m.gguf", file.data, file.size), NULL, &s, &err), INFER_OK, "%s", err.message);
        cr_assert_eq(s.tensor_count, differs ? 21 : 20);
        cr_assert(strstr(s.metadata, differs ? "\"tied_head\":false" : "\"tied_head\":true"), "%s", s.metadata);
        infer_source_close(&s);
        sample_free(&file);
    }
}

Test(gguf, failing_allocations)
{
    sample file = model(8);
    const char *path = sample_write("m.gguf", file.data, file.size);
    bool done = false;
    for (size_t n = 1; !done; n++) {
        check_allocator c;
        infer_error err = {0};
        infer_source s = {0};
        check_allocator_init(&c, n);
        infer_status status = infer_source_open(&c.allocator, path, NULL, &s, &err);
        done = status == INFER_OK;
        cr_assert(done || status == INFER_ERROR_MEMORY, "%s", err.message);
        infer_source_close(&s);
        cr_assert_eq(c.live, 0, "allocation %zu", n);
        cr_assert_lt(n, 100);
    }
    sample_free(&file);
}

/* The model with its last ten tensors in a second file, opened by that. */
Test(gguf, failing_allocations_of_a_split_model)
{
    static const char *const names[] = {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"};
    const char *path = NULL;
    sample_gguf_parts p[2];
    bool done = false;

    sample_gguf_model(&p[0], 8);
    p[1] = (sample_gguf_parts){.version = 3, .tensors_added = 10};
    p[0].tensors_added -= 10;
    memcpy(p[1].tensors, p[0].tensors + p[0].tensors_added, 10 * sizeof p[1].tensors[0]);
    for (uint32_t i = 0; i < 2; i++) {
        sample_gguf_key_u32(&p[i], "split.no", i);
        sample_gguf_key_u32(&p[i], "split.count", 2);
        sample_gguf_key_u32(&p[i], "split.tensors.count", 20);
    }
    for (int i = 0; i < 2; i++) {
        sample file = sample_gguf(&p[i]);
        path = sample_write(names[i], file.data, file.size);
        sample_free(&file);
    }
    for (size_t n = 1; !done; n++) {
        check_allocator c;
        infer_error err = {0};
        infer_source s = {0};
        check_allocator_init(&c, n);
        infer_status status = infer_source_open(&c.allocator, path, NULL, &s, &err);
        done = status == INFER_OK;
        cr_assert(done || status == INFER_ERROR_MEMORY, "%s", err.message);
        infer_source_close(&s);
        cr_assert_eq(c.live, 0, "allocation %zu", n);
        cr_assert_lt(n, 100);
    }
}

/* ---- all of them ---- */

Test(importers, every_one_describes_itself)
{
    for (const infer_importer *const *i = infer_importers; *i; i++)
        cr_assert((*i)->name && (*i)->description && (*i)->probe && (*i)->open && (*i)->read_f32 && (*i)->close);
}

/* Row of a Hugging Face q or k that is row r of llama.cpp's, where the two numbers of a rotary pair are neighbours. */
static uint64_t row_of_halves(uint64_t r, uint64_t head)
{
    uint64_t i = r % head;
    return r - i + i / 2 + i % 2 * (head / 2);
}

/* ggml's Q8_0: scale = largest magnitude / 127 as fp16, code = number / that scale before it became fp16, halves away from 0. */
static void expect_q8_0(const char *name, const float *x, const int8_t *codes, uint16_t scale)
{
    float most = 0, step;
    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[i]));
    step = most / 127;
    expect_that(fabsf(half_to_float(scale) - step) <= step * 0x1p-11f, "%s: scale %g, expected %g", name, (double)half_to_float(scale), (double)step);
    for (int i = 0; i < 32; i++)
        expect_that(codes[i] == (int8_t)roundf(x[i] * (step != 0 ? 1 / step : 0)), "%s: code %d of %g", name, codes[i], (double)(x[i] / step));
}

Test(importers, folder_and_gguf_hold_the_same_numbers)
{
    const char *folder = check_data("models/tinystories-656K/config.json") ? check_data("models/tinystories-656K") : NULL,
               *gguf = check_data("models/tinystories-656K/TinyStories-656K-Q8_0.gguf");
    infer_error err = {0};
    infer_source a, b;
    float x[384], y[384];
    int8_t codes[384];
    uint16_t scales[12];
    if (!folder || !gguf)
        cr_skip_test("test data is absent");
    cr_assert_eq(infer_source_open(NULL, folder, NULL, &a, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_source_open(NULL, gguf, NULL, &b, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(a.tensor_count, b.tensor_count);
    for (size_t t = 0; t < a.tensor_count; t++) {
        const infer_source_tensor *ours = &a.tensors[t], *theirs = &b.tensors[t];
        bool rotary = strstr(ours->name, ".q") || strstr(ours->name, ".k");
        cr_assert_str_eq(ours->name, theirs->name);
        cr_assert(ours->rows == theirs->rows && ours->cols == theirs->cols && ours->cols <= 384, "%s", ours->name);
        for (uint64_t r = 0; r < ours->rows; r++) {
            cr_assert_eq(a.importer->read_f32(&a, t, rotary ? row_of_halves(r, 16) : r, 1, x, &err), INFER_OK);
            cr_assert_eq(b.importer->read_f32(&b, t, r, 1, y, &err), INFER_OK);
            if (theirs->stored != INFER_QTYPE_Q8G32) {
                expect_that(memcmp(x, y, ours->cols * sizeof *x) == 0, "%s", ours->name);
                continue;
            }
            cr_assert_eq(b.importer->read_codes(&b, t, r, 1, codes, scales, &err), INFER_OK);
            for (uint64_t c = 0; c < ours->cols; c += 32)
                expect_q8_0(ours->name, x + c, codes + c, scales[c / 32]);
        }
    }
    infer_source_close(&a);
    infer_source_close(&b);
}

Test(importers, what_is_no_model)
{
    infer_error err = {0};
    infer_source s;
    cr_assert_eq(infer_source_open(NULL, sample_path("missing.gguf"), NULL, &s, &err), INFER_ERROR_IO);
    cr_assert_eq(infer_source_open(NULL, "/tmp", NULL, &s, &err), INFER_ERROR_IO);
    cr_assert(strstr(err.message, "directory"));
    cr_assert_eq(infer_source_open(NULL, sample_write("empty.gguf", "", 0), NULL, &s, &err), INFER_ERROR_FORMAT);
    cr_assert(strstr(err.message, "empty"));
    cr_assert_eq(infer_source_open(NULL, sample_write("x.txt", "hello", 5), NULL, &s, &err), INFER_ERROR_FORMAT);
    cr_assert(strstr(err.message, "infer, gguf, hf, bitllama, llama2c"), "%s", err.message);
    infer_source_close(NULL);
}
