// Runs a test body once per kernel that the dispatcher can choose on this CPU.
#pragma once

#include <string>
#include <vector>

#include "core/base/cpu_isa.h"
#include "core/ops/gemm_kernel.h"

namespace witan::test {

// The levels this CPU can execute, lowest first.
inline std::vector<CpuIsa> executable_isas() {
  std::vector<CpuIsa> levels;
  for (CpuIsa isa : {CpuIsa::kBaseline, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (isa <= best_cpu_isa()) levels.push_back(isa);
  }
  return levels;
}

// Forces a level while it lives.
class ScopedIsa {
 public:
  explicit ScopedIsa(CpuIsa isa) { force_cpu_isa(isa); }
  ~ScopedIsa() { force_cpu_isa(best_cpu_isa()); }
  ScopedIsa(const ScopedIsa&) = delete;
  ScopedIsa& operator=(const ScopedIsa&) = delete;
};

// Forces a GEMM kernel while it lives.
class ScopedGemm {
 public:
  explicit ScopedGemm(ops::GemmChoice choice) { ops::force_gemm_kernel(choice); }
  ~ScopedGemm() { ops::force_gemm_kernel(ops::GemmChoice::kAuto); }
  ScopedGemm(const ScopedGemm&) = delete;
  ScopedGemm& operator=(const ScopedGemm&) = delete;
};

}  // namespace witan::test
