/* A whole model from hostile bytes, through the public interface: opened, planned, run for a few tokens, its tokenizer and chat template
 * used. Weights are what the input says, NaN and infinities among them. */
#include "seal.h"

#include <infer/infer.h>

static infer_runtime *runtime(bool best)
{
    static infer_runtime *made[2];
    infer_runtime_options o = INFER_RUNTIME_DEFAULTS;
    o.threads = 1;
    o.cpu_level = best ? NULL : "ref";
    if (!made[best])
        FUZZ_REQUIRE(infer_runtime_create(&o, &made[best], NULL) == INFER_OK);
    return made[best];
}

static void use_text(const infer_model *model)
{
    static const char text[] = "Once <s> upon\n\xff a time";
    const infer_chat_message message = {INFER_CHAT_USER, text, sizeof text - 1};
    infer_decoder *decoder;
    int32_t ids[64];
    size_t n, bytes;
    const char *piece;

    if (infer_model_tokenize(model, text, sizeof text - 1, INFER_TOKENIZE_BOS | INFER_TOKENIZE_SPECIAL, ids, 64, &n, NULL) != INFER_OK)
        return;
    if (infer_decoder_create(model, &decoder, NULL) == INFER_OK) {
        for (size_t i = 0; i < n; i++)
            FUZZ_REQUIRE(infer_decoder_push(decoder, ids[i], &piece, &bytes) == INFER_OK && piece[bytes] == 0);
        infer_decoder_destroy(decoder);
    }
    infer_model_tokenize_chat(model, NULL, &message, 1, ids, 64, &n, NULL);
    infer_model_chat_end(model, NULL);
}

static void use_weights(infer_model *model, infer_kv_type kv)
{
    infer_session_options o = INFER_SESSION_DEFAULTS;
    infer_session *session;
    infer_sampler *sampler;
    int32_t ids[3];

    o.context = 8;
    o.batch = 2;
    o.kv_type = kv;
    if (infer_session_create(model, &o, &session, NULL) != INFER_OK)
        return;
    for (size_t i = 0; i < 3; i++)
        ids[i] = (int32_t)(infer_model_vocab_size(model) * i / 3);
    FUZZ_REQUIRE(infer_session_eval(session, ids, 3, INFER_LOGITS_LAST, NULL) == INFER_OK);
    if (infer_sampler_create(model, NULL, &sampler, NULL) == INFER_OK) {
        int32_t id = infer_sampler_sample(sampler, infer_session_logits(session, 0));
        FUZZ_REQUIRE(id >= 0 && (uint32_t)id < infer_model_vocab_size(model));
        FUZZ_REQUIRE(infer_session_eval(session, &id, 1, INFER_LOGITS_LAST, NULL) == INFER_OK);
        infer_sampler_destroy(sampler);
    }
    infer_session_destroy(session);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
    infer_model_options o = INFER_MODEL_DEFAULTS;
    infer_model *model;
    uint8_t choice = size ? data[size / 2] : 0;

    o.verify = INFER_VERIFY_NEVER;
    if (infer_model_open(runtime(choice & 1), fuzz_sealed(data, size), &o, &model, NULL) != INFER_OK)
        return;
    use_text(model);
    use_weights(model, (infer_kv_type)(choice >> 1 & 3));
    infer_model_close(model);
}
