/* Reads a file of vectors in batches and keeps several of them in flight, so that the server always
 * has work and the file is never loaded whole. Answers go straight to their rows of the results, in
 * whatever order they come. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cast.h"
#include "env.h"
#include "error.h"
#include "mem.h"
#include "protocol.h"
#include "query.h"

enum {
    BATCH_BYTES = 256 << 10, /* of vectors, when --batch does not say */
    BATCH_ROWS = 64,
    RESULT_BYTES = 12, /* an id and a distance */
    TRIES_MAX = 200,   /* of one request that the server has no room for */
    RETRY_MS = 20,     /* when the server gives no advice */
};

/* A request in flight. */
struct batch {
    uint64_t first_row;
    uint32_t rows; /* 0: idle */
    unsigned tries;
    void *vectors;
};

struct run {
    const struct query_request *request;
    struct query_answer *answer;
    struct fathom_client *client;
    struct vector_file *file;
    enum fathom_dtype dtype; /* sent */
    uint64_t first_row, rows, next_row, rows_done;
    uint32_t batch_rows;
    struct batch *batches;
    float *floats; /* on the way from the file's dtype to another */
    struct tool_progress *progress;
    bool any_reply;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Neither a request nor its answer may come near the server's longest message, unless --batch
 * insists. */
static uint32_t choose_batch_rows(const struct run *run)
{
    uint64_t rows = run->request->batch;
    if (rows == 0) {
        uint64_t asked = run->answer->info.dim * vectors_scalar_bytes(run->dtype);
        uint64_t answered = (uint64_t)run->request->k * RESULT_BYTES;
        uint64_t message = run->answer->server.max_message_bytes / 2;
        rows = smaller(BATCH_ROWS, smaller(BATCH_BYTES, message) / asked);
        rows = smaller(rows, message / answered);
    }
    return (uint32_t)smaller(rows ? rows : 1, run->rows);
}

static int alloc_run(struct run *run, struct fathom_error *err)
{
    const struct query_request *request = run->request;
    uint32_t dim = run->answer->info.dim;
    run->batch_rows = choose_batch_rows(run);
    run->batches = mem_alloc_array(request->inflight, sizeof *run->batches);
    run->floats = mem_alloc_array(run->batch_rows, dim * sizeof(float));
    if (!run->batches || !run->floats)
        return error_set(err, -ENOMEM, "no memory for %u batches", request->inflight);
    for (uint32_t i = 0; i < request->inflight; i++) {
        run->batches[i].vectors =
            mem_alloc_array(run->batch_rows, dim * vectors_scalar_bytes(run->dtype));
        if (!run->batches[i].vectors)
            return error_set(err, -ENOMEM, "no memory for %u batches", request->inflight);
    }
    return truth_create(&run->answer->results, (uint32_t)run->rows, request->k, err);
}

static int open_file(struct run *run, struct fathom_error *err)
{
    const struct query_request *request = run->request;
    int code = vector_file_open(&run->file, env_os(), request->vectors, NULL, err);
    if (code)
        return code;
    run->answer->info = vector_file_info(run->file);
    run->rows = run->answer->info.rows;
    run->dtype = request->dtype ? request->dtype : run->answer->info.dtype;
    if (request->explain && request->row >= run->rows)
        return error_set(err, FATHOM_EARGUMENT, "%s: has %llu rows, there is no row %llu",
                         request->vectors, (unsigned long long)run->rows,
                         (unsigned long long)request->row);
    if (run->rows > UINT32_MAX)
        return error_set(err, FATHOM_ELIMIT, "%s: %llu rows are more than one run can ask for",
                         request->vectors, (unsigned long long)run->rows);
    if (request->explain) {
        run->first_row = request->row;
        run->rows = 1;
    }
    return 0;
}

/* Reads a batch's rows, in the dtype that is sent. */
static int read_batch(struct run *run, struct batch *batch, struct fathom_error *err)
{
    struct cast cast = {.type = run->dtype,
                        .round = run->request->round,
                        .dim = run->answer->info.dim,
                        .path = run->request->vectors};
    uint64_t first = run->first_row + batch->first_row;
    if (run->dtype == run->answer->info.dtype) {
        int code = vector_file_read(run->file, first, batch->rows, batch->vectors, err);
        return code ? code
                    : vectors_check_finite(run->dtype, batch->vectors, first, batch->rows, cast.dim,
                                           cast.path, err);
    }
    int code = vector_file_read_f32(run->file, first, batch->rows, run->floats, err);
    if (code == 0)
        code = vectors_check_finite(FATHOM_F32, run->floats, first, batch->rows, cast.dim,
                                    cast.path, err);
    return code ? code : cast_f32(&cast, run->floats, first, batch->rows, batch->vectors, err);
}

static int submit_batch(struct run *run, struct batch *batch, struct fathom_client_error *err)
{
    const struct query_request *request = run->request;
    struct truth *results = run->answer->results;
    size_t place = (size_t)batch->first_row * request->k;
    struct fathom_client_search search = fathom_client_search_default();
    search.index = request->index;
    search.vectors = batch->vectors;
    search.dtype = (enum fathom_client_dtype)run->dtype;
    search.n = batch->rows;
    search.dim = run->answer->info.dim;
    search.k = request->k;
    search.search_list = request->search_list;
    search.target_recall = request->target_recall;
    search.exact_distances = request->exact_distances;
    search.rerank = request->rerank;
    search.deadline_ms = request->deadline_ms;
    search.ids = results->ids + place;
    search.distances = results->distances + place;
    search.stats = request->explain ? &run->answer->stats : NULL;
    search.user = batch;
    return fathom_client_submit(run->client, &search, NULL, err);
}

static void note_reply(struct run *run, const struct fathom_client_result *result)
{
    struct query_answer *answer = run->answer;
    struct batch *batch = result->user;
    if (run->any_reply && answer->generation != result->generation)
        answer->mixed_generations = true;
    answer->complete = (answer->complete || !run->any_reply) && result->complete;
    answer->generation = result->generation;
    run->any_reply = true;
    run->rows_done += batch->rows;
    batch->rows = 0;
    tool_progress_update(run->progress, run->rows_done);
}

/* The server has no room just now: waits as it advises and asks again. False when that is no use.
 */
static bool retry_batch(struct run *run, struct batch *batch, struct fathom_client_error *err)
{
    if (strcmp(err->name, PROTOCOL_ERROR_RESOURCE_EXHAUSTED) || !err->retryable ||
        ++batch->tries > TRIES_MAX)
        return false;
    uint32_t wait_ms = err->retry_after_ms ? err->retry_after_ms : RETRY_MS;
    struct timespec wait = {wait_ms / 1000, wait_ms % 1000 * 1000000};
    while (nanosleep(&wait, &wait) && errno == EINTR)
        ;
    return submit_batch(run, batch, err) == 0;
}

/* The server counts rows within the request, and knows no file. */
static void name_rows(const struct run *run, const struct batch *batch,
                      struct fathom_client_error *err)
{
    char message[sizeof err->message];
    uint64_t first = run->first_row + batch->first_row;
    if (strcmp(err->name, PROTOCOL_ERROR_INVALID_ARGUMENT))
        return;
    snprintf(message, sizeof message, "%.200s, request of rows %llu to %llu: %.256s",
             run->request->vectors, (unsigned long long)first,
             (unsigned long long)first + batch->rows - 1, err->message);
    memcpy(err->message, message, sizeof message);
}

/* Fills idle batches from the file and sends them. */
static int send_batches(struct run *run)
{
    const struct query_request *request = run->request;
    for (uint32_t i = 0; i < request->inflight && run->next_row < run->rows; i++) {
        struct batch *batch = &run->batches[i];
        struct fathom_error err;
        struct fathom_client_error client_err;
        if (batch->rows > 0)
            continue;
        uint64_t left = run->rows - run->next_row;
        batch->first_row = run->next_row;
        batch->rows = left < run->batch_rows ? (uint32_t)left : run->batch_rows;
        batch->tries = 0;
        if (read_batch(run, batch, &err))
            return tool_fail(request->verb, &err);
        if (submit_batch(run, batch, &client_err))
            return cli_fail(&request->common, request->verb, &client_err);
        run->next_row += batch->rows;
    }
    return TOOL_EXIT_OK;
}

static int ask(struct run *run)
{
    const struct query_request *request = run->request;
    uint64_t start_ns = env_clock_ns(env_os());
    tool_progress_phase(run->progress, "query", run->rows, "queries");
    while (run->rows_done < run->rows) {
        struct fathom_client_result result;
        struct fathom_client_error err;
        int status = send_batches(run);
        if (status)
            return status;
        if (fathom_client_receive(run->client, &result, &err) != 1)
            return cli_fail(&request->common, request->verb, &err);
        if (result.status == 0)
            note_reply(run, &result);
        else if (!retry_batch(run, result.user, &err)) {
            name_rows(run, result.user, &err);
            return cli_fail(&request->common, request->verb, &err);
        }
    }
    tool_progress_finish(run->progress);
    run->answer->took_ns = env_clock_ns(env_os()) - start_ns;
    return TOOL_EXIT_OK;
}

static void run_fini(struct run *run)
{
    fathom_client_close(run->client); /* first: answers are written to what follows */
    for (uint32_t i = 0; run->batches && i < run->request->inflight; i++)
        mem_free(run->batches[i].vectors);
    mem_free(run->batches);
    mem_free(run->floats);
    vector_file_close(run->file);
    tool_progress_destroy(run->progress);
}

int query_run(const struct query_request *request, struct query_answer *answer)
{
    struct run run = {.request = request, .answer = answer};
    struct fathom_error err;
    memset(answer, 0, sizeof *answer);
    int status = TOOL_EXIT_OK;
    if (open_file(&run, &err) || (request->out && truth_check_path(env_os(), request->out, &err)))
        status = tool_fail(request->verb, &err);
    if (status == TOOL_EXIT_OK)
        status = cli_connect(&run.client, &request->common, request->verb);
    if (status == TOOL_EXIT_OK) {
        fathom_client_get_server(run.client, &answer->server);
        if (alloc_run(&run, &err))
            status = tool_fail(request->verb, &err);
    }
    if (status == TOOL_EXIT_OK) {
        run.progress = tool_progress_create(request->progress);
        status = ask(&run);
    }
    run_fini(&run);
    return status;
}

void query_answer_fini(struct query_answer *answer)
{
    truth_destroy(answer->results);
    answer->results = NULL;
}
