#include "chat.h"

#include "core/core.h"
#include "interrupts.h"
#include "joules.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FENCE "\"\"\"" /* begins and ends a message of several lines */

static const char help[] =
    "A line is a message. One that ends in \\ goes on in the next line; lines between two lines \"\"\" are one message.\n"
    "  /system TEXT   begin anew with this instruction (without TEXT: with none)\n"
    "  /clear         begin anew\n"
    "  /undo          forget the last message and its answer\n"
    "  /retry         another answer to the last message\n"
    "  /stats         tokens, speed, context in use, energy\n"
    "  /help          this text\n"
    "  /quit          end; so does the end of input\n"
    "Ctrl-C ends an answer that is being written.\n";

/* Of all windows whose energy is known. */
typedef struct energy_sum {
    double gross_uj, net_uj;
    size_t tokens;
} energy_sum;

typedef struct chat {
    infer_model *model;
    infer_session *session;
    infer_sampler *sampler;
    infer_decoder *decoder;
    const chat_options *options;
    bool terminal;
    int32_t end; /* of an answer, beside the model's own end tokens */
    infer_chat_message *messages; /* their texts are allocated */
    size_t count, room;
    int32_t *held; /* what the session's cache holds */
    size_t prompt_tokens, answer_tokens;
    uint64_t prompt_ns, answer_ns;
    energy_sum prompt_energy, answer_energy;
} chat;

/* ---- history ---- */

static void add_message(chat *c, infer_chat_role role, const char *text, size_t bytes)
{
    char *copy = malloc(bytes + 1);
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 16;
        infer_chat_message *grown = realloc(c->messages, room * sizeof *grown);
        if (!grown)
            cli_die("out of memory for %zu messages", room);
        c->messages = grown;
        c->room = room;
    }
    if (!copy)
        cli_die("out of memory for a message of %zu bytes", bytes);
    memcpy(copy, text, bytes);
    c->messages[c->count++] = (infer_chat_message){role, copy, bytes};
}

static void drop_messages(chat *c, size_t from, size_t n)
{
    if (n == 0)
        return;
    for (size_t i = from; i < from + n; i++)
        free((char *)c->messages[i].text);
    memmove(c->messages + from, c->messages + from + n, (c->count - from - n) * sizeof *c->messages);
    c->count -= n;
}

static void drop_last(chat *c, infer_chat_role role)
{
    if (c->count && c->messages[c->count - 1].role == role)
        drop_messages(c, c->count - 1, 1);
}

static void begin(chat *c, const char *system)
{
    char *copy = system && *system ? strdup(system) : NULL; /* it may be a message's own text */
    drop_messages(c, 0, c->count);
    if (copy)
        add_message(c, INFER_CHAT_SYSTEM, copy, strlen(copy));
    free(copy);
}

/* ---- energy ---- */

static void start_meter(chat *c)
{
    infer_error err;
    if (c->options->meter && infer_meter_start(c->options->meter, &err) != INFER_OK)
        cli_note("energy: %s", err.message);
}

/* `tokens`: evaluated since the start. A window that a counter is too slow for is left out with its tokens. */
static void stop_meter(chat *c, energy_sum *sum, size_t tokens)
{
    infer_energy e;
    infer_error err;
    infer_status s = c->options->meter ? infer_meter_stop(c->options->meter, &e, &err) : INFER_ERROR_ARGUMENT;
    if (s != INFER_OK && s != INFER_ERROR_ARGUMENT) /* ARGUMENT: it did not start, which was said */
        cli_note("energy: %s", err.message);
    if (s != INFER_OK || !isfinite(e.gross_uj))
        return;
    sum->gross_uj += e.gross_uj;
    sum->net_uj += e.net_uj;
    sum->tokens += tokens;
}

/* ---- an answer ---- */

static int32_t *tokenize(const chat *c, size_t *n)
{
    infer_error err;
    size_t need = 0;
    int32_t *ids;
    infer_status s = infer_model_tokenize_chat(c->model, c->options->template_name, c->messages, c->count, NULL, 0, &need, &err);
    if (s != INFER_OK && !(s == INFER_ERROR_ARGUMENT && need))
        cli_die("%s", err.message);
    if (!(ids = malloc((need ? need : 1) * sizeof *ids)))
        cli_die("out of memory for %zu tokens", need);
    if (need && infer_model_tokenize_chat(c->model, c->options->template_name, c->messages, c->count, ids, need, n, &err) != INFER_OK)
        cli_die("%s", err.message);
    *n = need;
    return ids;
}

/* The conversation's tokens, with its oldest exchanges left out until there is room for an answer. NULL: the last message alone is too long. */
static int32_t *fit(chat *c, size_t *n)
{
    size_t context = infer_session_context(c->session), answer = c->options->tokens < context / 4 ? c->options->tokens : context / 4;
    size_t first = c->messages[0].role == INFER_CHAT_SYSTEM, dropped = 0;
    for (;;) {
        int32_t *ids = tokenize(c, n);
        if (*n && *n + answer <= context) {
            if (dropped)
                cli_note("the oldest %zu messages do not fit the context of %zu tokens any more and are forgotten", dropped, context);
            return ids;
        }
        free(ids);
        if (*n == 0 || c->count - first < 3)
            return NULL;
        drop_messages(c, first, 2);
        dropped += 2;
    }
}

/* Appends tokens to the session. False when it was interrupted: a cancellation that came after the last answer is not meant for this one. */
static bool evaluate(chat *c, const int32_t *ids, size_t n)
{
    infer_error err;
    infer_status s;
    do
        s = infer_session_eval(c->session, ids, n, INFER_LOGITS_LAST, &err);
    while (s == INFER_ERROR_CANCELLED && !cli_interrupted);
    if (s != INFER_OK && s != INFER_ERROR_CANCELLED)
        cli_die("%s", err.message);
    return s == INFER_OK;
}

/* Evaluates what the session does not hold yet. */
static bool read_prompt(chat *c, const int32_t *ids, size_t n)
{
    size_t same = 0, held = infer_session_position(c->session);
    uint64_t start = infer_now_ns();
    bool whole;
    while (same < held && same + 1 < n && c->held[same] == ids[same]) /* NOLINT(clang-analyzer-core.*): `held` of them are set */
        same++;
    infer_session_rewind(c->session, (uint32_t)same, NULL);
    start_meter(c);
    whole = evaluate(c, ids + same, n - same);
    stop_meter(c, &c->prompt_energy, whole ? n - same : 0);
    if (!whole)
        return false;
    memcpy(c->held, ids, n * sizeof *ids);
    for (size_t i = same; i < n; i++)
        infer_sampler_accept(c->sampler, ids[i]);
    c->prompt_tokens += n - same;
    c->prompt_ns += infer_now_ns() - start;
    return true;
}

/* To standard output and to `answer`, without the space that a SentencePiece vocabulary puts before the first word. */
static void emit(cli_buffer *answer, const char *text, size_t bytes)
{
    if (!answer->size && bytes && *text == ' ')
        text++, bytes--;
    if (!cli_buffer_add(answer, text, bytes))
        cli_die("out of memory for the answer");
    if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout) != 0)
        cli_die("standard output: %s", strerror(errno));
}

static void write_answer(chat *c, cli_buffer *answer)
{
    const char *text;
    size_t bytes;
    uint64_t start = infer_now_ns();
    size_t evaluated = 0;
    start_meter(c);
    for (uint32_t i = 0; i < c->options->tokens && !cli_interrupted; i++) {
        int32_t id = infer_sampler_sample(c->sampler, infer_session_logits(c->session, 0));
        uint32_t position = infer_session_position(c->session);
        if (id == c->end || infer_model_token_is_end(c->model, id))
            break;
        c->answer_tokens++;
        if (infer_decoder_push(c->decoder, id, &text, &bytes) == INFER_OK)
            emit(answer, text, bytes);
        if (position == infer_session_context(c->session)) {
            cli_note("the context of %u tokens is full; the answer ends here", position);
            break;
        }
        if (evaluate(c, &id, 1)) {
            c->held[position] = id;
            evaluated++;
        }
    }
    stop_meter(c, &c->answer_energy, evaluated);
    if (infer_decoder_push(c->decoder, -1, &text, &bytes) == INFER_OK)
        emit(answer, text, bytes);
    c->answer_ns += infer_now_ns() - start;
}

/* The assistant's turn. */
static void answer(chat *c)
{
    cli_buffer text = {0};
    size_t n;
    int32_t *ids = fit(c, &n);
    if (!ids) {
        cli_note("the message does not fit the context of %u tokens and is forgotten; see --ctx", infer_session_context(c->session));
        drop_last(c, INFER_CHAT_USER);
        return;
    }
    if (read_prompt(c, ids, n)) {
        write_answer(c, &text);
        fputc('\n', stdout);
        fflush(stdout);
        add_message(c, INFER_CHAT_ASSISTANT, text.data ? text.data : "", text.size);
    } else {
        drop_last(c, INFER_CHAT_USER);
    }
    if (cli_interrupted == SIGINT)
        cli_interrupted = 0;
    cli_buffer_free(&text);
    free(ids);
}

/* ---- input ---- */

/* Whether Ctrl-C lets a read that waits go on waiting. */
static void restart_reads(bool restart)
{
    struct sigaction action;
    sigaction(SIGINT, NULL, &action);
    action.sa_flags = restart ? action.sa_flags | SA_RESTART : action.sa_flags & ~SA_RESTART;
    sigaction(SIGINT, &action, NULL);
}

/* A line without its end. False at the end of input, or when Ctrl-C was pressed. */
static bool read_line(chat *c, const char *prompt, cli_buffer *line)
{
    char *data = NULL;
    size_t room = 0;
    ssize_t n;
    if (c->terminal) {
        fputs(prompt, stderr);
        fflush(stderr);
    }
    restart_reads(false);
    n = cli_interrupted ? -1 : getline(&data, &room, stdin);
    restart_reads(true);
    if (n > 0 && data[n - 1] == '\n')
        n--;
    if (n > 0 && data[n - 1] == '\r')
        n--;
    if (n >= 0 && !cli_buffer_add(line, data, (size_t)n))
        cli_die("out of memory for a line");
    free(data);
    return n >= 0 && !cli_interrupted;
}

/* A message, or a command, in `text`. False at the end. */
static bool read_message(chat *c, cli_buffer *text)
{
    bool more = read_line(c, "> ", text);
    if (more && strcmp(text->data, FENCE) == 0) {
        text->size = 0;
        for (size_t from = 0; (more = read_line(c, ". ", text)) && strcmp(text->data + from, FENCE) != 0; from = text->size)
            if (!cli_buffer_add(text, "\n", 1))
                cli_die("out of memory for a message");
        if (more)
            text->size -= strlen(FENCE);
        while (text->size && text->data[text->size - 1] == '\n')
            text->size--;
        text->data[text->size] = 0;
        return more || (text->size && !cli_interrupted);
    }
    while (more && text->size && text->data[text->size - 1] == '\\') {
        text->data[text->size - 1] = '\n';
        more = read_line(c, ". ", text);
    }
    return more || (text->size && !cli_interrupted);
}

static double per_second(size_t tokens, uint64_t ns) { return ns ? tokens * 1e9 / ns : 0; }

static void energy_text(const energy_sum *sum, char out[80])
{
    joules_text(out, joules_each(sum->gross_uj, sum->tokens), joules_each(sum->net_uj, sum->tokens));
}

static void print_stats(const chat *c)
{
    fprintf(stderr, "read %zu tokens, %.1f tokens/s; wrote %zu tokens, %.1f tokens/s; context %u of %u tokens\n", c->prompt_tokens,
            per_second(c->prompt_tokens, c->prompt_ns), c->answer_tokens, per_second(c->answer_tokens, c->answer_ns),
            infer_session_position(c->session), infer_session_context(c->session));
    if (c->options->meter && infer_meter_kind(c->options->meter) != INFER_ENERGY_NONE) {
        infer_energy_kind kind = infer_meter_kind(c->options->meter);
        char prompt[80], answer[80];
        energy_text(&c->prompt_energy, prompt);
        energy_text(&c->answer_energy, answer);
        fprintf(stderr, "energy, %s: reading %s; writing %s; %s\n", joules_kind(kind), prompt, answer,
                kind == INFER_ENERGY_ESTIMATED ? "off by a factor of about 2" : infer_meter_source(c->options->meter));
    }
}

/* False for /quit. */
static bool command(chat *c, const char *line)
{
    size_t n = strcspn(line, " ");
    const char *rest = line + n + strspn(line + n, " ");
    if (n == 5 && strncmp(line, "/quit", n) == 0)
        return false;
    if (n == 5 && strncmp(line, "/help", n) == 0) {
        fputs(help, stderr);
    } else if (n == 7 && strncmp(line, "/system", n) == 0) {
        begin(c, rest);
    } else if (n == 6 && strncmp(line, "/clear", n) == 0) {
        begin(c, c->count && c->messages[0].role == INFER_CHAT_SYSTEM ? c->messages[0].text : NULL);
    } else if (n == 5 && strncmp(line, "/undo", n) == 0) {
        drop_last(c, INFER_CHAT_ASSISTANT);
        drop_last(c, INFER_CHAT_USER);
    } else if (n == 6 && strncmp(line, "/retry", n) == 0) {
        drop_last(c, INFER_CHAT_ASSISTANT);
        if (c->count && c->messages[c->count - 1].role == INFER_CHAT_USER)
            answer(c);
        else
            cli_note("there is no message to answer");
    } else if (n == 6 && strncmp(line, "/stats", n) == 0) {
        print_stats(c);
    } else {
        cli_note("unknown command %.*s; /help lists them", n < 40 ? (int)n : 40, line);
    }
    return true;
}

static void converse(chat *c)
{
    cli_buffer text = {0};
    if (c->options->first) {
        add_message(c, INFER_CHAT_USER, c->options->first, strlen(c->options->first));
        answer(c);
    } else if (c->terminal && !c->options->quiet) {
        fputs("/help lists the commands\n", stderr);
    }
    for (bool go_on = true; go_on && read_message(c, &text); text.size = 0) {
        if (text.size == 0)
            continue;
        if (*text.data == '/') {
            go_on = command(c, text.data);
        } else {
            add_message(c, INFER_CHAT_USER, text.data, text.size);
            answer(c);
        }
    }
    if (c->terminal)
        fputc('\n', stderr);
    cli_buffer_free(&text);
}

void chat_run(infer_model *model, infer_session *session, infer_sampler *sampler, const chat_options *options)
{
    chat c = {.model = model, .session = session, .sampler = sampler, .options = options};
    infer_error err;
    if (!options->template_name && !infer_model_chat_template(model))
        cli_die("the model has no chat template that is known here; choose one with --chat-template");
    if (infer_decoder_create(model, &c.decoder, &err) != INFER_OK)
        cli_die("%s", err.message);
    if (!(c.held = malloc(infer_session_context(session) * sizeof *c.held)))
        cli_die("out of memory for %u tokens", infer_session_context(session));
    c.terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    c.end = infer_model_chat_end(model, options->template_name);
    begin(&c, options->system);
    converse(&c);
    if (!options->quiet)
        print_stats(&c);
    drop_messages(&c, 0, c.count);
    infer_decoder_destroy(c.decoder);
    free(c.messages);
    free(c.held);
}
