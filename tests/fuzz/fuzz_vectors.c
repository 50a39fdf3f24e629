/* Vector files, truth sets and files of ids, as fathom-build and fathom-data read them. The first
 * byte says which extension the file has, the others are its content. HDF5 is not here: those
 * bytes are the HDF5 library's to read, and it does not claim to survive hostile ones.
 *
 * Whatever they are: a file that opens has as many rows as its bytes can hold, they read the same
 * at once and one by one, and what is refused is refused in words. */
#include "fuzz.h"

#include "ids.h"
#include "mem.h"
#include "one_file.h"
#include "truth.h"
#include "vectors.h"

static const char *const names[] = {"f.fvecs", "f.bvecs", "f.ivecs", "f.fbin", "f.f16bin",
                                    "f.i8bin", "f.u8bin", "f.npy",   "f.bin",  "f.txt"};
#define NAMES (sizeof names / sizeof *names)

static void check_refusal(int status, const struct fathom_error *err)
{
    FUZZ_CHECK(status == 0 || (err->msg[0] && err->code == status), "%d is refused without a word",
               status);
}

/* All rows at once, and one by one; each way may fail, and then the other must. */
static void read_rows(struct vector_file *file, bool integers)
{
    struct vector_info info = vector_file_info(file);
    size_t scalar = integers ? sizeof(int64_t) : vectors_scalar_bytes(info.dtype);
    size_t row_bytes = info.dim * scalar, bytes = info.rows * row_bytes;
    FUZZ_CHECK(info.rows > 0 && info.dim > 0 && info.rows * info.dim <= info.file_bytes,
               "%llu rows of %u in %llu bytes", (unsigned long long)info.rows, info.dim,
               (unsigned long long)info.file_bytes);
    uint8_t *whole = malloc(bytes), *single = malloc(row_bytes);
    float *floats = malloc(info.rows * info.dim * sizeof *floats);
    FUZZ_CHECK(whole && single && floats, "no memory");
    struct fathom_error err = {0};
    int status = integers ? vector_file_read_i64(file, 0, info.rows, (int64_t *)whole, &err)
                          : vector_file_read(file, 0, info.rows, whole, &err);
    int failed = 0;
    check_refusal(status, &err);
    for (uint64_t row = 0; row < info.rows && failed == 0; row++) {
        failed = integers ? vector_file_read_i64(file, row, 1, (int64_t *)single, &err)
                          : vector_file_read(file, row, 1, single, &err);
        check_refusal(failed, &err);
        FUZZ_CHECK(failed || status || !memcmp(single, whole + row * row_bytes, row_bytes),
                   "row %llu is another one alone", (unsigned long long)row);
    }
    FUZZ_CHECK(failed == status, "%d row by row, %d at once", failed, status);
    if (!integers && status == 0) {
        status = vector_file_read_f32(file, 0, info.rows, floats, &err);
        FUZZ_CHECK(status == 0, "as floats: %s", err.msg);
        check_refusal(vectors_check_finite(info.dtype, whole, 0, info.rows, info.dim, "f", &err),
                      &err);
    }
    free(whole);
    free(single);
    free(floats);
}

static void run_reader(const struct env *env, const char *name, bool integers)
{
    struct vector_file *file;
    struct fathom_error err = {0};
    int status = integers ? vector_file_open_integers(&file, env, name, NULL, &err)
                          : vector_file_open(&file, env, name, NULL, &err);
    check_refusal(status, &err);
    if (status != 0)
        return;
    read_rows(file, integers);
    vector_file_close(file);
}

static void run_truth(const struct env *env, const char *name)
{
    struct truth *truth;
    struct fathom_error err = {0};
    int status = truth_read(&truth, env, name, 1000, &err);
    check_refusal(status, &err);
    for (size_t i = 0; status == 0 && i < (size_t)truth->query_count * truth->k; i++)
        FUZZ_CHECK(truth->ids[i] < 1000 || truth->ids[i] == FATHOM_ID_NONE, "id %llu of 1000 rows",
                   (unsigned long long)truth->ids[i]);
    truth_destroy(truth);
}

static void run_ids(const struct env *env, const char *name)
{
    uint64_t *ids, *all, rows;
    struct fathom_error err = {0};
    int status = ids_read(&ids, env, name, 3, &err);
    check_refusal(status, &err);
    int of_all = ids_read_all(&all, &rows, env, name, &err);
    check_refusal(of_all, &err);
    if (status == 0) {
        FUZZ_CHECK(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "an id is twice");
        FUZZ_CHECK(of_all == 0 && rows == 3 && !memcmp(ids, all, 3 * sizeof *ids),
                   "three ids are others among all");
    }
    mem_free(ids);
    mem_free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct one_file file;
    if (count < 1)
        return 0;
    const char *name = names[bytes[0] % NAMES];
    one_file_init(&file, bytes + 1, count - 1);
    run_reader(&file.env, name, false);
    run_reader(&file.env, name, true);
    run_truth(&file.env, name);
    run_ids(&file.env, name);
    FUZZ_CHECK(file.open == 0, "%u descriptors are left open", file.open);
    return 0;
}

/* ---- seeds ---- */

struct builder {
    uint8_t bytes[1024];
    size_t count;
};

static void add(struct builder *out, const void *bytes, size_t count)
{
    memcpy(out->bytes + out->count, bytes, count);
    out->count += count;
}

static void add_u32(struct builder *out, uint32_t value)
{
    add(out, &value, sizeof value);
}

/* Content of scalars that are finite in every type. */
static void add_scalars(struct builder *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out->bytes[out->count++] = (uint8_t)(i * 7 % 60);
}

/* Three rows of two, each behind its dimension. */
static void seed_vecs(fuzz_seed_fn *seed, uint8_t name, size_t scalar)
{
    struct builder out = {.bytes = {name}, .count = 1};
    for (int row = 0; row < 3; row++) {
        add_u32(&out, 2);
        add_scalars(&out, 2 * scalar);
    }
    seed(out.bytes, out.count);
}

static void seed_bin(fuzz_seed_fn *seed, uint8_t name, uint32_t rows, uint32_t dim, size_t bytes)
{
    struct builder out = {.bytes = {name}, .count = 1};
    add_u32(&out, rows);
    add_u32(&out, dim);
    add_scalars(&out, bytes);
    seed(out.bytes, out.count);
}

/* Version 1 has a length of two bytes, those after it of four. */
static void seed_npy(fuzz_seed_fn *seed, unsigned version, const char *descr, const char *shape,
                     size_t bytes)
{
    struct builder out = {.bytes = {7}, .count = 1};
    char text[256];
    int length =
        snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }   \n",
                 descr, shape);
    uint8_t head[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', (uint8_t)version, 0, (uint8_t)length};
    add(&out, head, version == 1 ? 10 : 12);
    add(&out, text, (size_t)length);
    add_scalars(&out, bytes);
    seed(out.bytes, out.count);
}

void fuzz_seeds(fuzz_seed_fn *seed)
{
    static const size_t scalars[] = {4, 1, 4, 4, 2, 1, 1};
    for (uint8_t name = 0; name < 3; name++)
        seed_vecs(seed, name, scalars[name]);
    for (uint8_t name = 3; name < 7; name++)
        seed_bin(seed, name, 3, 2, 6 * scalars[name]);
    seed_bin(seed, 8, 2, 2, 4 * 8);
    seed_bin(seed, 8, 2, 2, 4 * 12);
    seed_npy(seed, 1, "<f4", "(3, 2)", 24);
    seed_npy(seed, 2, "<f2", "(3, 2)", 12);
    seed_npy(seed, 3, "|u1", "(3, 2)", 6);
    seed_npy(seed, 1, "<i8", "(3,)", 24);
    seed_npy(seed, 1, "<u4", "(3, 1)", 12);
    seed_npy(seed, 1, "<u8", "(3, 1)", 24);
    seed("\x09"
         "12\n7\r\n18446744073709551614",
         28);
    seed("\x09", 1);
}
