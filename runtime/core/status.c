#include "core/core.h"

#include <stdio.h>
#include <string.h>

const char *infer_version(void)
{
#define TEXT(x) #x
#define VERSION(a, b, c) TEXT(a) "." TEXT(b) "." TEXT(c)
    return VERSION(INFER_VERSION_MAJOR, INFER_VERSION_MINOR, INFER_VERSION_PATCH);
#undef VERSION
#undef TEXT
}

const char *infer_status_name(infer_status status)
{
    switch (status) {
    case INFER_OK: return "ok";
    case INFER_ERROR_ARGUMENT: return "invalid argument";
    case INFER_ERROR_MEMORY: return "out of memory";
    case INFER_ERROR_IO: return "input/output error";
    case INFER_ERROR_FORMAT: return "malformed file";
    case INFER_ERROR_CORRUPT: return "corrupt file";
    case INFER_ERROR_UNSUPPORTED: return "unsupported";
    case INFER_ERROR_CONTEXT: return "context full";
    case INFER_ERROR_CANCELLED: return "cancelled";
    }
    return "unknown status";
}

infer_status (infer_fail)(infer_error *err, infer_status status, const char *format, ...)
{
    if (err) {
        va_list args;
        err->status = status;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        /* Names come from files and command lines: the message stays one printable line whatever they hold. */
        for (unsigned char *p = (unsigned char *)err->message; *p; p++)
            if (*p < 32 || *p == 127)
                *p = '?';
    }
    return status;
}

infer_status (infer_fail_memory)(infer_error *err, size_t bytes, const char *what)
{
    return infer_fail(err, INFER_ERROR_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
}
