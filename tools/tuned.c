#include "tuned.h"

#include "cache.h"
#include "cli.h"
#include "machine.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define HEADER_BYTES 64 /* of a .infer file: it holds the hash of the directory, which holds the hashes of all tensors */

/* FOLDER/tune-KEY.json, the key being the model's content and the CPU's name. NULL where there is no such model or folder. */
static char *file_of(const char *model)
{
    char folder[PATH_MAX], cpu[160] = "", header[HEADER_BYTES], *out;
    int fd = open(model, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd >= 0 ? read(fd, header, sizeof header) : -1;
    size_t bytes;
    if (fd >= 0)
        close(fd);
    if (n != sizeof header || !cache_folder(folder))
        return NULL;
    infer_machine_cpu_name(cpu, sizeof cpu);
    bytes = strlen(folder) + 40;
    if ((out = malloc(bytes)))
        snprintf(out, bytes, "%s/tune-%016" PRIx64 ".json", folder, XXH3_64bits_withSeed(header, sizeof header, XXH3_64bits(cpu, strlen(cpu))));
    return out;
}

bool tuned_load(const char *path, tuned *out)
{
    char *name = file_of(path), text[1024];
    FILE *f = name ? fopen(name, "re") : NULL;
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    cJSON *o = cJSON_ParseWithLength(text, n);
    const cJSON *threads = cJSON_GetObjectItem(o, "threads"), *cpus = cJSON_GetObjectItem(o, "cpus"), *rate = cJSON_GetObjectItem(o, "tokens_per_s"),
                *joules = cJSON_GetObjectItem(o, "joules_per_token"), *kind = cJSON_GetObjectItem(o, "kind");
    bool ok = cJSON_IsNumber(threads) && threads->valuedouble >= 1 && threads->valuedouble <= 256 && cJSON_IsString(cpus) && cJSON_IsNumber(rate) &&
              cJSON_IsNumber(joules) && cJSON_IsString(kind);
    if (ok) {
        *out = (tuned){.threads = (uint32_t)threads->valuedouble, .tokens_per_s = rate->valuedouble, .joules_per_token = joules->valuedouble};
        snprintf(out->cpus, sizeof out->cpus, "%s", cpus->valuestring);
        snprintf(out->kind, sizeof out->kind, "%s", kind->valuestring);
    }
    cJSON_Delete(o);
    if (f)
        fclose(f);
    free(name);
    return ok;
}

char *tuned_store(const char *path, const tuned *setting)
{
    char *name = file_of(path), *text, *temporary;
    cJSON *o = cJSON_CreateObject();
    size_t bytes;
    FILE *f;
    if (!name)
        cli_die("%s: its setting cannot be kept: no cache folder", path);
    cJSON_AddStringToObject(o, "model", path);
    cJSON_AddNumberToObject(o, "threads", setting->threads);
    cJSON_AddStringToObject(o, "cpus", setting->cpus);
    cJSON_AddNumberToObject(o, "tokens_per_s", setting->tokens_per_s);
    cJSON_AddNumberToObject(o, "joules_per_token", setting->joules_per_token);
    cJSON_AddStringToObject(o, "kind", setting->kind);
    text = cJSON_Print(o);
    cJSON_Delete(o);
    bytes = strlen(name) + 5;
    temporary = malloc(bytes);
    if (!text || !temporary)
        cli_die("out of memory for the setting");
    snprintf(temporary, bytes, "%s.new", name);
    f = fopen(temporary, "we");
    if (!f || fprintf(f, "%s\n", text) < 0 || fclose(f) != 0 || rename(temporary, name) != 0)
        cli_die("%s: %s", name, strerror(errno));
    free(temporary);
    cJSON_free(text);
    return name;
}
