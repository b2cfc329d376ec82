/* Which reader a file with a vocabulary needs. */
#include "import/gguf_read.h"
#include "import/vocab/tokenizers.h"

#include "file.h"

#include <stdio.h>
#include <string.h>

#define PATH_BYTES 4096u

extern const infer_importer infer_importer_infer, infer_importer_gguf;

static infer_status import_from_gguf(const infer_allocator *a, const char *path, void **section, size_t *bytes, infer_error *err)
{
    infer_gguf g;
    infer_status s = infer_gguf_open(a, path, &g, err);
    if (s != INFER_OK)
        return s;
    s = infer_gguf_vocab_import(a, &g, section, bytes, err);
    infer_gguf_close(&g);
    return s;
}

static infer_status import_from_infer(const infer_allocator *a, const char *path, void **section, size_t *bytes, infer_error *err)
{
    infer_file *f;
    const uint8_t *stored;
    size_t n;
    void *copy;
    infer_status s = infer_file_open(a, path, &f, err);

    if (s != INFER_OK)
        return s;
    stored = infer_file_vocab(f, &n);
    copy = infer_alloc(a, n);
    if (n == 0)
        s = infer_fail(err, INFER_ERROR_FORMAT, "%s: the file has no tokenizer", path);
    else if (!copy)
        s = infer_fail_memory(err, n, "tokenizer");
    else {
        *section = memcpy(copy, stored, n);
        *bytes = n;
    }
    infer_file_close(f);
    return s;
}

/* `path` with `ending` behind its last `cut` bytes less. */
static bool beside(const char *path, size_t cut, const char *ending, char *out, size_t room)
{
    const size_t n = strlen(path);
    return cut <= n && (size_t)snprintf(out, room, "%.*s%s", (int)(n - cut), path, ending) < room;
}

static bool ends_with(const char *path, const char *ending)
{
    const size_t n = strlen(path), m = strlen(ending);
    return n >= m && strcmp(path + n - m, ending) == 0;
}

static bool exists(const char *path)
{
    infer_mapping map;
    if (infer_map_file(path, &map, NULL) != INFER_OK)
        return false;
    infer_unmap(&map);
    return true;
}

/* GPT-2's vocab.json or encoder.json: where its list of merges has to be. */
static bool needs_merges(const char *path, char out[PATH_BYTES])
{
    static const char *const pairs[][2] = {{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (ends_with(path, pairs[i][0]))
            return beside(path, strlen(pairs[i][0]), pairs[i][1], out, PATH_BYTES);
    return false;
}

static infer_status import_from_bytes(const infer_allocator *a, const char *path, const infer_mapping *map, void **section, size_t *bytes,
                                      infer_error *err)
{
    const uint8_t *p = map->data;
    char merges[PATH_BYTES];
    size_t blank = 0;

    while (blank < map->size && (p[blank] == ' ' || (p[blank] >= '\t' && p[blank] <= '\r')))
        blank++;
    if (blank < map->size && p[blank] == '{') {
        if (needs_merges(path, merges))
            return infer_vocab_json_import(a, (const char *)p, map->size, path, merges, section, bytes, err);
        return infer_tokenizer_json_import(a, (const char *)p, map->size, path, section, bytes, err);
    }
    /* A SentencePiece model begins with its first piece: field 1, of some bytes, in which the text is field 1. tokenizer.bin with its
     * longest token. */
    if (map->size > 2 && p[0] == 0x0a && p[2] == 0x0a)
        return infer_sentencepiece_import(a, p, map->size, path, section, bytes, err);
    return infer_tokenizer_bin_import(a, p, map->size, path, section, bytes, err);
}

/* The first of these that the folder `path` has; else `out` is left alone. */
static bool find_in_folder(const char *path, char out[PATH_BYTES])
{
    static const char *const names[] = {"/tokenizer.json", "/tokenizer.model", "/vocab.json", "/encoder.json", "/tokenizer.bin"};
    char inside[PATH_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (beside(path, 0, names[i], inside, sizeof inside) && exists(inside)) {
            memcpy(out, inside, sizeof inside);
            return true;
        }
    return false;
}

infer_status infer_vocab_import(const infer_allocator *a, const char *path, void **section, size_t *bytes, infer_error *err)
{
    infer_mapping map;
    char inside[PATH_BYTES];
    infer_status s = infer_map_file(path, &map, err);

    if (s == INFER_ERROR_IO && find_in_folder(path, inside)) {
        path = inside;
        s = infer_map_file(path, &map, err);
    }
    if (s != INFER_OK)
        return s;
    if (map.size == 0)
        s = infer_fail(err, INFER_ERROR_FORMAT, "%s: the file is empty", path);
    else if (infer_importer_gguf.probe(path, map.data, map.size))
        s = import_from_gguf(a, path, section, bytes, err);
    else if (infer_importer_infer.probe(path, map.data, map.size))
        s = import_from_infer(a, path, section, bytes, err);
    else
        s = import_from_bytes(a, path, &map, section, bytes, err);
    infer_unmap(&map);
    return s;
}
