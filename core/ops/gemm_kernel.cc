#include "core/ops/gemm_kernel.h"

#include <dnnl.h>

#include <atomic>
#include <sstream>

#include "core/base/cpu_isa.h"
#include "core/base/error.h"

namespace witan::ops {
namespace {
std::atomic<GemmChoice> forced{GemmChoice::kAuto};
std::atomic<GemmKernel> forced_bf16{GemmKernel::kOwn};

CpuBf16 unit_of(GemmKernel kernel) {
  return kernel == GemmKernel::kBf16Amx   ? CpuBf16::kAmx
         : kernel == GemmKernel::kBf16Dot ? CpuBf16::kDot
                                          : CpuBf16::kNone;
}
}  // namespace

void force_gemm_kernel(GemmChoice choice) { forced = choice; }
GemmChoice forced_gemm_kernel() { return forced; }

// The table (`witan bench gemm`; figures in docs/benchmarks.md). At every CPU level and layout
// the own kernel is near oneDNN's speed on the shapes of training or above it, and at 0.6 to 0.9 of
// it for matrices of at most 64 columns (a router), for one row in the L2 cache, for k near 32, and
// for square matrices of 2048 and more. It keeps even those: its rows depend neither on the number
// of rows nor on the number of threads, so a token is routed alike however the batch was split.
GemmKernel choose_gemm_kernel(GemmLayout, DType dtype, Products products, std::int64_t,
                              std::int64_t, std::int64_t) {
  if (dtype != DType::kFloat32) return GemmKernel::kOwn;
  if (products == Products::kBfloat16) return bf16_gemm_kernel();
  return forced == GemmChoice::kOneDnn ? GemmKernel::kOneDnn : GemmKernel::kOwn;
}

GemmKernel bf16_gemm_kernel() {
  if (forced_bf16 != GemmKernel::kOwn) return forced_bf16;
  if (cpu_isa() != CpuIsa::kAvx512) return GemmKernel::kBf16Emulated;
  switch (best_cpu_bf16()) {
    case CpuBf16::kAmx: return GemmKernel::kBf16Amx;
    case CpuBf16::kDot: return GemmKernel::kBf16Dot;
    default: return GemmKernel::kBf16Emulated;
  }
}

void force_bf16_gemm_kernel(GemmKernel kernel) {
  WITAN_CHECK(unit_of(kernel) <= best_cpu_bf16(), "the kernel ", name_of(kernel),
              " was asked for; this CPU cannot execute it");
  forced_bf16 = kernel;
}

std::string describe_kernels() {
  const dnnl_version_t* version = dnnl_version();
  std::ostringstream out;
  out << "CPU kernels " << name_of(cpu_isa()) << ", gemm "
      << (forced == GemmChoice::kAuto  ? "by table 1"
          : forced == GemmChoice::kOwn ? "own"
                                       : "onednn")
      << ", bf16 " << name_of(bf16_gemm_kernel()) << ", oneDNN " << version->major << '.'
      << version->minor << '.' << version->patch;
  return std::move(out).str();
}

}  // namespace witan::ops
