// What a .cu file may use besides the CUDA runtime, so that two compilers take it: nvcc, and g++
// against the stand-in for the runtime in tests/support/cuda_on_cpu, whose cuda_runtime.h brings
// its own definitions of those below. The whole dialect: docs/cuda.md.
//
//   WITAN_SHARED(double[32], partial);   a variable of the block, uninitialised
//   dynamic_shared<T>()                  the block's memory whose size launch() was given
//   WITAN_UNROLL for (...)               unroll this loop
//   WITAN_UNROLL_BY(n) for (...)         n steps at a time, where registers do not hold them all
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#if defined(__CUDACC__)

#define WITAN_SHARED(T, name) __shared__ std::type_identity_t<T> name
#define WITAN_PRAGMA(words) _Pragma(#words)
#define WITAN_UNROLL WITAN_PRAGMA(unroll)
#define WITAN_UNROLL_BY(n) WITAN_PRAGMA(unroll n)

namespace witan {

template <class T>
__device__ T* dynamic_shared() {
  // One name and one type for all kernels: the language allows only one such array a file.
  extern __shared__ __align__(16) unsigned char witan_dynamic_shared_bytes[];
  return reinterpret_cast<T*>(witan_dynamic_shared_bytes);
}

}  // namespace witan

#endif
