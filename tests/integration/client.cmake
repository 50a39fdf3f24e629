# The clients against a real server, the programs against docs/PROGRAMS.md, and the Python package's own tests. They need an interpreter with msgpack and numpy
# (python3-msgpack, python3-numpy); without one they report themselves skipped.
set(client_python "")
foreach(candidate python3 /usr/bin/python3)
    if(NOT client_python)
        execute_process(COMMAND ${candidate} -c "import msgpack, numpy" RESULT_VARIABLE missing OUTPUT_QUIET ERROR_QUIET)
        if(missing EQUAL 0)
            set(client_python ${candidate})
        endif()
    endif()
endforeach()

foreach(name client_cli_test client_python_test client_engines_test programs_test client_package_test)
    if(NOT client_python)
        add_test(NAME ${name} COMMAND sh -c "echo no python3 with msgpack and numpy here, install python3-msgpack python3-numpy; exit 77")
    elseif(name STREQUAL client_package_test)
        add_test(NAME ${name} COMMAND ${client_python} -m unittest discover -s tests -t .
                 WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}/client/python)
    else()
        add_test(NAME ${name} COMMAND ${client_python} ${CMAKE_CURRENT_SOURCE_DIR}/${name}.py)
    endif()
    set_tests_properties(${name} PROPERTIES TIMEOUT ${FATHOM_TEST_SECONDS} SKIP_RETURN_CODE 77 ENVIRONMENT
        "FATHOM_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};FATHOM_SOURCE=${PROJECT_SOURCE_DIR};PYTHONDONTWRITEBYTECODE=1")
endforeach()
