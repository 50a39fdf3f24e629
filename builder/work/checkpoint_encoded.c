/* Work files of what is encoded, piece by piece (checkpoint.h): heat, lists in their slots, and
 * codes with factors. */
#include <errno.h>

#include "checkpoint.h"
#include "error.h"
#include "format.h"

/* ---- heat ---- */

static const char heat_name[] = "heat";

int checkpoint_save_heat(struct checkpoint *checkpoint, const uint32_t *heat, uint32_t rows,
                         struct fathom_error *err)
{
    struct work_writer *writer;
    uint64_t start = env_clock_ns(checkpoint->work.env), bytes = (uint64_t)rows * sizeof *heat;
    int status = work_create(&writer, &checkpoint->work, heat_name, err);
    if (status != 0)
        return status;
    status = work_append(writer, heat, bytes, err);
    return checkpoint_finish(checkpoint, writer, status, start, bytes, err);
}

int checkpoint_load_heat(struct checkpoint *checkpoint, uint32_t *heat, uint32_t rows,
                         struct fathom_error *err)
{
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, heat_name, err);
    if (status == 0) {
        status = work_bytes(file) == (uint64_t)rows * sizeof *heat
                     ? work_next(file, heat, (uint64_t)rows * sizeof *heat, err)
                     : checkpoint_malformed(heat_name, err);
        work_close(file);
    }
    return status == 0 ? 1 : checkpoint_unusable(checkpoint, heat_name, status, err);
}

/* ---- lists: the lengths of all, then the lists ---- */

int checkpoint_save_lists(struct checkpoint *checkpoint, const struct list_slots *slots,
                          const struct encode_piece *piece, struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    struct work_writer *writer;
    const uint16_t *lengths = slots->lengths + piece->first;
    uint64_t start = env_clock_ns(checkpoint->work.env), bytes = piece->count * sizeof *lengths;
    int status =
        work_create(&writer, &checkpoint->work, checkpoint_name(name, "lists", piece->number), err);
    if (status != 0)
        return status;
    status = work_append(writer, lengths, bytes, err);
    for (uint32_t i = 0; i < piece->count && status == 0; i++) {
        status = work_append(writer, list_slot(slots, piece->first + i), lengths[i], err);
        bytes += lengths[i];
    }
    return checkpoint_finish(checkpoint, writer, status, start, bytes, err);
}

static int read_lengths(struct work_file *file, const char *name, const struct list_slots *slots,
                        const struct encode_piece *piece, struct fathom_error *err)
{
    uint16_t *lengths = slots->lengths + piece->first;
    uint64_t bytes = piece->count * sizeof *lengths;
    size_t room = slots->graph->stride * sizeof(uint32_t);
    int status = work_next(file, lengths, bytes, err);
    for (uint32_t i = 0; i < piece->count && status == 0; i++) {
        bytes += lengths[i];
        status = lengths[i] == 0 || lengths[i] > room ? checkpoint_malformed(name, err) : 0;
    }
    return status == 0 && bytes != work_bytes(file) ? checkpoint_malformed(name, err) : status;
}

static int read_lists(struct work_file *file, const char *name, const struct list_slots *slots,
                      const struct encode_piece *piece, struct fathom_error *err)
{
    const uint16_t *lengths = slots->lengths + piece->first;
    int status = read_lengths(file, name, slots, piece, err);
    for (uint32_t i = 0; i < piece->count && status == 0; i++)
        status = work_next(file, list_slot(slots, piece->first + i), lengths[i], err);
    return status;
}

/* The whole file is found good first: lists take the place of the neighbours, from which they could
 * not be made again. */
int checkpoint_load_lists(struct checkpoint *checkpoint, const struct list_slots *slots,
                          const struct encode_piece *piece, struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    struct work_file *file;
    int status = checkpoint_has(checkpoint, checkpoint_name(name, "lists", piece->number), err);
    if (status <= 0)
        return status;
    status = work_open(&file, &checkpoint->work, name, err);
    if (status != 0)
        return status;
    status = read_lists(file, name, slots, piece, err);
    work_close(file);
    return status == 0 ? 1 : status;
}

/* ---- codes: each band, then the factors of each level ---- */

/* Calls move for each stretch of the piece's rows. */
static int each_stretch(struct encoded_codes *codes, const struct planes_model *planes,
                        const struct encode_piece *piece,
                        int (*move)(void *file, uint8_t *bytes, size_t count,
                                    struct fathom_error *err),
                        void *file, struct fathom_error *err)
{
    const uint64_t rows = codes->bytes / planes->order_count;
    uint8_t *level = codes->factors;
    uint32_t width;
    int status = 0;
    for (uint32_t at = 0; at < planes->order_count && status == 0; at += width) {
        uint32_t left = planes->order_count - at;
        width = left < FORMAT_BAND_BYTES ? left : FORMAT_BAND_BYTES;
        status = move(file, codes->codes + at * rows + (uint64_t)piece->first * width,
                      (size_t)piece->count * width, err);
    }
    for (uint32_t l = 0; l < planes->level_count && status == 0; l++) {
        width = planes->levels[l].factor_bytes;
        status =
            move(file, level + (uint64_t)piece->first * width, (size_t)piece->count * width, err);
        level += rows * width;
    }
    return status;
}

static uint64_t codes_bytes(const struct planes_model *planes, const struct encode_piece *piece)
{
    return (uint64_t)piece->count *
           (planes->order_count + planes_factor_bytes_below(planes, planes->level_count));
}

static int put(void *writer, uint8_t *bytes, size_t count, struct fathom_error *err)
{
    return work_append(writer, bytes, count, err);
}

static int take(void *file, uint8_t *bytes, size_t count, struct fathom_error *err)
{
    return work_next(file, bytes, count, err);
}

int checkpoint_save_codes(struct checkpoint *checkpoint, struct encoded_codes *codes,
                          const struct planes_model *planes, const struct encode_piece *piece,
                          struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    struct work_writer *writer;
    uint64_t start = env_clock_ns(checkpoint->work.env);
    int status =
        work_create(&writer, &checkpoint->work, checkpoint_name(name, "codes", piece->number), err);
    if (status != 0)
        return status;
    status = each_stretch(codes, planes, piece, put, writer, err);
    return checkpoint_finish(checkpoint, writer, status, start, codes_bytes(planes, piece), err);
}

int checkpoint_load_codes(struct checkpoint *checkpoint, struct encoded_codes *codes,
                          const struct planes_model *planes, const struct encode_piece *piece,
                          struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    struct work_file *file;
    int status =
        work_open(&file, &checkpoint->work, checkpoint_name(name, "codes", piece->number), err);
    if (status == 0) {
        status = work_bytes(file) == codes_bytes(planes, piece)
                     ? each_stretch(codes, planes, piece, take, file, err)
                     : checkpoint_malformed(name, err);
        work_close(file);
    }
    return status == 0 ? 1 : checkpoint_unusable(checkpoint, name, status, err);
}
