# index/base
fathom_test(base_prng_test SOURCES base_prng_test.c USES fathom_base)
fathom_test(base_mem_test SOURCES base_mem_test.c USES fathom_base)
fathom_test(base_error_test SOURCES base_error_test.c USES fathom_base)
fathom_test(base_utf8_test SOURCES base_utf8_test.c USES fathom_base)
fathom_test(base_heap_test SOURCES base_heap_test.c USES fathom_base)
