# datasets/
set(datasets_uses fathom_datasets fathom_kernel fathom_env fathom_base)
foreach(module plain npy ids writer synth exact cast blas)
    fathom_test(datasets_${module}_test SOURCES datasets_${module}_test.c
                USES fathom_unit_datasets fathom_unit_env ${datasets_uses})
endforeach()
fathom_test(datasets_hdf5_test SOURCES datasets_hdf5_test.c
            USES fathom_unit_datasets fathom_unit_env ${datasets_uses} NEEDS PkgConfig::hdf5)
