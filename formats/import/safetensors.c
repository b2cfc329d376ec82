/*
 * A safetensors file (https://github.com/huggingface/safetensors, "Format"): u64 length of the header; the header, a JSON object of tensors
 * {"dtype", "shape", "data_offsets": [begin, end]} with offsets behind the header, and "__metadata__"; the tensors, without gaps.
 */
#include "import/safetensors.h"

#include "bytes.h"
#include "file.h"
#include "import/json_file.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILES 1024u
#define MAX_TENSORS (1u << 18)
#define MAX_NAME 512u

static const infer_json_limits header_limits = {16u << 20, 2u << 20}, index_limits = {16u << 20, 1u << 20};

/* ---- one file ---- */

static char *copy_text(const infer_allocator *a, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = infer_alloc(a, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

static infer_safetensors_type find_type(const char *name)
{
    return strcmp(name, "F32") == 0 ? INFER_SAFETENSORS_F32 : strcmp(name, "F16") == 0 ? INFER_SAFETENSORS_F16
         : strcmp(name, "BF16") == 0 ? INFER_SAFETENSORS_BF16 : strcmp(name, "U8") == 0 ? INFER_SAFETENSORS_U8 : INFER_SAFETENSORS_OTHER;
}

/* A whole number of a JSON list. */
static bool list_number(const cJSON *item, double most, uint64_t *out)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= most))
        return false;
    *out = (uint64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

/* rows and cols of a shape; false: more than a tensor may have, or no list of whole numbers. */
static bool read_shape(const cJSON *shape, infer_safetensor *t)
{
    const cJSON *item;
    uint64_t last = 1, rows = 1, n;

    if (!cJSON_IsArray(shape))
        return false;
    cJSON_ArrayForEach(item, shape)
    {
        if (!list_number(item, INFER_FILE_MAX_DIM, &n) || infer_mul_overflows(rows, last, &rows) || rows > INFER_FILE_MAX_DIM)
            return false;
        last = n;
    }
    t->rows = rows;
    t->cols = last;
    return true;
}

static infer_status read_tensor(const infer_safetensors_file *f, const cJSON *entry, uint64_t data_at, infer_safetensor *t, uint64_t range[2],
                                infer_error *err)
{
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(entry, "dtype"), *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    uint64_t data_bytes = f->map.size - data_at, expected;

    if (!cJSON_IsString(type) || strlen(type->valuestring) >= sizeof t->type_name)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %.200s: no \"dtype\"", f->path, entry->string);
    snprintf(t->type_name, sizeof t->type_name, "%s", type->valuestring);
    t->type = find_type(t->type_name);
    if (!read_shape(cJSON_GetObjectItemCaseSensitive(entry, "shape"), t))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %.200s: \"shape\": expected a list of whole numbers with a product up to 2^60", f->path,
                          entry->string);
    if (cJSON_GetArraySize(offsets) != 2 || !list_number(cJSON_GetArrayItem(offsets, 0), 0x1p53, &range[0]) ||
        !list_number(cJSON_GetArrayItem(offsets, 1), 0x1p53, &range[1]) || range[0] > range[1] || range[1] > data_bytes)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %.200s: \"data_offsets\": expected two rising numbers up to %" PRIu64, f->path,
                          entry->string, data_bytes);
    if (t->type != INFER_SAFETENSORS_OTHER) {
        expected = t->rows * t->cols * infer_safetensors_element_bytes(t->type); /* below 2^62 */
        if (range[1] - range[0] != expected)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %.200s: found %" PRIu64 " bytes, expected %" PRIu64 " for its shape", f->path,
                              entry->string, range[1] - range[0], expected);
    }
    t->offset = data_at + range[0];
    return INFER_OK;
}

typedef struct range {
    uint64_t begin, end;
    const char *name;
} range;

static int compare_ranges(const void *a, const void *b)
{
    const range *x = a, *y = b;
    return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors follow one another to the end of the file. */
static infer_status check_ranges(const infer_safetensors_file *f, range *ranges, size_t count, uint64_t data_bytes, infer_error *err)
{
    uint64_t at = 0;

    qsort(ranges, count, sizeof *ranges, compare_ranges);
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].begin != at)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: tensor %.200s begins at %" PRIu64 ", expected %" PRIu64 ": tensors must not overlap or "
                              "leave gaps", f->path, ranges[i].name, ranges[i].begin, at);
        at = ranges[i].end;
    }
    if (at != data_bytes)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: found %" PRIu64 " bytes of tensors, expected %" PRIu64, f->path, data_bytes, at);
    return INFER_OK;
}

static infer_status read_entries(infer_safetensors *s, uint32_t file, const cJSON *header, uint64_t data_at, range *ranges, infer_error *err)
{
    const infer_safetensors_file *f = &s->files[file];
    const cJSON *entry;
    size_t count = 0;
    infer_status status;

    cJSON_ArrayForEach(entry, header)
    {
        infer_safetensor t = {.file = file};
        uint64_t span[2] = {0, 0};
        if (strcmp(entry->string, "__metadata__") == 0)
            continue;
        if (strlen(entry->string) > MAX_NAME || s->tensor_count == MAX_TENSORS)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: more than %u tensors, or a name of more than %u bytes", f->path, MAX_TENSORS, MAX_NAME);
        if ((status = read_tensor(f, entry, data_at, &t, span, err)) != INFER_OK)
            return status;
        if (!infer_grow(&s->allocator, &s->tensors, &s->tensor_cap, s->tensor_count + 1, sizeof *s->tensors) ||
            !(t.name = copy_text(&s->allocator, entry->string)))
            return infer_fail_memory(err, (s->tensor_count + 1) * sizeof *s->tensors, "tensor list");
        s->tensors[s->tensor_count++] = t;
        ranges[count++] = (range){span[0], span[1], t.name};
    }
    return check_ranges(f, ranges, count, f->map.size - data_at, err);
}

static infer_status open_file(infer_safetensors *s, const char *path, infer_error *err)
{
    infer_safetensors_file *f;
    uint64_t header_bytes;
    uint32_t file = (uint32_t)s->file_count;
    cJSON *header;
    range *ranges;
    infer_status status;

    if (!infer_grow(&s->allocator, &s->files, &s->file_cap, s->file_count + 1, sizeof *s->files))
        return infer_fail_memory(err, (s->file_count + 1) * sizeof *s->files, "file list");
    f = &s->files[file];
    *f = (infer_safetensors_file){.path = copy_text(&s->allocator, path)};
    if (!f->path)
        return infer_fail_memory(err, strlen(path), "path");
    if ((status = infer_map_file(path, &f->map, err)) != INFER_OK) {
        infer_free(&s->allocator, f->path);
        return status;
    }
    s->file_count++;
    header_bytes = f->map.size >= 8 ? get_u64(f->map.data) : 0;
    if (f->map.size < 8 || header_bytes > f->map.size - 8)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s: a header of %" PRIu64 " bytes, but the file has %zu: not a safetensors file, or its end is missing",
                          path, header_bytes, f->map.size);
    if ((status = infer_json_parse((const char *)f->map.data + 8, (size_t)header_bytes, &header_limits, path, &header, err)) != INFER_OK)
        return status;
    ranges = infer_alloc_array(&s->allocator, (size_t)cJSON_GetArraySize(header) + 1, sizeof *ranges);
    status = ranges ? read_entries(s, file, header, 8 + header_bytes, ranges, err)
                    : infer_fail_memory(err, (size_t)cJSON_GetArraySize(header) * sizeof *ranges, "tensor list");
    infer_free(&s->allocator, ranges);
    cJSON_Delete(header);
    return status;
}

/* ---- a folder ---- */

/* A file name as an index may have it: of the folder itself. */
static bool plain_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= 255 && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static infer_status open_in(infer_safetensors *s, const char *folder, const char *name, infer_error *err)
{
    char path[PATH_MAX];

    if (!plain_name(name))
        return infer_fail(err, INFER_ERROR_FORMAT, "%s/model.safetensors.index.json: found the file name \"%.100s\", expected one without a folder", folder,
                          name);
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return infer_fail(err, INFER_ERROR_IO, "%s: the path is too long", folder);
    return open_file(s, path, err);
}

static infer_status open_index(infer_safetensors *s, const char *folder, const cJSON *index, infer_error *err)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map"), *entry;
    infer_status status;

    if (!cJSON_IsObject(map) || !map->child)
        return infer_fail(err, INFER_ERROR_FORMAT, "%s/model.safetensors.index.json: \"weight_map\": expected an object that names files", folder);
    if (!infer_strmap_init(&s->file_names, &s->allocator, MAX_FILES, MAX_FILES))
        return infer_fail_memory(err, 2 * MAX_FILES * sizeof(infer_strmap_slot), "file names");
    cJSON_ArrayForEach(entry, map)
    {
        if (!cJSON_IsString(entry))
            return infer_fail(err, INFER_ERROR_FORMAT, "%s/model.safetensors.index.json: \"weight_map\": %.200s: expected a file name", folder,
                              entry->string);
        if (infer_strmap_get(&s->file_names, entry->valuestring, strlen(entry->valuestring)) != INFER_STRMAP_NONE)
            continue;
        if (s->file_count == MAX_FILES)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: more than %u files", folder, MAX_FILES);
        infer_strmap_put(&s->file_names, entry->valuestring, (uint32_t)strlen(entry->valuestring), 0);
        if ((status = open_in(s, folder, entry->valuestring, err)) != INFER_OK)
            return status;
    }
    return INFER_OK;
}

static infer_status open_folder(infer_safetensors *s, const char *folder, infer_error *err)
{
    cJSON *index;
    infer_status status = infer_json_read(folder, "model.safetensors.index.json", &index_limits, true, &index, err);

    if (status != INFER_OK)
        return status;
    status = index ? open_index(s, folder, index, err) : open_in(s, folder, "model.safetensors", err);
    infer_strmap_free(&s->file_names, &s->allocator); /* its keys are the index's */
    cJSON_Delete(index);
    return status;
}

static infer_status index_names(infer_safetensors *s, const char *path, infer_error *err)
{
    if (!infer_strmap_init(&s->names, &s->allocator, s->tensor_count, s->tensor_count))
        return infer_fail_memory(err, 2 * s->tensor_count * sizeof(infer_strmap_slot), "tensor names");
    for (uint32_t i = 0; i < s->tensor_count; i++)
        if (infer_strmap_put(&s->names, s->tensors[i].name, (uint32_t)strlen(s->tensors[i].name), i) != INFER_STRMAP_NONE)
            return infer_fail(err, INFER_ERROR_FORMAT, "%s: there are two tensors named %.200s", path, s->tensors[i].name);
    return INFER_OK;
}

infer_status infer_safetensors_open(const infer_allocator *a, const char *path, bool folder, infer_safetensors *out, infer_error *err)
{
    infer_safetensors s = {0};
    infer_status status;

    if (a)
        s.allocator = *a;
    status = folder ? open_folder(&s, path, err) : open_file(&s, path, err);
    if (status == INFER_OK)
        status = index_names(&s, path, err);
    if (status == INFER_OK)
        *out = s;
    else
        infer_safetensors_close(&s);
    return status;
}

void infer_safetensors_close(infer_safetensors *s)
{
    for (size_t i = 0; i < s->file_count; i++) {
        infer_unmap(&s->files[i].map);
        infer_free(&s->allocator, s->files[i].path);
    }
    for (size_t i = 0; i < s->tensor_count; i++)
        infer_free(&s->allocator, s->tensors[i].name);
    infer_strmap_free(&s->names, &s->allocator);
    infer_free(&s->allocator, s->files);
    infer_free(&s->allocator, s->tensors);
}

infer_safetensor *infer_safetensors_find(const infer_safetensors *s, const char *name)
{
    uint32_t i = infer_strmap_get(&s->names, name, strlen(name));
    return i == INFER_STRMAP_NONE ? NULL : &s->tensors[i];
}

void infer_safetensors_read(const infer_safetensors *s, const infer_safetensor *t, uint64_t row, uint64_t col, uint64_t n, float *out, size_t stride)
{
    const uint8_t *p = s->files[t->file].map.data + t->offset + (row * t->cols + col) * infer_safetensors_element_bytes(t->type);

    for (uint64_t i = 0; i < n; i++)
        out[i * stride] = t->type == INFER_SAFETENSORS_F32   ? get_f32(p + 4 * i)
                          : t->type == INFER_SAFETENSORS_F16 ? half_to_float(get_u16(p + 2 * i))
                          : t->type == INFER_SAFETENSORS_U8  ? (float)p[i]
                                                             : bf16_to_float(get_u16(p + 2 * i));
}

infer_status infer_safetensors_check(const infer_safetensors *s, const infer_safetensor *t, infer_error *err)
{
    return infer_map_check(&s->files[t->file].map, s->files[t->file].path, err);
}
