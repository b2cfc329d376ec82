#include "vocabs.h"

#include <cJSON.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Parts under construction; texts point into the file, which lives until build(). */
typedef struct parts {
    infer_vocab_parts p;
    const char **text;
    uint32_t *text_bytes;
    float *scores;
    uint8_t *types;
    uint32_t (*merges)[2];
} parts;

static void *need(void *p)
{
    cr_assert(p, "out of memory");
    return p;
}

static parts parts_of(uint32_t tokens)
{
    parts v = {
        .p = {.kind = INFER_VOCAB_SPM, .unk = INFER_VOCAB_NO_ID, .bos = INFER_VOCAB_NO_ID, .eos = INFER_VOCAB_NO_ID, .tokens = tokens}};
    v.text = need(calloc(tokens + 1, sizeof *v.text));
    v.text_bytes = need(calloc(tokens + 1, sizeof *v.text_bytes));
    v.scores = need(calloc(tokens + 1, sizeof *v.scores));
    v.types = need(calloc(tokens + 1, 1));
    memset(v.types, INFER_TOKEN_NORMAL, tokens);
    return v;
}

static void *build(parts *v, size_t *bytes)
{
    void *section = NULL;
    infer_error err = {0};
    v->p.text = v->text;
    v->p.text_bytes = v->text_bytes;
    v->p.scores = v->scores;
    v->p.types = v->types;
    v->p.merge = (const uint32_t(*)[2])v->merges;
    cr_assert(infer_vocab_build(NULL, &v->p, &section, bytes, &err) == INFER_OK, "%s", err.message);
    free(v->text);
    free(v->text_bytes);
    free(v->scores);
    free(v->types);
    free(v->merges);
    return section;
}

/* Tokens sorted by text, to find the ids of merges. */
typedef struct named {
    const char *p;
    uint32_t n, id;
} named;

static int compare(const void *x, const void *y)
{
    const named *a = x, *b = y;
    int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

static named *sorted(const parts *v)
{
    named *s = need(calloc(v->p.tokens + 1, sizeof *s));
    for (uint32_t i = 0; i < v->p.tokens; i++)
        s[i] = (named){v->text[i], v->text_bytes[i], i};
    qsort(s, v->p.tokens, sizeof *s, compare);
    return s;
}

static uint32_t id_of(const named *s, uint32_t count, const char *p, size_t n)
{
    named key = {p, (uint32_t)n, 0}, *found = bsearch(&key, s, count, sizeof *s, compare);
    cr_assert(found, "a merge names \"%.*s\", which is no token", (int)n, p);
    return found->id;
}

/* "left right", separated by the first space that is not at the beginning. */
static void add_merge(parts *v, const named *s, const char *p, size_t n)
{
    const char *space = memchr(p + 1, ' ', n - 1);
    cr_assert(space);
    v->merges[v->p.merges][0] = id_of(s, v->p.tokens, p, (size_t)(space - p));
    v->merges[v->p.merges++][1] = id_of(s, v->p.tokens, space + 1, (size_t)(p + n - space - 1));
}

void *vocab_llama2c(const char *path, size_t *bytes)
{
    size_t size, at = 4;
    char *file = check_read(path, &size);
    uint32_t count = 0;
    parts v;
    void *section;
    if (!file)
        return NULL;
    for (uint32_t n; at + 8 <= size; at += 8 + n, count++)
        memcpy(&n, file + at + 4, 4);
    v = parts_of(count);
    v.p.flags = INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_BYTE_FALLBACK | INFER_VOCAB_ADD_BOS;
    v.p.unk = 0, v.p.bos = 1, v.p.eos = 2;
    at = 4;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(&v.scores[i], file + at, 4);
        memcpy(&v.text_bytes[i], file + at + 4, 4);
        v.text[i] = file + at + 8;
        v.types[i] = i == 0 ? INFER_TOKEN_UNKNOWN : i < 3 ? INFER_TOKEN_CONTROL : i < 259 ? INFER_TOKEN_BYTE : INFER_TOKEN_NORMAL;
        at += 8 + v.text_bytes[i];
    }
    section = build(&v, bytes);
    free(file);
    return section;
}

static uint64_t get(const char **p, unsigned n)
{
    uint64_t x = 0;
    memcpy(&x, *p, n);
    *p += n;
    return x;
}

static unsigned gguf_size(uint64_t type)
{
    static const uint8_t sizes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < 13 ? sizes[type] : 0;
}

void *vocab_gguf(const char *path, size_t *bytes)
{
    size_t size;
    char *file = check_read(path, &size);
    const char *p, *merges = NULL;
    uint64_t merge_count = 0, pairs;
    parts v = {0};
    bool spm = true;
    void *section;
    if (!file)
        return NULL;
    p = file + 16;
    pairs = get(&p, 8);
    while (pairs-- > 0) {
        uint64_t key_bytes = get(&p, 8), type, count = 1;
        const char *key = p;
        char name[128] = "";
        p += key_bytes;
        memcpy(name, key, key_bytes < 127 ? key_bytes : 127);
        type = get(&p, 4);
        if (type == 9) {
            type = get(&p, 4);
            count = get(&p, 8);
        }
        if (!strcmp(name, "tokenizer.ggml.tokens"))
            v = parts_of((uint32_t)count);
        if (!strcmp(name, "tokenizer.ggml.merges")) {
            merges = p;
            merge_count = count;
        }
        if (!strcmp(name, "tokenizer.ggml.model"))
            spm = memcmp(p + 8, "llama", 5) == 0;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t n = type == 8 ? get(&p, 8) : gguf_size(type);
            if (!strcmp(name, "tokenizer.ggml.tokens")) {
                v.text[i] = p;
                v.text_bytes[i] = (uint32_t)n;
            } else if (!strcmp(name, "tokenizer.ggml.scores"))
                memcpy(&v.scores[i], p, 4);
            else if (!strcmp(name, "tokenizer.ggml.token_type"))
                v.types[i] = (uint8_t)*p;
            else if (!strcmp(name, "tokenizer.ggml.bos_token_id"))
                memcpy(&v.p.bos, p, 4);
            else if (!strcmp(name, "tokenizer.ggml.unknown_token_id"))
                memcpy(&v.p.unk, p, 4);
            p += n;
        }
    }
    cr_assert(v.text && p <= file + size);
    if (spm)
        v.p.flags = INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_BYTE_FALLBACK | INFER_VOCAB_ADD_BOS | INFER_VOCAB_META_SPACE;
    else {
        named *s = sorted(&v);
        v.p.kind = INFER_VOCAB_BPE;
        v.p.flags = INFER_VOCAB_BYTE_LEVEL;
        v.p.pretokenizer = INFER_PRETOKENIZER_GPT2;
        v.merges = need(calloc(merge_count + 1, sizeof *v.merges));
        for (uint64_t i = 0; i < merge_count; i++) {
            uint64_t n = get(&merges, 8);
            add_merge(&v, s, merges, n);
            merges += n;
        }
        free(s);
    }
    section = build(&v, bytes);
    free(file);
    return section;
}

void *vocab_json(const char *path, size_t *bytes)
{
    size_t size;
    char *file = check_read(path, &size);
    cJSON *root, *model, *vocab, *merges, *item;
    named *s;
    parts v;
    void *section;
    if (!file)
        return NULL;
    root = cJSON_Parse(file);
    model = cJSON_GetObjectItem(root, "model");
    vocab = cJSON_GetObjectItem(model, "vocab");
    merges = cJSON_GetObjectItem(model, "merges");
    cr_assert(vocab && merges);
    v = parts_of((uint32_t)cJSON_GetArraySize(vocab));
    cJSON_ArrayForEach(item, vocab)
    {
        cr_assert(item->valueint >= 0 && (uint32_t)item->valueint < v.p.tokens);
        v.text[item->valueint] = item->string;
        v.text_bytes[item->valueint] = (uint32_t)strlen(item->string);
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(root, "added_tokens"))
    {
        v.types[cJSON_GetObjectItem(item, "id")->valueint] = INFER_TOKEN_CONTROL;
    }
    v.p.kind = INFER_VOCAB_BPE;
    v.p.flags = INFER_VOCAB_SPACE_PREFIX | INFER_VOCAB_BYTE_FALLBACK | INFER_VOCAB_ADD_BOS | INFER_VOCAB_META_SPACE;
    v.p.unk = 0, v.p.bos = 1, v.p.eos = 2;
    v.merges = need(calloc((size_t)cJSON_GetArraySize(merges) + 1, sizeof *v.merges));
    s = sorted(&v);
    cJSON_ArrayForEach(item, merges) add_merge(&v, s, item->valuestring, strlen(item->valuestring));
    free(s);
    section = build(&v, bytes);
    cJSON_Delete(root);
    free(file);
    return section;
}

void *vocab_from(const vocab_words *w, size_t *bytes)
{
    uint32_t count = 0;
    parts v;
    while (w->tokens[count].text)
        count++;
    v = parts_of(count);
    v.p.kind = w->kind;
    v.p.flags = w->flags;
    v.p.pretokenizer = w->pretokenizer;
    v.p.unk = w->unk;
    v.p.bos = w->bos;
    v.p.eos = w->flags & INFER_VOCAB_ADD_EOS ? w->eos : INFER_VOCAB_NO_ID;
    v.p.patterns = w->patterns;
    v.p.pattern_count = w->pattern_count;
    v.p.charsmap = w->charsmap;
    v.p.charsmap_bytes = w->charsmap_bytes;
    v.p.steps = w->steps;
    v.p.step_bytes = w->step_bytes;
    v.p.merges = w->merge_count;
    v.merges = need(calloc(w->merge_count + 1, sizeof *v.merges));
    if (w->merge_count)
        memcpy(v.merges, w->merges, w->merge_count * sizeof *v.merges);
    for (uint32_t i = 0; i < count; i++) {
        v.text[i] = w->tokens[i].text;
        v.text_bytes[i] = (uint32_t)strlen(w->tokens[i].text);
        v.scores[i] = w->tokens[i].score;
        v.types[i] = w->tokens[i].type ? w->tokens[i].type : INFER_TOKEN_NORMAL;
    }
    return build(&v, bytes);
}

infer_tokenizer *vocab_open(const infer_allocator *a, const void *section, size_t bytes)
{
    infer_tokenizer *t = NULL;
    infer_error err = {0};
    cr_assert(infer_tokenizer_open(a, section, bytes, "test", &t, &err) == INFER_OK, "%s", err.message);
    return t;
}
