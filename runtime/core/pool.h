/* Threads that sleep. One pool per runtime; the caller works along with `threads - 1` helpers. */
#ifndef INFER_CORE_POOL_H
#define INFER_CORE_POOL_H

#include "core/core.h"

#include <pthread.h>
#include <stdatomic.h>

/* pthread_create for a thread that takes no signals but those of its own faults: the application's handlers run on its own threads. 0, or the error's
 * number. */
int infer_thread_start(pthread_t *out, void *(*main)(void *), void *arg);

/* Something to wait for: first with a bounded spin, then in the kernel. `word` changes with every post; waiters count themselves in
 * `sleepers`, so that posting with nobody asleep makes no system call. */
typedef struct infer_event {
    _Alignas(64) _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
} infer_event;

/* Returns when *flag differs from `old`, having spun for at most about spin_ns before sleeping. Whoever changes the flag calls
 * infer_event_post afterwards. */
void infer_event_wait(infer_event *event, const _Atomic uint32_t *flag, uint32_t old, uint32_t spin_ns);
void infer_event_post(infer_event *event);

typedef struct infer_pool infer_pool;

/* `threads` counts the caller: 1 starts none. */
infer_status infer_pool_create(const infer_allocator *a, uint32_t threads, infer_pool **out, infer_error *err);
void infer_pool_destroy(infer_pool *pool);
uint32_t infer_pool_threads(const infer_pool *pool);
/* How long a thread of this pool may spin before it sleeps: tens of microseconds, nothing when there are more threads than CPUs. */
uint32_t infer_pool_spin_ns(const infer_pool *pool);

/* Runs work(arg, thread) once on every thread of the pool, thread 0 being the caller; returns when all have returned. Calls from several
 * threads take turns. What was written before the call is visible to all of them, and what they wrote to the caller after it. */
typedef void infer_pool_work(void *arg, uint32_t thread);
void infer_pool_run(infer_pool *pool, infer_pool_work *work, void *arg);

#endif
