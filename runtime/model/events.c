#include "model/events.h"

#include <cjson/cJSON.h>
#include <float.h>

static bool rising(const cJSON *list, double low, double high, bool strictly)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item) || !(strictly ? item->valuedouble > low : item->valuedouble >= low) || !(item->valuedouble <= high))
            return false;
        low = item->valuedouble;
    }
    return true;
}

static infer_status parse(const cJSON *events, const infer_file *file, infer_events *e, infer_error *err)
{
    const char *path = infer_file_path(file);
    const cJSON *target = cJSON_GetObjectItemCaseSensitive(events, "target"), *rates = cJSON_GetObjectItemCaseSensitive(events, "rates");
    const cJSON *thresholds = cJSON_GetObjectItemCaseSensitive(events, "thresholds"), *list, *item;
    int count = cJSON_IsArray(rates) ? cJSON_GetArraySize(rates) : 0;

    if (count < 1 || count > (int)INFER_EVENTS_MAX_RATES || !rising(rates, 0, INFER_EVENTS_MAX_RATE, true))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: metadata: \"events.rates\": expected 1 to %u rising numbers above 0, at most %.1f",
                          path, INFER_EVENTS_MAX_RATES, INFER_EVENTS_MAX_RATE);
    cJSON_ArrayForEach(item, rates)
        e->rate[e->rates++] = item->valuedouble;
    if (!cJSON_IsNumber(target) || !(target->valuedouble > 0) || !(target->valuedouble <= e->rate[e->rates - 1]))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: metadata: \"events.target\": expected a number above 0, at most the last rate, %g",
                          path, e->rate[e->rates - 1]);
    e->target = target->valuedouble;
    if (!cJSON_IsObject(thresholds))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: metadata: \"events.thresholds\": expected an object", path);
    cJSON_ArrayForEach(list, thresholds)
    {
        const infer_tensor_info *t = infer_file_find(file, list->string);
        float *out;
        if (!t || t->layout != INFER_LAYOUT_COLS)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: metadata: events.thresholds: \"%.60s\" is no tensor in the layout cols", path,
                              list->string);
        if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != count || !rising(list, 0, FLT_MAX, false))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: metadata: events.thresholds of %s: expected %d rising numbers from 0", path,
                              t->name, count);
        out = e->thresholds + (size_t)(t - infer_file_tensor(file, 0)) * e->rates;
        cJSON_ArrayForEach(item, list)
            *out++ = (float)item->valuedouble;
    }
    return INFER_OK;
}

infer_status infer_events_parse(const infer_allocator *a, const char *metadata, const infer_file *file, infer_events *out, infer_error *err)
{
    infer_events e = {0};
    cJSON *root = cJSON_Parse(metadata);
    const cJSON *events = cJSON_GetObjectItemCaseSensitive(root, "events");
    infer_status s = INFER_OK;

    if (!root)
        return infer_fail(err, INFER_ERROR_MEMORY, "%s: out of memory for the metadata",
                          infer_file_path(file)); /* the reader checked its syntax */
    if (events && !cJSON_IsNull(events)) {
        e.thresholds = infer_alloc_array(a, infer_file_tensor_count(file) * INFER_EVENTS_MAX_RATES, sizeof *e.thresholds);
        s = e.thresholds
                ? parse(events, file, &e, err)
                : infer_fail_memory(err, infer_file_tensor_count(file) * INFER_EVENTS_MAX_RATES * sizeof *e.thresholds, "thresholds");
    }
    cJSON_Delete(root);
    if (s != INFER_OK)
        infer_events_free(&e, a);
    else
        *out = e;
    return s;
}

void infer_events_free(infer_events *e, const infer_allocator *a)
{
    infer_free(a, e->thresholds);
    *e = (infer_events){0};
}

float infer_events_threshold(const infer_events *e, size_t tensor, double rate)
{
    const float *t = e->thresholds + tensor * e->rates;
    double below = 0, low = 0;
    uint32_t i = 0;
    while (i + 1 < e->rates && e->rate[i] < rate)
        i++;
    if (i) {
        below = e->rate[i - 1];
        low = t[i - 1];
    }
    return (float)(low + (t[i] - low) * (rate - below) / (e->rate[i] - below));
}
