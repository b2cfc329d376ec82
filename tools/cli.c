#include "cli.h"

#include "core/core.h"
#include "utf8.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGEST_FILE (1u << 30)
#define BAR_WIDTH 30

static const char *tool = "infer";

/* A mapped file was cut off while it was read. The library leaves signals alone; a program can at least say so. */
static void on_bus_error(int signal_number)
{
    static const char said[] = ": a file became shorter while it was read\n";
    (void)signal_number;
    (void)!write(STDERR_FILENO, tool, strlen(tool));
    (void)!write(STDERR_FILENO, said, sizeof said - 1);
    _exit(1);
}

void cli_start(const char *name)
{
    struct sigaction action = {.sa_handler = on_bus_error};
    tool = name;
    sigaction(SIGBUS, &action, NULL);
    setvbuf(stderr, NULL, _IOLBF, 0);
}

static void say(const char *format, va_list args)
{
    char line[1024];
    vsnprintf(line, sizeof line, format, args);
    fflush(stdout);
    fprintf(stderr, "%s: ", tool);
    cli_put_text(stderr, line, strlen(line));
}

void cli_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void cli_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    fprintf(stderr, "; see %s --help\n", tool);
    exit(2);
}

void cli_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    fputc('\n', stderr);
}

void cli_bad_option(int c, char **argv)
{
    extern int optopt, optind;
    char short_name[3] = {'-', (char)optopt, 0};
    const char *name = optopt > 0 && optopt < 128 && isgraph(optopt) ? short_name : argv[optind - 1];
    if (c == ':')
        cli_usage("option %s needs a value", name);
    cli_usage("unknown option %s", name);
}

uint64_t cli_whole(const char *option, const char *text, uint64_t low, uint64_t high)
{
    char *end;
    unsigned long long value;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno || value < low || value > high)
        cli_usage("%s: found \"%s\", expected a whole number in %llu..%llu", option, text, (unsigned long long)low, (unsigned long long)high);
    return value;
}

double cli_real(const char *option, const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)*text) || !(value >= low && value <= high))
        cli_usage("%s: found \"%s\", expected a number in %g..%g", option, text, low, high);
    return value;
}

const char *cli_bytes(uint64_t bytes, char out[16])
{
    static const char units[] = "KMGTPE";
    double n = (double)bytes;
    int unit = -1;
    for (; n >= 1024 && unit + 1 < (int)sizeof units - 1; unit++)
        n /= 1024;
    if (unit < 0)
        snprintf(out, 16, "%u B", (unsigned)bytes);
    else
        snprintf(out, 16, "%.*f %ciB", n < 10 ? 2 : n < 100 ? 1 : 0, n, units[unit]);
    return out;
}

const char *cli_count(uint64_t n, char out[32])
{
    char digits[24], *p = out;
    int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    for (int i = 0; i < count; i++) {
        if (i && (count - i) % 3 == 0)
            *p++ = ' ';
        *p++ = digits[i];
    }
    *p = 0;
    return out;
}

void cli_put_text(FILE *f, const char *text, size_t bytes)
{
    const uint8_t *s = (const uint8_t *)text;
    for (size_t i = 0, n; i < bytes; i += n ? n : 1) {
        bool control = s[i] < 32 || s[i] == 127;
        n = utf8_character(s + i, bytes - i);
        control |= n == 2 && s[i] == 0xc2 && s[i + 1] < 0xa0; /* C1 */
        if (n == 0 || control)
            fputc('?', f);
        else
            fwrite(s + i, 1, n, f);
    }
}

double cli_events(const char *text)
{
    if (strcmp(text, "auto") == 0)
        return INFER_EVENTS_AUTO;
    return strcmp(text, "off") == 0 ? 0 : cli_real("--events", text, 0, 0.9);
}

infer_kv_type cli_kv_type(const char *name)
{
    if (strcmp(name, "f16") == 0)
        return INFER_KV_F16;
    if (strcmp(name, "f32") == 0)
        return INFER_KV_F32;
    if (strcmp(name, "q8") == 0)
        return INFER_KV_Q8;
    if (strcmp(name, "auto") == 0)
        return INFER_KV_AUTO;
    cli_usage("--kv: found \"%s\", expected auto, f16, f32 or q8", name);
}

bool cli_buffer_add(cli_buffer *b, const void *data, size_t bytes)
{
    size_t need = b->size + bytes + 1;
    if (need < b->size)
        return false;
    if (need > b->capacity) {
        size_t capacity = need < 4096 ? 4096 : need > SIZE_MAX / 2 ? need : need * 2;
        char *grown = realloc(b->data, capacity);
        if (!grown)
            return false;
        b->data = grown;
        b->capacity = capacity;
    }
    if (bytes)
        memcpy(b->data + b->size, data, bytes);
    b->size += bytes;
    b->data[b->size] = 0;
    return true;
}

void cli_buffer_free(cli_buffer *b)
{
    free(b->data);
    *b = (cli_buffer){0};
}

void cli_read_file(const char *path, cli_buffer *out)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "rbe");
    const char *name = standard ? "standard input" : path;
    char chunk[65536];
    size_t n;
    if (!f)
        cli_die("%s: %s", name, strerror(errno));
    if (!cli_buffer_add(out, "", 0))
        cli_die("%s: out of memory", name);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0) {
        if (out->size + n > LARGEST_FILE)
            cli_die("%s: larger than %u bytes", name, LARGEST_FILE);
        if (!cli_buffer_add(out, chunk, n))
            cli_die("%s: out of memory", name);
    }
    if (ferror(f))
        cli_die("%s: %s", name, strerror(errno));
    if (!standard)
        fclose(f);
}

void cli_progress_start(cli_progress *p, const char *label, uint64_t total, const char *unit)
{
    *p = (cli_progress){.label = label, .unit = unit, .total = total ? total : 1, .started_ns = infer_now_ns(), .terminal = isatty(STDERR_FILENO)};
}

void cli_progress_update(cli_progress *p, uint64_t done)
{
    uint64_t now;
    double part = (double)done / p->total, seconds;
    char bar[BAR_WIDTH + 1], rate[64];
    if (!p->terminal)
        return;
    now = infer_now_ns();
    seconds = (now - p->started_ns) / 1e9;
    if (seconds < 1 || now - p->drawn_ns < 100000000)
        return;
    p->drawn_ns = now;
    p->shown = true;
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < part * BAR_WIDTH ? '#' : '.';
    bar[BAR_WIDTH] = 0;
    if (p->unit)
        snprintf(rate, sizeof rate, "%.3g %s", done / seconds, p->unit);
    else
        cli_bytes((uint64_t)(done / seconds), rate);
    fprintf(stderr, "\r%s [%s] %3.0f %%  %s/s  %.0f s left \033[K", p->label, bar, part * 100, rate, part > 0 ? seconds / part - seconds : 0);
    fflush(stderr);
}

void cli_progress_end(cli_progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
}
