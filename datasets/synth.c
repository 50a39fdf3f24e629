/* The model of synth.h: weights from the seed, rows block by block. Threads take blocks in turn;
 * which thread makes a block leaves no trace in it. Never touches a file. */
#include "synth.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "env.h"
#include "error.h"
#include "kernel.h"
#include "mem.h"
#include "prng.h"
#include "synth_math.h"

#define CENTRES      1000
#define SPREAD       0.6f
#define HIDDEN       256
#define NOISE        0.02f
#define SCALE        100.0f
#define STREAM_MODEL 1
#define STREAM_SHIFT 48 /* a stream is part << 48 | block */

struct synth_worker {
    float *latent; /* [SYNTH_BLOCK][inputs] */
    float *hidden; /* [SYNTH_BLOCK][HIDDEN] */
    float *rows;   /* [SYNTH_BLOCK][dim], before they become dtype */
    float *noise;  /* [dim or intrinsic] */
};

struct synth {
    uint64_t seed;
    uint32_t dim, intrinsic;
    size_t inputs;  /* intrinsic rounded up to a multiple of 4; the rest is zero */
    float *centres; /* [CENTRES][intrinsic] */
    float *w1;      /* [inputs][HIDDEN] */
    float *bias;    /* [HIDDEN] */
    float *w2;      /* [HIDDEN][dim] */
    unsigned threads;
    struct synth_worker *workers;
};

static void draw_scaled(struct prng *prng, float *out, size_t count, float scale)
{
    synth_normals(prng, out, count);
    for (size_t i = 0; i < count; i++)
        out[i] *= scale;
}

static void draw_model(struct synth *synth)
{
    struct prng prng;
    prng_init(&prng, synth->seed, (uint64_t)STREAM_MODEL << STREAM_SHIFT);
    synth_normals(&prng, synth->centres, (size_t)CENTRES * synth->intrinsic);
    draw_scaled(&prng, synth->w1, (size_t)synth->intrinsic * HIDDEN,
                1.0f / sqrtf((float)synth->intrinsic));
    synth_normals(&prng, synth->bias, HIDDEN);
    draw_scaled(&prng, synth->w2, (size_t)HIDDEN * synth->dim, 1.0f / 16.0f);
}

static bool create_worker(struct synth_worker *worker, const struct synth *synth)
{
    uint32_t longest = synth->dim > synth->intrinsic ? synth->dim : synth->intrinsic;
    worker->latent = mem_alloc_array(SYNTH_BLOCK * synth->inputs, sizeof(float));
    worker->hidden = mem_alloc_array(SYNTH_BLOCK * HIDDEN, sizeof(float));
    worker->rows = mem_alloc_array((size_t)SYNTH_BLOCK * synth->dim, sizeof(float));
    worker->noise = mem_alloc_array(longest, sizeof(float));
    return worker->latent && worker->hidden && worker->rows && worker->noise;
}

int synth_create(struct synth **out, uint64_t seed, uint32_t dim, uint32_t intrinsic,
                 unsigned threads, struct fathom_error *err)
{
    *out = NULL;
    if (dim < 1 || dim > FATHOM_DIM_MAX || intrinsic < 1 || intrinsic > SYNTH_INTRINSIC_MAX ||
        threads < 1 || threads > SYNTH_THREADS_MAX)
        return error_set(
            err, FATHOM_EARGUMENT,
            "synthetic vectors need a dimension of 1..%d, an intrinsic one of 1..%d and 1..%d "
            "threads",
            FATHOM_DIM_MAX, SYNTH_INTRINSIC_MAX, SYNTH_THREADS_MAX);
    struct synth *synth = mem_alloc(sizeof *synth);
    if (!synth)
        goto fail;
    synth->seed = seed;
    synth->dim = dim;
    synth->intrinsic = intrinsic;
    synth->inputs = size_round_up(intrinsic, 4);
    synth->centres = mem_alloc_array((size_t)CENTRES * intrinsic, sizeof(float));
    synth->w1 = mem_alloc_array(synth->inputs * HIDDEN, sizeof(float));
    synth->bias = mem_alloc_array(HIDDEN, sizeof(float));
    synth->w2 = mem_alloc_array((size_t)HIDDEN * dim, sizeof(float));
    synth->workers = mem_alloc_array(threads, sizeof *synth->workers);
    if (!synth->centres || !synth->w1 || !synth->bias || !synth->w2 || !synth->workers)
        goto fail;
    synth->threads = threads;
    for (unsigned i = 0; i < threads; i++) {
        if (!create_worker(&synth->workers[i], synth))
            goto fail;
    }
    draw_model(synth);
    *out = synth;
    return 0;
fail:
    synth_destroy(synth);
    return error_set(err, -ENOMEM, "no memory for synthetic vectors of dimension %u", dim);
}

void synth_destroy(struct synth *synth)
{
    if (!synth)
        return;
    for (unsigned i = 0; synth->workers && i < synth->threads; i++) {
        mem_free(synth->workers[i].latent);
        mem_free(synth->workers[i].hidden);
        mem_free(synth->workers[i].rows);
        mem_free(synth->workers[i].noise);
    }
    mem_free(synth->workers);
    mem_free(synth->w2);
    mem_free(synth->bias);
    mem_free(synth->w1);
    mem_free(synth->centres);
    mem_free(synth);
}

/* ---- a block ---- */

/* Every variate of a row is drawn before the next row's: a shorter last block is the start of a
 * whole one. */
static void fill_block(const struct synth *synth, struct synth_worker *worker, enum synth_part part,
                       uint64_t block, size_t rows)
{
    struct prng prng;
    prng_init(&prng, synth->seed, (uint64_t)part << STREAM_SHIFT | block);
    for (size_t r = 0; r < rows; r++) {
        const float *centre =
            synth->centres + (size_t)prng_below(&prng, CENTRES) * synth->intrinsic;
        float *latent = worker->latent + r * synth->inputs;
        synth_normals(&prng, worker->noise, synth->intrinsic);
        for (uint32_t i = 0; i < synth->intrinsic; i++)
            latent[i] = centre[i] + SPREAD * worker->noise[i];
        memcpy(worker->hidden + r * HIDDEN, synth->bias, HIDDEN * sizeof(float));
        draw_scaled(&prng, worker->noise, synth->dim, NOISE);
        memcpy(worker->rows + r * synth->dim, worker->noise, synth->dim * sizeof(float));
    }
    synth_product(worker->hidden, worker->latent, synth->w1, rows, synth->inputs, HIDDEN);
    synth_tanh(worker->hidden, rows * HIDDEN);
    synth_product(worker->rows, worker->hidden, synth->w2, rows, HIDDEN, synth->dim);
    for (size_t i = 0; i < rows * synth->dim; i++)
        worker->rows[i] *= SCALE;
}

/* round(x / 2) + 128 into 0..255; i8 is that less 128. */
static uint8_t to_byte(float x)
{
    float level = x * 0.5f + 128.0f;
    level = level > 0.0f ? level : 0.0f;
    level = level < 255.0f ? level : 255.0f;
    return (uint8_t)(level + 0.5f);
}

static void store_block(const float *rows, size_t count, enum fathom_dtype dtype, uint8_t *out)
{
    switch (dtype) {
    case FATHOM_F32:
        memcpy(out, rows, count * sizeof *rows);
        break;
    case FATHOM_F16:
        kernels_get()->f32_to_f16((uint16_t *)out, rows, count);
        break;
    case FATHOM_I8:
        for (size_t i = 0; i < count; i++)
            out[i] = (uint8_t)(to_byte(rows[i]) - 128);
        break;
    case FATHOM_U8:
        for (size_t i = 0; i < count; i++)
            out[i] = to_byte(rows[i]);
        break;
    }
}

struct job {
    struct synth *synth;
    enum synth_part part;
    uint64_t first_block;
    size_t rows;
    enum fathom_dtype dtype;
    uint8_t *out;
};

static void run_worker(void *context, unsigned index)
{
    const struct job *job = context;
    struct synth_worker *worker = &job->synth->workers[index];
    size_t block_scalars = (size_t)SYNTH_BLOCK * job->synth->dim;
    size_t stride = block_scalars * fathom_dtype_bytes(job->dtype);
    for (size_t b = index; b * SYNTH_BLOCK < job->rows; b += job->synth->threads) {
        size_t left = job->rows - b * SYNTH_BLOCK, rows = left < SYNTH_BLOCK ? left : SYNTH_BLOCK;
        fill_block(job->synth, worker, job->part, job->first_block + b, rows);
        store_block(worker->rows, rows * job->synth->dim, job->dtype, job->out + b * stride);
    }
}

int synth_rows(struct synth *synth, enum synth_part part, uint64_t first_row, size_t rows,
               enum fathom_dtype dtype, void *out, struct fathom_error *err)
{
    if (first_row % SYNTH_BLOCK)
        return error_set(err, FATHOM_EARGUMENT, "row %llu does not begin a block of %d",
                         (unsigned long long)first_row, SYNTH_BLOCK);
    struct job job = {synth, part, first_row / SYNTH_BLOCK, rows, dtype, out};
    int rc = env_run_parallel(synth->threads, run_worker, &job);
    return rc ? error_set(err, rc, "a thread cannot be started: %s", fathom_strerror(rc)) : 0;
}
