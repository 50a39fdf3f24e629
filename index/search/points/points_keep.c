/* What measuring operating points keeps of itself on its way (points.h): which rows are picked as
 * far as the file was looked through, the nearest of those that were picked as far as it was, and
 * the points of each residency that is done. Whoever keeps it sees names and bytes. */
#include <errno.h>
#include <string.h>

#include "points_sample.h"

static void with_header(struct points_part out[POINTS_KEPT_MOST], struct points_kept *kept,
                        const struct points_part *parts, unsigned count)
{
    out[0] = (struct points_part){kept, sizeof *kept};
    memcpy(out + 1, parts, count * sizeof *parts);
}

int points_keep(const struct points_keeper *keeper, const char *name, struct points_kept *kept,
                const struct points_part *parts, unsigned count, struct fathom_error *err)
{
    struct points_part all[POINTS_KEPT_MOST];
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += parts[i].bytes;
    if (!keeper || !keeper->due(keeper->context, bytes))
        return 0;
    with_header(all, kept, parts, count);
    return keeper->save(keeper->context, name, all, count + 1, err);
}

int points_load_kept(const struct points_keeper *keeper, const char *name, uint64_t generation,
                     struct points_kept *kept, const struct points_part *parts, unsigned count,
                     struct fathom_error *err)
{
    struct points_part all[POINTS_KEPT_MOST];
    *kept = (struct points_kept){.generation = generation};
    if (!keeper)
        return 0;
    with_header(all, kept, parts, count);
    int status = keeper->load(keeper->context, name, all, count + 1, err);
    if (status > 0 && kept->generation == generation)
        return 1;
    *kept = (struct points_kept){.generation = generation};
    return status < 0 ? status : 0;
}
