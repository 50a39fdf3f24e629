fathom_test(bench_latency_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/bench_latency_test.c
            USES fathom_bench fathom_env fathom_base)
fathom_test(bench_workload_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/bench_workload_test.c
            USES fathom_bench fathom_datasets fathom_env fathom_base)
# The whole program; load is held against a scripted server (Debian's Python has its msgpack).
find_program(FATHOM_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(FATHOM_PYTHON NAMES python3 REQUIRED)
foreach(name bench_load_test bench_search_test bench_suite_test
        bench_suite_run_test bench_fathom_test bench_kills_test)
    add_test(NAME ${name} COMMAND ${FATHOM_PYTHON} -B ${CMAKE_CURRENT_LIST_DIR}/${name}.py)
    set_tests_properties(${name} PROPERTIES TIMEOUT ${FATHOM_TEST_SECONDS}
        ENVIRONMENT
        "FATHOM_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};FATHOM_SOURCE=${PROJECT_SOURCE_DIR}")
endforeach()
