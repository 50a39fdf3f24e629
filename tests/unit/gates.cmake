# The rules that no compiler checks, and the proof that they can fail.
find_program(FATHOM_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(FATHOM_PYTHON NAMES python3 REQUIRED)
add_test(NAME gates COMMAND ${FATHOM_PYTHON} ${PROJECT_SOURCE_DIR}/tests/support/gates.py)
add_test(NAME gates_test COMMAND ${FATHOM_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/gates_test.py)
set_tests_properties(gates gates_test PROPERTIES TIMEOUT ${FATHOM_TEST_SECONDS} LABELS release-only
    ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
