/* Sizes, times and numbers of the command line: what is taken, what is refused, what is printed. */
#include "fathom_test.h"

#include <math.h>

#include "tool.h"

static void sizes_are_parsed_with_their_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"4096B", 4096},
        {"1KiB", 1024},
        {"64MiB", 64ull << 20},
        {"1.5 GiB", 3ull << 29},
        {"2TiB", 2ull << 40},
        {"0.5KiB", 512},
        {"18446744073709551615", UINT64_MAX},
        {"9007199254740993", 9007199254740993ull},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 1;
        if (!tool_parse_bytes(cases[i].text, &bytes) || bytes != cases[i].bytes)
            fail_msg("%s -> %llu", cases[i].text, (unsigned long long)bytes);
    }
}

static void malformed_sizes_are_refused(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "x",
        "-1",
        "+1",
        "1 ",
        " 1",
        "1kib",
        "1KB",
        "1K",
        "1 Ki B",
        "1.KiB",
        ".5KiB",
        "1.5",
        "1e3",
        "0x10",
        "inf",
        "nan",
        "1KiBx",
        "1  KiB",
        "18446744073709551616",
        "16777216TiB",
        "1,5GiB",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 77;
        if (tool_parse_bytes(cases[i], &bytes))
            fail_msg("'%s' -> %llu", cases[i], (unsigned long long)bytes);
        assert_int_equal(bytes, 77);
    }
}

static void budgets_are_sizes_or_shares(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
        double share;
    } cases[] = {{"0", 0, 0},    {"64MiB", 64ull << 20, 0}, {"5%", 0, 0.05}, {"0.5%", 0, 0.005},
                 {"100%", 0, 1}, {"250%", 0, 2.5}};
    static const char *const wrong[] = {"",    "%",    "0%",   "0.0%", "-5%", "+5%",
                                        "5 %", "nan%", "inf%", "1e1%", "5%%", "5%x",
                                        ".5%", "5.%",  "12x",  " 5%",  "0x5%"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tool_budget budget;
        if (!tool_parse_budget(cases[i].text, &budget) || budget.bytes != cases[i].bytes ||
            budget.share != cases[i].share)
            fail_msg("%s -> %llu, %g", cases[i].text, (unsigned long long)budget.bytes,
                     budget.share);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tool_budget budget = {.bytes = 77};
        if (tool_parse_budget(wrong[i], &budget))
            fail_msg("'%s' was taken", wrong[i]);
        assert_int_equal(budget.bytes, 77);
    }
}

static void times_need_a_unit(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } cases[] = {{"250us", 250000}, {"5ms", 5000000}, {"2s", 2000000000},    {"1.5 s", 1500000000},
                 {"0.5ms", 500000}, {"7ns", 7},       {"3min", 180000000000}};
    static const char *const wrong[] = {"",     "5",   "5 ", "5m",    "5S",
                                        "5sec", "-5s", "s",  "0.5ns", "99999999999s"};
    uint64_t ns;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(tool_parse_duration_ns(cases[i].text, &ns));
        assert_int_equal(ns, cases[i].ns);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (tool_parse_duration_ns(wrong[i], &ns))
            fail_msg("'%s' was taken", wrong[i]);
    }
}

static void whole_numbers_are_bounded(void **state)
{
    uint64_t value = 0;
    (void)state;
    assert_true(tool_parse_u64("12", 1, 12, &value) && value == 12);
    assert_true(tool_parse_u64("18446744073709551615", 0, UINT64_MAX, &value) &&
                value == UINT64_MAX);
    static const char *const wrong[] = {"",    "13", "0",  "-1",  "+5",
                                        "5.0", "5x", " 5", "0x5", "18446744073709551617"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (tool_parse_u64(wrong[i], 1, 12, &value))
            fail_msg("'%s' was taken", wrong[i]);
    }
}

static void fractions_are_bounded(void **state)
{
    double value;
    (void)state;
    assert_true(tool_parse_f64("0.95", 0, 1, &value) && value == 0.95);
    assert_true(tool_parse_f64("-2.5e1", -30, 0, &value) && value == -25);
    assert_true(tool_parse_f64(".5", 0, 1, &value) && value == 0.5);
    static const char *const wrong[] = {"",     "1.01", "-0.1", "nan",  "inf",   "-inf",
                                        "-nan", "0x1",  "0.5x", " 0.5", "1e999", "."};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (tool_parse_f64(wrong[i], 0, 1, &value))
            fail_msg("'%s' was taken", wrong[i]);
    }
}

static void numbers_are_printed_with_three_digits(void **state)
{
    static const struct {
        uint64_t value;
        const char *bytes, *time;
    } cases[] = {
        {0, "0 B", "0 ns"},
        {999, "999 B", "999 ns"},
        {1023, "1023 B", "1.02 us"},
        {1024, "1.00 KiB", "1.02 us"},
        {12345, "12.1 KiB", "12.3 us"},
        {12345678, "11.8 MiB", "12.3 ms"},
        {1610612736, "1.50 GiB", "1.61 s"},
        {59900000000, "55.8 GiB", "59.9 s"},
        {150000000000, "140 GiB", "2 min 30 s"},
        {7500000000000, "6.82 TiB", "2 h 05 min"},
        {UINT64_MAX, "16.0 EiB", "5124095 h 34 min"},
    };
    char out[32];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(tool_format_bytes(cases[i].value, out), cases[i].bytes);
        assert_string_equal(tool_format_duration_ns(cases[i].value, out), cases[i].time);
    }
}

static void one_is_not_many(void **state)
{
    (void)state;
    assert_string_equal(tool_plural(0), "s");
    assert_string_equal(tool_plural(1), "");
    assert_string_equal(tool_plural(2), "s");
}

static void a_choice_is_one_whole_word(void **state)
{
    static const char *const wrong[] = {"", "l", "l22", "l2 ip", "cos ", "L2"};
    (void)state;
    assert_int_equal(tool_parse_choice("l2", "l2 ip cos"), 0);
    assert_int_equal(tool_parse_choice("cos", "l2 ip cos"), 2);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (tool_parse_choice(wrong[i], "l2 ip cos") != -1)
            fail_msg("'%s' was taken", wrong[i]);
}

static void every_code_has_its_exit(void **state)
{
    (void)state;
    assert_int_equal(tool_exit_code(0), 0);
    assert_int_equal(tool_exit_code(FATHOM_EARGUMENT), 2);
    assert_int_equal(tool_exit_code(FATHOM_ELIMIT), 2);
    assert_int_equal(tool_exit_code(-5), 3);
    assert_int_equal(tool_exit_code(FATHOM_ECORRUPT), 4);
    assert_int_equal(tool_exit_code(FATHOM_ECHECKSUM), 4);
    assert_int_equal(tool_exit_code(FATHOM_EINPUT), 4);
    assert_int_equal(tool_exit_code(FATHOM_EVERSION), 5);
    assert_int_equal(tool_exit_code(FATHOM_EINTERRUPTED), 75);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sizes_are_parsed_with_their_units),
    cmocka_unit_test(malformed_sizes_are_refused),
    cmocka_unit_test(budgets_are_sizes_or_shares),
    cmocka_unit_test(times_need_a_unit),
    cmocka_unit_test(whole_numbers_are_bounded),
    cmocka_unit_test(fractions_are_bounded),
    cmocka_unit_test(numbers_are_printed_with_three_digits),
    cmocka_unit_test(one_is_not_many),
    cmocka_unit_test(a_choice_is_one_whole_word),
    cmocka_unit_test(every_code_has_its_exit),
};
FATHOM_TEST_MAIN(tests)
