/* Names and sizes of the public enums; fathom_version. */
#include "fathom/fathom.h"

const char *fathom_version(void)
{
    return FATHOM_VERSION;
}

const char *fathom_dtype_name(enum fathom_dtype dtype)
{
    switch (dtype) {
    case FATHOM_F32:
        return "f32";
    case FATHOM_F16:
        return "f16";
    case FATHOM_I8:
        return "i8";
    case FATHOM_U8:
        return "u8";
    }
    return "?";
}

size_t fathom_dtype_bytes(enum fathom_dtype dtype)
{
    switch (dtype) {
    case FATHOM_F32:
        return 4;
    case FATHOM_F16:
        return 2;
    case FATHOM_I8:
    case FATHOM_U8:
        return 1;
    }
    return 0;
}

const char *fathom_metric_name(enum fathom_metric metric)
{
    switch (metric) {
    case FATHOM_METRIC_L2:
        return "l2";
    case FATHOM_METRIC_IP:
        return "ip";
    case FATHOM_METRIC_COS:
        return "cos";
    }
    return "?";
}

const char *fathom_navigator_name(enum fathom_navigator navigator)
{
    switch (navigator) {
    case FATHOM_NAVIGATOR_AUTO:
        return "auto";
    case FATHOM_NAVIGATOR_GRAPH:
        return "graph";
    case FATHOM_NAVIGATOR_CELLS:
        return "cells";
    }
    return "?";
}

const char *fathom_io_name(enum fathom_io io)
{
    switch (io) {
    case FATHOM_IO_AUTO:
        return "auto";
    case FATHOM_IO_URING:
        return "uring";
    case FATHOM_IO_PREAD:
        return "pread";
    }
    return "?";
}
