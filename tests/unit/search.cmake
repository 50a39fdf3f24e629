# index/search
set(search_uses fathom_test_answers fathom_test_small fathom_test_support fathom_search fathom_format fathom_codec
    fathom_kernel fathom_env fathom_base fathom_api)
foreach(module answers)
    fathom_test(search_${module}_test SOURCES search_${module}_test.c USES ${search_uses})
endforeach()
