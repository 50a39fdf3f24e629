/* Settings: precedence, lists, and messages that name file, line and key. */
#include "fathom_test.h"

#include "config.h"
#include "env.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct config config;

static int set_up(void **state)
{
    (void)state;
    return config_init(&config);
}

static int tear_down(void **state)
{
    (void)state;
    config_fini(&config);
    return 0;
}

static void expect_error(int rc, const struct fathom_error *err, const char *message)
{
    assert_true(rc < 0);
    assert_string_equal(err->msg, message);
}

static void the_defaults_are_the_documented_ones(void **state)
{
    (void)state;
    assert_int_equal(config.listen_count, 1);
    assert_string_equal(config.listens[0], "127.0.0.1:7117");
    assert_string_equal(config.http, "127.0.0.1:7118");
    assert_int_equal(config.inflight, 0); /* by budget */
    assert_int_equal(config.drain_ns, 10000000000);
    assert_int_equal(config.dram_budget.bytes, 0);
    assert_int_equal(config.io, FATHOM_IO_AUTO);
    assert_int_equal(config.navigator, FATHOM_NAVIGATOR_AUTO);
    assert_int_equal(config.urgency, ENV_URGENCY_SLICE);
}

static void a_file_sets_every_kind_of_value(void **state)
{
    (void)state;
    struct fathom_error err;
    const char *text = "# a comment\n\nindex = words=/data/words\r\n  index=clip.3=/data/a=b  \n"
                       "dram-budget = 1.5GiB\n# x = y\n"
                       "drain-timeout = 250ms\nio = pread\nnavigator = "
                       "cells\nlog-format=json\nworkers = 3\nhttp = off";
    assert_int_equal(config_load_text(&config, text, "f", &err), 0);
    assert_int_equal(config.index_count, 2);
    assert_string_equal(config.indexes[0].name, "words");
    assert_string_equal(config.indexes[0].dir, "/data/words");
    assert_string_equal(config.indexes[1].name, "clip.3");
    assert_string_equal(config.indexes[1].dir, "/data/a=b");
    assert_int_equal(config.dram_budget.bytes, 1610612736);
    assert_true(config.dram_budget.share == 0);
    assert_int_equal(config.drain_ns, 250000000);
    assert_int_equal(config.io, FATHOM_IO_PREAD);
    assert_int_equal(config.navigator, FATHOM_NAVIGATOR_CELLS);
    assert_int_equal(config.log_format, LOG_FORMAT_JSON);
    assert_int_equal(config.workers, 3);
    assert_string_equal(config.http, "off");
}

static void a_planned_recall_is_of_all_indexes_or_of_one(void **state)
{
    (void)state;
    struct fathom_error err;
    const char *text = "plan-recall = b=0.9\nindex = a=/x\nindex = b=/y\nplan-recall = 0.97\n";
    assert_true(config_plan_recall(&config, "a") == 0);
    assert_int_equal(config_load_text(&config, text, "f", &err), 0);
    assert_int_equal(config_check(&config, &err), 0);
    assert_true(config_plan_recall(&config, "a") == 0.97f);
    assert_true(config_plan_recall(&config, "b") == 0.9f);
    char *environment[] = {"FATHOM_PLAN_RECALL=a=0.5,0.6", NULL};
    assert_int_equal(config_load_environment(&config, environment, &err), 0);
    assert_true(config_plan_recall(&config, "a") == 0.5f);
    assert_true(config_plan_recall(&config, "b") == 0.6f);
}

static void a_planned_recall_of_an_unknown_index_is_refused(void **state)
{
    (void)state;
    struct fathom_error err;
    assert_int_equal(config_load_text(&config, "index = a=/x\nplan-recall = ab=0.9\n", "f", &err),
                     0);
    expect_error(config_check(&config, &err), &err, "plan-recall: there is no index ab");
}

static void a_budget_may_be_a_share(void **state)
{
    (void)state;
    struct fathom_error err;
    assert_int_equal(config_load_text(&config, "dram-budget = 12.5%\n", "f", &err), 0);
    assert_true(config.dram_budget.share == 0.125);
    assert_int_equal(config.dram_budget.bytes, 0);
}

static void errors_of_a_file_name_file_line_and_key(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"\n\nworker = 3\n",
         "f.conf:3: there is no setting 'worker'; fathom-server --help lists them"},
        {"navigator = hnsw\n", "f.conf:1: navigator: 'hnsw' is none of: auto graph cells"},
        {"io = mmap\n", "f.conf:1: io: 'mmap' is none of: auto uring pread"},
        {"# x\ndram-budget = 12x\n",
         "f.conf:2: dram-budget: '12x' is no budget like 64MiB, 1.5GiB, or 5% (of the vectors as "
         "f32)"},
        {"dram-budget = 5 %\n",
         "f.conf:1: dram-budget: '5 %' is no budget like 64MiB, 1.5GiB, or 5% "
         "(of the vectors as f32)"},
        {"plan-recall = 1\n", "f.conf:1: plan-recall: '1' is no recall like 0.95 or NAME=0.95"},
        {"plan-recall = a=\n", "f.conf:1: plan-recall: 'a=' is no recall like 0.95 or NAME=0.95"},
        {"plan-recall = a/b=.9\n",
         "f.conf:1: plan-recall: 'a/b=.9' is no recall like 0.95 or NAME=0.95"},
        {"plan-recall = .9\nplan-recall = .8\n",
         "f.conf:2: plan-recall: '.8' is the second for the same"},
        {"workers = -1\n", "f.conf:1: workers: '-1' is not a whole number"},
        {"workers = 1000\n", "f.conf:1: workers: '1000' is out of range (0 to 256)"},
        {"http = off\nhttp = off\n", "f.conf:2: http: is given twice"},
        {"listen\n", "f.conf:1: 'listen' is not `key = value`"},
        {"max-message-bytes = 4096\n",
         "f.conf:1: max-message-bytes: '4096' is out of range (64.0 KiB to 256 MiB)"},
        {"drain-timeout = 2000min\n",
         "f.conf:1: drain-timeout: '2000min' is out of range (0 ns to 1 h 00 min)"},
        {"dram_budget = 1GiB\n",
         "f.conf:1: there is no setting 'dram_budget'; did you mean 'dram-budget'?"},
        {"config = other\n", "f.conf:1: config: a file cannot name another one"},
        {"index = /data\n",
         "f.conf:1: index: '/data' is not NAME=DIR (a name has up to 64 letters, digits and ._-)"},
        {"index = a/b=/data\n", "f.conf:1: index: 'a/b=/data' is not NAME=DIR (a name has up to 64 "
                                "letters, digits and ._-)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fathom_error err = {.msg = ""};
        expect_error(config_load_text(&config, cases[i].text, "f.conf", &err), &err,
                     cases[i].message);
    }
}

static void the_environment_wins_over_the_file_and_splits_lists(void **state)
{
    (void)state;
    struct fathom_error err;
    char *environment[] = {"PATH=/bin",
                           "FATHOM_WORKERS=5",
                           "FATHOM_BIN=x",
                           "FATHOM_CPU_MAX=avx2",
                           "FATHOM_INDEX=a=/x,b=/y",
                           "FATHOM_LISTEN=unix:/tmp/s",
                           NULL};
    assert_int_equal(
        config_load_text(&config, "workers = 3\nindex = c=/z\ninflight = 4\n", "f", &err), 0);
    assert_int_equal(config_load_environment(&config, environment, &err), 0);
    assert_int_equal(config.workers, 5);
    assert_int_equal(config.inflight, 4);
    assert_int_equal(config.index_count, 2);
    assert_string_equal(config.indexes[1].name, "b");
    assert_int_equal(config.listen_count, 1);
    assert_string_equal(config.listens[0], "unix:/tmp/s");
}

static void errors_of_the_environment_name_the_variable(void **state)
{
    (void)state;
    struct fathom_error err;
    char *environment[] = {"FATHOM_IDLE_TIMEOUT=soon", NULL};
    expect_error(config_load_environment(&config, environment, &err), &err,
                 "FATHOM_IDLE_TIMEOUT: 'soon' is not a time like 250us, 5ms or 2s");
}

static void variables_that_are_no_setting_are_noted(void **state)
{
    (void)state;
    struct fathom_error err;
    char long_name[300];
    char *environment[] = {"FATHOM_DRAM_BUGET=1GiB",
                           "PATH=/bin",
                           "FATHOM_CPU_MAX=avx2",
                           "FATHOM_",
                           "FATHOM_SERVER=a:1",
                           "FATHOM_=1",
                           "FATHOM_WORKERS=2",
                           long_name,
                           long_name,
                           long_name,
                           long_name,
                           NULL};
    snprintf(long_name, sizeof long_name, "FATHOM_%0250d=x", 1);
    assert_string_equal(config.ignored, "");
    assert_int_equal(config_load_environment(&config, environment, &err), 0);
    assert_int_equal(config.workers, 2);
    assert_memory_equal(config.ignored, "FATHOM_DRAM_BUGET, FATHOM_, FATHOM_000", 38);
    assert_int_equal(strlen(config.ignored), sizeof config.ignored - 1);
}

static void flags_win_over_all(void **state)
{
    (void)state;
    char *environment[] = {"FATHOM_WORKERS=5", "FATHOM_INDEX=a=/x", "FATHOM_INFLIGHT=7", NULL};
    char *argv[] = {"fathom-server", "--workers", "2", "--index=d=/w", "--index", "e=/v", NULL};
    assert_int_equal(config_load(&config, 6, argv, environment), 0);
    assert_int_equal(config.workers, 2);
    assert_int_equal(config.inflight, 7);
    assert_int_equal(config.index_count, 2);
    assert_string_equal(config.indexes[0].name, "d");
}

static void a_server_needs_an_index_and_names_once(void **state)
{
    (void)state;
    struct fathom_error err;
    assert_true(config_check(&config, &err) < 0);
    assert_int_equal(config_load_text(&config, "index = a=/x\nindex = a=/y\n", "f", &err), 0);
    expect_error(config_check(&config, &err), &err, "index: two are named a");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

static const struct CMUnitTest tests[] = {
    CASE(the_defaults_are_the_documented_ones),
    CASE(a_file_sets_every_kind_of_value),
    CASE(a_budget_may_be_a_share),
    CASE(a_planned_recall_is_of_all_indexes_or_of_one),
    CASE(a_planned_recall_of_an_unknown_index_is_refused),
    CASE(errors_of_a_file_name_file_line_and_key),
    CASE(the_environment_wins_over_the_file_and_splits_lists),
    CASE(errors_of_the_environment_name_the_variable),
    CASE(variables_that_are_no_setting_are_noted),
    CASE(flags_win_over_all),
    CASE(a_server_needs_an_index_and_names_once),
};

FATHOM_TEST_MAIN(tests)
