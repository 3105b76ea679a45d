# cuBLAS and NCCL for a build with CUDA, as the targets witan::cublas and witan::nccl. Looked for, header and library
# together, in WITAN_CUDA_LIBS, the CUDA toolkit, the active Python environment, what launch/install_cuda_libs.sh makes,
# and the system. NVIDIA's wheels bring versioned names only (libcublas.so.13), so everything is linked by its full path.
# Sets WITAN_CUDA_LIBS_MISSING to what was not found.
set(WITAN_CUDA_LIBS "" CACHE PATH
    "Where cuBLAS and NCCL are: a Python environment with NVIDIA's wheels, or a folder with include and lib")
set(WITAN_CUDA_LIBS_MISSING)

# Folders that have include/ and lib/: the roots themselves, and the wheels in those that are Python environments.
set(roots)
foreach(root "${WITAN_CUDA_LIBS}" "${CUDAToolkit_TARGET_DIR}" "$ENV{VIRTUAL_ENV}" "${PROJECT_SOURCE_DIR}/build/cuda_libs"
        /usr)
  if(root)
    file(GLOB wheels LIST_DIRECTORIES ON "${root}/lib/python3*/site-packages/nvidia/*")
    list(APPEND roots "${root}" ${wheels})
  endif()
endforeach()

# witan_find_cuda_library(TARGET HEADER NAME...): the first root that has the header and every libNAME.so.
function(witan_find_cuda_library target header)
  foreach(root ${roots})
    if(NOT EXISTS "${root}/include/${header}")
      continue()
    endif()
    set(libraries)
    foreach(name ${ARGN})
      # The plain name before versioned ones.
      file(GLOB found "${root}/lib/lib${name}.so" "${root}/lib/${CMAKE_LIBRARY_ARCHITECTURE}/lib${name}.so")
      if(NOT found)
        file(GLOB found "${root}/lib/lib${name}.so.*" "${root}/lib/${CMAKE_LIBRARY_ARCHITECTURE}/lib${name}.so.*")
      endif()
      if(found)
        list(GET found 0 first)
        list(APPEND libraries "${first}")
      endif()
    endforeach()
    list(LENGTH libraries count)
    list(LENGTH ARGN wanted)
    if(count EQUAL wanted)
      add_library(witan::${target} INTERFACE IMPORTED GLOBAL)
      target_include_directories(witan::${target} SYSTEM INTERFACE "${root}/include")
      target_link_libraries(witan::${target} INTERFACE ${libraries})
      message(STATUS "${target}: ${libraries}")
      set(WITAN_${target}_LIBRARIES ${libraries} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(WITAN_CUDA_LIBS_MISSING ${WITAN_CUDA_LIBS_MISSING} ${target} PARENT_SCOPE)
endfunction()

witan_find_cuda_library(cublas cublas_v2.h cublas cublasLt)
witan_find_cuda_library(nccl nccl.h nccl)
