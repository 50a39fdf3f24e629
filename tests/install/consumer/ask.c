/* Uses libfathom_client as another project would: asks a server that is not there, and prints the
 * version. */
#include <stdio.h>
#include <string.h>

#include <fathom/client.h>

int main(void)
{
    struct fathom_client *client;
    struct fathom_client_error err;
    if (!fathom_client_open(&client, "unix:no-such-socket", NULL, &err) || client)
        return 1;
    if (strcmp(err.name, "unavailable") || !strstr(err.message, "no-such-socket"))
        return 1;
    printf("libfathom_client %s\n", fathom_client_version());
    return 0;
}
