/* An index file with right checksums and wrong content: verified, opened for a residency or for
 * each of them, and searched. The input is no file but a list of changes to one of a few small
 * files (tiny_index.h), which are sealed again afterwards, so that what is found lies behind the
 * checksums:
 *
 *     u8 file, u8 flags, then any number of: u8 section (0: the superblock), u16 offset, u8 count,
 *     bytes
 *
 * Whatever they are: opening and searching succeed or fail with a typed status and a message, ids
 * are those of rows as long as ids and superblock were let alone, and what a deep verification
 * calls sound can be opened and searched. */
#include "fuzz.h"

#include "file_path.h"
#include "index.h"
#include "one_file.h"
#include "tiny_index.h"

#define FILES      4
#define FLAG_STALE 1 /* pages are left as the changes made them: checksums refuse them */
#define FLAG_CUT   2 /* the file ends early, by the first u16 */
#define FLAG_BITS  2 /* above them: 0 for each residency, or one; else it is only verified */
#define QUERIES    2
#define K          5

static const struct tiny_options shapes[FILES] = {
    {.rows = 200,
     .dim = 20,
     .dtype = FATHOM_F32,
     .metric = FATHOM_METRIC_L2,
     .code_dim = 24,
     .degree = 8,
     .points = 6},
    {.rows = 90, .dim = 8, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2, .degree = 3},
    {.rows = 64,
     .dim = 9,
     .dtype = FATHOM_F16,
     .metric = FATHOM_METRIC_COS,
     .code_dim = 16,
     .degree = 60,
     .points = 3},
    {.rows = 5, .dim = 1100, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_IP, .degree = 4}};

/* Made once and never changed. */
struct pristine {
    struct tiny_index tiny;
    uint8_t *bytes;
    size_t count;
};

static const struct pristine *pristine_files(void)
{
    static struct pristine files[FILES];
    for (unsigned i = 0; i < FILES && !files[i].bytes; i++) {
        tiny_make(&files[i].tiny, &shapes[i]);
        files[i].bytes = tiny_image(&files[i].tiny, &files[i].count);
    }
    return files;
}

/* ---- the file ---- */

struct image {
    uint8_t *bytes;
    size_t count;
    bool ids_are_known; /* of rows: 7 * row + 3 */
};

static void change(const struct pristine *file, struct image *image, struct fuzz_input *input)
{
    unsigned kind = fuzz_u8(input) % SECTION_END;
    size_t offset = fuzz_u16(input), count = fuzz_u8(input) % 16u;
    size_t bytes = kind ? file->tiny.sections[kind].bytes : PAGE_BYTES;
    if (kind == 0 || kind == SECTION_IDS)
        image->ids_are_known = false;
    for (size_t i = 0; i < count && bytes > 0; i++) {
        size_t at = (offset + i) % bytes;
        if (kind != 0)
            at = (size_t)(image_at(file->bytes, file->count, kind, at) - file->bytes);
        image->bytes[at] = fuzz_u8(input);
    }
}

static struct image make_image(const struct pristine *file, uint8_t flags, struct fuzz_input *input)
{
    struct image image = {fuzz_copy(file->bytes, file->count), file->count, true};
    size_t end = flags & FLAG_CUT ? fuzz_u16(input) : file->count;
    while (fuzz_left(input) > 0)
        change(file, &image, input);
    for (uint64_t page = 0; !(flags & FLAG_STALE) && page < image.count / PAGE_BYTES; page++)
        image_seal(image.bytes, page);
    image.count = end < image.count ? end : image.count;
    return image;
}

/* ---- what may come of it ---- */

static bool is_typed(int status)
{
    return status == 0 || status == FATHOM_ECORRUPT || status == FATHOM_EVERSION ||
           status == FATHOM_ECHECKSUM;
}

static void check_result(const struct fathom_result *result, const struct image *image,
                         uint64_t rows, bool sound)
{
    FUZZ_CHECK(is_typed(result->status), "a query: %d (%s)", result->status, result->detail);
    FUZZ_CHECK(result->status == 0 || (result->detail && result->detail[0]),
               "a query fails with %d and no word", result->status);
    FUZZ_CHECK(!sound || result->status == 0, "verified as sound, but a query: %s", result->detail);
    FUZZ_CHECK(result->status != 0 || result->count <= K, "%u results of %d", result->count, K);
    for (uint32_t i = 0; result->status == 0 && i < result->count; i++)
        FUZZ_CHECK(!image->ids_are_known || (result->ids[i] % 7 == 3 && result->ids[i] / 7 < rows),
                   "%llu is no id of a row", (unsigned long long)result->ids[i]);
}

static void ask(struct fathom_engine *engine, const struct fathom_index *index,
                const struct image *image, bool sound)
{
    float vector[FATHOM_DIM_MAX];
    struct fathom_index_info info;
    struct fathom_result results[QUERIES];
    struct fathom_error err;
    unsigned asked = 0, answered = 0;
    fathom_index_get_info(index, &info);
    for (uint32_t d = 0; d < info.dim; d++)
        vector[d] = (float)(d % 7) - 3;
    for (unsigned q = 0; q < QUERIES; q++) {
        struct fathom_query query = fathom_query_default();
        query.vector = vector;
        query.dtype = FATHOM_F32;
        query.k = K;
        query.search_list = q == 0 ? 40 : 0;
        query.exact_distances = q > 0;
        /* A step can be so small that distances to this query fit no float. */
        int status = fathom_engine_submit(engine, index, &query, &err);
        FUZZ_CHECK(status == 0 || (status == FATHOM_EARGUMENT && err.msg[0]), "a query: %d (%s)",
                   status, err.msg);
        asked += status == 0;
    }
    for (unsigned polls = 0; answered < asked; polls++) {
        int got = fathom_engine_poll(engine, results, QUERIES, true);
        FUZZ_CHECK(got >= 0 && polls < 10000, "polling: %d after %u", got, polls);
        for (int i = 0; i < got; i++)
            check_result(&results[i], image, info.rows, sound);
        answered += (unsigned)got;
    }
}

/* ---- opening ---- */

enum residency { CELLS, ROWS8, CODES, PARTLY, SCANNED, LEAST, RESIDENCIES };

static void open_and_ask(const struct env *env, struct fathom_engine *engine,
                         const struct image *image, enum residency residency, bool sound)
{
    struct fathom_open_options options = {.threads = 1, .inflight = QUERIES};
    struct fathom_index *index;
    struct fathom_error err = {0};
    options.navigator = residency == CELLS || residency == SCANNED || residency == LEAST
                            ? FATHOM_NAVIGATOR_CELLS
                            : FATHOM_NAVIGATOR_GRAPH;
    options.code_bytes = residency == CODES || residency == PARTLY ? 3 : 0;
    options.list_share = residency == PARTLY ? 0.4f : 0;
    options.code_share = residency == SCANNED ? 0.4f : residency == LEAST ? 1e-6f : 0;
    if (residency == LEAST) {
        struct fathom_outlook outlook;
        options.dram_budget_bytes = 1;
        (void)!index_outlook_file(env, "fuzz", &options, &outlook, &err); /* opening says it too */
        options.dram_budget_bytes = outlook.least_bytes;
    }
    int status = index_open_with(&index, env, "fuzz", &options, &err);
    bool refused = status == FATHOM_EARGUMENT; /* no such codes: the options', not the file's */
    FUZZ_CHECK(is_typed(status) || refused, "opening: %d (%s)", status, err.msg);
    FUZZ_CHECK(status == 0 || (err.msg[0] && err.code == status), "%d is refused without a word",
               status);
    FUZZ_CHECK(!sound || status == 0 || refused, "verified as sound, but opening: %s", err.msg);
    if (status != 0)
        return;
    char *manifest;
    status = fathom_index_read_manifest(index, &manifest, &err);
    FUZZ_CHECK(is_typed(status) && (!sound || status == 0), "the manifest: %d (%s)", status,
               err.msg);
    free(manifest);
    ask(engine, index, image, sound);
    fathom_index_close(index);
}

/* Whether a deep verification finds nothing. */
static bool verify(const struct env *env)
{
    struct index_file file;
    struct fathom_verify_report report;
    struct fathom_error err = {0};
    int status = index_file_open(&file, env, "fuzz", &err);
    bool opened = status == 0;
    if (opened)
        status = index_file_verify(&file, true, &report, NULL, NULL, NULL, &err);
    FUZZ_CHECK(is_typed(status), "verifying: %d (%s)", status, err.msg);
    FUZZ_CHECK(status == 0 || err.msg[0], "%d is found without a word", status);
    if (opened)
        index_file_close(&file);
    return status == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct fathom_engine_options options = {
        .io = FATHOM_IO_PREAD, .inflight = QUERIES, .page_buffers = FATHOM_PAGE_BUFFERS_MIN};
    struct fuzz_input input = {bytes, bytes + count};
    const struct pristine *file = &pristine_files()[fuzz_u8(&input) % FILES];
    uint8_t flags = fuzz_u8(&input);
    struct image image = make_image(file, flags, &input);
    struct one_file disk;
    struct fathom_engine *engine;
    struct fathom_error err = {0};
    one_file_init(&disk, image.bytes, image.count);
    int status = engine_create_with(&engine, &disk.env, &options, &err);
    FUZZ_CHECK(status == 0, "an engine: %s", err.msg);
    bool sound = verify(&disk.env);
    for (int residency = 0, chosen = flags >> FLAG_BITS; residency < RESIDENCIES; residency++)
        if (chosen == 0 || chosen == 1 + residency)
            open_and_ask(&disk.env, engine, &image, residency, sound);
    fathom_engine_destroy(engine);
    FUZZ_CHECK(disk.open == 0, "%u descriptors are left open", disk.open);
    free(image.bytes);
    return 0;
}

/* ---- seeds ---- */

/* One file as it is, and with one change to each section and to each field of the superblock; for
 * one residency at a time, so that a run is short and tells what it was about. */
static void file_seeds(fuzz_seed_fn *seed, uint8_t file, uint8_t residency)
{
    uint8_t chosen = (uint8_t)((1 + residency) << FLAG_BITS);
    uint8_t bytes[] = {file, chosen, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff};
    seed(bytes, 2);
    bytes[1] = chosen | FLAG_STALE;
    seed(bytes, sizeof bytes);
    bytes[1] = chosen | FLAG_CUT;
    seed(bytes, 4);
    bytes[1] = chosen;
    for (uint8_t kind = 1; kind < SECTION_END; kind++) {
        bytes[2] = kind;
        seed(bytes, sizeof bytes);
    }
    bytes[2] = 0;
    bytes[5] = 1;
    bytes[6] = 1;
    for (uint8_t field = 8; field < 136; field += 4) {
        bytes[3] = field;
        seed(bytes, 7);
    }
}

void fuzz_seeds(fuzz_seed_fn *seed)
{
    for (uint8_t file = 0; file < FILES; file++)
        for (uint8_t residency = 0; residency < RESIDENCIES; residency++)
            file_seeds(seed, file, residency);
}
