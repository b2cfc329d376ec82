/* A small model with all that belongs to it, opened anew for each case, and the situations in which a call fails. */
#ifndef INFER_TESTS_STATUSES_WORLD_H
#define INFER_TESTS_STATUSES_WORLD_H

#include "check.h"

#include <infer/infer_experimental.h>

enum { WORLD_CONTEXT = 24, WORLD_PROMPT = 5 };

/* What calls are handed: the world's own, or NULL. */
typedef struct handles {
    infer_runtime *rt;
    infer_model *model;
    infer_session *session;
    infer_sampler *sampler;
    infer_decoder *decoder;
    infer_drafter *drafter;
    infer_meter *meter;
} handles;

typedef struct world world;
struct world {
    char path[128], state_path[128], meter_path[128], meter_source[160];
    infer_runtime_options runtime;
    infer_model_options model;
    infer_session_options session;
    infer_generate_options generate;
    infer_sampler_options sampler;
    infer_meter_options meter;
    handles own, use;
    uint8_t *state; /* of the session, behind the prompt */
    size_t state_bytes;
    void (*late)(world *w); /* NULL, or what happens while a generation runs */
    check_allocator memory;
};

/* `model` is one of those that world_models writes; `act` and `late` may be NULL. */
typedef struct situation {
    const char *model;
    void (*act)(world *w), (*late)(world *w);
} situation;

/* Writes the models into `folder`, once. False and a message when that fails. */
bool world_models(const char *folder, infer_error *err);
void world_models_remove(void);

/* Opens everything and brings the situation about. `fail_at`: which allocation from then on fails; 0: none. False: not even the model
 * opened. */
bool world_open(world *w, const situation *s, size_t fail_at, infer_error *err);
void world_close(world *w);

extern const int32_t world_prompt[WORLD_PROMPT];

extern const situation all_well, no_handles, other_size, no_memory, no_thread, other_cpu, a_folder, no_model, damaged_model, unknown_model,
    no_tokenizer, broken_map, no_events, no_kernel, damaged_weights, cut_off, no_fstat, full, cancelled, too_many, cut_off_late,
    no_fstat_late, cancelled_late, no_folder, no_state, damaged_state, newer_state, long_state, no_counter, meter_gone, meter_garbage,
    meter_gone_late, meter_garbage_late;

#endif
