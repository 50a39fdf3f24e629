/* The fault wrapper; see fault.h. Each operation is counted, looked up in the plan, and then passed
 * on, failed, shortened or delayed. Counting and acting are in op_enter and fault_ring_result; the
 * rest is the table. */
#include "fault.h"

#include "fault_plan.h"
#include "prng.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define POISON 0xa5 /* fills what a spoiled read must not have used */

static uint64_t count(atomic_uint_fast64_t *counter)
{
    return atomic_fetch_add_explicit(counter, 1, memory_order_relaxed) + 1;
}

static bool matches(const struct fault_rule *rule, uint64_t number)
{
    switch (rule->target) {
    case FAULT_RING_INIT:
        return true;
    case FAULT_READ_RANDOM: {
        struct prng prng;
        prng_init(&prng, number, rule->at);
        return prng_next(&prng) % rule->at == 0;
    }
    default:
        return number == rule->at || (rule->onward && number > rule->at);
    }
}

/* The rule that acts on the number-th of a target, or NULL. Kills at once when that is what it
 * says. */
static const struct fault_rule *find(struct fault_env *fault, enum fault_target target,
                                     uint64_t number)
{
    for (unsigned i = 0; i < fault->rule_count; i++) {
        const struct fault_rule *rule = &fault->rules[i];
        enum fault_target wanted = rule->target == FAULT_READ_RANDOM ? FAULT_READ : rule->target;
        if (wanted != target || !matches(rule, number))
            continue;
        count(&fault->fired);
        if (rule->action == FAULT_KILL)
            raise(SIGKILL);
        return rule;
    }
    return NULL;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_nsec = (long)(ns % 1000000000u)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}

/* Counts an operation. 0 or the -errno it fails with; *bytes (may be NULL) is cut down when it
 * shall be short. */
static int op_enter(struct fault_env *fault, size_t *bytes)
{
    const struct fault_rule *rule = find(fault, FAULT_OP, count(&fault->ops));
    if (!rule)
        return 0;
    switch (rule->action) {
    case FAULT_ERRNO:
        return -(int)rule->value;
    case FAULT_SHORT:
        if (bytes && *bytes > rule->value)
            *bytes = rule->value;
        return 0;
    case FAULT_STALL:
        sleep_ns(rule->value);
        return 0;
    default:
        return 0;
    }
}

/* ---- results of reads ---- */

static struct fault_stall *stall_find(struct fault_env *fault, void *buf)
{
    for (unsigned i = 0; i < FAULT_STALLS_MAX; i++)
        if (atomic_load_explicit(&fault->stalls[i].buf, memory_order_relaxed) == buf)
            return &fault->stalls[i];
    return NULL;
}

/* Holds the read in buf back; false when too many are. An entry is claimed by the exchange, and
 * only the claimer looks at its time, so that no order between threads is needed. */
static bool stall_begin(struct fault_env *fault, void *buf, uint64_t ns)
{
    for (unsigned i = 0; i < FAULT_STALLS_MAX; i++) {
        struct fault_stall *stall = &fault->stalls[i];
        void *nobody = NULL;
        if (!atomic_compare_exchange_strong(&stall->buf, &nobody, buf))
            continue;
        stall->due_ns = env_clock_ns(fault->inner) + ns;
        return true;
    }
    return false;
}

static bool can_stall(const struct fault_env *fault)
{
    for (unsigned i = 0; i < fault->rule_count; i++)
        if (fault->rules[i].action == FAULT_STALL)
            return true;
    return false;
}

static void flip_bit(uint8_t *bytes, int length, uint64_t bit)
{
    bit %= (uint64_t)length * 8;
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* What the plan makes of the next read, whose raw result is in hand. */
static int read_outcome(struct fault_env *fault, int result, void *buf)
{
    const struct fault_rule *rule = find(fault, FAULT_READ, count(&fault->reads));
    if (!rule)
        return result;
    switch (rule->action) {
    case FAULT_ERRNO:
        if (result > 0)
            memset(buf, POISON, (size_t)result);
        return -(int)rule->value;
    case FAULT_SHORT:
        if (result < 0 || (uint64_t)result <= rule->value)
            return result;
        memset((uint8_t *)buf + rule->value, POISON, (size_t)result - rule->value);
        return (int)rule->value;
    case FAULT_FLIP:
        if (result > 0)
            flip_bit(buf, result, rule->value);
        return result;
    case FAULT_STALL:
        if (stall_begin(fault, buf, rule->value))
            return -EINPROGRESS;
        sleep_ns(rule->value);
        return result;
    default:
        return result;
    }
}

/* A read that is being held back is asked about again and again, and counted only once. */
static int fault_ring_result(void *context, int result, void *buf)
{
    struct fault_env *fault = context;
    struct fault_stall *stall = can_stall(fault) ? stall_find(fault, buf) : NULL;
    if (stall) {
        if (env_clock_ns(fault->inner) < stall->due_ns &&
            !atomic_load_explicit(&fault->released, memory_order_relaxed))
            return -EINPROGRESS;
        atomic_store(&stall->buf, NULL);
        return result;
    }
    int settled = fault->inner->ring_result(fault->inner->context, result, buf);
    return settled == -EINPROGRESS ? settled : read_outcome(fault, settled, buf);
}

static int fault_ring_init(void *context)
{
    struct fault_env *fault = context;
    const struct fault_rule *rule = find(fault, FAULT_RING_INIT, 1);
    return rule ? -(int)rule->value : fault->inner->ring_init(fault->inner->context);
}

/* ---- the table ---- */

static int fault_open(void *context, const char *path, int flags, unsigned mode)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->open(fault->inner->context, path, flags, mode);
}

/* Linux lets go of the descriptor whatever close returns, and so do we. */
static int fault_close(void *context, int fd)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    int closed = fault->inner->close(fault->inner->context, fd);
    return rc ? rc : closed;
}

static ssize_t fault_pread(void *context, int fd, void *out, size_t bytes, uint64_t offset)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, &bytes);
    return rc ? rc : fault->inner->pread(fault->inner->context, fd, out, bytes, offset);
}

static ssize_t fault_pwrite(void *context, int fd, const void *data, size_t bytes, uint64_t offset)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, &bytes);
    return rc ? rc : fault->inner->pwrite(fault->inner->context, fd, data, bytes, offset);
}

static ssize_t fault_read(void *context, int fd, void *out, size_t bytes)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, &bytes);
    ssize_t got = rc ? rc : fault->inner->read(fault->inner->context, fd, out, bytes);
    int settled;
    while ((settled = fault_ring_result(fault, (int)got, out)) == -EINPROGRESS)
        sleep_ns(1000000);
    return settled;
}

static int fault_fdatasync(void *context, int fd)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->fdatasync(fault->inner->context, fd);
}

static int fault_fsync(void *context, int fd)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->fsync(fault->inner->context, fd);
}

static int fault_ftruncate(void *context, int fd, uint64_t bytes)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->ftruncate(fault->inner->context, fd, bytes);
}

static int fault_fstat(void *context, int fd, struct env_stat *out)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->fstat(fault->inner->context, fd, out);
}

static int fault_rename(void *context, const char *from, const char *to)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->rename(fault->inner->context, from, to);
}

static int fault_unlink(void *context, const char *path)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->unlink(fault->inner->context, path);
}

static int fault_rmdir(void *context, const char *path)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->rmdir(fault->inner->context, path);
}

static int fault_mkdir(void *context, const char *path, unsigned mode)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->mkdir(fault->inner->context, path, mode);
}

static int fault_flock(void *context, int fd, int operation)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->flock(fault->inner->context, fd, operation);
}

static int fault_list(void *context, const char *path, int (*visit)(void *arg, const char *name),
                      void *arg)
{
    struct fault_env *fault = context;
    int rc = op_enter(fault, NULL);
    return rc ? rc : fault->inner->list(fault->inner->context, path, visit, arg);
}

/* Whatever it fails with, there are no large pages. */
static void *fault_map_large(void *context, size_t bytes)
{
    struct fault_env *fault = context;
    return op_enter(fault, NULL) ? NULL : fault->inner->map_large(fault->inner->context, bytes);
}

static void fault_unmap_large(void *context, void *memory, size_t bytes)
{
    struct fault_env *fault = context;
    fault->inner->unmap_large(fault->inner->context, memory, bytes);
}

static uint64_t fault_clock_ns(void *context)
{
    struct fault_env *fault = context;
    return env_clock_ns(fault->inner);
}

int fault_init(struct fault_env *fault, const struct env *inner, const char *plan,
               struct fathom_error *err)
{
    *fault = (struct fault_env){.inner = inner};
    fault->env = (struct env){
        .context = fault,
        .open = fault_open,
        .close = fault_close,
        .pread = fault_pread,
        .pwrite = fault_pwrite,
        .read = fault_read,
        .fdatasync = fault_fdatasync,
        .fsync = fault_fsync,
        .ftruncate = fault_ftruncate,
        .fstat = fault_fstat,
        .rename = fault_rename,
        .unlink = fault_unlink,
        .rmdir = fault_rmdir,
        .mkdir = fault_mkdir,
        .flock = fault_flock,
        .list = fault_list,
        .clock_ns = fault_clock_ns,
        .ring_init = fault_ring_init,
        .ring_result = fault_ring_result,
        .map_large = fault_map_large,
        .unmap_large = fault_unmap_large,
    };
    return fault_plan_parse(plan ? plan : "", fault->rules, &fault->rule_count, err);
}

/* ---- what happened ---- */

static uint64_t counted(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

uint64_t fault_ops(const struct fault_env *fault)
{
    return counted(&fault->ops);
}

uint64_t fault_reads(const struct fault_env *fault)
{
    return counted(&fault->reads);
}

uint64_t fault_allocs(const struct fault_env *fault)
{
    return counted(&fault->allocs);
}

uint64_t fault_fired(const struct fault_env *fault)
{
    return counted(&fault->fired);
}

void fault_release(struct fault_env *fault)
{
    atomic_store_explicit(&fault->released, true, memory_order_relaxed);
}

bool fault_alloc(void *context)
{
    struct fault_env *fault = context;
    return find(fault, FAULT_ALLOC, count(&fault->allocs)) != NULL;
}
