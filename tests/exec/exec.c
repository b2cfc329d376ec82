/*
 * The pool, the planner and the executor on a small random Llama, with a bias on q and a norm of the heads of k, without files. A plain TAP
 * program, so that ThreadSanitizer can run it. What is checked: the same bits at every level, thread count and split into batches; the
 * plan's memory and dependencies; cancelling.
 */
#include "check_tap.h"
#include "cpu.h"
#include "graph/plan.h"
#include "ops/ops.h"
#include "pack/pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIM 96u
#define HEADS 6u
#define KV_HEADS 3u
#define HEAD_DIM 16u
#define FFN 172u /* not a multiple of a group */
#define LAYERS 3u
#define VOCAB 130u
#define TOKENS 21u

typedef struct net {
    infer_graph graph;
    infer_tensor_info info[LAYERS * 11 + 3];
    void *data[LAYERS * 11 + 3];
    size_t count;
    uint64_t random;
} net;

static float next_float(net *n)
{
    n->random = n->random * 6364136223846793005ull + 1442695040888963407ull;
    return (float)((double)(n->random >> 33) / (1u << 30) - 1.0);
}

static infer_weight weight(net *n, infer_qtype type, uint32_t rows, uint32_t cols)
{
    infer_tensor_info *t = &n->info[n->count];
    float *values = infer_alloc(NULL, (size_t)rows * cols * sizeof *values);
    bool matrix = rows > 1;
    *t = (infer_tensor_info){.name = "", .type = matrix ? type : INFER_QTYPE_F32, .rows = rows, .cols = cols,
                             .layout = matrix ? INFER_LAYOUT_TILE16X4 : INFER_LAYOUT_ROWS};
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        values[i] = matrix ? next_float(n) * 0.2f : 1 + next_float(n) * 0.1f;
    if (matrix) {
        uint64_t panel = infer_panel_bytes(type, cols);
        uint8_t *packed = infer_alloc(NULL, (size_t)(panel * ((rows + 15) / 16)));
        for (uint32_t r = 0; r < rows; r += 16)
            if (!infer_pack_panel(type, values + (size_t)r * cols, rows - r < 16 ? rows - r : 16, cols, packed + r / 16 * panel))
                abort();
        t->bytes = panel * ((rows + 15) / 16);
        n->data[n->count] = packed;
        infer_free(NULL, values);
    } else {
        t->bytes = cols * sizeof(float);
        n->data[n->count] = values;
    }
    n->count++;
    return (infer_weight){t, n->data[n->count - 1]};
}

static void build(net *n, infer_qtype type)
{
    infer_graph *g = &n->graph;
    infer_weight embed = weight(n, type, VOCAB, DIM);
    uint32_t x;
    infer_graph_init(g, NULL);
    g->layers = LAYERS, g->heads = HEADS, g->kv_heads = KV_HEADS, g->head_dim = HEAD_DIM, g->vocab = VOCAB;
    g->rope[INFER_ROPE_GLOBAL] = (infer_rope_config){.theta = 10000, .dim = HEAD_DIM};
    x = infer_build_embed(g, embed, 1);
    for (uint32_t l = 0; l < LAYERS; l++) {
        uint32_t h = infer_build_rmsnorm(g, l, "attn_norm", x, weight(n, type, 1, DIM), 1e-5f, INFER_ROWS_TOKENS);
        uint32_t q = infer_build_matmul(g, l, "q", h, weight(n, type, HEADS * HEAD_DIM, DIM), INFER_VALUE_F32);
        uint32_t k = infer_build_matmul(g, l, "k", h, weight(n, type, KV_HEADS * HEAD_DIM, DIM), INFER_VALUE_F32);
        uint32_t v = infer_build_matmul(g, l, "v", h, weight(n, type, KV_HEADS * HEAD_DIM, DIM), INFER_VALUE_F32);
        uint32_t gate, up, a;
        q = infer_build_bias(g, l, "q_bias", q, weight(n, type, 1, HEADS * HEAD_DIM));
        k = infer_build_rmsnorm(g, l, "k_norm", k, weight(n, type, 1, HEAD_DIM), 1e-5f, INFER_ROWS_TOKENS);
        q = infer_build_rope(g, l, "rope_q", q, HEAD_DIM, INFER_ROPE_GLOBAL);
        k = infer_build_rope(g, l, "rope_k", k, HEAD_DIM, INFER_ROPE_GLOBAL);
        a = infer_build_attention(g, l, q, k, v,
                                  &(infer_attention_shape){HEADS, KV_HEADS, HEAD_DIM, l % 2 ? 100 : 0, 0.125f, l % 2 ? 0 : 20});
        x = infer_build_add(g, l, "attn_add", x, infer_build_matmul(g, l, "o", a, weight(n, type, DIM, HEADS * HEAD_DIM), INFER_VALUE_F32));
        h = infer_build_rmsnorm(g, l, "ffn_norm", x, weight(n, type, 1, DIM), 1e-5f, INFER_ROWS_TOKENS);
        gate = infer_build_matmul(g, l, "gate", h, weight(n, type, FFN, DIM), INFER_VALUE_F32);
        up = infer_build_matmul(g, l, "up", h, weight(n, type, FFN, DIM), INFER_VALUE_F32);
        h = infer_build_activation(g, l, INFER_ACTIVATION_SILU, gate, up);
        x = infer_build_add(g, l, "ffn_add", x, infer_build_matmul(g, l, "down", h, weight(n, type, DIM, FFN), INFER_VALUE_F32));
    }
    x = infer_build_rmsnorm(g, INFER_NONE, "out_norm", x, weight(n, type, 1, DIM), 1e-5f, INFER_ROWS_LOGITS);
    infer_build_matmul(g, INFER_NONE, "head", x, embed, INFER_VALUE_LOGITS);
}

static void destroy(net *n)
{
    for (size_t i = 0; i < n->count; i++)
        infer_free(NULL, n->data[i]);
    infer_graph_free(&n->graph);
}

#define PROMPT_BATCH 64u

/* Logits of TOKENS tokens evaluated `batch` at a time, after a prompt of `prompt` other tokens. */
static bool logits_of(const net *n, infer_cpu_level level, uint32_t threads, uint32_t batch, infer_qtype kv, uint32_t prompt, float *out)
{
    infer_plan_options o = {.max_batch = batch > PROMPT_BATCH ? batch : PROMPT_BATCH, .max_logits = TOKENS, .context = prompt + TOKENS,
                            .threads = threads, .kv_type = kv, .level = level};
    infer_plan *plan = NULL;
    infer_pool *pool = NULL;
    int32_t ids[TOKENS], prompt_ids[PROMPT_BATCH];
    bool ok = infer_plan_create(&n->graph, &o, &plan, NULL) == INFER_OK && infer_pool_create(NULL, threads, &pool, NULL) == INFER_OK;
    for (uint32_t i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(i * 37 % VOCAB);
    for (uint32_t i = 0; i < PROMPT_BATCH; i++)
        prompt_ids[i] = (int32_t)(i * 29 % VOCAB);
    for (uint32_t i = 0; ok && i < prompt; i += PROMPT_BATCH) {
        infer_batch b = {.ids = prompt_ids, .m = prompt - i < PROMPT_BATCH ? prompt - i : PROMPT_BATCH, .pos0 = i};
        ok = infer_plan_run(plan, pool, &b, NULL) == INFER_OK;
    }
    for (uint32_t i = 0; ok && i < TOKENS; i += batch) {
        uint32_t m = TOKENS - i < batch ? TOKENS - i : batch;
        infer_batch b = {.ids = ids + i, .m = m, .logits = m, .logits_row = i, .pos0 = prompt + i};
        ok = infer_plan_run(plan, pool, &b, NULL) == INFER_OK;
    }
    if (ok)
        memcpy(out, plan->logits, sizeof(float) * TOKENS * VOCAB);
    infer_pool_destroy(pool);
    infer_plan_destroy(plan);
    return ok;
}

static void same_bits(infer_qtype type, infer_qtype kv, uint32_t prompt)
{
    static const struct {
        uint32_t threads, batch;
    } cases[] = {{1, TOKENS}, {1, 1}, {1, 4}, {2, TOKENS}, {2, 1}, {4, TOKENS}, {4, 5}, {8, 1}, {2, 8}};
    static float expected[TOKENS * VOCAB], got[TOKENS * VOCAB];
    uint32_t levels = infer_cpu_levels_here();
    const char *name = infer_qtype_find(type)->name, *kv_name = infer_qtype_find(kv)->name;
    net n = {.random = 1};
    bool finite = true;
    build(&n, type);
    tap_ok(logits_of(&n, INFER_CPU_REF, 1, TOKENS, kv, prompt, expected), "%s, kv %s, after %u: reference runs", name, kv_name, prompt);
    for (size_t i = 0; i < TOKENS * VOCAB; i++)
        finite &= isfinite(expected[i]) != 0;
    tap_ok(finite && expected[0] != expected[1], "%s, kv %s, after %u: logits are finite and differ", name, kv_name, prompt);
    for (infer_cpu_level level = 0; level < INFER_CPU_LEVEL_COUNT; level++)
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            if (!(levels >> level & 1)) {
                tap_skip("this CPU has no such level", "%s, kv %s, after %u: %s", name, kv_name, prompt, infer_cpu_level_name(level));
                break;
            }
            memset(got, 0, sizeof got);
            tap_ok(logits_of(&n, level, cases[c].threads, cases[c].batch, kv, prompt, got) && memcmp(got, expected, sizeof got) == 0,
                   "%s, kv %s, after %u: %s, %u threads, batches of %u: same bits", name, kv_name, prompt, infer_cpu_level_name(level),
                   cases[c].threads, cases[c].batch);
        }
    destroy(&n);
}

/* Step s reaches step t along dependencies. */
static bool reaches(const infer_plan *plan, uint32_t s, uint32_t t)
{
    if (s == t)
        return true;
    for (uint32_t i = 0; i < plan->steps[s].successors; i++)
        if (reaches(plan, plan->successors[plan->steps[s].first_successor + i], t))
            return true;
    return false;
}

static void plan_is_sound(void)
{
    net n = {.random = 2};
    infer_plan_options o = {
        .max_batch = 8, .max_logits = 1, .context = 32, .threads = 2, .kv_type = INFER_QTYPE_F16, .level = INFER_CPU_REF};
    infer_plan *plan = NULL;
    uint32_t conflicts = 0, ordered = 0, *step_of, fused = 0;
    build(&n, INFER_QTYPE_Q8G32);
    tap_ok(infer_plan_create(&n.graph, &o, &plan, NULL) == INFER_OK, "a plan is made");
    step_of = calloc(plan->graph.node_count, sizeof *step_of);
    for (uint32_t s = 0; s < plan->step_count; s++)
        for (uint32_t i = 0; i < plan->steps[s].count; i++)
            step_of[infer_step_node(plan, &plan->steps[s], i)] = s;
    for (uint32_t i = 0; i < plan->graph.node_count; i++)
        for (uint32_t j = i + 1; j < plan->graph.node_count; j++) {
            /* Two nodes that touch the same bytes, one of them writing, in different steps: one step must wait for the other. */
            const infer_node *a = &plan->graph.nodes[i], *b = &plan->graph.nodes[j];
            uint32_t touched[2][4] = {{a->out, a->in[0], a->in[1], a->in[2]}, {b->out, b->in[0], b->in[1], b->in[2]}};
            bool conflict = false;
            for (int x = 0; x < 4; x++)
                for (int y = 0; y < 4; y++) {
                    const infer_buffer *p, *q;
                    if ((x && y) || touched[0][x] == INFER_NONE || touched[1][y] == INFER_NONE)
                        continue;
                    p = &plan->buffers[plan->buffers[touched[0][x]].root], q = &plan->buffers[plan->buffers[touched[1][y]].root];
                    conflict |= touched[0][x] == touched[1][y] ||
                                (p->bytes && q->bytes && p->offset < q->offset + q->bytes && q->offset < p->offset + p->bytes);
                }
            if (!conflict || step_of[i] == step_of[j])
                continue;
            conflicts++;
            ordered += reaches(plan, step_of[i] < step_of[j] ? step_of[i] : step_of[j], step_of[i] < step_of[j] ? step_of[j] : step_of[i]);
        }
    tap_ok(conflicts > 0 && ordered == conflicts, "%u pairs of nodes share memory across steps, %u of them in order", conflicts, ordered);
    for (uint32_t i = 0; i + 1 < plan->graph.node_count; i++)
        if (strstr(plan->graph.nodes[i].name, ".gate"))
            for (uint32_t j = 0; j < plan->graph.node_count; j++)
                fused += step_of[i] == step_of[j] && plan->graph.nodes[i].layer == plan->graph.nodes[j].layer &&
                         (plan->graph.nodes[j].op == INFER_OP_ACTIVATION || strstr(plan->graph.nodes[j].name, ".up"));
    tap_ok(fused == 2 * LAYERS, "gate, up and activation are one step in every layer");
    free(step_of);
    infer_plan_destroy(plan);
    destroy(&n);
}

/* Attention goes over the context in one go or in chunks, never both, and steps without work are passed over. */
static void attention_splits(void)
{
    static const struct { uint32_t threads, m, pos0, split; } cases[] = {
        {2, 1, 300, 2}, {2, 8, 300, 2}, {2, 9, 300, 0}, {2, 1, 255, 0}, {2, 1, 256, 2}, {2, 8, 510, 3}, {1, 1, 300, 0}};
    net n = {.random = 4};
    int32_t ids[9] = {0};
    build(&n, INFER_QTYPE_Q8G32);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        infer_plan_options o = {.max_batch = 9, .max_logits = 1, .context = 600, .threads = cases[c].threads, .kv_type = INFER_QTYPE_F16,
                                .level = INFER_CPU_REF, .profile = true};
        infer_batch b = {.ids = ids, .m = cases[c].m, .pos0 = cases[c].pos0}; /* no logits: the last steps have no work */
        infer_plan *plan = NULL;
        infer_pool *pool = NULL;
        uint64_t ns[INFER_OP_COUNT] = {0};
        bool finished = true;
        tap_ok(infer_plan_create(&n.graph, &o, &plan, NULL) == INFER_OK && infer_pool_create(NULL, o.threads, &pool, NULL) == INFER_OK &&
                   infer_plan_run(plan, pool, &b, NULL) == INFER_OK, "%u tokens at %u, %u threads", b.m, b.pos0, o.threads);
        for (uint32_t t = 0; t < o.threads; t++)
            for (size_t i = 0; i < plan->graph.node_count; i++)
                ns[plan->graph.nodes[i].op] += plan->node_ns[t * plan->graph.node_count + i];
        for (uint32_t s = 0; s < plan->step_count; s++) {
            finished &= plan->states[s].left == 0 && plan->states[s].pending == 0;
            if (plan->steps[s].rows == INFER_ROWS_CHUNKS)
                finished &= plan->states[s].m == cases[c].split * KV_HEADS;
        }
        tap_ok(finished && (ns[INFER_OP_ATTENTION] == 0) == (cases[c].split > 0) &&
                   (ns[INFER_OP_ATTENTION_CHUNKS] > 0) == (cases[c].split > 0) &&
                   (ns[INFER_OP_ATTENTION_MERGE] > 0) == (cases[c].split > 0),
               "every step is finished once; attention in %u chunks", cases[c].split);
        infer_pool_destroy(pool);
        infer_plan_destroy(plan);
    }
    destroy(&n);
}

static void cancelling(void)
{
    net n = {.random = 3};
    infer_plan_options o = {
        .max_batch = 4, .max_logits = 1, .context = 32, .threads = 2, .kv_type = INFER_QTYPE_F16, .level = INFER_CPU_REF};
    infer_plan *plan = NULL;
    infer_pool *pool = NULL;
    int32_t ids[4] = {1, 2, 3, 4};
    infer_batch b = {.ids = ids, .m = 4, .logits = 1};
    infer_error err = {0};
    build(&n, INFER_QTYPE_Q4G32);
    tap_ok(infer_plan_create(&n.graph, &o, &plan, NULL) == INFER_OK && infer_pool_create(NULL, 2, &pool, NULL) == INFER_OK,
           "plan and pool");
    atomic_store(&plan->cancel, 1);
    tap_ok(infer_plan_run(plan, pool, &b, &err) == INFER_ERROR_CANCELLED && err.status == INFER_ERROR_CANCELLED, "a cancelled run says so");
    tap_ok(infer_plan_run(plan, pool, &b, &err) == INFER_OK, "the next one runs");
    infer_pool_destroy(pool);
    infer_plan_destroy(plan);
    destroy(&n);
}

static void count_up(void *arg, uint32_t thread)
{
    _Atomic uint32_t *counts = arg;
    atomic_fetch_add(&counts[thread], 1);
}

static void pools(void)
{
    for (uint32_t threads = 1; threads <= 8; threads *= 2) {
        _Atomic uint32_t counts[8] = {0};
        infer_pool *pool = NULL;
        bool each = true;
        tap_ok(infer_pool_create(NULL, threads, &pool, NULL) == INFER_OK, "a pool of %u", threads);
        for (int i = 0; i < 300; i++)
            infer_pool_run(pool, count_up, counts);
        for (uint32_t t = 0; t < threads; t++)
            each &= atomic_load(&counts[t]) == 300;
        tap_ok(each, "300 rounds: each of %u threads worked in each", threads);
        infer_pool_destroy(pool);
    }
}

int main(void)
{
    static const infer_qtype types[] = {INFER_QTYPE_F32,   INFER_QTYPE_F16,   INFER_QTYPE_Q8G32,
                                        INFER_QTYPE_Q4G32, INFER_QTYPE_N4G32, INFER_QTYPE_T2R};
    pools();
    plan_is_sound();
    cancelling();
    attention_splits();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        same_bits(types[i], i % 2 ? INFER_QTYPE_F32 : INFER_QTYPE_F16, 0);
    same_bits(INFER_QTYPE_Q4G32, INFER_QTYPE_Q8G32, 0);
    same_bits(INFER_QTYPE_Q8G32, INFER_QTYPE_F16, 245); /* into the second chunk of the context */
    same_bits(INFER_QTYPE_Q8G32, INFER_QTYPE_Q8G32, 245);
    return tap_done();
}
