// The kernels behind gemm and grouped_gemm, and the table that chooses among them.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/context.h"
#include "core/base/dtype.h"

namespace witan::ops {

// kOwn: core/ops/cpu/gemm_kernels.cc, any type and ISA, vectorised and packed. kOneDnn: dnnl_sgemm,
// float32 only. The others round float32 operands to bfloat16: kBf16Emulated at any ISA, kBf16Dot
// with vdpbf16ps, kBf16Amx on the AMX tiles.
enum class GemmKernel { kOwn, kOneDnn, kBf16Emulated, kBf16Dot, kBf16Amx };
enum class GemmLayout { kNN, kNT, kTN };

constexpr const char* name_of(GemmKernel kernel) {
  switch (kernel) {
    case GemmKernel::kOwn: return "own";
    case GemmKernel::kOneDnn: return "onednn";
    case GemmKernel::kBf16Emulated: return "emulated";
    case GemmKernel::kBf16Dot: return "vdpbf16ps";
    case GemmKernel::kBf16Amx: return "amx";
  }
  return "?";
}

// A pure function of the CPU's features (cpu_isa()) and the shape; the table was made by a
// benchmark (docs/benchmarks.md), never by a timing at run time, which would change the bits
// between runs.
GemmKernel choose_gemm_kernel(GemmLayout layout, DType dtype, Products products, std::int64_t m,
                              std::int64_t n, std::int64_t k);

// Of the kernels for bfloat16: the fastest unit of this CPU that the ISA level in use admits.
GemmKernel bf16_gemm_kernel();
// Forces one of them (tests, config field runtime.bf16); one that the CPU lacks throws. kOwn
// returns to the choice.
void force_bf16_gemm_kernel(GemmKernel kernel);

// Forces one kernel wherever it supports the type (tests, config field runtime.gemm); kAuto returns
// to the table.
enum class GemmChoice { kAuto, kOwn, kOneDnn };
void force_gemm_kernel(GemmChoice choice);
GemmChoice forced_gemm_kernel();

// One line for logs and the run folder: ISA level, GEMM choice or table version, bfloat16 kernel,
// oneDNN version.
std::string describe_kernels();

}  // namespace witan::ops
