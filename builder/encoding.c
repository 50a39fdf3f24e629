/* The stage of codes where all is in memory: heat, lists, codes. Of many rows each takes longer
 * than a kill may cost, so it is saved on its way, heat whole and the rest piece by piece; of few,
 * codes alone are. Nothing is saved without the rows and the graph that it follows from. */
#include <errno.h>

#include "error.h"
#include "heat.h"
#include "state.h"

/* How far the stage is after heat and after lists, of 20. */
#define HEAT_20THS  8
#define LISTS_20THS 10

struct encoding {
    struct build *build;
    struct checkpoint *checkpoint;
    struct list_slots slots;
    bool in_pieces; /* more than one */
};

/* ---- pieces ---- */

static int load_lists(void *context, const struct encode_piece *piece, struct fathom_error *err)
{
    struct encoding *encoding = context;
    return checkpoint_load_lists(encoding->checkpoint, &encoding->slots, piece, err);
}

static int save_lists(void *context, const struct encode_piece *piece, struct fathom_error *err)
{
    struct encoding *encoding = context;
    return checkpoint_save_lists(encoding->checkpoint, &encoding->slots, piece, err);
}

static int load_codes(void *context, const struct encode_piece *piece, struct fathom_error *err)
{
    struct encoding *encoding = context;
    struct build *build = encoding->build;
    if (crew_stopped(&build->crew))
        return error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
    return checkpoint_load_codes(encoding->checkpoint, &build->codes, &build->trained.planes, piece,
                                 err);
}

static int save_codes(void *context, const struct encode_piece *piece, struct fathom_error *err)
{
    struct encoding *encoding = context;
    struct build *build = encoding->build;
    return checkpoint_save_codes(encoding->checkpoint, &build->codes, &build->trained.planes, piece,
                                 err);
}

/* ---- the whole ---- */

static int make_heat(struct encoding *encoding, const struct crew *crew, uint32_t **heat,
                     struct fathom_error *err)
{
    struct build *build = encoding->build;
    const struct rows8 *rows = &build->input.rows;
    int status = 0;
    *heat = NULL;
    if (encoding->in_pieces) {
        *heat = mem_alloc_array(rows->count, sizeof **heat);
        status = *heat ? checkpoint_load_heat(encoding->checkpoint, *heat, rows->count, err)
                       : error_set(err, -ENOMEM, "encode: no memory for heat");
        if (status != 0)
            return status < 0 ? status : 0;
        mem_free(*heat);
    }
    struct rows8 queries = {0};
    status = queries_rows8(&build->queries, &build->input.model, &queries, err);
    if (status == 0)
        status = heat_measure(heat, crew, &build->graph, rows, &queries, err);
    rows8_fini(&queries);
    return status == 0 && encoding->in_pieces
               ? checkpoint_save_heat(encoding->checkpoint, *heat, rows->count, err)
               : status;
}

static int make_lists(struct encoding *encoding, struct fathom_error *err)
{
    struct build *build = encoding->build;
    uint64_t rows = build->input.rows.count, heat_end = rows * HEAT_20THS / 20,
             lists_end = rows * LISTS_20THS / 20;
    struct encode_keeper keeper = {.piece_rows = build->options.piece_rows,
                                   .load = load_lists,
                                   .save = save_lists,
                                   .context = encoding};
    struct crew_step step;
    uint32_t *heat;
    int status = make_heat(encoding, crew_step(&step, &build->crew, 0, heat_end, rows), &heat, err);
    if (status == 0)
        status =
            encode_lists(&build->lists, crew_step(&step, &build->crew, heat_end, lists_end, rows),
                         &encoding->slots, heat, encoding->in_pieces ? &keeper : NULL, err);
    mem_free(heat);
    return status;
}

int build_encode(struct build *build, struct fathom_error *err)
{
    struct encoding encoding = {
        .build = build, .checkpoint = &build->checkpoint, .slots = {.graph = &build->graph}};
    struct encode_keeper keeper = {.piece_rows = build->options.piece_rows,
                                   .load = load_codes,
                                   .save = save_codes,
                                   .context = &encoding};
    const struct rows8 *rows = &build->input.rows;
    const struct code_source source = {&build->trained, rows, &build->cells};
    struct encode_piece second;
    struct crew_step step;
    encoding.in_pieces = build->rows_saved && encode_piece_at(&second, 1, rows->count, rows->dim,
                                                              build->options.piece_rows);
    int status = make_lists(&encoding, err);
    uint64_t begin = rows->count * (uint64_t)LISTS_20THS / 20;
    return status == 0
               ? encode_codes(&build->codes,
                              crew_step(&step, &build->crew, begin, rows->count, rows->count),
                              &source, build->rows_saved ? &keeper : NULL, err)
               : status;
}
