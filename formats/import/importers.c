/* The table of importers, and who is asked. A new format: one file beside this one, its line here, its name in meson.build. */
#include "import/import.h"

#include "layout.h"

#include <string.h>
#include <sys/stat.h>

#define HEAD_BYTES 64u

extern const infer_importer infer_importer_infer, infer_importer_gguf, infer_importer_hf, infer_importer_bitllama, infer_importer_llama2c;

/* Those that a magic number tells come first. */
const infer_importer *const infer_importers[] = {
    &infer_importer_infer,
    &infer_importer_gguf,
    &infer_importer_hf,
    &infer_importer_bitllama,
    &infer_importer_llama2c,
    NULL,
};

/* The first bytes of the file; none of a folder; IO and FORMAT for what is neither, or empty. */
static infer_status read_head(const char *path, uint8_t head[HEAD_BYTES], size_t *bytes, infer_error *err)
{
    struct stat st;
    infer_mapping map;
    infer_status s;

    *bytes = 0;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return INFER_OK;
    s = infer_map_file(path, &map, err);
    if (s != INFER_OK)
        return s;
    *bytes = map.size < HEAD_BYTES ? map.size : HEAD_BYTES;
    if (*bytes)
        memcpy(head, map.data, *bytes);
    infer_unmap(&map);
    return *bytes ? INFER_OK : infer_fail(err, INFER_ERROR_FORMAT, "%s: the file is empty", path);
}

infer_status infer_source_open(const infer_allocator *a, const char *path, const char *tokenizer, infer_source *out, infer_error *err)
{
    infer_source s = {0};
    uint8_t head[HEAD_BYTES];
    char known[128] = "";
    size_t bytes;
    infer_status status = read_head(path, head, &bytes, err);

    if (status != INFER_OK)
        return status;
    if (a)
        s.allocator = *a;
    for (const infer_importer *const *i = infer_importers; *i; i++) {
        if ((*i)->probe(path, head, bytes)) {
            s.importer = *i;
            status = (*i)->open(path, tokenizer, &s, err);
            if (status == INFER_OK)
                *out = s;
            return status;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i == infer_importers ? "" : ", ", (*i)->name);
    }
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: unknown file format (known: %s)", path, known);
}

void infer_source_close(infer_source *s)
{
    if (s && s->importer)
        s->importer->close(s);
}
