/* Real vocabularies, in every format there is of them: ids that other programs computed, the same ids from each format, and texts that come
 * back. */
#include "check.h"
#include "import/import.h"
#include "text/text.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

typedef struct opened {
    infer_tokenizer *t;
    void *section;
} opened;

static opened open_path(const char *path)
{
    opened o = {0};
    infer_error err = {0};
    size_t bytes;
    cr_assert(infer_vocab_import(NULL, path, &o.section, &bytes, &err) == INFER_OK, "%s", err.message);
    cr_assert(infer_tokenizer_open(NULL, o.section, bytes, path, &o.t, &err) == INFER_OK, "%s", err.message);
    return o;
}

static void close_opened(opened *o)
{
    infer_tokenizer_close(o->t);
    infer_free(NULL, o->section);
}

static int32_t *encode(const opened *o, const char *text, size_t bytes, unsigned flags, size_t *count)
{
    const size_t cap = 4 * bytes + 8;
    int32_t *ids = malloc(cap * sizeof *ids);
    infer_error err = {0};
    cr_assert(ids);
    cr_assert(infer_tokenizer_encode(o->t, text, bytes, flags, ids, cap, count, &err) == INFER_OK, "%s", err.message);
    return ids;
}

/* What the ids' text is, as a decoder gives it that saw the begin token. */
static char *decode(const opened *o, const int32_t *ids, size_t count, size_t *bytes)
{
    const uint32_t bos = infer_tokenizer_vocab(o->t)->bos;
    size_t cap = 1 << 16;
    char *out = malloc(cap);
    infer_decoder *d;
    cr_assert(infer_decoder_open(NULL, o->t, &d, NULL) == INFER_OK);
    *bytes = 0;
    for (size_t i = bos == INFER_VOCAB_NO_ID ? 1 : 0; i <= count + 1; i++) {
        const char *text;
        size_t n;
        cr_assert(infer_decoder_push(d, i == 0 ? (int32_t)bos : i <= count ? ids[i - 1] : -1, &text, &n) == INFER_OK);
        while (*bytes + n > cap)
            out = realloc(out, cap *= 2);
        cr_assert(out);
        memcpy(out + *bytes, text, n);
        *bytes += n;
    }
    infer_decoder_destroy(d);
    return out;
}

static char *read_data(const char *name, size_t *bytes)
{
    const char *path = check_data(name);
    if (!path)
        cr_skip_test("%s is absent", name);
    return check_read(path, bytes);
}

/* The texts and ids beside `vectors` (.inp and .out) with the vocabulary in `path`. */
static size_t check_vectors(const char *path, const char *vectors)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    opened o = open_path(path);
    char name[200];
    size_t bytes, tests = 0;
    char *in, *out, *text, *line, *end;
    snprintf(name, sizeof name, "tokenizers/%s.inp", vectors);
    text = in = read_data(name, &bytes);
    snprintf(name, sizeof name, "tokenizers/%s.out", vectors);
    line = out = read_data(name, &bytes);
    cr_assert(in && out);
    for (bool last = false; !last; text = end + sizeof separator - 1, tests++) {
        size_t n, i = 0;
        int32_t *ids;
        end = strstr(text, separator);
        last = !end;
        if (last)
            end = text + strlen(text);
        ids = encode(&o, text, (size_t)(end - text), 0, &n);
        for (char *next; *line && *line != '\n'; line = next, i++) {
            const long want = strtol(line, &next, 10);
            cr_assert(i < n && ids[i] == want, "%s, text %zu, token %zu: %ld expected, found %ld (of %zu)", path, tests, i, want,
                      i < n ? (long)ids[i] : -1L, n);
            next += strspn(next, " ");
        }
        cr_assert_eq(i, n, "%s, text %zu: %zu tokens, expected %zu", path, tests, n, i);
        line += *line == '\n';
        free(ids);
    }
    free(in);
    free(out);
    close_opened(&o);
    return tests;
}

/* Every *.gguf in the folder that has vectors. */
Test(vectors, of_every_gguf_vocabulary)
{
    const char *one = check_data("tokenizers/ggml-vocab-gpt-2.gguf");
    char folder[4096];
    size_t files = 0;
    struct dirent *entry;
    DIR *d;
    if (!one)
        cr_skip_test("tokenizers/ is absent");
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(one, '/') - one), one);
    d = opendir(folder);
    cr_assert(d);
    while ((entry = readdir(d))) {
        const size_t n = strlen(entry->d_name);
        char name[300], path[4096 + 300];
        snprintf(name, sizeof name, "tokenizers/%s.inp", entry->d_name);
        if (n < 5 || strcmp(entry->d_name + n - 5, ".gguf") != 0 || !check_data(name))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        cr_assert_geq(check_vectors(path, entry->d_name), 40);
        files++;
    }
    closedir(d);
    cr_assert_geq(files, 6);
}

/* The same vocabulary in other formats: the same vectors. */
Test(vectors, of_other_formats)
{
    static const char *const pairs[][2] = {{"tokenizers/llama2-32000.tokenizer.json", "ggml-vocab-llama-spm.gguf"},
                                           {"tokenizers/tokenizer.model", "ggml-vocab-llama-spm.gguf"},
                                           {"tokenizers/tokenizer.bin", "ggml-vocab-llama-spm.gguf"},
                                           {"tokenizers/llama3.2-encoder.json", "ggml-vocab-llama-bpe.gguf"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *path = check_data(pairs[i][0]);
        if (!path)
            cr_skip_test("%s is absent", pairs[i][0]);
        cr_assert_geq(check_vectors(path, pairs[i][1]), 40);
    }
}

static const char *const texts[] = {"text/war-and-peace.txt", "text/tinyshakespeare.txt", "text/wiki.test.raw",
                                    "text/tinystories-valid.txt"};

/* Encoded and decoded, a text is what it was. */
Test(vectors, texts_come_back)
{
    static const char *const vocabularies[] = {"ggml-vocab-llama-spm.gguf",
                                               "ggml-vocab-phi-3.gguf",
                                               "ggml-vocab-gpt-2.gguf",
                                               "ggml-vocab-falcon.gguf",
                                               "ggml-vocab-deepseek-llm.gguf",
                                               "llama2-32000.tokenizer.json",
                                               "llama3.2-encoder.json",
                                               "tinystories-bytelevel-bpe32768.tokenizer.json",
                                               "tokenizer.model",
                                               "tokenizer.bin"};
    for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++) {
        char name[200];
        const char *path;
        opened o;
        snprintf(name, sizeof name, "tokenizers/%s", vocabularies[i]);
        path = check_data(name);
        if (!path)
            cr_skip_test("%s is absent", name);
        o = open_path(path);
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++) {
            size_t bytes, n, back_bytes;
            char *text = read_data(texts[j], &bytes), *back;
            int32_t *ids = encode(&o, text, bytes, 0, &n);
            back = decode(&o, ids, n, &back_bytes);
            cr_assert(back_bytes == bytes && memcmp(back, text, bytes) == 0, "%s: %s does not come back", name, texts[j]);
            free(back);
            free(ids);
            free(text);
        }
        close_opened(&o);
    }
}

/* Two formats of one vocabulary give the same ids. (SentencePiece itself makes one space of several, where its .model says so; llama2.c and
 * GGUF do not: tok512.model is no pair of tok512.bin.) */
Test(vectors, formats_agree)
{
    static const char *const pairs[][2] = {
        {"tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/llama2-32000.tokenizer.json"},
        {"tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/tokenizer.model"},
        {"tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/tokenizer.bin"},
        {"models/stories260K/tok512.bin", "models/stories260K/stories260Ktok512.gguf"},
        {"models/tinystories-656K/tokenizer.json", "models/tinystories-656K/TinyStories-656K-Q8_0.gguf"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        opened o[2];
        for (int k = 0; k < 2; k++) {
            const char *path = check_data(pairs[i][k]);
            if (!path)
                cr_skip_test("%s is absent", pairs[i][k]);
            o[k] = open_path(path);
        }
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++) {
            size_t bytes, n[2];
            char *text = read_data(texts[j], &bytes);
            int32_t *ids[2];
            for (int k = 0; k < 2; k++)
                ids[k] = encode(&o[k], text, bytes, INFER_TOKENIZE_BOS, &n[k]);
            cr_assert(n[0] == n[1] && memcmp(ids[0], ids[1], n[0] * sizeof *ids[0]) == 0, "%s and %s differ on %s", pairs[i][0],
                      pairs[i][1], texts[j]);
            free(ids[0]);
            free(ids[1]);
            free(text);
        }
        close_opened(&o[0]);
        close_opened(&o[1]);
    }
}
