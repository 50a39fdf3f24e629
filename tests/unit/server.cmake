# The server's parts, bottom up. The dispatch is tested over the fake library of tests/protocol.
set(server_uses fathom_server_core fathom_env fathom_base fathom_api)
foreach(part scanner wire request reload conn config histogram share)
    fathom_test(server_${part}_test SOURCES server_${part}_test.c USES ${server_uses}
                NEEDS PkgConfig::msgpack Threads::Threads)
endforeach()
fathom_test(server_dispatch_test SOURCES server_dispatch_test.c ../protocol/fake_fathom.c
            USES ${server_uses} NEEDS PkgConfig::msgpack Threads::Threads)
