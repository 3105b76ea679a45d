#include "core/ops/gemm_kernel.h"

#include <dnnl.h>

#include <atomic>
#include <sstream>

#include "core/base/cpu_isa.h"

namespace witan::ops {
namespace {
std::atomic<GemmChoice> forced{GemmChoice::kAuto};
}  // namespace

void force_gemm_kernel(GemmChoice choice) { forced = choice; }
GemmChoice forced_gemm_kernel() { return forced; }

// The table (tests/ops/gemm_bench.cc; figures in docs/benchmarks.md). At every CPU level and layout
// the own kernel is near oneDNN's speed on the shapes of training or above it, and at 0.6 to 0.9 of
// it for matrices of at most 64 columns (a router), for one row in the L2 cache, for k near 32, and
// for square matrices of 2048 and more. It keeps even those: its rows depend neither on the number
// of rows nor on the number of threads, so a token is routed alike however the batch was split.
GemmKernel choose_gemm_kernel(GemmLayout, DType dtype, std::int64_t, std::int64_t, std::int64_t) {
  if (dtype == DType::kFloat32 && forced == GemmChoice::kOneDnn) return GemmKernel::kOneDnn;
  return GemmKernel::kOwn;
}

std::string describe_kernels() {
  const dnnl_version_t* version = dnnl_version();
  std::ostringstream out;
  out << "CPU kernels " << name_of(cpu_isa()) << ", gemm "
      << (forced == GemmChoice::kAuto  ? "by table 1"
          : forced == GemmChoice::kOwn ? "own"
                                       : "onednn")
      << ", oneDNN " << version->major << '.' << version->minor << '.' << version->patch;
  return std::move(out).str();
}

}  // namespace witan::ops
