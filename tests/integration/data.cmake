# fathom-data from the command line; skips itself where numpy is missing
find_program(FATHOM_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(FATHOM_PYTHON NAMES python3 REQUIRED)
add_test(NAME fathom_data_test COMMAND ${FATHOM_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/fathom_data_test.py)
set_tests_properties(fathom_data_test PROPERTIES TIMEOUT ${FATHOM_TEST_SECONDS} ENVIRONMENT
    "FATHOM_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1;FATHOM_SANITIZE=${FATHOM_SANITIZE}")
