/* Writers and truth sets: what is written is read back, nothing unfinished is ever found under its
 * name. */
#include "datasets_support.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "mem.h"
#include "truth.h"
#include "vector_writer.h"

#define ROWS 300
#define DIM  5

static void round_trip(void *state, const char *name, enum fathom_dtype dtype)
{
    char path[SCRATCH_PATH_MAX];
    uint8_t data[ROWS * DIM * 4], back[sizeof data];
    size_t row_bytes = DIM * fathom_dtype_bytes(dtype);
    struct vector_writer *writer;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = pattern_at(i);
    scratch_name(state, name, path);
    unlink(path);
    assert_int_equal(vector_writer_open(&writer, env_os(), path, ROWS, DIM, dtype, NULL), 0);
    assert_int_equal(vector_writer_write(writer, data, 100, NULL), 0);
    assert_int_equal(vector_writer_write(writer, data + 100 * row_bytes, ROWS - 100, NULL), 0);
    assert_false(path_exists(path));
    assert_int_equal(vector_writer_finish(writer, NULL), 0);
    vector_writer_close(writer);
    struct vector_file *file = vectors_open_ok(path);
    assert_int_equal(vector_file_info(file).rows, ROWS);
    assert_int_equal(vector_file_info(file).dim, DIM);
    assert_int_equal(vector_file_info(file).dtype, dtype);
    assert_int_equal(vector_file_read(file, 0, ROWS, back, NULL), 0);
    assert_memory_equal(back, data, ROWS * row_bytes);
    vector_file_close(file);
}

static void every_format_round_trips(void **state)
{
    round_trip(*state, "a.fvecs", FATHOM_F32);
    round_trip(*state, "a.bvecs", FATHOM_U8);
    round_trip(*state, "a.fbin", FATHOM_F32);
    round_trip(*state, "a.f16bin", FATHOM_F16);
    round_trip(*state, "a.i8bin", FATHOM_I8);
    round_trip(*state, "a.u8bin", FATHOM_U8);
    for (int dtype = FATHOM_F32; dtype <= FATHOM_U8; dtype++)
        round_trip(*state, "a.npy", (enum fathom_dtype)dtype);
    assert_int_equal(names_with(((struct scratch *)*state)->dir, ".tmp-"), 0);
}

static void ids_round_trip_as_ivecs(void **state)
{
    char path[SCRATCH_PATH_MAX];
    int32_t ids[4] = {1, 2, 3, -4};
    int64_t back[4];
    struct vector_writer *writer;
    struct vector_file *file;
    scratch_name(*state, "a.ivecs", path);
    assert_int_equal(vector_writer_open_i32(&writer, env_os(), path, 2, 2, NULL), 0);
    assert_int_equal(vector_writer_write(writer, ids, 2, NULL), 0);
    assert_int_equal(vector_writer_finish(writer, NULL), 0);
    vector_writer_close(writer);
    assert_int_equal(vector_file_open_integers(&file, env_os(), path, NULL, NULL), 0);
    assert_int_equal(vector_file_read_i64(file, 0, 2, back, NULL), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(back[i], ids[i]);
    vector_file_close(file);
}

static void a_type_that_the_format_cannot_hold_is_refused(void **state)
{
    static const struct {
        const char *path;
        enum fathom_dtype dtype;
        int code;
    } cases[] = {
        {"a.fbin", FATHOM_U8, FATHOM_EARGUMENT},   {"a.u8bin", FATHOM_I8, FATHOM_EARGUMENT},
        {"a.ivecs", FATHOM_F32, FATHOM_EARGUMENT}, {"a.hdf5", FATHOM_F32, FATHOM_EARGUMENT},
        {"a.txt", FATHOM_F32, FATHOM_EARGUMENT},   {"a.npy", FATHOM_F16, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fathom_error err = {0};
        assert_int_equal(vector_writer_check(cases[i].path, cases[i].dtype, &err), cases[i].code);
        assert_true(!cases[i].code || message_has(&err, cases[i].path));
    }
}

static void an_unfinished_file_is_never_published(void **state)
{
    char path[SCRATCH_PATH_MAX];
    uint8_t row[DIM] = {0};
    struct vector_writer *writer;
    struct fathom_error err = {0};
    scratch_name(*state, "a.u8bin", path);
    assert_int_equal(vector_writer_open(&writer, env_os(), path, 2, DIM, FATHOM_U8, NULL), 0);
    assert_int_equal(vector_writer_write(writer, row, 1, NULL), 0);
    assert_int_equal(vector_writer_finish(writer, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "1 rows written of 2"));
    assert_int_equal(vector_writer_write(writer, row, 2, &err), FATHOM_EARGUMENT);
    vector_writer_close(writer);
    assert_int_equal(names_with(((struct scratch *)*state)->dir, "a.u8bin"), 0);
}

static void debris_of_dead_runs_is_removed_and_of_living_ones_kept(void **state)
{
    char path[SCRATCH_PATH_MAX], dead[SCRATCH_PATH_MAX], alive[SCRATCH_PATH_MAX],
        other[SCRATCH_PATH_MAX], foreign[SCRATCH_PATH_MAX];
    char name[64];
    struct vector_writer *writer;
    scratch_name(*state, "a.u8bin", path);
    scratch_name(*state, "a.u8bin.tmp-99999999", dead); /* above the highest pid there can be */
    snprintf(name, sizeof name, "a.u8bin.tmp-%d", (int)getppid());
    scratch_name(*state, name, alive);
    scratch_name(*state, "b.u8bin.tmp-99999999", other);
    scratch_name(*state, "a.u8bin.tmp-99999999x", foreign);
    text_write(dead, "dead");
    text_write(alive, "alive");
    text_write(other, "other");
    text_write(foreign, "no pid");
    assert_int_equal(vector_writer_open(&writer, env_os(), path, 1, DIM, FATHOM_U8, NULL), 0);
    vector_writer_close(writer);
    assert_false(path_exists(dead));
    assert_true(path_exists(alive));
    assert_true(path_exists(other));
    assert_true(path_exists(foreign));
}

/* A rename would put a file in the place of any of them. */
static void what_is_no_file_is_not_replaced(void **state)
{
    char target[SCRATCH_PATH_MAX], path[SCRATCH_PATH_MAX];
    static const char *const names[] = {"link.u8bin", "fifo.u8bin", "folder.u8bin"};
    static const char *const said[] = {"symbolic link", "an output is a file",
                                       "an output is a file"};
    scratch_name(*state, "target", target);
    text_write(target, "old");
    for (int i = 0; i < 3; i++) {
        struct fathom_error err = {0};
        struct vector_writer *writer;
        scratch_name(*state, names[i], path);
        int rc = i == 0 ? symlink(target, path) : i == 1 ? mkfifo(path, 0600) : mkdir(path, 0700);
        assert_int_equal(rc, 0);
        assert_int_equal(vector_writer_open(&writer, env_os(), path, 1, DIM, FATHOM_U8, &err),
                         -EEXIST);
        assert_true(message_has(&err, names[i]) && message_has(&err, said[i]));
        assert_int_equal(i == 2 ? rmdir(path) : unlink(path), 0);
    }
    text_assert(target, "old");
    assert_int_equal(names_with(((struct scratch *)*state)->dir, ".tmp-"), 0);
}

/* The whole of writing, under a fault plan; returns the code. */
static int write_under(const struct env *env, const char *path, struct fathom_error *err)
{
    uint8_t row[DIM] = {1, 2, 3, 4, 5};
    struct vector_writer *writer;
    int rc = vector_writer_open(&writer, env, path, 2, DIM, FATHOM_U8, err);
    if (!rc)
        rc = vector_writer_write(writer, row, 1, err);
    if (!rc)
        rc = vector_writer_write(writer, row, 1, err);
    if (!rc)
        rc = vector_writer_finish(writer, err);
    vector_writer_close(writer);
    return rc;
}

static void a_fault_at_any_operation_leaves_the_old_file_or_the_new_one(void **state)
{
    static const char *const kinds[] = {"op=%d:ENOSPC", "op=%d+:EIO", "op=%d:EINTR",
                                        "op=%d:short=3"};
    struct scratch *scratch = *state;
    char path[SCRATCH_PATH_MAX];
    scratch_name(scratch, "a.u8bin", path);
    unsigned fds = open_fds();
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        for (int n = 1;; n++) {
            char plan[32];
            struct fault_env fault;
            struct fathom_error err = {0};
            text_write(path, "old");
            snprintf(plan, sizeof plan, kinds[kind], n);
            assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
            int rc = write_under(&fault.env, path, &err);
            assert_int_equal(open_fds(), fds);
            /* A persistent fault also keeps the temporary file from being removed; the next run
             * does that. */
            if (kind != 1)
                assert_int_equal(names_with(scratch->dir, ".tmp-"), 0);
            if (rc && file_size(path) == 3)
                text_assert(path, "old");
            else
                assert_int_equal(file_size(path), 8 + 2 * DIM);
            assert_true(rc == 0 || message_has(&err, "a.u8bin"));
            if (!fault_fired(&fault)) {
                assert_int_equal(rc, 0);
                assert_int_equal(names_with(scratch->dir, ".tmp-"), 0);
                assert_true(n > 5);
                break;
            }
        }
    }
}

static bool fail_nth(void *context)
{
    return --*(int *)context == 0;
}

static void failed_allocations_are_errors_and_leak_nothing(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct fathom_error err = {0};
    scratch_name(*state, "a.u8bin", path);
    for (int n = 1;; n++) {
        int left = n;
        mem_set_fault(fail_nth, &left);
        int rc = write_under(env_os(), path, &err);
        mem_set_fault(NULL, NULL);
        if (left > 0)
            break;
        assert_true(rc == -ENOMEM || rc == 0); /* removing debris may be left to the next run */
    }
    struct vector_file *file;
    for (int n = 1;; n++) {
        int left = n;
        mem_set_fault(fail_nth, &left);
        int rc = vector_file_open(&file, env_os(), path, NULL, &err);
        mem_set_fault(NULL, NULL);
        vector_file_close(file);
        if (left > 0) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
    }
}

/* ---- truth sets ---- */

static struct truth *make_truth(void)
{
    struct truth *truth;
    assert_int_equal(truth_create(&truth, 2, 3, NULL), 0);
    for (int i = 0; i < 5; i++) {
        truth->ids[i] = (uint64_t)(10 + i);
        truth->distances[i] = (float)i / 4;
    }
    return truth;
}

static void truth_sets_round_trip_with_narrow_and_wide_ids(void **state)
{
    char path[SCRATCH_PATH_MAX];
    scratch_name(*state, "gt.bin", path);
    for (int wide = 0; wide < 2; wide++) {
        struct truth *truth = make_truth(), *back;
        truth->ids64 = wide;
        if (wide)
            truth->ids[0] = 1ull << 40;
        assert_int_equal(truth_write(truth, env_os(), path, NULL), 0);
        assert_int_equal(file_size(path), 8 + 6 * (wide ? 12 : 8));
        assert_int_equal(truth_read(&back, env_os(), path, 0, NULL), 0);
        assert_int_equal(back->query_count, 2);
        assert_int_equal(back->k, 3);
        assert_int_equal(back->ids64, wide);
        assert_memory_equal(back->ids, truth->ids, 6 * sizeof *truth->ids);
        assert_memory_equal(back->distances, truth->distances, 6 * sizeof *truth->distances);
        assert_true(back->ids[5] == FATHOM_ID_NONE && isinf(back->distances[5]));
        truth_destroy(back);
        truth_destroy(truth);
    }
}

static void a_wide_id_does_not_fit_in_a_narrow_set(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct truth *truth = make_truth();
    struct fathom_error err = {0};
    scratch_name(*state, "gt.bin", path);
    truth->ids[0] = UINT32_MAX;
    assert_int_equal(truth_write(truth, env_os(), path, &err), FATHOM_ELIMIT);
    assert_true(message_has(&err, "--ids64"));
    assert_int_equal(names_with(((struct scratch *)*state)->dir, "gt.bin"), 0);
    truth_destroy(truth);
}

static void damaged_truth_sets_are_refused(void **state)
{
    struct bytes bytes = {0};
    struct truth *truth;
    struct fathom_error err = {0};
    const float distances[4] = {0, 1, 2, NAN};
    bytes_add_u32(&bytes, 2);
    bytes_add_u32(&bytes, 2);
    for (uint32_t i = 0; i < 4; i++)
        bytes_add_u32(&bytes, i);
    bytes_add(&bytes, distances, sizeof distances);
    for (size_t length = 0; length < bytes.count; length++)
        assert_int_equal(truth_read(&truth, env_os(),
                                    bytes_write_part(&bytes, length, *state, "gt.bin"), 0, NULL),
                         FATHOM_EINPUT);
    const char *path = bytes_write_part(&bytes, bytes.count, *state, "gt.bin");
    assert_int_equal(truth_read(&truth, env_os(), path, 0, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "query 1, place 1: the distance is NaN"));
    assert_int_equal(truth_read(&truth, env_os(), path, 2, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "query 1, place 0: id 2 is not one of the 2 rows"));
    memset(bytes.data + bytes.count - 4, 0, 4);
    for (int extra = 1; extra <= 4; extra++) {
        bytes_add(&bytes, "\0", 1);
        path = bytes_write_part(&bytes, bytes.count, *state, "gt.bin");
        assert_int_equal(truth_read(&truth, env_os(), path, 0, &err), FATHOM_EINPUT);
        assert_true(message_has(&err, "not a truth set"));
    }
    bytes.count = 0;
    bytes_add_u32(&bytes, UINT32_MAX);
    bytes_add_u32(&bytes, UINT32_MAX);
    bytes_add_u32(&bytes, 0);
    assert_int_equal(truth_read(&truth, env_os(), bytes_write(&bytes, *state, "gt.bin"), 0, &err),
                     FATHOM_EINPUT);
    bytes_add_u32(&bytes, 0);
    bytes_add_u32(&bytes, 10);
    assert_int_equal(truth_read(&truth, env_os(), bytes_write(&bytes, *state, "gt.bin"), 0, &err),
                     FATHOM_EINPUT);
}

static void an_ivecs_file_is_a_truth_set_without_distances(void **state)
{
    struct bytes bytes = {0};
    struct truth *truth;
    struct fathom_error err = {0};
    for (uint32_t i = 0; i < 2; i++) {
        bytes_add_u32(&bytes, 2);
        bytes_add_u32(&bytes, i);
        bytes_add_u32(&bytes, 5 + i);
    }
    const char *path = bytes_write_part(&bytes, bytes.count, *state, "gt.ivecs");
    assert_int_equal(truth_read(&truth, env_os(), path, 7, NULL), 0);
    assert_null(truth->distances);
    assert_int_equal(truth->ids[3], 6);
    assert_int_equal(truth_write(truth, env_os(), "unused", &err), FATHOM_EARGUMENT);
    truth_destroy(truth);
    memset(bytes.data + 8, 0xfe, 4);
    path = bytes_write(&bytes, *state, "gt.ivecs");
    assert_int_equal(truth_read(&truth, env_os(), path, 0, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "query 0, place 1") && message_has(&err, "negative"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_format_round_trips, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(ids_round_trip_as_ivecs, scratch_make, scratch_remove),
        cmocka_unit_test(a_type_that_the_format_cannot_hold_is_refused),
        cmocka_unit_test_setup_teardown(an_unfinished_file_is_never_published, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(debris_of_dead_runs_is_removed_and_of_living_ones_kept,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_not_replaced, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(a_fault_at_any_operation_leaves_the_old_file_or_the_new_one,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(failed_allocations_are_errors_and_leak_nothing,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(truth_sets_round_trip_with_narrow_and_wide_ids,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(a_wide_id_does_not_fit_in_a_narrow_set, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(damaged_truth_sets_are_refused, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(an_ivecs_file_is_a_truth_set_without_distances,
                                        scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
