/* Inside of infer_runtime, infer_model and infer_session. */
#ifndef INFER_MODEL_MODEL_H
#define INFER_MODEL_MODEL_H

#include "core/pool.h"
#include "cpu.h"
#include "graph/plan.h"
#include "model/events.h"
#include "text/chat.h"

/* The thread that runs generations which were started (generate.c). */
typedef struct infer_driver {
    pthread_mutex_t lock;
    pthread_cond_t work, ended;   /* something is in the queue; a generation ended */
    pthread_t thread;
    bool started, stop;
    infer_session *first, *last;  /* waiting for their next turn */
} infer_driver;

void infer_driver_init(infer_driver *d);
void infer_driver_destroy(infer_driver *d);

struct infer_runtime {
    infer_allocator allocator;
    infer_driver driver;
    infer_log_fn *log;
    void *log_user;
    infer_pool *pool;
    infer_cpu_level level;
    _Atomic uint64_t bytes_read; /* weights and KV cache, by all sessions, for the energy meter's estimate */
};

/* One line to the runtime's log, if it has one. */
void infer_log(const infer_runtime *rt, const char *format, ...) INFER_PRINTF(2, 3);

typedef struct infer_architecture infer_architecture;

/* Hyperparameters, from the file's metadata (formats/SPEC.md says what they mean); every one within the limits below. */
typedef struct infer_config {
    const infer_architecture *architecture;
    uint32_t dim, layers, heads, kv_heads, head_dim, ffn_dim, vocab, context;
    float norm_eps;
    infer_rope_config rope[INFER_ROPE_TABLES];
    bool tied_head, qkv_bias, qk_norm, post_norms, sub_norms;
    infer_activation activation;
    uint32_t window, global_every; /* positions, 0: the whole context; every so many layers one without it, 0: none */
    float embed_scale;
    float attention_scale, attention_softcap, logit_softcap; /* 0: 1 / sqrt(head_dim); none */
    int32_t bos;
    int32_t eos[16];
    uint32_t eos_count;
    const infer_chat_template *chat; /* NULL: none, or not known here */
} infer_config;

#define INFER_MAX_DIM (1u << 20)
#define INFER_MAX_LAYERS 1024u
#define INFER_MAX_VOCAB (1u << 22)
#define INFER_MAX_CONTEXT (1u << 20)

/* config.c: FORMAT names the key, what was found and what is allowed; UNSUPPORTED an architecture, activation or rope scaling that is not
 * known. */
infer_status infer_config_parse(const char *metadata, const char *path, infer_config *out, infer_error *err);

struct infer_model {
    infer_runtime *rt;
    infer_file *file;
    infer_config config;
    infer_tokenizer *tokenizer; /* NULL: the file has none */
    infer_graph graph;
    infer_verify verify;
    _Atomic uint8_t *verified;  /* [tensors] its hash is right */
    uint64_t parameters;
    infer_events events;
};

/* An architecture: named tensors -> graph. */
struct infer_architecture {
    const char *name;
    infer_status (*build)(const infer_model *model, infer_graph *g, infer_error *err);
    bool learned_positions; /* instead of rotary ones: the metadata need no rope */
};

/* The i-th architecture, NULL behind the last. */
const infer_architecture *infer_architecture_at(size_t i);

infer_status infer_llama_build(const infer_model *model, infer_graph *g, infer_error *err);
infer_status infer_gpt2_build(const infer_model *model, infer_graph *g, infer_error *err);

/* The tensor `name` (of layer `layer`, if not INFER_NONE) with this shape. `matrix`: tile16x4 of any type; else rows of f32. FORMAT:
 * missing, or another shape, type or layout. */
infer_status infer_model_weight(const infer_model *model, uint32_t layer, const char *name, uint32_t rows, uint32_t cols, bool matrix,
                                infer_weight *out, infer_error *err);
/* What a session runs: for measurements that need more than the public interface tells. */
const infer_plan *infer_session_plan(const infer_session *session);
const infer_model *infer_session_model(const infer_session *session);
/* Checks a tensor's hash, once for all sessions; an infer_weight_check whose checker is the model. */
infer_status infer_model_check(void *model, const infer_tensor_info *t, infer_error *err);

#endif
