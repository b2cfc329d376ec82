/* Tokenizers, streaming decoder, sampler: inside view. The public view is infer/infer.h. */
#ifndef INFER_TEXT_TEXT_H
#define INFER_TEXT_TEXT_H

#include "core/core.h"
#include "vocab.h"

typedef struct infer_tokenizer infer_tokenizer;

/* Builds look-up tables over a tokenizer section, which must outlive it. FORMAT as infer_vocab_parse; UNSUPPORTED names a kind or
 * pre-tokenizer that is missing here. `name` is the file's, for messages. */
infer_status infer_tokenizer_open(const infer_allocator *a, const void *section, size_t bytes, const char *name, infer_tokenizer **out,
                                  infer_error *err);
void infer_tokenizer_close(infer_tokenizer *t);
const infer_vocab_view *infer_tokenizer_vocab(const infer_tokenizer *t);
/* As infer_model_tokenize and infer_model_token_text. */
infer_status infer_tokenizer_encode(const infer_tokenizer *t, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t cap,
                                    size_t *count, infer_error *err);
const char *infer_tokenizer_token(const infer_tokenizer *t, int32_t id, size_t *bytes);

/* As the infer_decoder and infer_sampler functions of infer.h, without a model. */
infer_status infer_decoder_open(const infer_allocator *a, const infer_tokenizer *t, infer_decoder **out, infer_error *err);
infer_status infer_sampler_open(const infer_allocator *a, uint32_t vocab, const infer_sampler_options *options, infer_sampler **out,
                                infer_error *err);
/* Another sampler in the same state; and the state of one for another of the same options and vocabulary. */
infer_status infer_sampler_clone(const infer_sampler *s, infer_sampler **out, infer_error *err);
void infer_sampler_copy(infer_sampler *to, const infer_sampler *from);


#endif
