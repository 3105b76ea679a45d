#include "core/ops/cuda/product.h"

#include <limits>

#include "core/base/cuda/cuda_check.h"
#include "core/ops/cuda/narrow.h"
#include "core/ops/rounded_weights.h"

namespace witan::ops::cuda {
namespace {

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

RoundedOperands::RoundedOperands(const Context& ctx, std::initializer_list<TensorView> operands)
    : count_(operands.size()) {
  WITAN_CHECK(count_ <= kMost, "products round at most ", kMost, " operands at once");
  std::array<TensorView, kMost> without_copy;
  std::array<std::size_t, kMost> at{};
  std::size_t bytes = 0;
  std::size_t rounded = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    const TensorView& x = operands.begin()[i];
    data_[i] = find_rounded(x);
    if (data_[i] != nullptr || x.size() == 0) continue;
    without_copy[rounded] = x;
    at[rounded++] = i;
    bytes += bfloat16_bytes(x.size());
  }
  const Cublas blas = use_cublas(ctx, bytes);
  handle_ = blas.handle;
  std::byte* to = blas.scratch;
  for (std::size_t i = 0; i < rounded; ++i) {
    const TensorView& x = without_copy[i];
    auto* place = reinterpret_cast<std::uint16_t*>(to);
    narrow_operand(ctx, x.as<float>(), x.size(), place);
    data_[at[i]] = place;
    to += bfloat16_bytes(x.size());
  }
}

void zero_bytes(const Context& ctx, void* data, std::size_t bytes) {
  if (bytes == 0) return;
  WITAN_CUDA_CHECK(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(ctx.stream.handle)),
                   "filling ", bytes, " bytes");
}

}  // namespace witan::ops::cuda
