#include "core/ops/cuda/product.h"

#include <limits>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/bfloat16.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {
namespace {

constexpr int kRounded = 8;  // elements a thread rounds at once: 32 bytes in, 16 out

// 6 n bytes
template <int kWidth>
__global__ void narrow_operand_kernel(const float* from, std::int64_t n, std::uint16_t* to) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const Pack<float, kHere> in = load_pack<kHere>(from + i);
    Pack<std::uint16_t, kHere> out;
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) out.value[j] = to_bfloat16(in.value[j]);
    store_pack<kHere>(to + i, out);
  });
}

int as_int(std::int64_t extent) {
  WITAN_CHECK(extent <= std::numeric_limits<int>::max(), "a matrix product has extents of at most ",
              std::numeric_limits<int>::max(), ", found ", extent);
  return static_cast<int>(extent);
}

}  // namespace

ProductTypes product_types(DType dtype, Products products) {
  if (dtype == DType::kFloat64) return {CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F};
  if (products == Products::kBfloat16) return {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F};
  return {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F};
}

ColumnMajor column_major(const ProductShape& shape) {
  const int m = as_int(shape.m);
  const int n = as_int(shape.n);
  const int k = as_int(shape.k);
  const bool a_transposed = shape.layout == GemmLayout::kTN;
  const bool b_transposed = shape.layout == GemmLayout::kNT;
  return {b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
          a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
          n,
          m,
          k,
          b_transposed ? k : n,
          a_transposed ? m : k,
          n};
}

void multiply(cublasHandle_t handle, const ProductTypes& types, const ProductShape& shape,
              const void* a, const void* b, bool accumulate, void* c) {
  const ColumnMajor p = column_major(shape);
  const double one = 1.0;
  const double zero = 0.0;
  const float one_f = 1.0F;
  const float zero_f = 0.0F;
  const bool wide = types.compute == CUBLAS_COMPUTE_64F;
  const void* alpha = wide ? static_cast<const void*>(&one) : &one_f;
  const void* beta =
      wide ? static_cast<const void*>(accumulate ? &one : &zero) : (accumulate ? &one_f : &zero_f);
  WITAN_CUBLAS_CHECK(cublasGemmEx(handle, p.first, p.second, p.m, p.n, p.k, alpha, b, types.operand,
                                  p.ld_first, a, types.operand, p.ld_second, beta, c, types.result,
                                  p.ld_result, types.compute, CUBLAS_GEMM_DEFAULT),
                     "product of m ", shape.m, ", n ", shape.n, ", k ", shape.k);
}

void narrow_operand(const Context& ctx, const float* from, std::int64_t n, std::uint16_t* to) {
  if (n == 0) return;
  const auto start = [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    launch(narrow_operand_kernel<kWidth>, flat_grid(n / kWidth), dim3(kFlatThreads), 0, ctx.stream,
           from, n, to);
  };
  if (is_aligned(from) && is_aligned(to)) {
    start(Width<kRounded>{});
  } else {
    start(Width<1>{});
  }
}

void zero_bytes(const Context& ctx, void* data, std::size_t bytes) {
  if (bytes == 0) return;
  WITAN_CUDA_CHECK(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(ctx.stream.handle)),
                   "filling ", bytes, " bytes");
}

}  // namespace witan::ops::cuda
