# cmake --install: the program, its launchers, the libraries with their headers, the schema and the presets; and
# find_package(witan), which brings the targets witan::base, witan::tensor, witan::ops, witan::schema, witan::configs,
# witan::model, witan::parallel, witan::optim, witan::checkpoint, witan::data and witan::launch.
include(CMakePackageConfigHelpers)
set(WITAN_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/witan)
set(WITAN_HEADER_DIR ${CMAKE_INSTALL_INCLUDEDIR}/witan)
set(WITAN_SHARE_DIR ${CMAKE_INSTALL_DATADIR}/witan)

install(TARGETS witan)
install(PROGRAMS launch/witan-mpirun.sh DESTINATION ${CMAKE_INSTALL_BINDIR} RENAME witan-mpirun)
install(PROGRAMS launch/slurm.sbatch DESTINATION ${WITAN_SHARE_DIR})
install(DIRECTORY configs/presets configs/machines DESTINATION ${WITAN_SHARE_DIR})
install(DIRECTORY configs/schema DESTINATION ${WITAN_SHARE_DIR}/configs FILES_MATCHING PATTERN *.proto)
install(FILES LICENSE THIRD_PARTY_NOTICES.md README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Include paths start at the root of the repository, so the headers stand below a folder of their own.
install(DIRECTORY configs core parallel optim launch DESTINATION ${WITAN_HEADER_DIR}
        FILES_MATCHING PATTERN *.h PATTERN presets EXCLUDE PATTERN schema EXCLUDE)
install(DIRECTORY ${PROJECT_BINARY_DIR}/generated/configs DESTINATION ${WITAN_HEADER_DIR} FILES_MATCHING PATTERN *.pb.h)

# The libraries are static: who links them also links what they stand on.
get_property(libraries GLOBAL PROPERTY WITAN_LIBRARIES)
install(TARGETS ${libraries} witan_dnnl EXPORT witan)
target_link_libraries(witan_base INTERFACE $<INSTALL_INTERFACE:Threads::Threads>)
if(WITAN_OPENMP)
  target_link_libraries(witan_base INTERFACE $<INSTALL_INTERFACE:OpenMP::OpenMP_CXX>)
endif()
target_compile_features(witan_base INTERFACE $<INSTALL_INTERFACE:cxx_std_20>)

install(EXPORT witan NAMESPACE witan:: FILE witanTargets.cmake DESTINATION ${WITAN_CMAKE_DIR})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/witanConfig.cmake.in ${PROJECT_BINARY_DIR}/witanConfig.cmake
                              INSTALL_DESTINATION ${WITAN_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/witanConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/witanConfig.cmake ${PROJECT_BINARY_DIR}/witanConfigVersion.cmake
        DESTINATION ${WITAN_CMAKE_DIR})
