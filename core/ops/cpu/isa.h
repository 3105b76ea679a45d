// How a CPU kernel exists three times (baseline, avx2, avx512) and how its op calls the right one.
//
//   rmsnorm_kernels.h (declarations):          rmsnorm_kernels.cc (compiled once per level):
//     #define WITAN_RMSNORM_KERNELS \            namespace witan::cpu::WITAN_ISA {
//       template <class T> \                     template <class T> void rmsnorm(...) { ... }
//       void rmsnorm(const T* x, ...);           template void rmsnorm<float>(...);
//     WITAN_DECLARE_ISA(WITAN_RMSNORM_KERNELS)   template void rmsnorm<double>(...);
//                                                }
//   rmsnorm.cc (the op):  WITAN_CALL_ISA(rmsnorm<T>, x, ...);
#pragma once

#include "core/base/cpu_isa.h"

#define WITAN_DECLARE_ISA(declarations) \
  namespace witan::cpu::baseline {      \
  declarations                          \
  }                                     \
  namespace witan::cpu::avx2 {          \
  declarations                          \
  }                                     \
  namespace witan::cpu::avx512 {        \
  declarations                          \
  }

#define WITAN_CALL_ISA(kernel, ...)                                                        \
  do {                                                                                     \
    switch (::witan::cpu_isa()) {                                                          \
      case ::witan::CpuIsa::kAvx512: ::witan::cpu::avx512::kernel(__VA_ARGS__); break;     \
      case ::witan::CpuIsa::kAvx2: ::witan::cpu::avx2::kernel(__VA_ARGS__); break;         \
      case ::witan::CpuIsa::kBaseline: ::witan::cpu::baseline::kernel(__VA_ARGS__); break; \
    }                                                                                      \
  } while (false)
