fathom_test(bench_latency_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/bench_latency_test.c
            USES fathom_bench fathom_base)
fathom_test(bench_workload_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/bench_workload_test.c
            USES fathom_bench fathom_datasets fathom_env fathom_base)
