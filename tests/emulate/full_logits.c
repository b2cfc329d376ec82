/*
 * Full logits: a whole model from checkpoint to logits, hashed, at every CPU level this machine has. Links graph, planner and kernels without the
 * libraries that the file format needs, so that it runs where nothing can be loaded: it reads the checkpoint itself and hands over its tensors in the
 * place of a file (infer_model_weight).
 *
 * full-logits [LEVEL [CACHE]] <stories260K.bin: with a level, only that one, which must be the best one found here; with a type, only KV caches of
 * it. Prints TAP.
 * The checkpoint: llama2.c, version 0, as formats/import/llama2c.c describes it.
 */
#include "full_logits.h"

#include "cpu.h"
#include "model/build.h"
#include "pack/pack.h"

#include <stdio.h>
#include <string.h>

enum { BATCH = 24, MAX_TENSORS = 128, MAX_FLOATS = 1 << 20 }; /* one batch of many tokens, then one token after the other */

static float file[MAX_FLOATS]; /* seven int32, then floats */
static size_t file_floats, file_at;

static infer_config config;

/* The tensors, matrices in the type that is being tested. */
static struct {
    char names[MAX_TENSORS][32];
    infer_tensor_info infos[MAX_TENSORS];
    void *data[MAX_TENSORS];
    size_t count;
} model_file;

/* ---- the checkpoint ---- */

static bool read_header(void)
{
    int32_t h[7];

    file_floats = fread(file, sizeof *file, MAX_FLOATS, stdin);
    memcpy(h, file, sizeof h);
    if (file_floats < 7 || h[0] != 64 || h[1] != 172 || h[2] != 5 || h[3] != 8 || h[4] != 4 || h[5] != FULL_LOGITS_VOCAB || h[6] < FULL_LOGITS_TOKENS)
        return false;
    config = (infer_config){.dim = (uint32_t)h[0], .ffn_dim = (uint32_t)h[1], .layers = (uint32_t)h[2], .heads = (uint32_t)h[3],
                            .kv_heads = (uint32_t)h[4], .head_dim = (uint32_t)(h[0] / h[3]), .vocab = (uint32_t)h[5], .context = (uint32_t)h[6],
                            .norm_eps = 1e-5f, .embed_scale = 1, .tied_head = true, .activation = INFER_ACTIVATION_SILU};
    config.rope[INFER_ROPE_GLOBAL] = (infer_rope_config){.theta = 10000, .dim = config.head_dim, .pairs = INFER_ROPE_ADJACENT};
    return true;
}

/* Appends the next rows x cols floats of the file: panels of `type`, or one row of f32. */
static bool take_tensor(infer_qtype type, const char *name, uint32_t rows, uint32_t cols)
{
    bool matrix = rows > 1;
    size_t floats = (size_t)rows * cols, panel = matrix ? (size_t)infer_panel_bytes(type, cols) : 0, i = model_file.count;
    size_t bytes = matrix ? infer_ceil_div(rows, 16) * panel : cols * sizeof *file;
    const float *from = file + file_at;
    uint8_t *data;

    if (i == MAX_TENSORS || floats > file_floats - file_at || !(data = infer_alloc_zero(NULL, bytes)))
        return false;
    if (!matrix)
        memcpy(data, from, bytes);
    snprintf(model_file.names[i], sizeof model_file.names[i], "%s", name);
    model_file.infos[i] = (infer_tensor_info){.name = model_file.names[i], .type = matrix ? type : INFER_QTYPE_F32,
                                              .layout = matrix ? INFER_LAYOUT_TILE16X4 : INFER_LAYOUT_ROWS, .rows = rows, .cols = cols,
                                              .bytes = bytes};
    model_file.data[model_file.count++] = data;
    file_at += floats;
    for (uint32_t r = 0; matrix && r < rows; r += 16)
        if (!infer_pack_panel(type, from + (size_t)r * cols, rows - r < 16 ? rows - r : 16, cols, data + r / 16 * panel))
            return false;
    return true;
}

static bool take_tensors(infer_qtype type)
{
    const infer_config *c = &config;
    uint32_t kv_dim = c->kv_heads * c->head_dim;
    const struct {
        const char *name;
        uint32_t rows, cols;
    } layer[] = {{"attn_norm", 1, c->dim}, {"q", c->dim, c->dim}, {"k", kv_dim, c->dim}, {"v", kv_dim, c->dim}, {"o", c->dim, c->dim},
                 {"ffn_norm", 1, c->dim}, {"gate", c->ffn_dim, c->dim}, {"down", c->dim, c->ffn_dim}, {"up", c->ffn_dim, c->dim}};
    bool good;

    file_at = 7;
    good = take_tensor(type, "tok_embed", c->vocab, c->dim);
    for (size_t k = 0; k < sizeof layer / sizeof *layer; k++)
        for (uint32_t l = 0; good && l < c->layers; l++) {
            char name[32];
            snprintf(name, sizeof name, "layers.%u.%s", l, layer[k].name);
            good = take_tensor(type, name, layer[k].rows, layer[k].cols);
        }
    return good && take_tensor(type, "out_norm", 1, c->dim);
}

static void drop_tensors(void)
{
    while (model_file.count)
        infer_free(NULL, model_file.data[--model_file.count]);
}

infer_status infer_model_weight(const infer_model *model, uint32_t layer, const char *name, uint32_t rows, uint32_t cols, bool matrix,
                                infer_weight *out, infer_error *err)
{
    char full[64];

    (void)model;
    (void)matrix;
    if (layer == INFER_NONE)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "layers.%u.%s", layer, name);
    for (size_t i = 0; i < model_file.count; i++)
        if (strcmp(model_file.names[i], full) == 0 && model_file.infos[i].rows == rows && model_file.infos[i].cols == cols) {
            *out = (infer_weight){&model_file.infos[i], model_file.data[i]};
            return INFER_OK;
        }
    return infer_fail(err, INFER_ERROR_FORMAT, "no tensor %s of shape %u x %u", full, rows, cols);
}

/* ---- a run ---- */

/* One batch, then the other tokens one by one. */
static infer_status evaluate(infer_plan *plan, infer_pool *pool, infer_error *err)
{
    int32_t ids[FULL_LOGITS_TOKENS];
    infer_status s = INFER_OK;

    for (uint32_t i = 0; i < FULL_LOGITS_TOKENS; i++)
        ids[i] = full_logits_id(i);
    for (uint32_t at = 0, m; s == INFER_OK && at < FULL_LOGITS_TOKENS; at += m) {
        m = at == 0 ? BATCH : 1;
        infer_batch batch = {.ids = ids + at, .m = m, .logits = m, .logits_row = at, .pos0 = at};
        s = infer_plan_run(plan, pool, &batch, err);
    }
    return s;
}

/* The hash of the logits; what went wrong is in err. */
static infer_status hash_logits(infer_cpu_level level, infer_qtype kv, infer_pool *pool, uint64_t *hash, infer_error *err)
{
    const infer_plan_options options = {.max_batch = BATCH, .max_logits = FULL_LOGITS_TOKENS, .context = FULL_LOGITS_TOKENS, .threads = 1,
                                        .kv_type = kv, .level = level};
    infer_model model = {.config = config};
    infer_graph graph;
    infer_plan *plan = NULL;
    infer_status s;

    infer_graph_init(&graph, NULL);
    graph.layers = config.layers;
    graph.heads = config.heads;
    graph.kv_heads = config.kv_heads;
    graph.head_dim = config.head_dim;
    graph.vocab = config.vocab;
    memcpy(graph.rope, config.rope, sizeof graph.rope);
    if ((s = infer_llama_build(&model, &graph, err)) == INFER_OK && (s = infer_plan_create(&graph, &options, &plan, err)) == INFER_OK &&
        (s = evaluate(plan, pool, err)) == INFER_OK)
        *hash = full_logits_hash(plan->logits, (size_t)FULL_LOGITS_TOKENS * FULL_LOGITS_VOCAB);
    infer_plan_destroy(plan);
    infer_graph_free(&graph);
    return s;
}

/* One line for an expected hash at each of the levels in the mask. */
static bool run_levels(size_t which, uint32_t levels, infer_pool *pool, unsigned *number)
{
    infer_qtype type = full_logits_expected[which].type, kv = full_logits_expected[which].kv;
    bool all = true;

    for (int level = 0; level < INFER_CPU_LEVEL_COUNT; level++) {
        infer_error err = {.message = "the checkpoint is too short"};
        uint64_t hash = 0;
        bool good;
        if (!(levels & 1u << level))
            continue;
        good = take_tensors(type) && hash_logits((infer_cpu_level)level, kv, pool, &hash, &err) == INFER_OK;
        drop_tensors();
        good = good && hash == full_logits_expected[which].hash;
        printf("%s %u - logits of %s with a cache of %s at %s: %016llx\n", good ? "ok" : "not ok", ++*number, infer_qtype_find(type)->name,
               infer_qtype_find(kv)->name, infer_cpu_level_name((infer_cpu_level)level), (unsigned long long)hash);
        if (hash == 0)
            printf("# %s\n", err.message);
        all = all && good;
    }
    return all;
}

int main(int argc, char **argv)
{
    enum { EXPECTED = sizeof full_logits_expected / sizeof *full_logits_expected };
    uint32_t levels = infer_cpu_levels_here();
    infer_cpu_level best = infer_cpu_best(levels);
    infer_pool *pool;
    unsigned number = 0;
    bool good = true;

    if (infer_pool_create(NULL, 1, &pool, NULL) != INFER_OK || !read_header()) {
        printf("1..1\nnot ok 1 - standard input is not stories260K.bin\n");
        return 1;
    }
    if (argc > 1) {
        levels = 1u << best;
        good = strcmp(infer_cpu_level_name(best), argv[1]) == 0;
        printf("%s %u - the best level here is %s, expected %s\n", good ? "ok" : "not ok", ++number, infer_cpu_level_name(best), argv[1]);
    }
    for (size_t i = 0; i < EXPECTED; i++)
        if (argc < 3 || strcmp(infer_qtype_find(full_logits_expected[i].kv)->name, argv[2]) == 0)
            good = run_levels(i, levels, pool, &number) && good;
    printf("1..%u\n", number);
    infer_pool_destroy(pool);
    return !good;
}
