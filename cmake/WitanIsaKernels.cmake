# witan_isa_kernels(NAME file.cc...): compiles each file once per CPU level, with WITAN_ISA set to the namespace its
# kernels go into (see core/ops/cpu/isa.h). The best level is chosen at run time, so one binary runs on every x86-64.
#
# A kernel file must not emit weak symbols: the linker keeps one copy of each and could keep the AVX-512 one, which would
# be executed on a CPU without AVX-512. So: no standard containers or algorithms in kernel files, everything in the ISA
# namespace or with internal linkage. tests/build/isa_symbols_test.sh checks it.
#
# witan_extra_isa_kernels(NAME ISA FLAGS file.cc...): the same once, for a CPU that has more than the avx512 level: FLAGS are
# the options that come on top of it.
function(witan_isa_kernels name)
  foreach(isa baseline avx2 avx512)
    witan_isa_object(${name} ${isa} ${ARGN})
  endforeach()
endfunction()

function(witan_extra_isa_kernels name isa flags)
  witan_isa_object(${name} ${isa} ${ARGN})
  target_compile_options(witan_${name}_${isa} PRIVATE ${flags})
endfunction()

function(witan_isa_object name isa)
  set(object witan_${name}_${isa})
  add_library(${object} OBJECT ${ARGN})
  target_link_libraries(${object} PRIVATE witan_flags)
  target_compile_definitions(${object} PRIVATE WITAN_ISA=${isa})
  # -O3 in every build type: unoptimised kernels would make the debug tests useless, and inlining keeps std:: helpers local.
  # Products and sums are fused where the level has FMA; no -ffast-math: NaN and infinity must survive. -fno-var-tracking:
  # the places of variables in unrolled kernels take a third of the compile time of a debug build.
  # Under sanitizers -O1: instrumented unrolled kernels take a minute each at -O3.
  if(WITAN_SANITIZE)
    set(optimisation -O1)
  else()
    set(optimisation -O3)
  endif()
  target_compile_options(${object} PRIVATE ${optimisation} -ffp-contract=fast -fno-math-errno -fno-trapping-math
                                           -fno-exceptions -fno-var-tracking)
  if(isa STREQUAL "avx2")
    target_compile_options(${object} PRIVATE -march=x86-64-v3)
  elseif(NOT isa STREQUAL "baseline")
    target_compile_options(${object} PRIVATE -march=x86-64-v4 -mprefer-vector-width=512)
  endif()
  target_sources(witan_${name} PRIVATE $<TARGET_OBJECTS:${object}>)
  set_property(GLOBAL APPEND PROPERTY WITAN_ISA_TARGETS ${object})
endfunction()
