// Products of operands rounded to bfloat16, by every kernel that can compute them here, against the
// float64 product of the rounded operands; and what must not change a result's bits.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/ops/grouped_gemm.h"
#include "core/ops/rounded_weights.h"
#include "tests/ops/gemm_case.h"
#include "tests/support/bf16_kernels.h"
#include "tests/support/float64_gemm.h"
#include "tests/support/threads.h"

namespace witan {
namespace {

using ops::Accumulate;
using ops::GemmKernel;
using ops::GemmLayout;
using test::kBf16;
using test::kLayouts;
using test::rounded;
using test::stored;

void check(GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k) {
  const auto a = test::random_values<float>(m * k, 1);
  const auto b = test::random_values<float>(k * n, 2);
  const auto before = test::random_values<float>(m * n, 3);
  const test::Product expected(layout, m, n, k, rounded(a).data(), rounded(b).data());
  for (const test::Bf16Kernel& kernel : test::bf16_kernels()) {
    SCOPED_TRACE(name_of(kernel));
    const test::ScopedBf16 forced(kernel);
    std::vector<float> c(before.size(), std::numeric_limits<float>::quiet_NaN());
    test::product(kBf16, layout, m, n, k, a, b, c, Accumulate::kNo);
    ASSERT_NO_FATAL_FAILURE(expected.expect_near(c.data(), static_cast<const float*>(nullptr)));
    c = before;
    test::product(kBf16, layout, m, n, k, a, b, c, Accumulate::kYes);
    ASSERT_NO_FATAL_FAILURE(expected.expect_near(c.data(), before.data()));
  }
}

TEST(GemmBf16, OddShapes) {
  for (GemmLayout layout : kLayouts) {
    SCOPED_TRACE(static_cast<int>(layout));
    for (std::int64_t m : {0, 1, 5, 16, 33, 130}) {
      for (std::int64_t n : {0, 1, 15, 32, 33, 130}) {
        for (std::int64_t k : {0, 1, 2, 17, 32, 63, 130}) {
          ASSERT_NO_FATAL_FAILURE(check(layout, m, n, k));
        }
      }
    }
  }
}

// Several blocks of every cache blocking in each direction.
TEST(GemmBf16, SeveralBlocks) {
  for (GemmLayout layout : kLayouts) {
    SCOPED_TRACE(static_cast<int>(layout));
    ASSERT_NO_FATAL_FAILURE(check(layout, 201, 45, 1070));
    ASSERT_NO_FATAL_FAILURE(check(layout, 3, 1100, 530));
    ASSERT_NO_FATAL_FAILURE(check(layout, 1050, 300, 35));
    ASSERT_NO_FATAL_FAILURE(check(layout, 190, 1070, 20));
  }
}

TEST(GemmBf16, BitsDependOnNeitherThreadsNorNeighbours) {
  constexpr std::int64_t m = 150;
  constexpr std::int64_t n = 90;
  constexpr std::int64_t k = 600;
  const auto a = test::random_values<float>(m * k, 1);
  const auto b = test::random_values<float>(k * n, 2);
  for (const test::Bf16Kernel& kernel : test::bf16_kernels()) {
    SCOPED_TRACE(name_of(kernel));
    const test::ScopedBf16 forced(kernel);
    std::vector<float> whole(m * n);
    test::product(kBf16, GemmLayout::kNT, m, n, k, a, b, whole, Accumulate::kNo);
    for (const int threads : {1, 3}) {
      const test::ScopedThreads scoped(threads);
      std::vector<float> c(m * n);
      test::product(kBf16, GemmLayout::kNT, m, n, k, a, b, c, Accumulate::kNo);
      EXPECT_EQ(std::memcmp(c.data(), whole.data(), c.size() * sizeof(float)), 0);
    }
    std::vector<float> row(n);  // the last row alone
    test::product(kBf16, GemmLayout::kNT, 1, n, k, {a.end() - k, a.end()}, b, row, Accumulate::kNo);
    EXPECT_EQ(std::memcmp(row.data(), &whole[(m - 1) * n], n * sizeof(float)), 0);
  }
}

TEST(GemmBf16, GroupedProductsRoundToo) {
  const std::vector<std::int64_t> offsets = {0, 3, 3, 40};
  constexpr std::int64_t n = 21;
  constexpr std::int64_t k = 50;
  const std::int64_t rows = offsets.back();
  const auto x = test::random_values<float>(rows * k, 1);
  const auto w = test::random_values<float>(3 * n * k, 2);
  for (const test::Bf16Kernel& kernel : test::bf16_kernels()) {
    SCOPED_TRACE(name_of(kernel));
    const test::ScopedBf16 forced(kernel);
    std::vector<float> y(static_cast<std::size_t>(rows * n));
    ops::grouped_gemm_nt(kBf16, view_of(x.data(), {rows, k}), offsets, view_of(w.data(), {3, n, k}),
                         view_of(y.data(), {rows, n}));
    for (std::size_t g = 0; g < 3; ++g) {
      const std::int64_t first = offsets[g];
      test::Product(GemmLayout::kNT, offsets[g + 1] - first, n, k, rounded(x).data() + first * k,
                    rounded(w).data() + static_cast<std::int64_t>(g) * n * k)
          .expect_near(y.data() + first * n, static_cast<const float*>(nullptr));
    }
  }
}

void multiply(GemmLayout layout, const TensorView& a, const TensorView& b, const TensorView& c,
              Accumulate accumulate) {
  switch (layout) {
    case GemmLayout::kNN: return ops::gemm_nn(kBf16, a, b, c, accumulate);
    case GemmLayout::kNT: return ops::gemm_nt(kBf16, a, b, c, accumulate);
    case GemmLayout::kTN: return ops::gemm_tn(kBf16, a, b, c, accumulate);
  }
}

void check_stored(GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k) {
  const auto a = test::random_values<float>(m * k, 1);
  const auto b = test::random_values<float>(k * n, 2);
  const auto before = test::random_values<float>(m * n, 3);
  const std::vector<Bfloat16> stored_a = stored(a);
  const std::vector<Bfloat16> stored_b = stored(b);
  const Shape a_shape = layout == GemmLayout::kTN ? Shape{k, m} : Shape{m, k};
  const Shape b_shape = layout == GemmLayout::kNT ? Shape{n, k} : Shape{k, n};
  const TensorView left[] = {view_of(a.data(), a_shape), view_of(stored_a.data(), a_shape)};
  const TensorView right[] = {view_of(b.data(), b_shape), view_of(stored_b.data(), b_shape)};
  for (const test::Bf16Kernel& kernel : test::bf16_kernels()) {
    SCOPED_TRACE(name_of(kernel));
    const test::ScopedBf16 forced(kernel);
    for (const Accumulate accumulate : {Accumulate::kNo, Accumulate::kYes}) {
      std::vector<float> expected = before;
      multiply(layout, left[0], right[0], view_of(expected.data(), {m, n}), accumulate);
      for (const auto& [x, y] : {std::pair{1, 0}, std::pair{0, 1}, std::pair{1, 1}}) {
        std::vector<float> c = before;
        multiply(layout, left[x], right[y], view_of(c.data(), {m, n}), accumulate);
        ASSERT_EQ(c, expected) << x << y << ", " << m << " x " << n << " x " << k;
      }
    }
  }
}

TEST(GemmBf16, OperandsStoredInBfloat16GiveTheSameBits) {
  for (GemmLayout layout : kLayouts) {
    SCOPED_TRACE(static_cast<int>(layout));
    for (std::int64_t m : {1, 3, 33, 130}) {
      for (std::int64_t n : {1, 33, 130}) {
        for (std::int64_t k : {0, 17, 32, 130}) {
          ASSERT_NO_FATAL_FAILURE(check_stored(layout, m, n, k));
        }
      }
    }
    ASSERT_NO_FATAL_FAILURE(check_stored(layout, 201, 45, 600));
    ASSERT_NO_FATAL_FAILURE(check_stored(layout, 3, 1100, 280));
  }
}

TEST(GemmBf16, OperandsStoredInBfloat16InGroups) {
  const std::vector<std::int64_t> offsets = {0, 3, 3, 40};
  constexpr std::int64_t n = 21;
  constexpr std::int64_t k = 50;
  const std::int64_t rows = offsets.back();
  const auto x = test::random_values<float>(rows * k, 1);
  const auto dy = test::random_values<float>(rows * n, 2);
  const auto w = test::random_values<float>(3 * n * k, 3);
  const std::vector<Bfloat16> stored_x = stored(x);
  const std::vector<Bfloat16> stored_dy = stored(dy);
  const auto products = [&](const TensorView& x_view, const TensorView& dy_view) {
    std::vector<float> all(static_cast<std::size_t>(rows * n + rows * k + 3 * n * k));
    float* to = all.data();
    const TensorView weights = view_of(w.data(), {3, n, k});
    ops::grouped_gemm_nt(kBf16, x_view, offsets, weights, view_of(to, {rows, n}));
    to += rows * n;
    ops::grouped_gemm_nn(kBf16, dy_view, offsets, weights, view_of(to, {rows, k}));
    ops::grouped_gemm_tn(kBf16, dy_view, offsets, x_view, view_of(to + rows * k, {3, n, k}));
    return all;
  };
  for (const test::Bf16Kernel& kernel : test::bf16_kernels()) {
    SCOPED_TRACE(name_of(kernel));
    const test::ScopedBf16 forced(kernel);
    EXPECT_EQ(products(view_of(stored_x.data(), {rows, k}), view_of(stored_dy.data(), {rows, n})),
              products(view_of(x.data(), {rows, k}), view_of(dy.data(), {rows, n})));
  }
}

TEST(GemmBf16, CopiesOfWeightsGiveTheSameBits) {
  constexpr std::int64_t m = 7;
  constexpr std::int64_t n = 40;
  constexpr std::int64_t k = 48;
  const auto x = test::random_values<float>(m * k, 1);
  auto w = test::random_values<float>(n * k, 2);
  const TensorView weights = view_of(w.data(), {n, k});
  const auto product = [&] {
    std::vector<float> y(static_cast<std::size_t>(m * n));
    ops::gemm_nt(kBf16, view_of(x.data(), {m, k}), weights, view_of(y.data(), {m, n}));
    return y;
  };
  const std::vector<float> expected = product();
  ops::RoundedWeights copies(weights.reshape({n * k}), {{0, n * k}});
  copies.refresh(kBf16);
  EXPECT_EQ(product(), expected);
  w[3] += 1.0F;
  EXPECT_EQ(product(), expected) << "not the copy was read";
  copies.invalidate();
  const std::vector<float> changed = product();
  EXPECT_NE(changed, expected);
  copies.refresh(kBf16);
  EXPECT_EQ(product(), changed);
}

TEST(GemmBf16, RefusesBfloat16WhereItIsNotHowOperandsAreStored) {
  const std::vector<Bfloat16> x(6);
  const std::vector<float> w(6);
  std::vector<float> y(4);
  const auto multiply_in = [&](const Context& ctx) {
    ops::gemm_nt(ctx, view_of(x.data(), {2, 3}), view_of(w.data(), {2, 3}),
                 view_of(y.data(), {2, 2}));
  };
  multiply_in(kBf16);
  EXPECT_THROW(multiply_in({}), Error);
}

TEST(GemmBf16, WhatIsNotFiniteStaysSo) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const float odd_nan = std::bit_cast<float>(0x7FFFFFFFU);  // rounding as an integer would wrap
  const std::vector<float> ones(40, 1.0F);
  for (const test::Bf16Kernel& kernel : test::bf16_kernels()) {
    SCOPED_TRACE(name_of(kernel));
    const test::ScopedBf16 forced(kernel);
    for (const float value : {kInfinity, -kInfinity, kNan, odd_nan}) {
      std::vector<float> a(40, 1.0F);
      a[7] = value;
      std::vector<float> c(1);
      test::product(kBf16, GemmLayout::kNT, 1, 1, 40, a, ones, c, Accumulate::kNo);
      EXPECT_EQ(std::isnan(c[0]), std::isnan(value));
      EXPECT_EQ(c[0] == value, !std::isnan(value));
    }
  }
}

TEST(GemmBf16, DoubleIsNotRounded) {
  std::vector<double> c(1);
  test::product<double>(kBf16, GemmLayout::kNT, 1, 1, 1, {1.0 + 0x1p-30}, {1.0}, c,
                        Accumulate::kNo);
  EXPECT_EQ(c[0], 1.0 + 0x1p-30);
}

}  // namespace
}  // namespace witan
