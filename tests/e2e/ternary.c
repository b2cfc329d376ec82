#include "ternary.h"

#include "import/import.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { Q, K, V, O, GATE, UP, DOWN, MATRICES };

typedef struct matrix {
    int8_t *codes; /* [rows][cols], -1, 0 or 1 */
    size_t rows, cols;
    float scale;
} matrix;

typedef struct ternary_model {
    size_t dim, layers, heads, kv_heads, head_dim, ffn, vocab;
    float *embed, *out_norm; /* [vocab][dim], [dim] */
    matrix *matrices;        /* [layers][MATRICES] */
} ternary_model;

/* What is known of one token on its way through a layer. */
typedef struct token_state {
    float *x, *q, *mixed, *gate, *up, *delta, *scores;
    int8_t *codes;
} token_state;

static void *zeros(size_t count, size_t size)
{
    void *p = calloc(count, size);
    cr_assert_not_null(p);
    return p;
}

static float *read_tensor(const infer_source *s, const char *name, size_t *rows, size_t *cols)
{
    infer_error err = {0};
    float *out;
    size_t i = 0;
    while (i < s->tensor_count && strcmp(s->tensors[i].name, name) != 0)
        i++;
    cr_assert_lt(i, s->tensor_count, "no tensor %s", name);
    *rows = s->tensors[i].rows;
    *cols = s->tensors[i].cols;
    out = zeros(*rows * *cols, sizeof *out);
    cr_assert_eq(s->importer->read_f32(s, i, 0, *rows, out, &err), INFER_OK, "%s", err.message);
    return out;
}

static matrix read_matrix(const infer_source *s, size_t layer, const char *name)
{
    char full[INFER_FILE_MAX_NAME + 1];
    matrix m = {0};
    float *numbers;
    snprintf(full, sizeof full, "layers.%zu.%s", layer, name);
    numbers = read_tensor(s, full, &m.rows, &m.cols);
    m.codes = zeros(m.rows * m.cols, 1);
    for (size_t i = 0; i < m.rows * m.cols; i++) {
        m.scale = fmaxf(m.scale, fabsf(numbers[i]));
        m.codes[i] = (int8_t)((numbers[i] > 0) - (numbers[i] < 0));
    }
    free(numbers);
    return m;
}

static ternary_model read_model(const char *path)
{
    static const char *const names[MATRICES] = {"q", "k", "v", "o", "gate", "up", "down"};
    ternary_model m = {0};
    infer_source source;
    infer_error err = {0};
    size_t rows, cols;
    cJSON *metadata;
    cr_assert_eq(infer_source_open(NULL, path, NULL, &source, &err), INFER_OK, "%s", err.message);
    cr_assert_not_null(metadata = cJSON_Parse(source.metadata));
    m.layers = (size_t)cJSON_GetObjectItem(metadata, "layers")->valueint;
    m.heads = (size_t)cJSON_GetObjectItem(metadata, "heads")->valueint;
    m.kv_heads = (size_t)cJSON_GetObjectItem(metadata, "kv_heads")->valueint;
    cJSON_Delete(metadata);
    m.embed = read_tensor(&source, "tok_embed", &m.vocab, &m.dim);
    m.out_norm = read_tensor(&source, "out_norm", &rows, &cols);
    m.head_dim = m.dim / m.heads;
    m.matrices = zeros(m.layers * MATRICES, sizeof *m.matrices);
    for (size_t l = 0; l < m.layers; l++)
        for (size_t i = 0; i < MATRICES; i++)
            m.matrices[l * MATRICES + i] = read_matrix(&source, l, names[i]);
    m.ffn = m.matrices[GATE].rows;
    infer_source_close(&source);
    return m;
}

static void free_model(ternary_model *m)
{
    for (size_t i = 0; i < m->layers * MATRICES; i++)
        free(m->matrices[i].codes);
    free(m->matrices);
    free(m->embed);
    free(m->out_norm);
}

static float sum_of_squares(const float *x, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

/* The norm of a BitLinear, then 8 bits; returns what a code is worth. A code is the nearest one, of two as near the one farther from 0. */
static float quantize(const float *x, size_t n, int8_t *codes)
{
    float by = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n) / (float)n, most = 0, step, inverse;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i] * by));
    step = (float)((double)most / 127.0);
    inverse = (float)(1.0 / (double)step);
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)round((double)(x[i] * by * inverse));
    return step;
}

static void multiply(const matrix *m, const int8_t *codes, float step, float *out)
{
    const float unit = m->scale * step;
    for (size_t r = 0; r < m->rows; r++) {
        int32_t sum = 0;
        for (size_t c = 0; c < m->cols; c++)
            sum += m->codes[r * m->cols + c] * codes[c];
        out[r] = (float)sum * unit;
    }
}

/* Turns each pair of neighbours. */
static void rotate(float *x, size_t n, size_t head_dim, size_t position)
{
    for (size_t i = 0; i < n; i += 2) {
        const float angle = (float)position * (1.0f / powf(10000.0f, (float)(i % head_dim) / (float)head_dim)), c = cosf(angle),
                    s = sinf(angle);
        const float a = x[i], b = x[i + 1];
        x[i] = a * c - b * s;
        x[i + 1] = a * s + b * c;
    }
}

/* keys, values: [position + 1][stride], of the head's. */
static void attend(const float *q, const float *keys, const float *values, size_t stride, size_t head_dim, size_t position, float *scores,
                   float *out)
{
    float most = -INFINITY, sum = 0;
    for (size_t t = 0; t <= position; t++) {
        scores[t] = 0;
        for (size_t i = 0; i < head_dim; i++)
            scores[t] += q[i] * keys[t * stride + i];
        scores[t] /= sqrtf((float)head_dim);
        most = fmaxf(most, scores[t]);
    }
    for (size_t t = 0; t <= position; t++)
        sum += scores[t] = expf(scores[t] - most);
    memset(out, 0, head_dim * sizeof *out);
    for (size_t t = 0; t <= position; t++)
        for (size_t i = 0; i < head_dim; i++)
            out[i] += scores[t] / sum * values[t * stride + i];
}

static void add(float *x, const float *delta, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += delta[i];
}

/* keys, values: [positions][kv] of the layer's, the token's own are written. */
static void run_layer(const ternary_model *m, const matrix *matrices, token_state *s, float *keys, float *values, size_t position)
{
    const size_t kv = m->kv_heads * m->head_dim;
    float step = quantize(s->x, m->dim, s->codes);
    multiply(&matrices[Q], s->codes, step, s->q);
    multiply(&matrices[K], s->codes, step, keys + position * kv);
    multiply(&matrices[V], s->codes, step, values + position * kv);
    rotate(s->q, m->dim, m->head_dim, position);
    rotate(keys + position * kv, kv, m->head_dim, position);
    for (size_t h = 0; h < m->heads; h++) {
        const size_t at = h / (m->heads / m->kv_heads) * m->head_dim;
        attend(s->q + h * m->head_dim, keys + at, values + at, kv, m->head_dim, position, s->scores, s->mixed + h * m->head_dim);
    }
    step = quantize(s->mixed, m->dim, s->codes);
    multiply(&matrices[O], s->codes, step, s->delta);
    add(s->x, s->delta, m->dim);
    step = quantize(s->x, m->dim, s->codes);
    multiply(&matrices[GATE], s->codes, step, s->gate);
    multiply(&matrices[UP], s->codes, step, s->up);
    for (size_t i = 0; i < m->ffn; i++)
        s->gate[i] = s->gate[i] * (1.0f / (1.0f + expf(-s->gate[i]))) * s->up[i];
    step = quantize(s->gate, m->ffn, s->codes);
    multiply(&matrices[DOWN], s->codes, step, s->delta);
    add(s->x, s->delta, m->dim);
}

/* The last norm has weights and an epsilon; the embeddings are the head. */
static void run_head(const ternary_model *m, const float *x, float *logits)
{
    const float by = 1.0f / sqrtf(sum_of_squares(x, m->dim) / (float)m->dim + 1e-5f);
    for (size_t v = 0; v < m->vocab; v++) {
        logits[v] = 0;
        for (size_t i = 0; i < m->dim; i++)
            logits[v] += m->embed[v * m->dim + i] * (m->out_norm[i] * (by * x[i]));
    }
}

float *ternary_logits(const char *path, const int32_t *ids, size_t n, bool nudged, size_t *vocab)
{
    ternary_model m = read_model(path);
    const size_t most = m.dim > m.ffn ? m.dim : m.ffn, kv = m.kv_heads * m.head_dim;
    float *logits = zeros(n * m.vocab, sizeof *logits), *numbers = zeros(6 * most + n, sizeof *numbers);
    float *keys = zeros(m.layers * n * kv, sizeof *keys), *values = zeros(m.layers * n * kv, sizeof *values);
    token_state s = {
        numbers,       numbers + most, numbers + 2 * most, numbers + 3 * most, numbers + 4 * most, numbers + 5 * most, numbers + 6 * most,
        zeros(most, 1)};
    for (size_t i = 0; nudged && i < m.vocab * m.dim; i++)
        m.embed[i] = nextafterf(m.embed[i], INFINITY);
    for (size_t p = 0; p < n; p++) {
        cr_assert(ids[p] >= 0 && (size_t)ids[p] < m.vocab);
        memcpy(s.x, m.embed + (size_t)ids[p] * m.dim, m.dim * sizeof *s.x);
        for (size_t l = 0; l < m.layers; l++)
            run_layer(&m, m.matrices + l * MATRICES, &s, keys + l * n * kv, values + l * n * kv, p);
        run_head(&m, s.x, logits + p * m.vocab);
    }
    *vocab = m.vocab;
    free(s.codes);
    free(numbers);
    free(keys);
    free(values);
    free_model(&m);
    return logits;
}
