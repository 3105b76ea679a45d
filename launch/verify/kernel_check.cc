// Every kernel that this CPU can execute, and every precision, against float64; on a GPU its
// precisions.
#include <string>
#include <vector>

#include "core/base/cpu_isa.h"
#include "core/ops/gemm_kernel.h"
#include "launch/verify/checks.h"
#include "launch/verify/compare.h"

namespace witan {
namespace {

using configs::RuntimeConfig;
using ops::GemmChoice;
using ops::GemmKernel;

// Relative, of a tensor's gradient. float64: sums in another order; float32: 24 bits through some
// hundred operations; bf16: operands of 8 bits, whose errors grow where a small gradient is the sum
// of large terms (2 to 4 % in models of some width).
constexpr double kFloat64Tolerance = 1e-9;
constexpr double kFloat32Tolerance = 1e-4;
constexpr double kBf16Tolerance = 0.25;

struct Variant {
  RuntimeConfig::Precision precision;
  CpuIsa isa;
  GemmChoice gemm;
  GemmKernel bf16;  // of products in bf16

  std::string name(bool on_cuda) const {
    if (on_cuda) return std::string(witan::name_of(precision)) + ", CUDA";
    std::string text = std::string(witan::name_of(precision)) + ", " + witan::name_of(isa);
    if (gemm == GemmChoice::kOneDnn) text += ", oneDNN";
    if (precision == RuntimeConfig::BF16) text += std::string(", ") + ops::name_of(bf16);
    return text;
  }
};

std::vector<Variant> variants(bool on_cuda) {
  const GemmKernel own = GemmKernel::kOwn;
  const CpuIsa best = best_cpu_isa();
  std::vector<Variant> all;
  if (on_cuda) {  // the CPU only routes
    for (const auto precision : {RuntimeConfig::FLOAT32, RuntimeConfig::BF16}) {
      all.push_back({precision, best, GemmChoice::kOwn, ops::bf16_gemm_kernel()});
    }
    return all;
  }
  for (const CpuIsa isa : {CpuIsa::kAvx512, CpuIsa::kAvx2, CpuIsa::kBaseline}) {
    if (isa > best) continue;
    if (isa < best) all.push_back({RuntimeConfig::FLOAT64, isa, GemmChoice::kOwn, own});
    all.push_back({RuntimeConfig::FLOAT32, isa, GemmChoice::kOwn, own});
    all.push_back({RuntimeConfig::BF16, isa, GemmChoice::kOwn, GemmKernel::kBf16Emulated});
  }
  all.push_back({RuntimeConfig::FLOAT32, best, GemmChoice::kOneDnn, own});
  if (best_cpu_bf16() >= CpuBf16::kDot) {
    all.push_back({RuntimeConfig::BF16, best, GemmChoice::kOwn, GemmKernel::kBf16Dot});
  }
  if (best_cpu_bf16() >= CpuBf16::kAmx) {
    all.push_back({RuntimeConfig::BF16, best, GemmChoice::kOwn, GemmKernel::kBf16Amx});
  }
  return all;
}

// Forces kernels while it lives, then returns to those of the config.
class ForcedKernels {
 public:
  explicit ForcedKernels(const Variant& variant) {
    force_cpu_isa(variant.isa);
    ops::force_gemm_kernel(variant.gemm);
    ops::force_bf16_gemm_kernel(variant.bf16);
  }
  ~ForcedKernels() {
    force_cpu_isa(isa_);
    ops::force_gemm_kernel(gemm_);
    ops::force_bf16_gemm_kernel(bf16_);
  }
  ForcedKernels(const ForcedKernels&) = delete;
  ForcedKernels& operator=(const ForcedKernels&) = delete;

 private:
  CpuIsa isa_ = cpu_isa();
  GemmChoice gemm_ = ops::forced_gemm_kernel();
  GemmKernel bf16_ = ops::bf16_gemm_kernel();
};

}  // namespace

double kernel_tolerance(RuntimeConfig::Precision precision) {
  switch (precision) {
    case RuntimeConfig::FLOAT64: return kFloat64Tolerance;
    case RuntimeConfig::BF16: return kBf16Tolerance;
    default: return kFloat32Tolerance;
  }
}

std::vector<CheckResult> check_kernels(const VerifyContext& context) {
  const Mesh alone = context.alone();
  const std::string choices = context.own_file("kernels");
  const Variant best = {RuntimeConfig::FLOAT64, best_cpu_isa(), GemmChoice::kOwn, GemmKernel::kOwn};
  configs::RunConfig run = gradient_config(context.run, best.precision);
  record_routing(run, choices);
  VerifySession reference(run, alone, context.runtime);
  reference.wake();
  StepMetrics expected;
  {
    const ForcedKernels forced(best);
    expected = compute_gradients(reference);
  }
  std::vector<CheckResult> results;
  int turn = 0;  // the variants are dealt out over the ranks
  for (const Variant& variant : variants(context.on_cuda())) {
    CheckResult& result = results.emplace_back();
    result.check = "kernels";
    result.variant = variant.name(context.on_cuda());
    result.tolerance = kernel_tolerance(variant.precision);
    Errors errors(reference.table());
    StepMetrics metrics = expected;
    if (turn++ % context.ranks() == context.world.rank()) {
      const ForcedKernels forced(variant);
      run = gradient_config(context.run, variant.precision);
      replay_routing(run, choices);
      VerifySession session(run, alone, context.runtime);
      session.wake();
      metrics = compute_gradients(session);
      if (context.hooks.after_gradients) {
        context.hooks.after_gradients("kernels", session.params());
      }
      compare_gradients(session.params(), reference.params(), errors);
    }
    compare_losses(metrics, expected, errors);
    errors.agree(context.world);
    errors.report(result);
  }
  return results;
}

}  // namespace witan
