/* Each file is written and read by a pair of functions that lie next to each other. What is read is
 * checked although its pages were: a program with another idea of a file must not follow it. */
#include "checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "provenance.h"

#define COST_SHARE   33             /* a checkpoint waits for so many times what it costs */
#define UNPLANNED_NS 20000000000ull /* that one waits for longer because it was not planned */

static const char state_name[] = "state", input_name[] = "input", written_name[] = "written";

/* ---- when ---- */

void checkpoint_start(struct checkpoint *checkpoint)
{
    checkpoint->last_ns = env_clock_ns(checkpoint->work.env);
    checkpoint->cost_ns = CHECKPOINT_COST_NS;
}

void checkpoint_kept(struct checkpoint *checkpoint)
{
    checkpoint->last_ns = env_clock_ns(checkpoint->work.env);
}

uint64_t checkpoint_wait_ns(uint64_t spacing_ns, double cost_ns, uint64_t bytes)
{
    double wait = COST_SHARE * cost_ns * (double)bytes;
    uint64_t least = wait < CHECKPOINT_MOST_NS ? (uint64_t)wait : CHECKPOINT_MOST_NS;
    return spacing_ns == 0 || spacing_ns > least ? spacing_ns : least;
}

uint64_t checkpoint_since_ns(const struct checkpoint *checkpoint)
{
    return env_clock_ns(checkpoint->work.env) - checkpoint->last_ns;
}

bool checkpoint_due(const struct checkpoint *checkpoint, uint64_t bytes)
{
    uint64_t wait = checkpoint_wait_ns(checkpoint->spacing_ns, checkpoint->cost_ns, bytes);
    if (checkpoint->unplanned && wait < UNPLANNED_NS)
        wait = wait < UNPLANNED_NS / 2 ? 2 * wait : UNPLANNED_NS;
    return wait == 0 || checkpoint_since_ns(checkpoint) >= wait;
}

int checkpoint_finish(struct checkpoint *checkpoint, struct work_writer *writer, int status,
                      uint64_t start_ns, uint64_t bytes, struct fathom_error *err)
{
    if (status == 0)
        status = work_commit(writer, err);
    else
        work_abandon(writer);
    checkpoint->last_ns = env_clock_ns(checkpoint->work.env);
    if (bytes)
        checkpoint->cost_ns = (double)(checkpoint->last_ns - start_ns) / (double)bytes;
    return status;
}

int checkpoint_unusable(struct checkpoint *checkpoint, const char *name, int status,
                        struct fathom_error *err)
{
    if (status == -ENOENT)
        return 0;
    if (work_may_pass(status))
        return status;
    struct fathom_error note;
    (void)error_set(&note, status, "%s; what it held is made again", err->msg);
    crew_note(checkpoint->crew, note.msg);
    work_remove(&checkpoint->work, name);
    *err = (struct fathom_error){0};
    return 0;
}

int checkpoint_has(struct checkpoint *checkpoint, const char *name, struct fathom_error *err)
{
    struct fathom_error why;
    int status = work_check(&checkpoint->work, name, &why);
    if (status == 0 && why.msg[0])
        status = checkpoint_unusable(checkpoint, name, why.code, &why);
    if (status < 0 && err)
        *err = why;
    return status;
}

const char *checkpoint_name(char name[WORK_NAME_MAX], const char *kind, uint32_t number)
{
    snprintf(name, WORK_NAME_MAX, "%s%" PRIu32, kind, number);
    return name;
}

int checkpoint_malformed(const char *name, struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT, WORK_PREFIX "%s: is not what this build would write",
                     name);
}

/* ---- state ---- */

static int save_state(struct checkpoint *checkpoint, const char *identity, struct fathom_error *err)
{
    struct work anonymous = checkpoint->work;
    struct work_writer *writer;
    anonymous.identity = 0; /* it is what tells the identity */
    int status = work_create(&writer, &anonymous, state_name, err);
    if (status != 0)
        return status;
    status = work_append(writer, identity, strlen(identity), err);
    return checkpoint_finish(checkpoint, writer, status, 0, 0, err);
}

static int read_state(struct work_file *file, char **identity, struct fathom_error *err)
{
    size_t bytes = work_bytes(file);
    *identity = mem_alloc(bytes + 1);
    return *identity ? work_next(file, *identity, bytes, err)
                     : error_set(err, -ENOMEM, "no memory to resume a build");
}

int checkpoint_load_state(struct checkpoint *checkpoint, const char *unhashed, char **identity,
                          struct fathom_error *err)
{
    struct work anonymous = checkpoint->work;
    struct work_file *file;
    anonymous.identity = 0;
    *identity = NULL;
    int status = work_open(&file, &anonymous, state_name, err);
    if (status == 0) {
        status = read_state(file, identity, err);
        work_close(file);
    }
    if (status == 0)
        status = identity_compare(checkpoint->work.dir, *identity, unhashed, err);
    if (status == 0) {
        checkpoint->work.identity = identity_hash(*identity);
        checkpoint->begun = true;
        return 1;
    }
    mem_free(*identity);
    *identity = NULL;
    return status == FATHOM_EARGUMENT ? status
                                      : checkpoint_unusable(checkpoint, state_name, status, err);
}

/* ---- input ---- */

struct input_header {
    uint64_t zero_count;
    double max_norm;
    float step;
    uint32_t work_dim;
};

int checkpoint_save_input(struct checkpoint *checkpoint, const char *identity,
                          const struct input *input, struct fathom_error *err)
{
    struct work_writer *writer;
    struct input_header header = {.zero_count = input->zero_count,
                                  .max_norm = input->max_norm,
                                  .step = input->model.step,
                                  .work_dim = input->work_dim};
    checkpoint->work.identity = identity_hash(identity);
    int status = work_create(&writer, &checkpoint->work, input_name, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    if (status == 0)
        status = work_append(writer, input->mean, input->work_dim * sizeof *input->mean, err);
    if (status == 0)
        status = work_append(writer, input->zero_rows, input->zero_count * sizeof(uint64_t), err);
    status = checkpoint_finish(checkpoint, writer, status, 0, 0, err);
    if (status == 0)
        status = save_state(checkpoint, identity, err);
    checkpoint->begun = status == 0;
    return status;
}

static int read_input(struct work_file *file, struct input *input, struct fathom_error *err)
{
    struct input_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status != 0)
        return status;
    if (header.work_dim != input->work_dim || header.zero_count >= input->info.rows)
        return checkpoint_malformed(input_name, err);
    input->mean = mem_alloc_array(input->work_dim, sizeof *input->mean);
    if (header.zero_count)
        input->zero_rows = mem_alloc_array(header.zero_count, sizeof *input->zero_rows);
    if (!input->mean || (header.zero_count && !input->zero_rows))
        return error_set(err, -ENOMEM, "no memory to resume a build");
    status = work_next(file, input->mean, input->work_dim * sizeof *input->mean, err);
    if (status == 0)
        status = work_next(file, input->zero_rows, header.zero_count * sizeof(uint64_t), err);
    for (uint64_t i = 0; i < header.zero_count && status == 0; i++)
        if (input->zero_rows[i] >= input->info.rows ||
            (i > 0 && input->zero_rows[i] <= input->zero_rows[i - 1]))
            status = checkpoint_malformed(input_name, err);
    input->zero_count = header.zero_count;
    input->max_norm = header.max_norm;
    input->model =
        (struct row8_model){.dim = input->work_dim, .step = header.step, .mean = input->mean};
    return status;
}

int checkpoint_load_input(struct checkpoint *checkpoint, struct input *input,
                          struct fathom_error *err)
{
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, input_name, err);
    if (status == 0) {
        status = read_input(file, input, err);
        work_close(file);
    }
    if (status == 0)
        return 1;
    input_forget(input);
    return checkpoint_unusable(checkpoint, input_name, status, err);
}

/* ---- graph ---- */

struct graph_header {
    struct graph_state state;
    uint32_t rows, entry_count;
    uint32_t entries[GRAPH_ENTRIES_MAX];
};

int checkpoint_save_graph(struct checkpoint *checkpoint, const char *name,
                          const struct graph *graph, const struct graph_state *state,
                          struct fathom_error *err)
{
    struct work_writer *writer;
    struct graph_header header = {
        .state = *state, .rows = graph->rows, .entry_count = graph->entry_count};
    memcpy(header.entries, graph->entries, sizeof header.entries);
    uint64_t start = env_clock_ns(checkpoint->work.env), bytes = 0;
    int status = work_create(&writer, &checkpoint->work, name, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    for (uint32_t row = 0; row < graph->rows && status == 0; row++) {
        const uint32_t *list = graph_list(graph, row);
        status = work_append(writer, list, (1 + list[0]) * sizeof *list, err);
        bytes += (1 + list[0]) * sizeof *list;
    }
    return checkpoint_finish(checkpoint, writer, status, start, bytes, err);
}

static bool is_header(const struct graph_header *header, uint32_t rows)
{
    bool good = header->rows == rows && header->entry_count >= 1 &&
                header->entry_count <= GRAPH_ENTRIES_MAX &&
                header->state.degree >= BUILD_DEGREE_MIN &&
                header->state.degree <= BUILD_DEGREE_MAX && header->state.list >= BUILD_LIST_MIN &&
                header->state.list <= BUILD_LIST_MAX;
    for (uint32_t i = 0; i < header->entry_count && good; i++)
        good = header->entries[i] < rows;
    return good;
}

static int read_list(struct work_file *file, const char *name, struct graph *graph, uint32_t row,
                     struct fathom_error *err)
{
    uint32_t *list = graph_list(graph, row);
    int status = work_next(file, list, sizeof *list, err);
    if (status == 0 && list[0] >= graph->stride)
        status = checkpoint_malformed(name, err);
    if (status == 0)
        status = work_next(file, list + 1, list[0] * sizeof *list, err);
    for (uint32_t i = 1; status == 0 && i <= list[0]; i++)
        if (list[i] >= graph->rows)
            status = checkpoint_malformed(name, err);
    return status;
}

static int read_graph(struct checkpoint *checkpoint, struct work_file *file, const char *name,
                      struct graph *graph, uint32_t rows, struct graph_state *state,
                      struct fathom_error *err)
{
    struct graph_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status != 0)
        return status;
    if (!is_header(&header, rows))
        return checkpoint_malformed(name, err);
    if (graph_init(graph, rows, header.state.degree) != 0)
        return error_set(err, -ENOMEM, "no memory to resume a build");
    *state = header.state;
    graph->entry_count = header.entry_count;
    memcpy(graph->entries, header.entries, sizeof header.entries);
    for (uint32_t row = 0; row < rows && status == 0; row++) {
        status = read_list(file, name, graph, row, err);
        if (row % 65536 == 0 && crew_stopped(checkpoint->crew))
            status =
                error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
    }
    return status;
}

int checkpoint_load_graph(struct checkpoint *checkpoint, const char *name, struct graph *graph,
                          uint32_t rows, struct graph_state *state, struct fathom_error *err)
{
    struct work_file *file;
    *graph = (struct graph){0};
    int status = work_open(&file, &checkpoint->work, name, err);
    if (status == 0) {
        status = read_graph(checkpoint, file, name, graph, rows, state, err);
        work_close(file);
    }
    if (status == 0)
        return 1;
    graph_fini(graph);
    return checkpoint_unusable(checkpoint, name, status, err);
}

/* ---- an index on its way ---- */

int checkpoint_save_writing(struct checkpoint *checkpoint, const struct index_progress *progress,
                            uint64_t sum, struct fathom_error *err)
{
    struct work_writer *writer;
    int status = work_create(&writer, &checkpoint->work, CHECKPOINT_WRITING, err);
    if (status != 0)
        return status;
    status = work_append(writer, progress, sizeof *progress, err);
    if (status == 0)
        status = work_append(writer, &sum, sizeof sum, err);
    return checkpoint_finish(checkpoint, writer, status, 0, 0, err);
}

int checkpoint_load_writing(struct checkpoint *checkpoint, struct index_progress *progress,
                            uint64_t *sum, struct fathom_error *err)
{
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, CHECKPOINT_WRITING, err);
    if (status == 0) {
        status = work_next(file, progress, sizeof *progress, err);
        if (status == 0)
            status = work_next(file, sum, sizeof *sum, err);
        work_close(file);
    }
    return status == 0 ? 1 : checkpoint_unusable(checkpoint, CHECKPOINT_WRITING, status, err);
}

/* ---- written ---- */

int checkpoint_save_written(struct checkpoint *checkpoint, const struct written *written,
                            struct fathom_error *err)
{
    struct work_writer *writer;
    int status = work_create(&writer, &checkpoint->work, written_name, err);
    if (status != 0)
        return status;
    status = work_append(writer, written, sizeof *written, err);
    return checkpoint_finish(checkpoint, writer, status, 0, 0, err);
}

int checkpoint_load_written(struct checkpoint *checkpoint, struct written *written,
                            struct fathom_error *err)
{
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, written_name, err);
    if (status == 0) {
        status = work_next(file, written, sizeof *written, err);
        work_close(file);
    }
    return status == 0 ? 1 : checkpoint_unusable(checkpoint, written_name, status, err);
}
