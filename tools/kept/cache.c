#include "cache.h"

#include "kept.h"

#include "convert/convert.h"
#include "file.h"
#include "interrupts.h"
#include "model/default_model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define CACHE_VERSION 1u /* another one: everything is converted anew, because conversion does better */

/* ---- where ---- */

static bool is_infer_or_missing(const char *path)
{
    static const char magic[] = "\x89INFER\r\n";
    char head[8] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    ssize_t n = 0;

    if (fd < 0)
        return true;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        n = read(fd, head, sizeof head);
    else
        n = S_ISDIR(st.st_mode) ? 0 : sizeof head; /* a FIFO or a device: the library says what is wrong with it */
    close(fd);
    return n == sizeof head && (memcmp(head, magic, sizeof head) == 0 || !S_ISREG(st.st_mode));
}

/* Name, size and time of a file go into the key; one that does not exist adds nothing. */
static uint64_t add_file(uint64_t key, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return key;
    key = XXH3_64bits_withSeed(path, strlen(path), key);
    return XXH3_64bits_withSeed((const int64_t[]){st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec}, 3 * sizeof(int64_t), key);
}

/* NAME-00001-of-00003.gguf: the model's parts have the same name but for the first number. */
static bool is_part(const char *name, const char *model)
{
    static const char pattern[] = "*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].gguf";
    const size_t n = strlen(model), behind = sizeof "-of-00003.gguf" - 1;
    return fnmatch(pattern, model, 0) == 0 && fnmatch(pattern, name, 0) == 0 && strlen(name) == n && strncmp(name, model, n - behind - 5) == 0 &&
           strcmp(name + n - behind, model + n - behind) == 0;
}

/* Whether the importers read the file `name` when they are given the file `model` of the same folder. */
static bool belongs(const char *name, const char *model)
{
    static const char *const vocabularies[] = {"config.json", "tokenizer*", "tok*.bin", "vocab*", "encoder.json", "merges.txt"};
    if (strcmp(name, model) == 0 || fnmatch("*.safetensors", model, FNM_CASEFOLD) == 0 || is_part(name, model))
        return true;
    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++)
        if (fnmatch(vocabularies[i], name, 0) == 0)
            return true;
    return false;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

/* All files of a folder that is a model; with `model`, those that belong to that file in it. */
static uint64_t add_folder(uint64_t key, const char *folder, const char *model)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, by_name);
    if (n < 0)
        cli_die("%s: %s; convert the model with infer-convert", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        if ((!model || belongs(entries[i]->d_name, model)) && snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name) < (int)sizeof path)
            key = add_file(key, path);
        free(entries[i]);
    }
    free(entries);
    return key;
}

/* A number that changes when the model, one of its parts, a vocabulary beside it or the options do. `model` begins with a slash. */
static uint64_t key_of(const char *model, const cache_options *o)
{
    const char *slash = strrchr(model, '/');
    char folder[PATH_MAX];
    uint64_t key = CACHE_VERSION;
    struct stat st;

    snprintf(folder, sizeof folder, "%.*s", (int)(slash - model), model);
    if (stat(model, &st) == 0 && S_ISDIR(st.st_mode))
        key = add_folder(key, model, NULL);
    else
        key = add_folder(key, *folder ? folder : "/", slash + 1);
    if (o->tokenizer)
        key = add_file(key, o->tokenizer);
    return o->type ? XXH3_64bits_withSeed(o->type, strlen(o->type), key) : key;
}

static void find_folder(char out[PATH_MAX])
{
    if (cache_folder(out))
        return;
    if (!*out)
        cli_die("no cache folder: neither XDG_CACHE_HOME nor HOME is set; convert the model with infer-convert");
    cli_die("cache folder %s: %s; convert the model with infer-convert", out, strerror(errno));
}

/* FOLDER/NAME-KEY.infer, NAME being the model's last part, so that a person can tell the files apart. */
static char *cached_path(const char *model, const cache_options *o)
{
    char folder[PATH_MAX], full[PATH_MAX], *out;
    const char *name;
    size_t bytes;

    if (!realpath(model, full))
        cli_die("%s: %s", model, strerror(errno));
    find_folder(folder);
    name = strrchr(full, '/') + 1;
    bytes = strlen(folder) + 300;
    if (!(out = malloc(bytes)))
        cli_die("out of memory for a path");
    snprintf(out, bytes, "%s/%.200s-%016" PRIx64 ".infer", folder, name, key_of(full, o));
    return out;
}

/* ---- conversion ---- */

typedef struct watcher {
    cli_progress bar;
    bool started;
} watcher;

static int on_progress(void *user, const infer_convert_progress *p)
{
    watcher *w = user;
    if (!w->started)
        cli_progress_start(&w->bar, "converting, once", p->total_bytes, NULL);
    w->started = true;
    cli_progress_update(&w->bar, p->bytes);
    return cli_interrupted;
}

/* Rules that give floats the type q8g32; the others stay as they are stored. */
static infer_convert_rule *default_rules(const infer_source *s, size_t *count)
{
    infer_convert_rule *rules = calloc(s->tensor_count, sizeof *rules);
    if (!rules)
        cli_die("out of memory for %zu tensors", s->tensor_count);
    for (size_t i = 0; i < s->tensor_count; i++)
        if (s->tensors[i].matrix && infer_qtype_find(s->tensors[i].stored)->element_bytes)
            rules[(*count)++] = (infer_convert_rule){s->tensors[i].name, INFER_QTYPE_Q8G32};
    return rules;
}

static void convert(const char *model, const char *path, const cache_options *o)
{
    struct sigaction old_int, old_term;
    const infer_qtype_info *type = o->type ? infer_qtype_find_name(o->type) : NULL;
    infer_convert_options options = {.type = type ? type->type : INFER_QTYPE_NONE, .overwrite = true, .progress = on_progress};
    infer_convert_rule *rules = NULL;
    infer_source source;
    infer_error err = {0};
    watcher w = {0};
    infer_status s;

    options.user = &w;
    if (infer_source_open(NULL, model, o->tokenizer, &source, &err) != INFER_OK)
        cli_die("%s", err.message);
    if (!type)
        options.rules = rules = default_rules(&source, &options.rule_count);
    sigaction(SIGINT, NULL, &old_int);
    sigaction(SIGTERM, NULL, &old_term);
    cli_catch_interrupts();
    s = infer_convert(NULL, &source, path, &options, NULL, &err);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    cli_progress_end(&w.bar);
    infer_source_close(&source);
    free(rules);
    if (s == INFER_ERROR_CANCELLED) {
        cli_note("interrupted, nothing was written");
        exit(CLI_EXIT_INTERRUPTED);
    }
    if (s != INFER_OK)
        cli_die("%s", err.message);
    if (!o->quiet)
        cli_note("%s was converted to %s", model, path);
}

/* Whether header and directory are right. A tensor's hash is checked when it is first used, as in every file. */
static bool is_sound(const char *path)
{
    infer_file *f;
    if (access(path, F_OK) != 0 || infer_file_open(NULL, path, &f, NULL) != INFER_OK)
        return false;
    infer_file_close(f);
    return true;
}

char *cache_model(const char *model, const cache_options *o)
{
    char *path;

    model = default_model_or(model);
    if (is_infer_or_missing(model)) {
        if (o->type || o->tokenizer)
            cli_usage("--type and --tokenizer are for models of other formats, and %s is none", model);
        if (!(path = strdup(model)))
            cli_die("out of memory for a path");
        return path;
    }
    if (o->type && !infer_qtype_find_name(o->type))
        cli_usage("--type: found \"%s\", expected a number type such as f32, q8g32 or q4g32", o->type);
    path = cached_path(model, o);
    if (!is_sound(path))
        convert(model, path, o);
    return path;
}
