/* Numbers with units, both ways. Parsing is strict and knows no locale: digits, one optional point,
 * an optional space and a unit spelled as we print it. A sign, an exponent, "inf" or anything left
 * over makes the text malformed. */
#include "tool.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t scale;
};

static const struct unit byte_units[] = {
    {"", 1},
    {"B", 1},
    {"KiB", 1ull << 10},
    {"MiB", 1ull << 20},
    {"GiB", 1ull << 30},
    {"TiB", 1ull << 40},
};

static const struct unit time_units[] = {
    {"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"min", 60000000000},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Whole digits as an exact integer; returns what follows them, or NULL for none or too many. */
static const char *scan_whole(const char *text, uint64_t *out)
{
    const char *at = text;
    uint64_t value = 0;
    for (; is_digit(*at); at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return NULL;
    }
    *out = value;
    return at > text ? at : NULL;
}

/* ".5" -> 0.5; leaves text alone when there is no point. NULL for a point without digits. */
static const char *scan_fraction(const char *text, double *out)
{
    *out = 0;
    if (*text != '.')
        return text;
    const char *at = text + 1;
    double place = 0.1;
    for (; is_digit(*at); at++, place /= 10)
        *out += (*at - '0') * place;
    return at > text + 1 ? at : NULL;
}

static bool parse_scaled(const char *text, const struct unit *units, size_t unit_count,
                         uint64_t *out)
{
    uint64_t whole, value;
    double fraction;
    const char *at = scan_whole(text, &whole);
    at = at ? scan_fraction(at, &fraction) : NULL;
    if (!at)
        return false;
    bool spaced = *at == ' ';
    at += spaced;
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(at, units[i].name) || (spaced && !*at))
            continue;
        if (units[i].scale == 1 && fraction != 0)
            return false;
        if (__builtin_mul_overflow(whole, units[i].scale, &value) ||
            __builtin_add_overflow(value, (uint64_t)(fraction * (double)units[i].scale + 0.5),
                                   &value))
            return false;
        *out = value;
        return true;
    }
    return false;
}

bool tool_parse_bytes(const char *text, uint64_t *out)
{
    return parse_scaled(text, byte_units, sizeof byte_units / sizeof *byte_units, out);
}

bool tool_parse_budget(const char *text, struct tool_budget *out)
{
    uint64_t whole, bytes;
    double fraction;
    const char *at = scan_whole(text, &whole);
    at = at ? scan_fraction(at, &fraction) : NULL;
    if (at && !strcmp(at, "%")) {
        double share = ((double)whole + fraction) / 100;
        if (share > 0)
            *out = (struct tool_budget){.share = share};
        return share > 0;
    }
    if (!tool_parse_bytes(text, &bytes))
        return false;
    *out = (struct tool_budget){.bytes = bytes};
    return true;
}

bool tool_parse_duration_ns(const char *text, uint64_t *out)
{
    return parse_scaled(text, time_units, sizeof time_units / sizeof *time_units, out);
}

bool tool_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t value;
    const char *end = scan_whole(text, &value);
    if (!end || *end || value < min || value > max)
        return false;
    *out = value;
    return true;
}

bool tool_parse_f64(const char *text, double min, double max, double *out)
{
    if (!is_digit(*text) && *text != '-' && *text != '.')
        return false; /* strtod would skip spaces, and take "inf" and "nan" */
    if (strpbrk(text, "xXnN"))
        return false;
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end || errno || !(value >= min && value <= max))
        return false;
    *out = value;
    return true;
}

int tool_parse_choice(const char *text, const char *words)
{
    size_t size = strlen(text), word;
    for (int place = 0;; place++) {
        word = strcspn(words, " ");
        if (word == size && memcmp(words, text, size) == 0)
            return place;
        if (!words[word])
            return -1;
        words += word + 1;
    }
}

double tool_recall(float recall)
{
    return round((double)recall * 1e6) / 1e6;
}

/* Three significant digits. */
static void format_scaled(double value, const char *unit, char out[32])
{
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(out, 32, "%.*f %s", decimals, value, unit);
}

char *tool_format_bytes(uint64_t bytes, char out[32])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t i = 0;
    while (value >= 1023.5 && i + 1 < sizeof names / sizeof *names) {
        value /= 1024;
        i++;
    }
    if (i == 0)
        snprintf(out, 32, "%llu B", (unsigned long long)bytes);
    else
        format_scaled(value, names[i], out);
    return out;
}

char *tool_format_duration_ns(uint64_t ns, char out[32])
{
    double value = (double)ns;
    if (ns < 1000)
        snprintf(out, 32, "%llu ns", (unsigned long long)ns);
    else if (value < 999.5e3)
        format_scaled(value / 1e3, "us", out);
    else if (value < 999.5e6)
        format_scaled(value / 1e6, "ms", out);
    else if (value < 99.95e9)
        format_scaled(value / 1e9, "s", out);
    else if (value < 3600e9)
        snprintf(out, 32, "%llu min %02llu s", (unsigned long long)(ns / 60000000000),
                 (unsigned long long)(ns / 1000000000 % 60));
    else
        snprintf(out, 32, "%llu h %02llu min", (unsigned long long)(ns / 3600000000000),
                 (unsigned long long)(ns / 60000000000 % 60));
    return out;
}

const char *tool_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}
