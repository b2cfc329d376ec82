#include "core/pool.h"

#include <limits.h>
#include <signal.h>
#include <string.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define SPIN_NS 30000u /* about what a sleep and a wake-up cost together */

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` is a no-op on most cores; isb takes about as long as x86's pause */
#endif
}

int infer_thread_start(pthread_t *out, void *(*main)(void *), void *arg)
{
    static const int own[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV}; /* of what the thread itself does: blocked, they would end the process unheard */
    sigset_t others, old;
    int e;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&others, own[i]);
    pthread_sigmask(SIG_SETMASK, &others, &old);
    e = pthread_create(out, NULL, main, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e;
}

/* ---- event ---- */

#if defined(__linux__)
static void word_wait(_Atomic uint32_t *word, uint32_t value) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0); }
static void word_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }
#else
/* One lock for all events: sleeping is the rare case, and the hot path never comes here. */
static pthread_mutex_t word_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t word_changed = PTHREAD_COND_INITIALIZER;
static void word_wait(_Atomic uint32_t *word, uint32_t value)
{
    pthread_mutex_lock(&word_lock);
    if (atomic_load(word) == value)
        pthread_cond_wait(&word_changed, &word_lock);
    pthread_mutex_unlock(&word_lock);
}
static void word_wake(_Atomic uint32_t *word)
{
    (void)word;
    pthread_mutex_lock(&word_lock);
    pthread_cond_broadcast(&word_changed);
    pthread_mutex_unlock(&word_lock);
}
#endif

void infer_event_wait(infer_event *event, const _Atomic uint32_t *flag, uint32_t old, uint32_t spin_ns)
{
    if (atomic_load_explicit(flag, memory_order_acquire) != old)
        return;
    if (spin_ns) {
        uint64_t end = infer_now_ns() + spin_ns;
        do
            for (int i = 0; i < 32; i++) {
                if (atomic_load_explicit(flag, memory_order_acquire) != old)
                    return;
                pause_cpu();
            }
        while (infer_now_ns() < end);
    }
    /* The word is read before the flag is looked at again: a post between the two changes the word, and the kernel refuses to sleep. */
    atomic_fetch_add(&event->sleepers, 1);
    for (;;) {
        uint32_t word = atomic_load(&event->word);
        if (atomic_load(flag) != old)
            break;
        word_wait(&event->word, word);
    }
    atomic_fetch_sub(&event->sleepers, 1);
}

void infer_event_post(infer_event *event)
{
    atomic_fetch_add(&event->word, 1);
    if (atomic_load(&event->sleepers))
        word_wake(&event->word);
}

/* ---- pool ---- */

typedef struct helper {
    infer_pool *pool;
    uint32_t index;
    pthread_t thread;
} helper;

struct infer_pool {
    infer_allocator allocator;
    uint32_t threads, spin_ns;
    pthread_mutex_t turn; /* callers of infer_pool_run */
    infer_pool_work *work; /* NULL: helpers end */
    void *arg;
    _Alignas(64) _Atomic uint32_t round; /* changes when there is work */
    _Alignas(64) _Atomic uint32_t busy;  /* helpers that have not returned from this round */
    infer_event start, done;
    helper helpers[];
};

static void *helper_main(void *p)
{
    helper *h = p;
    infer_pool *pool = h->pool;
    for (uint32_t round = 0;; round++) {
        infer_pool_work *work;
        infer_event_wait(&pool->start, &pool->round, round, round ? pool->spin_ns : 0);
        work = pool->work;
        if (work)
            work(pool->arg, h->index);
        if (atomic_fetch_sub(&pool->busy, 1) == 1)
            infer_event_post(&pool->done);
        if (!work)
            return NULL;
    }
}

static void run(infer_pool *pool, infer_pool_work *work, void *arg)
{
    pool->work = work;
    pool->arg = arg;
    atomic_store(&pool->busy, pool->threads - 1);
    atomic_fetch_add(&pool->round, 1);
    infer_event_post(&pool->start);
    if (work)
        work(arg, 0);
    for (uint32_t busy; (busy = atomic_load_explicit(&pool->busy, memory_order_acquire)) != 0;)
        infer_event_wait(&pool->done, &pool->busy, busy, pool->spin_ns);
}

infer_status infer_pool_create(const infer_allocator *a, uint32_t threads, infer_pool **out, infer_error *err)
{
    size_t bytes = sizeof(infer_pool) + (threads - 1) * sizeof(helper);
    infer_pool *pool = infer_alloc_zero(a, bytes);
    if (!pool)
        return infer_fail_memory(err, bytes, "the thread pool");
    if (a)
        pool->allocator = *a;
    pool->spin_ns = threads <= infer_cpus_logical() ? SPIN_NS : 0;
    pthread_mutex_init(&pool->turn, NULL);
    for (pool->threads = 1; pool->threads < threads; pool->threads++) {
        helper *h = &pool->helpers[pool->threads - 1];
        int e;
        *h = (helper){.pool = pool, .index = pool->threads};
        e = infer_thread_start(&h->thread, helper_main, h);
        if (e) {
            infer_fail(err, INFER_ERROR_MEMORY, "cannot start thread %u of %u: %s", pool->threads + 1, threads, strerror(e));
            infer_pool_destroy(pool);
            return INFER_ERROR_MEMORY;
        }
    }
    *out = pool;
    return INFER_OK;
}

void infer_pool_destroy(infer_pool *pool)
{
    infer_allocator a;
    if (!pool)
        return;
    if (pool->threads > 1)
        run(pool, NULL, NULL);
    for (uint32_t i = 0; i + 1 < pool->threads; i++)
        pthread_join(pool->helpers[i].thread, NULL);
    pthread_mutex_destroy(&pool->turn);
    a = pool->allocator;
    infer_free(&a, pool);
}

uint32_t infer_pool_threads(const infer_pool *pool) { return pool->threads; }
uint32_t infer_pool_spin_ns(const infer_pool *pool) { return pool->spin_ns; }

void infer_pool_run(infer_pool *pool, infer_pool_work *work, void *arg)
{
    pthread_mutex_lock(&pool->turn);
    run(pool, work, arg);
    pthread_mutex_unlock(&pool->turn);
}
