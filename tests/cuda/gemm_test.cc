// Products through cuBLAS against the CPU's.
#include "core/ops/gemm.h"

#include <gtest/gtest.h>

#include "core/ops/cuda/grouped_gemm.h"
#include "core/ops/cuda/limits.h"
#include "core/ops/grouped_gemm.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

using ops::Accumulate;

template <class T>
class GemmCuda : public CudaTest {
 protected:
  // Sums over k of products of one size, in any order; bfloat16 operands are rounded alike.
  static constexpr double kTolerance = std::is_same_v<T, float> ? 2e-6 : 1e-14;
  static constexpr DType kType = dtype_of<T>::value;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(GemmCuda, Types);

struct Extents {
  std::int64_t m, n, k;
};
// Single elements, odd extents, extents of 0, and k over several blocks.
constexpr Extents kExtents[] = {{1, 1, 1}, {3, 5, 7}, {16, 8, 32}, {17, 33, 9},
                                {0, 4, 3}, {4, 0, 3}, {4, 3, 0},   {5, 6, 300}};

TYPED_TEST(GemmCuda, AllLayoutsEqualTheCpuTwins) {
  using T = TypeParam;
  for (const Products products : {Products::kFull, Products::kBfloat16}) {
    for (const Accumulate accumulate : {Accumulate::kNo, Accumulate::kYes}) {
      for (const auto& [m, n, k] : kExtents) {
        SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k << ", accumulate "
                                        << (accumulate == Accumulate::kYes) << ", bf16 "
                                        << (products == Products::kBfloat16));
        const auto result = [&](const char* name, const Shape& shape) {
          return accumulate == Accumulate::kYes ? normal<T>(name, shape)
                                                : unwritten(shape, this->kType);
        };
        std::vector<Tensor> tensors;
        tensors.push_back(normal<T>("x", {m, k}));
        tensors.push_back(normal<T>("w", {n, k}));
        tensors.push_back(normal<T>("dy", {m, n}));
        tensors.push_back(result("y", {m, n}));
        tensors.push_back(result("dx", {m, k}));
        tensors.push_back(result("dw", {n, k}));
        this->expect_twins(
            tensors, this->kTolerance,
            [&](const Context& ctx, const std::vector<TensorView>& t) {
              ops::gemm_nt(ctx, t[0], t[1], t[3], accumulate);
              ops::gemm_nn(ctx, t[2], t[1], t[4], accumulate);
              ops::gemm_tn(ctx, t[2], t[0], t[5], accumulate);
            },
            products);
        this->expect_twins(
            tensors, this->kTolerance,
            [&](const Context& ctx, const std::vector<TensorView>& t) {
              ops::gemm_nt(ctx, t[0], t[1], t[3], accumulate);
              ops::gemm_backward(ctx, t[2], t[0], t[1], t[4], t[5], accumulate);
            },
            products);
      }
    }
  }
}

struct GroupedCase {
  std::int64_t n, k;
  std::vector<std::int64_t> rows;  // of each group
};

// Uneven and empty groups, one group, no group with rows, a first row that is not 0, more groups
// than one table of addresses holds.
std::vector<GroupedCase> grouped_cases() {
  std::vector<std::int64_t> many(90, 1);
  many[3] = 0;
  many[80] = 5;
  return {{5, 7, {3, 0, 1, 9}}, {8, 16, {4}}, {4, 3, {0, 0}}, {3, 2, many}, {4, 0, {2, 1}}};
}

TYPED_TEST(GemmCuda, GroupedProductsEqualTheCpuTwins) {
  using T = TypeParam;
  for (const Products products : {Products::kFull, Products::kBfloat16}) {
    for (const Accumulate accumulate : {Accumulate::kNo, Accumulate::kYes}) {
      for (const GroupedCase& c : grouped_cases()) {
        const auto groups = static_cast<std::int64_t>(c.rows.size());
        SCOPED_TRACE(testing::Message() << groups << " groups of " << c.n << " x " << c.k);
        std::vector<std::int64_t> offsets{1};  // row 0 belongs to no group
        for (const std::int64_t rows : c.rows) offsets.push_back(offsets.back() + rows);
        const std::int64_t rows = offsets.back() + 1;  // nor does the last row
        std::vector<Tensor> tensors;
        tensors.push_back(normal<T>("x", {rows, c.k}));
        tensors.push_back(normal<T>("w", {groups, c.n, c.k}));
        tensors.push_back(normal<T>("dy", {rows, c.n}));
        tensors.push_back(normal<T>("y", {rows, c.n}));
        tensors.push_back(normal<T>("dx", {rows, c.k}));
        tensors.push_back(accumulate == Accumulate::kYes
                              ? normal<T>("dw", {groups, c.n, c.k})
                              : unwritten({groups, c.n, c.k}, this->kType));
        this->expect_twins(
            tensors, this->kTolerance,
            [&](const Context& ctx, const std::vector<TensorView>& t) {
              ops::grouped_gemm_nt(ctx, t[0], offsets, t[1], t[3]);
              ops::grouped_gemm_nn(ctx, t[2], offsets, t[1], t[4]);
              ops::grouped_gemm_tn(ctx, t[2], offsets, t[0], t[5], accumulate);
            },
            products);
        this->expect_twins(
            tensors, this->kTolerance,
            [&](const Context& ctx, const std::vector<TensorView>& t) {
              ops::grouped_gemm_backward(ctx, t[2], offsets, t[0], t[1], t[4], t[5], accumulate);
            },
            products);
      }
    }
  }
}

TEST(GroupedKernelTable, OneCallWhereCublasTakesTheTypes) {
  using ops::cuda::choose_grouped_kernel;
  using ops::cuda::GroupedKernel;
  EXPECT_EQ(choose_grouped_kernel(DType::kFloat32, Products::kFull), GroupedKernel::kBatched);
  EXPECT_EQ(choose_grouped_kernel(DType::kFloat32, Products::kBfloat16), GroupedKernel::kLoop);
  EXPECT_EQ(choose_grouped_kernel(DType::kFloat64, Products::kFull), GroupedKernel::kLoop);
  EXPECT_EQ(choose_grouped_kernel(DType::kFloat64, Products::kBfloat16), GroupedKernel::kLoop);
}

TYPED_TEST(GemmCuda, ABareProductIsThatOfTheOp) {
  using T = TypeParam;
  constexpr std::int64_t kSide = 24;
  const Shape square{kSide, kSide};
  for (const Products products : {Products::kFull, Products::kBfloat16}) {
    const DeviceStream stream(kCuda);
    Context ctx = stream.context();
    ctx.products = products;
    const auto tensor = [&] { return Tensor(square, dtype_of<T>::value, kCuda); };
    const Tensor a = on_cuda(ctx, normal_values<T>(square.size(), "a"), square);
    const Tensor b = on_cuda(ctx, normal_values<T>(square.size(), "b"), square);
    const Tensor ready_a = tensor(), ready_b = tensor(), bare = tensor(), expected = tensor();
    ops::cuda::make_operand(ctx, a, ready_a);
    ops::cuda::make_operand(ctx, b, ready_b);
    ops::cuda::bare_product(ctx, kSide, ready_a, ready_b, bare);
    ops::gemm_nt(ctx, a, b, expected);
    EXPECT_EQ(to_host<T>(ctx, bare), to_host<T>(ctx, expected));
    witan::cuda::release_scratch(ctx);
  }
}

}  // namespace
}  // namespace witan::test
