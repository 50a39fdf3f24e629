/* What operating points are measured by: that candidates which are refined on paper come to the
 * reads and the recall of a search that refines them for real. */
#include "fathom_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "bits.h"
#include "format.h"
#include "points.h"
#include "points_sample.h"
#include "query.h"
#include "runs.h"
#include "small_index.h"

#define DIM        32
#define ROWS       12000
#define QUERIES    60
#define THRESHOLDS 4
#define LIST       150

#define PAGE_BUFFERS 32 /* said, so that they are small, as those that points are of */

static const float thresholds[THRESHOLDS] = {0.02f, 0.06f, 0.15f, 0.45f};

struct set {
    struct small_index small;
    struct points_sample sample; /* the queries, as if each were a row that is not in the index */
    struct sample_neighbour truth[QUERIES * SAMPLE_TRUTH];
};

struct fixture {
    struct set bytes;  /* integers, which are their own 8-bit form, */
    struct set floats; /* and rows that lie so close that 8 bits get some wrong */
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

/* Makes the truth of a query: what searches rank by comes from the records, by their own kernels.
 */
struct truth_maker {
    struct set *set;
    uint32_t query;
};

static void rank(const struct set *set, const struct fathom_index *index, uint32_t query,
                 struct sample_neighbour *truth)
{
    double exact[SAMPLE_TRUTH];
    for (uint32_t t = 0; t < SAMPLE_TRUTH; t++)
        exact[t] = small_distance(&set->small, query,
                                  bits_load(index->ids, index->properties.id_bits, truth[t].row));
    for (uint32_t t = 0; t < SAMPLE_TRUTH; t++) {
        truth[t].exact = (float)exact[t];
        for (uint32_t other = 0; other < SAMPLE_TRUTH; other++)
            truth[t].rank += exact[other] < exact[t] || (exact[other] == exact[t] && other < t);
    }
}

static void find_truth(void *context, struct query *query, struct navigator *navigator)
{
    static struct sample_neighbour all[ROWS];
    const struct truth_maker *maker = context;
    const struct fathom_index *index = query->index;
    (void)navigator;
    for (uint32_t row = 0; row < ROWS; row++) {
        const uint8_t *record = index->rows8 + (size_t)row * index->records->row_bytes;
        struct kernel_score8 score;
        kernels_get()->score8_rows(&score, &query->row8.weights, record, index->records->row_bytes,
                                   1);
        float distance = record_distance(&query->row8, index, &score, record);
        all[row] = (struct sample_neighbour){
            .row = row, .distance = distance, .sigma = record_sigma(index, record, distance)};
    }
    qsort(all, ROWS, sizeof *all, by_distance);
    struct sample_neighbour *truth = maker->set->truth + (size_t)maker->query * SAMPLE_TRUTH;
    memcpy(truth, all, SAMPLE_TRUTH * sizeof *all);
    rank(maker->set, index, maker->query, truth);
    qsort(truth, SAMPLE_TRUTH, sizeof *truth, by_row);
}

static void probe(struct fathom_engine *engine, const struct fathom_index *index,
                  const struct fathom_query *request, const struct query_probe *probe)
{
    struct fathom_result result;
    assert_int_equal(engine_submit_probe(engine, index, request, probe, NULL), 0);
    assert_int_equal(fathom_engine_poll(engine, &result, 1, true), 1);
    assert_int_equal(result.status, 0);
    assert_int_equal(result.count, 0);
    assert_int_equal(result.stats.reads, 0);
}

static struct fathom_query request_of(const struct set *set, uint32_t query, uint32_t k)
{
    struct fathom_query request = small_request(&set->small, query);
    request.dtype = set->small.options.dtype;
    request.k = k;
    request.search_list = LIST;
    return request;
}

static void make_set(struct set *set, enum fathom_dtype dtype, float spread)
{
    struct small_options options = {.rows = ROWS,
                                    .dim = DIM,
                                    .metric = FATHOM_METRIC_L2,
                                    .dtype = dtype,
                                    .queries = QUERIES,
                                    .spread = spread,
                                    .seed = 5};
    struct fathom_open_options open = fathom_open_options_default();
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_index *index;
    small_index_make(&set->small, &options);
    assert_int_equal(fathom_index_open(&index, set->small.dir, &open, NULL), 0);
    for (uint32_t query = 0; query < QUERIES; query++) {
        struct truth_maker maker = {.set = set, .query = query};
        struct query_probe finds = {.row = ROW_NONE, .take = find_truth, .context = &maker};
        struct fathom_query request = request_of(set, query, 10);
        probe(engine, index, &request, &finds);
    }
    fathom_index_close(index);
    fathom_engine_destroy(engine);
    set->sample = (struct points_sample){
        .count = QUERIES, .dim = DIM, .truth_count = SAMPLE_TRUTH, .truth = set->truth};
}

static int make_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    make_set(&fixture->bytes, FATHOM_U8, 2);
    make_set(&fixture->floats, FATHOM_F32, 0.1f);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    small_index_remove(&fixture->bytes.small);
    small_index_remove(&fixture->floats.small);
    free(fixture);
    return 0;
}

struct trial {
    const struct points_sample *sample;
    uint32_t query;
    struct replay replays[THRESHOLDS];
    bool complete;
};

static void take(void *context, struct query *query, struct navigator *navigator)
{
    struct trial *trial = context;
    trial->complete = points_replay(trial->sample, trial->query, query, navigator, thresholds,
                                    THRESHOLDS, trial->replays);
}

static void replay(struct trial *trial, const struct set *set, struct fathom_engine *engine,
                   const struct fathom_index *index, uint32_t query, uint32_t k)
{
    struct fathom_query request = request_of(set, query, k);
    struct query_probe replays = {.row = ROW_NONE, .take = take, .context = trial};
    *trial = (struct trial){.sample = &set->sample, .query = query};
    probe(engine, index, &request, &replays);
}

/* The part of the truth among the ids. */
static float recall_of(const struct set *set, const struct fathom_index *index, uint32_t query,
                       const uint64_t *ids, uint32_t k)
{
    uint32_t found = 0;
    for (uint32_t t = 0; t < SAMPLE_TRUTH; t++) {
        const struct sample_neighbour *n = &set->truth[(size_t)query * SAMPLE_TRUTH + t];
        uint64_t id = bits_load(index->ids, index->properties.id_bits, n->row);
        for (uint32_t r = 0; r < k && n->rank < k; r++)
            found += ids[r] == id;
    }
    return (float)found / (float)k;
}

/* What searches at a threshold read and find, on average, on paper and for real. */
struct outcome {
    double replayed, recall;
    double replayed_price, price;
};

static void search(struct outcome *outcome, const struct set *set, struct fathom_engine *engine,
                   const struct fathom_index *index, const struct fathom_query *request,
                   uint32_t query, float replayed_recall, float replayed_reads)
{
    uint64_t ids[SAMPLE_TRUTH];
    float distances[SAMPLE_TRUTH];
    struct fathom_query_stats stats;
    assert_int_equal(fathom_search(engine, index, request, ids, distances, &stats, NULL),
                     request->k);
    double price = (double)RUN_READ_PRICE * stats.reads +
                   (double)RUN_PAGE_PRICE * (double)(stats.bytes / PAGE_BYTES);
    /* Among very many hits that are re-ranked may be rows beyond the truth. */
    if (request->rerank != FATHOM_RERANK_ON || request->k < SAMPLE_LARGE_K)
        assert_true(fabs(price - (double)replayed_reads) < 1e-3);
    outcome->replayed_price += replayed_reads / QUERIES;
    outcome->price += price / QUERIES;
    outcome->replayed += replayed_recall / QUERIES;
    outcome->recall += recall_of(set, index, query, ids, request->k) / QUERIES;
}

/* Points tell what reads cost into page buffers that lie anywhere. */
static void *map_none(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return NULL;
}

/* Replays all queries at all thresholds, and searches for them too, with re-ranking and without. */
static void compare(const struct set *set, struct fathom_open_options options, uint32_t k,
                    struct outcome plain[THRESHOLDS], struct outcome reranked[THRESHOLDS])
{
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct env env = *env_os();
    struct fathom_index *index;
    env.map_large = map_none;
    memset(plain, 0, THRESHOLDS * sizeof *plain);
    memset(reranked, 0, THRESHOLDS * sizeof *reranked);
    assert_int_equal(index_open_with(&index, &env, set->small.dir, &options, NULL), 0);
    for (uint32_t query = 0; query < QUERIES; query++) {
        struct trial trial;
        replay(&trial, set, engine, index, query, k);
        for (uint32_t t = 0; t < THRESHOLDS; t++) {
            const struct replay *r = &trial.replays[t];
            struct fathom_query request = request_of(set, query, k);
            request.refine_threshold = thresholds[t];
            search(&plain[t], set, engine, index, &request, query, r->recall, r->reads);
            request.rerank = FATHOM_RERANK_ON;
            if (index->vectors)
                search(&reranked[t], set, engine, index, &request, query, r->reranked_recall,
                       r->reranked_reads);
            else
                assert_true(r->reranked_recall == 0 && r->reranked_reads == 0);
        }
    }
    for (uint32_t t = 0; t < THRESHOLDS; t++) {
        assert_true(fabs(plain[t].replayed - plain[t].recall) < 0.001);
        assert_true(fabs(reranked[t].replayed - reranked[t].recall) < 0.001);
        assert_true(fabs(reranked[t].replayed_price - reranked[t].price) <=
                    0.05 * reranked[t].price);
    }
    fathom_index_close(index);
    fathom_engine_destroy(engine);
}

/* With one bit a dimension, so that much is in doubt. */
static void compare_codes(const struct fixture *fixture, enum fathom_navigator navigator,
                          uint32_t k)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct outcome plain[THRESHOLDS], reranked[THRESHOLDS];
    options.navigator = navigator;
    options.code_bytes = DIM / 8;
    compare(&fixture->bytes, options, k, plain, reranked);
    /* Thresholds matter here, else this would say nothing. */
    assert_true(plain[THRESHOLDS - 1].price > 1);
    assert_true(plain[0].recall > plain[THRESHOLDS - 1].recall + 0.001);
    compare(&fixture->floats, options, k, plain, reranked);
    assert_true(reranked[0].recall > plain[0].recall + 0.001);
    assert_true(reranked[0].price > plain[0].price + 0.1);
}

static void cells_refined_on_paper_come_to_what_a_search_does(void **state)
{
    compare_codes(*state, FATHOM_NAVIGATOR_CELLS, 10);
    compare_codes(*state, FATHOM_NAVIGATOR_CELLS, 100);
}

static void a_walk_refined_on_paper_comes_to_what_a_search_does(void **state)
{
    compare_codes(*state, FATHOM_NAVIGATOR_GRAPH, 10);
    compare_codes(*state, FATHOM_NAVIGATOR_GRAPH, 100);
}

static void eight_bit_rows_re_ranked_on_paper_come_to_what_a_search_does(void **state)
{
    const struct fixture *fixture = *state;
    struct outcome plain[THRESHOLDS], reranked[THRESHOLDS];
    for (uint32_t k = 10; k <= 100; k *= 10) {
        compare(&fixture->floats, fathom_open_options_default(), k, plain, reranked);
        assert_true(plain[0].price == 0 && reranked[0].price > 0.1);
        assert_true(reranked[0].recall > plain[0].recall + 0.001);
    }
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
        double distance = squared_distance(vector, small->rows + id * COARSE_DIM);
        assert_true(isnan(n->exact) || fabs(distance - (double)n->exact) <= 1e-5 * distance);
        assert_true(n->sigma > 0);
        if (n->rank >= 10)
            continue;
        assert_false(isnan(n->exact));
        assert_true(fabs(distance - sorted[n->rank]) <= 1e-5 * sorted[n->rank]);
        assert_false(seen[n->rank]);
        seen[n->rank] = true;
    }
    for (uint32_t rank = 0; rank < 10; rank++)
        assert_true(seen[rank]);
}

static int make_sample(struct points_sample *sample, const struct fathom_index *index,
                       uint32_t count, unsigned threads, const struct sample_watch *watch)
{
    const struct sample_options options = {.count = count, .threads = threads};
    return points_sample_make(sample, index, &options, watch, NULL);
}

/* One in a hundred, and no more, has its nearest farther away. */
static void check_usual(const struct points_sample *sample)
{
    uint32_t rows = 0, cells = 0;
    for (uint32_t i = 0; i < sample->count; i++) {
        float nearest = INFINITY;
        for (uint32_t t = 0; t < sample->truth_count; t++)
            nearest = fminf(nearest, sample->truth[(size_t)i * SAMPLE_TRUTH + t].distance);
        rows += nearest > sample->usual.row;
        cells += sample->nearest_cells[i] > sample->usual.cell;
    }
    assert_int_equal(rows, sample->count / 100);
    assert_int_equal(cells, sample->count / 100);
    assert_true(sample->usual.row > 0 && sample->usual.cell > 0);
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
    open.navigator = FATHOM_NAVIGATOR_CELLS;
    small_index_make(&small, &options);
    assert_int_equal(fathom_index_open(&index, small.dir, &open, NULL), 0);
    for (unsigned threads = 1; threads <= 2; threads++) {
        struct points_sample sample;
        assert_int_equal(make_sample(&sample, index, COARSE_SAMPLE, threads, &watch), 0);
        for (uint32_t i = 0; i < COARSE_SAMPLE; i++)
            check_ranks(&small, index, &sample, i);
        /* 8 bits get a few wrong, else this would say nothing. */
        check_usual(&sample);
        float reach = points_sample_reach(&sample, 10);
        assert_true(reach < 1 && reach > 0.8f);
        points_sample_fini(&sample);
    }
    fathom_index_close(index);
    small_index_remove(&small);
}

/* ---- which rows ---- */

#define PICKED 240

static void index_path(const struct set *set, char path[FOLDER_PATH_MAX + 16])
{
    snprintf(path, FOLDER_PATH_MAX + 16, "%s/" FORMAT_FILE_NAME, set->small.dir);
}

/* Opened as it is for measuring: at its least. */
static struct fathom_index *open_least(const struct set *set)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_outlook outlook;
    struct fathom_index *index;
    char path[FOLDER_PATH_MAX + 16];
    index_path(set, path);
    options.navigator = FATHOM_NAVIGATOR_CELLS;
    assert_int_equal(index_outlook_file(env_os(), path, &options, &outlook, NULL), 0);
    options.dram_budget_bytes = outlook.least_bytes;
    assert_int_equal(fathom_index_open(&index, set->small.dir, &options, NULL), 0);
    return index;
}

/* What a search for row i of a sample comes to, without it. */
static bool replay_row(struct fathom_engine *engine, const struct fathom_index *index,
                       const struct points_sample *sample, uint32_t i, uint32_t list,
                       struct trial *trial)
{
    struct fathom_query request = fathom_query_default();
    struct query_probe replays = {.row = sample->rows[i], .take = take, .context = trial};
    request.vector = sample->vectors + (size_t)i * sample->dim;
    request.k = 10;
    request.search_list = list;
    *trial = (struct trial){.sample = sample, .query = i};
    probe(engine, index, &request, &replays);
    return trial->complete;
}

static void rows_come_in_the_order_of_their_hardness_from_all_over_the_file(void **state)
{
    const struct fixture *fixture = *state;
    struct sample_watch watch = {.stopped = never, .advance = ignore};
    struct fathom_open_options cells = fathom_open_options_default();
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_index *index = open_least(&fixture->bytes), *searched;
    struct points_sample sample, again;
    bool seen[PICKED * POINTS_OFFERED] = {false};
    double missed[3] = {0};
    cells.navigator = FATHOM_NAVIGATOR_CELLS;
    assert_int_equal(make_sample(&sample, index, PICKED, 1, &watch), 0);
    assert_int_equal(make_sample(&again, index, PICKED, 3, &watch), 0);
    assert_memory_equal(sample.rows, again.rows, PICKED * sizeof *sample.rows);
    assert_int_equal(fathom_index_open(&searched, fixture->bytes.small.dir, &cells, NULL), 0);
    for (uint32_t i = 0; i < PICKED; i++) {
        struct trial trial;
        uint32_t offered = PICKED * POINTS_OFFERED,
                 place = (uint32_t)((uint64_t)sample.rows[i] * offered / ROWS);
        assert_int_equal(sample.rows[i], (2 * place + 1) * ROWS / (2 * offered));
        assert_false(seen[place]);
        seen[place] = true;
        (void)replay_row(engine, searched, &sample, i, 4, &trial);
        missed[3 * i / PICKED] += 1 - trial.replays[0].recall;
    }
    assert_true(3 * missed[0] < missed[1] && 1.5 * missed[1] < missed[2]);
    points_sample_fini(&sample);
    points_sample_fini(&again);
    fathom_index_close(searched);
    fathom_index_close(index);
    fathom_engine_destroy(engine);
}

struct asked {
    uint32_t times, last; /* last: from which on it is to stop; 0: never */
};

static bool stops(void *context)
{
    struct asked *asked = context;
    return ++asked->times == asked->last;
}

/* Reading a row may take long, and so may preparing it. */
static void a_sample_that_is_to_stop_looks_at_no_more_rows(void **state)
{
    const struct fixture *fixture = *state;
    const struct set *sets[] = {&fixture->bytes, &fixture->floats};
    for (unsigned n = 0; n < 2; n++) {
        struct fathom_index *index = open_least(sets[n]);
        struct asked asked = {.last = 0};
        struct sample_watch watch = {.stopped = stops, .advance = ignore, .context = &asked};
        struct points_sample sample;
        assert_int_equal(make_sample(&sample, index, PICKED, 1, &watch), 0);
        points_sample_fini(&sample);
        uint32_t whole = asked.times;
        /* Of each row that is offered; of each that is taken when it is read, and when it is
         * prepared; and of each stretch of the file. */
        assert_true(whole >= PICKED * (POINTS_OFFERED + 2 + n) + SAMPLE_PASSES);
        for (uint32_t last = 1; last <= whole; last += 1 + last / 3) {
            asked = (struct asked){.last = last};
            assert_int_equal(make_sample(&sample, index, PICKED, 1, &watch), FATHOM_EINTERRUPTED);
            assert_int_equal(asked.times, last);
            points_sample_fini(&sample);
        }
        fathom_index_close(index);
    }
}

/* ---- which searches ---- */

static void what_is_complete_is_among_the_candidates(void **state)
{
    const struct fixture *fixture = *state;
    struct sample_watch watch = {.stopped = never, .advance = ignore};
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_index *least = open_least(&fixture->bytes), *index;
    struct points_sample sample;
    uint32_t complete = 0;
    assert_int_equal(make_sample(&sample, least, PICKED, 1, &watch), 0);
    assert_int_equal(fathom_index_open(&index, fixture->bytes.small.dir, &options, NULL), 0);
    for (uint32_t i = 0; i < PICKED; i++) {
        struct trial trial;
        (void)replay_row(engine, index, &sample, i, 15, &trial);
        /* 8-bit rows are exact here, and nothing is read: what is found was a candidate. */
        assert_true(trial.complete == (trial.replays[0].recall > 0.999f));
        complete += trial.complete;
    }
    assert_true(complete > PICKED / 20 && complete < PICKED - PICKED / 20);
    points_sample_fini(&sample);
    fathom_index_close(index);
    fathom_index_close(least);
    fathom_engine_destroy(engine);
}

/* The mean of all rows of a sample at what a point says. */
static struct replay mean_of(struct fathom_engine *engine, const struct fathom_index *index,
                             const struct points_sample *sample,
                             const struct operating_point *point)
{
    struct replay mean = {0};
    for (uint32_t i = 0; i < sample->count; i++) {
        struct trial trial;
        (void)replay_row(engine, index, sample, i, point->search_list, &trial);
        for (unsigned t = 0; t < THRESHOLDS; t++)
            if (thresholds[t] == point->refine_threshold) {
                mean.recall += trial.replays[t].recall / (float)sample->count;
                mean.reads += trial.replays[t].reads / (float)sample->count;
            }
    }
    return mean;
}

static struct fathom_index *open_for(const struct set *set, const struct operating_point *point)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_index *index;
    options.navigator = point->navigator;
    options.code_bytes = point->code_bytes;
    options.page_buffers = PAGE_BUFFERS;
    assert_int_equal(fathom_index_open(&index, set->small.dir, &options, NULL), 0);
    return index;
}

static bool is_to_be_compared(const struct operating_point *point)
{
    return point->k == 10 && point->search_list >= 32 && point->code_bytes <= DIM / 4 &&
           point->refine_threshold == thresholds[1];
}

static void points_are_those_of_all_rows_of_the_sample(void **state)
{
    static struct operating_point points[POINTS_MAX];
    const struct fixture *fixture = *state;
    struct sample_watch watch = {.stopped = never, .advance = ignore};
    struct points_options two = {.threads = 2};
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_index *least = open_least(&fixture->bytes);
    struct points_sample sample;
    struct usual usual;
    uint32_t count, compared = 0;
    char path[FOLDER_PATH_MAX + 16];
    index_path(&fixture->bytes, path);
    assert_int_equal(points_measure(env_os(), path, &two, points, &count, &usual, NULL), 0);
    assert_int_equal(make_sample(&sample, least, SAMPLE_ROWS, 1, &watch), 0);
    for (uint32_t i = 0; i < count; i++) {
        if (!is_to_be_compared(&points[i]))
            continue;
        struct fathom_index *index = open_for(&fixture->bytes, &points[i]);
        struct replay mean = mean_of(engine, index, &sample, &points[i]);
        assert_true(fabsf(points[i].plain.recall - mean.recall) < 0.002f);
        assert_true(fabsf(points[i].plain.reads - mean.reads) < 0.02f * mean.reads);
        fathom_index_close(index);
        compared++;
    }
    assert_true(compared > 3);
    points_sample_fini(&sample);
    fathom_index_close(least);
    fathom_engine_destroy(engine);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(rows_come_in_the_order_of_their_hardness_from_all_over_the_file),
    cmocka_unit_test(a_sample_that_is_to_stop_looks_at_no_more_rows),
    cmocka_unit_test(what_is_complete_is_among_the_candidates),
    cmocka_unit_test(points_are_those_of_all_rows_of_the_sample),
    cmocka_unit_test(neighbours_are_ranked_by_the_vectors_that_were_given),
    cmocka_unit_test(cells_refined_on_paper_come_to_what_a_search_does),
    cmocka_unit_test(a_walk_refined_on_paper_comes_to_what_a_search_does),
    cmocka_unit_test(eight_bit_rows_re_ranked_on_paper_come_to_what_a_search_does),
};

int main(void)
{
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
