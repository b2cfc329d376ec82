/* What suites of every kind need: the test data, an allocator that counts and fails on purpose, whole files. */
#ifndef INFER_TESTS_CHECK_H
#define INFER_TESTS_CHECK_H

#include "core/core.h"

#include <stdatomic.h>

/* The path of `name` ("models/stories260K/tok512.bin") in the test data folder: the Meson option test_data, else the environment's
 * INFER_TEST_DATA, else ../shared/data beside the source. NULL when there is no such file: the test says SKIPPED. Valid until the next call
 * but three. */
const char *check_data(const char *name);

/* The whole file with a NUL behind it, to be freed with free(); NULL when it cannot be read. */
char *check_read(const char *path, size_t *bytes);

/* How many entries a folder has, "." and ".." among them; 0: none can be read. */
size_t check_entries(const char *folder);

/* An allocator, for several threads, that fails at its n-th call (counting from 1; 0: never) and at all later ones, and knows what is still
 * allocated. */
typedef struct check_allocator {
    infer_allocator allocator; /* hand this to the library */
    size_t fail_at;
    _Atomic size_t calls, live, live_bytes, peak_bytes;
} check_allocator;
void check_allocator_init(check_allocator *c, size_t fail_at);

/* Limits of time are multiplied by this: sanitizers slow things down. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHECK_SLOWDOWN 20
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define CHECK_SLOWDOWN 20
#endif
#endif
#ifndef CHECK_SLOWDOWN
#define CHECK_SLOWDOWN 1
#endif

#endif
