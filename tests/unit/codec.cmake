foreach(module lists bits metric planes coarse trellis)
    fathom_test(codec_${module}_test SOURCES codec_${module}_test.c
                USES fathom_codec fathom_kernel fathom_base fathom_api)
endforeach()
