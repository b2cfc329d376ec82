/* Records of infer-bench: the same JSON objects as a list or as lines of CSV. */
#ifndef INFER_TOOLS_RECORDS_H
#define INFER_TOOLS_RECORDS_H

#include <cjson/cJSON.h>

typedef enum record_format { RECORD_TEXT, RECORD_JSON, RECORD_CSV, RECORD_MD } record_format;

/* Prints a record, or a list of records with the same keys, and frees it. Nested objects become columns "generation.tokens_per_s". */
void records_print(cJSON *records, record_format format);

#endif
