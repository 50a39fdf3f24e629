/* What lies under the checksums and is decoded without an index round it: neighbour lists, pages
 * of lists, models. Whatever the bytes are, a list is of rows that exist and rise, and decodes to
 * the same when it is encoded again; a page gives lists that lie in it; a model is refused in words
 * or can be encoded again to the same bytes. */
#include "fuzz.h"

#include "format.h"
#include "lists.h"

#define ROWS_MAX 100000

/* A copy with readable bytes behind it, whose content must not matter. */
static uint8_t *with_slack(const uint8_t *bytes, size_t count)
{
    uint8_t *copy = malloc(count + LISTS_SLACK);
    FUZZ_CHECK(copy, "no memory");
    memcpy(copy, bytes, count);
    memset(copy + count, 0xa5, LISTS_SLACK);
    return copy;
}

static void encode_again(uint32_t node, const uint32_t *ids, uint32_t degree, uint32_t rows)
{
    uint32_t sorted[LISTS_DEGREE_MAX + 4], again[LISTS_DEGREE_MAX + 4];
    uint8_t *list = calloc(1, list_bytes_max(degree) + LISTS_SLACK);
    FUZZ_CHECK(list, "no memory");
    memcpy(sorted, ids, degree * sizeof *ids);
    size_t bytes = list_encode(node, sorted, degree, rows, list);
    FUZZ_CHECK(bytes <= list_bytes_max(degree), "a list of %u takes %zu bytes", degree, bytes);
    int got = list_decode(node, list, bytes, rows, degree, again);
    FUZZ_CHECK(got == (int)degree && memcmp(again, ids, degree * sizeof *ids) == 0,
               "a list of %u decodes to %d others after encoding", degree, got);
    free(list);
}

static void run_list(struct fuzz_input *input)
{
    uint32_t rows = 1 + (fuzz_u16(input) | (uint32_t)fuzz_u8(input) << 16) % ROWS_MAX;
    uint32_t node = fuzz_u16(input) % rows, degree_max = fuzz_u8(input);
    uint32_t ids[LISTS_DEGREE_MAX + 4];
    size_t count = fuzz_left(input);
    uint8_t *list = with_slack(input->at, count);
    int degree = list_decode(node, list, count, rows, degree_max, ids);
    bool has_node = false;
    FUZZ_CHECK(degree == FATHOM_ECORRUPT || (degree >= 0 && degree <= (int)degree_max),
               "%d neighbours of at most %u", degree, degree_max);
    for (int i = 0; i < degree; i++) {
        FUZZ_CHECK(ids[i] < rows, "neighbour %u of %u rows", ids[i], rows);
        FUZZ_CHECK(i == 0 || ids[i - 1] < ids[i], "neighbours do not rise");
        has_node = has_node || ids[i] == node;
    }
    if (degree >= 0 && !has_node)
        encode_again(node, ids, (uint32_t)degree, rows);
    free(list);
}

static void run_page(struct fuzz_input *input)
{
    uint32_t count = fuzz_u16(input), length_bytes = 1 + fuzz_u8(input) % 2;
    uint32_t slot = count ? fuzz_u16(input) % count : 0;
    size_t page_bytes = fuzz_left(input), bytes = 0;
    uint8_t *page = fuzz_copy(input->at, page_bytes);
    const uint8_t *list =
        count ? list_page_find(page, (uint32_t)page_bytes, count, length_bytes, slot, &bytes)
              : NULL;
    FUZZ_CHECK(!list || (list >= page && bytes <= page_bytes &&
                         (size_t)(list - page) <= page_bytes - bytes),
               "a list of %zu bytes leaves its page", bytes);
    free(page);
}

static void run_model(struct fuzz_input *input)
{
    struct properties properties = {.dim = 8 + fuzz_u8(input) % 3u};
    struct fathom_error err = {0};
    struct model model;
    properties.work_dim = properties.dim;
    uint8_t *bytes = fuzz_copy(input->at, fuzz_left(input));
    int status = model_decode(&model, bytes, fuzz_left(input), &properties, "fuzz", &err);
    FUZZ_CHECK(status == 0 || err.msg[0], "a model is refused without a word");
    if (status == 0) {
        size_t count = model_encoded_bytes(&model);
        uint8_t *again = calloc(1, count);
        FUZZ_CHECK(again && count == fuzz_left(input), "a model of %zu bytes encodes to %zu",
                   fuzz_left(input), count);
        model_encode(&model, again);
        FUZZ_CHECK(memcmp(again, bytes, count) == 0, "a model encodes to other bytes");
        free(again);
        model_fini(&model);
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static void (*const runs[])(struct fuzz_input * input) = {run_list, run_page, run_model};
    struct fuzz_input input = {bytes, bytes + count};
    runs[fuzz_u8(&input) % 3](&input);
    return 0;
}

/* ---- seeds ---- */

static void seed_lists(fuzz_seed_fn *seed)
{
    static const uint32_t degrees[] = {0, 1, 3, 4, 5, 40, 255};
    static const uint32_t strides[] = {1, 7, 300};
    for (size_t i = 0; i < sizeof degrees / sizeof *degrees; i++) {
        for (size_t j = 0; j < sizeof strides / sizeof *strides; j++) {
            /* 80,001 rows, row 1000, at most 255 neighbours */
            uint8_t bytes[4096] = {0, 0x80, 0x38, 1, 0xe8, 3, 255};
            uint32_t ids[LISTS_DEGREE_MAX + 4];
            for (uint32_t k = 0; k < degrees[i]; k++)
                ids[k] = 1001 + k * strides[j];
            seed(bytes, 7 + list_encode(1000, ids, degrees[i], 80001, bytes + 7));
        }
    }
}

static void seed_page(fuzz_seed_fn *seed)
{
    uint8_t bytes[64] = {1, 3, 0, 0, 1, 0, 4, 2, 5};
    for (int i = 9; i < 24; i++)
        bytes[i] = (uint8_t)i;
    seed(bytes, 24);
}

/* Dimension 8, one group, one level of one plane. */
static void seed_model(fuzz_seed_fn *seed)
{
    static const float mean[8], scale[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    static const int8_t rotation[64];
    static const uint16_t order[1];
    static const uint8_t origin[8];
    uint8_t table[128], bytes[4096] = {2, 0};
    struct planes_level level = {.code_bytes = 1,
                                 .groups = {1},
                                 .kappa = 0.4f,
                                 .factor_bytes = 2,
                                 .scale_base = 0x3e000000,
                                 .offset_step = 1};
    struct model model = {.row8 = {.dim = 8, .step = 0.25f, .mean = mean},
                          .planes = {.dim = 8,
                                     .code_dim = PLANES_GROUP,
                                     .order_count = 1,
                                     .level_count = 1,
                                     .rotation = rotation,
                                     .rotation_scale = scale,
                                     .sigma = scale,
                                     .order = order,
                                     .origin = origin,
                                     .levels = &level,
                                     .level_bytes = table}};
    planes_level_table(table, &model.planes.level_quantum);
    model_encode(&model, bytes + 2);
    seed(bytes, 2 + model_encoded_bytes(&model));
}

void fuzz_seeds(fuzz_seed_fn *seed)
{
    seed_lists(seed);
    seed_page(seed);
    seed_model(seed);
}
