/* Reading rows of a work file, in stretches or here and there. */
#include "stored.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "mem.h"

#define READ_ROWS 256 /* at once */

int stored_rows_open(struct stored_rows *out, const struct work *work, const char *name,
                     struct fathom_error *err)
{
    struct stored_header header;
    *out = (struct stored_rows){0};
    int status = work_open(&out->file, work, name, err);
    if (status == 0)
        status = work_next(out->file, &header, sizeof header, err);
    if (status != 0)
        return status;
    out->count = header.rows;
    out->dim = header.dim;
    uint64_t cells = header.cells, bytes = sizeof header + (uint64_t)header.rows * header.dim;
    if (cells)
        bytes += 4 * (cells + 1) + cells * header.dim + 4 * (uint64_t)header.rows;
    return bytes == work_bytes(out->file)
               ? 0
               : error_set(err, FATHOM_ECORRUPT, WORK_PREFIX "%s: is not a file of rows", name);
}

int stored_rows_read(struct stored_rows *stored, uint32_t first, uint32_t count, struct rows8 *out,
                     uint32_t at, struct fathom_error *err)
{
    uint8_t *row = mem_alloc_array(READ_ROWS, stored->dim);
    int status = row && out->dim == stored->dim ? 0 : error_set(err, -ENOMEM, "no memory for rows");
    for (uint32_t done = 0, take; done < count && status == 0; done += take) {
        take = count - done < READ_ROWS ? count - done : READ_ROWS;
        status = work_read(stored->file, stored_rows_offset(stored, first + done), row,
                           (size_t)take * stored->dim, err);
        for (uint32_t i = 0; i < take && status == 0; i++)
            rows8_set(out, at + done + i, row + (size_t)i * stored->dim);
    }
    mem_free(row);
    return status;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* In the order of the file; where most pages are wanted, all of a stretch come in one read. */
int stored_rows_gather(struct stored_rows *stored, const uint32_t *numbers, uint32_t count,
                       struct rows8 *out, struct fathom_error *err)
{
    uint64_t *keys = mem_alloc_array(count, sizeof *keys);
    uint8_t *row = mem_alloc(stored->dim);
    int status = keys && row && out->dim == stored->dim
                     ? 0
                     : error_set(err, -ENOMEM, "no memory for %u rows", count);
    for (uint32_t i = 0; i < count && status == 0; i++)
        keys[i] = (uint64_t)numbers[i] << 32 | i;
    if (status == 0)
        qsort(keys, count, sizeof *keys, compare_keys);
    bool dense = (uint64_t)count * WORK_AHEAD_BYTES / 2 > (uint64_t)stored->count * stored->dim;
    for (uint32_t i = 0; i < count && status == 0; i++) {
        uint64_t offset = stored_rows_offset(stored, (uint32_t)(keys[i] >> 32));
        status = dense ? work_read_ahead(stored->file, offset, row, stored->dim, err)
                       : work_read(stored->file, offset, row, stored->dim, err);
        if (status == 0)
            rows8_set(out, (uint32_t)keys[i], row);
    }
    mem_free(keys);
    mem_free(row);
    return status;
}

void stored_rows_close(struct stored_rows *stored)
{
    work_close(stored->file);
    *stored = (struct stored_rows){0};
}
