/* The ground everything stands on: errors, memory, operating system. Knows nothing of models. */
#ifndef INFER_CORE_CORE_H
#define INFER_CORE_CORE_H

#include <infer/infer.h>

#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define INFER_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define INFER_MUST_USE __attribute__((warn_unused_result))
#else
#define INFER_PRINTF(f, a)
#define INFER_MUST_USE
#endif

/* ---- status.c ---- */

/* Fills err (may be NULL) with status and a formatted line, and returns the status: `return infer_fail(err, INFER_ERROR_IO, "...")`. */
infer_status infer_fail(infer_error *err, infer_status status, const char *format, ...) INFER_PRINTF(3, 4);
infer_status infer_fail_memory(infer_error *err, size_t bytes, const char *what); /* what: "KV cache" */

#ifdef __clang_analyzer__ /* which sees one file at a time, and would take each failure for a success */
#define infer_fail(err, status, ...) ((infer_fail)(err, status, __VA_ARGS__), (status))
#define infer_fail_memory(err, bytes, what) ((infer_fail_memory)(err, bytes, what), INFER_ERROR_MEMORY)
#endif

/* ---- alloc.c: the only place that calls malloc ---- */

/* 64-byte aligned; NULL on failure or when bytes is 0. `a` NULL: the C library's. Memory is not cleared. */
void *infer_alloc(const infer_allocator *a, size_t bytes);
void *infer_alloc_zero(const infer_allocator *a, size_t bytes);
/* count * bytes, NULL on overflow; cleared. */
void *infer_alloc_array(const infer_allocator *a, size_t count, size_t bytes);
/* Grows (never shrinks) *p from *cap elements to at least `need`, doubling; keeps contents. False on failure: *p, *cap unchanged. */
bool infer_grow(const infer_allocator *a, void *p, size_t *cap, size_t need, size_t element_bytes);
void infer_free(const infer_allocator *a, void *p);

/* ---- checked arithmetic: true on overflow, like the compilers' own ---- */

static inline bool infer_add_overflows(uint64_t a, uint64_t b, uint64_t *out) { return __builtin_add_overflow(a, b, out); }
static inline bool infer_mul_overflows(uint64_t a, uint64_t b, uint64_t *out) { return __builtin_mul_overflow(a, b, out); }
static inline size_t infer_round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline size_t infer_ceil_div(size_t n, size_t d) { return (n + d - 1) / d; } /* NOLINT(*DivideZero): no size is 0 */

/* ---- os.c, cpus.c: the only places with operating-system #ifdefs ---- */

typedef struct infer_mapping {
    const uint8_t *data; /* never NULL: an empty file has an address, too */
    size_t size;
    int fd;              /* kept open, so that a file that changes is noticed; -1: data is a copy */
    int64_t modified_ns; /* its time of modification */
    const infer_allocator *allocator; /* of a copy; freed by infer_unmap unless `borrowed` */
    bool borrowed;
    int guard;           /* of infer_guard, 0: none */
} infer_mapping;

/* Maps a regular file read-only. IO: missing, a directory, no permission; the message says which. */
infer_status infer_map_file(const char *path, infer_mapping *out, infer_error *err);
/* The same of a descriptor, which stays the caller's; -1: of the file at `name`, which messages call it otherwise. */
infer_status infer_map_fd(int fd, const char *name, infer_mapping *out, infer_error *err);
/* The same into memory of `a`, which outlives it: nothing that happens to the file afterwards matters. FORMAT when it has more than `most`
 * bytes. */
infer_status infer_copy_file(const infer_allocator *a, const char *path, int fd, uint64_t most, infer_mapping *out, infer_error *err);
/* Writes a file beside `path` and renames it: an existing one is replaced whole or left as it was. Only its owner may read it. IO,
 * MEMORY. */
infer_status infer_replace_file(const infer_allocator *a, const char *path, const void *data, size_t bytes, infer_error *err);
/* CORRUPT when the file was written to, or is now shorter than the mapping: touching the pages beyond its end would raise SIGBUS. Cheap
 * (one fstat). */
infer_status infer_map_check(const infer_mapping *m, const char *path, infer_error *err);
void infer_unmap(infer_mapping *m);

/* Zeros in place of what is mapped at `at`, a page's address. Safe in a signal handler: by itself a system call, where the C library's wrapper may be
 * more (ThreadSanitizer's takes it for a write that races with reads). */
bool infer_map_zeros(uintptr_t at, size_t bytes);

/* First line of a small file, as under /sys and /proc: without its newline, at most size - 1 bytes of it. False and errno when it cannot be
 * read. */
bool infer_first_line(const char *path, char *out, size_t size);

/* A descriptor that poll and epoll find readable while it is set. Calls take turns: the caller sees to that. */
typedef struct infer_notifier {
    int fd, write_fd; /* -1: not open; the same where the system has one descriptor for it */
    bool set;
} infer_notifier;
#define INFER_NOTIFIER_NONE ((infer_notifier){-1, -1, false})
infer_status infer_notifier_open(infer_notifier *out, infer_error *err);
void infer_notifier_set(infer_notifier *n);
void infer_notifier_clear(infer_notifier *n);
void infer_notifier_close(infer_notifier *n);

uint64_t infer_now_ns(void);             /* monotonic */
uint64_t infer_process_cpu_ns(void);     /* processor time of all threads of this process */
/* Sleeps until infer_now_ns() reaches `due_ns`; a signal does not end it, but for one after which *stop (may be NULL) is nonzero. */
void infer_sleep_until(uint64_t due_ns, const volatile sig_atomic_t *stop);
/* First line of what `sh -c command` prints, without its newline, cut off at size - 1 bytes. IO: it ended with another status than 0, or is
 * killed because it took longer. */
infer_status infer_command_line(const char *command, uint64_t timeout_ns, char *line, size_t size, infer_error *err);
/* perf_event_open, counting for all processes on one CPU: a descriptor, or -1 and errno. */
int infer_perf_event_open(uint32_t type, uint64_t config, int cpu);
uint64_t infer_peak_rss_bytes(void);     /* 0 where unknown */
uint64_t infer_anonymous_rss_bytes(void);/* resident anonymous memory (private, not file-backed); 0 where unknown */

/* CPUs that this process may run on. A cgroup's quota bounds the first three; all are at least 1. */
typedef struct infer_cpus {
    uint32_t logical;    /* hardware threads */
    uint32_t cores;      /* physical cores */
    uint32_t node_cores; /* physical cores of the memory node that has most of them */
    uint32_t nodes;      /* memory nodes that have a core */
} infer_cpus;

enum { INFER_MAX_CPUS = 8192, INFER_MAX_NODES = 1024 };

/* Next range of a list of CPUs or nodes, such as "0-3,8,10-11". False at its end, where *list points to its NUL, and where it is no
 * list. */
bool infer_cpu_range(const char **list, unsigned long *low, unsigned long *high);

void infer_cpus_available(infer_cpus *out);
uint32_t infer_cpus_logical(void); /* its `logical`, without a look at the topology */
/* The same from the files below `root` ("" for this system's) and allowed[size <= INFER_MAX_CPUS], a byte that is not 0 for each allowed
 * CPU. What cannot be read counts as: no quota, a core for each CPU, one node. */
void infer_cpus_count(const char *root, const uint8_t *allowed, uint32_t size, infer_cpus *out);

/* ---- guard.c ---- */

#define INFER_GUARD_MAX 256 /* maps at once, in the process */

/* From now on, pages of the map that its file loses are zeros for whoever reads them, instead of a SIGBUS, and infer_map_check says CORRUPT. Puts a
 * handler for SIGBUS into the process, which passes on what is not its own; infer_unmap of the last guarded map takes it out. MEMORY: the table
 * is full. */
infer_status infer_guard(infer_mapping *m, const char *path, infer_error *err);
bool infer_guard_lost(const infer_mapping *m);
void infer_guard_end(infer_mapping *m);

#endif
