/* Which kernels this process uses: asks the CPU once, caps the answer by FATHOM_CPU_MAX, and never
 * changes its mind, so that a query is scored by one level from start to end. Holds no kernel
 * itself. NEON has no level yet: other processors are served by the scalar one. */
#include "kernel.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernel_levels.h"

static struct {
    struct kernels tables[KERNEL_LEVELS];
    bool present[KERNEL_LEVELS];
    const struct kernels *chosen;
} choice;
static pthread_once_t choice_once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
/* clang 14 does not know f16c by name. */
static bool cpu_has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

/* Every feature that a level's file is compiled with must be present, or the compiler could use it
 * behind our back. */
static bool cpu_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && cpu_has_f16c();
}

static bool cpu_has_avx512(void)
{
    return cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("gfni");
}
#endif

/* An unknown value is ignored: a typing error must not make a server ten times slower. */
static enum kernel_level level_cap(void)
{
    static const char *const names[KERNEL_LEVELS] = {"scalar", "avx2", "avx512"};
    const char *value = getenv("FATHOM_CPU_MAX");
    for (int level = 0; value && level < KERNEL_LEVELS; level++) {
        if (strcmp(value, names[level]) == 0)
            return level;
    }
    return KERNEL_LEVELS - 1;
}

static void choose(void)
{
    kernels_fill_scalar(&choice.tables[KERNEL_SCALAR]);
    choice.present[KERNEL_SCALAR] = true;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (cpu_has_avx2()) {
        choice.tables[KERNEL_AVX2] = choice.tables[KERNEL_SCALAR];
        kernels_fill_avx2(&choice.tables[KERNEL_AVX2]);
        choice.present[KERNEL_AVX2] = true;
    }
    if (cpu_has_avx512()) {
        choice.tables[KERNEL_AVX512] = choice.tables[KERNEL_AVX2];
        kernels_fill_avx512(&choice.tables[KERNEL_AVX512]);
        choice.present[KERNEL_AVX512] = true;
    }
#endif
    int level = level_cap();
    while (!choice.present[level])
        level--;
    choice.chosen = &choice.tables[level];
}

const struct kernels *kernels_get(void)
{
    pthread_once(&choice_once, choose);
    return choice.chosen;
}

const struct kernels *kernels_at(enum kernel_level level)
{
    pthread_once(&choice_once, choose);
    return (unsigned)level < KERNEL_LEVELS && choice.present[level] ? &choice.tables[level] : NULL;
}
