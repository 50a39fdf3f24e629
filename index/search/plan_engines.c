/* What the engines of an index have, where nobody has said: queries in flight, and page buffers.
 * Both take of a budget what codes and lists would be resident in. Only arithmetic, as in plan.c.
 */
#include "index.h"
#include "pages.h"

#define INFLIGHT_MOST  16
#define INFLIGHT_USUAL 4         /* fewer only where nothing else is possible */
#define SCRATCH_PART   (1.0 / 3) /* of a budget, for more than so few (docs/adr/0067) */
#define PRICE_MOST     1.2       /* of a query, by a plan that has them, for twice as many */

static uint64_t plan_bytes(const struct plan *plan)
{
    return plan->index_bytes + plan->scratch_bytes;
}

/* Those that are there, or that were asked for; or as many as a budget is well spent on, or else as
 * there is room for (docs/adr/0063). */
static unsigned page_buffers(const struct plan_input *input)
{
    struct fathom_open_options options = *input->options;
    if (options.page_buffers)
        return options.page_buffers;
    if (options.engines_of)
        return options.engines_of->arena->slice_pages;
    options.page_buffers =
        engine_page_buffers(options.threads, options.inflight, options.dram_budget_bytes);
    struct plan_input usual = *input;
    usual.options = &options;
    const struct plan least = plan_least(&usual);
    if (options.dram_budget_bytes == 0 || least.index_bytes == UINT64_MAX ||
        plan_bytes(&least) <= options.dram_budget_bytes)
        return options.page_buffers;
    uint64_t lacking = plan_bytes(&least) - options.dram_budget_bytes,
             each = options.threads * engine_page_buffer_bytes(),
             fewer = (lacking + each - 1) / each;
    return fewer + FATHOM_PAGE_BUFFERS_MIN < options.page_buffers
               ? options.page_buffers - (unsigned)fewer
               : FATHOM_PAGE_BUFFERS_MIN;
}

/* The options with so many in flight. */
static struct fathom_open_options settled(const struct plan_input *input, unsigned inflight)
{
    struct fathom_open_options options = *input->options;
    struct plan_input trial = *input;
    trial.options = &options;
    options.inflight = inflight;
    options.page_buffers = page_buffers(&trial);
    return options;
}

static bool make(struct plan *plan, const struct plan_input *input,
                 const struct fathom_open_options *options)
{
    struct plan_input trial = *input;
    trial.options = options;
    return plan_make(plan, &trial, NULL) == 0;
}

/* As many of these as there is room for. */
static unsigned fewest(const struct plan_input *input, struct plan *plan)
{
    unsigned inflight = INFLIGHT_USUAL;
    while (inflight > 1) {
        const struct fathom_open_options options = settled(input, inflight);
        if (make(plan, input, &options))
            break;
        inflight /= 2;
    }
    return inflight;
}

/* Twice as many, again and again, as long as they take little of the budget and the plan is hardly
 * worse for it: it never reaches less, so that more memory does not (docs/adr/0041). */
static unsigned by_budget(const struct plan_input *input)
{
    struct plan plan, more;
    unsigned inflight = fewest(input, &plan);
    double most = SCRATCH_PART * (double)input->options->dram_budget_bytes;
    while (inflight >= INFLIGHT_USUAL && inflight < INFLIGHT_MOST) {
        const struct fathom_open_options options = settled(input, 2 * inflight);
        if (!make(&more, input, &options) || (double)more.scratch_bytes > most ||
            !plan_is_as_good(input, &more, &plan, PRICE_MOST))
            break;
        inflight *= 2;
        plan = more;
    }
    return inflight;
}

struct fathom_open_options plan_engines(const struct plan_input *input)
{
    const struct fathom_open_options *asked = input->options;
    unsigned inflight = asked->inflight;
    if (inflight == 0 && asked->engines_of)
        inflight = asked->engines_of->options.inflight;
    if (inflight == 0)
        inflight = asked->dram_budget_bytes ? by_budget(input) : INFLIGHT_MOST;
    return settled(input, inflight);
}

struct fathom_open_options plan_engines_least(const struct plan_input *input)
{
    struct fathom_open_options options = *input->options;
    if (options.engines_of)
        return plan_engines(input);
    if (options.inflight == 0)
        options.inflight = 1;
    if (options.page_buffers == 0)
        options.page_buffers = FATHOM_PAGE_BUFFERS_MIN;
    return options;
}
