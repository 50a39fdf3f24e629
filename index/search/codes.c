/* Codes in memory, in the layout that the navigator reads: whole codes row after row for the graph,
 * which jumps; sliced in blocks of rows for the cells, which scan. Reads the file's bands, each
 * page checked, and never more than one page at a time; or has them made with a trellis
 * (recode.c). */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "index.h"
#include "mem.h"
#include "recode.h"

/* ---- sizes ---- */

static uint64_t resident(uint64_t bytes)
{
    return size_round_up(bytes, MEM_ALIGN);
}

static uint64_t blocks_bytes(uint64_t rows, uint32_t columns)
{
    return size_round_up(rows, KERNEL_LANES) * columns;
}

uint64_t codes_part_bytes(const struct properties *p, const struct planes_model *model,
                          const struct plan *plan)
{
    const struct planes_level *level = &model->levels[plan->level];
    uint64_t factors = resident(p->rows * level->factor_bytes);
    if (plan->scan_reads)
        return scan_part_bytes(plan);
    if (plan->navigator == FATHOM_NAVIGATOR_GRAPH)
        return resident(p->rows * level->code_bytes + KERNEL_CODE_SLACK) + factors;
    const struct planes_level *coarse = &model->levels[coarse_level(model, plan->level)];
    uint64_t bytes = resident(blocks_bytes(p->rows, coarse->code_bytes)) + factors;
    if (coarse != level)
        bytes += resident(p->rows * (level->code_bytes - coarse->code_bytes) + CODES_JOIN_SLACK) +
                 resident(p->rows * coarse->factor_bytes);
    return bytes;
}

/* ---- bands ---- */

/* Where a byte of a band goes: at + row * stride, or for sliced codes into the row's block. */
struct place {
    uint8_t *at; /* NULL: nowhere at this level */
    uint32_t stride, columns;
};

static uint8_t *place_at(const struct place *place, uint64_t row)
{
    return place->columns
               ? place->at + row / KERNEL_LANES * place->columns * KERNEL_LANES + row % KERNEL_LANES
               : place->at + row * place->stride;
}

struct band_scatter {
    uint32_t width; /* bytes of a row in this band */
    uint32_t unit;  /* of the next byte, within the band */
    uint64_t row;
    struct place place[FORMAT_BAND_BYTES];
};

static int scatter_band(void *context, const uint8_t *payload, size_t bytes,
                        struct fathom_error *err)
{
    struct band_scatter *s = context;
    (void)err;
    for (size_t i = 0; i < bytes; i++) {
        if (s->place[s->unit].at)
            *place_at(&s->place[s->unit], s->row) = payload[i];
        if (++s->unit == s->width) {
            s->unit = 0;
            s->row++;
        }
    }
    return 0;
}

/* Arrays to fill. */
struct targets {
    uint8_t *codes, *blocks, *rest;
};

/* Of a plane, the groups that the rest has begin behind those of the first look. */
static uint32_t rest_start(const struct fathom_index *index, uint32_t plane)
{
    uint32_t at = 0;
    for (uint32_t p = 0; p < plane; p++)
        at += index->level.groups[p] - index->coarse.level.groups[p];
    return at;
}

static struct place place_of(const struct fathom_index *index, const struct targets *to,
                             uint32_t byte, uint16_t unit)
{
    const struct coarse_codes *coarse = &index->coarse;
    uint32_t plane = unit >> 12, group = unit & 0xfff;
    if (byte >= index->level.code_bytes)
        return (struct place){0};
    if (to->codes)
        return (struct place){.at = to->codes + index->codes_plan.plane_start[plane] + group,
                              .stride = index->level.code_bytes};
    if (byte < coarse->level.code_bytes)
        return (struct place){.at = to->blocks + (size_t)byte * KERNEL_LANES,
                              .columns = coarse->level.code_bytes};
    return (struct place){.at = to->rest + rest_start(index, plane) + group -
                                coarse->level.groups[plane],
                          .stride = coarse->rest_bytes};
}

static int load_bands(struct fathom_index *index, const struct planes_model *full,
                      const struct targets *to, struct fathom_error *err)
{
    const struct section *section = superblock_find(&index->file.super, SECTION_CODES);
    uint64_t rows = index->properties.rows;
    int status = 0;
    for (uint32_t first = 0; first < index->level.code_bytes && status == 0;
         first += FORMAT_BAND_BYTES) {
        uint32_t left = full->order_count - first,
                 width = left < FORMAT_BAND_BYTES ? left : FORMAT_BAND_BYTES;
        struct band_scatter scatter = {.width = width};
        for (uint32_t u = 0; u < width; u++)
            scatter.place[u] = place_of(index, to, first + u, full->order[first + u]);
        status = index_file_stream_range(&index->file, section, first * rows, width * rows,
                                         scatter_band, &scatter, err);
    }
    return status;
}

static int load_factors(struct fathom_index *index, const struct planes_model *full, uint32_t level,
                        const void **out, struct fathom_error *err)
{
    uint64_t rows = index->properties.rows, bytes = rows * full->levels[level].factor_bytes;
    void *factors = residency_take(index, PART_CODES, bytes, err);
    *out = factors;
    return factors
               ? index_file_read(&index->file, superblock_find(&index->file.super, SECTION_FACTORS),
                                 rows * planes_factor_bytes_below(full, level), factors, bytes, err)
               : -ENOMEM;
}

static int take_targets(struct fathom_index *index, struct targets *to, struct fathom_error *err)
{
    const struct coarse_codes *coarse = &index->coarse;
    uint64_t rows = index->properties.rows;
    if (index->plan.navigator == FATHOM_NAVIGATOR_GRAPH) {
        to->codes = residency_take(index, PART_CODES,
                                   rows * index->level.code_bytes + KERNEL_CODE_SLACK, err);
        index->codes = to->codes;
        return to->codes ? 0 : -ENOMEM;
    }
    uint64_t bytes = blocks_bytes(rows, coarse->level.code_bytes);
    to->blocks = residency_take(index, PART_CODES, bytes, err);
    if (!to->blocks)
        return -ENOMEM;
    memset(to->blocks, 0, bytes); /* the last block has lanes without a row */
    index->coarse.blocks = to->blocks;
    if (coarse->rest_bytes)
        to->rest =
            residency_take(index, PART_CODES, rows * coarse->rest_bytes + CODES_JOIN_SLACK, err);
    index->coarse.rest = to->rest;
    return coarse->rest_bytes && !to->rest ? -ENOMEM : 0;
}

/* ---- with a trellis ---- */

struct made {
    const struct fathom_index *index;
    const struct place *places; /* of the bytes of a code */
    uint32_t factor_bytes, coarse_factor_bytes;
    void *factors, *coarse_factors;
};

static void put_factors(void *to, uint32_t bytes, uint64_t first, uint32_t count,
                        const uint32_t *factors)
{
    for (uint32_t i = 0; i < count; i++)
        if (bytes == 2)
            ((uint16_t *)to)[first + i] = (uint16_t)factors[i];
        else
            ((uint32_t *)to)[first + i] = factors[i];
}

/* A byte of the codes of rows from `first` on, which begins a block. */
static void put_unit(const struct place *place, uint64_t first, uint32_t count,
                     const uint8_t *bytes)
{
    uint8_t *to = place_at(place, first);
    for (uint32_t i = 0; i < count && !place->columns; i++)
        to[(size_t)i * place->stride] = bytes[i];
    for (uint32_t i = 0; i < count && place->columns; i += KERNEL_LANES) {
        uint32_t left = count - i;
        memcpy(place_at(place, first + i), bytes + i, left < KERNEL_LANES ? left : KERNEL_LANES);
    }
}

static void put_made(void *context, uint64_t first, uint32_t count, const uint8_t *units,
                     const uint32_t *factors, const uint32_t *coarse_factors)
{
    const struct made *made = context;
    for (uint32_t u = 0; u < made->index->level.code_bytes; u++)
        put_unit(&made->places[u], first, count, units + (size_t)u * RECODE_ROWS);
    put_factors(made->factors, made->factor_bytes, first, count, factors);
    if (made->coarse_factors)
        put_factors(made->coarse_factors, made->coarse_factor_bytes, first, count, coarse_factors);
}

static int load_made(struct fathom_index *index, const struct planes_model *full,
                     const struct targets *to, struct fathom_error *err)
{
    const struct planes_level *level = &full->levels[index->plan.level],
                              *coarse = index->coarse.rest_bytes ? &index->coarse.level : NULL;
    uint64_t rows = index->properties.rows;
    struct place places[KERNEL_TRELLIS_MAX];
    for (uint32_t u = 0; u < level->code_bytes; u++)
        places[u] = place_of(index, to, u, full->order[u]);
    struct made made = {.index = index, .places = places, .factor_bytes = level->factor_bytes};
    made.factors = residency_take(index, PART_CODES, rows * level->factor_bytes, err);
    index->factors = index->coarse.factors = made.factors;
    if (coarse) {
        made.coarse_factor_bytes = coarse->factor_bytes;
        made.coarse_factors = residency_take(index, PART_CODES, rows * coarse->factor_bytes, err);
        index->coarse.factors = made.coarse_factors;
    }
    if (!made.factors || (coarse && !made.coarse_factors))
        return -ENOMEM;
    struct recode_target target = {put_made, &made};
    return recode_rows(index, full, coarse, &target, err);
}

int codes_load(struct fathom_index *index, const struct planes_model *full,
               struct fathom_error *err)
{
    struct targets to = {0};
    struct coarse_codes *coarse = &index->coarse;
    int status = take_targets(index, &to, err);
    if (status == 0 && recode_wanted(full, &index->plan))
        return load_made(index, full, &to, err);
    if (status == 0)
        status = load_bands(index, full, &to, err);
    if (status == 0)
        status = load_factors(index, full, index->plan.level, &index->factors, err);
    coarse->factors = index->factors;
    if (status == 0 && coarse->rest_bytes)
        status =
            load_factors(index, full, coarse_level(full, index->plan.level), &coarse->factors, err);
    return status;
}

/* ---- codes again ---- */

_Static_assert(CODES_JOIN_SLACK <= KERNEL_CODE_SLACK, "room behind joined codes");

/* In pieces of 16 bytes, and so up to 15 more than count: a copy of whatever length costs as much
 * as all else of a code. */
static void copy_pieces(uint8_t *to, const uint8_t *from, uint32_t count)
{
    for (uint32_t at = 0; at < count; at += 16)
        memcpy(to + at, from + at, 16);
}

/* Of a code that is joined: where in it a column of the first look goes, and where what the rest
 * has of a plane. */
struct joint {
    uint16_t column[PLANES_GROUPS_MAX * PLANES_MAX];
    uint32_t rest[PLANES_MAX], count[PLANES_MAX];
};

static void joint_init(struct joint *joint, const struct fathom_index *index)
{
    const struct coarse_codes *coarse = &index->coarse;
    const uint32_t *start = index->codes_plan.plane_start;
    for (uint32_t c = 0; c < coarse->level.code_bytes; c++)
        joint->column[c] = (uint16_t)(start[coarse->units[c] >> 12] + (coarse->units[c] & 0xfff));
    for (uint32_t p = 0; p < PLANES_MAX; p++) {
        joint->rest[p] = start[p] + coarse->level.groups[p];
        joint->count[p] = index->level.groups[p] - coarse->level.groups[p];
    }
}

/* The rest first, plane by plane: what is copied too much of one lands where the next, or the first
 * look, is yet to be put. */
static void join(const struct fathom_index *index, const struct joint *joint, uint32_t row,
                 uint8_t *code)
{
    const struct coarse_codes *coarse = &index->coarse;
    uint32_t columns = coarse->level.code_bytes;
    const uint8_t *block =
        coarse->blocks + (size_t)(row / KERNEL_LANES) * columns * KERNEL_LANES + row % KERNEL_LANES;
    const uint8_t *rest = coarse->rest; /* NULL where the first look has all of a code */
    if (rest)
        rest += (size_t)row * coarse->rest_bytes;
    for (uint32_t p = 0; p < PLANES_MAX && rest; p++) {
        copy_pieces(code + joint->rest[p], rest, joint->count[p]);
        rest += joint->count[p];
    }
    for (uint32_t c = 0; c < columns; c++)
        code[joint->column[c]] = block[c * KERNEL_LANES];
}

void codes_join(const struct fathom_index *index, const uint32_t *rows, uint32_t count,
                uint8_t *codes)
{
    struct joint joint;
    joint_init(&joint, index);
    for (uint32_t i = 0; i < count; i++)
        join(index, &joint, rows[i], codes + (size_t)i * index->level.code_bytes);
}
