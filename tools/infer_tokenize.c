/* infer-tokenize: standard input to token ids, and back. Arguments and printing only. */
#include "cli.h"

#include "import/import.h"
#include "text/text.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct arguments {
    const char *path;
    bool decode, pieces;
    unsigned flags; /* INFER_TOKENIZE_* */
} arguments;

static void help(void)
{
    printf("usage: infer-tokenize VOCAB [--ids | --pieces] [--no-bos] [--special]\n"
           "       infer-tokenize VOCAB --decode\n"
           "Standard input to the ids of its tokens, and back. VOCAB is a file with a vocabulary: .infer, .gguf, tokenizer.json, "
           "vocab.json or\n"
           "encoder.json with merges beside it, SentencePiece's .model, llama2.c's tokenizer.bin; or a folder with one of them.\n\n"
           "      --ids      the ids in one line, separated by spaces (the default)\n"
           "      --pieces   a line for each token: its id and its text\n"
           "      --no-bos   no begin token, and no end token, where the vocabulary asks for them\n"
           "      --special  names of special tokens in the text (<|im_end|>) become those tokens\n"
           "      --decode   standard input are ids, separated by white space: print their text\n"
           "  -h, --help\n"
           "      --version\n\n"
           "Exit status: 0 done, 1 it could not be done, 2 the command line is wrong.\n");
}

static void flush_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        cli_die("standard output: %s", strerror(errno));
}

static void parse(int argc, char **argv, arguments *a)
{
    enum { IDS = 256, PIECES, NO_BOS, SPECIAL, DECODE, VERSION };
    static const struct option options[] = {
        {"ids", no_argument, NULL, IDS},         {"pieces", no_argument, NULL, PIECES},
        {"no-bos", no_argument, NULL, NO_BOS},   {"special", no_argument, NULL, SPECIAL},
        {"decode", no_argument, NULL, DECODE},   {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, VERSION}, {0},
    };
    int c;

    a->flags = INFER_TOKENIZE_BOS;
    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        switch (c) {
        case IDS:
            a->pieces = false;
            break;
        case PIECES:
            a->pieces = true;
            break;
        case NO_BOS:
            a->flags &= ~INFER_TOKENIZE_BOS;
            break;
        case SPECIAL:
            a->flags |= INFER_TOKENIZE_SPECIAL;
            break;
        case DECODE:
            a->decode = true;
            break;
        case 'h':
            help();
            flush_output();
            exit(0);
        case VERSION:
            printf("infer-tokenize %s\n", infer_version());
            exit(0);
        default:
            cli_bad_option(c, argv);
        }
    if (optind == argc)
        cli_usage("no vocabulary given");
    if (optind + 1 < argc)
        cli_usage("one vocabulary at a time: unexpected argument '%s'", argv[optind + 1]);
    a->path = argv[optind];
}

static void encode(const infer_tokenizer *t, const arguments *a, const cli_buffer *in)
{
    infer_error err = {0};
    size_t count = 0, bytes;
    int32_t *ids = NULL;

    /* A byte gives at most a few tokens, but most texts give far fewer: the room is found by asking. */
    for (size_t room = in->size / 2 + 16;; room = count) {
        free(ids);
        ids = malloc(room * sizeof *ids);
        if (!ids)
            cli_die("out of memory for %zu tokens", room);
        count = 0;
        if (infer_tokenizer_encode(t, in->data, in->size, a->flags, ids, room, &count, &err) == INFER_OK)
            break;
        if (count <= room)
            cli_die("%s", err.message);
    }
    for (size_t i = 0; i < count; i++) {
        if (a->pieces) {
            const char *text = infer_tokenizer_token(t, ids[i], &bytes);
            printf("%" PRId32 "\t", ids[i]);
            cli_put_text(stdout, text, bytes);
            putchar('\n');
        } else {
            printf("%s%" PRId32, i ? " " : "", ids[i]);
        }
    }
    if (!a->pieces)
        putchar('\n');
    free(ids);
}

/* Standard input was read into a buffer that ends in a NUL. The ids begin a text, with or without a begin token: with one, the decoder
 * leaves out the space that was put before the text. */
static void decode(const infer_tokenizer *t, const cli_buffer *in)
{
    infer_error err = {0};
    infer_decoder *d;
    const char *text, *p = in->data, *end = in->data + in->size;
    size_t bytes;

    if (infer_decoder_open(NULL, t, &d, &err) != INFER_OK)
        cli_die("%s", err.message);
    if (infer_tokenizer_vocab(t)->bos != INFER_VOCAB_NO_ID)
        infer_decoder_push(d, (int32_t)infer_tokenizer_vocab(t)->bos, &text, &bytes);
    for (size_t i = 0;; i++) {
        char *after;
        long id;
        p += strspn(p, " \t\r\n");
        if (p == end)
            break;
        errno = 0;
        id = strtol(p, &after, 10);
        if (after == p || errno || id < 0 || (unsigned long)id >= infer_tokenizer_vocab(t)->tokens || !strchr(" \t\r\n", *after))
            cli_die("standard input, id %zu: found '%.*s', expected a number below %" PRIu32, i, (int)strcspn(p, " \t\r\n"), p,
                    infer_tokenizer_vocab(t)->tokens);
        p = after;
        if (infer_decoder_push(d, (int32_t)id, &text, &bytes) == INFER_OK)
            fwrite(text, 1, bytes, stdout);
    }
    if (infer_decoder_push(d, -1, &text, &bytes) == INFER_OK)
        fwrite(text, 1, bytes, stdout);
    infer_decoder_destroy(d);
}

int main(int argc, char **argv)
{
    arguments a = {0};
    infer_error err = {0};
    infer_tokenizer *t;
    cli_buffer in = {0};
    void *section;
    size_t bytes;

    cli_start("infer-tokenize");
    parse(argc, argv, &a);
    if (infer_vocab_import(NULL, a.path, &section, &bytes, &err) != INFER_OK ||
        infer_tokenizer_open(NULL, section, bytes, a.path, &t, &err) != INFER_OK)
        cli_die("%s", err.message);
    cli_read_file("-", &in);
    if (a.decode)
        decode(t, &in);
    else
        encode(t, &a, &in);
    flush_output();
    cli_buffer_free(&in);
    infer_tokenizer_close(t);
    infer_free(NULL, section);
    return 0;
}
