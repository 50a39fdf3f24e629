# index/format
set(format_uses fathom_test_support fathom_format fathom_codec fathom_kernel fathom_env fathom_base fathom_api)
foreach(module page superblock model file open publish verify)
    fathom_test(format_${module}_test SOURCES format_${module}_test.c USES ${format_uses})
endforeach()
