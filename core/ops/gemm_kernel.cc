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

GemmKernel choose_gemm_kernel(GemmLayout layout, DType dtype, std::int64_t m, std::int64_t n,
                              std::int64_t k) {
  (void)layout, (void)m, (void)n, (void)k;
  if (dtype != DType::kFloat32 || forced == GemmChoice::kOwn) return GemmKernel::kOwn;
  if (forced == GemmChoice::kOneDnn) return GemmKernel::kOneDnn;
  return GemmKernel::kOneDnn;
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
