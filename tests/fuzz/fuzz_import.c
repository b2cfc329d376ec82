/* The importers of models: what opens is read, every row of it. */
#include "seal.h"

#include "import/import.h"

static void import(const char *path, const char *tokenizer)
{
    infer_error err;
    infer_source s;
    if (infer_source_open(NULL, path, tokenizer, &s, &err) != INFER_OK)
        return;
    for (size_t i = 0; i < s.tensor_count; i++) {
        const infer_source_tensor *t = &s.tensors[i];
        float *row = malloc(t->cols * sizeof *row);
        int8_t *codes = malloc(t->cols);
        uint16_t *scales = malloc((t->cols / 32 + 1) * sizeof *scales);
        for (uint64_t r = 0; r < t->rows && s.importer->read_f32(&s, i, r, 1, row, &err) == INFER_OK; r++)
            if (s.importer->read_codes)
                s.importer->read_codes(&s, i, r, 1, codes, scales, &err);
        free(row);
        free(codes);
        free(scales);
    }
    infer_source_close(&s);
}

static void import_gguf(const uint8_t *data, size_t size)
{
    void *section;
    size_t bytes;
    const char *path = fuzz_file("model.gguf", data, size);
    import(path, NULL);
    if (infer_vocab_import(NULL, path, &section, &bytes, NULL) == INFER_OK)
        infer_free(NULL, section);
}

/* A model in two files, opened by either. */
static void import_gguf_split(const uint8_t *data, size_t size)
{
    const char *first, *second;
    size_t bytes;
    const uint8_t *part = fuzz_part(&data, &size, &bytes);
    first = fuzz_file("model-00001-of-00002.gguf", part, bytes);
    second = fuzz_file("model-00002-of-00002.gguf", data, size);
    import(first, NULL);
    import(second, NULL);
}

/* llama2.c's and bitllama's: a tokenizer, then the checkpoint, whose length its header gives away. */
static void import_checkpoint(const uint8_t *data, size_t size)
{
    size_t bytes;
    const uint8_t *part = fuzz_part(&data, &size, &bytes);
    const char *tokenizer = fuzz_file("tokenizer.bin", part, bytes);
    import(fuzz_file("model.bin", data, size), tokenizer);
}

static void import_infer(const uint8_t *data, size_t size) { import(fuzz_sealed(data, size), NULL); }

/* A folder: config.json, tokenizer.json, and, if it is not empty, the index of the one file of tensors that is the rest. */
static void import_hf(const uint8_t *data, size_t size)
{
    static const char index[] = "model.safetensors.index.json";
    size_t bytes;
    const uint8_t *part = fuzz_part(&data, &size, &bytes);
    fuzz_file("config.json", part, bytes);
    part = fuzz_part(&data, &size, &bytes);
    fuzz_file("tokenizer.json", part, bytes);
    part = fuzz_part(&data, &size, &bytes);
    if (bytes)
        fuzz_file(index, part, bytes);
    else
        fuzz_no_file(index);
    fuzz_file("model.safetensors", data, size);
    import(fuzz_folder(), NULL);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
    static const struct {
        const char *name;
        void (*import)(const uint8_t *data, size_t size);
    } targets[] = {{"gguf", import_gguf},           {"gguf_split", import_gguf_split}, {"llama2c", import_checkpoint},
                   {"bitllama", import_checkpoint}, {"infer", import_infer},           {"hf", import_hf}};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (strcmp(targets[i].name, FUZZ_NAME) == 0)
            targets[i].import(data, size);
}
