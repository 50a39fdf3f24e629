/* OpenBLAS under a limit of address space (ulimit -v): it maps 128 MiB for each thread that calls
 * it, when the thread first does, and where it gets none it asks again for ever. */
#ifndef DATASETS_BLAS_H
#define DATASETS_BLAS_H

#include "fathom/error.h"

/* Before so many threads call it, each for itself; not by two threads at once. Where address space
 * is limited their buffers are taken here, or -ENOMEM with what to do. Asked again, it takes only
 * what is missing. */
int blas_begin(unsigned threads, struct fathom_error *err) FATHOM_MUST_USE;
/* First thing in a program that is linked with it. Threads of its own that it starts when it is
 * loaded take buffers too, and no program ends while they wait: under a limit the program is begun
 * again without them. */
void blas_start(char **argv);

#endif
