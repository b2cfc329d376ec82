/* Mapped files that others may cut off: the pages behind a file's new end raise SIGBUS when they are read, which ends the process unless it handles
 * the signal. Ours puts pages of zeros there and notes that the map is lost. The table is the process's, as signal handlers are; the lock is for adding
 * and removing, the handler reads atomics only. */
#include "core/core.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

typedef struct guarded {
    _Atomic uintptr_t begin; /* 0: free */
    _Atomic size_t bytes;
    atomic_bool lost;
} guarded;

static guarded table[INFER_GUARD_MAX];
static size_t in_use;
static bool handling;
static struct sigaction before; /* what the process did with SIGBUS */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t page_bytes;

/* Zeros from the page that was read to the map's end: what lies there is gone as well. */
static bool fill_lost(uintptr_t at)
{
    for (size_t i = 0; i < INFER_GUARD_MAX; i++) {
        uintptr_t begin = atomic_load(&table[i].begin);
        size_t bytes = atomic_load(&table[i].bytes);
        if (!begin || at < begin || at - begin >= bytes)
            continue;
        at -= at % page_bytes;
        atomic_store(&table[i].lost, true);
        return infer_map_zeros(at, bytes - (at - begin));
    }
    return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int e = errno;
    bool filled = info->si_code == BUS_ADRERR && fill_lost((uintptr_t)info->si_addr);
    errno = e;
    if (filled)
        return;
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    } else {
        sigaction(number, &before, NULL); /* the access that failed is repeated, and ends the process */
        if (info->si_code <= 0)
            raise(number); /* nothing failed: somebody sent it */
    }
}

static bool handle(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (!handling) {
        page_bytes = (size_t)sysconf(_SC_PAGESIZE);
        sigemptyset(&action.sa_mask);
        handling = sigaction(SIGBUS, &action, &before) == 0;
    }
    return handling;
}

/* Ours stays where the application has put another one on top, which may call it. */
static void stop_handling(void)
{
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) == 0 && now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_bus_error)
        handling = sigaction(SIGBUS, &before, NULL) != 0;
}

infer_status infer_guard(infer_mapping *m, const char *path, infer_error *err)
{
    int free = 0;
    if (m->fd < 0 || m->size == 0) /* a copy, or nothing */
        return INFER_OK;
    pthread_mutex_lock(&lock);
    while (free < INFER_GUARD_MAX && atomic_load(&table[free].begin))
        free++;
    if (free < INFER_GUARD_MAX && handle()) {
        in_use++;
        atomic_store(&table[free].lost, false);
        atomic_store(&table[free].bytes, m->size);
        atomic_store(&table[free].begin, (uintptr_t)m->data);
        m->guard = free + 1;
    }
    pthread_mutex_unlock(&lock);
    return m->guard ? INFER_OK : infer_fail(err, INFER_ERROR_MEMORY, "%s: found %d guarded maps, expected at most %d", path, free, INFER_GUARD_MAX);
}

bool infer_guard_lost(const infer_mapping *m) { return m->guard && atomic_load(&table[m->guard - 1].lost); }

void infer_guard_end(infer_mapping *m)
{
    if (!m->guard)
        return;
    pthread_mutex_lock(&lock);
    atomic_store(&table[m->guard - 1].begin, 0);
    if (--in_use == 0)
        stop_handling();
    pthread_mutex_unlock(&lock);
    m->guard = 0;
}
