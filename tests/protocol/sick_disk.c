/* The door to the OS of a server whose disk is sick, or whose memory is short: everything is real
 * but what reads of an index and allocations come to, which goes by a fault plan (fault.h) while a
 * file is there. Linked in the place of env_os (--wrap), so that library and server are those of
 * fathom-server, unchanged.
 *
 *     FATHOM_SICK_PLAN    of read#N, read~N and alloc#N; they are counted while the file is there
 *     FATHOM_SICK_WHILE   the file */
#include "fault.h"
#include "mem.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const struct env *__real_env_os(void);
const struct env *__wrap_env_os(void);

static struct {
    pthread_once_t once;
    struct env env;
    struct fault_env fault;
    const char *while_there;
} sick = {.once = PTHREAD_ONCE_INIT};

static bool is_sick(void)
{
    return access(sick.while_there, F_OK) == 0;
}

static int sick_ring_result(void *context, int result, void *buf)
{
    const struct env *env = is_sick() ? &sick.fault.env : sick.fault.inner;
    (void)context;
    return env->ring_result(env->context, result, buf);
}

static bool sick_alloc(void *context)
{
    (void)context;
    return is_sick() && fault_alloc(&sick.fault);
}

static void fall_sick(void)
{
    struct fathom_error err;
    sick.while_there = getenv("FATHOM_SICK_WHILE");
    if (!sick.while_there ||
        fault_init(&sick.fault, __real_env_os(), getenv("FATHOM_SICK_PLAN"), &err) != 0) {
        fprintf(stderr, "FATHOM_SICK_PLAN and FATHOM_SICK_WHILE must be a plan and a file\n");
        exit(2);
    }
    sick.env = *__real_env_os();
    sick.env.ring_result = sick_ring_result;
    mem_set_fault(sick_alloc, NULL);
}

const struct env *__wrap_env_os(void)
{
    pthread_once(&sick.once, fall_sick);
    return &sick.env;
}
