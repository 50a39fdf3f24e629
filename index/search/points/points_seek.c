/* The nearest rows of a whole sample (points_sample.h), by the pieces of the file that a pass hands
 * out: sixteen of the sample meet a row in one kernel. Of nearly all rows single precision says
 * that they are too far away; what it leaves in doubt is measured as searches do. So the neighbours
 * are those that all distances would have found, each by its own. */
#include <emmintrin.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "navigate.h"
#include "points_sample.h"
#include "query.h"

#define SCAN_ROWS 64
/* Of the squared lengths that a distance is made of, more than single precision may be off by. */
#define DOUBT 0x1p-15

/* One of the sample as a prepared query, its weights left out. */
struct seeker {
    struct row8_query query;
    struct sample_neighbour *best; /* its truth as far as the file was looked through */
};

/* KERNEL_PANEL of them. A row is too far where base and the row's length are at least twice the
 * product of both. */
struct panel {
    const int8_t *hi, *lo;                              /* as dot_u8s8_panel has them */
    int32_t sum_hi[KERNEL_PANEL], sum_lo[KERNEL_PANEL]; /* what the offset of rows adds */
    float twice[KERNEL_PANEL];                          /* quanta */
    float base[KERNEL_PANEL];                           /* squared lengths less limits */
};

/* Some rows, as a worker has laid them out. */
struct seek_rows {
    uint8_t *bytes; /* padded for kernels */
    const uint8_t *records[SCAN_ROWS];
    uint32_t first, count;
    float scales[SCAN_ROWS], lengths[SCAN_ROWS];
    struct kernel_score8 scores[SCAN_ROWS]; /* of which norms count */
    int32_t hi[SCAN_ROWS * KERNEL_PANEL], lo[SCAN_ROWS * KERNEL_PANEL];
};

struct points_seek {
    const struct points_sample *sample;
    const struct fathom_index *index;
    unsigned threads;
    size_t padded; /* bytes of a row for kernels */
    uint32_t panel_count;
    uint32_t ids[SCAN_ROWS]; /* 0, 1, 2... */
    struct seeker *seekers;  /* of each of the sample */
    struct panel *panels;
    int8_t *weights;        /* 2 x padded x KERNEL_PANEL of each panel, and padded zeros behind */
    int8_t *own;            /* 2 x padded, of one */
    struct seek_rows *rows; /* of each thread */
};

/* ---- made ---- */

static struct panel panel_none(const int8_t *weights, size_t bytes)
{
    struct panel panel = {.hi = weights, .lo = weights + bytes};
    for (uint32_t lane = 0; lane < KERNEL_PANEL; lane++)
        panel.base[lane] = INFINITY; /* a lane without a query is never near */
    return panel;
}

int points_seek_create(struct points_seek **out, const struct points_sample *sample,
                       const struct fathom_index *index, unsigned threads)
{
    struct points_seek *seek = *out = mem_alloc(sizeof *seek);
    if (!seek)
        return -ENOMEM;
    seek->sample = sample;
    seek->index = index;
    seek->threads = threads;
    seek->padded = size_round_up(index->properties.work_dim, MEM_ALIGN);
    seek->panel_count = (sample->count + KERNEL_PANEL - 1) / KERNEL_PANEL;
    size_t bytes = seek->padded * KERNEL_PANEL, all = 2 * bytes * seek->panel_count;
    seek->seekers = mem_alloc_array(sample->count, sizeof *seek->seekers);
    seek->panels = mem_alloc_array(seek->panel_count, sizeof *seek->panels);
    seek->weights = mem_alloc(all + seek->padded);
    seek->own = mem_alloc(2 * seek->padded);
    seek->rows = mem_alloc_array(threads, sizeof *seek->rows);
    bool whole = seek->seekers && seek->panels && seek->weights && seek->own && seek->rows;
    for (unsigned t = 0; t < threads && whole; t++)
        whole = (seek->rows[t].bytes = mem_alloc_array(SCAN_ROWS, seek->padded)) != NULL;
    if (!whole) {
        points_seek_destroy(seek);
        *out = NULL;
        return -ENOMEM;
    }
    for (uint32_t p = 0; p < seek->panel_count; p++)
        seek->panels[p] = panel_none(seek->weights + 2 * bytes * p, bytes);
    for (uint32_t i = 0; i < SCAN_ROWS; i++)
        seek->ids[i] = i;
    return 0;
}

void points_seek_destroy(struct points_seek *seek)
{
    if (!seek)
        return;
    for (unsigned t = 0; t < seek->threads && seek->rows; t++)
        mem_free(seek->rows[t].bytes);
    mem_free(seek->rows);
    mem_free(seek->own);
    mem_free(seek->weights);
    mem_free(seek->panels);
    mem_free(seek->seekers);
    mem_free(seek);
}

static void set_limit(struct points_seek *seek, uint32_t i)
{
    const struct seeker *seeker = &seek->seekers[i];
    float limit = seeker->best[seek->sample->truth_count - 1].distance;
    seek->panels[i / KERNEL_PANEL].base[i % KERNEL_PANEL] =
        (float)((1 - DOUBT) * seeker->query.norm - limit);
}

/* Bytes of a query to its lane. */
static void to_lane(int8_t *panel, const int8_t *bytes, size_t count, uint32_t lane)
{
    for (size_t d = 0; d < count; d += 4)
        memcpy(panel + (d * KERNEL_PANEL + (size_t)4 * lane), bytes + d, 4);
}

void points_seek_set(struct points_seek *seek, struct points_reader *reader, uint32_t i)
{
    const struct points_sample *sample = seek->sample;
    struct seeker *seeker = &seek->seekers[i];
    struct panel *panel = &seek->panels[i / KERNEL_PANEL];
    uint32_t lane = i % KERNEL_PANEL;
    int8_t *weights = seek->weights + 2 * seek->padded * KERNEL_PANEL * (i / KERNEL_PANEL);
    memcpy(reader->query.vector, sample->vectors + (size_t)i * sample->dim,
           sample->dim * sizeof *sample->vectors);
    points_reader_prepare(reader, seek->own, &seeker->query);
    to_lane(weights, seeker->query.weights.hi, seek->padded, lane);
    to_lane(weights + seek->padded * KERNEL_PANEL, seeker->query.weights.lo, seek->padded, lane);
    panel->sum_hi[lane] = (int32_t)(128 * seeker->query.sum_hi);
    panel->sum_lo[lane] = (int32_t)(128 * seeker->query.sum_lo);
    panel->twice[lane] = 2 * seeker->query.quantum;
    seeker->best = sample->truth + (size_t)i * SAMPLE_TRUTH;
    set_limit(seek, i);
}

/* ---- at work ---- */

static void nearest_insert(struct sample_neighbour *best, uint32_t count, float distance,
                           float sigma, uint32_t row)
{
    uint32_t at = count - 1;
    for (; at > 0 && best[at - 1].distance > distance; at--) {
        best[at].distance = best[at - 1].distance;
        best[at].sigma = best[at - 1].sigma;
        best[at].row = best[at - 1].row;
    }
    best[at].distance = distance;
    best[at].sigma = sigma;
    best[at].row = row;
}

/* Rows from `at` of a piece on, as many as there is room for. */
static void lay_out(const struct points_seek *seek, const struct record_piece *piece, uint32_t at,
                    struct seek_rows *rows)
{
    const struct properties *p = &seek->index->properties;
    size_t bytes = seek->index->records->row_bytes;
    const int8_t *zeros = seek->weights + 2 * seek->padded * KERNEL_PANEL * seek->panel_count;
    const struct kernel_query8 none = {.hi = zeros, .lo = zeros, .dim = p->work_dim};
    uint32_t left = piece->count - at;
    rows->first = (uint32_t)piece->first + at;
    rows->count = left < SCAN_ROWS ? left : SCAN_ROWS;
    kernels_get()->score8_rows(rows->scores, &none, piece->rows + at * bytes, bytes, rows->count);
    for (uint32_t r = 0; r < rows->count; r++) {
        const uint8_t *record = rows->records[r] = piece->rows + (at + r) * bytes;
        double scale = row8_record_scale(record, p->work_dim, p->records_exact);
        memcpy(rows->bytes + r * seek->padded, record, p->work_dim);
        rows->scales[r] = (float)scale;
        rows->lengths[r] = (float)((1 - DOUBT) * scale * scale * rows->scores[r].norm);
    }
}

/* The lanes of a panel that are not certainly too far from a row: what is not a number is not. */
static inline unsigned lanes_near(const struct panel *panel, const int32_t *hi, const int32_t *lo,
                                  float scale, float length)
{
    unsigned far = 0;
    for (unsigned at = 0; at < KERNEL_PANEL; at += 4) {
        __m128i high = _mm_sub_epi32(_mm_loadu_si128((const void *)(hi + at)),
                                     _mm_loadu_si128((const void *)(panel->sum_hi + at)));
        __m128i low = _mm_sub_epi32(_mm_loadu_si128((const void *)(lo + at)),
                                    _mm_loadu_si128((const void *)(panel->sum_lo + at)));
        __m128 dot =
            _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(high), _mm_set1_ps(128)), _mm_cvtepi32_ps(low));
        __m128 twice = _mm_mul_ps(_mm_loadu_ps(panel->twice + at), _mm_set1_ps(scale));
        __m128 lengths = _mm_add_ps(_mm_loadu_ps(panel->base + at), _mm_set1_ps(length));
        far |= (unsigned)_mm_movemask_ps(_mm_cmpge_ps(lengths, _mm_mul_ps(twice, dot))) << at;
    }
    return far ^ ((1u << KERNEL_PANEL) - 1);
}

static void look_closely(struct points_seek *seek, const struct seek_rows *rows, uint32_t r,
                         uint32_t i)
{
    struct seeker *seeker = &seek->seekers[i];
    uint32_t wanted = seek->sample->truth_count, row = rows->first + r,
             at = r * KERNEL_PANEL + i % KERNEL_PANEL;
    struct kernel_score8 score = {rows->hi[at], rows->lo[at], rows->scores[r].norm};
    float distance = record_distance(&seeker->query, seek->index, &score, rows->records[r]);
    if (distance < seeker->best[wanted - 1].distance &&
        row != points_sample_itself(seek->sample, i)) {
        nearest_insert(seeker->best, wanted, distance,
                       record_sigma(seek->index, rows->records[r], distance), row);
        set_limit(seek, i);
    }
}

static void seek_panel(struct points_seek *seek, struct seek_rows *rows, uint32_t number)
{
    const struct panel *panel = &seek->panels[number];
    const struct kernels *kernels = kernels_get();
    kernels->dot_u8s8_panel(rows->hi, panel->hi, rows->bytes, seek->padded, seek->ids, rows->count);
    kernels->dot_u8s8_panel(rows->lo, panel->lo, rows->bytes, seek->padded, seek->ids, rows->count);
    for (uint32_t r = 0; r < rows->count; r++) {
        unsigned near =
            lanes_near(panel, rows->hi + (size_t)r * KERNEL_PANEL,
                       rows->lo + (size_t)r * KERNEL_PANEL, rows->scales[r], rows->lengths[r]);
        for (; near; near &= near - 1)
            look_closely(seek, rows, r, number * KERNEL_PANEL + (uint32_t)__builtin_ctz(near));
    }
}

void points_seek_look(struct points_seek *seek, const struct record_piece *piece, unsigned worker)
{
    struct seek_rows *rows = &seek->rows[worker];
    for (uint32_t at = 0; at < piece->count; at += SCAN_ROWS) {
        lay_out(seek, piece, at, rows);
        for (uint32_t p = worker; p < seek->panel_count; p += seek->threads)
            seek_panel(seek, rows, p);
    }
}
