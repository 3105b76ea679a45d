// The kernels that multiply operands rounded to bfloat16, one after the other.
#pragma once

#include <string>
#include <vector>

#include "core/base/context.h"
#include "core/ops/gemm_kernel.h"
#include "tests/support/bfloat16.h"
#include "tests/support/cpu_kernels.h"

namespace witan::test {

inline constexpr Context kBf16{{}, {}, Products::kBfloat16};

struct Bf16Kernel {
  ops::GemmKernel kernel;
  CpuIsa isa;
};

class ScopedBf16 {
 public:
  explicit ScopedBf16(const Bf16Kernel& kernel) : isa_(kernel.isa) {
    ops::force_bf16_gemm_kernel(kernel.kernel);
  }
  ~ScopedBf16() { ops::force_bf16_gemm_kernel(ops::GemmKernel::kOwn); }
  ScopedBf16(const ScopedBf16&) = delete;
  ScopedBf16& operator=(const ScopedBf16&) = delete;

 private:
  ScopedIsa isa_;
};

// All that this CPU executes.
inline std::vector<Bf16Kernel> bf16_kernels() {
  using ops::GemmKernel;
  std::vector<Bf16Kernel> kernels;
  for (CpuIsa isa : executable_isas()) kernels.push_back({GemmKernel::kBf16Emulated, isa});
  if (best_cpu_bf16() >= CpuBf16::kDot) kernels.push_back({GemmKernel::kBf16Dot, best_cpu_isa()});
  if (best_cpu_bf16() >= CpuBf16::kAmx) kernels.push_back({GemmKernel::kBf16Amx, best_cpu_isa()});
  return kernels;
}

inline std::string name_of(const Bf16Kernel& kernel) {
  return std::string(ops::name_of(kernel.kernel)) + " at " + witan::name_of(kernel.isa);
}

}  // namespace witan::test
