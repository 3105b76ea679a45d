// Row-major products through cuBLAS, which thinks in columns: C = op(A) op(B) row by row is the
// same memory as C^T = op(B)^T op(A)^T column by column, so the operands change places.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "core/base/context.h"
#include "core/ops/cuda/cublas.h"
#include "core/ops/gemm_kernel.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

// C [m, n] (+)= op(A) op(B), summed over k: kNN: A [m, k], B [k, n]; kNT: A [m, k], B [n, k]; kTN:
// A [k, m], B [k, n].
struct ProductShape {
  GemmLayout layout;
  std::int64_t m, n, k;
};

// The types that cuBLAS is told.
struct ProductTypes {
  cudaDataType_t operand;
  cudaDataType_t result;
  cublasComputeType_t compute;
};

// float32 is true float32, without TF32. bfloat16 operands give float32 sums and results.
ProductTypes product_types(DType dtype, Products products);

// The extents as cuBLAS takes them, in its order; throws where one exceeds its 32 bits.
struct ColumnMajor {
  cublasOperation_t first, second;  // of B and of A
  int m, n, k, ld_first, ld_second, ld_result;
};
ColumnMajor column_major(const ProductShape& shape);

// Enqueues one product; operands of types.operand. m, n and k are not 0.
void multiply(cublasHandle_t handle, const ProductTypes& types, const ProductShape& shape,
              const void* a, const void* b, bool accumulate, void* c);

// 16-byte aligned bytes of n bfloat16 elements.
constexpr std::size_t bfloat16_bytes(std::int64_t n) {
  return (static_cast<std::size_t>(n) * 2 + 15) / 16 * 16;
}

// The operands of products that multiply bfloat16, as cuBLAS reads them: a weight's kept copy
// (core/ops/rounded_weights.h), else rounded into the stream's scratch (6 bytes moved an element).
// Valid until the next op of the stream.
class RoundedOperands {
 public:
  // float32, at most 3.
  RoundedOperands(const Context& ctx, std::initializer_list<TensorView> operands);
  cublasHandle_t handle() const { return handle_; }
  const std::uint16_t* operator[](std::size_t i) const { return data_[i]; }

 private:
  static constexpr std::size_t kMost = 3;
  std::size_t count_;
  cublasHandle_t handle_ = nullptr;
  std::array<const std::uint16_t*, kMost> data_{};
};

// Enqueues zeros over `bytes` of device memory.
void zero_bytes(const Context& ctx, void* data, std::size_t bytes);

}  // namespace witan::ops::cuda
