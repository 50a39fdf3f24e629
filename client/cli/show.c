/* JSON documents for people. Knows no fields: what a newer server adds is shown as it comes. */
#include <string.h>

#include "cli.h"

enum { INDENT = 2, COLUMNS_MAX = 12, WIDTH_MAX = 40 };

/* A scalar as text; out is returned, and may be cut. */
static const char *scalar_text(const json_t *value, char *out, size_t out_bytes)
{
    if (json_is_string(value))
        snprintf(out, out_bytes, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(out, out_bytes, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(out, out_bytes, "%.6g", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(out, out_bytes, "%s", json_is_true(value) ? "yes" : "no");
    else
        snprintf(out, out_bytes, "-");
    return out;
}

static bool is_container(const json_t *value)
{
    return json_is_object(value) || json_is_array(value);
}

/* An array whose entries are maps of scalars with the keys of the first. */
static bool is_table(const json_t *array)
{
    const json_t *first = json_array_get(array, 0);
    if (!json_is_object(first) || json_object_size(first) > COLUMNS_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *key;
        json_t *value, *row = json_array_get(array, i);
        if (!json_is_object(row) || json_object_size(row) != json_object_size(first))
            return false;
        json_object_foreach(row, key, value)
        {
            if (is_container(value) || !json_object_get(first, key))
                return false;
        }
    }
    return true;
}

static int column_width(const json_t *array, const char *key)
{
    char text[WIDTH_MAX + 1];
    size_t width = strlen(key);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *value = json_object_get(json_array_get(array, i), key);
        size_t length = strlen(scalar_text(value, text, sizeof text));
        if (length > width)
            width = length;
    }
    return (int)width;
}

static void show_table(const json_t *array, int indent)
{
    const char *key;
    json_t *value, *first = json_array_get(array, 0);
    char text[WIDTH_MAX + 1];
    printf("%*s", indent, "");
    json_object_foreach(first, key, value) printf("%-*s  ", column_width(array, key), key);
    for (size_t i = 0; i < json_array_size(array); i++) {
        printf("\n%*s", indent, "");
        json_object_foreach(first, key, value)
        {
            const json_t *cell = json_object_get(json_array_get(array, i), key);
            printf(json_is_number(cell) ? "%*s  " : "%-*s  ", column_width(array, key),
                   scalar_text(cell, text, sizeof text));
        }
    }
    printf("\n");
}

static void show_value(const json_t *value, int indent);

static void show_object(const json_t *object, int indent)
{
    const char *key;
    json_t *value;
    char text[1024];
    int width = 0;
    json_object_foreach((json_t *)object, key, value)
    {
        if (!is_container(value) && (int)strlen(key) > width)
            width = (int)strlen(key);
    }
    json_object_foreach((json_t *)object, key, value)
    {
        bool is_empty = json_object_size(value) + json_array_size(value) == 0;
        if (is_container(value) && !is_empty) {
            printf("%*s%s:\n", indent, "", key);
            show_value(value, indent + INDENT);
        } else {
            printf("%*s%-*s  %s\n", indent, "", width, key, scalar_text(value, text, sizeof text));
        }
    }
}

static void show_array(const json_t *array, int indent)
{
    char text[1024];
    if (is_table(array)) {
        show_table(array, indent);
        return;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *value = json_array_get(array, i);
        if (is_container(value)) {
            if (i > 0)
                printf("\n");
            show_value(value, indent);
        } else {
            printf("%*s%s\n", indent, "", scalar_text(value, text, sizeof text));
        }
    }
}

static void show_value(const json_t *value, int indent)
{
    char text[1024];
    if (json_is_object(value))
        show_object(value, indent);
    else if (json_is_array(value))
        show_array(value, indent);
    else
        printf("%*s%s\n", indent, "", scalar_text(value, text, sizeof text));
}

void cli_show(const json_t *document)
{
    show_value(document, 0);
}
