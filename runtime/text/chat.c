/*
 * Chat templates. Model files carry theirs as a program in Jinja; running programs from files is more than a conversation needs, so the
 * known families are rows of a table here, and a file's template only tells which. Formats: the templates published with the models (ChatML
 * by OpenAI, Llama 2 and 3 by Meta, Mistral v1 to v7, Gemma, Phi-3, Zephyr).
 *
 * What a message says is never read as a special token: a user cannot end a turn by writing <|im_end|>.
 */
#include "text/chat.h"

#include <string.h>

/* In the strings of the table: the names of special tokens stand between two S; where the vocabulary lacks one, its name is plain text. */
#define S "\001"
#define EOS "\002" /* the vocabulary's end token */
#define BOS "\003" /* the begin token, where it has not just been put */

typedef struct form {
    const char *before, *after;
} form;

struct infer_chat_template {
    const char *name;
    const char *words[3];  /* all of them occur in the family's Jinja */
    const char *turn;      /* before a system or user message that begins a turn */
    form system, user, assistant;
    const char *open;      /* where the assistant is to answer */
    bool bos;              /* a begin token first, whatever the vocabulary says */
    bool trim;             /* messages lose white space at both ends */
    bool trim_assistant;   /* answers do */
};

/* The first row whose words all occur is taken. */
static const infer_chat_template templates[] = {
    {"chatml", {"<|im_start|>", "<|im_end|>"}, "",
     {S "<|im_start|>" S "system\n", S "<|im_end|>" S "\n"},
     {S "<|im_start|>" S "user\n", S "<|im_end|>" S "\n"},
     {S "<|im_start|>" S "assistant\n", S "<|im_end|>" S "\n"},
     S "<|im_start|>" S "assistant\n", false, false, false},
    {"llama3", {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, "",
     {S "<|start_header_id|>" S "system" S "<|end_header_id|>" S "\n\n", S "<|eot_id|>" S},
     {S "<|start_header_id|>" S "user" S "<|end_header_id|>" S "\n\n", S "<|eot_id|>" S},
     {S "<|start_header_id|>" S "assistant" S "<|end_header_id|>" S "\n\n", S "<|eot_id|>" S},
     S "<|start_header_id|>" S "assistant" S "<|end_header_id|>" S "\n\n", true, true, true},
    {"llama2", {"[INST]", "<<SYS>>"}, BOS "[INST] ",
     {"<<SYS>>\n", "\n<</SYS>>\n\n"}, {"", " [/INST]"}, {" ", " " EOS}, "", true, true, true},
    {"mistral-v7", {"[INST]", "[SYSTEM_PROMPT]"}, "",
     {S "[SYSTEM_PROMPT]" S " ", S "[/SYSTEM_PROMPT]" S}, {S "[INST]" S " ", S "[/INST]" S}, {" ", EOS}, "", true, false, false},
    {"mistral-v1", {" [INST] "}, " " S "[INST]" S " ",
     {"", "\n\n"}, {"", " " S "[/INST]" S}, {" ", EOS}, "", true, false, false},
    {"mistral-v3-tekken", {"\"[INST]\"", "[AVAILABLE_TOOLS]"}, S "[INST]" S,
     {"", "\n\n"}, {"", S "[/INST]" S}, {"", EOS}, "", true, false, false},
    {"mistral-v3", {"[INST]"}, S "[INST]" S " ",
     {"", "\n\n"}, {"", S "[/INST]" S}, {" ", EOS}, "", true, false, true},
    {"gemma", {"<start_of_turn>", "<end_of_turn>"}, S "<start_of_turn>" S "user\n",
     {"", "\n\n"}, {"", S "<end_of_turn>" S "\n"}, {S "<start_of_turn>" S "model\n", S "<end_of_turn>" S "\n"},
     S "<start_of_turn>" S "model\n", true, true, true},
    {"phi3", {"<|assistant|>", "<|end|>"}, "",
     {S "<|system|>" S "\n", S "<|end|>" S "\n"}, {S "<|user|>" S "\n", S "<|end|>" S "\n"}, {S "<|assistant|>" S "\n", S "<|end|>" S "\n"},
     S "<|assistant|>" S "\n", false, false, false},
    {"zephyr", {"<|user|>", "<|assistant|>"}, "",
     {S "<|system|>" S "\n", EOS "\n"}, {S "<|user|>" S "\n", EOS "\n"}, {S "<|assistant|>" S "\n", EOS "\n"},
     S "<|assistant|>" S "\n", false, false, false},
};

enum { TEMPLATES = sizeof templates / sizeof templates[0] };

const infer_chat_template *infer_chat_template_at(size_t i) { return i < TEMPLATES ? &templates[i] : NULL; }

const infer_chat_template *infer_chat_template_find(const char *name)
{
    for (size_t i = 0; i < TEMPLATES; i++)
        if (strcmp(templates[i].name, name) == 0)
            return &templates[i];
    return NULL;
}

const infer_chat_template *infer_chat_template_recognise(const char *jinja)
{
    for (size_t i = 0; i < TEMPLATES; i++) {
        bool all = true;
        for (size_t w = 0; w < 3 && templates[i].words[w]; w++)
            all &= strstr(jinja, templates[i].words[w]) != NULL;
        if (all)
            return &templates[i];
    }
    return NULL;
}

const char *infer_chat_template_title(const infer_chat_template *c) { return c->name; }

/* ---- special tokens ---- */

static uint32_t end_token(const infer_tokenizer *t) { return infer_tokenizer_vocab(t)->eos; }

/* The special token of this name, or -1. */
static int32_t special_token(const infer_tokenizer *t, const char *name, size_t bytes)
{
    int32_t ids[2];
    size_t n = 0;
    uint8_t type;

    if (infer_tokenizer_encode(t, name, bytes, INFER_TOKENIZE_SPECIAL, ids, 2, &n, NULL) != INFER_OK || n != 1)
        return -1;
    type = infer_tokenizer_vocab(t)->types[ids[0]];
    return type == INFER_TOKEN_CONTROL || type == INFER_TOKEN_USER ? ids[0] : -1;
}

int32_t infer_chat_end(const infer_chat_template *c, const infer_tokenizer *t)
{
    const char *p = c->assistant.after + strcspn(c->assistant.after, S EOS);

    if (*p == *S)
        return special_token(t, p + 1, strcspn(p + 1, S));
    return *p == *EOS && end_token(t) != INFER_VOCAB_NO_ID ? (int32_t)end_token(t) : -1;
}

/* ---- encoding ---- */

/* Plain text gathers in `text` until a special token ends it, so that words are cut as in one text. */
typedef struct encoder {
    const infer_tokenizer *t;
    char *text; /* has room for all of the conversation */
    size_t bytes;
    int32_t *ids, bos, last; /* last: the token put last, -1 when that was text */
    size_t cap, count;
    infer_error *err;
} encoder;

static infer_status end_text(encoder *e)
{
    size_t room = e->cap > e->count ? e->cap - e->count : 0, n = 0;
    infer_status s;

    if (!e->bytes)
        return INFER_OK;
    s = infer_tokenizer_encode(e->t, e->text, e->bytes, 0, room ? e->ids + e->count : NULL, room, &n, e->err);
    if (s != INFER_OK && !(s == INFER_ERROR_ARGUMENT && n > room))
        return s;
    e->count += n;
    e->bytes = 0;
    e->last = -1;
    return INFER_OK;
}

static infer_status put_token(encoder *e, int32_t id)
{
    infer_status s = end_text(e);

    if (s != INFER_OK)
        return s;
    if (e->count < e->cap)
        e->ids[e->count] = id;
    e->count++;
    e->last = id;
    return INFER_OK;
}

static void add_text(encoder *e, const char *text, size_t bytes)
{
    memcpy(e->text + e->bytes, text, bytes);
    e->bytes += bytes;
}

/* A string of the table. */
static infer_status add_form(encoder *e, const char *p)
{
    infer_status s = INFER_OK;

    while (*p && s == INFER_OK) {
        size_t n = strcspn(p, S EOS BOS);
        add_text(e, p, n);
        p += n;
        if (*p == *S) {
            int32_t id;
            n = strcspn(++p, S);
            id = special_token(e->t, p, n);
            if (id >= 0)
                s = put_token(e, id);
            else
                add_text(e, p, n);
            p += n + 1;
        } else if (*p == *EOS) {
            if (end_token(e->t) != INFER_VOCAB_NO_ID)
                s = put_token(e, (int32_t)end_token(e->t));
            p++;
        } else if (*p == *BOS) {
            if (e->bos >= 0 && (e->bytes || e->last != e->bos))
                s = put_token(e, e->bos);
            p++;
        }
    }
    return s;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void add_message(encoder *e, const infer_chat_message *m, bool trim)
{
    const char *from = m->text, *to = m->text + m->bytes;

    while (trim && from < to && is_space(*from))
        from++;
    while (trim && from < to && is_space(to[-1]))
        to--;
    if (from < to)
        add_text(e, from, (size_t)(to - from));
}

static infer_status encode(encoder *e, const infer_chat_template *c, const infer_chat_message *messages, size_t count)
{
    bool turn_open = false, put_bos = c->bos || infer_tokenizer_vocab(e->t)->flags & INFER_VOCAB_ADD_BOS;
    infer_status s = e->bos >= 0 && put_bos ? put_token(e, e->bos) : INFER_OK;

    for (size_t i = 0; i < count && s == INFER_OK; i++) {
        const infer_chat_message *m = &messages[i];
        bool answer = m->role == INFER_CHAT_ASSISTANT, left_open = answer && i + 1 == count;
        const form *f = answer ? &c->assistant : m->role == INFER_CHAT_USER ? &c->user : &c->system;
        if (!answer && !turn_open)
            s = add_form(e, c->turn);
        turn_open = m->role == INFER_CHAT_SYSTEM;
        if (s == INFER_OK)
            s = add_form(e, f->before);
        add_message(e, m, c->trim || (answer && c->trim_assistant));
        if (s == INFER_OK && !left_open)
            s = add_form(e, f->after);
    }
    if (s == INFER_OK && messages[count - 1].role != INFER_CHAT_ASSISTANT)
        s = add_form(e, c->open);
    return s == INFER_OK ? end_text(e) : s;
}

/* Bytes of the longest text that the messages can become; false when they are out of range. */
static bool measure(const infer_chat_template *c, const infer_chat_message *messages, size_t count, size_t *bytes)
{
    size_t forms = strlen(c->turn) + strlen(c->open), total = 0;

    forms += strlen(c->system.before) + strlen(c->system.after) + strlen(c->user.before) + strlen(c->user.after) +
             strlen(c->assistant.before) + strlen(c->assistant.after);
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(total, forms, &total) || __builtin_add_overflow(total, messages[i].bytes, &total))
            return false;
    *bytes = total;
    return true;
}

infer_status infer_chat_encode(const infer_chat_template *c, const infer_tokenizer *t, const infer_allocator *a, int32_t bos,
                               const infer_chat_message *messages, size_t count, int32_t *ids, size_t cap, size_t *needed, infer_error *err)
{
    encoder e = {.t = t, .ids = ids, .bos = bos, .last = -1, .cap = cap, .err = err};
    size_t bytes;
    infer_status s;

    if (count == 0)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "chat: found no messages, expected at least one");
    for (size_t i = 0; i < count; i++)
        if ((unsigned)messages[i].role > INFER_CHAT_ASSISTANT || (messages[i].role == INFER_CHAT_SYSTEM && i > 0) ||
            (!messages[i].text && messages[i].bytes))
            return infer_fail(err, INFER_ERROR_ARGUMENT,
                              "chat: message %zu: found role %d, expected a text of user or assistant, or of system as the first", i,
                              (int)messages[i].role);
    if (!measure(c, messages, count, &bytes))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "chat: %zu messages are too long for this machine", count);
    if (!(e.text = infer_alloc(a, bytes)))
        return infer_fail_memory(err, bytes, "a conversation");
    s = encode(&e, c, messages, count);
    infer_free(a, e.text);
    if (s != INFER_OK)
        return s;
    *needed = e.count;
    return e.count <= cap
               ? INFER_OK
               : infer_fail(err, INFER_ERROR_ARGUMENT, "chat: the conversation needs %zu tokens, there is room for %zu", e.count, cap);
}
