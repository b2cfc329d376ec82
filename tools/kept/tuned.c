#include "tuned.h"

#include "cli.h"
#include "kept.h"
#include "machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define HEADER_BYTES 64 /* of a .infer file: it holds the hash of the directory, which holds the hashes of all tensors */

/* The key is the model's content and the CPU's name. NULL where there is no such model or folder. */
static char *file_of(const char *model)
{
    char cpu[160] = "", header[HEADER_BYTES];
    int fd = open(model, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd >= 0 ? read(fd, header, sizeof header) : -1;
    if (fd >= 0)
        close(fd);
    if (n != sizeof header)
        return NULL;
    infer_machine_cpu_name(cpu, sizeof cpu);
    return kept_path("tune", XXH3_64bits_withSeed(header, sizeof header, XXH3_64bits(cpu, strlen(cpu))));
}

bool tuned_load(const char *path, tuned *out)
{
    char *name = file_of(path);
    cJSON *o = name ? kept_read(name) : NULL;
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
    free(name);
    return ok;
}

char *tuned_store(const char *path, const tuned *setting)
{
    char *name = file_of(path);
    cJSON *o = cJSON_CreateObject();
    if (!name)
        cli_die("%s: its setting cannot be kept: no cache folder", path);
    cJSON_AddStringToObject(o, "model", path);
    cJSON_AddNumberToObject(o, "threads", setting->threads);
    cJSON_AddStringToObject(o, "cpus", setting->cpus);
    cJSON_AddNumberToObject(o, "tokens_per_s", setting->tokens_per_s);
    cJSON_AddNumberToObject(o, "joules_per_token", setting->joules_per_token);
    cJSON_AddStringToObject(o, "kind", setting->kind);
    kept_write(name, o);
    return name;
}
