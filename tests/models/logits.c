/* logits MODEL IDS OUT THREADS BATCH SPLIT CONTEXT: evaluates the ids (a file of int32) SPLIT at a time (0: all at once), in batches of BATCH, in a
 * session of CONTEXT positions (0: the model's), and writes the logits of every position as floats. Exit status 1 and one line where that cannot be done. */
#include <infer/infer.h>

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 4096 };

static int run(char **argv, infer_session *session, uint32_t vocab, infer_error *err)
{
    static int32_t ids[MOST];
    FILE *in = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
    size_t n = in ? fread(ids, sizeof *ids, MOST, in) : 0, split = strtoul(argv[6], NULL, 10), written = 0;

    for (size_t i = 0, m; out && i < n; i += m) {
        m = split && split < n - i ? split : n - i;
        if (infer_session_eval(session, ids + i, m, INFER_LOGITS_ALL, err) != INFER_OK)
            break;
        for (size_t row = 0; row < m; row++)
            written += fwrite(infer_session_logits(session, row), sizeof(float), vocab, out);
    }
    if (in)
        fclose(in);
    return out && fclose(out) == 0 && n && written == n * vocab;
}

int main(int argc, char **argv)
{
    infer_error err = {INFER_OK, "the ids or the output cannot be used"};
    infer_runtime_options r = INFER_RUNTIME_DEFAULTS;
    infer_session_options s = INFER_SESSION_DEFAULTS;
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    infer_session *session = NULL;
    int done;

    if (argc != 8)
        return 2;
    r.threads = (uint32_t)strtoul(argv[4], NULL, 10);
    s.batch = (uint32_t)strtoul(argv[5], NULL, 10);
    s.context = (uint32_t)strtoul(argv[7], NULL, 10);
    s.logit_rows = MOST;
    done = infer_runtime_create(&r, &rt, &err) == INFER_OK && infer_model_open(rt, argv[1], NULL, &model, &err) == INFER_OK &&
           infer_session_create(model, &s, &session, &err) == INFER_OK && run(argv, session, infer_model_vocab_size(model), &err);
    if (!done)
        fprintf(stderr, "%s\n", err.message);
    infer_session_destroy(session);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    return !done;
}
