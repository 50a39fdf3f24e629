# index/search
set(search_uses fathom_test_answers fathom_test_small fathom_test_support fathom_search fathom_format fathom_codec
    fathom_kernel fathom_env fathom_base fathom_api)
foreach(module answers buffers plan plan_points ledger engine walk pool scan cells rank request hostile parts points seek runs rerank waiting recode)
    fathom_test(search_${module}_test SOURCES search_${module}_test.c USES ${search_uses})
endforeach()
# Its own versions of these count what the library holds.
target_link_options(search_ledger_test PRIVATE LINKER:--wrap=mem_alloc,--wrap=mem_alloc_array,--wrap=mem_alloc_pages
                    LINKER:--wrap=mem_alloc_prepared,--wrap=mem_free,--wrap=mem_free_pages)
