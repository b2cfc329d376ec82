/* infer-run --chat: a conversation on the terminal, or one line of standard input a message. */
#ifndef INFER_TOOLS_CHAT_H
#define INFER_TOOLS_CHAT_H

#include "cli.h"


typedef struct chat_options {
    const char *template_name; /* NULL: the model's own */
    const char *system;        /* NULL: none */
    const char *first;         /* the first message, NULL: none */
    uint32_t tokens;           /* most of an answer */
    infer_meter *meter;        /* NULL: no energy figures */
    bool quiet;
} chat_options;

/* The conversation until the end of input, /quit, or an interruption. Failure is cli_die. Interrupts cancel the session
 * (interrupts.h); SIGINT only ends an answer, where one is being written. */
void chat_run(infer_model *model, infer_session *session, infer_sampler *sampler, const chat_options *options);

#endif
