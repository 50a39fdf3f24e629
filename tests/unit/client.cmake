# client/c
foreach(module item json)
    fathom_test(client_${module}_test SOURCES client_${module}_test.c
                USES fathom_client_static fathom_base NEEDS PkgConfig::msgpack)
    target_include_directories(client_${module}_test PRIVATE ${PROJECT_SOURCE_DIR}/client ${PROJECT_SOURCE_DIR}/client/c)
endforeach()
foreach(module call fault reply)
    fathom_test(client_${module}_test SOURCES client_${module}_test.c client_fake.c
                USES fathom_client_static fathom_base NEEDS PkgConfig::msgpack Threads::Threads)
endforeach()
target_include_directories(client_reply_test PRIVATE ${PROJECT_SOURCE_DIR}/client ${PROJECT_SOURCE_DIR}/client/c)
