/* fathom-bench: how fast, how right, and at what price in reads and memory. */
#include "bench.h"

int main(int argc, char **argv)
{
    static const struct tool_verb verbs[] = {
        {"search", "search an index in this process: recall, QPS, reads, CPU, DRAM",
         bench_search_main},
        {"load", "ask a server at a fixed rate: latency without coordinated omission",
         bench_load_main},
        {NULL, NULL, NULL},
    };
    return tool_main(argc, argv, "Measures fathom: in process, and over the network.", verbs);
}
