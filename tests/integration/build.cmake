# fathom-build from the command line
find_program(FATHOM_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(FATHOM_PYTHON NAMES python3 REQUIRED)
add_test(NAME fathom_build_test COMMAND ${FATHOM_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/fathom_build_test.py)
set_tests_properties(fathom_build_test PROPERTIES TIMEOUT 1200 ENVIRONMENT
    "FATHOM_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1;FATHOM_SANITIZE=${FATHOM_SANITIZE}")
