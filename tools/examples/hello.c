/* hello MODEL PROMPT: a prompt and its continuation. */
#include <infer/infer.h>
#include <stdio.h>
#include <string.h>

static int print(void *decoder, int32_t id)
{
    const char *text;
    size_t bytes;
    return infer_decoder_push(decoder, id, &text, &bytes) || fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout);
}

int main(int argc, char **argv)
{
    infer_generate_options options = {.size = sizeof options, .max_tokens = 50, .end = -1};
    infer_error err = {INFER_OK, ""};
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_decoder *decoder = NULL;
    int32_t ids[256];
    size_t n;
    if (argc < 3 || infer_runtime_create(NULL, &rt, &err) || infer_model_open(rt, argv[1], NULL, &model, &err) ||
        infer_session_create(model, NULL, &session, &err) || infer_decoder_create(model, &decoder, &err) ||
        infer_model_tokenize(model, argv[2], strlen(argv[2]), INFER_TOKENIZE_BOS, ids, 256, &n, &err) ||
        infer_session_generate(session, ids, n, &options, print, decoder, &err))
        fprintf(stderr, "%s\n", argc < 3 ? "usage: hello MODEL PROMPT" : err.message);
    infer_decoder_destroy(decoder), infer_session_destroy(session), infer_model_close(model), infer_runtime_destroy(rt);
    return puts("") < 0 || argc < 3 || err.status != INFER_OK;
}
