/* How far a long piece of work has come: a bar on a terminal, JSON lines for programs, nothing on a
 * pipe. Everything goes to stderr. Any thread may report; the one that finds the line free draws
 * it, the others go on without waiting.
 *
 * A JSON line: {"event": "progress", "phase", "state": "running" or "done", "done", "total",
 * "unit", "share" (0..1), "rate" (units a second), "elapsed_seconds", "eta_seconds" (null when
 * unknown), "peak_rss_bytes", and of all phases together "overall_share" and "overall_eta_seconds",
 * both null where nobody has said what they take}. */
#include "tool.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "env.h"
#include "mem.h"
#include "outlook.h"

#define DRAW_EVERY_NS 100000000ull  /* ten times a second */
#define QUIET_NS      1000000000ull /* work that ends sooner shows no bar */
#define BAR_CELLS     24

struct tool_progress {
    enum tool_progress_mode mode; /* AUTO here means: a bar */
    char phase[48], unit[24];     /* written by the owner between phases alone */
    bool running;                 /* a phase has begun and not ended */
    bool shown;                   /* a bar of this phase is on the terminal */
    uint64_t total, started_ns;
    struct outlook outlook; /* likewise; and by tool_progress_expect */
    _Atomic uint64_t done;
    _Atomic uint64_t next_draw_ns;
    atomic_flag
        drawing; /* held by the thread that draws; acquire pairs with the release after it */
};

struct tool_progress *tool_progress_create(enum tool_progress_mode mode)
{
    struct tool_progress *progress = mem_alloc(sizeof *progress);
    if (!progress)
        return NULL; /* the work goes on without: every call here accepts NULL */
    if (mode == TOOL_PROGRESS_AUTO && !isatty(STDERR_FILENO))
        mode = TOOL_PROGRESS_OFF;
    progress->mode = mode;
    atomic_flag_clear(&progress->drawing);
    return progress;
}

void tool_progress_destroy(struct tool_progress *progress)
{
    tool_progress_finish(progress);
    mem_free(progress);
}

bool tool_progress_shows(const struct tool_progress *progress)
{
    return progress && progress->mode != TOOL_PROGRESS_OFF;
}

/* ---- one line ---- */

struct snapshot {
    uint64_t done, elapsed_ns;
    double share, rate, eta_seconds; /* eta below 0: unknown */
    struct outlook_view overall;
};

static struct snapshot take_snapshot(const struct tool_progress *progress, uint64_t now_ns,
                                     bool ended)
{
    struct snapshot s = {.done = atomic_load_explicit(&progress->done, memory_order_relaxed),
                         .elapsed_ns = now_ns - progress->started_ns,
                         .eta_seconds = -1};
    double seconds = (double)s.elapsed_ns / 1e9;
    s.share = progress->total ? (double)s.done / (double)progress->total : 1;
    if (s.share > 1)
        s.share = 1;
    s.rate = seconds > 0 ? (double)s.done / seconds : 0;
    if (s.rate > 0 && s.done <= progress->total)
        s.eta_seconds = (double)(progress->total - s.done) / s.rate;
    s.overall = outlook_view(&progress->outlook, progress->phase, seconds,
                             ended             ? 1
                             : progress->total ? s.share
                                               : -1);
    return s;
}

static void print_json_line(const struct tool_progress *progress, uint64_t now_ns, bool ended)
{
    struct snapshot s = take_snapshot(progress, now_ns, ended);
    json_t *line = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:s, s:f, s:f, s:f, s:o, s:I, s:o, s:o}", "event", "progress",
        "phase", progress->phase, "state", ended ? "done" : "running", "done", (json_int_t)s.done,
        "total", (json_int_t)progress->total, "unit", progress->unit, "share", s.share, "rate",
        s.rate, "elapsed_seconds", (double)s.elapsed_ns / 1e9, "eta_seconds",
        s.eta_seconds < 0 ? json_null() : json_real(s.eta_seconds), "peak_rss_bytes",
        (json_int_t)env_peak_rss_bytes(), "overall_share",
        s.overall.eta_seconds < 0 ? json_null() : json_real(s.overall.share), "overall_eta_seconds",
        s.overall.eta_seconds < 0 ? json_null() : json_real(s.overall.eta_seconds));
    if (!line)
        return;
    json_dumpf(line, stderr, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', stderr);
    fflush(stderr);
    json_decref(line);
}

/* "12.3k": a rate needs no more digits. */
static void format_count(double value, char out[16])
{
    static const char suffixes[] = " kMGT";
    int i = 0;
    while (value >= 999.5 && suffixes[i + 1]) {
        value /= 1000;
        i++;
    }
    snprintf(out, 16, "%.*f%.*s", value < 9.995 && i ? 1 : 0, value, i ? 1 : 0, suffixes + i);
}

/* "12 s", "?" when unknown. */
static const char *format_eta(double seconds, char out[32])
{
    if (seconds >= 0 && seconds < 99.5)
        snprintf(out, 32, "%.0f s", seconds);
    else if (seconds >= 0 && seconds < 1e9)
        tool_format_duration_ns((uint64_t)seconds * 1000000000ull, out);
    else
        snprintf(out, 32, "?");
    return out;
}

static void draw_bar(struct tool_progress *progress, uint64_t now_ns)
{
    char cells[BAR_CELLS + 1], rate[16], eta[32], all[32], overall[64] = "", peak[32];
    struct snapshot s = take_snapshot(progress, now_ns, false);
    int full = (int)(s.share * BAR_CELLS);
    for (int i = 0; i < BAR_CELLS; i++)
        cells[i] = i < full ? '#' : '.';
    cells[BAR_CELLS] = 0;
    format_count(s.rate, rate);
    if (s.overall.eta_seconds >= 0)
        snprintf(overall, sizeof overall, "  of all %.0f%%, ETA %s", s.overall.share * 100,
                 format_eta(s.overall.eta_seconds, all));
    fprintf(stderr, "\r\033[K%-12s [%s] %3.0f%%  %s %s/s  ETA %s%s  peak %s", progress->phase,
            cells, s.share * 100, rate, progress->unit, format_eta(s.eta_seconds, eta), overall,
            tool_format_bytes(env_peak_rss_bytes(), peak));
    fflush(stderr);
    progress->shown = true;
}

static void draw(struct tool_progress *progress, uint64_t now_ns)
{
    if (progress->mode == TOOL_PROGRESS_JSON)
        print_json_line(progress, now_ns, false);
    else if (now_ns - progress->started_ns >= QUIET_NS)
        draw_bar(progress, now_ns);
}

/* ---- phases ---- */

static void end_phase(struct tool_progress *progress)
{
    if (!progress->running)
        return;
    progress->running = false;
    uint64_t now_ns = env_clock_ns(env_os());
    if (progress->mode == TOOL_PROGRESS_JSON) {
        print_json_line(progress, now_ns, true);
    } else if (progress->shown) {
        char took[32];
        uint64_t done = atomic_load_explicit(&progress->done, memory_order_relaxed);
        fprintf(stderr, "\r\033[K%-12s %llu %s in %s\n", progress->phase, (unsigned long long)done,
                progress->unit, tool_format_duration_ns(now_ns - progress->started_ns, took));
        fflush(stderr);
    }
    progress->shown = false;
    outlook_end(&progress->outlook, progress->phase, (double)(now_ns - progress->started_ns) / 1e9);
}

void tool_progress_expect(struct tool_progress *progress, const char *const *phases,
                          const double *seconds, const bool *waits, uint32_t count)
{
    if (tool_progress_shows(progress))
        outlook_expect(&progress->outlook, phases, seconds, waits, count);
}

void tool_progress_phase(struct tool_progress *progress, const char *phase, uint64_t total,
                         const char *unit)
{
    if (!tool_progress_shows(progress))
        return;
    end_phase(progress);
    snprintf(progress->phase, sizeof progress->phase, "%s", phase);
    snprintf(progress->unit, sizeof progress->unit, "%s", unit);
    progress->total = total;
    progress->started_ns = env_clock_ns(env_os());
    atomic_store_explicit(&progress->done, 0, memory_order_relaxed);
    atomic_store_explicit(&progress->next_draw_ns, progress->started_ns + DRAW_EVERY_NS,
                          memory_order_relaxed);
    progress->running = true;
    if (progress->mode == TOOL_PROGRESS_JSON)
        print_json_line(progress, progress->started_ns, false);
}

void tool_progress_update(struct tool_progress *progress, uint64_t done)
{
    if (!tool_progress_shows(progress) || !progress->running)
        return;
    uint64_t known = atomic_load_explicit(&progress->done, memory_order_relaxed);
    while (known < done &&
           !atomic_compare_exchange_weak_explicit(&progress->done, &known, done,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
    uint64_t now_ns = env_clock_ns(env_os());
    if (now_ns < atomic_load_explicit(&progress->next_draw_ns, memory_order_relaxed))
        return;
    if (atomic_flag_test_and_set_explicit(&progress->drawing, memory_order_acquire))
        return;
    atomic_store_explicit(&progress->next_draw_ns, now_ns + DRAW_EVERY_NS, memory_order_relaxed);
    draw(progress, now_ns);
    atomic_flag_clear_explicit(&progress->drawing, memory_order_release);
}

void tool_progress_finish(struct tool_progress *progress)
{
    if (tool_progress_shows(progress))
        end_phase(progress);
}
