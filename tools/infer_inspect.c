/* infer-inspect: what is in a .infer file. Arguments and printing only. */
#include "cli.h"

#include "file.h"
#include "vocab.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct arguments {
    const char *path;
    bool verify, json;
} arguments;

static void help(void)
{
    printf("usage: infer-inspect FILE [--verify] [--json]\n"
           "Shows header, metadata, tokenizer and tensors of an .infer file.\n\n"
           "      --verify  compare the hash of every tensor with its bytes\n"
           "      --json    one JSON object instead of text\n"
           "  -h, --help\n"
           "      --version\n\n"
           "Exit status: 0 done, 1 it could not be done or a hash differs, 2 the command line is wrong.\n");
}

static void flush_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        cli_die("standard output: %s", strerror(errno));
}

static void parse(int argc, char **argv, arguments *a)
{
    enum { VERIFY = 256, JSON, VERSION };
    static const struct option options[] = {
        {"verify", no_argument, NULL, VERIFY},
        {"json", no_argument, NULL, JSON},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, VERSION},
        {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        switch (c) {
        case VERIFY:
            a->verify = true;
            break;
        case JSON:
            a->json = true;
            break;
        case 'h':
            help();
            flush_output();
            exit(0);
        case VERSION:
            printf("infer-inspect %s\n", infer_version());
            exit(0);
        default:
            cli_bad_option(c, argv);
        }
    if (optind == argc)
        cli_usage("no FILE given");
    if (optind + 1 < argc)
        cli_usage("unexpected argument \"%s\": one FILE at a time", argv[optind + 1]);
    a->path = argv[optind];
}

static double bits_per_weight(const infer_tensor_info *t)
{
    return (double)t->bytes * 8 / ((double)t->rows * (double)t->cols);
}

/* ---- text ---- */

static void print_metadata(const infer_file *f)
{
    cJSON *json = cJSON_Parse(infer_file_metadata(f));
    const cJSON *item;

    cJSON_ArrayForEach(item, json)
    {
        char *text = cJSON_PrintUnformatted(item);
        printf("  ");
        cli_put_text(stdout, item->string, strlen(item->string));
        printf(": ");
        if (text)
            cli_put_text(stdout, text, strlen(text));
        printf("\n");
        cJSON_free(text);
    }
    cJSON_Delete(json);
}

static const char *vocab_kind(const infer_vocab_view *v)
{
    static const char *const names[] = {"spm", "bpe", "unigram", "wordpiece"};
    return names[v->kind - INFER_VOCAB_SPM];
}

static void print_vocab(const infer_vocab_view *v)
{
    static const char *const flags[] = {
        "space prefix", "byte level",    "byte fallback",    "adds begin", "meta space", "adds end", "whole pieces",
        "prefix once",  "prefix unless", "single spaces",    "NFC",        "NFD",        "NFKC",     "strip accents",
        "lower case",   "clean",         "map of characters"};

    printf("tokenizer: %s, %" PRIu32 " tokens, %" PRIu32 " merges, %" PRIu32 " patterns", vocab_kind(v), v->tokens, v->merges,
           v->pattern_count);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (v->flags >> i & 1)
            printf(", %s", flags[i]);
    printf("\n");
}

static void print_tensors(const infer_file *f)
{
    uint64_t weights = 0, bytes = 0;
    int width = 4;
    char text[16], count[32];
    const infer_tensor_info *t;

    for (size_t i = 0; (t = infer_file_tensor(f, i)); i++)
        width = (int)strlen(t->name) > width ? (int)strlen(t->name) : width;
    printf("tensors:\n  %-*s  type   layout    shape            bytes       bits  hash\n", width, "name");
    for (size_t i = 0; (t = infer_file_tensor(f, i)); i++) {
        char shape[48];
        snprintf(shape, sizeof shape, "[%" PRIu64 "][%" PRIu64 "]", t->rows, t->cols);
        printf("  %-*s  %-5s  %-8s  %-15s  %-10s  %5.2f  %016" PRIx64 "\n", width, t->name, infer_qtype_find(t->type)->name,
               infer_layout_name(t->layout), shape, cli_bytes(t->bytes, text), bits_per_weight(t), t->hash);
        weights += t->rows * t->cols;
        bytes += t->bytes;
    }
    if (weights)
        printf("  %zu tensors, %s weights, %s, %.2f bits each\n", infer_file_tensor_count(f), cli_count(weights, count),
               cli_bytes(bytes, text), (double)bytes * 8 / (double)weights);
}

/* ---- JSON ---- */

/* False: no memory. */
static bool add_tensors(cJSON *list, const infer_file *f)
{
    const infer_tensor_info *t;

    for (size_t i = 0; (t = infer_file_tensor(f, i)); i++) {
        cJSON *o = cJSON_CreateObject(), *shape;
        char hash[17];
        snprintf(hash, sizeof hash, "%016" PRIx64, t->hash);
        if (!o || !cJSON_AddItemToArray(list, o)) {
            cJSON_Delete(o);
            return false;
        }
        shape = cJSON_CreateDoubleArray((const double[]){(double)t->rows, (double)t->cols}, 2);
        if (!cJSON_AddStringToObject(o, "name", t->name) || !cJSON_AddStringToObject(o, "type", infer_qtype_find(t->type)->name) ||
            !cJSON_AddStringToObject(o, "layout", infer_layout_name(t->layout)) || !shape || !cJSON_AddItemToObject(o, "shape", shape) ||
            !cJSON_AddNumberToObject(o, "bytes", (double)t->bytes) || !cJSON_AddNumberToObject(o, "bits_per_weight", bits_per_weight(t)) ||
            !cJSON_AddStringToObject(o, "hash", hash))
            return false;
    }
    return true;
}

static bool add_vocab(cJSON *root, const infer_vocab_view *v)
{
    cJSON *o = cJSON_AddObjectToObject(root, "tokenizer");
    return o && cJSON_AddStringToObject(o, "kind", vocab_kind(v)) && cJSON_AddNumberToObject(o, "tokens", v->tokens) &&
           cJSON_AddNumberToObject(o, "merges", v->merges);
}

/* v: NULL without a tokenizer; verified: NULL when nothing was checked. */
static void print_json(const infer_file *f, const infer_vocab_view *v, const bool *verified)
{
    cJSON *root = cJSON_CreateObject(), *metadata = cJSON_Parse(infer_file_metadata(f)), *list;
    char *text = NULL;
    bool ok = root && cJSON_AddNumberToObject(root, "version", INFER_FILE_VERSION) &&
              cJSON_AddNumberToObject(root, "bytes", (double)infer_file_bytes(f)) && metadata &&
              cJSON_AddItemToObject(root, "metadata", metadata) && (!v || add_vocab(root, v)) &&
              (!verified || cJSON_AddBoolToObject(root, "verified", *verified)) && (list = cJSON_AddArrayToObject(root, "tensors")) &&
              add_tensors(list, f) && (text = cJSON_Print(root));

    if (!ok)
        cli_die("out of memory for the JSON");
    puts(text);
    cJSON_free(text);
    cJSON_Delete(root);
}

/* Says every tensor that is damaged. */
static bool verify(const infer_file *f)
{
    infer_error err;
    bool good = true;
    const infer_tensor_info *t;

    for (size_t i = 0; (t = infer_file_tensor(f, i)); i++)
        if (infer_file_verify(f, t, &err) != INFER_OK) {
            cli_note("%s", err.message);
            good = false;
        }
    return good;
}

/* True unless --verify found damage. */
static bool inspect(const arguments *a)
{
    infer_error err = {0};
    infer_file *f;
    infer_vocab_view view;
    size_t vocab_bytes;
    const uint8_t *vocab;
    char text[16];
    bool good = true;

    if (infer_file_open(NULL, a->path, &f, &err) != INFER_OK)
        cli_die("%s", err.message);
    vocab = infer_file_vocab(f, &vocab_bytes);
    if (vocab_bytes && infer_vocab_parse(vocab, vocab_bytes, a->path, &view, &err) != INFER_OK)
        cli_die("%s", err.message);
    if (a->verify)
        good = verify(f);
    if (a->json) {
        print_json(f, vocab_bytes ? &view : NULL, a->verify ? &good : NULL);
    } else {
        printf("file: ");
        cli_put_text(stdout, a->path, strlen(a->path));
        printf("\nformat: .infer version %u, %s\nmetadata:\n", INFER_FILE_VERSION, cli_bytes(infer_file_bytes(f), text));
        print_metadata(f);
        if (vocab_bytes)
            print_vocab(&view);
        print_tensors(f);
        if (a->verify && good)
            printf("verified: every tensor has its hash\n");
    }
    flush_output();
    infer_file_close(f);
    return good;
}

int main(int argc, char **argv)
{
    arguments a = {0};

    cli_start("infer-inspect");
    parse(argc, argv, &a);
    return inspect(&a) ? 0 : 1;
}
