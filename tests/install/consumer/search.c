/* Uses libfathom as another project would: opens an index that is not there, and prints the
 * version. */
#include <stdio.h>
#include <string.h>

#include <fathom/fathom.h>

int main(void)
{
    struct fathom_index *index;
    struct fathom_error err;
    struct fathom_open_options options = fathom_open_options_default();
    if (fathom_index_open(&index, "no-such-index", &options, &err) >= 0 || index)
        return 1;
    if (!strstr(err.msg, "no-such-index"))
        return 1;
    printf("libfathom %s\n", fathom_version());
    return 0;
}
