/* Reload requests: on which terms an index may be kept, and that all else is refused by its key's
 * name. */
#include "message.h"

static void begin_reload(struct message *message, const char *key)
{
    begin(message, "reload", 2);
    text(message, "index");
    text(message, "a");
    text(message, key);
}

static void a_budget_is_bytes_or_what_the_flag_takes(void **state)
{
    static const char zero[] = "5%\0";
    struct message message;
    struct request request;
    struct rpc_error err;
    (void)state;
    begin_reload(&message, "dram_budget");
    text(&message, "12.5%");
    assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
    assert_true(request.reload.new_budget && request.reload.dram_budget_share == 0.125);
    msgpack_sbuffer_destroy(&message.bytes);
    begin_reload(&message, "dram_budget");
    text(&message, "1MiB");
    assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
    assert_true(request.reload.dram_budget_share == 0);
    assert_int_equal(request.reload.dram_budget_bytes, 1 << 20);
    assert_false(request.reload.new_recall);
    msgpack_sbuffer_destroy(&message.bytes);
    static const char *const wrong[] = {
        "",    "5", "%",       "0%",          "-1%",
        "5 %", "x", "1e3000%", "16777216TiB", "1.00000000000000000000000000000000000000000000MiB"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        begin_reload(&message, "dram_budget");
        text(&message, wrong[i]);
        if (strcmp(wrong[i], "5") == 0) { /* bytes need no unit */
            assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
            msgpack_sbuffer_destroy(&message.bytes);
        } else {
            expect_field(&message, "dram_budget");
        }
    }
    begin_reload(&message, "dram_budget");
    msgpack_pack_str_with_body(&message.packer, zero, sizeof zero);
    expect_field(&message, "dram_budget");
}

static void a_planned_recall_is_a_float_between_0_and_1_or_zero(void **state)
{
    (void)state;
    for (int value = 0; value < VALUE_COUNT; value++) {
        struct message message;
        struct request request;
        struct rpc_error err;
        begin_reload(&message, "plan_recall");
        put_value(&message, (enum value)value);
        if (value == VALUE_FLOAT || value == VALUE_ZERO) {
            assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
            assert_true(request.reload.new_recall && !request.reload.new_budget);
            assert_true(request.reload.plan_recall == (value == VALUE_FLOAT ? 0.5f : 0));
            msgpack_sbuffer_destroy(&message.bytes);
        } else {
            expect_field(&message, "plan_recall");
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_budget_is_bytes_or_what_the_flag_takes),
        cmocka_unit_test(a_planned_recall_is_a_float_between_0_and_1_or_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
