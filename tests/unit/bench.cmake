fathom_test(bench_latency_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/bench_latency_test.c
            USES fathom_bench fathom_base)
fathom_test(bench_workload_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/bench_workload_test.c
            USES fathom_bench fathom_datasets fathom_env fathom_base)
# Against a scripted server: needs Debian's Python, whose msgpack it is.
find_program(FATHOM_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(FATHOM_PYTHON NAMES python3 REQUIRED)
add_test(NAME bench_load_test COMMAND ${FATHOM_PYTHON} -B ${CMAKE_CURRENT_LIST_DIR}/bench_load_test.py)
set_tests_properties(bench_load_test PROPERTIES TIMEOUT 120
    ENVIRONMENT "FATHOM_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
