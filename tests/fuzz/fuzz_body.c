/* The body of a search in JSON, as it comes to the admin port. The HTTP round it is libevent's to
 * read. A body is taken as a request with its vectors, or refused in words. */
#include "fuzz.h"

#include "http_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct buffer_allowance allowance = {.limit = 1 << 20};
    struct buffer message;
    struct request request;
    struct rpc_error err = {0};
    buffer_init(&message, &allowance);
    int status =
        http_json_read_search(&request, &message, "words", (const char *)bytes, count, &err);
    if (status == 0) {
        void *vectors = malloc(search_vector_bytes(&request.search) + 1);
        FUZZ_CHECK(vectors, "no memory for %zu bytes", search_vector_bytes(&request.search));
        status = search_copy_vectors(&request.search, vectors, &err);
        free(vectors);
    }
    FUZZ_CHECK(status == 0 || (err.code && err.message[0]), "a body is refused without a word");
    if (status != 0) {
        json_t *error = http_json_error(&err);
        FUZZ_CHECK(error, "the refusal is no JSON: %s", err.message);
        json_decref(error);
    }
    buffer_fini(&message);
    FUZZ_CHECK(allowance.used == 0, "%zu bytes are still charged", allowance.used);
    return 0;
}

void fuzz_seeds(fuzz_seed_fn *seed)
{
    static const char *const bodies[] = {
        "{\"vectors\": [[1, 2.5, -3e2], [0, 0, 1]], \"k\": 3}",
        "{\"vectors\": [[1, 2]], \"k\": 10, \"dtype\": \"u8\", \"search_list\": 100}",
        "{\"vectors\": [[1]], \"k\": 1, \"target_recall\": 0.95, \"deadline_ms\": 100}",
        "{\"vectors\": [[1]], \"k\": 1, \"explain\": true, \"exact_distances\": false}",
        "{\"vectors\": [[1]], \"k\": 1, \"rerank\": \"on\", \"explain\": true}",
        "{\"k\": 10}",
        "{\"vectors\": \"AAAA\", \"shape\": [1, 1], \"k\": {}}",
        "{\"vectors\": [[[[[[[[[[1]]]]]]]]]], \"k\": null}",
        "[1]",
        "{\"k\": 18446744073709551615, \"vectors\": [[1e999]]}",
        "{\"k\": \"\\u0000\", \"\\ud83d\\ude00\": 1}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        seed(bodies[i], strlen(bodies[i]));
}
