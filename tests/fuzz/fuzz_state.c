/* States of sessions: the first byte picks the KV type, whether sizes, model and hash are made right, and whether the state comes from a
 * file; the rest is the state. What is restored is evaluated and saved; afterwards, and after a refusal, the session gives the logits that
 * it always gave. */
#include "fuzz.h"

#include "model/session.h"
#include "small_model.h"
#include "state.h"

enum { TYPES = 3, CONTEXT = 40, TOKENS = 3 };

static const int32_t ids[TOKENS] = {1, 4, 6};

static infer_model *model(void)
{
    static infer_model *made;
    infer_runtime_options o = INFER_RUNTIME_DEFAULTS;
    infer_runtime *rt;
    char path[96];
    if (made)
        return made;
    o.threads = 1;
    snprintf(path, sizeof path, "%s/model.infer", fuzz_folder());
    FUZZ_REQUIRE(small_model_write(path, &(small_model){0}, NULL) == INFER_OK && infer_runtime_create(&o, &rt, NULL) == INFER_OK &&
                 infer_model_open(rt, path, NULL, &made, NULL) == INFER_OK);
    unlink(path);
    return made;
}

static infer_session *session_of(infer_kv_type kv)
{
    static infer_session *made[TYPES];
    infer_session_options o = INFER_SESSION_DEFAULTS;
    infer_session **s = &made[kv - INFER_KV_F16];
    o.context = CONTEXT;
    o.kv_type = kv;
    FUZZ_REQUIRE(*s || infer_session_create(model(), &o, s, NULL) == INFER_OK);
    return *s;
}

static infer_status restore(infer_session *s, const uint8_t *state, size_t size, bool file)
{
    return file ? infer_session_restore_file(s, fuzz_file("state", state, size), NULL) : infer_session_restore(s, state, size, NULL);
}

/* The logits behind the three tokens, in a session that is emptied for it. */
static const float *logits(infer_session *s)
{
    FUZZ_REQUIRE(infer_session_rewind(s, 0, NULL) == INFER_OK && infer_session_eval(s, ids, TOKENS, INFER_LOGITS_LAST, NULL) == INFER_OK);
    return infer_session_logits(s, 0);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
    uint8_t choice = size ? data[0] : 0, *state = malloc(size + 1);
    infer_session *s = session_of((infer_kv_type)(INFER_KV_F16 + choice % TYPES));
    float expected[SMALL_MODEL_VOCAB];
    bool sealed = choice & 64;

    FUZZ_REQUIRE(state);
    size -= size > 0;
    memcpy(state, data + 1, size);
    if (sealed && size >= STATE_HEADER_BYTES) {
        put_u64(state + STATE_BYTES_AT, size);
        put_u64(state + STATE_MODEL_AT, infer_file_hash(model()->file));
        state_seal(state, size);
    }
    memcpy(expected, logits(s), sizeof expected);
    if (restore(s, state, size, choice & 128) == INFER_OK) {
        uint8_t *again = malloc(size);
        FUZZ_REQUIRE(again && infer_session_position(s) <= CONTEXT && infer_session_state_bytes(s) == size && !infer_session_logits(s, 0));
        FUZZ_REQUIRE(infer_session_save(s, again, size, NULL) == INFER_OK);
        FUZZ_REQUIRE(infer_session_eval(s, ids, 1, INFER_LOGITS_LAST, NULL) ==
                     (infer_session_position(s) < CONTEXT ? INFER_OK : INFER_ERROR_CONTEXT));
        FUZZ_REQUIRE(restore(s, again, size, false) == INFER_OK);
        free(again);
    } else {
        FUZZ_REQUIRE(infer_session_position(s) == TOKENS && memcmp(infer_session_logits(s, 0), expected, sizeof expected) == 0);
    }
    FUZZ_REQUIRE(memcmp(logits(s), expected, sizeof expected) == 0);
    free(state);
}
