// The kernels behind gemm and grouped_gemm, and the table that chooses among them.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/dtype.h"

namespace witan::ops {

// kOwn: core/ops/cpu/gemm_kernels.cc, any type and ISA, vectorised and packed. kOneDnn: dnnl_sgemm,
// float32 only.
enum class GemmKernel { kOwn, kOneDnn };
enum class GemmLayout { kNN, kNT, kTN };

constexpr const char* name_of(GemmKernel kernel) {
  return kernel == GemmKernel::kOwn ? "own" : "onednn";
}

// A pure function of the CPU's features (cpu_isa()) and the shape; the table was made by a
// benchmark (docs/benchmarks.md), never by a timing at run time, which would change the bits
// between runs.
GemmKernel choose_gemm_kernel(GemmLayout layout, DType dtype, std::int64_t m, std::int64_t n,
                              std::int64_t k);

// Forces one kernel wherever it supports the type (tests, config field runtime.gemm); kAuto returns
// to the table.
enum class GemmChoice { kAuto, kOwn, kOneDnn };
void force_gemm_kernel(GemmChoice choice);
GemmChoice forced_gemm_kernel();

// One line for logs and the run folder: ISA level, GEMM choice or table version, oneDNN version.
std::string describe_kernels();

}  // namespace witan::ops
