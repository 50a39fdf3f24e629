# bench/adapters against a real server; needs Debian's Python with numpy and msgpack. Of our C it runs nothing that
# other tests do not run under sanitizers.
add_test(NAME adapters_test COMMAND ${FATHOM_PYTHON} -B ${CMAKE_CURRENT_SOURCE_DIR}/adapters_test.py)
set_tests_properties(adapters_test PROPERTIES TIMEOUT ${FATHOM_TEST_SECONDS} SKIP_RETURN_CODE 77 LABELS release-only ENVIRONMENT
    "FATHOM_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};FATHOM_SOURCE=${PROJECT_SOURCE_DIR}")
