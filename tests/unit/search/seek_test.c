/* The neighbours that measuring is judged by: sixteen of a sample at a time, and most rows put
 * aside in single precision, find what all distances find. */
#include "fathom_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "navigate.h"
#include "points_sample.h"
#include "small_index.h"

#define ROWS   3000
#define DIM    24
#define SAMPLE 37 /* two panels and some */

static struct points_sample sample_of(const struct fathom_index *index)
{
    struct points_sample sample = {.count = SAMPLE, .dim = DIM, .truth_count = SAMPLE_TRUTH};
    struct points_reader reader;
    sample.rows = mem_alloc_array(SAMPLE, sizeof *sample.rows);
    sample.vectors = mem_alloc_array((size_t)SAMPLE * DIM, sizeof *sample.vectors);
    sample.truth = mem_alloc_array((size_t)SAMPLE * SAMPLE_TRUTH, sizeof *sample.truth);
    assert_int_equal(points_reader_init(&reader, index), 0);
    for (uint32_t i = 0; i < SAMPLE; i++) {
        sample.rows[i] = i * (ROWS / SAMPLE);
        assert_int_equal(
            points_reader_load(&reader, sample.rows[i], sample.vectors + (size_t)i * DIM, NULL), 0);
    }
    points_reader_fini(&reader);
    for (size_t i = 0; i < (size_t)SAMPLE * SAMPLE_TRUTH; i++)
        sample.truth[i] = (struct sample_neighbour){.row = UINT32_MAX, .distance = INFINITY};
    return sample;
}

/* In two pieces, by all workers. */
static void seek_all(struct points_sample *sample, const struct fathom_index *index,
                     unsigned threads)
{
    struct points_seek *seek;
    struct points_reader reader;
    const uint32_t cut = ROWS / 3;
    const struct record_piece pieces[2] = {
        {.rows = index->rows8, .first = 0, .count = cut},
        {.rows = index->rows8 + (size_t)cut * index->records->row_bytes,
         .first = cut,
         .count = ROWS - cut}};
    assert_int_equal(points_reader_init(&reader, index), 0);
    assert_int_equal(points_seek_create(&seek, sample, index, threads), 0);
    for (uint32_t i = 0; i < SAMPLE; i++)
        points_seek_set(seek, &reader, i);
    for (unsigned p = 0; p < 2; p++)
        for (unsigned worker = 0; worker < threads; worker++)
            points_seek_look(seek, &pieces[p], worker);
    points_seek_destroy(seek);
    points_reader_fini(&reader);
}

struct place {
    float distance;
    uint32_t row;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance > y->distance ? 1 : -1;
    return (x->row > y->row) - (x->row < y->row);
}

/* One after the other, by the kernel that searches use. */
static void check_one(const struct points_sample *sample, const struct fathom_index *index,
                      struct points_reader *reader, uint32_t i)
{
    static struct place places[ROWS];
    static int8_t weights[2 * MEM_ALIGN];
    struct row8_query query;
    memcpy(reader->query.vector, sample->vectors + (size_t)i * DIM, DIM * sizeof(float));
    points_reader_prepare(reader, weights, &query);
    for (uint32_t row = 0; row < ROWS; row++) {
        const uint8_t *record = index->rows8 + (size_t)row * index->records->row_bytes;
        struct kernel_score8 score;
        kernels_get()->score8_rows(&score, &query.weights, record, index->records->row_bytes, 1);
        float distance = record_distance(&query, index, &score, record);
        places[row] = (struct place){row == sample->rows[i] ? INFINITY : distance, row};
    }
    qsort(places, ROWS, sizeof *places, compare_places);
    for (uint32_t t = 0; t < SAMPLE_TRUTH; t++) {
        const struct sample_neighbour *n = &sample->truth[(size_t)i * SAMPLE_TRUTH + t];
        assert_int_equal(n->row, places[t].row);
        assert_memory_equal(&n->distance, &places[t].distance, sizeof(float));
    }
}

static void check(enum fathom_metric metric, enum fathom_dtype dtype)
{
    struct small_options options = {
        .rows = ROWS, .dim = DIM, .metric = metric, .dtype = dtype, .seed = 11};
    struct fathom_open_options open = fathom_open_options_default();
    struct small_index small;
    struct fathom_index *index;
    small_index_make(&small, &options);
    assert_int_equal(fathom_index_open(&index, small.dir, &open, NULL), 0);
    assert_non_null(index->rows8);
    for (unsigned threads = 1; threads <= 4; threads += 3) {
        struct points_sample sample = sample_of(index);
        struct points_reader reader;
        seek_all(&sample, index, threads);
        assert_int_equal(points_reader_init(&reader, index), 0);
        for (uint32_t i = 0; i < SAMPLE; i++)
            check_one(&sample, index, &reader, i);
        points_reader_fini(&reader);
        points_sample_fini(&sample);
    }
    fathom_index_close(index);
    small_index_remove(&small);
}

static void neighbours_by_exact_records_are_those_of_all_distances(void **state)
{
    (void)state;
    check(FATHOM_METRIC_L2, FATHOM_U8);
}

static void neighbours_by_records_with_scales_are_those_of_all_distances(void **state)
{
    (void)state;
    check(FATHOM_METRIC_L2, FATHOM_F32);
    check(FATHOM_METRIC_COS, FATHOM_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_by_exact_records_are_those_of_all_distances),
        cmocka_unit_test(neighbours_by_records_with_scales_are_those_of_all_distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
