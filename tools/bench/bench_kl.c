#include "bench_kl.h"

#include "bench_model.h"
#include "cli.h"
#include "eval/teacher.h"
#include "eval/text.h"
#include "interrupts.h"

#include <stdlib.h>
#include <xxhash.h>

#define ROWS 64u /* of logits at once */

/* The text in the recorded run's windows, as many of them as it has. */
static void cut(const infer_model *model, const bench_kl_options *o, const eval_setting *recorded, eval_text *text, eval_setting *setting)
{
    cli_buffer input = {0};
    infer_error err;
    uint64_t tokens = 0;
    size_t windows = 0;
    cli_read_file(o->text, &input);
    bench_check(eval_text_cut(model, input.data, input.size, o->separator, recorded->window, recorded->stride, text, &err), &err);
    cli_buffer_free(&input);
    while (windows < text->window_count && tokens < recorded->tokens)
        tokens += text->counted[windows++];
    if (windows == 0)
        cli_die("%s: no text with two tokens or more", o->text);
    eval_text_limit(text, windows);
    *setting = (eval_setting){.vocab = infer_model_vocab_size(model), .window = recorded->window, .stride = recorded->stride,
                              .documents = o->separator != NULL, .tokens = text->tokens, .vocab_hash = eval_vocab_hash(model),
                              .ids_hash = XXH3_64bits(text->ids, text->id_count * sizeof *text->ids)};
}

eval_estimate bench_kl(infer_model *model, const bench_kl_options *o)
{
    infer_session_options session = INFER_SESSION_DEFAULTS;
    eval_text_run run = {.rows = ROWS};
    eval_text_report report;
    eval_teacher teacher;
    eval_setting setting;
    eval_text text;
    infer_error err;
    uint64_t token = 0;
    uint8_t *results;
    bench_check(eval_teacher_open(o->reference, &teacher, &err), &err);
    cut(model, o, &teacher.setting, &text, &setting);
    bench_check(eval_teacher_check(&teacher, &setting, &err), &err);
    session.context = setting.window;
    session.logit_rows = ROWS;
    session.kv_type = o->kv_type;
    bench_check(infer_session_create(model, &session, &run.session, &err), &err);
    cli_cancel_session(run.session);
    run.vocab = setting.vocab;
    run.text = &text;
    run.teacher = &teacher;
    if (!(results = malloc(text.tokens * eval_token_bytes(&run))))
        cli_die("out of memory for %llu tokens", (unsigned long long)text.tokens);
    for (size_t w = 0; w < text.window_count; token += text.counted[w++])
        bench_check(eval_text_window(&run, w, token, results + token * eval_token_bytes(&run), &err), &err);
    bench_check(eval_text_summarize(&run, results, &report, &err), &err);
    cli_cancel_session(NULL);
    free(results);
    infer_session_destroy(run.session);
    eval_text_free(&text);
    eval_teacher_close(&teacher);
    return report.kl;
}
