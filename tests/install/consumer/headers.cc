// The installed headers are C++ too, and may be used together.
#include <fathom/client.h>
#include <fathom/fathom.h>

int main()
{
    struct fathom_client_search search = fathom_client_search_default();
    fathom_query query = fathom_query_default();
    return search.k >= 1 && query.dim == 0 ? 0 : 1;
}
