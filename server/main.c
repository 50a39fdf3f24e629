/* fathom-server: configuration, then the server. */
#include "config.h"
#include "server.h"
#include "tool.h"

#include <unistd.h>

int main(int argc, char **argv)
{
    struct config config;
    if (config_init(&config) < 0)
        return TOOL_EXIT_IO;
    int status = config_load(&config, argc, argv, environ);
    if (status == TOOL_EXIT_OK)
        status = server_run(&config);
    config_fini(&config);
    return status;
}
