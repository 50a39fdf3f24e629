/* fathom-server: configuration, then the server. */
#include "config.h"
#include "server.h"
#include "tool.h"

#include <malloc.h>
#include <unistd.h>

/* Larger pieces go back to the OS when they are freed. The default is raised by every large piece
 * that is freed, and an index that a reload replaced would stay resident beside its budget. */
#define GIVEN_BACK_BYTES (128 << 10)

int main(int argc, char **argv)
{
    mallopt(M_MMAP_THRESHOLD, GIVEN_BACK_BYTES);
    struct config config;
    if (config_init(&config) < 0)
        return TOOL_EXIT_IO;
    int status = config_load(&config, argc, argv, environ);
    if (status == TOOL_EXIT_OK)
        status = server_run(&config);
    config_fini(&config);
    return status;
}
