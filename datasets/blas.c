/* The buffers of OpenBLAS, which are the process's and stay mapped: they are taken by asking it for
 * them, as its own threads would. */
#include "blas.h"

#include <cblas.h>
#include <errno.h>

#include "env.h"
#include "error.h"

#define BUFFER_BYTES ((uint64_t)129 << 20) /* with what else is mapped for a thread */
#define THREADS_MAX  256

/* Not in its header. What is freed stays mapped, for the next that asks. */
extern void *blas_memory_alloc(int kind) __attribute__((weak));
extern void blas_memory_free(void *buffer) __attribute__((weak));

/* The state of OpenBLAS is the process's, and so is what is known of it: buffers that it has. */
static unsigned buffers_taken;

static void take_buffers(unsigned threads)
{
    void *buffers[THREADS_MAX];
    if (!blas_memory_alloc || !blas_memory_free)
        return;
    for (unsigned i = 0; i < threads; i++)
        buffers[i] = blas_memory_alloc(0);
    for (unsigned i = 0; i < threads; i++)
        blas_memory_free(buffers[i]);
}

int blas_begin(unsigned threads, struct fathom_error *err)
{
    threads = threads < THREADS_MAX ? threads : THREADS_MAX;
    openblas_set_num_threads(1); /* the threads are our own */
    if (!env_address_space_is_limited() || threads <= buffers_taken)
        return 0;
    if (!env_address_space_has(BUFFER_BYTES, threads - buffers_taken))
        return error_set(err, -ENOMEM,
                         "OpenBLAS takes 128 MiB of address space for each of %u threads, and the "
                         "limit leaves less; raise it (ulimit -v) or lower --threads",
                         threads);
    take_buffers(threads);
    buffers_taken = threads;
    return 0;
}

void blas_start(char **argv)
{
    if (env_address_space_is_limited())
        env_restart_with("OPENBLAS_NUM_THREADS", "1", argv);
}
