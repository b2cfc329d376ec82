/* Any other meter: a file or a command that tells "NUMBER UNIT". Joules are counted from some start (J, mJ, uJ, Wh, kWh; no unit: J), watts
 * are of now (W, mW, uW). */
#include "energy/energy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_TIMEOUT_NS 5000000000u

static const struct unit {
    const char *name;
    bool power;
    double micro; /* uJ or uW */
} units[] = {
    {"", false, 1e6}, {"J", false, 1e6}, {"mJ", false, 1e3}, {"uJ", false, 1}, {"Wh", false, 3600e6}, {"kWh", false, 3600e9},
    {"W", true, 1e6}, {"mW", true, 1e3}, {"uW", true, 1},
};

static infer_status parse(const char *text, const char *from, double *number, const struct unit **unit, infer_error *err)
{
    char *end;
    size_t n;
    *number = strtod(text, &end);
    if (end == text || !isfinite(*number))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: found \"%.40s\", expected joules or watts, such as \"12.5 J\"", from, text);
    end += strspn(end, " \t");
    n = strcspn(end, " \t\r\n");
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strlen(units[i].name) == n && strncmp(units[i].name, end, n) == 0) {
            *unit = &units[i];
            return INFER_OK;
        }
    return infer_fail(err, INFER_ERROR_FORMAT, "%s: found the unit \"%.*s\", expected J, mJ, uJ, Wh, kWh, W, mW or uW", from,
                      (int)(n < 16 ? n : 16), end);
}

typedef infer_status get_line(const char *argument, char *line, size_t size, infer_error *err);

static infer_status line_of_file(const char *path, char *line, size_t size, infer_error *err)
{
    return infer_first_line(path, line, size) ? INFER_OK : infer_fail(err, INFER_ERROR_IO, "%s: %s", path, strerror(errno));
}

static infer_status line_of_command(const char *command, char *line, size_t size, infer_error *err)
{
    return infer_command_line(command, COMMAND_TIMEOUT_NS, line, size, err);
}

static infer_status open_external(infer_energy_parts *parts, get_line *get, infer_error *err)
{
    infer_energy_part *part;
    const struct unit *unit;
    char line[128];
    double number;
    infer_status s;
    if (!*parts->place.argument)
        return infer_fail(err, INFER_ERROR_ARGUMENT, "the energy source needs a name behind the colon: file:PATH or cmd:COMMAND");
    if ((s = get(parts->place.argument, line, sizeof line, err)) != INFER_OK ||
        (s = parse(line, parts->place.argument, &number, &unit, err)) != INFER_OK)
        return s;
    if (!(part = infer_energy_add(parts, err)))
        return INFER_ERROR_UNSUPPORTED;
    snprintf(part->name, sizeof part->name, "external");
    part->power = unit->power;
    return INFER_OK;
}

static infer_status read_external(const infer_energy_parts *parts, const infer_energy_part *part, get_line *get, double *value,
                                  infer_error *err)
{
    const struct unit *unit;
    char line[128];
    double number;
    infer_status s;
    if ((s = get(parts->place.argument, line, sizeof line, err)) != INFER_OK ||
        (s = parse(line, parts->place.argument, &number, &unit, err)) != INFER_OK)
        return s;
    if (unit->power != part->power)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: found %s, expected %s as before", parts->place.argument,
                          unit->power ? "watts" : "joules", unit->power ? "joules" : "watts");
    *value = number * unit->micro;
    return INFER_OK;
}

static bool always(const infer_energy_place *place) { return *place->argument != 0; }
static infer_status open_file(infer_energy_parts *parts, infer_error *err) { return open_external(parts, line_of_file, err); }
static infer_status open_command(infer_energy_parts *parts, infer_error *err) { return open_external(parts, line_of_command, err); }

static infer_status read_file(const infer_energy_parts *parts, const infer_energy_part *part, double *value, infer_error *err)
{
    return read_external(parts, part, line_of_file, value, err);
}

static infer_status read_command(const infer_energy_parts *parts, const infer_energy_part *part, double *value, infer_error *err)
{
    return read_external(parts, part, line_of_command, value, err);
}

const infer_energy_source infer_energy_file = {
    .name = "file", .update_s = 1, .sample_ns = 100000000, .probe = always, .open = open_file, .read = read_file,
};

const infer_energy_source infer_energy_cmd = {
    .name = "cmd", .update_s = 1, .sample_ns = 1000000000, .probe = always, .open = open_command, .read = read_command,
};
