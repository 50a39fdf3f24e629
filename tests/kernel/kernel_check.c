/* Compares every level of every kernel with its definition in kernel.h, over odd sizes and offsets,
 * extreme contents and walled memory (guard.h); says how many cases passed per kernel and level,
 * and fails when one did not.
 *
 *   kernel_check                   the checks
 *   kernel_check --bench [NAME]    nanoseconds per row (or call) of each kernel whose name holds
 * NAME
 *
 * The scalar level is checked like the others: the definitions are written down here once more,
 * slowly. */
#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guard.h"
#include "mem.h"
#include "prng_unit.h"

static const struct kernel_entry *const groups[] = {row_entries, code_entries, sliced_entries,
                                                    encode_entries, float_entries};
enum { GROUPS = sizeof groups / sizeof groups[0], COMPLAINTS_MAX = 5 };

uint32_t check_dim(unsigned i)
{
    static const uint32_t more[] = {255, 256, 257, 384,  511,  512,  520,
                                    768, 784, 960, 1024, 1536, 4096, 4097};
    if (i < 130)
        return i + 1;
    return i - 130 < sizeof more / sizeof more[0] ? more[i - 130] : 0;
}

size_t check_count(unsigned i)
{
    return i % 11 == 10 ? 33 : i % 11;
}

void tally_case(struct tally *tally, bool ok, const char *format, ...)
{
    if (ok) {
        tally->passed++;
        return;
    }
    if (tally->failed++ >= COMPLAINTS_MAX)
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s %s: ", tally->kernel, tally->level);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

void fill_i8(struct prng *prng, int8_t *out, size_t count, int low, int high, enum content content)
{
    for (size_t i = 0; i < count; i++) {
        int value = low + (int)prng_below(prng, (uint32_t)(high - low + 1));
        if (content == CONTENT_MAX)
            value = high;
        else if (content == CONTENT_MIN)
            value = low;
        else if (content == CONTENT_EXTREMES)
            value = prng_below(prng, 2) ? high : low;
        else if (content == CONTENT_ZERO)
            value = 0;
        out[i] = (int8_t)value;
    }
}

/* Large values under CONTENT_MIN too: the smallest sums are of large values and negative weights.
 */
void fill_u8(struct prng *prng, uint8_t *out, size_t count, enum content content)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = (uint8_t)prng_next(prng);
        if (content == CONTENT_MAX || content == CONTENT_MIN)
            out[i] = 255;
        else if (content == CONTENT_EXTREMES)
            out[i] = out[i] & 1 ? 255 : 0;
        else if (content == CONTENT_ZERO)
            out[i] = 0;
    }
}

/* Noise from a smooth range, as embeddings have it. */
void fill_f32(struct prng *prng, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)((prng_unit(prng) - 0.5) * 200);
}

void fill_ids(struct prng *prng, uint32_t *ids, size_t count, uint32_t rows)
{
    for (size_t i = 0; i < count; i++)
        ids[i] = prng_below(prng, rows);
    if (count)
        ids[prng_below(prng, (uint32_t)count)] = rows - 1; /* the one at the wall */
}

void fill_query(struct prng *prng, int8_t *hi, int8_t *lo, uint32_t dim, enum content content)
{
    size_t padded = size_round_up(dim, 64);
    memset(hi, 0, padded);
    memset(lo, 0, padded);
    fill_i8(prng, hi, dim, -127, 127, content);
    fill_i8(prng, lo, dim, -64, 63, content);
}

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

double bench_best(void (*run)(void *context, size_t call), void *context, size_t calls,
                  size_t units_per_call, bool far)
{
    double best = INFINITY;
    /* A machine has other things to do: the best of many short rounds is the kernel's own time. A
     * far round is long enough. */
    for (int round = 0; round < (far ? 5 : 60); round++) {
        double start = now_ns();
        size_t done = 0;
        for (int again = 0; again < (far ? 1 : 8); again++) {
            for (size_t call = 0; call < calls; call++, done++)
                run(context, call);
        }
        double each = (now_ns() - start) / (double)(done * units_per_call);
        if (each < best)
            best = each;
    }
    return best;
}

size_t bench_rows(size_t row_bytes, bool far)
{
    return far ? BENCH_FAR_BYTES / row_bytes : BENCH_NEAR_ROWS;
}

void *bench_array(size_t bytes)
{
    struct prng prng;
    prng_init(&prng, 1, 0);
    uint8_t *array = mem_alloc(bytes + KERNEL_CODE_SLACK);
    if (!array) {
        fprintf(stderr, "kernel_check: no memory for a bench\n");
        exit(2);
    }
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t noise = prng_next(&prng);
        memcpy(array + i, &noise, sizeof noise);
    }
    return array;
}

/* A level is chosen once in a process, so each setting of the variable is tried in a child. Returns
 * the level there. */
static int level_under(const char *cap)
{
    pid_t child = fork();
    if (child == 0) {
        if (cap)
            setenv("FATHOM_CPU_MAX", cap, 1);
        else
            unsetenv("FATHOM_CPU_MAX");
        _exit(kernels_get()->level);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static unsigned check_choice(void)
{
    struct tally tally = {.kernel = "kernels_get", .level = "any"};
    int best = level_under(NULL);
    const struct {
        const char *cap;
        int most;
    } caps[] = {{"scalar", KERNEL_SCALAR}, {"avx2", KERNEL_AVX2},   {"avx512", KERNEL_AVX512},
                {"", KERNEL_LEVELS},       {"AVX2", KERNEL_LEVELS}, {"pentium", KERNEL_LEVELS}};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        int level = level_under(caps[i].cap), want = best < caps[i].most ? best : caps[i].most;
        tally_case(&tally, level == want && level >= 0, "FATHOM_CPU_MAX=%s gives level %d, not %d",
                   caps[i].cap, level, want);
    }
    for (int level = 0; level < KERNEL_LEVELS; level++) {
        const struct kernels *kernels = kernels_at(level);
        tally_case(&tally, (kernels != NULL) == (level <= best), "level %d is missing", level);
        tally_case(&tally, !kernels || (int)kernels->level == level, "level %d is another", level);
    }
    printf("%-16s %-7s %6u passed, %u failed  the best level of this CPU under FATHOM_CPU_MAX\n",
           "kernels_get", "", tally.passed, tally.failed);
    return tally.failed;
}

static int run_checks(void)
{
    unsigned failed = check_choice();
    if (!guard_init()) {
        fprintf(stderr, "kernel_check: no memory with guard pages\n");
        return 2;
    }
    for (int group = 0; group < GROUPS; group++) {
        for (const struct kernel_entry *entry = groups[group]; entry->name; entry++) {
            for (int level = 0; level < KERNEL_LEVELS; level++) {
                const struct kernels *kernels = kernels_at(level);
                if (!kernels)
                    continue;
                struct tally tally = {.kernel = entry->name, .level = kernels->name};
                entry->check(&tally, kernels);
                printf("%-16s %-7s %6u passed, %u failed  %s\n", entry->name, kernels->name,
                       tally.passed, tally.failed, entry->promise);
                failed += tally.failed + (tally.passed == 0);
            }
        }
    }
    return failed != 0;
}

static void bench_entry(const struct kernel_entry *entry)
{
    for (int s = 0; s < SHAPES_MAX && entry->shapes[s].dim; s++) {
        struct shape shape = entry->shapes[s];
        for (int far = 0; far <= entry->gathers; far++) {
            printf("%-16s %5u dims", entry->name, shape.dim);
            if (shape.bytes)
                printf(" %5u bytes", shape.bytes);
            else
                printf("            ");
            printf(" %-5s", far ? "far" : "near");
            for (int level = 0; level < KERNEL_LEVELS; level++) {
                if (kernels_at(level))
                    printf("  %s %8.2f ns", kernels_at(level)->name,
                           entry->bench(kernels_at(level), shape, far));
            }
            printf("\n");
            fflush(stdout);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 1)
        return run_checks();
    if (argc > 3 || strcmp(argv[1], "--bench") != 0) {
        fprintf(stderr, "usage: kernel_check [--bench [NAME]]\n");
        return 2;
    }
    for (int group = 0; group < GROUPS; group++) {
        for (const struct kernel_entry *entry = groups[group]; entry->name; entry++) {
            if (argc < 3 || strstr(entry->name, argv[2]))
                bench_entry(entry);
        }
    }
    return 0;
}
