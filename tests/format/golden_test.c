/* The golden indexes by today's library: they open, verify, and give the answers that they gave
 * when they were written. */
#include "fathom_test.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "folder.h"
#include "index.h"

static const char *const folders[] = {"l2-u8", "cos-f32", "ip-i8", "l2-u8-parts", "l2-u8-held"};
#define FOLDERS (sizeof folders / sizeof folders[0])

static void golden_dir(const char *folder, char out[FOLDER_PATH_MAX])
{
    const char *source = getenv("FATHOM_SOURCE");
    assert_non_null(source);
    int length = snprintf(out, FOLDER_PATH_MAX, "%s/tests/format/golden/%s", source, folder);
    assert_in_range(length, 1, FOLDER_PATH_MAX - 1);
}

static json_t *golden_answers(const char *dir)
{
    char path[FOLDER_PATH_MAX];
    json_error_t error;
    folder_name(dir, "answers.json", path);
    json_t *answers = json_load_file(path, 0, &error);
    if (!answers)
        fail_msg("%s: line %d: %s", path, error.line, error.text);
    return answers;
}

static uint32_t number(const json_t *answers, const char *key)
{
    return (uint32_t)json_integer_value(json_object_get(answers, key));
}

static json_t *cell(const json_t *answers, const char *key, size_t row, size_t column)
{
    return json_array_get(json_array_get(json_object_get(answers, key), row), column);
}

/* ---- */

static void check_info(const struct fathom_index *index, const json_t *answers)
{
    struct fathom_index_info info;
    fathom_index_get_info(index, &info);
    assert_int_equal(info.format_version, 3);
    assert_int_equal(info.rows, number(answers, "rows"));
    assert_int_equal(info.dim, number(answers, "dim"));
    assert_string_equal(fathom_dtype_name(info.dtype),
                        json_string_value(json_object_get(answers, "dtype")));
    assert_string_equal(fathom_metric_name(info.metric),
                        json_string_value(json_object_get(answers, "metric")));
}

static void check_query(struct fathom_engine *engine, const struct fathom_index *index,
                        const json_t *answers, size_t q)
{
    uint32_t dim = number(answers, "dim"), k = number(answers, "k");
    float vector[64], distances[16];
    uint64_t ids[16];
    struct fathom_error err = {0};
    struct fathom_query query = fathom_query_default();
    assert_true(dim <= 64 && k <= 16);
    for (uint32_t d = 0; d < dim; d++)
        vector[d] = (float)json_number_value(cell(answers, "queries", q, d));
    query.vector = vector;
    query.dim = dim;
    query.k = k;
    query.search_list = number(answers, "rows"); /* all of them: nothing may be missed */
    query.exact_distances = true;
    if (fathom_search(engine, index, &query, ids, distances, NULL, &err) != (int)k)
        fail_msg("query %zu: %s", q, err.msg);
    for (uint32_t i = 0; i < k; i++) {
        double wanted = json_number_value(cell(answers, "distances", q, i));
        assert_int_equal(ids[i], json_integer_value(cell(answers, "ids", q, i)));
        if (fabs(distances[i] - wanted) > 1e-4 * fmax(fabs(wanted), 1e-2))
            fail_msg("query %zu, result %u: %.8g, not %.8g", q, i, (double)distances[i], wanted);
    }
}

/* At each residency: the rows, and every size of code, by either navigator. */
static void check_folder(const char *folder, struct fathom_engine *engine)
{
    char dir[FOLDER_PATH_MAX];
    uint32_t sizes[PLANES_LEVELS_MAX + 1] = {0}, count = 1;
    golden_dir(folder, dir);
    json_t *answers = golden_answers(dir);
    for (uint32_t i = 0; i < count; i++)
        for (int navigator = FATHOM_NAVIGATOR_GRAPH; navigator <= FATHOM_NAVIGATOR_CELLS;
             navigator++) {
            struct fathom_open_options options = fathom_open_options_default();
            struct fathom_index *index;
            struct fathom_error err = {0};
            options.navigator = navigator;
            options.code_bytes = sizes[i];
            if (fathom_index_open(&index, dir, &options, &err) != 0)
                fail_msg("%s", err.msg);
            check_info(index, answers);
            for (count = 1; count <= index->level_count; count++)
                sizes[count] = index->level_bytes[count - 1];
            /* Short codes may leave a row out that they take for far: the longest half must not. */
            for (size_t q = 0; (i == 0 || i > count / 2) &&
                               q < json_array_size(json_object_get(answers, "queries"));
                 q++)
                check_query(engine, index, answers, q);
            fathom_index_close(index);
        }
    json_decref(answers);
}

static void golden_indexes_give_their_answers(void **state)
{
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 1);
    (void)state;
    for (size_t i = 0; i < FOLDERS; i++)
        check_folder(folders[i], engine);
    fathom_engine_destroy(engine);
}

static void golden_indexes_verify(void **state)
{
    (void)state;
    for (size_t i = 0; i < FOLDERS; i++) {
        char dir[FOLDER_PATH_MAX];
        struct fathom_error err = {0};
        struct fathom_verify_report report;
        golden_dir(folders[i], dir);
        if (fathom_verify(dir, true, &report, NULL, NULL, &err) != 0)
            fail_msg("%s", err.msg);
        assert_true(report.pages > 10 && report.references > 100);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(golden_indexes_give_their_answers),
    cmocka_unit_test(golden_indexes_verify),
};

FATHOM_TEST_MAIN(tests)
