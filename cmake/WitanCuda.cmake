# Sets WITAN_HAVE_CUDA from the option WITAN_CUDA and, if it is ON, the language, the architectures, the flags,
# CUDA::cudart_static (the runtime, found through nvcc), witan::cublas and witan::nccl. A driver is not needed to build.
set(WITAN_HAVE_CUDA OFF)
if(NOT WITAN_CUDA MATCHES "^(ON|OFF|AUTO)$")
  message(FATAL_ERROR "WITAN_CUDA is '${WITAN_CUDA}'; ON, OFF or AUTO would be right")
endif()

if(NOT WITAN_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # Machine code for A100 and H100, and PTX of the latter for whatever comes after it.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES "80-real;90")
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit 12.5 REQUIRED)  # cublasGemmGroupedBatchedEx came with it
    if(NOT "cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
      # CMake 3.25 does not know that nvcc speaks C++20.
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
      list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(CMAKE_CUDA_EXTENSIONS OFF)
    # -Wpedantic and -Wconversion also complain about the code that nvcc generates, so g++ checks them when it compiles
    # the same files for the stand-in (tests/support/cuda_on_cpu).
    target_compile_options(witan_flags INTERFACE
      "$<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Wshadow,-Werror>")
    if(CCACHE)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
    endif()
    include(WitanCudaLibraries)
    if(NOT WITAN_CUDA_LIBS_MISSING)
      set(WITAN_HAVE_CUDA ON)
    else()
      list(JOIN WITAN_CUDA_LIBS_MISSING " and " missing)
      set(advice "${missing} not found (header and library): install the packages of your CUDA toolkit or distribution, "
                 "or run launch/install_cuda_libs.sh, or say with -DWITAN_CUDA_LIBS=DIR where they are")
      string(CONCAT advice ${advice})
      if(WITAN_CUDA STREQUAL "ON")
        message(FATAL_ERROR "WITAN_CUDA=ON, but ${advice}")
      endif()
      message(STATUS "CUDA is left out: ${advice}")
    endif()
  elseif(WITAN_CUDA STREQUAL "ON")
    message(FATAL_ERROR "WITAN_CUDA=ON, but no CUDA compiler was found; put nvcc on the PATH or set CMAKE_CUDA_COMPILER")
  endif()
  message(STATUS "CUDA backend: ${WITAN_HAVE_CUDA}")
endif()
