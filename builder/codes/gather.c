/* Which rows training looks at is known beforehand: evenly spread ones, and some near those that
 * serve as queries. */
#include "gather.h"

#include <errno.h>
#include <stdlib.h>

#include "checkpoint.h"
#include "error.h"

#define SPREAD_MOST (TRAIN_AXES_ROWS + TRAIN_STATS_ROWS + TRAIN_RANGE_ROWS + TRAIN_QUERY_ROWS)
#define LISTS_MOST  (TRAIN_QUERY_ROWS * GATHER_THIN)
#define ROWS_MOST   (SPREAD_MOST + TRAIN_QUERY_ROWS * TRAIN_PAIRS)

struct numbers {
    uint32_t count, *list;
};

static uint32_t sample_of(uint32_t rows, uint32_t most)
{
    return rows < most ? rows : most;
}

static void add_spread(struct numbers *numbers, uint32_t rows, uint32_t most)
{
    uint32_t count = sample_of(rows, most);
    for (uint32_t i = 0; i < count; i++)
        numbers->list[numbers->count++] = train_sample_row(rows, i, count);
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Rising, each once. */
static void sort_numbers(struct numbers *numbers)
{
    uint32_t kept = 0;
    qsort(numbers->list, numbers->count, sizeof *numbers->list, compare_numbers);
    for (uint32_t i = 0; i < numbers->count; i++)
        if (kept == 0 || numbers->list[kept - 1] != numbers->list[i])
            numbers->list[kept++] = numbers->list[i];
    numbers->count = kept;
}

static int not_lists(struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT,
                     WORK_PREFIX "thin: is not what this build would write; build without --resume "
                                 "to begin again");
}

/* The lists of these rows. */
static int read_lists(struct gathered *out, struct work_file *file, const struct numbers *numbers,
                      uint32_t rows, struct fathom_error *err)
{
    const size_t bytes = GATHER_THIN * sizeof(uint32_t);
    int status = 0;
    out->lists.rows = numbers->count;
    for (uint32_t i = 0; i < numbers->count && status == 0; i++) {
        uint32_t *list = graph_list(&out->lists, i);
        status = work_read(file, (uint64_t)numbers->list[i] * bytes, list, bytes, err);
        if (status == 0 && list[0] >= GATHER_THIN)
            status = not_lists(err);
        for (uint32_t j = 1; status == 0 && j <= list[0]; j++)
            status = list[j] < rows ? 0 : not_lists(err);
    }
    return status;
}

/* Those of the queries, then those of their neighbours too. */
static int gather_lists(struct gathered *out, const struct work *work, uint32_t rows,
                        struct fathom_error *err)
{
    struct numbers numbers = {.list = out->list_numbers};
    struct work_file *file;
    int status = work_open(&file, work, "thin", err);
    if (status != 0)
        return status;
    add_spread(&numbers, rows, TRAIN_QUERY_ROWS);
    status = read_lists(out, file, &numbers, rows, err);
    for (uint32_t i = 0; i < out->lists.rows && status == 0; i++) {
        const uint32_t *list = graph_list(&out->lists, i);
        for (uint32_t j = 1; j <= list[0]; j++)
            numbers.list[numbers.count++] = list[j];
    }
    sort_numbers(&numbers);
    if (status == 0)
        status = read_lists(out, file, &numbers, rows, err);
    work_close(file);
    return status;
}

static int gather_rows(struct gathered *out, const struct work *work, uint32_t rows,
                       struct fathom_error *err)
{
    struct numbers numbers = {.list = out->row_numbers};
    uint32_t queries = sample_of(rows, TRAIN_QUERY_ROWS);
    struct stored_rows stored;
    add_spread(&numbers, rows, TRAIN_AXES_ROWS);
    add_spread(&numbers, rows, TRAIN_STATS_ROWS);
    add_spread(&numbers, rows, TRAIN_RANGE_ROWS);
    add_spread(&numbers, rows, TRAIN_QUERY_ROWS);
    for (uint32_t i = 0; i < queries; i++)
        numbers.count += train_near_rows(&out->view, train_sample_row(rows, i, queries),
                                         numbers.list + numbers.count);
    sort_numbers(&numbers);
    int status = stored_rows_open(&stored, work, CHECKPOINT_ROWS, err);
    if (status == 0 && rows8_init(&out->rows, numbers.count, stored.dim) != 0)
        status = error_set(err, -ENOMEM, "train: no memory for %u rows", numbers.count);
    if (status == 0)
        status = stored_rows_gather(&stored, numbers.list, numbers.count, &out->rows, err);
    stored_rows_close(&stored);
    return status;
}

int gather_training(struct gathered *out, const struct work *work, uint32_t rows,
                    struct fathom_error *err)
{
    *out = (struct gathered){0};
    out->row_numbers = mem_alloc_array(ROWS_MOST, sizeof *out->row_numbers);
    out->list_numbers = mem_alloc_array(LISTS_MOST, sizeof *out->list_numbers);
    out->lists = (struct graph){.stride = GATHER_THIN};
    out->lists.lists = mem_alloc_array(LISTS_MOST, GATHER_THIN * sizeof *out->lists.lists);
    if (!out->row_numbers || !out->list_numbers || !out->lists.lists)
        return error_set(err, -ENOMEM, "train: no memory for a sample");
    out->view = (struct train_rows){.count = rows,
                                    .rows = &out->rows,
                                    .row_numbers = out->row_numbers,
                                    .graph = &out->lists,
                                    .list_numbers = out->list_numbers};
    int status = gather_lists(out, work, rows, err);
    return status == 0 ? gather_rows(out, work, rows, err) : status;
}

void gathered_fini(struct gathered *gathered)
{
    rows8_fini(&gathered->rows);
    graph_fini(&gathered->lists);
    mem_free(gathered->row_numbers);
    mem_free(gathered->list_numbers);
}

uint64_t gather_bytes(uint64_t rows, uint32_t dim)
{
    uint64_t most = rows < ROWS_MOST ? rows : ROWS_MOST;
    uint64_t row = size_round_up(dim, MEM_ALIGN) + sizeof(struct row8_terms) + sizeof(uint64_t);
    return most * row + (ROWS_MOST + LISTS_MOST * (1 + GATHER_THIN)) * sizeof(uint32_t);
}
