#include "core/core.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/perf_event.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#endif

static int64_t modified_ns(const struct stat *st) { return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec; }

static const uint8_t empty[1]; /* what an empty file is mapped to: not NULL, to which nothing may be added */

/* Opens a regular file, or takes a descriptor of its own for `fd` if that is not -1; its bytes are still to come. */
static infer_status open_file(const char *path, int fd, infer_mapping *out, infer_error *err)
{
    infer_mapping m = {.data = empty, .fd = -1};
    struct stat st;
    m.fd = fd < 0 ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
                  : fcntl(fd, F_DUPFD_CLOEXEC, 0); /* O_NONBLOCK: a FIFO must not hang the caller */
    if (m.fd < 0)
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", path, strerror(errno));
    if (fstat(m.fd, &st) != 0) {
        int e = errno;
        close(m.fd);
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", path, strerror(e));
    }
    if (!S_ISREG(st.st_mode)) {
        close(m.fd);
        return infer_fail(err, INFER_ERROR_IO, "%s: %s, expected a regular file", path,
                          S_ISDIR(st.st_mode) ? "is a directory" : "is not a file");
    }
    m.size = (size_t)st.st_size;
    m.modified_ns = modified_ns(&st);
    *out = m;
    return INFER_OK;
}

infer_status infer_map_file(const char *path, infer_mapping *out, infer_error *err) { return infer_map_fd(-1, path, out, err); }

infer_status infer_map_fd(int fd, const char *path, infer_mapping *out, infer_error *err)
{
    infer_mapping m = {.fd = -1};
    infer_status s = open_file(path, fd, &m, err);
    if (s != INFER_OK)
        return s;
    if (m.size > 0) {
        void *p = mmap(NULL, m.size, PROT_READ, MAP_SHARED, m.fd, 0);
        if (p == MAP_FAILED) {
            int e = errno;
            close(m.fd);
            return infer_fail(err, INFER_ERROR_MEMORY, "%s: cannot map %zu bytes: %s", path, m.size, strerror(e));
        }
        m.data = p;
#if defined(MADV_HUGEPAGE)
        (void)madvise(p, m.size, MADV_HUGEPAGE); /* what is not in memory yet is read in huge pages, where the file system can */
#endif
    }
    *out = m;
    return INFER_OK;
}

infer_status infer_copy_file(const infer_allocator *a, const char *path, int fd, uint64_t most, infer_mapping *out, infer_error *err)
{
    infer_mapping m = {.fd = -1};
    uint8_t *copy = NULL;
    infer_status s = open_file(path, fd, &m, err);
    if (s != INFER_OK)
        return s;
    if (m.size > most)
        s = infer_fail(err, INFER_ERROR_FORMAT, "%s: found %zu bytes, expected at most %llu", path, m.size, (unsigned long long)most);
    else if (m.size > 0 && !(copy = infer_alloc(a, m.size)))
        s = infer_fail_memory(err, m.size, "a copy of the file");
    for (size_t at = 0; s == INFER_OK && at < m.size;) {
        ssize_t n = pread(m.fd, copy + at, m.size - at, (off_t)at);
        if (n > 0)
            at += (size_t)n;
        else if (n == 0)
            s = infer_fail(err, INFER_ERROR_CORRUPT, "%s: the file shrank while in use: found %zu bytes, expected %zu", path, at, m.size);
        else if (errno != EINTR)
            s = infer_fail(err, INFER_ERROR_IO, "%s: cannot read at offset %zu: %s", path, at, strerror(errno));
    }
    if (s == INFER_OK)
        s = infer_map_check(&m, path, err);
    close(m.fd);
    if (s != INFER_OK) {
        infer_free(a, copy);
        return s;
    }
    *out = (infer_mapping){.data = copy ? copy : empty, .size = m.size, .fd = -1, .allocator = a};
    return INFER_OK;
}

infer_status infer_map_check(const infer_mapping *m, const char *path, infer_error *err)
{
    struct stat st;
    if (m->fd < 0)
        return INFER_OK;
    if (fstat(m->fd, &st) != 0)
        return infer_fail(err, INFER_ERROR_IO, "%s: %s", path, strerror(errno));
    if ((uint64_t)st.st_size < m->size)
        return infer_fail(err, INFER_ERROR_CORRUPT, "%s: the file shrank while in use: found %lld bytes, expected %zu", path,
                          (long long)st.st_size, m->size);
    if (modified_ns(&st) != m->modified_ns || infer_guard_lost(m))
        return infer_fail(err, INFER_ERROR_CORRUPT, "%s: the file was written to while in use", path);
    return INFER_OK;
}

infer_status infer_replace_file(const infer_allocator *a, const char *path, const void *data, size_t bytes, infer_error *err)
{
    size_t size = strlen(path) + 48;
    char *temporary = infer_alloc(a, size);
    int fd = -1, e = 0;
    if (!temporary)
        return infer_fail_memory(err, size, "path");
    /* O_EXCL with a number that no other writer uses. What the file holds is its owner's. */
    for (unsigned i = 0; fd < 0 && i < 1000 && (i == 0 || errno == EEXIST); i++) {
        snprintf(temporary, size, "%s.%ld-%u.tmp", path, (long)getpid(), i);
        fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (fd < 0) {
        e = errno;
    } else {
        for (size_t at = 0; !e && at < bytes;) {
            ssize_t n = write(fd, (const uint8_t *)data + at, bytes - at);
            if (n >= 0)
                at += (size_t)n;
            else if (errno != EINTR)
                e = errno;
        }
        if (!e && fsync(fd) != 0)
            e = errno;
        if (close(fd) != 0 && !e)
            e = errno;
        if (!e && rename(temporary, path) != 0)
            e = errno;
        if (e)
            unlink(temporary);
    }
    infer_free(a, temporary);
    return e ? infer_fail(err, INFER_ERROR_IO, "%s: cannot write %zu bytes: %s", path, bytes, strerror(e)) : INFER_OK;
}

void infer_unmap(infer_mapping *m)
{
    const bool own = m->data != empty && !m->borrowed;
    infer_guard_end(m);
    if (own && m->fd < 0)
        infer_free(m->allocator, (void *)(uintptr_t)m->data);
    else if (own)
        munmap((void *)(uintptr_t)m->data, m->size);
    if (m->fd >= 0)
        close(m->fd);
    *m = (infer_mapping){.fd = -1};
}

bool infer_map_zeros(uintptr_t at, size_t bytes)
{
#if defined(__linux__) && defined(__LP64__)
    return syscall(SYS_mmap, at, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != -1;
#else
    return mmap((void *)at, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
#endif
}

bool infer_first_line(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), e;
    ssize_t n;
    if (fd < 0)
        return false;
    n = read(fd, out, size - 1);
    e = errno;
    close(fd);
    errno = e;
    if (n < 0)
        return false;
    out[n] = 0;
    out[strcspn(out, "\n")] = 0;
    return true;
}

infer_status infer_notifier_open(infer_notifier *out, infer_error *err)
{
    int ends[2];
#if defined(__linux__)
    ends[0] = ends[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ends[0] < 0)
#else
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
#endif
        return infer_fail(err, INFER_ERROR_IO, "cannot make a descriptor for events: %s", strerror(errno));
    *out = (infer_notifier){ends[0], ends[1], false};
    return INFER_OK;
}

void infer_notifier_set(infer_notifier *n)
{
    uint64_t one = 1;
    if (!n->set)
        n->set = write(n->write_fd, &one, sizeof one) == sizeof one;
}

void infer_notifier_clear(infer_notifier *n)
{
    uint64_t count;
    if (n->set)
        n->set = read(n->fd, &count, sizeof count) != sizeof count;
}

void infer_notifier_close(infer_notifier *n)
{
    if (n->write_fd != n->fd)
        close(n->write_fd);
    if (n->fd >= 0)
        close(n->fd);
    *n = INFER_NOTIFIER_NONE;
}

uint64_t infer_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t infer_process_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Output of a child until its first newline, its end, or the deadline; false: the deadline. */
static bool read_child(int fd, uint64_t deadline, char *line, size_t size)
{
    size_t n = 0;
    line[0] = 0;
    for (;;) {
        uint64_t now = infer_now_ns();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char chunk[256];
        ssize_t got;
        int ready = now < deadline ? poll(&p, 1, (int)((deadline - now) / 1000000 + 1)) : 0;
        if (ready == 0)
            return false;
        got = ready < 0 ? -1 : read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return true;
        for (ssize_t i = 0; i < got && n + 1 < size; i++)
            line[n++] = chunk[i];
        line[n] = 0;
    }
}

infer_status infer_command_line(const char *command, uint64_t timeout_ns, char *line, size_t size, infer_error *err)
{
    extern char **environ;
    char *const argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char *)(uintptr_t)command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t group;
    int ends[2], status, e;
    pid_t child;
    bool done;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return infer_fail(err, INFER_ERROR_IO, "%.100s: %s", command, strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawnattr_init(&group); /* of its own, so that what the shell started ends with it */
    posix_spawnattr_setflags(&group, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&group, 0);
    e = posix_spawn(&child, "/bin/sh", &actions, &group, argv, environ);
    posix_spawnattr_destroy(&group);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (e) {
        close(ends[0]);
        return infer_fail(err, INFER_ERROR_IO, "%.100s: %s", command, strerror(e));
    }
    done = read_child(ends[0], infer_now_ns() + timeout_ns, line, size);
    close(ends[0]);
    if (!done)
        kill(-child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    line[strcspn(line, "\n")] = 0;
    if (!done)
        return infer_fail(err, INFER_ERROR_IO, "%.100s: no answer within %.1f s", command, timeout_ns / 1e9);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return infer_fail(err, INFER_ERROR_IO, "%.100s: it failed (status %d)", command, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return INFER_OK;
}

#if defined(__linux__)

void infer_sleep_until(uint64_t due_ns, const volatile sig_atomic_t *stop)
{
    struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000u), .tv_nsec = (long)(due_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR && !(stop && *stop))
        ;
}

int infer_perf_event_open(uint32_t type, uint64_t config, int cpu)
{
    struct perf_event_attr attr = {.type = type, .size = sizeof attr, .config = config};
    return (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

uint64_t infer_anonymous_rss_bytes(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

#else

void infer_sleep_until(uint64_t due_ns, const volatile sig_atomic_t *stop)
{
    for (uint64_t now; (now = infer_now_ns()) < due_ns && !(stop && *stop);) {
        struct timespec rest = {.tv_sec = (time_t)((due_ns - now) / 1000000000u), .tv_nsec = (long)((due_ns - now) % 1000000000u)};
        nanosleep(&rest, NULL);
    }
}

int infer_perf_event_open(uint32_t type, uint64_t config, int cpu)
{
    (void)type;
    (void)config;
    (void)cpu;
    errno = ENOSYS;
    return -1;
}

uint64_t infer_anonymous_rss_bytes(void) { return 0; }

#endif

uint64_t infer_peak_rss_bytes(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return 0;
#if defined(__APPLE__)
    return (uint64_t)u.ru_maxrss;
#else
    return (uint64_t)u.ru_maxrss * 1024;
#endif
}
