# Everything from outside, found once. Packages: launch/install_deps.sh.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

find_package(MPI REQUIRED COMPONENTS C)
find_package(Protobuf REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
if(WITAN_OPENMP)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()

# Debian's dnnl CMake package asks for OpenCL headers; the header and the library are enough.
find_path(DNNL_INCLUDE_DIR dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(witan_dnnl INTERFACE)
target_include_directories(witan_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(witan_dnnl INTERFACE ${DNNL_LIBRARY})

# Flags of every target of ours.
add_library(witan_flags INTERFACE)
target_include_directories(witan_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(witan_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror>)
# GCC 12 sees overlapping copies in std::string's operator+ that cannot happen (GCC bug 105329).
target_compile_options(witan_flags INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>)
if(WITAN_OPENMP)
  target_link_libraries(witan_flags INTERFACE OpenMP::OpenMP_CXX)
else()
  target_compile_options(witan_flags INTERFACE -Wno-unknown-pragmas)
endif()
if(WITAN_SANITIZE)
  target_compile_options(witan_flags INTERFACE -fsanitize=${WITAN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(witan_flags INTERFACE -fsanitize=${WITAN_SANITIZE})
endif()

include(WitanCuda)
