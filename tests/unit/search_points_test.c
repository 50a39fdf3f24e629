/* What operating points are measured by: that candidates which are refined on paper come to the
 * reads and the recall of a search that refines them for real. */
#include "fathom_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "bits.h"
#include "points_sample.h"
#include "query.h"
#include "runs.h"
#include "small_index.h"

#define DIM        32
#define ROWS       12000
#define QUERIES    60
#define THRESHOLDS 4
#define LIST       150

static const float thresholds[THRESHOLDS] = {0.02f, 0.06f, 0.15f, 0.45f};

struct fixture {
    struct small_index small;
    struct points_sample sample; /* the queries, as if each were a row that is not in the index */
    struct sample_neighbour truth[QUERIES * SAMPLE_TRUTH];
};

static int by_distance(const void *a, const void *b)
{
    const struct sample_neighbour *x = a, *y = b;
    return x->distance != y->distance ? (x->distance > y->distance) - (x->distance < y->distance)
                                      : (x->row > y->row) - (x->row < y->row);
}

static int by_row(const void *a, const void *b)
{
    const struct sample_neighbour *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

static void find_truth(struct fixture *fixture, const struct fathom_index *index, uint32_t query)
{
    static struct sample_neighbour all[ROWS];
    struct sample_neighbour *truth = fixture->truth + (size_t)query * SAMPLE_TRUTH;
    for (uint32_t row = 0; row < ROWS; row++) {
        uint64_t id = bits_load(index->ids, index->properties.id_bits, row);
        all[row] = (struct sample_neighbour){
            .row = row, .distance = (float)small_distance(&fixture->small, query, id)};
    }
    qsort(all, ROWS, sizeof *all, by_distance);
    for (uint32_t t = 0; t < SAMPLE_TRUTH; t++)
        all[t].rank = t;
    memcpy(truth, all, SAMPLE_TRUTH * sizeof *all);
    qsort(truth, SAMPLE_TRUTH, sizeof *truth, by_row);
}

static int make_fixture(void **state)
{
    /* Integers are their own 8-bit form, so distances of records are those of users. */
    struct small_options options = {.rows = ROWS,
                                    .dim = DIM,
                                    .metric = FATHOM_METRIC_L2,
                                    .dtype = FATHOM_U8,
                                    .queries = QUERIES,
                                    .spread = 2,
                                    .seed = 5};
    struct fathom_open_options open = fathom_open_options_default();
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct fathom_index *index;
    small_index_make(&fixture->small, &options);
    assert_int_equal(fathom_index_open(&index, fixture->small.dir, &open, NULL), 0);
    for (uint32_t query = 0; query < QUERIES; query++)
        find_truth(fixture, index, query);
    fathom_index_close(index);
    fixture->sample = (struct points_sample){
        .count = QUERIES, .dim = DIM, .truth_count = SAMPLE_TRUTH, .truth = fixture->truth};
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    small_index_remove(&fixture->small);
    free(fixture);
    return 0;
}

struct trial {
    const struct points_sample *sample;
    uint32_t query;
    struct replay replays[THRESHOLDS];
};

static void take(void *context, struct query *query, struct navigator *navigator)
{
    struct trial *trial = context;
    points_replay(trial->sample, trial->query, query, navigator, thresholds, THRESHOLDS,
                  trial->replays);
}

static struct fathom_query request_of(const struct fixture *fixture, uint32_t query, uint32_t k)
{
    struct fathom_query request = fathom_query_default();
    request.vector = small_query(&fixture->small, query);
    request.dtype = FATHOM_U8;
    request.k = k;
    request.search_list = LIST;
    return request;
}

static void replay(struct trial *trial, const struct fixture *fixture, struct fathom_engine *engine,
                   const struct fathom_index *index, uint32_t query, uint32_t k)
{
    struct fathom_query request = request_of(fixture, query, k);
    struct query_probe probe = {.row = ROW_NONE, .take = take, .context = trial};
    struct fathom_result result;
    *trial = (struct trial){.sample = &fixture->sample, .query = query};
    assert_int_equal(engine_submit_probe(engine, index, &request, &probe, NULL), 0);
    assert_int_equal(fathom_engine_poll(engine, &result, 1, true), 1);
    assert_int_equal(result.status, 0);
    assert_int_equal(result.count, 0);
    assert_int_equal(result.stats.reads, 0);
}

/* The part of the truth among the ids. */
static float recall_of(const struct fixture *fixture, const struct fathom_index *index,
                       uint32_t query, const uint64_t *ids, uint32_t k)
{
    uint32_t found = 0;
    for (uint32_t t = 0; t < SAMPLE_TRUTH; t++) {
        const struct sample_neighbour *n = &fixture->truth[(size_t)query * SAMPLE_TRUTH + t];
        uint64_t id = bits_load(index->ids, index->properties.id_bits, n->row);
        for (uint32_t r = 0; r < k && n->rank < k; r++)
            found += ids[r] == id;
    }
    return (float)found / (float)k;
}

/* Replays all queries at all thresholds, and searches for them too. */
static void compare(struct fixture *fixture, enum fathom_navigator navigator, uint32_t k)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_index *index;
    uint64_t ids[SAMPLE_TRUTH];
    float distances[SAMPLE_TRUTH];
    double reads = 0, replayed[THRESHOLDS] = {0}, recall[THRESHOLDS] = {0};
    options.navigator = navigator;
    options.code_bytes = DIM / 8; /* one bit a dimension: much is in doubt */
    assert_int_equal(fathom_index_open(&index, fixture->small.dir, &options, NULL), 0);
    for (uint32_t query = 0; query < QUERIES; query++) {
        struct trial trial;
        replay(&trial, fixture, engine, index, query, k);
        for (uint32_t t = 0; t < THRESHOLDS; t++) {
            struct fathom_query request = request_of(fixture, query, k);
            struct fathom_query_stats stats;
            request.refine_threshold = thresholds[t];
            assert_int_equal(fathom_search(engine, index, &request, ids, distances, &stats, NULL),
                             k);
            double price = (double)RUN_READ_PRICE * stats.reads +
                           (double)RUN_PAGE_PRICE * (double)(stats.bytes / PAGE_BYTES);
            assert_true(fabs(price - (double)trial.replays[t].reads) < 1e-3);
            reads += stats.reads;
            replayed[t] += trial.replays[t].recall / QUERIES;
            recall[t] += recall_of(fixture, index, query, ids, k) / QUERIES;
        }
    }
    for (uint32_t t = 0; t < THRESHOLDS; t++)
        assert_true(fabs(replayed[t] - recall[t]) < 0.001);
    /* Thresholds matter here, else this would say nothing. */
    assert_true(reads > QUERIES * THRESHOLDS);
    assert_true(recall[0] > recall[THRESHOLDS - 1] + 0.001);
    fathom_index_close(index);
    fathom_engine_destroy(engine);
}

static void cells_refined_on_paper_come_to_what_a_search_does(void **state)
{
    compare(*state, FATHOM_NAVIGATOR_CELLS, 10);
    compare(*state, FATHOM_NAVIGATOR_CELLS, 100);
}

static void a_walk_refined_on_paper_comes_to_what_a_search_does(void **state)
{
    compare(*state, FATHOM_NAVIGATOR_GRAPH, 10);
    compare(*state, FATHOM_NAVIGATOR_GRAPH, 100);
}

/* ---- the truth of a sample ---- */

#define COARSE_DIM    8
#define COARSE_ROWS   4000
#define COARSE_SAMPLE 60

static bool never(void *context)
{
    (void)context;
    return false;
}

static void ignore(void *context, uint64_t rows)
{
    (void)context;
    (void)rows;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double squared_distance(const float *a, const float *b)
{
    double sum = 0;
    for (uint32_t d = 0; d < COARSE_DIM; d++)
        sum += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
    return sum;
}

/* The neighbours of a row of the sample stand where the vectors of the input put them. */
static void check_ranks(const struct small_index *small, const struct fathom_index *index,
                        const struct points_sample *sample, uint32_t i)
{
    static double sorted[COARSE_ROWS];
    uint32_t id_bits = index->properties.id_bits;
    uint64_t own = bits_load(index->ids, id_bits, sample->rows[i]);
    const float *vector = sample->vectors + (size_t)i * COARSE_DIM;
    assert_memory_equal(vector, small->rows + own * COARSE_DIM, COARSE_DIM * sizeof *vector);
    for (uint32_t row = 0; row < COARSE_ROWS; row++)
        sorted[row] = row == own ? INFINITY
                                 : squared_distance(vector, small->rows + (size_t)row * COARSE_DIM);
    qsort(sorted, COARSE_ROWS, sizeof *sorted, compare_doubles);
    bool seen[10] = {false};
    for (uint32_t t = 0; t < sample->truth_count; t++) {
        const struct sample_neighbour *n = &sample->truth[(size_t)i * SAMPLE_TRUTH + t];
        uint64_t id = bits_load(index->ids, id_bits, n->row);
        if (n->rank >= 10)
            continue;
        double distance = squared_distance(vector, small->rows + id * COARSE_DIM);
        assert_true(fabs(distance - sorted[n->rank]) <= 1e-5 * sorted[n->rank]);
        assert_false(seen[n->rank]);
        seen[n->rank] = true;
    }
    for (uint32_t rank = 0; rank < 10; rank++)
        assert_true(seen[rank]);
}

static void neighbours_are_ranked_by_the_vectors_that_were_given(void **state)
{
    struct small_options options = {.rows = COARSE_ROWS,
                                    .dim = COARSE_DIM,
                                    .metric = FATHOM_METRIC_L2,
                                    .dtype = FATHOM_F32,
                                    .seed = 7};
    struct sample_watch watch = {.stopped = never, .advance = ignore};
    struct fathom_open_options open = fathom_open_options_default();
    struct small_index small;
    struct fathom_index *index;
    (void)state;
    small_index_make(&small, &options);
    assert_int_equal(fathom_index_open(&index, small.dir, &open, NULL), 0);
    for (unsigned threads = 1; threads <= 2; threads++) {
        struct points_sample sample;
        assert_int_equal(points_sample_make(&sample, index, COARSE_SAMPLE, threads, &watch, NULL),
                         0);
        for (uint32_t i = 0; i < COARSE_SAMPLE; i++)
            check_ranks(&small, index, &sample, i);
        /* 8 bits get a few wrong, else this would say nothing. */
        float reach = points_sample_reach(&sample, COARSE_SAMPLE, 10);
        assert_true(reach < 1 && reach > 0.8f);
        points_sample_fini(&sample);
    }
    fathom_index_close(index);
    small_index_remove(&small);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(neighbours_are_ranked_by_the_vectors_that_were_given),
    cmocka_unit_test(cells_refined_on_paper_come_to_what_a_search_does),
    cmocka_unit_test(a_walk_refined_on_paper_comes_to_what_a_search_does),
};

int main(void)
{
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
