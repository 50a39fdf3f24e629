/* What the watch of a build is told that its phases take. By the shape of the input at first: hard
 * data takes twice as long as easy data in the graph, so what lies between is wrong by least. Then,
 * since a tenth of a short build is over before R has been probed, by a glance at a few rows. In
 * the end by the probe, and by how fast the machine has been until then. Reading is expected to
 * take nothing once it is over: it waited for a file, and says nothing about the pace of what
 * follows. */
#include "expect.h"

#include <math.h>

#include "degree.h"
#include "pace.h"
#include "predict.h"

/* probe_seconds: of the probe for R; the estimate has it in the graph, whether or not there is one.
 */
static void tell(const struct build *build, const double stage_seconds[BUILD_STAGES],
                 double probe_seconds)
{
    struct build_phase phases[BUILD_PHASES_MAX];
    unsigned count = 0;
    for (int stage = 0; stage < BUILD_STAGES; stage++) {
        double seconds = build_is_done(build, stage) ? 0 : stage_seconds[stage];
        if (stage == BUILD_GRAPH)
            phases[count++] =
                (struct build_phase){BUILD_PHASE_PROBE, seconds > 0 ? probe_seconds : 0, false};
        phases[count++] =
            (struct build_phase){build_stage_name(stage), seconds, .waits = stage == BUILD_READ};
    }
    crew_expect(&build->crew, phases, count);
}

/* Of a build of this shape whose data wants so large an R, if none was given. glance: 0 where
 * nothing is known. */
static struct build_estimate assume_degree(const struct build *build, uint32_t degree,
                                           struct degree_probe glance)
{
    const struct vector_info *info = &build->input.info;
    struct build_options assumed = build->options;
    struct build_estimate estimate = {.rows = info->rows, .dim = info->dim, .dtype = info->dtype};
    const struct predict_known known = {.probe = glance,
                                        .slowness = build->pace > 0 ? build->pace : 1,
                                        .queries = build->known.queries};
    assumed.degree = assumed.degree ? assumed.degree : degree;
    assumed.build_list = assumed.build_list ? assumed.build_list : degree_list(assumed.degree);
    predict_shape(&assumed, &known, NULL, &estimate);
    estimate.stage_seconds[BUILD_GRAPH] -= estimate.probe_seconds;
    return estimate;
}

/* hardness: 0 of easy data, 1 of hard data. */
static void tell_between(const struct build *build, struct degree_probe glance, double hardness,
                         bool read)
{
    struct build_estimate easy = assume_degree(build, DEGREE_USUAL, glance),
                          hard = assume_degree(build, DEGREE_HARD, glance);
    double seconds[BUILD_STAGES];
    for (int stage = 0; stage < BUILD_STAGES; stage++)
        seconds[stage] =
            pow(easy.stage_seconds[stage], 1 - hardness) * pow(hard.stage_seconds[stage], hardness);
    seconds[BUILD_READ] = read ? 0 : seconds[BUILD_READ];
    tell(build, seconds, build->options.degree ? 0 : sqrt(easy.probe_seconds * hard.probe_seconds));
}

int expect_by_shape(struct build *build, struct fathom_error *err)
{
    const struct degree_probe unknown = {0};
    double seconds = assume_degree(build, DEGREE_USUAL, unknown).seconds;
    int status = pace_of(&build->crew, build->options.env, seconds, &build->pace, err);
    if (status == 0)
        tell_between(build, unknown, 0.5, false);
    return status;
}

static bool may_glance(const struct build *build)
{
    return build->options.degree == 0 && !build->taken_over && build->input.rows.count > 0;
}

/* At rows in the order of the input. */
static int take_glance(const struct build *build, struct degree_probe *glance,
                       struct fathom_error *err)
{
    struct rows8 sample = {0};
    int status = build_sample(build, &build->raw, INPUT_RAW, &sample, err);
    if (status == 0)
        status = degree_glance(&build->options, &build->crew, &sample, glance, err);
    rows8_fini(&sample);
    return status;
}

int expect_by_glance(const struct build *build, struct fathom_error *err)
{
    struct degree_probe glance = {0};
    int status = 0;
    if (!build->crew.watch.expect)
        return 0;
    if (may_glance(build))
        status = take_glance(build, &glance, err);
    if (status == 0)
        tell_between(build, glance, glance.mean > 0 ? degree_hardness(glance.mean) : 0.5, true);
    return status;
}

/* What this build has been through has taken what it took: so the pace of what follows is measured
 * by what is expected now. */
void expect_by_probe(const struct build *build, const struct build_estimate *predicted)
{
    double seconds[BUILD_STAGES];
    for (int stage = 0; stage < BUILD_STAGES; stage++)
        seconds[stage] = build->report->stage_ns[stage]
                             ? 1e-9 * (double)build->report->stage_ns[stage]
                             : predicted->stage_seconds[stage];
    seconds[BUILD_GRAPH] -= predicted->probe_seconds;
    tell(build, seconds, 1e-9 * (double)build->probe_ns);
}
