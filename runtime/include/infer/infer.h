/*
 * libinfer: language models on ordinary CPUs, with the least energy per token.
 * SPDX-License-Identifier: MIT
 *
 * A tour
 *   infer_runtime   a CPU level and a pool of threads. Nothing is process-global: two runtimes live side by side.
 *   infer_model     one .infer file, mapped read-only. Its weights are used in place and shared by all its sessions.
 *   infer_session   a plan, its buffers and a KV cache: one conversation.
 *   infer_sampler   turns logits into a token.
 *   infer_decoder   turns tokens into whole UTF-8 characters.
 *   infer_meter     tells the energy of what runs between its start and its stop.
 *
 * A complete program
 *   #include <infer/infer.h>
 *   #include <stdio.h>
 *   #include <string.h>
 *
 *   int main(int argc, char **argv)
 *   {
 *       infer_error err = {INFER_OK, ""};
 *       infer_runtime *rt = NULL;
 *       infer_model *model = NULL;
 *       infer_session *session = NULL;
 *       int32_t ids[64];
 *       size_t n = 0;
 *       if (argc < 3 || infer_runtime_create(NULL, &rt, &err) || infer_model_open(rt, argv[1], NULL, &model, &err) ||
 *           infer_session_create(model, NULL, &session, &err) ||
 *           infer_model_tokenize(model, argv[2], strlen(argv[2]), INFER_TOKENIZE_BOS, ids, 64, &n, &err) ||
 *           infer_session_eval(session, ids, n, INFER_LOGITS_LAST, &err))
 *           fprintf(stderr, "%s\n", err.message);
 *       else
 *           printf("the most likely next token is %d\n", (int)infer_argmax(infer_session_logits(session, 0),
 *                                                                     infer_model_vocab_size(model)));
 *       infer_session_destroy(session);
 *       infer_model_close(model);
 *       infer_runtime_destroy(rt);
 *   }
 *
 * Conventions
 *   Every fallible function returns an infer_status and leaves its out-parameters untouched on failure. `err` may be NULL;
 *   else it receives the status and one line that names what, where, found and expected. Its comment names every status but INFER_OK;
 *   ARGUMENT stands for a NULL where nothing allows it and for options of another size, too.
 *   Options structs may be NULL (all defaults). Else start from INFER_..._DEFAULTS, which sets `size`: it lets the library tell
 *   an old caller from a new one.
 *   Destroy and close functions accept NULL. Close in the reverse order of opening.
 *   Threads: a runtime and a model may be shared by threads; a session, sampler or decoder is used by one thread at a time.
 *   The library never prints, aborts, exits, installs signal handlers (but the one that INFER_LOAD_GUARD asks for) or keeps global state.
 */
#ifndef INFER_INFER_H
#define INFER_INFER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define INFER_API
#else
#define INFER_API __attribute__((visibility("default")))
#endif

#define INFER_VERSION_MAJOR 0
#define INFER_VERSION_MINOR 1
#define INFER_VERSION_PATCH 0

/* "0.1.0", the version of the library that runs, as opposed to the header compiled against. Static storage. */
INFER_API const char *infer_version(void);

/* ---- status ---- */

typedef enum infer_status {
    INFER_OK = 0,
    INFER_ERROR_ARGUMENT = 1,    /* a parameter is outside its stated range */
    INFER_ERROR_MEMORY = 2,      /* an allocation or a mapping failed */
    INFER_ERROR_IO = 3,          /* open, read, write or rename failed: see the message */
    INFER_ERROR_FORMAT = 4,      /* the bytes of a file are not what its format says */
    INFER_ERROR_CORRUPT = 5,     /* a hash differs from the stored one, or the file changed under the mapping */
    INFER_ERROR_UNSUPPORTED = 6, /* well-formed, but this build or this CPU lacks what it needs; the message names it */
    INFER_ERROR_CONTEXT = 7,     /* more tokens than the session's context holds */
    INFER_ERROR_CANCELLED = 8    /* infer_session_cancel was called */
} infer_status;

typedef struct infer_error {
    infer_status status;
    char message[500]; /* one line, NUL-terminated, no newline at its end */
} infer_error;

/* A short name such as "out of memory". Never NULL; "unknown status" for other values. Static storage. */
INFER_API const char *infer_status_name(infer_status status);

/* ---- runtime ---- */

/* Memory for everything a handle owns. `alloc` returns `bytes` aligned to 64, or NULL. All three of one set, or all NULL. */
typedef struct infer_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void (*free)(void *user, void *p);
    void *user;
} infer_allocator;

/* Gets a line (no newline) for each runtime, model and session made: what was chosen. On the thread that makes it. */
typedef void infer_log_fn(void *user, const char *line);

typedef struct infer_runtime_options {
    size_t size;
    uint32_t threads;       /* 0: one per physical core of the memory node with most of those this process may use; at most 256. More than its
                             * CPUs count as that many */
    const char *cpu_level;  /* NULL: environment INFER_CPU, else the best that this CPU has. "ref", "avx2", ... */
    infer_allocator allocator; /* zeros: the C library's */
    infer_log_fn *log;      /* NULL: none */
    void *log_user;
} infer_runtime_options;
#define INFER_RUNTIME_DEFAULTS {sizeof(infer_runtime_options), 0, NULL, {NULL, NULL, NULL}, NULL, NULL}

typedef struct infer_runtime infer_runtime;

/* Starts the pool; its threads sleep until a session evaluates. UNSUPPORTED: a level that this CPU lacks; ARGUMENT, MEMORY (or no thread). */
INFER_API infer_status infer_runtime_create(const infer_runtime_options *options, infer_runtime **out, infer_error *err);
INFER_API void infer_runtime_destroy(infer_runtime *rt);
/* The level in use ("avx2"), static storage, and the number of threads that work, the caller's among them. */
INFER_API const char *infer_runtime_cpu_level(const infer_runtime *rt);
INFER_API uint32_t infer_runtime_threads(const infer_runtime *rt);
/* The levels that this CPU has and this library was built for, the lowest ("ref") first; NULL behind the last. Static storage. */
INFER_API const char *infer_cpu_level_available(size_t index);

/* ---- model ---- */

typedef enum infer_verify {
    INFER_VERIFY_FIRST_USE = 0, /* a tensor's hash is checked in the first evaluation that reads it, before that returns */
    INFER_VERIFY_OPEN = 1,      /* all are checked by infer_model_open */
    INFER_VERIFY_NEVER = 2
} infer_verify;

typedef enum infer_load {
    INFER_LOAD_MAP = 0,  /* mapped, its weights used in place. A file found changed before or after an evaluation is CORRUPT, but one that is cut off
                          * during an evaluation raises SIGBUS. Replacing it by renaming does no harm */
    INFER_LOAD_COPY = 1, /* read into memory from the allocator, for files that others may write to: what was checked is what is used */
    INFER_LOAD_GUARD = 2 /* mapped; while such a model is open (at most 256 at once, else MEMORY) the process has a handler for SIGBUS, which passes on
                          * what is not the library's: a file that is cut off at any time is CORRUPT. Threads that evaluate must not block SIGBUS */
} infer_load;

typedef struct infer_model_options {
    size_t size;
    infer_verify verify;
    infer_load load;
} infer_model_options;
#define INFER_MODEL_DEFAULTS {sizeof(infer_model_options), INFER_VERIFY_FIRST_USE, INFER_LOAD_MAP}

typedef struct infer_model infer_model;

/* Maps the .infer file at `path` (UTF-8) read-only and checks header and directory; no weight is read or copied but with INFER_LOAD_COPY. The
 * runtime must outlive the model. ARGUMENT, IO, FORMAT, CORRUPT, UNSUPPORTED (architecture, tensor type), MEMORY. */
INFER_API infer_status infer_model_open(infer_runtime *rt, const char *path, const infer_model_options *options, infer_model **out,
                                        infer_error *err);
/* The same from a descriptor, which may be closed afterwards. Statuses of infer_model_open. */
INFER_API infer_status infer_model_open_fd(infer_runtime *rt, int fd, const infer_model_options *options, infer_model **out, infer_error *err);
/* The same from `bytes` of memory, which stay as they are until the model is closed, at an address that is a multiple of 64 (else ARGUMENT), or, with
 * INFER_LOAD_COPY, are copied from any address. FORMAT, CORRUPT, UNSUPPORTED, MEMORY. */
INFER_API infer_status infer_model_open_memory(infer_runtime *rt, const void *data, size_t bytes, const infer_model_options *options,
                                               infer_model **out, infer_error *err);
INFER_API void infer_model_close(infer_model *model);
INFER_API uint32_t infer_model_vocab_size(const infer_model *model);     /* tokens = logits in a row */
INFER_API uint32_t infer_model_context_length(const infer_model *model); /* positions the model was trained for */
INFER_API uint64_t infer_model_parameters(const infer_model *model);     /* weights, tied ones counted once */
/* The file's metadata as one JSON object (UTF-8, NUL-terminated), owned by the model. */
INFER_API const char *infer_model_metadata(const infer_model *model);

/* ---- text ---- */

#define INFER_TOKENIZE_BOS 1u     /* put the begin-of-text token first, and the end token last, where the model asks for them */
#define INFER_TOKENIZE_SPECIAL 2u /* names of special tokens inside the text (<|im_end|>) become those tokens */

/* Text (`bytes` long, any bytes; what the vocabulary lacks becomes bytes or the unknown token, or is left out) to at most `cap` token ids. *count gets the
 * number the text needs; when that exceeds `cap` the status is INFER_ERROR_ARGUMENT, *count is set all the same, and ids[0..cap)
 * are undefined. `ids` may be NULL when cap is 0. UNSUPPORTED: the model has no tokenizer, or a pattern of its takes too long on this text; FORMAT: its map
 * of characters is broken; MEMORY. */
INFER_API infer_status infer_model_tokenize(const infer_model *model, const char *text, size_t bytes, unsigned flags, int32_t *ids,
                                            size_t cap, size_t *count, infer_error *err);
/* Token ids as text, not NUL-terminated, as a decoder has it; cap and *bytes as cap and *count above. ARGUMENT: ids outside the vocabulary, too;
 * UNSUPPORTED (no tokenizer), MEMORY. */
INFER_API infer_status infer_model_detokenize(const infer_model *model, const int32_t *ids, size_t n, char *text, size_t cap, size_t *bytes,
                                              infer_error *err);
/* The bytes of one token, not NUL-terminated, owned by the model; *bytes is their number. NULL for ids out of range. Control tokens
 * have no bytes. */
INFER_API const char *infer_model_token_text(const infer_model *model, int32_t id, size_t *bytes);
/* -1 where the model has none. */
INFER_API int32_t infer_model_token_bos(const infer_model *model);
/* 1 when generation ends at this token (end of text, end of turn). */
INFER_API int infer_model_token_is_end(const infer_model *model, int32_t id);

/* Holds back bytes until whole UTF-8 characters can be written. Where the model's tokenizer puts a space before a text, the one after the
 * begin token is left out: push the begin token and the prompt too, and what comes out is the text as it was written. ARGUMENT, UNSUPPORTED (the model
 * has no tokenizer), MEMORY. */
typedef struct infer_decoder infer_decoder;
INFER_API infer_status infer_decoder_create(const infer_model *model, infer_decoder **out, infer_error *err);
INFER_API void infer_decoder_destroy(infer_decoder *decoder);
/* Adds a token; *text points at the characters that became whole (*bytes of them, perhaps 0; NUL follows), valid until the next
 * call. A malformed sequence comes out as U+FFFD. `id` < 0 flushes. ARGUMENT: ids beyond the vocabulary, too. */
INFER_API infer_status infer_decoder_push(infer_decoder *decoder, int32_t id, const char **text, size_t *bytes);

/* ---- chat ---- */

typedef enum infer_chat_role { INFER_CHAT_SYSTEM = 0, INFER_CHAT_USER = 1, INFER_CHAT_ASSISTANT = 2 } infer_chat_role;

typedef struct infer_chat_message {
    infer_chat_role role; /* SYSTEM only as the first message */
    const char *text;     /* any bytes; names of special tokens in it are plain text */
    size_t bytes;
} infer_chat_message;

/* The chat templates this library has, by name: "chatml", "llama3", ... NULL behind the last. Static storage. */
INFER_API const char *infer_chat_template_name(size_t index);
/* The one that the model's file asks for, NULL when it has none, or one that is not known here. Static storage. */
INFER_API const char *infer_model_chat_template(const infer_model *model);
/* A conversation of `n` >= 1 messages as tokens, begin token included, ready for the assistant's answer; where the last message is the
 * assistant's, its turn is left open, to be continued. `name`: one of infer_chat_template_name; NULL: the model's own. ids, cap and
 * count as in infer_model_tokenize. Statuses of infer_model_tokenize; ARGUMENT: unknown names and roles, too; UNSUPPORTED: no template, too. */
INFER_API infer_status infer_model_tokenize_chat(const infer_model *model, const char *name, const infer_chat_message *messages, size_t n,
                                                 int32_t *ids, size_t cap, size_t *count, infer_error *err);
/* The token that ends the assistant's turn in this template, beside those of infer_model_token_is_end; -1: none. */
INFER_API int32_t infer_model_chat_end(const infer_model *model, const char *name);

/* ---- session ---- */

/* Number type of the KV cache. AUTO: as precise as the weights, f32 for a model whose matrices are all f32, else f16. Q8: 8 bits and a scale
 * for every 32 numbers of a head, about half the bytes of f16, for long contexts. */
typedef enum infer_kv_type { INFER_KV_AUTO = 0, INFER_KV_F16 = 1, INFER_KV_F32 = 2, INFER_KV_Q8 = 3 } infer_kv_type;

typedef struct infer_session_options {
    size_t size;
    uint32_t context;    /* positions in the KV cache; 0: the model's own context length, at most 4096. No more than that length where the model
                          * has learned positions (GPT-2) */
    uint32_t batch;      /* tokens evaluated at once while reading a prompt, 1..4096; 0: 512. More use more memory. */
    uint32_t logit_rows; /* most rows of logits kept by one evaluation with INFER_LOGITS_ALL; 0: 1 */
    infer_kv_type kv_type;
    int profile;         /* nonzero: time every graph node (about 1 % slower) */
} infer_session_options;
#define INFER_SESSION_DEFAULTS {sizeof(infer_session_options), 0, 0, 0, INFER_KV_AUTO, 0}

typedef struct infer_session infer_session;

/* Plans the graph and allocates everything a session will ever need. The model must outlive the session. ARGUMENT, MEMORY, UNSUPPORTED (no
 * kernel for a tensor), CORRUPT (the file changed), IO (the file can no longer be looked at). */
INFER_API infer_status infer_session_create(infer_model *model, const infer_session_options *options, infer_session **out,
                                            infer_error *err);
INFER_API void infer_session_destroy(infer_session *session);

typedef enum infer_logits { INFER_LOGITS_NONE = 0, INFER_LOGITS_LAST = 1, INFER_LOGITS_ALL = 2 } infer_logits;

/* Appends `n` >= 1 tokens at the session's position, in batches; blocks until done. Logits are the same bits for every thread count,
 * CPU level and split into batches. ARGUMENT (id outside the vocabulary, n = 0, ALL with n > logit_rows), CONTEXT (nothing was
 * evaluated), CANCELLED, CORRUPT (a tensor's hash; the file changed), IO (it can no longer be looked at): the position is where it was
 * before. */
INFER_API infer_status infer_session_eval(infer_session *session, const int32_t *tokens, size_t n, infer_logits logits,
                                          infer_error *err);
/* Row `row` of the last evaluation's logits: vocab_size floats, owned by the session, valid until its next evaluation. With
 * INFER_LOGITS_LAST only row 0. NULL for rows that do not exist. */
INFER_API const float *infer_session_logits(const infer_session *session, size_t row);
INFER_API uint32_t infer_session_position(const infer_session *session); /* tokens in the KV cache */
INFER_API uint32_t infer_session_context(const infer_session *session);  /* positions it can hold */
/* Forgets all tokens from `position` on. ARGUMENT when the session holds fewer. */
INFER_API infer_status infer_session_rewind(infer_session *session, uint32_t position, infer_error *err);
/* Ends a running evaluation within one graph node. May be called from any thread or a signal handler; when nothing runs, it is the next
 * evaluation that ends. */
INFER_API void infer_session_cancel(infer_session *session);

/* ---- state: the KV cache up to the position, with hashes ---- */

/* Bytes that infer_session_save writes at this position. */
INFER_API size_t infer_session_state_bytes(const infer_session *session);
/* Writes exactly that many bytes. ARGUMENT: other sizes, too. */
INFER_API infer_status infer_session_save(const infer_session *session, void *state, size_t bytes, infer_error *err);
/* The same to a file that is replaced whole or left as it was, readable by its owner only. ARGUMENT, IO, MEMORY. */
INFER_API infer_status infer_session_save_file(const infer_session *session, const char *path, infer_error *err);
/* The session's tokens become those of the state; there are no logits until the next evaluation. Any bytes are safe to try; the session is untouched on
 * failure. ARGUMENT: another model's, or another KV type; CONTEXT: too long for the session; FORMAT, UNSUPPORTED (version), CORRUPT (hash). */
INFER_API infer_status infer_session_restore(infer_session *session, const void *state, size_t bytes, infer_error *err);
/* The same from a file. Statuses of infer_session_restore, IO, MEMORY. */
INFER_API infer_status infer_session_restore_file(infer_session *session, const char *path, infer_error *err);
/* Another session of the same model and options that has read the same tokens, and has the same logits. ARGUMENT, MEMORY, CORRUPT, IO. */
INFER_API infer_status infer_session_fork(const infer_session *session, infer_session **out, infer_error *err);

/* ---- generation ---- */

typedef struct infer_sampler infer_sampler;

typedef struct infer_generate_options {
    size_t size;
    infer_sampler *sampler; /* is told of the prompt, chooses the tokens, and is the generation's until that ends. NULL: greedy */
    uint32_t max_tokens;    /* 0: as many as the context holds */
    int32_t end;            /* a token that ends it, beside those of infer_model_token_is_end; -1: none */
} infer_generate_options;
#define INFER_GENERATE_DEFAULTS {sizeof(infer_generate_options), NULL, 0, -1}

/* Appends a prompt of n >= 1 tokens and generates, calling `token` for each new one, that which ends it included, until there are max_tokens; a nonzero
 * return ends it, too. The last token is not evaluated: begin the next prompt with it. Blocks. ARGUMENT, CONTEXT (the prompt does not fit: nothing was
 * evaluated; or max_tokens do not: after the last that do), CANCELLED, CORRUPT, IO as infer_session_eval; a prompt that fails is not appended. */
typedef int infer_token_fn(void *user, int32_t id);
INFER_API infer_status infer_session_generate(infer_session *session, const int32_t *prompt, size_t n, const infer_generate_options *options,
                                              infer_token_fn *token, void *user, infer_error *err);

/* The same without blocking: the generation runs on the runtime's own threads, those of several sessions in turns, and an event loop waits for
 * infer_session_fd. The prompt is copied. Until poll has told the end, only poll, fd, cancel and destroy may be called. ARGUMENT, CONTEXT, CORRUPT, MEMORY
 * (or no thread), IO (the file, or no descriptor). A cancellation from before the start does not count. */
INFER_API infer_status infer_session_start(infer_session *session, const int32_t *prompt, size_t n, const infer_generate_options *options,
                                           infer_error *err);
/* Readable while poll has something to tell; -1 before the first start. It stays the same, and the session's: do not read or close it. */
INFER_API int infer_session_fd(const infer_session *session);
/* At once: up to `cap` new tokens, *count of them. When all were taken and the generation is over, *done is 1, not 0, and the status tells how it ended;
 * *count and *done are set then, too. Statuses of infer_session_generate; ARGUMENT: there is no generation, too. */
INFER_API infer_status infer_session_poll(infer_session *session, int32_t *ids, size_t cap, size_t *count, int *done, infer_error *err);

/* The plan ("explain"), the times of the last evaluations ("profile", needs options.profile), or a drawing for Graphviz ("dot"), as
 * text. The callback gets pieces in order; a nonzero return ends it. ARGUMENT for other names. */
typedef int infer_write_fn(void *user, const char *text, size_t bytes);
INFER_API infer_status infer_session_describe(const infer_session *session, const char *what, infer_write_fn *write, void *user,
                                              infer_error *err);
/* Bytes of weights read by the evaluation of one token, and bytes that the session allocated. */
INFER_API uint64_t infer_session_weight_bytes_per_token(const infer_session *session);
INFER_API uint64_t infer_session_memory_bytes(const infer_session *session);

/* ---- sampling ---- */

/* Applied in this order: repeat_penalty, temperature, top_k, top_p, min_p. */
typedef struct infer_sampler_options {
    size_t size;
    float temperature;    /* 0: greedy (the largest logit, lowest id first); else 0 < t <= 100 */
    uint32_t top_k;       /* 0: off */
    float top_p;          /* 0 < p <= 1; 1: off */
    float min_p;          /* 0 <= p <= 1, relative to the most likely token; 0: off */
    float repeat_penalty; /* > 0; 1: off. Divides positive, multiplies negative logits of recent tokens. */
    uint32_t repeat_last; /* how many recent tokens the penalty sees, at most 4096 */
    uint64_t seed;        /* same seed, same logits: same tokens */
} infer_sampler_options;
#define INFER_SAMPLER_DEFAULTS {sizeof(infer_sampler_options), 0.8f, 40, 0.95f, 0.05f, 1.0f, 64, 0}

/* For this model's vocabulary. Its runtime must outlive the sampler. ARGUMENT: an option out of its range, too; MEMORY. */
INFER_API infer_status infer_sampler_create(const infer_model *model, const infer_sampler_options *options, infer_sampler **out,
                                            infer_error *err);
INFER_API void infer_sampler_destroy(infer_sampler *sampler);
/* Tells the sampler of a token that it did not choose itself (the prompt), for the repetition penalty. */
INFER_API void infer_sampler_accept(infer_sampler *sampler, int32_t id);
/* Chooses from vocab_size logits (not changed) and remembers the choice. NaN counts as minus infinity. Never fails. */
INFER_API int32_t infer_sampler_sample(infer_sampler *sampler, const float *logits);
/* Natural logarithm of the probability that n logits give to token `id`; NAN: not 0 <= id < n, or no logit is finite. */
INFER_API double infer_logprob(const float *logits, size_t n, int32_t id);
/* Index of the largest of n >= 1 values, the lowest index on ties; NaN counts as minus infinity. */
INFER_API int32_t infer_argmax(const float *values, size_t n);

/* ---- energy ---- */

/* An estimate is off by a factor of about 2: never rank it beside a measured figure. */
typedef enum infer_energy_kind { INFER_ENERGY_NONE = 0, INFER_ENERGY_MEASURED = 1, INFER_ENERGY_ESTIMATED = 2 } infer_energy_kind;

typedef struct infer_meter_options {
    size_t size;
    const char *source;       /* NULL: environment INFER_ENERGY, else "auto": the best counter of this machine that may be read, else "estimate". Or "off",
                               * "perf", "powercap", "scmi", "hwmon", "battery", "file:PATH", "cmd:COMMAND" (prints "12.5 J" so far, or "3.1 W" now) */
    const char *coefficients; /* JSON file of the estimate; NULL: libinfer/energy.json in $XDG_CONFIG_HOME or ~/.config, if there, else defaults */
    const char *root;         /* put in front of /sys and /proc, for recorded machines; NULL: nothing */
    double idle_watts;        /* baseline, where it is known; 0: not known */
} infer_meter_options;
#define INFER_METER_DEFAULTS {sizeof(infer_meter_options), NULL, NULL, NULL, 0}

/* Of one window. A figure that is not known is NAN, never 0: net without a baseline, all with kind NONE, a window too short for the counter to move, or
 * one in which a counter jumped. */
typedef struct infer_energy {
    infer_energy_kind kind;
    double seconds;
    double gross_uj;   /* microjoules of everything that the counters see, other processes among it */
    double net_uj;     /* gross less idle_watts x seconds; may be below 0 when little was done */
    double idle_watts; /* estimates: of the cores that this process may use */
    uint32_t jumps;    /* readings that no machine can have caused, left out */
} infer_energy;

/* Counters add up over the machine's packages; what is nested in another is not counted twice. The runtime must outlive the meter, which one thread uses
 * at a time. ARGUMENT: unknown source; UNSUPPORTED, IO: it is not there or cannot be read (the message says what helps); FORMAT: malformed file; MEMORY. */
typedef struct infer_meter infer_meter;
INFER_API infer_status infer_meter_create(infer_runtime *rt, const infer_meter_options *options, infer_meter **out, infer_error *err);
INFER_API void infer_meter_destroy(infer_meter *meter);
INFER_API infer_energy_kind infer_meter_kind(const infer_meter *meter);
/* "perf (energy-pkg/cpu0+energy-ram/cpu0)", "estimate", "off"; and why "auto" passed over better sources, or "". Owned by the meter. */
INFER_API const char *infer_meter_source(const infer_meter *meter);
INFER_API const char *infer_meter_note(const infer_meter *meter);
/* Sleeps for `seconds` (up to 3600) and takes the power of that time as baseline; *watts (may be NULL) gets it. An estimate keeps its own, at once.
 * ARGUMENT, IO, FORMAT, MEMORY as infer_meter_start. */
INFER_API infer_status infer_meter_idle(infer_meter *meter, double seconds, double *watts, infer_error *err);
/* A window. In between a thread reads counters that would wrap or powers that must be integrated; there is none for other sources, nor outside of windows.
 * ARGUMENT: started twice; IO, FORMAT: the source failed; MEMORY: no thread. */
INFER_API infer_status infer_meter_start(infer_meter *meter, infer_error *err);
/* ARGUMENT: not started; IO, FORMAT: the source failed during the window, which is over all the same. */
INFER_API infer_status infer_meter_stop(infer_meter *meter, infer_energy *out, infer_error *err);

#ifdef __cplusplus
}
#endif
#endif
