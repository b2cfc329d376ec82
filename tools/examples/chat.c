/* chat MODEL [TEMPLATE]: a conversation, one line of standard input a message. What the session has read already is not read again. */
#include <infer/infer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGES = 64, TOKENS = 4096, ANSWER = 40 };

typedef struct answer {
    infer_decoder *decoder;
    char text[65536];
    size_t bytes;
} answer;

static int add(void *user, int32_t id)
{
    answer *a = user;
    const char *text;
    size_t bytes;
    if (infer_decoder_push(a->decoder, id, &text, &bytes) || bytes > sizeof a->text - a->bytes)
        return 1;
    memcpy(a->text + a->bytes, text, bytes);
    a->bytes += bytes;
    return fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout);
}

/* The message's answer, into memory that the caller frees. */
static infer_status reply(infer_session *session, infer_model *model, const char *name, infer_chat_message *messages, size_t *count,
                          int32_t *held, infer_error *err)
{
    infer_generate_options options = {.size = sizeof options, .max_tokens = ANSWER, .end = infer_model_chat_end(model, name)};
    static int32_t ids[TOKENS];
    static answer a;
    size_t n = 0, same = 0;
    char *copy;
    infer_status s = infer_model_tokenize_chat(model, name, messages, *count, ids, TOKENS, &n, err);
    if (s != INFER_OK)
        return s;
    while (same < infer_session_position(session) && same + 1 < n && held[same] == ids[same])
        same++;
    if ((s = infer_session_rewind(session, (uint32_t)same, err)) != INFER_OK)
        return s;
    a.bytes = 0;
    if ((s = infer_decoder_create(model, &a.decoder, err)) != INFER_OK)
        return s;
    s = infer_session_generate(session, ids + same, n - same, &options, add, &a, err);
    infer_decoder_destroy(a.decoder);
    if (s != INFER_OK)
        return s;
    memcpy(held, ids, n * sizeof *ids);
    (void)infer_session_rewind(session, (uint32_t)n, NULL); /* the answer comes again as a message, with the template's tokens around it */
    if (!(copy = malloc(a.bytes + 1)))
        return INFER_ERROR_MEMORY;
    memcpy(copy, a.text, a.bytes);
    messages[(*count)++] = (infer_chat_message){INFER_CHAT_ASSISTANT, copy, a.bytes};
    putchar('\n');
    return INFER_OK;
}

int main(int argc, char **argv)
{
    const char *name = argc > 2 ? argv[2] : NULL; /* NULL: the model's own */
    infer_error err = {INFER_OK, ""};
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_chat_message messages[MESSAGES];
    static int32_t held[TOKENS];
    static char line[65536];
    size_t count = 0;
    if (argc < 2) {
        fputs("usage: chat MODEL [TEMPLATE]\n", stderr);
        return 2;
    }
    if (infer_runtime_create(NULL, &rt, &err) || infer_model_open(rt, argv[1], NULL, &model, &err) ||
        infer_session_create(model, NULL, &session, &err))
        fprintf(stderr, "%s\n", err.message);
    while (err.status == INFER_OK && count + 1 < MESSAGES && fgets(line, sizeof line, stdin)) {
        size_t bytes = strcspn(line, "\n");
        char *copy = malloc(bytes + 1);
        if (!copy)
            break;
        memcpy(copy, line, bytes);
        messages[count++] = (infer_chat_message){INFER_CHAT_USER, copy, bytes};
        if (reply(session, model, name, messages, &count, held, &err) != INFER_OK)
            fprintf(stderr, "%s\n", err.message);
    }
    for (size_t i = 0; i < count; i++)
        free((char *)messages[i].text);
    infer_session_destroy(session);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    return err.status != INFER_OK;
}
