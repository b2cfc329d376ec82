#include "records.h"

#include "cli.h"

#include <stdbool.h>
#include <stdio.h>

/* A text field: quoted, quotes doubled. */
static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    putchar('"');
}

/* One row of a record; objects become columns "generation.tokens_per_s". */
static void print_csv_row(const cJSON *object, const char *prefix, bool head, bool *first)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        char name[80];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", item->string);
        if (cJSON_IsObject(item)) {
            print_csv_row(item, name, head, first);
            continue;
        }
        if (!*first)
            putchar(',');
        *first = false;
        if (head)
            fputs(name, stdout);
        else if (cJSON_IsString(item))
            print_quoted(item->valuestring);
        else if (cJSON_IsNumber(item))
            printf("%.10g", item->valuedouble);
    }
}

static void print_csv(const cJSON *records)
{
    const cJSON *record;
    bool first = true;
    print_csv_row(cJSON_GetArrayItem(records, 0), "", true, &first);
    putchar('\n');
    cJSON_ArrayForEach(record, records)
    {
        first = true;
        print_csv_row(record, "", false, &first);
        putchar('\n');
    }
}

void records_print(cJSON *records, record_format format)
{
    char *text;
    if (!cJSON_IsArray(records)) {
        cJSON *list = cJSON_CreateArray();
        cJSON_AddItemToArray(list, records);
        records = list;
    }
    if (format == RECORD_CSV) {
        print_csv(records);
    } else if ((text = cJSON_Print(records))) {
        printf("%s\n", text);
        cJSON_free(text);
    } else {
        cli_die("out of memory for the JSON");
    }
    cJSON_Delete(records);
}
