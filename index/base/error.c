/* Error texts. Codes are pinned in fathom/error.h; the texts may be improved at any time. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct fathom_error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
    }
    return code;
}

const char *fathom_strerror(int code)
{
    switch (code) {
    case 0:
        return "success";
    case FATHOM_ECORRUPT:
        return "corrupt index data";
    case FATHOM_EVERSION:
        return "unsupported format version or feature";
    case FATHOM_ECHECKSUM:
        return "checksum mismatch";
    case FATHOM_EDIM:
        return "wrong dimension or element type";
    case FATHOM_ELIMIT:
        return "limit exceeded";
    case FATHOM_EARGUMENT:
        return "invalid argument";
    case FATHOM_EBUDGET:
        return "memory budget too small";
    case FATHOM_EBUSY:
        return "no free query slot";
    case FATHOM_EINPUT:
        return "malformed input file";
    case FATHOM_EINTERRUPTED:
        return "interrupted";
    case FATHOM_EDEADLINE:
        return "deadline exceeded";
    case FATHOM_ECANCELLED:
        return "cancelled";
    default:
        break;
    }
    if (code < 0 && code > -4096) {
        const char *text = strerrordesc_np(-code);
        return text ? text : "unknown system error";
    }
    return "unknown error";
}
