#include "bench_model.h"

#include "cli.h"
#include "interrupts.h"
#include "model/default_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *temporary_folder, *temporary_file;

static void remove_temporary(void)
{
    if (temporary_file)
        unlink(temporary_file);
    if (temporary_folder)
        rmdir(temporary_folder);
    free(temporary_file);
    free(temporary_folder);
    temporary_file = temporary_folder = NULL;
}

void bench_start(void)
{
    atexit(remove_temporary);
    cli_catch_interrupts();
}

void bench_check(infer_status s, const infer_error *err)
{
    if (s == INFER_ERROR_CANCELLED)
        exit(CLI_EXIT_INTERRUPTED);
    if (s != INFER_OK)
        cli_die("%s", err->message);
}

static char *join(const char *a, const char *b, const char *c)
{
    size_t bytes = strlen(a) + strlen(b) + strlen(c) + 1;
    char *out = malloc(bytes);
    if (!out)
        cli_die("out of memory for a path");
    snprintf(out, bytes, "%s%s%s", a, b, c);
    return out;
}

/* A folder of our own, so that nobody can put something else into the file's place. */
static const char *make_temporary(const bench_model *m)
{
    const char *parent = m->folder ? m->folder : getenv("TMPDIR");
    char *folder;
    if (!parent || !*parent)
        parent = "/tmp";
    folder = join(parent, "/", "infer-bench-XXXXXX");
    if (!mkdtemp(folder))
        cli_die("%s: cannot make a folder for the random weights: %s", parent, strerror(errno));
    temporary_folder = folder;
    temporary_file = join(folder, "/", "model.infer");
    return temporary_file;
}

infer_model *bench_open(const bench_model *m, infer_runtime *rt)
{
    const char *path = m->shape ? m->keep : default_model_or(m->path);
    infer_model *model = NULL;
    infer_error err;
    if (m->shape) {
        if (!path)
            path = make_temporary(m);
        bench_check(infer_shape_write(m->shape, m->type, &m->prune, path, &cli_interrupted, &err), &err);
    }
    bench_check(infer_model_open(rt, path, NULL, &model, &err), &err);
    remove_temporary(); /* the mapping keeps the bytes */
    return model;
}

const char *bench_name(const bench_model *m) { return m->shape ? m->shape->name : m->path; }
