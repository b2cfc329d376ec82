/* Chat templates: a conversation to tokens. The table of the families is in chat.c; the public view is infer/infer.h. */
#ifndef INFER_TEXT_CHAT_H
#define INFER_TEXT_CHAT_H

#include "text/text.h"

typedef struct infer_chat_template infer_chat_template;

/* The i-th of the table, NULL behind the last. */
const infer_chat_template *infer_chat_template_at(size_t i);
const infer_chat_template *infer_chat_template_find(const char *name);
/* The family of a template in Jinja, by the words that only it has; NULL: none of them. */
const infer_chat_template *infer_chat_template_recognise(const char *jinja);
const char *infer_chat_template_title(const infer_chat_template *c);

/* As infer_model_tokenize_chat and infer_model_chat_end. `bos`: the model's begin token, -1 for none. */
infer_status infer_chat_encode(const infer_chat_template *c, const infer_tokenizer *t, const infer_allocator *a, int32_t bos,
                               const infer_chat_message *messages, size_t count, int32_t *ids, size_t cap, size_t *needed,
                               infer_error *err);
int32_t infer_chat_end(const infer_chat_template *c, const infer_tokenizer *t);

#endif
