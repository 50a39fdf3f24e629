/* Opening and closing an index, and what it says of itself. */
#include "index.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "file_path.h"
#include "kernel.h"
#include "mem.h"
#include "pages.h"

struct fathom_open_options fathom_open_options_default(void)
{
    return (struct fathom_open_options){.threads = 1};
}

const char *fathom_cpu_level(void)
{
    return kernels_get()->name;
}

static void index_destroy(struct fathom_index *index)
{
    for (unsigned i = 0; i < index->memory_count; i++)
        mem_free(index->memory[i]);
    page_arena_release(index->arena);
    if (index->file.env)
        index_file_close(&index->file);
    mem_free(index);
}

static uint64_t part_sum(const struct fathom_index *index)
{
    uint64_t sum = 0;
    for (int part = 0; part < PART_COUNT; part++)
        sum += index->part_bytes[part];
    return sum;
}

/* A share becomes bytes here, where the rows are known; from here on there are only bytes. */
static void settle_budget(struct fathom_open_options *options, const struct properties *properties)
{
    double raw_bytes = (double)properties->rows * properties->dim * sizeof(float);
    double bytes = options->dram_budget_share * raw_bytes;
    if (options->dram_budget_share == 0)
        return;
    /* At least a byte: none at all would be no bound. */
    options->dram_budget_bytes = bytes < 1 ? 1 : bytes < 0x1p62 ? (uint64_t)bytes : 1ull << 62;
}

/* What follows from the superblock alone. */
static void begin(struct fathom_index *index)
{
    index->properties = index->file.super.properties;
    settle_budget(&index->options, &index->properties);
    index->records = superblock_find(&index->file.super, SECTION_RECORDS);
    index->vectors = superblock_find(&index->file.super, SECTION_VECTORS);
    index->scan.section = superblock_find(&index->file.super, SECTION_SCAN);
    index->list_section = superblock_find(&index->file.super, SECTION_LISTS);
    index->id_section = superblock_find(&index->file.super, SECTION_IDS);
}

/* While buffers are cut from large pages these are there whole, before anything is loaded. */
static bool may_cut_buffers(const struct fathom_open_options *options)
{
    uint64_t bytes =
        engine_buffer_bytes(options->threads, options->inflight, options->page_buffers);
    return options->dram_budget_bytes == 0 ||
           size_round_up(bytes, ENV_LARGE_PAGE_BYTES) + sizeof(struct fathom_index) <=
               options->dram_budget_bytes;
}

int index_make_arena(struct fathom_index *index, struct fathom_error *err)
{
    const struct fathom_open_options *options = &index->options;
    int status = 0;
    if (options->engines_of)
        index->arena = page_arena_retain(options->engines_of->arena);
    else
        status =
            engine_arena_create(&index->arena, index->file.env, options->threads, options->inflight,
                                options->page_buffers, may_cut_buffers(options));
    index->options.engines_of = NULL; /* it may be closed from here on */
    index->part_bytes[PART_FIXED] += page_arena_own_bytes(options->threads);
    return status ? error_set(err, status, "%s: no memory for page buffers", index->file.path) : 0;
}

uint64_t index_loading_bytes(const struct fathom_index *index)
{
    const struct fathom_open_options *options = &index->options;
    uint64_t there =
        engine_buffer_bytes(options->threads, options->inflight, options->page_buffers);
    return (index->plan.scratch_bytes - there) / 4;
}

/* Loads what the plan wants of the opened file. */
static int load(struct fathom_index *index, struct fathom_error *err)
{
    begin(index);
    index->part_bytes[PART_FIXED] = size_round_up(sizeof *index, MEM_ALIGN) +
                                    size_round_up(strlen(index->file.path) + 1, MEM_ALIGN);
    int status = residency_load(index, err);
    if (status)
        return status;
    /* An 8-bit value is off by a uniform error of variance 1/12 a dimension, so a squared distance
     * d by 2 sqrt(d / 12). */
    index->row_noise = index->properties.records_exact ? 0 : 2 / sqrtf(12);
    int64_t slack = INT64_MAX;
    if (index->options.dram_budget_bytes)
        slack = (int64_t)(index->options.dram_budget_bytes - part_sum(index) -
                          index->plan.scratch_bytes);
    atomic_store_explicit(&index->slack, slack, memory_order_relaxed);
    return 0;
}

static int check_options(const char *name, const struct fathom_open_options *options,
                         struct fathom_error *err)
{
    if (options->threads < 1)
        return error_set(err, FATHOM_EARGUMENT, "%s: threads must be at least 1", name);
    if (!engine_page_buffers_valid(options->page_buffers))
        return error_set(err, FATHOM_EARGUMENT, "%s: there are no engines of %u page buffers", name,
                         options->page_buffers);
    if (!(options->dram_budget_share >= 0 && isfinite(options->dram_budget_share)) ||
        (options->dram_budget_share > 0 && options->dram_budget_bytes))
        return error_set(err, FATHOM_EARGUMENT,
                         "%s: a DRAM budget is bytes or a share of the vectors above 0, not both",
                         name);
    if (!(options->list_share >= 0 && options->list_share <= 1) ||
        (options->list_share > 0 && options->navigator == FATHOM_NAVIGATOR_CELLS))
        return error_set(
            err, FATHOM_EARGUMENT,
            "%s: the share of lists in memory must be 0 to 1, and is the graph's alone", name);
    if (!(options->code_share >= 0 && options->code_share <= 1) ||
        (options->code_share > 0 &&
         (options->navigator == FATHOM_NAVIGATOR_GRAPH || options->list_share > 0)))
        return error_set(err, FATHOM_EARGUMENT,
                         "%s: the share of codes in memory must be 0 to 1, and is the cells' alone",
                         name);
    if (!(options->plan_recall >= 0 && options->plan_recall < 1))
        return error_set(err, FATHOM_EARGUMENT,
                         "%s: plan_recall is %g; it must be above 0 and below 1, or 0 for none",
                         name, (double)options->plan_recall);
    return 0;
}

/* index_file_open or index_file_open_cached. */
typedef int open_file_fn(struct index_file *file, const struct env *env, const char *name,
                         struct fathom_error *err);

/* Nothing but the file is open yet. */
static int open_file_of(struct fathom_index **out, const struct env *env, const char *name,
                        open_file_fn *open_file, const struct fathom_open_options *options,
                        struct fathom_error *err)
{
    *out = NULL;
    int status = check_options(name, options, err);
    if (status)
        return status;
    struct fathom_index *index = mem_alloc(sizeof *index);
    if (!index)
        return error_set(err, -ENOMEM, "%s: no memory to open the index", name);
    index->options = *options;
    index->file.fd = -1;
    atomic_store_explicit(&index->references, 1, memory_order_relaxed);
    status = open_file(&index->file, env, name, err);
    if (status)
        index_destroy(index);
    else
        *out = index;
    return status;
}

/* stop may be NULL. */
static int open_and_load(struct fathom_index **out, const struct env *env, const char *name,
                         open_file_fn *open_file, const struct fathom_open_options *options,
                         const struct format_stop *stop, struct fathom_error *err)
{
    int status = open_file_of(out, env, name, open_file, options, err);
    if (status)
        return status;
    (*out)->file.stop = stop;
    status = load(*out, err);
    if (status) {
        index_destroy(*out);
        *out = NULL;
    }
    return status;
}

int index_open_with(struct fathom_index **out, const struct env *env, const char *dir,
                    const struct fathom_open_options *options, struct fathom_error *err)
{
    return open_and_load(out, env, dir, index_file_open, options, NULL, err);
}

int index_open_file(struct fathom_index **out, const struct env *env, const char *path,
                    const struct fathom_open_options *options, const struct format_stop *stop,
                    struct fathom_error *err)
{
    return open_and_load(out, env, path, index_file_open_cached, options, stop, err);
}

int fathom_index_open(struct fathom_index **out, const char *dir,
                      const struct fathom_open_options *options, struct fathom_error *err)
{
    return index_open_with(out, env_os(), dir, options, err);
}

static int outlook(const struct env *env, const char *name, open_file_fn *open_file,
                   const struct fathom_open_options *options, struct fathom_outlook *out,
                   struct fathom_error *err)
{
    struct fathom_index *index;
    *out = (struct fathom_outlook){0};
    int status = open_file_of(&index, env, name, open_file, options, err);
    if (status)
        return status;
    begin(index);
    status = residency_outlook(index, out, err);
    index_destroy(index);
    return status;
}

int index_outlook_file(const struct env *env, const char *path,
                       const struct fathom_open_options *options, struct fathom_outlook *out,
                       struct fathom_error *err)
{
    return outlook(env, path, index_file_open_cached, options, out, err);
}

int fathom_index_outlook(const char *dir, const struct fathom_open_options *options,
                         struct fathom_outlook *out, struct fathom_error *err)
{
    return outlook(env_os(), dir, index_file_open, options, out, err);
}

struct fathom_index *fathom_index_retain(struct fathom_index *index)
{
    atomic_fetch_add_explicit(&index->references, 1, memory_order_relaxed);
    return index;
}

void fathom_index_close(struct fathom_index *index)
{
    /* acq_rel: the thread that frees sees what every other did with the index before it let go. */
    if (index && atomic_fetch_sub_explicit(&index->references, 1, memory_order_acq_rel) == 1)
        index_destroy(index);
}

bool index_take_budget(const struct fathom_index *index, int64_t bytes)
{
    /* The one mutable field of a shared index: engines that grow for a large query account for it
     * here. */
    atomic_int_least64_t *slack = (atomic_int_least64_t *)&index->slack;
    if (index->options.dram_budget_bytes == 0)
        return true;
    if (atomic_fetch_sub_explicit(slack, bytes, memory_order_relaxed) >= bytes || bytes < 0)
        return true;
    atomic_fetch_add_explicit(slack, bytes, memory_order_relaxed);
    return false;
}

struct operating_choice index_choose(const struct fathom_index *index, uint32_t k, float target,
                                     enum fathom_rerank rerank)
{
    struct points_cost cost = plan_cost(&index->plan, &index->file.super,
                                        index->plan.rows8 ? 0 : index->level.code_bytes);
    return points_choose(index->points, index->point_count, k, target, rerank, &cost);
}

void fathom_index_get_info(const struct fathom_index *index, struct fathom_index_info *out)
{
    const struct properties *p = &index->properties;
    *out = (struct fathom_index_info){
        .rows = p->rows,
        .generation = p->generation,
        .dim = p->dim,
        .dtype = p->dtype,
        .metric = p->metric,
        .navigator = index->plan.navigator,
        .code_bits = 8 * (index->plan.rows8 ? p->work_dim : index->level.code_bytes),
        .degree_max = p->degree_max,
        .resident_lists = index->resident_lists,
        .cells = p->cells,
        .rows_per_page = index->records->rows_per_page,
        .index_bytes = index->file.super.file_pages * PAGE_BYTES,
        .raw_bytes = p->rows * p->dim * fathom_dtype_bytes(p->dtype),
        .format_version = index->file.super.version,
        .direct_io = index->file.direct,
        .has_external_ids = p->external_ids,
        .large_buffers = index->arena->together,
        .inflight = index->options.inflight,
        .page_buffers = index->arena->slice_pages,
        .plan_recall = index->options.plan_recall,
        .recall_reached = index_choose(index, PLAN_K, 1, FATHOM_RERANK_AUTO).recall_low};
}

void fathom_index_get_ledger(const struct fathom_index *index, struct fathom_ledger *out)
{
    static const char *const names[PART_COUNT] = {
        [PART_CODES] = "codes", [PART_LISTS] = "lists", [PART_DIRECTORY] = "directory",
        [PART_IDS] = "ids",     [PART_CELLS] = "cells", [PART_ENTRIES] = "entries",
        [PART_MODEL] = "model", [PART_FIXED] = "fixed"};
    *out = (struct fathom_ledger){.part_count = PART_COUNT,
                                  .scratch_bytes = index->plan.scratch_bytes,
                                  .index_bytes = part_sum(index),
                                  .budget_bytes = index->options.dram_budget_bytes};
    for (int part = 0; part < PART_COUNT; part++) {
        out->parts[part].name = names[part];
        out->parts[part].bytes = index->part_bytes[part];
    }
    out->total_bytes = out->index_bytes + out->scratch_bytes;
}

int fathom_index_read_manifest(const struct fathom_index *index, char **out,
                               struct fathom_error *err)
{
    const struct section *section = superblock_find(&index->file.super, SECTION_MANIFEST);
    *out = calloc(1, section->bytes + 1);
    if (!*out)
        return error_set(err, -ENOMEM, "%s: no memory for the manifest", index->file.path);
    int status = index_file_read(&index->file, section, 0, *out, section->bytes, err);
    if (status) {
        free(*out);
        *out = NULL;
    }
    return status;
}
