/* Recall against a truth set: ties are right, repeated ids count once, short truth rows are held to
 * what they have; and files that do not belong together are refused. */
#include "fathom_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "workload.h"

#define NONE FATHOM_ID_NONE

/* A workload of one query with a truth row of five, k = 3. */
static double recall_of(uint64_t *truth_ids, float *truth_distances, uint64_t *ids)
{
    struct truth truth = {.query_count = 1, .k = 5, .ids = truth_ids, .distances = truth_distances};
    struct workload workload = {.query_count = 1, .k = 3, .truth = &truth};
    uint8_t answered = 1;
    return workload_recall(&workload, ids, &answered);
}

static void what_is_found_is_counted_in_any_order(void **state)
{
    (void)state;
    uint64_t truth[] = {1, 2, 3, 4, 5};
    float distances[] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
    assert_true(recall_of(truth, distances, (uint64_t[]){3, 1, 2}) == 1);
    assert_true(fabs(recall_of(truth, distances, (uint64_t[]){3, 4, 2}) - 2.0 / 3) < 1e-9);
    assert_true(recall_of(truth, distances, (uint64_t[]){7, 8, 9}) == 0);
    assert_true(fabs(recall_of(truth, distances, (uint64_t[]){1, NONE, NONE}) - 1.0 / 3) < 1e-9);
}

static void ties_with_the_last_place_are_right(void **state)
{
    (void)state;
    uint64_t truth[] = {1, 2, 3, 4, 5};
    float distances[] = {0.1f, 0.2f, 0.3f, 0.3f, 0.4f};
    assert_true(recall_of(truth, distances, (uint64_t[]){1, 2, 4}) == 1);
    assert_true(fabs(recall_of(truth, distances, (uint64_t[]){1, 2, 5}) - 2.0 / 3) < 1e-9);
    /* Those that tie do not make up for one that is nearer and missing. */
    float all_tie[] = {0.1f, 0.3f, 0.3f, 0.3f, 0.3f};
    assert_true(recall_of(truth, all_tie, (uint64_t[]){1, 4, 5}) == 1);
    assert_true(fabs(recall_of(truth, all_tie, (uint64_t[]){2, 3, 4}) - 2.0 / 3) < 1e-9);
    /* Without distances nothing ties. */
    assert_true(fabs(recall_of(truth, NULL, (uint64_t[]){1, 2, 4}) - 2.0 / 3) < 1e-9);
}

static void an_id_that_is_returned_twice_counts_once(void **state)
{
    (void)state;
    uint64_t truth[] = {1, 2, 3, 4, 5};
    float distances[] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
    assert_true(fabs(recall_of(truth, distances, (uint64_t[]){1, 1, 1}) - 1.0 / 3) < 1e-9);
}

static void a_short_truth_row_is_held_to_what_it_has(void **state)
{
    (void)state;
    uint64_t truth[] = {1, 2, NONE, NONE, NONE};
    float distances[] = {0.1f, 0.2f, INFINITY, INFINITY, INFINITY};
    assert_true(recall_of(truth, distances, (uint64_t[]){2, 1, NONE}) == 1);
    assert_true(recall_of(truth, distances, (uint64_t[]){2, NONE, NONE}) == 0.5);
}

static void queries_without_an_answer_do_not_count(void **state)
{
    (void)state;
    uint64_t truth_ids[] = {1, 2};
    struct truth truth = {.query_count = 2, .k = 1, .ids = truth_ids};
    struct workload workload = {.query_count = 2, .k = 1, .truth = &truth};
    uint64_t ids[] = {9, 2};
    assert_true(workload_recall(&workload, ids, (uint8_t[]){1, 1}) == 0.5);
    assert_true(workload_recall(&workload, ids, (uint8_t[]){0, 1}) == 1);
    assert_true(workload_recall(&workload, ids, (uint8_t[]){0, 0}) < 0);
    workload.truth = NULL;
    assert_true(workload_recall(&workload, ids, (uint8_t[]){1, 1}) < 0);
}

/* ---- files ---- */

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/fathom-bench-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static const char *write_file(const char *name, const void *data, size_t bytes)
{
    static char path[4][128];
    static unsigned next;
    char *out = path[next++ % 4];
    snprintf(out, 128, "%s/%s", folder, name);
    FILE *file = fopen(out, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    return out;
}

static const char *write_queries(void) /* 2 x 3, f32 */
{
    struct {
        uint32_t rows, dim;
        float scalars[6];
    } file = {2, 3, {1, 2, 3, 4, 5, 6}};
    return write_file("query.fbin", &file, sizeof file);
}

static const char *write_truth(uint32_t queries, const char *name)
{
    struct {
        uint32_t queries, k, ids[6];
        float distances[6];
    } file = {queries, 2, {0, 1, 2, 3, 0, 0}, {0}};
    size_t bytes = 8 + queries * 2 * 4;
    memmove((char *)&file + bytes, file.distances, queries * 2 * 4);
    return write_file(name, &file, 8 + queries * 2 * 8);
}

static void queries_and_truth_are_read(void **state)
{
    (void)state;
    struct fathom_error err = {0};
    struct workload workload;
    assert_int_equal(workload_open(&workload, env_os(), write_queries(), write_truth(2, "gt.bin"),
                                   NULL, 2, &err),
                     0);
    assert_int_equal(workload.query_count, 2);
    assert_int_equal(workload.dim, 3);
    assert_int_equal(workload.dtype, FATHOM_F32);
    assert_true(((const float *)workload_vector(&workload, 1))[2] == 6);
    assert_int_equal(workload.truth->ids[3], 3);
    workload_close(&workload);
}

static void truth_for_other_queries_is_refused(void **state)
{
    (void)state;
    struct fathom_error err = {0};
    struct workload workload;
    assert_int_equal(workload_open(&workload, env_os(), write_queries(), write_truth(3, "gt3.bin"),
                                   NULL, 2, &err),
                     FATHOM_EARGUMENT);
    assert_non_null(strstr(err.msg, "gt3.bin"));
    assert_null(workload.vectors);
}

static void truth_with_too_few_neighbours_is_refused(void **state)
{
    (void)state;
    struct fathom_error err = {0};
    struct workload workload;
    assert_int_equal(workload_open(&workload, env_os(), write_queries(), write_truth(2, "gt.bin"),
                                   NULL, 3, &err),
                     FATHOM_EARGUMENT);
    assert_non_null(strstr(err.msg, "--k 3"));
}

/* .ivecs: per row an i32 dim, then that many i32. One id a row. */
static const char *write_ids(unsigned count)
{
    int32_t table[8][2];
    for (unsigned i = 0; i < count; i++) {
        table[i][0] = 1;
        table[i][1] = 100 + (int32_t)i;
    }
    return write_file("ids.ivecs", table, count * sizeof table[0]);
}

static void row_numbers_become_external_ids(void **state)
{
    (void)state;
    struct fathom_error err = {0};
    struct workload workload;
    int status = workload_open(&workload, env_os(), write_queries(), write_truth(2, "gt.bin"),
                               write_ids(4), 2, &err);
    assert_int_equal(status, 0);
    assert_int_equal(workload.truth->ids[0], 100);
    assert_int_equal(workload.truth->ids[3], 103);
    workload_close(&workload);
    status = workload_open(&workload, env_os(), write_queries(), write_truth(2, "gt.bin"),
                           write_file("ids.txt", "7\n8\n9\n18446744073709551614\n", 27), 2, &err);
    assert_int_equal(status, 0);
    assert_int_equal(workload.truth->ids[0], 7);
    assert_true(workload.truth->ids[3] == UINT64_MAX - 1);
    workload_close(&workload);
    status = workload_open(&workload, env_os(), write_queries(), write_truth(2, "gt.bin"),
                           write_ids(3), 2, &err);
    assert_int_equal(status, FATHOM_EARGUMENT);
    assert_non_null(strstr(err.msg, "row 3"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_is_found_is_counted_in_any_order),
    cmocka_unit_test(ties_with_the_last_place_are_right),
    cmocka_unit_test(an_id_that_is_returned_twice_counts_once),
    cmocka_unit_test(a_short_truth_row_is_held_to_what_it_has),
    cmocka_unit_test(queries_without_an_answer_do_not_count),
    cmocka_unit_test_setup_teardown(queries_and_truth_are_read, make_folder, remove_folder),
    cmocka_unit_test_setup_teardown(truth_for_other_queries_is_refused, make_folder, remove_folder),
    cmocka_unit_test_setup_teardown(truth_with_too_few_neighbours_is_refused, make_folder,
                                    remove_folder),
    cmocka_unit_test_setup_teardown(row_numbers_become_external_ids, make_folder, remove_folder),
};

FATHOM_TEST_MAIN(tests)
