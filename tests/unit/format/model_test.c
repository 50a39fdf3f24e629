/* The model section: what is decoded is what was encoded, and no bytes are accepted that could lead
 * a kernel out of its arrays. */
#include "fathom_test.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "mem.h"
#include "prng.h"
#include "tiny_index.h"

#define HEADER 152
#define LEVEL  64

struct fixture {
    struct tiny_index tiny;
    uint8_t *bytes;
    size_t count;
};

static int make_fixture(void **state)
{
    struct tiny_options options = {
        .rows = 10, .dim = 21, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_L2, .code_dim = 24};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    tiny_make(&fixture->tiny, &options);
    fixture->bytes = fixture->tiny.sections[SECTION_MODEL].data;
    fixture->count = fixture->tiny.sections[SECTION_MODEL].bytes;
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    tiny_free(&fixture->tiny);
    free(fixture);
    return 0;
}

/* Decodes a copy on the heap of exactly its size, so that a read beyond it is seen. */
static int decode(const struct fixture *fixture, struct model *model, const uint8_t *bytes,
                  size_t count, struct fathom_error *err)
{
    uint8_t *copy = malloc(count ? count : 1);
    memcpy(copy, bytes, count);
    *err = (struct fathom_error){0};
    int status =
        model_decode(model, copy, count, &fixture->tiny.properties, "some/index.fathom", err);
    free(copy);
    return status;
}

static void expect_refused(const struct fixture *fixture, const uint8_t *bytes, size_t count,
                           const char *what)
{
    struct model model;
    struct fathom_error err;
    int status = decode(fixture, &model, bytes, count, &err);
    if (status != FATHOM_ECORRUPT)
        fail_msg("%s: %d (%s)", what, status, err.msg);
    assert_non_null(strstr(err.msg, "some/index.fathom"));
    assert_non_null(strstr(err.msg, "model"));
    assert_null(model.memory);
}

/* ---- */

static void what_was_encoded_is_decoded(void **state)
{
    const struct fixture *fixture = *state;
    struct model model;
    struct fathom_error err;
    assert_int_equal(decode(fixture, &model, fixture->bytes, fixture->count, &err), 0);
    assert_int_equal(model_encoded_bytes(&model), fixture->count);
    uint8_t *again = malloc(fixture->count);
    model_encode(&model, again);
    assert_memory_equal(again, fixture->bytes, fixture->count);
    free(again);
    model_fini(&model);
    assert_null(model.memory);
}

static void every_other_length_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    uint8_t *longer = calloc(1, fixture->count + 64);
    memcpy(longer, fixture->bytes, fixture->count);
    for (size_t count = 0; count < fixture->count + 64; count++)
        if (count != fixture->count)
            expect_refused(fixture, longer, count, "another length");
    free(longer);
}

static void each_value_out_of_bounds_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    const size_t mean = HEADER, scale = mean + 4 * 21, sigma = scale + 4 * 24,
                 levels = sigma + 4 * 24;
    const size_t order = levels + 2 * LEVEL;
    const struct {
        const char *what;
        size_t offset, bytes;
        uint32_t value;
    } cases[] = {
        {"code_dim 0", 0, 4, 0},
        {"code_dim 20", 0, 4, 20},
        {"code_dim 32", 0, 4, 32},
        {"code_dim huge", 0, 4, 0xfffffff8},
        {"order_count 0", 4, 4, 0},
        {"order_count 7", 4, 4, 7},
        {"order_count 19", 4, 4, 19},
        {"order_count huge", 4, 4, UINT32_MAX},
        {"level_count 0", 8, 4, 0},
        {"level_count 1", 8, 4, 1},
        {"level_count 33", 8, 4, 33},
        {"level_count huge", 8, 4, UINT32_MAX},
        {"reserved", 12, 4, 1},
        {"step 0", 16, 4, 0},
        {"step negative", 16, 4, 0xbf800000},
        {"step infinite", 16, 4, 0x7f800000},
        {"step NaN", 16, 4, 0x7fc00000},
        {"quantum NaN", 20, 4, 0x7fc00000},
        {"mean NaN", mean + 4 * 20, 4, 0x7fc00000},
        {"rotation scale infinite", scale + 4 * 23, 4, 0x7f800000},
        {"sigma NaN", sigma + 4 * 23, 4, 0xffc00000},
        {"code bytes 0", levels, 4, 0},
        {"code bytes of the next level", levels, 4, 6},
        {"code bytes beyond the order", levels + LEVEL, 4, 7},
        {"code bytes that do not rise", levels + LEVEL, 4, 3},
        {"groups of the first plane", levels + 4, 4, 2},
        {"groups of the last plane", levels + 24, 4, 1},
        {"kappa negative", levels + 28, 4, 0xbf800000},
        {"kappa NaN", levels + 28, 4, 0x7fc00000},
        {"scale base that leads to infinity", levels + 32, 4, 0x7f7fffff},
        {"scale base negative", levels + 32, 4, 0x80000000},
        {"offset min infinite", levels + 36, 4, 0x7f800000},
        {"offset step 0", levels + 40, 4, 0},
        {"offset step negative", levels + 40, 4, 0xbf800000},
        {"offset step NaN", levels + 40, 4, 0x7fc00000},
        {"factors of 3 bytes", levels + 44, 4, 3},
        {"factors of no bytes", levels + LEVEL + 44, 4, 0},
        {"scale base of short factors that leads to infinity", levels + 32, 4, 0x7e000000},
        {"reserved of a level", levels + 48, 4, 1},
        {"last reserved of a level", levels + 60, 4, 0x01000000},
        {"unit twice", order + 2, 2, 0},
        {"unit out of turn", order, 2, 1},
        {"unit of a group that is not there", order + 4, 2, 3},
        {"unit of plane 7", order + 4, 2, 7 << 12},
        {"unit of a plane above an empty one", order, 2, 1 << 12},
        {"padding behind the origin", order + 2 * 6 + 21, 1, 1},
        {"the last padding behind the origin", order + 2 * 6 + 23, 1, 0x80},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *bytes = malloc(fixture->count);
        memcpy(bytes, fixture->bytes, fixture->count);
        memcpy(bytes + cases[i].offset, &cases[i].value, cases[i].bytes);
        expect_refused(fixture, bytes, fixture->count, cases[i].what);
        free(bytes);
    }
}

/* Runs what queries run, on arrays of exactly the promised sizes: under ASan this finds what a rule
 * has missed. */
static void use_level(const struct planes_model *p, uint32_t l)
{
    const struct planes_level *level = &p->levels[l];
    uint32_t coded = planes_coded_dim(level), padded = (uint32_t)size_round_up(coded, 64);
    uint8_t *sentinel = malloc(padded);
    uint8_t *codes = calloc(1, 3 * level->code_bytes + KERNEL_CODE_SLACK),
            *packed = calloc(1, 3 * p->order_count);
    int8_t *hi = malloc(padded), *lo = malloc(padded);
    float *units = calloc(size_round_up(p->dim, 64), sizeof *units), *y = calloc(padded, sizeof *y);
    float scores[3];
    struct kernel_codes plan;
    struct planes_query query;
    assert_true(sentinel && codes && packed && hi && lo && units && y);
    planes_kernel_codes(p, level, sentinel, &plan);
    planes_repack(p, level, packed, p->order_count, codes, 3);
    units[0] = 3;
    planes_query_init(&query, p, level, units, y, hi, lo);
    kernels_get()->codes_rows(scores, &plan, &query.weights, codes, 3);
    free(sentinel);
    free(codes);
    free(packed);
    free(hi);
    free(lo);
    free(units);
    free(y);
}

static void assert_rules(const struct model *model, const struct properties *properties)
{
    const struct planes_model *p = &model->planes;
    uint32_t seen[PLANES_MAX] = {0};
    assert_int_equal(p->dim, properties->work_dim);
    assert_true(p->code_dim % 8 == 0 && p->code_dim >= 8 && p->code_dim / 8 <= PLANES_GROUPS_MAX);
    assert_true(model->row8.step > 0 && isfinite(model->row8.step));
    for (uint32_t i = 0; i < p->order_count; i++) {
        uint32_t plane = p->order[i] >> 12, group = p->order[i] & 0xfff;
        assert_in_range(plane, 0, PLANES_MAX - 1);
        assert_in_range(group, 0, p->code_dim / 8 - 1);
        assert_int_equal(group, seen[plane]++);
    }
    for (uint32_t l = 0; l < p->level_count; l++) {
        uint32_t sum = 0;
        for (unsigned plane = 0; plane < PLANES_MAX; plane++)
            sum += p->levels[l].groups[plane];
        assert_int_equal(sum, p->levels[l].code_bytes);
        assert_in_range(sum, 1, p->order_count);
    }
}

static void what_random_damage_passes_can_be_used(void **state)
{
    const struct fixture *fixture = *state;
    struct prng prng;
    unsigned accepted = 0;
    prng_init(&prng, 11, 0);
    uint8_t *bytes = malloc(fixture->count);
    for (int round = 0; round < 60000; round++) {
        struct model model;
        struct fathom_error err;
        memcpy(bytes, fixture->bytes, fixture->count);
        uint32_t first =
            round % 2 ? 0
                      : HEADER + 4 * (21 + 24 + 24); /* every other time levels and order alone */
        uint32_t end =
            round % 3 ? HEADER + 4 * (21 + 24 + 24) + 2 * LEVEL + 12 : (uint32_t)fixture->count;
        for (uint32_t change = 0; change <= prng_below(&prng, 3); change++) {
            uint64_t draw = prng_next(&prng);
            uint8_t *at = bytes + first + prng_below(&prng, end - first);
            *at = draw % 4 ? (uint8_t)(*at + (draw >> 8) % 5 - 2) : (uint8_t)(draw >> 8);
        }
        if (decode(fixture, &model, bytes, fixture->count, &err) != 0)
            continue;
        accepted++;
        assert_rules(&model, &fixture->tiny.properties);
        for (uint32_t l = 0; l < model.planes.level_count; l++)
            use_level(&model.planes, l);
        model_fini(&model);
    }
    free(bytes);
    assert_true(accepted > 1000);
}

static void without_memory_it_says_so(void **state)
{
    const struct fixture *fixture = *state;
    struct model model;
    struct fathom_error err;
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), "alloc#1:fail", &err), 0);
    mem_set_fault(fault_alloc, &fault);
    int status = decode(fixture, &model, fixture->bytes, fixture->count, &err);
    mem_set_fault(NULL, NULL);
    assert_int_equal(status, -ENOMEM);
    assert_non_null(strstr(err.msg, "memory"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded_is_decoded),
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(each_value_out_of_bounds_is_refused),
        cmocka_unit_test(what_random_damage_passes_can_be_used),
        cmocka_unit_test(without_memory_it_says_so),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
