/* Conversations: the first byte picks the template, then follow messages, each a byte for its role, two for its size, and its text.
 * Whatever they say, control tokens come from the template alone. The same bytes are also read as a template in Jinja. */
#include "fuzz.h"

#include "text/chat.h"

enum { MESSAGES = 16, NAMED = 20 };

/* The tokens that the templates name, a few characters, all bytes. */
static infer_tokenizer *tokenizer(void)
{
    static const char *const named[NAMED] = {
        "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
        "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<start_of_turn>", "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
        " ", "us"};
    static infer_tokenizer *made;
    static char texts[256][8];
    const char *text[NAMED + 256];
    uint32_t bytes[NAMED + 256];
    uint8_t types[NAMED + 256];
    infer_vocab_parts parts = {.kind = INFER_VOCAB_SPM, .flags = INFER_VOCAB_BYTE_FALLBACK, .unk = 0, .bos = 1, .eos = 2,
                               .tokens = NAMED + 256, .text = text, .text_bytes = bytes, .types = types};
    void *section;
    size_t section_bytes;

    if (made)
        return made;
    for (uint32_t i = 0; i < NAMED + 256; i++) {
        if (i >= NAMED)
            snprintf(texts[i - NAMED], sizeof texts[0], "<0x%02X>", i - NAMED);
        text[i] = i < NAMED ? named[i] : texts[i - NAMED];
        bytes[i] = (uint32_t)strlen(text[i]);
        types[i] = i == 0 ? INFER_TOKEN_UNKNOWN : i < NAMED - 2 ? INFER_TOKEN_CONTROL : i < NAMED ? INFER_TOKEN_NORMAL : INFER_TOKEN_BYTE;
    }
    FUZZ_REQUIRE(infer_vocab_build(NULL, &parts, &section, &section_bytes, NULL) == INFER_OK);
    FUZZ_REQUIRE(infer_tokenizer_open(NULL, section, section_bytes, "fuzz", &made, NULL) == INFER_OK);
    return made;
}

/* How many control tokens the conversation has; SIZE_MAX: it is refused. */
static size_t controls(const infer_chat_template *c, const infer_chat_message *messages, size_t n)
{
    size_t count = 0, again = 0, found = 0;
    int32_t *ids;

    infer_chat_encode(c, tokenizer(), NULL, 1, messages, n, NULL, 0, &count, NULL);
    if (count == 0)
        return SIZE_MAX;
    ids = malloc(count * sizeof *ids);
    FUZZ_REQUIRE(ids && infer_chat_encode(c, tokenizer(), NULL, 1, messages, n, ids, count, &again, NULL) == INFER_OK && again == count);
    for (size_t i = 0; i < count; i++)
        found += infer_vocab_type(infer_tokenizer_vocab(tokenizer()), (uint32_t)ids[i]) == INFER_TOKEN_CONTROL;
    free(ids);
    return found;
}

static void fuzz_one(const uint8_t *data, size_t size)
{
    infer_chat_message messages[MESSAGES], silent[MESSAGES];
    const infer_chat_template *c;
    char *jinja = malloc(size + 1);
    size_t n = 0, templates = 0;

    FUZZ_REQUIRE(jinja);
    memcpy(jinja, data, size);
    jinja[size] = 0;
    c = infer_chat_template_recognise(jinja);
    free(jinja);
    if (size == 0)
        return;
    while (infer_chat_template_at(templates))
        templates++;
    if (!c)
        c = infer_chat_template_at(data[0] % templates);
    data++;
    size--;
    while (size && n < MESSAGES) {
        infer_chat_message *m = &messages[n];
        m->role = (infer_chat_role)(*data++ % 4); /* one too many */
        size--;
        m->text = (const char *)fuzz_part(&data, &size, &m->bytes);
        silent[n] = *m;
        silent[n++].bytes = 0;
    }
    if (n)
        FUZZ_REQUIRE(controls(c, messages, n) == controls(c, silent, n));
    infer_chat_end(c, tokenizer());
}
