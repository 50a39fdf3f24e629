/* The least program that searches a server: what the comment of fathom/client.h shows, in full. The
 * build compiles it, so that the example cannot rot.
 *
 *     example ADDRESS INDEX DIM     searches for the zero vector's neighbours but for a 1 in front
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <fathom/client.h>

static int search(struct fathom_client *client, const char *index, uint32_t dim)
{
    float *vector = calloc(dim, sizeof *vector);
    if (!vector)
        return 1;
    vector[0] = 1;
    uint64_t ids[10];
    float distances[10];
    struct fathom_client_error err;
    struct fathom_client_search search = fathom_client_search_default();
    search.index = index;
    search.vectors = vector;
    search.dim = dim;
    search.ids = ids;
    search.distances = distances;
    int code = fathom_client_search(client, &search, NULL, &err);
    free(vector);
    if (code) {
        fprintf(stderr, "%s: %s\n", err.name, err.message);
        return 1;
    }
    for (int i = 0; i < 10 && ids[i] != FATHOM_CLIENT_ID_NONE; i++)
        printf("%2d  %" PRIu64 "  %g\n", i + 1, ids[i], distances[i]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s ADDRESS INDEX DIM\n", argv[0]);
        return 2;
    }
    struct fathom_client *client;
    struct fathom_client_error err;
    if (fathom_client_open(&client, argv[1], NULL, &err)) {
        fprintf(stderr, "%s: %s\n", err.name, err.message);
        return 1;
    }
    int status = search(client, argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
    fathom_client_close(client);
    return status;
}
