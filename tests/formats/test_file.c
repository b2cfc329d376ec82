/* Reader and writer of .infer files: good ones, broken ones, and full disks of errors. */
#include "check.h"
#include "samples.h"

#include "bytes.h"
#include "file.h"
#include "layout.h"
#include "pack/pack.h"
#include "sparse.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* INFER_OK when everything in the file is right: structure and all hashes. */
static infer_status check_all(const char *path, infer_error *err)
{
    infer_file *f = NULL;
    infer_status s = infer_file_open(NULL, path, &f, err);
    if (s != INFER_OK) {
        expect_that(!f, "out-parameter changed on failure");
        return s;
    }
    for (size_t i = 0; i < infer_file_tensor_count(f) && s == INFER_OK; i++)
        s = infer_file_verify(f, infer_file_tensor(f, i), err);
    infer_file_close(f);
    return s;
}

static void expect(const sample *s, infer_status status, const char *words)
{
    infer_error err = {0};
    const char *path = sample_write("case.infer", s->data, s->size);
    infer_status found = check_all(path, &err);
    cr_assert_eq(found, status, "expected %s, found %s: %s", infer_status_name(status), infer_status_name(found), err.message);
    cr_assert(strstr(err.message, words), "\"%s\" is not in: %s", words, err.message);
    cr_assert(strstr(err.message, "case.infer"), "no file name in: %s", err.message);
    cr_assert_null(strchr(err.message, '\n'));
}

Test(file, reads_back)
{
    sample s = sample_infer();
    const char *path = sample_write("good.infer", s.data, s.size);
    infer_error err = {0};
    infer_file *f;
    const infer_tensor_info *t;
    size_t vocab_bytes;
    float x;

    cr_assert_eq(infer_file_open(NULL, path, &f, &err), INFER_OK, "%s", err.message);
    cr_assert_str_eq(infer_file_path(f), path);
    cr_assert_eq(infer_file_bytes(f), s.size);
    cr_assert_str_eq(infer_file_metadata(f), "{\"architecture\":\"none\"}");
    infer_file_vocab(f, &vocab_bytes);
    cr_assert_gt(vocab_bytes, 36);
    cr_assert_eq(infer_file_tensor_count(f), 3);
    cr_assert_null(infer_file_tensor(f, 3));
    cr_assert_null(infer_file_find(f, "nothing"));
    cr_assert_null(infer_file_find(f, ""));
    t = infer_file_find(f, "w");
    cr_assert_eq(t, infer_file_tensor(f, 1));
    cr_assert_eq(t->type, INFER_QTYPE_Q8G32);
    cr_assert_eq(t->layout, INFER_LAYOUT_TILE16X4);
    cr_assert(t->rows == 17 && t->cols == 33 && t->bytes == 2176 && t->offset % 64 == 0);
    t = infer_file_find(f, "norm");
    for (size_t i = 0; i < 5; i++) {
        memcpy(&x, (const char *)infer_file_data(f, t) + i * 4, sizeof x);
        cr_assert_eq(x, sample_weight(i));
    }
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(infer_file_verify(f, infer_file_tensor(f, i), &err), INFER_OK, "%s", err.message);
    infer_file_close(f);
    sample_free(&s);
}

Test(file, without_tensors_and_tokenizer)
{
    const infer_writer_options options = {.metadata = "{}"};
    const char *path = sample_path("empty.infer");
    infer_error err = {0};
    infer_writer *w;
    infer_file *f;
    size_t vocab_bytes = 1;

    cr_assert_eq(infer_writer_create(NULL, path, &options, &w, &err), INFER_OK);
    cr_assert_eq(infer_writer_finish(w, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_file_open(NULL, path, &f, &err), INFER_OK, "%s", err.message);
    infer_file_vocab(f, &vocab_bytes);
    cr_assert_eq(vocab_bytes, 0);
    cr_assert_eq(infer_file_tensor_count(f), 0);
    cr_assert_null(infer_file_find(f, "x"));
    infer_file_close(f);
}

Test(file, truncated_at_every_byte)
{
    sample s = sample_infer();
    for (size_t n = 0; n < s.size; n++) {
        infer_error err = {0};
        expect_that(check_all(sample_write("cut.infer", s.data, n), &err) != INFER_OK && err.message[0], "cut to %zu bytes", n);
    }
    sample_free(&s);
}

Test(file, longer_than_stated)
{
    sample s = sample_infer();
    sample_u8(&s, 0);
    expect(&s, INFER_ERROR_FORMAT, "header says");
    sample_free(&s);
}

Test(file, every_flipped_bit)
{
    sample s = sample_infer();
    const char *path = sample_write("flip.infer", s.data, s.size);
    FILE *f = fopen(path, "r+b");
    cr_assert(f);
    setvbuf(f, NULL, _IONBF, 0);
    for (size_t bit = 0; bit < s.size * 8; bit++) {
        infer_error err = {0};
        uint8_t byte = s.data[bit / 8] ^ (uint8_t)(1u << bit % 8);
        fseek(f, (long)(bit / 8), SEEK_SET);
        fputc(byte, f);
        expect_that(check_all(path, &err) != INFER_OK && err.message[0], "bit %zu of byte %zu", bit % 8, bit / 8);
        fseek(f, (long)(bit / 8), SEEK_SET);
        fputc(s.data[bit / 8], f);
    }
    fclose(f);
    sample_free(&s);
}

/* Flipped bits behind right hashes: an error or not, but never a crash. Nothing outside the tensors may go unseen by a later hash. */
Test(file, every_flipped_bit_with_right_hashes)
{
    sample s = sample_infer();
    uint64_t data_offset = get_u64(s.data + HEADER_DATA_OFFSET);
    for (size_t bit = 0; bit < data_offset * 8; bit++) {
        sample copy = {0};
        infer_error err = {0};
        sample_add(&copy, s.data, s.size);
        copy.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        sample_infer_seal(&copy);
        infer_status status = check_all(sample_write("sealed.infer", copy.data, copy.size), &err);
        expect_that(status == INFER_OK || err.message[0], "bit %zu of byte %zu", bit % 8, bit / 8);
        sample_free(&copy);
    }
    sample_free(&s);
}

typedef struct change {
    size_t at;
    int bytes;
    uint64_t value;
    infer_status status;
    const char *words;
} change;

static void expect_changes(const change *changes, size_t count, uint64_t base)
{
    for (size_t i = 0; i < count; i++) {
        sample s = sample_infer();
        cr_assert_leq(base + changes[i].at + (size_t)changes[i].bytes, s.size);
        memcpy(s.data + base + changes[i].at, &changes[i].value, (size_t)changes[i].bytes);
        sample_infer_seal(&s);
        expect(&s, changes[i].status, changes[i].words);
        sample_free(&s);
    }
}

Test(file, header_fields_out_of_range)
{
    static const change changes[] = {
        {0, 1, 0x88, INFER_ERROR_FORMAT, "not an .infer file"},
        {HEADER_VERSION, 4, 0, INFER_ERROR_UNSUPPORTED, "version 0"},
        {HEADER_VERSION, 4, 2, INFER_ERROR_UNSUPPORTED, "version 2"},
        {HEADER_BYTES_FIELD, 4, 127, INFER_ERROR_FORMAT, "header bytes: found 127, expected 128"},
        {HEADER_FILE_BYTES, 8, 1, INFER_ERROR_FORMAT, "header says 1"},
        {HEADER_FILE_BYTES, 8, UINT64_MAX, INFER_ERROR_FORMAT, "the end is missing"},
        {HEADER_META_OFFSET, 8, 64, INFER_ERROR_FORMAT, "metadata offset: found 64, expected 128"},
        {HEADER_META_BYTES, 8, 0, INFER_ERROR_FORMAT, "metadata bytes: found 0"},
        {HEADER_META_BYTES, 8, UINT64_MAX, INFER_ERROR_FORMAT, "metadata bytes"},
        {HEADER_META_BYTES, 8, 1000, INFER_ERROR_FORMAT, "tokenizer offset"},
        {HEADER_VOCAB_OFFSET, 8, 0, INFER_ERROR_FORMAT, "tokenizer offset: found 0"},
        {HEADER_VOCAB_BYTES, 8, UINT64_MAX - 100, INFER_ERROR_FORMAT, "tokenizer bytes"},
        {HEADER_VOCAB_BYTES, 8, 100000, INFER_ERROR_FORMAT, "directory offset"},
        {HEADER_DIR_OFFSET, 8, UINT64_MAX, INFER_ERROR_FORMAT, "directory offset"},
        {HEADER_DIR_BYTES, 8, 0, INFER_ERROR_FORMAT, "directory bytes: found 0"},
        {HEADER_DIR_BYTES, 8, UINT64_MAX, INFER_ERROR_FORMAT, "directory bytes"},
        {HEADER_DIR_BYTES, 8, 3 * 304 + 1, INFER_ERROR_FORMAT, "directory bytes"},
        {HEADER_DIR_BYTES, 8, 900, INFER_ERROR_FORMAT, "data offset"},
        {HEADER_DATA_OFFSET, 8, 0, INFER_ERROR_FORMAT, "data offset: found 0"},
        {HEADER_TENSORS, 4, 2, INFER_ERROR_FORMAT, "tensor 0: byte 0x00 in its name"},
        {HEADER_TENSORS, 4, 4, INFER_ERROR_FORMAT, "directory bytes"},
        {HEADER_TENSORS, 4, UINT32_MAX, INFER_ERROR_FORMAT, "tensors: found 4294967295"},
        {HEADER_FLAGS, 4, 1, INFER_ERROR_UNSUPPORTED, "flags 0x1"},
        {HEADER_RESERVED, 8, 1, INFER_ERROR_FORMAT, "reserved"},
    };
    expect_changes(changes, sizeof changes / sizeof changes[0], 0);
}

/* The layouts whose sizes and places depend on what is kept: what infer_sparse_check finds, through the reader. */
Test(file, sparse)
{
    static const struct {
        const char *name;
        size_t at;
        int bytes;
        uint64_t value;
        const char *words;
    } changes[] = {
        {"a", 0, 4, 1, "pointer 0: found 1, expected 0"},
        {"a", 4, 4, 1, "pointer 1: found 1, expected 2"},
        {"a", 8, 4, 3, "bytes for the last pointer 2"},
        {"a", 8, 4, UINT32_MAX, "bytes for the last pointer 2"},
        {"a", 64, 1, 0, "pointer 1: found 2, expected 1"},
        {"a", 64, 1, 65, "inputs kept in block 0: found 65, expected 64"},
        {"a", 66, 1, 5, "pointer 2: found 2, expected 4"},
        {"b", 65, 1, 7, "inputs kept in block 1: found 7, expected 6"},
        {"b", 129, 1, 1, "input 1: found 1, expected 2"},
        {"b", 132, 1, 6, "input 4: found 6, expected 4"},
        {"c", 66, 2, 0xffff, "positions beyond the inputs in block 1: found 65535, expected 3"},
        {"d", 64, 2, 3, "pointer 1: found 3, expected 4"},
        {"e", 4, 4, 200, "pointer 1: found 200, expected 0"},
        {"e", 8, 4, 0, "pointer 2: found 0, expected 5"},
        {"e", 130, 2, 1, "input 1: found 1, expected 2"},
        {"f", 136, 2, 70, "input 4: found 70, expected 68"},
    };
    sample s = sample_sparse();
    const char *path = sample_write("sparse.infer", s.data, s.size);
    infer_error err = {0};
    infer_file *f;
    float rows[20 * 70], back[20 * 70];

    sample_sparse_rows(rows);
    cr_assert_eq(infer_file_open(NULL, path, &f, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(infer_file_find(f, "b")->bytes, 384); /* the examples of SPEC.md */
    cr_assert_eq(infer_file_find(f, "d")->bytes, 352);
    for (size_t i = 0; i < 6; i++) {
        const infer_tensor_info *t = infer_file_tensor(f, i);
        cr_assert_eq(infer_file_verify(f, t, &err), INFER_OK, "%s", err.message);
        infer_sparse_unpack(t->type, t->layout, infer_file_data(f, t), 20, 70, 0, 20, back);
        for (size_t j = 0; j < 20 * 70; j++)
            cr_assert(rows[j] == 0 ? back[j] == 0 : back[j] - rows[j] < 0.13f && rows[j] - back[j] < 0.13f);
    }
    infer_file_close(f);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        sample copy = {0};
        const infer_tensor_info *t;
        uint8_t *data;
        sample_add(&copy, s.data, s.size);
        cr_assert_eq(infer_file_open(NULL, path, &f, &err), INFER_OK);
        t = infer_file_find(f, changes[i].name);
        data = copy.data + t->offset;
        memcpy(data + changes[i].at, &changes[i].value, (size_t)changes[i].bytes);
        put_u64(copy.data + get_u64(copy.data + HEADER_DIR_OFFSET) + (uint64_t)(changes[i].name[0] - 'a') * ENTRY_BYTES + ENTRY_HASH, XXH3_64bits(data, t->bytes));
        infer_file_close(f);
        sample_infer_seal(&copy);
        expect(&copy, INFER_ERROR_CORRUPT, changes[i].words);
        sample_free(&copy);
    }
    sample_free(&s);
}

Test(file, sections_beyond_the_end)
{
    sample s = sample_infer();
    /* The tokenizer and everything after it move beyond the end of the file, in step. */
    put_u64(s.data + HEADER_VOCAB_BYTES, 1u << 20);
    put_u64(s.data + HEADER_DIR_OFFSET, align_up(get_u64(s.data + HEADER_VOCAB_OFFSET) + (1u << 20)));
    put_u64(s.data + HEADER_DATA_OFFSET, align_up(get_u64(s.data + HEADER_DIR_OFFSET) + get_u64(s.data + HEADER_DIR_BYTES)));
    sample_infer_seal(&s);
    expect(&s, INFER_ERROR_FORMAT, "beyond the file's");
    sample_free(&s);
}

Test(file, directory_entries_out_of_range)
{
    static const change changes[] = {
        {ENTRY_OFFSET, 8, 0, INFER_ERROR_FORMAT, "norm: offset: found 0"},
        {ENTRY_OFFSET, 8, UINT64_MAX, INFER_ERROR_FORMAT, "norm: offset"},
        {ENTRY_BYTES + ENTRY_OFFSET, 8, 512, INFER_ERROR_FORMAT, "w: offset"},
        {ENTRY_BYTES_FIELD, 8, 24, INFER_ERROR_FORMAT, "norm: bytes: found 24, expected 20"},
        {ENTRY_BYTES_FIELD, 8, UINT64_MAX, INFER_ERROR_FORMAT, "norm: bytes"},
        {ENTRY_ROWS, 8, 0, INFER_ERROR_FORMAT, "norm: shape [0][5]"},
        {ENTRY_ROWS, 8, UINT64_MAX, INFER_ERROR_FORMAT, "norm: shape"},
        {ENTRY_COLS, 8, 0, INFER_ERROR_FORMAT, "norm: shape [1][0]"},
        {ENTRY_COLS, 8, (1u << 30) + 1, INFER_ERROR_FORMAT, "norm: shape"},
        {ENTRY_HASH, 8, 1, INFER_ERROR_CORRUPT, "tensor norm"},
        {ENTRY_NAME_OFFSET, 4, 1, INFER_ERROR_FORMAT, "tensor 0: name offset: found 1, expected 0"},
        {ENTRY_BYTES + ENTRY_NAME_OFFSET, 4, 0, INFER_ERROR_FORMAT, "tensor 1: name offset: found 0, expected 5"},
        {ENTRY_NAME_BYTES, 2, 0, INFER_ERROR_FORMAT, "tensor 0: name of 0 bytes"},
        {ENTRY_NAME_BYTES, 2, 256, INFER_ERROR_FORMAT, "tensor 0: name of 256 bytes"},
        {ENTRY_NAME_BYTES, 2, 65535, INFER_ERROR_FORMAT, "tensor 0: name of 65535 bytes"},
        {ENTRY_NAME_BYTES, 2, 3, INFER_ERROR_FORMAT, "zero byte"},
        {2 * ENTRY_BYTES + ENTRY_NAME_BYTES, 2, 2, INFER_ERROR_FORMAT, "tensor 2: name of 2 bytes"},
        {ENTRY_TYPE, 1, 200, INFER_ERROR_UNSUPPORTED, "norm: type 200"},
        {ENTRY_TYPE, 1, 3, INFER_ERROR_FORMAT, "norm: type q8g32 cannot be stored as rows"},
        {ENTRY_LAYOUT, 1, 9, INFER_ERROR_UNSUPPORTED, "norm: layout 9"},
        {3 * ENTRY_BYTES, 1, ' ', INFER_ERROR_FORMAT, "byte 0x20 in its name"},
        {3 * ENTRY_BYTES, 1, 0x1b, INFER_ERROR_FORMAT, "byte 0x1b in its name"},
        {3 * ENTRY_BYTES + 7, 1, 'w', INFER_ERROR_FORMAT, "another tensor named w"},
    };
    sample s = sample_infer();
    uint64_t directory = get_u64(s.data + HEADER_DIR_OFFSET);
    sample_free(&s);
    expect_changes(changes, sizeof changes / sizeof changes[0], directory);
}

/* A shape that matches its bytes, but not the file. */
Test(file, tensor_beyond_the_end)
{
    sample s = sample_infer();
    uint8_t *entry = s.data + get_u64(s.data + HEADER_DIR_OFFSET) + 2 * ENTRY_BYTES;
    put_u64(entry + ENTRY_ROWS, 1u << 30);
    put_u64(entry + ENTRY_COLS, 1u << 30);
    put_u64(entry + ENTRY_BYTES_FIELD, (uint64_t)(1u << 26) * (1u << 25) * 288);
    sample_infer_seal(&s);
    expect(&s, INFER_ERROR_FORMAT, "end beyond the file's");
    sample_free(&s);
}

Test(file, padding_must_be_zero)
{
    sample s = sample_infer();
    const uint64_t ends[] = {get_u64(s.data + HEADER_META_OFFSET) + get_u64(s.data + HEADER_META_BYTES),
                             get_u64(s.data + HEADER_VOCAB_OFFSET) + get_u64(s.data + HEADER_VOCAB_BYTES),
                             get_u64(s.data + HEADER_DIR_OFFSET) + get_u64(s.data + HEADER_DIR_BYTES),
                             get_u64(s.data + HEADER_DATA_OFFSET) + 20};
    static const char *const after[] = {"metadata", "tokenizer", "tensor directory", "tensor norm"};
    for (size_t i = 0; i < 4; i++) {
        char words[64];
        snprintf(words, sizeof words, "padding after %s", after[i]);
        cr_assert_neq(ends[i] % 64, 0, "the sample has no padding after %s", after[i]);
        s.data[ends[i]] = 1;
        expect(&s, INFER_ERROR_CORRUPT, words);
        s.data[ends[i]] = 0;
    }
    sample_free(&s);
}

Test(file, metadata_must_be_one_json_object)
{
    static const char *const bad[] = {"[\"architecture\",\"none\"]", "{\"architecture\":\"none\"",          "{\"a\":1}}",
                                      "{\"architecture\":\"\xff\"}", "{\"architecture\":\"\xed\xa0\x80\"}", "null"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sample s = sample_infer();
        uint64_t bytes = get_u64(s.data + HEADER_META_BYTES);
        memset(s.data + HEADER_BYTES, ' ', bytes);
        memcpy(s.data + HEADER_BYTES, bad[i], strlen(bad[i]) < bytes ? strlen(bad[i]) : bytes);
        sample_infer_seal(&s);
        expect(&s, INFER_ERROR_FORMAT, "metadata");
        sample_free(&s);
    }
}

Test(file, metadata_nested_too_deep)
{
    static char text[200001];
    const infer_writer_options options = {.metadata = text};
    infer_writer *w = NULL;
    infer_error err = {0};
    memset(text, '[', 100000);
    memset(text + 100000, ']', 100000);
    cr_assert_eq(infer_writer_create(NULL, sample_path("deep.infer"), &options, &w, &err), INFER_ERROR_ARGUMENT);
    cr_assert_null(w);
}

Test(file, what_is_no_file)
{
    infer_error err = {0};
    infer_file *f = NULL;
    cr_assert_eq(infer_file_open(NULL, sample_path("missing.infer"), &f, &err), INFER_ERROR_IO);
    cr_assert(strstr(err.message, "missing.infer"));
    cr_assert_eq(infer_file_open(NULL, "/tmp", &f, &err), INFER_ERROR_IO);
    cr_assert(strstr(err.message, "directory"));
    cr_assert_eq(infer_file_open(NULL, sample_write("empty.infer", "", 0), &f, &err), INFER_ERROR_FORMAT);
    cr_assert(strstr(err.message, "empty"));
    cr_assert_null(f);
    cr_assert_eq(infer_file_open(NULL, "/nowhere/x.infer", NULL, NULL), INFER_ERROR_IO, "no error struct");
}

Test(file, notices_that_it_shrank)
{
    sample s = sample_infer();
    const char *path = sample_write("shrink.infer", s.data, s.size);
    infer_error err = {0};
    infer_file *f;
    cr_assert_eq(infer_file_open(NULL, path, &f, &err), INFER_OK);
    cr_assert_eq(infer_file_check(f, &err), INFER_OK);
    cr_assert_eq(truncate(path, (off_t)s.size / 2), 0);
    cr_assert_eq(infer_file_check(f, &err), INFER_ERROR_CORRUPT);
    cr_assert_eq(infer_file_verify(f, infer_file_tensor(f, 2), &err), INFER_ERROR_CORRUPT);
    infer_file_close(f);
    sample_free(&s);
}

Test(file, failing_allocations)
{
    sample s = sample_infer();
    const char *path = sample_write("memory.infer", s.data, s.size);
    bool done = false;
    for (size_t n = 1; !done; n++) {
        check_allocator c;
        infer_error err = {0};
        infer_file *f = NULL;
        check_allocator_init(&c, n);
        infer_status status = infer_file_open(&c.allocator, path, &f, &err);
        done = status == INFER_OK;
        cr_assert(done || status == INFER_ERROR_MEMORY);
        infer_file_close(f);
        cr_assert_eq(c.live, 0, "allocation %zu", n);
        cr_assert_lt(n, 100);
    }
    sample_free(&s);
}

Test(file, closes_null) { infer_file_close(NULL); }

/* ---- writer ---- */

static const infer_writer_options plain = {.metadata = "{}"};

Test(writer, leaves_nothing_when_aborted)
{
    infer_writer *w;
    infer_error err = {0};
    cr_assert_eq(infer_writer_create(NULL, sample_path("a.infer"), &plain, &w, &err), INFER_OK);
    cr_assert_eq(sample_file_count(), 1);
    cr_assert_eq(infer_writer_declare(w, "x", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 4, &err), INFER_OK);
    cr_assert_eq(infer_writer_write(w, "1234", 4, &err), INFER_OK);
    infer_writer_abort(w);
    infer_writer_abort(NULL);
    cr_assert_eq(sample_file_count(), 0);
}

Test(writer, refuses_to_overwrite)
{
    infer_writer *w = NULL;
    infer_error err = {0};
    const char *path = sample_write("old.infer", "precious", 8);
    size_t bytes;
    char *old;
    cr_assert_eq(infer_writer_create(NULL, path, &plain, &w, &err), INFER_ERROR_IO);
    cr_assert(strstr(err.message, "exists"));
    cr_assert_null(w);
    cr_assert_eq(sample_file_count(), 1);
    old = check_read(path, &bytes);
    cr_assert_str_eq(old, "precious");
    free(old);
}

/* Somebody makes the file between create and finish. */
Test(writer, refuses_to_overwrite_at_the_end)
{
    infer_writer *w;
    infer_error err = {0};
    const char *path = sample_path("race.infer");
    size_t bytes;
    char *old;
    cr_assert_eq(infer_writer_create(NULL, path, &plain, &w, &err), INFER_OK);
    sample_write("race.infer", "precious", 8);
    cr_assert_eq(infer_writer_finish(w, &err), INFER_ERROR_IO);
    cr_assert_eq(sample_file_count(), 1);
    old = check_read(path, &bytes);
    cr_assert_str_eq(old, "precious");
    free(old);
}

Test(writer, replaces_whole_files)
{
    infer_writer_options options = plain;
    infer_writer *w;
    infer_error err = {0};
    const char *path = sample_write("old.infer", "old", 3);
    size_t bytes;
    char *data;
    options.overwrite = true;
    cr_assert_eq(infer_writer_create(NULL, path, &options, &w, &err), INFER_OK);
    data = check_read(path, &bytes);
    cr_assert_str_eq(data, "old", "the old file stays until the end");
    free(data);
    cr_assert_eq(infer_writer_finish(w, &err), INFER_OK);
    cr_assert_eq(check_all(path, &err), INFER_OK, "%s", err.message);
    cr_assert_eq(sample_file_count(), 1);
}

Test(writer, permissions_follow_the_umask)
{
    infer_writer *w;
    infer_error err = {0};
    struct stat st;
    const char *path = sample_path("mode.infer");
    umask(027);
    cr_assert_eq(infer_writer_create(NULL, path, &plain, &w, &err), INFER_OK);
    cr_assert_eq(infer_writer_finish(w, &err), INFER_OK);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0640);
}

Test(writer, refuses_wrong_calls)
{
    static const char *const names[] = {"", "a b", "\x1b[2J", "\xc3\xa9"};
    char long_name[INFER_FILE_MAX_NAME + 2];
    infer_writer *w;
    infer_error err = {0};

    cr_assert_eq(infer_writer_create(NULL, sample_path("w.infer"), &plain, &w, &err), INFER_OK);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_assert_eq(infer_writer_declare(w, names[i], INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 4, &err), INFER_ERROR_ARGUMENT);
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    cr_assert_eq(infer_writer_declare(w, long_name, INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 4, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_writer_declare(w, "a", INFER_QTYPE_Q8G32, INFER_LAYOUT_ROWS, 1, 4, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_writer_declare(w, "a", (infer_qtype)77, INFER_LAYOUT_ROWS, 1, 4, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_writer_declare(w, "a", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 0, 4, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_writer_declare(w, "a", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, UINT64_MAX, &err), INFER_ERROR_ARGUMENT);
    cr_assert_eq(infer_writer_declare(w, "a", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 2, &err), INFER_OK);
    cr_assert_eq(infer_writer_write(w, "123456789", 9, &err), INFER_ERROR_ARGUMENT, "more than the tensor holds");
    cr_assert_eq(infer_writer_declare(w, "b", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 2, &err), INFER_ERROR_ARGUMENT, "declared too late");
    cr_assert_eq(infer_writer_write(w, "12345678", 8, &err), INFER_OK);
    cr_assert_eq(infer_writer_write(w, "1", 1, &err), INFER_ERROR_ARGUMENT, "after the last tensor");
    cr_assert_eq(infer_writer_finish(w, &err), INFER_OK, "%s", err.message);

    cr_assert_eq(infer_writer_create(NULL, sample_path("w2.infer"), &plain, &w, &err), INFER_OK);
    cr_assert_eq(infer_writer_declare(w, "a", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 2, &err), INFER_OK);
    cr_assert_eq(infer_writer_declare(w, "a", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 2, &err), INFER_OK);
    cr_assert_eq(infer_writer_write(w, "1", 1, &err), INFER_ERROR_ARGUMENT, "two tensors of one name");
    infer_writer_abort(w);

    cr_assert_eq(infer_writer_create(NULL, sample_path("w3.infer"), &plain, &w, &err), INFER_OK);
    cr_assert_eq(infer_writer_declare(w, "a", INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 2, &err), INFER_OK);
    cr_assert_eq(infer_writer_write(w, "1", 1, &err), INFER_OK);
    cr_assert_eq(infer_writer_finish(w, &err), INFER_ERROR_ARGUMENT, "a tensor is not complete");
    cr_assert_eq(sample_file_count(), 1);
}

Test(writer, where_nothing_can_be_written)
{
    infer_writer *w = NULL;
    infer_error err = {0};
    infer_writer_options options = plain;
    options.overwrite = true;
    cr_assert_eq(infer_writer_create(NULL, "/nowhere/x.infer", &options, &w, &err), INFER_ERROR_IO);
    cr_assert_eq(infer_writer_create(NULL, "/tmp", &options, &w, &err), INFER_ERROR_IO);
    cr_assert_eq(infer_writer_create(NULL, "/dev/null", &options, &w, &err), INFER_ERROR_IO);
    cr_assert_eq(infer_writer_create(NULL, "/dev/full", &options, &w, &err), INFER_ERROR_IO);
    options.metadata = "[]";
    cr_assert_eq(infer_writer_create(NULL, sample_path("x.infer"), &options, &w, &err), INFER_ERROR_ARGUMENT);
    cr_assert_null(w);
}

Test(writer, failing_allocations)
{
    bool done = false;
    for (size_t n = 1; !done; n++) {
        check_allocator c;
        infer_error err = {0};
        infer_writer *w = NULL;
        infer_writer_options options = plain;
        options.overwrite = true;
        check_allocator_init(&c, n);
        infer_status status = infer_writer_create(&c.allocator, sample_path("m.infer"), &options, &w, &err);
        for (int i = 0; i < 40 && status == INFER_OK; i++) {
            char name[8];
            snprintf(name, sizeof name, "t%d", i);
            status = infer_writer_declare(w, name, INFER_QTYPE_F32, INFER_LAYOUT_ROWS, 1, 1, &err);
        }
        for (int i = 0; i < 40 && status == INFER_OK; i++)
            status = infer_writer_write(w, "abcd", 4, &err);
        if (status == INFER_OK) {
            status = infer_writer_finish(w, &err);
            w = NULL;
        }
        infer_writer_abort(w);
        done = status == INFER_OK;
        cr_assert(done || status == INFER_ERROR_MEMORY, "%s", err.message);
        cr_assert_eq(c.live, 0, "allocation %zu", n);
        cr_assert_lt(n, 100);
    }
    cr_assert_eq(sample_file_count(), 1, "only the last file is there, and no temporary one");
}
