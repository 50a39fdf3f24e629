/* What a build is thought to take, by arithmetic alone: against builds that were measured on a
 * quiet machine of two cores (docs/adr/0029), and by what holds on any. */
#include "builder_support.h"

#include "predict.h"

#define MIB 1048576.0

/* 4,000,000 x 128 f32 of a synthetic set, two threads. */
static struct build_estimate predict_four(uint64_t budget_mib, double slowness)
{
    struct build_options options = build_options_default();
    struct build_estimate estimate = {.rows = 4000000, .dim = 128, .dtype = FATHOM_F32};
    const struct predict_known known = {.probe = {31.8, 27.6, 8.4}, .slowness = slowness};
    options.degree = 32;
    options.build_list = 64;
    options.threads = 2;
    options.memory_budget_bytes = budget_mib << 20;
    predict_shape(&options, &known, NULL, &estimate);
    return estimate;
}

static void assert_near(double predicted, double measured, double share, const char *what)
{
    if (predicted < (1 - share) * measured || predicted > (1 + share) * measured)
        fail_msg("%s: %.1f predicted, %.1f measured", what, predicted, measured);
}

static void a_build_in_parts_takes_what_it_took(void **state)
{
    static const struct {
        uint64_t budget_mib;
        uint32_t parts;
        double seconds, peak_mib, files_mib, index_mib;
    } builds[] = {{0, 1, 114.6, 1494, 1589, 3676},
                  {1024, 3, 156.6, 837, 1570, 3675},
                  {256, 19, 201.1, 236, 2067, 3683}};
    (void)state;
    for (size_t i = 0; i < sizeof builds / sizeof *builds; i++) {
        struct build_estimate estimate = predict_four(builds[i].budget_mib, 1);
        assert_int_equal(estimate.parts, builds[i].parts);
        assert_near(estimate.seconds, builds[i].seconds, 0.2, "seconds");
        assert_near((double)estimate.peak_bytes / MIB, builds[i].peak_mib, 0.1, "peak memory");
        assert_near((double)estimate.temporary_bytes / MIB, builds[i].files_mib, 0.1, "work files");
        assert_near((double)estimate.disk_bytes / MIB, builds[i].index_mib, 0.1, "index");
    }
}

/* passages256 in 90 MiB: most is the sample that its 8-bit form is chosen by, while it is read. */
static void reading_wide_rows_takes_what_its_sample_does(void **state)
{
    struct build_options options = build_options_default();
    struct build_estimate estimate = {.rows = 69511, .dim = 256, .dtype = FATHOM_F16};
    const struct predict_known known = {.probe = {38.9, 35.1}, .slowness = 1, .queries = 1000};
    (void)state;
    options.metric = FATHOM_METRIC_COS;
    options.degree = 40;
    options.build_list = 96;
    options.threads = 2;
    options.memory_budget_bytes = 90 << 20;
    predict_shape(&options, &known, NULL, &estimate);
    assert_near((double)estimate.peak_bytes / MIB, 82.0, 0.1, "peak memory");
}

/* CPU seconds of real and synthetic sets on a quiet machine of slowness 1 (docs/adr/0070). */
static const struct taken {
    const char *name;
    uint64_t rows;
    uint32_t dim, degree, list;
    enum fathom_dtype dtype;
    enum fathom_metric metric;
    double mean, lid, graph, measure;
    double off; /* that measuring may be: it is not known before how many search lists are tried */
} taken[] = {
    {"word100", 85089, 100, 32, 64, FATHOM_F32, FATHOM_METRIC_COS, 21.0, 18.2, 1.39, 3.10, 0.25},
    {"fashion784", 60000, 784, 32, 64, FATHOM_U8, FATHOM_METRIC_L2, 20.1, 13.7, 1.90, 4.12, 0.25},
    {"passages256", 69511, 256, 40, 96, FATHOM_F16, FATHOM_METRIC_COS, 38.9, 17.6, 3.07, 6.65,
     0.25},
    {"wordnet", 84000, 384, 40, 96, FATHOM_I8, FATHOM_METRIC_COS, 40.2, 18.5, 4.98, 5.75, 0.25},
    {"sift128", 400000, 128, 40, 96, FATHOM_U8, FATHOM_METRIC_L2, 36.4, 17.4, 16.4, 7.87, 0.25},
    {"syn1m", 1000000, 128, 32, 64, FATHOM_F32, FATHOM_METRIC_L2, 31.7, 8.4, 15.8, 9.50, 0.25},
    {"f100k384", 100000, 384, 32, 64, FATHOM_F32, FATHOM_METRIC_L2, 33.3, 6.6, 2.59, 3.68, 0.35},
    {"i300k64", 300000, 64, 32, 64, FATHOM_I8, FATHOM_METRIC_L2, 31.2, 9.1, 4.11, 2.73, 0.35}};

static struct build_estimate predict_taken(const struct taken *set)
{
    struct build_options options = build_options_default();
    struct build_estimate estimate = {.rows = set->rows, .dim = set->dim, .dtype = set->dtype};
    const struct predict_known known = {.probe = {.mean = set->mean, .lid = set->lid},
                                        .slowness = 1};
    options.metric = set->metric;
    options.degree = set->degree;
    options.build_list = set->list;
    options.threads = 2;
    predict_shape(&options, &known, NULL, &estimate);
    return estimate;
}

static void the_graph_takes_what_it_took(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        assert_near(predict_taken(&taken[i]).stage_cpu_seconds[BUILD_GRAPH], taken[i].graph, 0.2,
                    taken[i].name);
}

static void measuring_takes_what_it_took(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        assert_near(predict_taken(&taken[i]).stage_cpu_seconds[BUILD_MEASURE], taken[i].measure,
                    taken[i].off, taken[i].name);
}

static void rows_that_nobody_has_looked_at_are_as_usual(void **state)
{
    struct taken unknown = taken[0], usual = taken[0];
    (void)state;
    unknown.lid = 0;
    usual.lid = 15;
    assert_true(predict_taken(&unknown).seconds == predict_taken(&usual).seconds);
}

/* Devices are no slower where processors are. */
static void waiting_for_a_device_takes_as_long_on_a_slow_machine(void **state)
{
    (void)state;
    struct build_estimate usual = predict_four(0, 1), slow = predict_four(0, 2);
    assert_near(slow.stage_seconds[BUILD_GRAPH], 2 * usual.stage_seconds[BUILD_GRAPH], 1e-6,
                "graph");
    assert_true(slow.stage_seconds[BUILD_MEASURE] < 1.9 * usual.stage_seconds[BUILD_MEASURE]);
}

static void points_measured_anew_take_longer_on_a_slow_machine(void **state)
{
    (void)state;
    struct build_options options = build_options_default();
    const struct properties properties = {.rows = 400000,
                                          .dim = 128,
                                          .work_dim = 128,
                                          .degree_max = 40,
                                          .dtype = FATHOM_U8,
                                          .records_exact = true};
    options.threads = 2;
    const struct predict_known known = {.slowness = 1}, slowed = {.slowness = 4},
                               clumps = {.probe = {.mean = 36, .lid = 8}, .slowness = 1};
    struct predict_points usual = predict_points(&options, &properties, &known),
                          slow = predict_points(&options, &properties, &slowed),
                          easy = predict_points(&options, &properties, &clumps);
    assert_true(slow.measuring > 3.5 * usual.measuring && slow.measuring < 4 * usual.measuring);
    assert_true(slow.copying > usual.copying && slow.copying < 4 * usual.copying);
    assert_true(easy.measuring < 0.9 * usual.measuring);
}

/* Memory that a budget leaves is never predicted to be used. */
static void no_budget_is_predicted_to_be_exceeded(void **state)
{
    (void)state;
    for (uint64_t mib = 230; mib < 1800; mib += 31) {
        struct build_estimate estimate = predict_four(mib, 1);
        if (estimate.peak_bytes > mib << 20)
            fail_msg("%.0f MiB predicted under a budget of %llu", (double)estimate.peak_bytes / MIB,
                     (unsigned long long)mib);
    }
}

/* Not by few wide rows either, whose sample is most of what they take. */
static void the_least_budget_is_not_predicted_to_be_exceeded(void **state)
{
    static const struct {
        uint64_t rows;
        uint32_t dim;
        enum fathom_dtype dtype;
        uint32_t row_bytes; /* 0: exact in 8 bits */
    } shapes[] = {{20000, 1024, FATHOM_F32, 4096}, {5000, 4096, FATHOM_F32, 16384},
                  {69511, 256, FATHOM_F16, 512},   {1000000, 128, FATHOM_F32, 512},
                  {20000, 1024, FATHOM_U8, 0},     {10000000, 128, FATHOM_U8, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct build_options options = build_options_default();
        struct build_estimate estimate = {
            .rows = shapes[i].rows, .dim = shapes[i].dim, .dtype = shapes[i].dtype};
        const struct predict_known known = {.probe = {30, 25}, .slowness = 1};
        options.degree = 32;
        options.build_list = 64;
        options.threads = 2;
        options.memory_budget_bytes =
            predict_least(&options, shapes[i].rows, shapes[i].dim, shapes[i].row_bytes);
        predict_shape(&options, &known, NULL, &estimate);
        if ((double)estimate.peak_bytes > 1.05 * (double)options.memory_budget_bytes)
            fail_msg("shape %zu: %.1f MiB are predicted under the least budget of %.1f", i,
                     (double)estimate.peak_bytes / MIB, (double)options.memory_budget_bytes / MIB);
    }
}

/* The usual machine's times of these rows. */
static struct predict_timed usual_times(void)
{
    struct build_estimate usual = predict_four(0, 1);
    return (struct predict_timed){.probe_ns = 100000000,
                                  .cells_ns = (uint64_t)(1e9 * usual.stage_seconds[BUILD_CELLS]),
                                  .order_ns = (uint64_t)(1e9 * usual.stage_seconds[BUILD_ORDER]),
                                  .probe = {31.8, 27.6, 8.4}};
}

static double slowness_of(const struct predict_timed *timed)
{
    struct build_options options = build_options_default();
    options.threads = 2;
    return predict_slowness(&options, 4000000, 128, timed);
}

static void a_probe_that_was_disturbed_does_not_make_the_machine_slow(void **state)
{
    (void)state;
    struct predict_timed timed = usual_times(), alone = {.probe = timed.probe};
    alone.probe_ns = 100000000;
    timed.probe_ns = (uint64_t)(1e8 / slowness_of(&alone)); /* as usual */
    assert_near(slowness_of(&timed), 1, 0.01, "slowness");
    timed.probe_ns *= 3;
    assert_near(slowness_of(&timed), 1, 0.1, "slowness with a probe of three times");
    timed.cells_ns *= 2;
    timed.order_ns *= 2;
    assert_near(slowness_of(&timed), 2, 0.1, "slowness of a machine at half its speed");
}

static void what_was_not_timed_says_nothing(void **state)
{
    (void)state;
    struct predict_timed timed = usual_times(), none = {0};
    assert_true(slowness_of(&none) == 1);
    timed.probe = (struct degree_probe){0}; /* R was given */
    assert_near(slowness_of(&timed), 1, 0.01, "slowness without a probe");
    timed.order_ns = 0; /* not all of it is this run's */
    assert_true(slowness_of(&timed) == 1);
}

/* Heat is counted by so many searches at the most, however many rows there are. */
static void heat_does_not_grow_with_the_rows(void **state)
{
    (void)state;
    struct build_options options = build_options_default();
    const struct predict_known known = {.slowness = 1};
    struct build_estimate some = {.rows = 4000000, .dim = 128, .dtype = FATHOM_U8}, more = some;
    options.degree = 32;
    options.build_list = 64;
    more.rows = 100 * some.rows;
    predict_shape(&options, &known, NULL, &some);
    predict_shape(&options, &known, NULL, &more);
    assert_true(more.stage_seconds[BUILD_ENCODE] < 99 * some.stage_seconds[BUILD_ENCODE]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_build_in_parts_takes_what_it_took),
    cmocka_unit_test(reading_wide_rows_takes_what_its_sample_does),
    cmocka_unit_test(the_graph_takes_what_it_took),
    cmocka_unit_test(measuring_takes_what_it_took),
    cmocka_unit_test(rows_that_nobody_has_looked_at_are_as_usual),
    cmocka_unit_test(points_measured_anew_take_longer_on_a_slow_machine),
    cmocka_unit_test(waiting_for_a_device_takes_as_long_on_a_slow_machine),
    cmocka_unit_test(no_budget_is_predicted_to_be_exceeded),
    cmocka_unit_test(the_least_budget_is_not_predicted_to_be_exceeded),
    cmocka_unit_test(a_probe_that_was_disturbed_does_not_make_the_machine_slow),
    cmocka_unit_test(what_was_not_timed_says_nothing),
    cmocka_unit_test(heat_does_not_grow_with_the_rows),
};

FATHOM_TEST_MAIN(tests)
