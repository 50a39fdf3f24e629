# builder/
set(builder_uses fathom_builder fathom_datasets fathom_format fathom_codec fathom_kernel fathom_env fathom_base)
foreach(module predict cells order keys graph patrol train input work spill build fault)
    fathom_test(builder_${module}_test SOURCES builder_${module}_test.c
                USES fathom_unit_builder fathom_unit_env ${builder_uses} NEEDS PkgConfig::openblas)
endforeach()
foreach(module resume flip pieces measure remeasure merge)
    fathom_test(builder_${module}_test SOURCES builder_${module}_test.c
                USES fathom_unit_builder fathom_unit_env ${builder_uses} NEEDS PkgConfig::openblas)
endforeach()
fathom_test(builder_parts_test SOURCES builder_parts_test.c
            USES fathom_unit_builder fathom_unit_env ${builder_uses} fathom_test_answers fathom_test_support fathom_search fathom_api NEEDS PkgConfig::openblas)
fathom_test(builder_odd_test SOURCES builder_odd_test.c
            USES fathom_unit_builder fathom_unit_env ${builder_uses} fathom_search fathom_api NEEDS PkgConfig::openblas)
fathom_test(builder_points_test SOURCES builder_points_test.c
            USES fathom_unit_builder fathom_unit_env ${builder_uses} fathom_search fathom_api NEEDS PkgConfig::openblas)
fathom_test(builder_queries_test SOURCES builder_queries_test.c
            USES fathom_unit_builder fathom_unit_env ${builder_uses} fathom_test_answers fathom_test_support fathom_search fathom_api NEEDS PkgConfig::openblas)
set_tests_properties(builder_resume_test builder_flip_test builder_measure_test builder_remeasure_test builder_merge_test PROPERTIES COST 200)
# Minutes under sanitizers, and no code that does not run there: builds in pieces, work files and stops are
# builder_resume_test's as well, points within a budget, of queries and measured anew fathom_build_test's.
set_tests_properties(builder_pieces_test builder_spill_test builder_points_test builder_queries_test builder_remeasure_test
                     PROPERTIES LABELS release-only)
