/* Answers of an engine; see answers.h. */
#include "answers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fathom_test.h"
#include "index.h"

#define RESULTS  16
#define IDLE_MAX 1000 /* polls in a row that give nothing: more is a hang */

static void make(struct answers *out, uint32_t count, uint32_t k)
{
    size_t ids = (size_t)count * k * sizeof(uint64_t),
           distances = (size_t)count * k * sizeof(float);
    uint8_t *memory = malloc(ids + distances + 1);
    *out = (struct answers){
        .count = count, .k = k, .all = calloc(count, sizeof *out->all), .memory = memory};
    assert_true(memory && out->all);
    for (uint32_t q = 0; q < count; q++) {
        out->all[q].ids = (uint64_t *)memory + (size_t)q * k;
        out->all[q].distances = (float *)(memory + ids) + (size_t)q * k;
        out->all[q].status = INT32_MAX; /* not answered yet */
    }
}

void answers_free(struct answers *answers)
{
    free(answers->memory);
    free(answers->all);
    *answers = (struct answers){0};
}

static void keep(struct answers *out, const struct fathom_result *result)
{
    struct answer *answer = &out->all[(uintptr_t)result->user];
    if (answer->status != INT32_MAX)
        fail_msg("query %zu is answered twice", (size_t)(uintptr_t)result->user);
    answer->status = result->status;
    answer->stats = result->stats;
    answer->count = result->count;
    snprintf(answer->detail, sizeof answer->detail, "%s", result->detail ? result->detail : "");
    if (result->status)
        return;
    memcpy(answer->ids, result->ids, out->k * sizeof *answer->ids);
    memcpy(answer->distances, result->distances, out->k * sizeof *answer->distances);
}

/* A slot whose query has failed is taken until its other reads are back; then nothing may be
 * running, and polling may give nothing. */
static bool submit(struct fathom_engine *engine, const struct fathom_index *index,
                   const struct fathom_query *query)
{
    struct fathom_error err = {0};
    int status = fathom_engine_submit(engine, index, query, &err);
    if (status != 0 && status != FATHOM_EBUSY)
        fail_msg("query %zu is refused: %s", (size_t)(uintptr_t)query->user, err.msg);
    return status == 0;
}

void answers_get(struct answers *out, struct fathom_engine *engine,
                 const struct fathom_index *index, const struct fathom_query *request,
                 const void *vectors, uint32_t dim, uint32_t count, unsigned inflight)
{
    size_t bytes = dim * fathom_dtype_bytes(request->dtype);
    uint32_t asked = 0, answered = 0, idle = 0;
    make(out, count, request->k);
    while (answered < count) {
        struct fathom_result results[RESULTS];
        bool room = true;
        while (room && asked < count && asked - answered < inflight) {
            struct fathom_query query = *request;
            query.vector = (const uint8_t *)vectors + asked * bytes;
            query.user = (void *)(uintptr_t)asked;
            room = submit(engine, index, &query);
            asked += room;
        }
        int got = fathom_engine_poll(engine, results, RESULTS, true);
        idle = got == 0 ? idle + 1 : 0;
        if (got < 0 || idle > IDLE_MAX)
            fail_msg("polling with %u queries running: %d", asked - answered, got);
        for (int i = 0; i < got; i++)
            keep(out, &results[i]);
        answered += (uint32_t)got;
    }
    assert_int_equal(fathom_engine_running(engine), 0);
}

bool answer_same(const struct answers *a, const struct answers *b, uint32_t query)
{
    const struct answer *x = &a->all[query], *y = &b->all[query];
    if (x->status != y->status || x->count != y->count)
        return false;
    return x->status != 0 || (memcmp(x->ids, y->ids, a->k * sizeof *x->ids) == 0 &&
                              memcmp(x->distances, y->distances, a->k * sizeof *x->distances) == 0);
}

void answers_assert_same(const struct answers *a, const struct answers *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->k, b->k);
    for (uint32_t q = 0; q < a->count; q++)
        if (!answer_same(a, b, q))
            fail_msg("query %u is answered otherwise: %d %u results (%s), %d %u results (%s)", q,
                     a->all[q].status, a->all[q].count, a->all[q].detail, b->all[q].status,
                     b->all[q].count, b->all[q].detail);
}

void answer_assert_formed(const struct answers *answers, uint32_t query)
{
    const struct answer *answer = &answers->all[query];
    if (answer->status)
        fail_msg("query %u: %d (%s)", query, answer->status, answer->detail);
    assert_in_range(answer->count, 0, answers->k);
    for (uint32_t i = 0; i < answers->k; i++) {
        if (i >= answer->count) {
            assert_true(answer->ids[i] == FATHOM_ID_NONE);
            assert_true(isinf(answer->distances[i]) && answer->distances[i] > 0);
            continue;
        }
        assert_true(isfinite(answer->distances[i]));
        if (i > 0 && answer->distances[i] < answer->distances[i - 1])
            fail_msg("query %u: distance %u falls", query, i);
        for (uint32_t j = 0; j < i; j++)
            if (answer->ids[i] == answer->ids[j])
                fail_msg("query %u: id %llu twice", query, (unsigned long long)answer->ids[i]);
    }
}

int partly_open(struct fathom_index **out, const struct env *env, const char *dir, float share,
                unsigned inflight, struct fathom_error *err)
{
    struct fathom_open_options options = {.threads = 1, .inflight = inflight, .list_share = share};
    int status = index_open_with(out, env, dir, &options, err);
    if (status != 0)
        return status;
    options.code_bytes = (*out)->level_bytes[(*out)->level_count / 2];
    fathom_index_close(*out);
    return index_open_with(out, env, dir, &options, err);
}

int scan_open(struct fathom_index **out, const struct env *env, const char *dir, float share,
              unsigned inflight, struct fathom_error *err)
{
    struct fathom_open_options options = {.threads = 1, .inflight = inflight, .code_share = share};
    return index_open_with(out, env, dir, &options, err);
}

int least_open(struct fathom_index **out, const struct env *env, const char *dir, unsigned inflight,
               const struct fathom_index *engines_of, struct fathom_error *err)
{
    struct fathom_open_options options = {.threads = 1,
                                          .inflight = inflight,
                                          .code_share = 1e-6f,
                                          .dram_budget_bytes = 1,
                                          .engines_of = engines_of};
    struct fathom_outlook outlook;
    int status = fathom_index_outlook(dir, &options, &outlook, err);
    if (status != FATHOM_EBUDGET)
        return status;
    options.dram_budget_bytes = outlook.least_bytes;
    return index_open_with(out, env, dir, &options, err);
}

bool io_works(enum fathom_io io)
{
    struct fathom_engine_options options = {.io = io, .inflight = 1};
    struct fathom_engine *engine;
    if (fathom_engine_create(&engine, &options, NULL) != 0)
        return false;
    fathom_engine_destroy(engine);
    return true;
}

struct fathom_index *index_of_codes(const char *dir, uint32_t code_bytes,
                                    enum fathom_navigator navigator)
{
    struct fathom_open_options options = {
        .threads = 1, .inflight = 1, .navigator = navigator, .code_bytes = code_bytes};
    struct fathom_index *index;
    struct fathom_error err = {0};
    if (fathom_index_open(&index, dir, &options, &err) != 0)
        fail_msg("%u bytes: %s", code_bytes, err.msg);
    return index;
}

struct fathom_engine *engine_make(enum fathom_io io, unsigned inflight)
{
    return engine_make_for(NULL, io, inflight);
}

struct fathom_engine *engine_make_for(const struct fathom_index *index, enum fathom_io io,
                                      unsigned inflight)
{
    struct fathom_engine_options options = {.io = io, .inflight = inflight, .index = index};
    struct fathom_engine *engine;
    struct fathom_error err = {0};
    if (fathom_engine_create(&engine, &options, &err) != 0)
        fail_msg("an engine: %s", err.msg);
    return engine;
}
