/* Opens a vocabulary and encodes text. The parts are explained in tables.h. */
#include "text/tables.h"
#include "text/utf8.h"

#include <xxhash.h>


/* ---- opening ---- */

/* infer_vocab_parse has checked what does not depend on this build. */
static infer_status check_supported(const infer_vocab_view *v, const char *name, infer_error *err)
{
    if (v->kind != INFER_VOCAB_BPE && v->flags & INFER_VOCAB_BYTE_LEVEL)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: only merge-based vocabularies may use GPT-2's byte alphabet", name);
    if (!v->steps && (v->kind == INFER_VOCAB_WORDPIECE) != (v->pretokenizer == INFER_PRETOKENIZER_BERT))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED,
                          "%s: tokenizer: kind %u with pre-tokenizer %u; only WordPiece (4) goes with BERT's (4)", name, v->kind,
                          v->pretokenizer);
    if (v->kind == INFER_VOCAB_WORDS && !v->steps)
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: kind %u with pre-tokenizer %u; whole words go with steps (6)", name,
                          v->kind, v->pretokenizer);
    if ((v->flags & INFER_VOCAB_WORD_END && v->kind != INFER_VOCAB_BPE) ||
        (v->flags & INFER_VOCAB_WORD_BEGIN && v->kind != INFER_VOCAB_BPE && v->kind != INFER_VOCAB_WORDPIECE) ||
        (v->flags & (INFER_VOCAB_WORD_END | INFER_VOCAB_WORD_BEGIN) && !v->steps))
        return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: kind %u with pre-tokenizer %u does not mark the ends of words",
                          name, v->kind, v->pretokenizer);
    return INFER_OK;
}

/* The byte that <0xXX> names. */
static uint8_t named_byte(const char *p)
{
    unsigned high = p[3] <= '9' ? p[3] - '0' : p[3] - 'A' + 10, low = p[4] <= '9' ? p[4] - '0' : p[4] - 'A' + 10;
    return (uint8_t)(high << 4 | low);
}

static uint32_t replace_meta_space(const char *p, uint32_t n, char *out)
{
    uint32_t written = 0;
    for (uint32_t i = 0; i < n;)
        if (n - i >= 3 && !memcmp(p + i, INFER_META_SPACE, 3)) {
            out[written++] = ' ';
            i += 3;
        } else
            out[written++] = p[i++];
    return written;
}

/* A token's text, at most n bytes, or 3 where that is more; `shown`: as readers see it. */
static uint32_t put_token_text(const infer_tokenizer *t, uint32_t id, const char *p, uint32_t n, bool shown, char *out)
{
    const infer_vocab_view *v = &t->vocab;
    const uint8_t type = infer_vocab_type(v, id);
    const bool raw = v->steps && !shown, written = type == INFER_TOKEN_USER || type == INFER_TOKEN_ADDED;
    if (id == v->unk) { /* the only one that may grow */
        memcpy(out, "\xef\xbf\xbd", 3);
        return 3;
    }
    if (type == INFER_TOKEN_BYTE) {
        *out = (char)named_byte(p);
        return 1;
    }
    if (type == INFER_TOKEN_CONTROL || type == INFER_TOKEN_UNKNOWN)
        return 0;
    if (v->flags & INFER_VOCAB_BYTE_LEVEL && !written && !(raw && t->alphabet_step))
        n = infer_byte_alphabet_decode(p, n, out);
    else if (v->flags & INFER_VOCAB_META_SPACE && !raw)
        n = replace_meta_space(p, n, out);
    else
        memcpy(out, p, n);
    for (uint32_t i = 0; i < n && shown && v->flags & (INFER_VOCAB_WORD_BEGIN | INFER_VOCAB_WORD_END); i++)
        if (out[i] == INFER_VOCAB_MARK)
            out[i] = ' ';
    return n;
}

static infer_status fill_texts(infer_tokenizer *t, bool shown, char **text, uint32_t **ends, infer_error *err)
{
    const infer_vocab_view *v = &t->vocab;
    const size_t bytes = (size_t)v->text_bytes + 3;
    uint32_t at = 0;
    *text = infer_alloc(t->allocator, bytes);
    *ends = infer_alloc(t->allocator, v->tokens * sizeof **ends);
    if (!*text || !*ends)
        return infer_fail_memory(err, bytes + v->tokens * sizeof **ends, "the tokenizer's texts");
    for (uint32_t id = 0; id < v->tokens; id++) {
        const uint32_t start = id ? v->ends[id - 1] : 0, n = put_token_text(t, id, v->text + start, v->ends[id] - start, shown, *text + at);
        at += n;
        (*ends)[id] = at;
        t->longest = n > t->longest ? n : t->longest;
    }
    return INFER_OK;
}

/* Fills text, shown, their ends, longest and byte_token. */
static infer_status build_texts(infer_tokenizer *t, infer_error *err)
{
    const infer_vocab_view *v = &t->vocab;
    infer_status status = fill_texts(t, false, &t->text, &t->ends, err);
    if (status == INFER_OK && v->steps) {
        status = fill_texts(t, true, &t->shown, &t->shown_ends, err);
    } else {
        t->shown = t->text;
        t->shown_ends = t->ends;
    }
    memset(t->byte_token, 0xff, sizeof t->byte_token); /* INFER_NO_SYMBOL */
    for (uint32_t id = 0; id < v->tokens && status == INFER_OK; id++)
        if (infer_vocab_type(v, id) == INFER_TOKEN_BYTE && id != v->unk) {
            uint32_t *token = &t->byte_token[named_byte(v->text + (id ? v->ends[id - 1] : 0))];
            *token = *token == INFER_NO_SYMBOL ? id : *token;
        }
    return status;
}

static bool is_special(const infer_tokenizer *t, uint32_t id)
{
    const uint8_t type = infer_vocab_type(&t->vocab, id);
    return type == INFER_TOKEN_CONTROL || type == INFER_TOKEN_UNKNOWN || type == INFER_TOKEN_USER || type == INFER_TOKEN_ADDED;
}

/* text[0..n), n >= 1, as the special tokens that are looked for behind normalization see it. */
static infer_status normalize(infer_encoder *e, bool first, const char **text, size_t *n)
{
    const infer_tokenizer *t = e->t;
    infer_status status = INFER_OK;
    if (t->vocab.steps) {
        status = infer_steps_run(e, *text, *n, first, true);
        *text = e->work[0].p;
        *n = e->work[0].n;
    } else if (!infer_normalize_is_identity(&t->vocab)) {
        status = infer_normalize(t, *text, *n, first, &e->normal, &e->space, e->err);
        *text = e->normal.p;
        *n = e->normal.n;
    }
    return status;
}

static void free_work(infer_encoder *e)
{
    const infer_allocator *a = e->t->allocator;
    infer_free(a, e->normal.p);
    infer_free(a, e->space.p);
    infer_free(a, e->symbols);
    infer_free(a, e->links);
    infer_free(a, e->heap);
    infer_free(a, e->best);
    infer_free(a, e->cache);
    infer_steps_free(e);
}

/* Appends the normalized name of each such token; their ends go to `ends`. */
static infer_status normalize_names(infer_tokenizer *t, infer_bytes *texts, uint32_t *ends, infer_error *err)
{
    const infer_vocab_view *v = &t->vocab;
    infer_encoder e = {.t = t, .err = err};
    infer_status status = INFER_OK;
    for (uint32_t id = 0; id < v->tokens && status == INFER_OK; id++) {
        const uint32_t start = id ? v->ends[id - 1] : 0;
        const char *name = v->text + start;
        size_t n = v->ends[id] - start;
        if (!is_special(t, id) || !(v->types[id] & INFER_TOKEN_NORMALIZED))
            continue;
        if (n > INFER_SPECIAL_MAX_BYTES)
            n = 0;
        if (n > 0 && !t->written_names)
            status = normalize(&e, true, &name, &n);
        if (status == INFER_OK && !infer_bytes_add(texts, t->allocator, name, n))
            status = infer_fail_memory(err, texts->n + n, "the names of special tokens");
        *ends++ = (uint32_t)texts->n;
    }
    free_work(&e);
    return status;
}

/* The names of special tokens that are looked for before normalization, and behind it. */
static infer_status build_names(infer_tokenizer *t, infer_error *err)
{
    const infer_vocab_view *v = &t->vocab;
    infer_bytes texts = {0};
    uint32_t count = 0, normalized = 0, *ends, start = 0;
    infer_status status;
    for (uint32_t id = 0; id < v->tokens; id++) {
        count += is_special(t, id);
        normalized += is_special(t, id) && v->types[id] & INFER_TOKEN_NORMALIZED;
    }
    ends = infer_alloc(t->allocator, (normalized + 1) * sizeof *ends);
    if (!ends || !infer_names_init(&t->names, t->allocator, count - normalized, v->tokens) ||
        !infer_names_init(&t->normal_names, t->allocator, normalized, v->tokens)) {
        infer_free(t->allocator, ends);
        return infer_fail_memory(err, (size_t)count * sizeof(infer_strmap_slot), "the names of special tokens");
    }
    status = normalize_names(t, &texts, ends, err);
    t->normal_text = texts.p;
    for (uint32_t id = 0, i = 0; id < v->tokens && status == INFER_OK; id++) {
        const uint32_t from = id ? v->ends[id - 1] : 0;
        if (!is_special(t, id))
            continue;
        if (!(v->types[id] & INFER_TOKEN_NORMALIZED)) { /* as it is written, even if spaces are U+2581 elsewhere */
            infer_names_add(&t->names, v->text + from, v->ends[id] - from, id);
            continue;
        }
        if (ends[i] > start)
            infer_names_add(&t->normal_names, texts.p + start, ends[i] - start, id);
        start = ends[i++];
    }
    infer_free(t->allocator, ends);
    return status;
}

/* Fills texts, single and joints. */
static infer_status build_maps(infer_tokenizer *t, infer_error *err)
{
    const infer_vocab_view *v = &t->vocab;
    if (!infer_strmap_init(&t->texts, t->allocator, v->tokens, v->tokens))
        return infer_fail_memory(err, 2 * (size_t)v->tokens * sizeof(infer_strmap_slot), "the tokenizer's index of texts");
    memset(t->single, 0xff, sizeof t->single); /* INFER_NO_SYMBOL */
    for (uint32_t id = 0; id < v->tokens; id++) {
        uint32_t n;
        const uint8_t *p;
        if (!infer_token_merges(t, id))
            continue;
        p = (const uint8_t *)infer_token_surface(t, id, &n);
        if (n > INFER_TOKEN_MAX_BYTES)
            return infer_fail(err, INFER_ERROR_UNSUPPORTED, "%s: tokenizer: token %u has %u bytes of text; at most %u are handled", t->name,
                              id, n, INFER_TOKEN_MAX_BYTES);
        t->repeated_texts |= infer_strmap_put(&t->texts, (const char *)p, n, id) != INFER_STRMAP_NONE;
        if (n == 1 && t->single[*p] == INFER_NO_SYMBOL)
            t->single[*p] = id;
        for (uint32_t i = 1; i < n; i++)
            t->joints[p[i - 1]][p[i] >> 5] |= 1u << (p[i] & 31);
    }
    return INFER_OK;
}

static infer_status build_tables(infer_tokenizer *t, infer_error *err)
{
    infer_status status;
    if ((status = build_texts(t, err)) != INFER_OK || (status = build_maps(t, err)) != INFER_OK ||
        ((t->vocab.patterns || t->vocab.steps) &&
         (status = infer_splitter_open(t->allocator, &t->vocab, t->name, &t->splitter, err)) != INFER_OK) ||
        (status = build_names(t, err)) != INFER_OK)
        return status;
    switch (t->vocab.kind) {
    case INFER_VOCAB_BPE:
        return infer_bpe_build(t, err);
    case INFER_VOCAB_UNIGRAM:
        return infer_unigram_build(t, err);
    default:
        return INFER_OK;
    }
}

infer_status infer_tokenizer_open(const infer_allocator *a, const void *section, size_t bytes, const char *name, infer_tokenizer **out,
                                  infer_error *err)
{
    infer_vocab_view view;
    infer_tokenizer *t;
    infer_vocab_step step;
    size_t name_bytes = strlen(name) + 1;
    infer_status status = infer_vocab_parse(section, bytes, name, &view, err);
    if (status || (status = check_supported(&view, name, err)))
        return status;
    t = infer_alloc_zero(a, sizeof *t + name_bytes);
    if (!t)
        return infer_fail_memory(err, sizeof *t + name_bytes, "a tokenizer");
    t->name = memcpy(t + 1, name, name_bytes);
    if (a) {
        t->own = *a;
        t->allocator = &t->own;
    }
    t->vocab = view;
    for (uint32_t at = 0; view.steps && infer_vocab_next_step(view.steps, view.step_bytes, &at, &step);) {
        t->alphabet_step |= step.op == INFER_STEP_BYTES && view.flags & INFER_VOCAB_BYTE_LEVEL;
        t->written_names |= step.op == INFER_STEP_NAMES && step.argument == 1;
    }
    if ((status = build_tables(t, err)) != INFER_OK) {
        infer_tokenizer_close(t);
        return status;
    }
    *out = t;
    return INFER_OK;
}

void infer_tokenizer_close(infer_tokenizer *t)
{
    infer_allocator a;
    if (!t)
        return;
    infer_strmap_free(&t->texts, t->allocator);
    infer_strmap_free(&t->names.ids, t->allocator);
    infer_strmap_free(&t->normal_names.ids, t->allocator);
    infer_pairs_free(&t->pairs, t->allocator);
    infer_splitter_close(t->splitter);
    if (t->shown != t->text) {
        infer_free(t->allocator, t->shown);
        infer_free(t->allocator, t->shown_ends);
    }
    infer_free(t->allocator, t->text);
    infer_free(t->allocator, t->ends);
    infer_free(t->allocator, t->normal_text);
    a = t->own;
    infer_free(t->allocator ? &a : NULL, t);
}

const infer_vocab_view *infer_tokenizer_vocab(const infer_tokenizer *t)
{
    return &t->vocab;
}

const char *infer_tokenizer_token(const infer_tokenizer *t, int32_t id, size_t *bytes)
{
    uint32_t n;
    const char *p;
    if (id < 0 || (uint32_t)id >= t->vocab.tokens)
        return NULL;
    p = infer_token_shown(t, (uint32_t)id, &n);
    *bytes = n;
    return p;
}

/* ---- encoding ---- */

/* A character becomes byte tokens where there is one for each of its bytes. */
void infer_encoder_put_unknown(infer_encoder *e, const char *text, size_t n)
{
    const infer_tokenizer *t = e->t;
    bool bytes = t->vocab.flags & INFER_VOCAB_BYTE_FALLBACK;
    for (size_t i = 0; i < n && bytes; i++)
        bytes = t->byte_token[(uint8_t)text[i]] != INFER_NO_SYMBOL;
    for (size_t i = 0; i < n && bytes; i++)
        infer_encoder_put(e, t->byte_token[(uint8_t)text[i]]);
    if (!bytes && t->vocab.unk != INFER_VOCAB_NO_ID && !e->unknown) {
        infer_encoder_put(e, t->vocab.unk);
        e->unknown = !(t->vocab.flags & INFER_VOCAB_UNKNOWN_EACH);
    }
}

static infer_status encode_piece(infer_encoder *e, const char *text, size_t n)
{
    return e->t->vocab.kind == INFER_VOCAB_UNIGRAM ? infer_unigram_piece(e, text, n) : infer_merge_piece(e, text, n);
}

/* The cache has a place for each piece, in which the last one stays. It remembers neither long pieces nor those with unknown characters, of
 * which a run over several pieces becomes one token. */
static infer_status encode_cached(void *encoder, const char *text, size_t n)
{
    infer_encoder *e = encoder;
    const size_t before = e->count;
    const bool after_unknown = e->unknown; /* then an unknown character at the beginning leaves no trace */
    infer_cached *c;
    uint32_t hash;
    infer_status status;
    if (!e->cache || n > sizeof c->text)
        return encode_piece(e, text, n);
    hash = (uint32_t)XXH3_64bits(text, n);
    c = &e->cache[hash & e->cache_mask];
    if (c->hash == hash && c->bytes == n && memcmp(c->text, text, n) == 0) {
        if (e->cap >= before && e->cap - before >= c->count)
            memcpy(e->ids + before, c->ids, c->count * sizeof *c->ids);
        else
            for (unsigned i = 0; i < c->count; i++)
                infer_encoder_put(e, (uint32_t)c->ids[i]);
        e->count = before + c->count;
        e->unknown = e->unknown && c->count == 0;
        return INFER_OK;
    }
    status = encode_piece(e, text, n);
    if (status == INFER_OK && e->count <= e->cap && e->count - before <= sizeof c->ids / sizeof *c->ids) {
        bool known = !after_unknown;
        for (size_t i = before; i < e->count; i++)
            known &= (uint32_t)e->ids[i] != e->t->vocab.unk;
        if (known && e->count > before) {
            *c = (infer_cached){.hash = hash, .bytes = (uint8_t)n, .count = (uint8_t)(e->count - before)};
            memcpy(c->text, text, n);
            memcpy(c->ids, e->ids + before, c->count * sizeof *c->ids);
        }
    }
    return status;
}

/* A piece that a pattern has cut: unknown characters before it are another run. */
static infer_status encode_cut(void *encoder, const char *text, size_t n)
{
    ((infer_encoder *)encoder)->unknown = false;
    return encode_cached(encoder, text, n);
}

/* A text without pre-tokenizer, cut wherever no token can cross. */
static infer_status encode_parts(infer_encoder *e, const char *text, size_t n)
{
    size_t start = 0;
    infer_status status = INFER_OK;
    for (size_t i = 1; i <= n && status == INFER_OK; i++)
        if (i == n || (!infer_has_bytes(e->t->joints, (uint8_t)text[i - 1], (uint8_t)text[i]) && ((uint8_t)text[i] & 0xc0) != 0x80)) {
            status = encode_cached(e, text + start, i - start);
            start = i;
        }
    return status;
}

/* Longer pieces are cut where no token can cross, unless they may be tokens, or what is left out of them may bring its sides together. */
#define PIECE_BYTES 64u

static bool may_be_cut(const infer_vocab_view *v)
{
    return !(v->flags & (INFER_VOCAB_WHOLE_PIECES | INFER_VOCAB_WORD_END | INFER_VOCAB_WORD_BEGIN)) &&
           (v->kind != INFER_VOCAB_BPE || v->unk != INFER_VOCAB_NO_ID || v->flags & (INFER_VOCAB_BYTE_LEVEL | INFER_VOCAB_BYTE_FALLBACK));
}

/* Any piece, or a whole text. */
static infer_status encode_whole(infer_encoder *e, const char *text, size_t n)
{
    return n <= PIECE_BYTES || !may_be_cut(&e->t->vocab) ? encode_cached(e, text, n) : encode_parts(e, text, n);
}

static infer_status encode_step_piece(infer_encoder *e, const char *text, size_t n)
{
    const infer_vocab_view *v = &e->t->vocab;
    uint32_t id;
    e->unknown = false;
    switch (v->kind) {
    case INFER_VOCAB_WORDPIECE:
        return infer_wordpiece_word(e, text, n);
    case INFER_VOCAB_WORDS:
        id = infer_strmap_get(&e->t->texts, text, n);
        if (id != INFER_STRMAP_NONE || v->unk != INFER_VOCAB_NO_ID)
            infer_encoder_put(e, id != INFER_STRMAP_NONE ? id : v->unk);
        return INFER_OK;
    default:
        return encode_whole(e, text, n);
    }
}

static infer_status encode_step_pieces(infer_encoder *e)
{
    infer_status status = INFER_OK;
    for (size_t i = 0; i < e->pieces[0].n && status == INFER_OK; i++) {
        const infer_piece piece = e->pieces[0].p[i];
        if (piece.id != INFER_NO_SYMBOL)
            infer_encoder_put(e, piece.id);
        else if (piece.end > piece.start)
            status = encode_step_piece(e, e->work[0].p + piece.start, piece.end - piece.start);
    }
    return status;
}

/* Normalized text without pre-tokenizing steps. */
static infer_status encode_normal(infer_encoder *e, const char *text, size_t n)
{
    const infer_tokenizer *t = e->t;
    if (n == 0)
        return INFER_OK;
    if (t->vocab.pretokenizer == INFER_PRETOKENIZER_BERT)
        return infer_wordpiece_text(e, text, n);
    return t->splitter ? infer_split(t->splitter, text, n, encode_cut, e, e->err) : encode_whole(e, text, n);
}

/* Text without special tokens that are looked for before normalization. `first`: it begins the whole text. */
static infer_status encode_text(infer_encoder *e, const char *text, size_t n, bool first)
{
    const infer_tokenizer *t = e->t;
    size_t at = 0, done = 0;
    infer_found found;
    infer_status status = INFER_OK;
    if (n == 0)
        return INFER_OK;
    if (t->vocab.steps) {
        status = infer_steps_run(e, text, n, first, false);
        return status == INFER_OK ? encode_step_pieces(e) : status;
    }
    if ((status = normalize(e, first, &text, &n)) != INFER_OK || n == 0)
        return status;
    while (status == INFER_OK && t->normal_names.any && infer_names_next(t, &t->normal_names, text, n, done, e->flags, &at, &found)) {
        status = encode_normal(e, text + done, found.start - done);
        infer_encoder_put(e, found.id);
        done = found.end;
    }
    return status == INFER_OK ? encode_normal(e, text + done, n - done) : status;
}

static infer_status encode_all(infer_encoder *e, const char *text, size_t bytes)
{
    size_t at = 0, done = 0;
    infer_found found;
    infer_status status = INFER_OK;
    while (status == INFER_OK && infer_names_next(e->t, &e->t->names, text, bytes, done, e->flags, &at, &found)) {
        status = encode_text(e, text + done, found.start - done, done == 0);
        infer_encoder_put(e, found.id);
        done = found.end;
    }
    return status == INFER_OK ? encode_text(e, text + done, bytes - done, done == 0) : status;
}

/* The tokens that steps put before or behind the text. */
static void put_around(infer_encoder *e, uint32_t op)
{
    const infer_vocab_view *v = &e->t->vocab;
    infer_vocab_step step;
    for (uint32_t at = 0; v->steps && infer_vocab_next_step(v->steps, v->step_bytes, &at, &step);)
        if (step.op == op)
            infer_encoder_put(e, step.argument);
}

#define CACHE_FROM_BYTES 2048u
#define CACHE_MOST 16384u /* pieces: 1 MiB */

/* One place for each 32 bytes of text; without memory, no cache. */
static void cache_open(infer_encoder *e, size_t bytes)
{
    uint32_t places = CACHE_FROM_BYTES / 32;
    if (bytes < CACHE_FROM_BYTES)
        return;
    while (places < CACHE_MOST && places < bytes / 32)
        places *= 2;
    e->cache = infer_alloc_array(e->t->allocator, places, sizeof *e->cache);
    e->cache_mask = places - 1;
}

infer_status infer_tokenizer_encode(const infer_tokenizer *t, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t cap,
                                    size_t *count, infer_error *err)
{
    infer_encoder e = {.t = t, .ids = ids, .cap = cap, .err = err, .flags = flags};
    const infer_vocab_view *v = &t->vocab;
    infer_status status;
    if (flags & ~(INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL))
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: flags 0x%x, of which only 0x%x are known", flags,
                          INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL);
    if (bytes > INFER_TEXT_MAX_BYTES)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: a text of %zu bytes, expected at most %u", bytes, INFER_TEXT_MAX_BYTES);
    cache_open(&e, bytes);
    if (flags & INFER_TOKENIZE_BOS && v->flags & INFER_VOCAB_ADD_BOS && v->bos != INFER_VOCAB_NO_ID)
        infer_encoder_put(&e, v->bos);
    if (flags & INFER_TOKENIZE_BOS)
        put_around(&e, INFER_STEP_BEFORE);
    status = encode_all(&e, text, bytes);
    if (flags & INFER_TOKENIZE_BOS)
        put_around(&e, INFER_STEP_BEHIND);
    if (flags & INFER_TOKENIZE_BOS && v->flags & INFER_VOCAB_ADD_EOS && v->eos != INFER_VOCAB_NO_ID)
        infer_encoder_put(&e, v->eos);
    free_work(&e);
    if (status)
        return status;
    *count = e.count;
    if (e.count > cap)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "tokenize: the text needs %zu tokens, there is room for %zu", e.count, cap);
    return INFER_OK;
}
