# index/env
fathom_test(env_os_test SOURCES env_os_test.c USES fathom_unit_env fathom_env fathom_base)
fathom_test(env_file_test SOURCES env_file_test.c USES fathom_unit_env fathom_env fathom_base)
fathom_test(env_publish_test SOURCES env_publish_test.c USES fathom_unit_env fathom_env fathom_base)
fathom_test(env_fault_test SOURCES env_fault_test.c USES fathom_unit_env fathom_env fathom_base)
fathom_test(env_ring_test SOURCES env_ring_test.c USES fathom_unit_env fathom_env fathom_base)
fathom_test(env_ring_fault_test SOURCES env_ring_fault_test.c
            USES fathom_unit_env fathom_env fathom_base)
fathom_test(env_ring_refused_test SOURCES env_ring_refused_test.c
            USES fathom_unit_env fathom_env fathom_base NEEDS PkgConfig::liburing)
