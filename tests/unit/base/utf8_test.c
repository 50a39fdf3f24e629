/* Names that are not UTF-8, for documents that are. */
#include "fathom_test.h"

#include <string.h>

#include "utf8.h"

static void characters_stay_as_they_are(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "plain", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80",
                                        "\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf",
                                        "\xee\x80\x80 \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"};
    char out[64];
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_string_equal(utf8_escape(out, sizeof out, texts[i]), texts[i]);
}

static void bytes_of_no_character_are_told_by_number(void **state)
{
    (void)state;
    static const struct {
        const char *text, *escaped;
    } cases[] = {
        {"a\xff.npy", "a\\xff.npy"},
        {"\x80", "\\x80"},
        {"\xc0\xaf", "\\xc0\\xaf"},          /* overlong */
        {"\xe0\x9f\xbf", "\\xe0\\x9f\\xbf"}, /* overlong */
        {"\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* a surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
        {"\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80"},
        {"\xc3", "\\xc3"}, /* ends within a character */
        {"\xe2\x82", "\\xe2\\x82"},
        {"\xe2\x82z", "\\xe2\\x82z"},
        {"\xc3\xc3\xbc", "\\xc3\xc3\xbc"},
    };
    char out[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(utf8_escape(out, sizeof out, cases[i].text), cases[i].escaped);
}

static void what_does_not_fit_is_left_out_by_whole_characters(void **state)
{
    (void)state;
    char out[UTF8_ESCAPED_BYTES(4)];
    memset(out, '?', sizeof out);
    assert_string_equal(utf8_escape(out, 4, "ab\xc3\xbc"), "ab");
    assert_int_equal(out[4], '?');
    assert_string_equal(utf8_escape(out, 5, "ab\xc3\xbc"), "ab\xc3\xbc");
    assert_string_equal(utf8_escape(out, 5, "a\xff"), "a");
    assert_string_equal(utf8_escape(out, 1, "a"), "");
    assert_string_equal(utf8_escape(out, sizeof out, "\xff\xfe\xfd\xfc"), "\\xff\\xfe\\xfd\\xfc");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(characters_stay_as_they_are),
    cmocka_unit_test(bytes_of_no_character_are_told_by_number),
    cmocka_unit_test(what_does_not_fit_is_left_out_by_whole_characters),
};

FATHOM_TEST_MAIN(tests)
