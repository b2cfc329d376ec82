/* The .infer file as bytes of the program, shown to the library as a file in memory: so an installed tool needs no second file. */
#include "default_model.h"

#include "cli.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__asm__(".pushsection .rodata\n"
        ".balign 64\n"
        "default_model:\n"
        ".incbin \"" DEFAULT_MODEL_FILE "\"\n"
        "default_model_end:\n"
        ".byte 0\n"
        ".popsection\n");

__attribute__((visibility("hidden"))) extern const unsigned char default_model[], default_model_end[];

const char *default_model_or(const char *model)
{
    static char path[48];
    /* cppcheck-suppress comparePointers ; two ends of one thing, as the assembler says */
    size_t bytes = (size_t)(default_model_end - default_model), done = 0;
    int fd;

    if (strcmp(model, DEFAULT_MODEL_NAME) != 0 || access(model, F_OK) == 0)
        return model;
    if (*path)
        return path;
    fd = memfd_create(DEFAULT_MODEL_NAME, MFD_CLOEXEC);
    if (fd < 0)
        cli_die("the built-in model: %s", strerror(errno));
    while (done < bytes) {
        ssize_t n = write(fd, default_model + done, bytes - done);
        if (n < 0 && errno != EINTR)
            cli_die("the built-in model: %s", strerror(errno));
        done += n > 0 ? (size_t)n : 0;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}
