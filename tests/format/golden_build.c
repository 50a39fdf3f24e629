/* A build as fathom-build makes it, but of so small an input in parts, or with so few rows in
 * memory at a time, as no memory budget would ask for: for golden indexes of such builds.
 *
 *     golden_build INPUT OUT METRIC PARTS HELD [IDS]     PARTS, HELD 0: as for any other build */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builder.h"

static enum fathom_metric metric_of(const char *name)
{
    return !strcmp(name, "l2")   ? FATHOM_METRIC_L2
           : !strcmp(name, "ip") ? FATHOM_METRIC_IP
                                 : FATHOM_METRIC_COS;
}

int main(int argc, char **argv)
{
    struct build_options options = build_options_default();
    struct build_report report;
    struct fathom_error err;
    if (argc < 6 || argc > 7) {
        fprintf(stderr, "golden_build INPUT OUT METRIC PARTS HELD [IDS]\n");
        return 2;
    }
    options.input = argv[1];
    options.out = argv[2];
    options.metric = metric_of(argv[3]);
    options.parts = (uint32_t)strtoul(argv[4], NULL, 10);
    options.held_rows = (uint32_t)strtoul(argv[5], NULL, 10);
    options.ids = argc == 7 ? argv[6] : NULL;
    options.seed = 1;
    options.degree = 8;
    options.build_list = 16;
    if (build_run(&options, &report, &err) != 0) {
        fprintf(stderr, "golden_build: %s\n", err.msg);
        return 1;
    }
    build_report_fini(&report);
    return 0;
}
