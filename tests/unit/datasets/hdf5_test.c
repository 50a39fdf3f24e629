/* HDF5 in the layout of ann-benchmarks. Files are made with the HDF5 library, read with ours. */
#include "datasets_support.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "truth.h"

/* Adds a data set of native type `memory`, stored as `stored`. */
static void add_dataset(hid_t file, const char *name, hid_t stored, hid_t memory, int axes,
                        const hsize_t *shape, const void *data)
{
    hid_t space = H5Screate_simple(axes, shape, NULL);
    hid_t dataset = H5Dcreate2(file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(dataset >= 0);
    assert_true(H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
}

static const float train[4][3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {-1, -2, -3}};
static const float test[2][3] = {{0.5f, 0, 0}, {0, 0.25f, 0}};
static const int neighbors[2][2] = {{0, 1}, {3, -1}};
static const float distances[2][2] = {{0.1f, 0.2f}, {0.3f, 1e30f}};

static const char *make_file(void *state)
{
    static char path[SCRATCH_PATH_MAX];
    scratch_name(state, "set.hdf5", path);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    hsize_t train_shape[] = {4, 3}, test_shape[] = {2, 3}, pairs[] = {2, 2}, flat[] = {6};
    add_dataset(file, "train", H5T_IEEE_F32BE, H5T_NATIVE_FLOAT, 2, train_shape, train);
    add_dataset(file, "test", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, test_shape, test);
    add_dataset(file, "neighbors", H5T_STD_I32LE, H5T_NATIVE_INT, 2, pairs, neighbors);
    add_dataset(file, "distances", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, pairs, distances);
    add_dataset(file, "flat", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, flat, test);
    add_dataset(file, "wide", H5T_IEEE_F64LE, H5T_NATIVE_FLOAT, 2, test_shape, test);
    H5Fclose(file);
    return path;
}

static void train_is_the_default_and_a_name_chooses_another(void **state)
{
    const char *path = make_file(*state);
    float out[6];
    struct vector_file *file = vectors_open_ok(path);
    assert_int_equal(vector_file_info(file).rows, 4);
    assert_int_equal(vector_file_info(file).dtype, FATHOM_F32);
    assert_int_equal(vector_file_read_f32(file, 1, 2, out, NULL), 0);
    assert_memory_equal(out, train[1], sizeof out);
    vector_file_close(file);

    char named[SCRATCH_PATH_MAX + 8];
    snprintf(named, sizeof named, "%s::test", path);
    file = vectors_open_ok(named);
    assert_int_equal(vector_file_info(file).rows, 2);
    assert_int_equal(vector_file_read_f32(file, 0, 2, out, NULL), 0);
    assert_memory_equal(out, test, sizeof out);
    vector_file_close(file);

    assert_int_equal(vector_file_open(&file, env_os(), path, "test", NULL), 0);
    assert_int_equal(vector_file_info(file).rows, 2);
    vector_file_close(file);
}

static void what_is_no_table_of_vectors_is_refused(void **state)
{
    static const struct {
        const char *dataset, *part;
    } cases[] = {
        {"nothing",
         "has no data set 'nothing'; it has: distances, flat, neighbors, test, train, wide"},
        {"flat", "has 1 axes"},
        {"wide", "none of f32"},
        {"neighbors", "ids and not vectors"},
    };
    const char *path = make_file(*state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct vector_file *file;
        struct fathom_error err = {0};
        assert_int_equal(vector_file_open(&file, env_os(), path, cases[i].dataset, &err),
                         FATHOM_EINPUT);
        if (!message_has(&err, cases[i].part))
            fail_msg("'%s' is not in: %s", cases[i].part, err.msg);
    }
}

static void truncated_and_foreign_files_are_refused(void **state)
{
    struct bytes bytes = {0};
    bytes_add_text(&bytes, "not an HDF5 file at all");
    assert_refused(bytes_write(&bytes, *state, "x.h5"), FATHOM_EINPUT, "x.h5", "not HDF5");
    const char *path = make_file(*state);
    FILE *file = fopen(path, "rb");
    uint8_t data[1024];
    assert_int_equal(fread(data, 1, sizeof data, file), sizeof data);
    fclose(file);
    bytes_add(&bytes, data, sizeof data);
    assert_refused(bytes_write(&bytes, *state, "y.hdf5"), FATHOM_EINPUT, "y.hdf5", "truncated");
    char missing[SCRATCH_PATH_MAX];
    scratch_name(*state, "none.hdf5", missing);
    assert_refused(missing, -ENOENT, "none.hdf5", "");
}

static void neighbors_and_distances_are_a_truth_set(void **state)
{
    struct truth *truth;
    struct fathom_error err = {0};
    const char *path = make_file(*state);
    if (truth_read(&truth, env_os(), path, 4, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(truth->query_count, 2);
    assert_int_equal(truth->k, 2);
    assert_int_equal(truth->ids[2], 3);
    assert_true(truth->ids[3] == FATHOM_ID_NONE);
    assert_non_null(truth->distances);
    assert_true(truth->distances[1] == 0.2f);
    truth_destroy(truth);
    assert_int_equal(truth_read(&truth, env_os(), path, 3, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "query 1, place 0: id 3 is not one of the 3 rows"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(train_is_the_default_and_a_name_chooses_another,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(what_is_no_table_of_vectors_is_refused, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(truncated_and_foreign_files_are_refused, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(neighbors_and_distances_are_a_truth_set, scratch_make,
                                        scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
