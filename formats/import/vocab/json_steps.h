/* Normalizer and pre-tokenizer of a tokenizer.json, as steps (formats/SPEC.md, "Tokenizer"), or as the flags and patterns that say the
 * same. */
#ifndef INFER_FORMATS_IMPORT_JSON_STEPS_H
#define INFER_FORMATS_IMPORT_JSON_STEPS_H

#include "import/vocab/json_text.h"
#include "vocab.h"

typedef struct infer_json_steps {
    const char *path;
    infer_error *err;
    infer_vocab_step list[INFER_VOCAB_MAX_STEPS];
    uint32_t count, normalizers; /* how many come from the normalizer */
    const char *charsmap;        /* in base64; NULL: none */
    bool bytes_last;             /* the last step, left out of the list, makes bytes GPT-2's alphabet */
    bool needed;                 /* flags cannot say it */
    char texts[INFER_VOCAB_MAX_STEP_BYTES];
    size_t text_bytes;
} infer_json_steps;

/* Appends the steps of the two parts, either of which may be missing. UNSUPPORTED names what is not known here. */
infer_status infer_json_steps_read(infer_json_steps *s, const cJSON *normalizer, const cJSON *pretokenizer);
infer_status infer_json_steps_add(infer_json_steps *s, uint32_t op, uint32_t argument, const char *text, const char *content);
/* Sets flags, pre-tokenizer and patterns; false where they cannot say what the steps say. `names`: special tokens are looked for in the
 * normalized text. */
bool infer_json_steps_as_flags(infer_json_steps *s, bool names, infer_vocab_parts *out);
/* Sets pre-tokenizer, the flags that go with steps, and the block, of which infer_json_steps_bytes are written. */
uint32_t infer_json_steps_bytes(const infer_json_steps *s, bool names);
void infer_json_steps_write(const infer_json_steps *s, bool names, uint8_t *block, infer_vocab_parts *out);

/* UNSUPPORTED: a part of the file, as JSON. */
infer_status infer_json_unknown(const char *path, const char *part, const cJSON *item, infer_error *err);

static inline bool infer_json_is_type(const cJSON *item, const char *name)
{
    return text_is(get(item, "type"), name);
}

#endif
