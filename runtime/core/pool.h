/* Threads that sleep. One pool per runtime; the caller works along with `threads - 1` helpers. */
#ifndef INFER_CORE_POOL_H
#define INFER_CORE_POOL_H

#include "core/core.h"

#include <stdatomic.h>

typedef struct infer_pool infer_pool;

/* `threads` counts the caller: 1 starts none. */
infer_status infer_pool_create(const infer_allocator *a, uint32_t threads, infer_pool **out, infer_error *err);
void infer_pool_destroy(infer_pool *pool);
uint32_t infer_pool_threads(const infer_pool *pool);

/* Runs work(arg, thread) once on every thread of the pool, thread = 0 being the caller; returns when all have returned. Calls from
 * several threads take turns. Memory written before the call is visible to all, and theirs to the caller after it. */
typedef void infer_pool_work(void *arg, uint32_t thread);
void infer_pool_run(infer_pool *pool, infer_pool_work *work, void *arg);

/* An event that can be waited for with a bounded spin, then in the kernel. `word` changes monotonically; waiters count themselves in
 * `sleepers`, so that a poster with nobody asleep makes no system call. */
typedef struct infer_event {
    _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
} infer_event;

/* Returns when *flag is nonzero. Every setter of a flag calls infer_event_post(event) after setting it. */
void infer_event_wait(infer_event *event, const _Atomic uint32_t *flag);
void infer_event_post(infer_event *event);

#endif
