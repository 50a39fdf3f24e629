/* Error codes of libfathom. Calls return 0, or a negative code: -errno for what the OS refused, one
 * of the values below for our own causes. The values are pinned for ever; new ones are added at the
 * end. */
#ifndef FATHOM_ERROR_H
#define FATHOM_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FATHOM_API      __attribute__((visibility("default")))
#define FATHOM_MUST_USE __attribute__((warn_unused_result))
#else
#define FATHOM_API
#define FATHOM_MUST_USE
#endif

enum fathom_error_code {
    FATHOM_ECORRUPT =
        -10001, /* bytes that cannot be right: bad structure, out-of-range reference */
    FATHOM_EVERSION = -10002,  /* a format version or feature that this library does not know */
    FATHOM_ECHECKSUM = -10003, /* a page whose checksum does not match its bytes and its place */
    FATHOM_EDIM = -10004,      /* vector dimension or element type differs from the index */
    FATHOM_ELIMIT = -10005,    /* a documented limit was exceeded (k, search list, dimension...) */
    FATHOM_EARGUMENT =
        -10006, /* a value that makes no sense (NaN, k of 0, zero vector under cosine) */
    FATHOM_EBUDGET = -10007,      /* the DRAM or memory budget is too small for what was asked */
    FATHOM_EBUSY = -10008,        /* no query slot is free; poll and try again */
    FATHOM_EINPUT = -10009,       /* an input file that is not what its name or header says */
    FATHOM_EINTERRUPTED = -10010, /* stopped on request; the work can be resumed */
    FATHOM_EDEADLINE = -10011,    /* the query's deadline passed */
    FATHOM_ECANCELLED = -10012,   /* the query was cancelled by its owner */
};

/* Detail of a failed call, filled where the fault is first seen. Pass NULL when not wanted. */
struct fathom_error {
    int code;      /* the code that the call returned */
    char msg[512]; /* what, where (file, offset, field) and what to do; NUL-terminated */
};

/* The short fixed text of a code (errno values included). Never NULL. Thread-safe. */
FATHOM_API const char *fathom_strerror(int code);

#ifdef __cplusplus
}
#endif
#endif
