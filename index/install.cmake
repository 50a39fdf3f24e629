# What `cmake --install` leaves for others: headers, both libraries, a CMake package (fathom::fathom and fathom::client, or
# their _static forms) and fathom.pc. The client's targets join the export set in client/CMakeLists.txt.
include(CMakePackageConfigHelpers)
set(fathom_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fathom)

install(TARGETS fathom fathom_static fathom_api EXPORT fathomTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/fathom DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT fathomTargets NAMESPACE fathom:: DESTINATION ${fathom_package_dir})

configure_package_config_file(cmake/fathomConfig.cmake.in fathomConfig.cmake
                              INSTALL_DESTINATION ${fathom_package_dir})
# Until 1.0 a minor version may change the API.
write_basic_package_version_file(fathomConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fathomConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/fathomConfigVersion.cmake
        DESTINATION ${fathom_package_dir})

# The .pc file finds its prefix by its own place, so that the tree can be moved and installed under any --prefix.
file(RELATIVE_PATH fathom_prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/fathom.pc.in fathom.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fathom.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
