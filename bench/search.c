/* `fathom-bench search`: for each budget, number of threads and of queries in flight, opens the
 * index, makes one run for each search list, and reports them as a table for people or a JSON
 * document for programs. docs/PROGRAMS.md tells the fields. */
#include <malloc.h>
#include <stdio.h>

#include "bench.h"
#include "env.h"
#include "error.h"
#include "machine.h"
#include "search_report.h"
#include "search_run.h"

/* Blocks from here on are given back to the system when they are freed. glibc would raise the
 * threshold by itself, and keep what one run's engines had for the next: memory that whoever looks
 * from outside takes for the index's. */
#define GIVEN_BACK_BYTES (128 << 10)

/* The files are asked out of the page cache before anything is measured: what it holds after a run
 * is then what the run brought there. */
static int opening_open(struct search_session *session, struct fathom_error *err)
{
    const struct search_options *options = &session->options;
    env_peak_rss_reset();
    int status = fathom_index_open(&session->index, options->index, &options->open, err);
    if (status)
        return status;
    status = env_cache_drop(options->index);
    if (status)
        return error_set(err, status, "%s: cannot ask the page cache to forget it: %s",
                         options->index, fathom_strerror(status));
    fathom_index_get_info(session->index, &session->info);
    fathom_index_get_ledger(session->index, &session->ledger);
    return 0;
}

static struct search_plan opening_plan(const struct search_session *session)
{
    const struct search_options *options = &session->options;
    return (struct search_plan){
        .env = env_os(),
        .index = session->index,
        .workload = &session->workload,
        .threads = options->open.threads,
        .inflight = session->info.inflight,
        .io = options->io,
        .k = options->k,
        .refine_threshold = (float)options->refine_threshold,
        .exact_distances = options->exact_distances,
        .rerank = options->rerank,
        .passes = options->passes,
        .whole = true,
        .seconds = options->seconds,
        .warm_up_ns = options->warm_up_ns,
        .stop = tool_interrupted,
    };
}

/* The repetitions of one run; only the first needs to warm up, and to ask every query. */
static int repeat_run(struct search_repeats *out, struct search_plan plan, unsigned repeats,
                      struct fathom_error *err)
{
    *out = (struct search_repeats){0};
    while (out->count < repeats && (!out->count || !tool_interrupted())) {
        int status = search_run(&out->runs[out->count], &plan, err);
        if (status)
            return status;
        out->count++;
        plan.warm_up_ns = 0;
        plan.whole = false;
    }
    return 0;
}

/* The open loops after a run, whose QPS is the peak. The run's record has them all. */
static int run_open_loops(struct search_session *session, struct search_plan plan,
                          const struct search_repeats *closed, struct fathom_error *err)
{
    const struct search_options *options = &session->options;
    double peak_qps = search_run_qps(search_repeats_median(closed));
    plan.warm_up_ns = 0;
    for (unsigned i = 0; i < options->rates.count && !tool_interrupted(); i++) {
        struct search_repeats repeats;
        plan.rate = bench_rates_qps(&options->rates, i, peak_qps);
        plan.urgency = options->urgency;
        plan.watch_cpus = options->watch_cpus;
        int status = repeat_run(&repeats, plan, options->repeats, err);
        if (status)
            return status;
        if (i == 0 && plan.urgency != repeats.runs[0].urgency)
            fprintf(stderr, "%s: open loops run at urgency %s: %s is not allowed here\n",
                    BENCH_SEARCH_NAME, env_urgency_name(repeats.runs[0].urgency),
                    env_urgency_name(plan.urgency));
        search_report_open_loop(session, &plan, &repeats);
    }
    return 0;
}

/* The runs of an opening, from first to end. */
static int opening_run(struct search_session *session, unsigned first, unsigned end,
                       struct fathom_error *err)
{
    const struct search_options *options = &session->options;
    struct search_plan plan = opening_plan(session);
    for (unsigned i = first; i < end && !tool_interrupted(); i++) {
        struct search_repeats repeats;
        plan.search_list = options->target_count ? 0 : (uint32_t)options->search_lists[i];
        plan.target_recall = options->target_count ? (float)options->targets[i] : 0;
        int status = repeat_run(&repeats, plan, options->repeats, err);
        if (status)
            return status;
        if (!session->noted && repeats.runs[0].io_note[0])
            fprintf(stderr, "%s: %s\n", BENCH_SEARCH_NAME, repeats.runs[0].io_note);
        session->noted = true;
        search_report_run(session, &plan, &repeats);
        status = run_open_loops(session, plan, &repeats, err);
        if (status)
            return status;
    }
    return 0;
}

static int check_dimension(const struct search_session *session, struct fathom_error *err)
{
    uint32_t dim = session->workload.dim, wanted = session->info.dim;
    return dim == wanted ? 0
                         : error_set(err, FATHOM_EDIM,
                                     "%s: its vectors have %u dimensions, those of %s have %u",
                                     session->options.query, dim, session->options.index, wanted);
}

static int open_and_run(struct search_session *session, unsigned first, unsigned end,
                        struct fathom_error *err)
{
    struct search_options *options = &session->options;
    options->open.plan_recall = (float)(options->plan_recall >= 0 ? options->plan_recall
                                        : options->target_count   ? options->targets[first]
                                                                  : 0);
    int status = opening_open(session, err);
    if (!status)
        status = check_dimension(session, err);
    if (!status) {
        search_report_opening(session);
        status = opening_run(session, first, end, err);
        session->opened++;
    }
    fathom_index_close(session->index);
    session->index = NULL;
    malloc_trim(0); /* of smaller blocks, between which those of the report lie */
    return status;
}

/* One point of the sweep. A budget that is too small for this index is a result when there are
 * others, and an error when there are none. */
static int sweep_point(struct search_session *session, struct fathom_error *err)
{
    const struct search_options *options = &session->options;
    unsigned runs = search_options_runs(options), together = search_options_runs_together(options);
    for (unsigned first = 0; first < runs && !tool_interrupted(); first += together) {
        int status = open_and_run(session, first, first + together, err);
        if (status == FATHOM_EBUDGET && options->budget_count > 1) {
            search_report_refused(session, err->msg);
            return 0;
        }
        if (status)
            return status;
    }
    return 0;
}

static int sweep(struct search_session *session, struct fathom_error *err)
{
    struct search_options *options = &session->options;
    unsigned in_flight = options->inflight_count, threads = options->thread_count;
    unsigned points = options->budget_count * threads * in_flight;
    for (unsigned i = 0; i < points && !tool_interrupted(); i++) {
        options->open.dram_budget_bytes = options->budgets[i / in_flight / threads].bytes;
        options->open.dram_budget_share = options->budgets[i / in_flight / threads].share;
        options->open.threads = (unsigned)options->threads[i / in_flight % threads];
        options->open.inflight = (unsigned)options->inflights[i % in_flight];
        int status = sweep_point(session, err);
        if (status)
            return status;
    }
    return session->opened || tool_interrupted() ? 0 : FATHOM_EBUDGET;
}

/* Until a line comes, or stdin ends. */
static void wait_for_go(void)
{
    int byte;
    fputs("ready\n", stderr);
    do
        byte = getchar();
    while (byte != '\n' && byte != EOF);
}

int bench_search_main(int argc, char **argv)
{
    struct search_session session = {0};
    struct fathom_error err = {0};
    int exit_code = search_options_parse(&session.options, argc, argv);
    if (exit_code)
        return exit_code;
    tool_catch_signals();
    mallopt(M_MMAP_THRESHOLD, GIVEN_BACK_BYTES);
    const struct search_options *options = &session.options;
    env_device_name(options->index, session.device, sizeof session.device);
    int status = workload_open(&session.workload, env_os(), options->query, options->truth,
                               options->ids, options->k, &err);
    if (!status && options->wait)
        wait_for_go();
    if (!status)
        status = sweep(&session, &err);
    if (status)
        exit_code = tool_fail(BENCH_SEARCH_NAME, &err);
    else
        exit_code = search_report_print(&session);
    if (!exit_code && tool_interrupted())
        exit_code = TOOL_EXIT_INTERRUPTED;
    json_decref(session.document);
    json_decref(session.refused);
    workload_close(&session.workload);
    return exit_code;
}
