/* What the command-line tools share: one way to fail, to read numbers and files, and to show progress. Exit statuses: 1 it could not be done, 2 the
 * command line is wrong. */
#ifndef INFER_TOOLS_CLI_H
#define INFER_TOOLS_CLI_H

#include <infer/infer_experimental.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__GNUC__)
#define CLI_NORETURN(f, a) __attribute__((noreturn, format(printf, f, a)))
#else
#define CLI_NORETURN(f, a)
#endif

/* Remembers the tool's name for messages, and puts streams into a known state. First thing in main. */
void cli_start(const char *tool);
/* "tool: message" on standard error, then exit with 1, or 2 and a hint to --help. One line, whatever the arguments hold. */
void cli_die(const char *format, ...) CLI_NORETURN(1, 2);
void cli_usage(const char *format, ...) CLI_NORETURN(1, 2);
/* The message of cli_die, without the end. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void cli_note(const char *format, ...);
/* For getopt_long's ':' and '?' (with an option string that starts with ':'). */
#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void cli_bad_option(int c, char **argv);

/* A decimal number within [low, high], nothing after it; else cli_usage. NaN and infinities are refused. */
uint64_t cli_whole(const char *option, const char *text, uint64_t low, uint64_t high);
double cli_real(const char *option, const char *text, double low, double high);
/* The value of --kv; else cli_usage. */
/* auto, off or a rate for infer_session_set_events. */
double cli_events(const char *text);
infer_kv_type cli_kv_type(const char *name);

/* "512 B", "1.03 MiB". Returns `out`. */
const char *cli_bytes(uint64_t bytes, char out[16]);
/* "260 032": digits in groups of three. Returns `out`. */
const char *cli_count(uint64_t n, char out[32]);
/* Text from files: control characters and malformed UTF-8 come out as '?', so that no file can drive the terminal. */
void cli_put_text(FILE *f, const char *text, size_t bytes);

/* Bytes that grow; `data` is NUL-terminated when not NULL. */
typedef struct cli_buffer {
    char *data;
    size_t size, capacity;
} cli_buffer;
bool cli_buffer_add(cli_buffer *b, const void *data, size_t bytes);
void cli_buffer_free(cli_buffer *b);
/* All of a file, "-": standard input; at most 1 GiB. Failure is cli_die. `data` is not NULL afterwards, even for an empty file. */
void cli_read_file(const char *path, cli_buffer *out);

/* A bar with rate and time left on standard error: only on a terminal, only for work that takes more than a second. */
typedef struct cli_progress {
    const char *label, *unit;
    uint64_t total, started_ns, drawn_ns;
    bool shown, terminal;
} cli_progress;
/* unit: what is counted ("windows"), NULL: bytes. */
void cli_progress_start(cli_progress *p, const char *label, uint64_t total, const char *unit);
void cli_progress_update(cli_progress *p, uint64_t done);
void cli_progress_end(cli_progress *p);

#endif
