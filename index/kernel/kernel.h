/* The inner loops: integer scores of 8-bit rows and of bit-plane codes, float distances,
 * conversions. One struct of function pointers, filled with the scalar versions and overwritten per
 * CPU level, chosen once at first use. FATHOM_CPU_MAX=scalar|avx2|avx512 caps the level.
 *
 * All integer results are exact, hence identical at every level; float kernels may differ in the
 * last bits. tests/kernel compares every level with scalar over odd sizes and offsets, against
 * guard pages, and benches them. */
#ifndef KERNEL_KERNEL_H
#define KERNEL_KERNEL_H

#include <stddef.h>
#include <stdint.h>

enum kernel_level { KERNEL_SCALAR, KERNEL_AVX2, KERNEL_AVX512, KERNEL_LEVELS };

#define KERNEL_DIM_MAX     4160 /* of codes and matrices; above FATHOM_DIM_MAX + 1 */
#define KERNEL_PLANES_MAX  6    /* bits of a dimension at the most */
#define KERNEL_CODE_SLACK  64   /* readable bytes that must follow the last code of an array */
#define KERNEL_PANEL       16   /* queries of a panel */
#define KERNEL_LANES       16   /* rows of a block of sliced codes */
#define KERNEL_TABLE_MAX   127  /* the largest entry of a table */
#define KERNEL_STEP_MAX    15   /* of nibble_sums */
#define KERNEL_TRELLIS_MAX 128  /* bytes of a code with a trellis, and groups of it, at the most */
#define KERNEL_PATHS       64   /* rows that are encoded at a time */
#define KERNEL_MEMORY      4    /* dimensions that a trellis looks back */
#define KERNEL_STATES      (1 << KERNEL_MEMORY)
#define KERNEL_PATH_MAX    3000 /* the largest weight of a dimension of a path */

/* Bytes of a block of KERNEL_LANES rows of half a byte a dimension (nibble_sums). */
static inline size_t kernel_nibble_bytes(uint32_t dim)
{
    return (size_t)((dim + 7) / 8) * 4 * KERNEL_LANES;
}

/* A query against 8-bit rows: 15-bit weights in two signed bytes, weight = hi * 128 + lo, hi in
 * [-127, 127], lo in [-64, 63]. Arrays are padded with zeros to a multiple of 64. */
struct kernel_query8 {
    const int8_t *hi, *lo;
    uint32_t dim;
};

struct kernel_score8 {
    int32_t hi, lo; /* sum over d of row[d] * hi[d], and of row[d] * lo[d]; row[d] unsigned */
    int32_t norm;   /* sum over d of (row[d] - 128)^2 */
};

/* A query against bit-plane codes (codec/planes.h). A code is the concatenation of planes; plane p
 * holds one bit (LSB first in each byte) for each of its first 8 * groups[p] dimensions, most
 * significant plane first. Per dimension d with b bits c_0..c_{b-1}: index = sum c_p << (6 - p),
 * plus the sentinel 1 << (6 - b); level[index] is the unsigned value. A dimension with no bit has
 * index 64. Score: sum over d < dim of level[index_d] * (hi[d] * 128 + lo[d]). */
struct kernel_codes {
    uint32_t dim;                            /* multiple of 8 */
    uint32_t code_bytes;                     /* sum of groups */
    uint32_t plane_start[KERNEL_PLANES_MAX]; /* byte offset of a plane in the code */
    uint32_t groups[KERNEL_PLANES_MAX];      /* falling; groups[p] * 8 <= dim */
    const uint8_t *sentinel; /* per dimension 1 << (6 - b); padded to a multiple of 64 with 64 */
    const uint8_t *level;    /* 128 entries */
    const struct kernel_trellis *trellis; /* NULL: there is none */
};

/* A trellis (codec/trellis.h) gives dimensions with 1 to 5 bits one bit more, which is not stored:
 * behind the last of them the index goes on with the exclusive or of the last bits of the
 * dimensions one, three and four steps before. A step goes from a dimension to that of the next
 * group, and from the last group that has a bit to the first group's next dimension, from the very
 * last to the very first: all dimensions that have a bit are one circle. The sentinel then is 1 <<
 * (5 - b), and 1 for six bits. At least KERNEL_MEMORY groups have a bit, and codes have
 * KERNEL_TRELLIS_MAX bytes at the most.
 *
 * Made by kernel_trellis_prepare from a plan that is otherwise ready: for each block of 64
 * dimensions the bytes that make a group's square of bits (the planes, then those of the dimensions
 * before), which of them there are, and by what square of bits they become an index. In block 0,
 * `turned` are those whose bits come from the dimension before in their byte. */
struct kernel_trellis {
    uint32_t groups;                   /* that have a bit */
    uint8_t last[KERNEL_TRELLIS_MAX];  /* of a group: where in the code its last bits are */
    uint8_t added[KERNEL_TRELLIS_MAX]; /* 255 where a bit is added, or 0 */
    uint8_t places[KERNEL_TRELLIS_MAX * 8];
    uint64_t rows[KERNEL_TRELLIS_MAX / 8];
    uint64_t turned;
    uint64_t mix[KERNEL_TRELLIS_MAX];
};

/* How the best path through a trellis is looked for: of each step its bits (1 to 6) and weight; and
 * by bits, last bit, bit that is not stored, and cell (0..63) the least error of any index and that
 * index. */
struct kernel_path {
    uint32_t steps;
    const uint8_t *bits;     /* steps */
    const uint16_t *weights; /* steps, at most KERNEL_PATH_MAX */
    const uint8_t *errors;   /* 7 x 2 x 2 x 64 */
    const uint8_t *indexes;  /* likewise */
    uint8_t *work;           /* steps x KERNEL_STATES x KERNEL_PATHS, aligned to 8 */
};

/* Rows as a trellis has them: KERNEL_PATHS bytes for each step, one for each row. Of `dim`
 * dimensions it is known at which step they are. A cell is decoded by `cells`, 64 of them; an index
 * by `values`, 128, without its last drop[d] bits, in whose place is the middle of what they span.
 */
struct kernel_decoding {
    uint32_t dim;
    const uint32_t *step_of;
    const uint8_t *drop; /* NULL: none */
    const float *sigma, *centroid;
    const float *cells, *values;
};

/* With x = sigma * cells[..] and y = sigma * values[..]: of x^2, y^2, x y and centroid y, by row,
 * each rounded where it stands, and summed up from the first dimension on. */
struct kernel_decoded {
    float norm[KERNEL_PATHS], square[KERNEL_PATHS], product[KERNEL_PATHS], centroid[KERNEL_PATHS];
};

/* What codes are made from: a residual in rotated dimensions, and the units of a code
 * (codec/planes.h): plane << 12 | group of 8 dimensions. */
struct kernel_residual {
    const uint8_t *bits6;  /* cells of the dimensions, 0..63 */
    const float *y;        /* the residual */
    const float *centroid; /* of what it is relative to */
    const float *sigma;
    const uint8_t *level; /* 128 entries, as in kernel_codes */
};

/* With the decoded values v = level - 128 in sigmas and quanta: of y^2, (sigma v)^2, y sigma v and
 * centroid sigma v. */
struct kernel_sums {
    double norm, square, product, centroid;
};

struct kernels {
    const char *name;
    enum kernel_level level;

    /* out[i] = sum over d of rows[ids[i]][d] * query[d]; rows are unsigned bytes of row_bytes each
     * (a multiple of 64, zero-padded), query is signed and padded likewise. Prefetches ahead. The
     * builder's graph distance. */
    void (*dot_u8s8_gather)(int32_t *out, const int8_t *query, const uint8_t *rows,
                            size_t row_bytes, const uint32_t *ids, size_t count);
    /* KERNEL_PANEL queries at once: out[i * KERNEL_PANEL + j] = sum over d of rows[ids[i]][d] *
     * query j[d]. Rows as above; byte d of query j is panel[(d / 4 * KERNEL_PANEL + j) * 4 + d %
     * 4], zero where rows are padded. Prefetches ahead. What the builder does with many near rows
     * at a time. */
    void (*dot_u8s8_panel)(int32_t *out, const int8_t *panel, const uint8_t *rows, size_t row_bytes,
                           const uint32_t *ids, size_t count);
    /* Of sums from dot_u8s8_panel, in place: each becomes norms[i] + biases[j] - 2 * sum, and bit j
     * of near[i] says that this is at most limits[j]. i < count, j < KERNEL_PANEL. The caller sees
     * to it that all fits int32, as squared distances of such rows do. */
    void (*panel_near)(int32_t *sums, uint16_t *near, const int32_t *norms, const int32_t *biases,
                       const int32_t *limits, size_t count);
    /* out[i] for row i at rows + i * row_bytes; rows have exactly query->dim bytes (no padding may
     * be read). */
    void (*score8_rows)(struct kernel_score8 *out, const struct kernel_query8 *query,
                        const uint8_t *rows, size_t row_bytes, size_t count);
    /* The same, for rows[ids[i]] (prefetches ahead). */
    void (*score8_gather)(struct kernel_score8 *out, const struct kernel_query8 *query,
                          const uint8_t *rows, size_t row_bytes, const uint32_t *ids, size_t count);
    /* out[i] = score of code i at codes + i * code_bytes, as hi sum * 128 + lo sum in float. */
    void (*codes_rows)(float *out, const struct kernel_codes *plan,
                       const struct kernel_query8 *query, const uint8_t *codes, size_t count);
    /* The same for codes[ids[i]] (prefetches ahead). */
    void (*codes_gather)(float *out, const struct kernel_codes *plan,
                         const struct kernel_query8 *query, const uint8_t *codes,
                         const uint32_t *ids, size_t count);
    /* Sliced codes: byte c of row r of block b is blocks[(b * columns + c) * KERNEL_LANES + r].
     * Each half of a byte picks an entry from a table of 16: out[b * KERNEL_LANES + r] = sum over c
     * of tables[c * 16 + (byte & 15)] + tables[(padded + c) * 16 + (byte >> 4)], padded = columns
     * rounded up to a multiple of 4; tables of columns beyond the last are zero. */
    void (*sliced_sums)(float *out, const uint8_t *tables, const uint8_t *blocks, uint32_t columns,
                        size_t count);

    /* Rows of half a byte a dimension, in blocks of KERNEL_LANES: dimensions 8i to 8i + 7 of row r
     * are the four bytes at (i * KERNEL_LANES + r) * 4 of its block, of which byte j has dimension
     * 8i + j in its lower half and 8i + 4 + j in its upper one. out[b * KERNEL_LANES + r] = sum
     * over d of value[d] * (weights[d] * steps[d] + 8 >> 4), rounded to float once. weights: at
     * most 127 * 128 + 64, padded with zeros to a multiple of 64; steps: dim of them, up to
     * KERNEL_STEP_MAX. next: as many blocks, which are fetched meanwhile, or any address. */
    void (*nibble_sums)(float *out, const int16_t *weights, const uint8_t *steps,
                        const uint8_t *blocks, const uint8_t *next, uint32_t dim, size_t count);

    /* bits6[d] = how many of edges[1..63], which rise, are at most y[d] * |sigma| / |y| / sigma[d];
     * 0 where sigma or y is 0 all over. dim is a multiple of 8. Lengths are summed up in double in
     * eight lanes, dimension d in lane d % 8, and the lanes are joined by halves; each product is
     * exact. So the result is the same at every level. */
    void (*quantise6)(uint8_t *bits6, const float *y, const float *sigma, const float *edges,
                      size_t dim);
    /* How count units, each of which takes a group from plane to plane + 1 bits, change the sums
     * over the dimensions that have a bit. Lanes as above, so the result is the same at every
     * level. */
    void (*unit_sums)(struct kernel_sums *out, const struct kernel_residual *residual,
                      const uint16_t *units, size_t count);
    /* The indexes (with sentinel) of the steps of KERNEL_PATHS rows, row after row in each step,
     * that have the least sum of error * weight / 256, rounded down, of all that begin where they
     * end: where the best path is half way that goes round twice from anywhere to anywhere
     * (Viterbi). cells: likewise, 0..63. */
    void (*trellis_encode)(uint8_t *indexes, const struct kernel_path *path, const uint8_t *cells);
    /* Of rows [first, end); what is behind and before them in out is anything. The same at every
     * level. */
    void (*decoded_sums)(struct kernel_decoded *out, const struct kernel_decoding *how,
                         const uint8_t *cells, const uint8_t *indexes, uint32_t first,
                         uint32_t end);
    /* out[row] = sum of (centroid * sigma) * cells[..], likewise; out has room for KERNEL_PATHS. */
    void (*decoded_products)(float *out, const struct kernel_decoding *how, const uint8_t *cells,
                             uint32_t first, uint32_t end);

    /* The places i, rising, at which values[i] < limit; NaN is not. Returns how many. out has room
     * for count and 16 more. */
    size_t (*below_f32)(uint32_t *out, const float *values, size_t count, float limit);
    float (*l2sq_f32)(const float *a, const float *b, size_t dim);
    float (*dot_f32)(const float *a, const float *b, size_t dim);
    /* out[r] = scale[r] * sum over c of matrix[r * columns + c] * x[c], columns <= KERNEL_DIM_MAX.
     * x is rounded to multiples of 2^-22 of the power of two above its largest magnitude; then the
     * sum is exact, and the result the same at every level. An x that is not finite gives NaN in
     * every row. */
    void (*matvec_i8)(float *out, const int8_t *matrix, const float *scale, const float *x,
                      size_t rows, size_t columns);
    void (*f16_to_f32)(float *out, const uint16_t *in, size_t count);
    void (*f32_to_f16)(uint16_t *out, const float *in,
                       size_t count); /* round to nearest even; overflow gives infinity */
};

void kernel_trellis_prepare(struct kernel_trellis *trellis, const struct kernel_codes *plan);

/* The table for this CPU under FATHOM_CPU_MAX. Chosen at the first call, the same for ever after;
 * thread-safe. */
const struct kernels *kernels_get(void);
/* The table of one level, NULL when this CPU or build does not have it. For the tests. */
const struct kernels *kernels_at(enum kernel_level level);

#endif
