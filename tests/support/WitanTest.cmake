# witan_test(NAME file... LIBS lib... [LABELS label...])
#   One GoogleTest binary; each TEST becomes a ctest.
# witan_mpi_test(NAME file... LIBS lib... [RANKS 1 2 3 4] [LABELS label...])
#   One GoogleTest binary with the MPI main of support/mpi_main.cc, run whole under mpirun once per rank count.
# Labels: shared (needs ../shared and says so when it is absent), gpu (needs a GPU), slow (only in .ci/run).
function(witan_test name)
  cmake_parse_arguments(ARG "" "" "LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE witan_flags witan_test_support GTest::gtest_main ${ARG_LIBS})
  gtest_discover_tests(${name} PROPERTIES TIMEOUT 300 LABELS "${ARG_LABELS}" DISCOVERY_TIMEOUT 60
                       ENVIRONMENT "OMP_NUM_THREADS=2")
endfunction()

function(witan_mpi_test name)
  cmake_parse_arguments(ARG "" "" "LIBS;LABELS;RANKS" ${ARGN})
  if(NOT ARG_RANKS)
    set(ARG_RANKS 1 2 3 4)
  endif()
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE witan_flags witan_test_support witan_mpi_main GTest::gtest ${ARG_LIBS})
  foreach(ranks ${ARG_RANKS})
    add_test(NAME ${name}_${ranks}_ranks
             COMMAND ${PROJECT_SOURCE_DIR}/tests/support/mpirun.sh ${ranks} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}_${ranks}_ranks PROPERTIES TIMEOUT 900 LABELS "${ARG_LABELS}" PROCESSORS 2)
  endforeach()
endfunction()
