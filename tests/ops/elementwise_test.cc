#include "core/ops/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/cpu_kernels.h"
#include "tests/support/float64_gemm.h"
#include "tests/support/threads.h"
#include "tests/support/tolerance.h"

namespace witan {
namespace {

// Nothing, less than a vector, a vector and a tail, and enough for several threads.
constexpr std::int64_t kSizes[] = {0, 1, 3, 17, 33, 130, 200'003};

template <class T>
class Elementwise : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Elementwise, Types);

template <class Body>
void on_every_level(const Body& body) {
  for (CpuIsa isa : test::executable_isas()) {
    SCOPED_TRACE(name_of(isa));
    const test::ScopedIsa level(isa);
    body();
  }
}

TYPED_TEST(Elementwise, AddAndScale) {
  using T = TypeParam;
  on_every_level([] {
    for (std::int64_t size : kSizes) {
      const auto a = test::random_values<T>(size, 1);
      const auto b = test::random_values<T>(size, 2);
      std::vector<T> y(a.size());
      ops::add({}, view_of(a.data(), {size}), view_of(b.data(), {size}), view_of(y.data(), {size}));
      for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], a[i] + b[i]) << i;
      ops::add({}, view_of(y.data(), {size}), view_of(b.data(), {size}), view_of(y.data(), {size}));
      for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], a[i] + b[i] + b[i]) << i;
      y = a;
      ops::scale({}, view_of(y.data(), {size}), 0.3);
      for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], a[i] * static_cast<T>(0.3)) << i;
    }
  });
}

TYPED_TEST(Elementwise, AddBias) {
  using T = TypeParam;
  on_every_level([] {
    for (std::int64_t n : {1, 3, 33, 500}) {
      for (std::int64_t rows : {0, 1, 7, 300}) {
        const auto before = test::random_values<T>(rows * n, 1);
        const auto bias = test::random_values<T>(n, 2);
        auto y = before;
        ops::add_bias({}, view_of(y.data(), {rows, n}), view_of(bias.data(), {n}));
        for (std::size_t i = 0; i < y.size(); ++i) {
          ASSERT_EQ(y[i], before[i] + bias[i % static_cast<std::size_t>(n)]) << i;
        }
      }
    }
  });
}

TYPED_TEST(Elementwise, BiasBackward) {
  using T = TypeParam;
  on_every_level([] {
    for (std::int64_t n : {1, 3, 33, 500}) {
      for (std::int64_t rows : {0, 1, 7, 1300}) {
        const auto dy = test::random_values<T>(rows * n, 1);
        const auto before = test::random_values<T>(n, 2);
        auto dbias = before;
        ops::bias_backward({}, view_of(dy.data(), {rows, n}), view_of(dbias.data(), {n}));
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = before[static_cast<std::size_t>(j)];
          double magnitude = std::abs(sum);
          for (std::int64_t row = 0; row < rows; ++row) {
            sum += dy[static_cast<std::size_t>(row * n + j)];
            magnitude += std::abs(dy[static_cast<std::size_t>(row * n + j)]);
          }
          // Sums run in double, so only the last addition is in T.
          ASSERT_NEAR(dbias[static_cast<std::size_t>(j)], sum,
                      2 * test::kElementwiseTolerance<T> * (magnitude + 1.0))
              << j;
        }
      }
    }
  });
}

TYPED_TEST(Elementwise, BiasBackwardHasTheSameBitsAtAnyNumberOfThreads) {
  using T = TypeParam;
  const std::int64_t rows = 1000, n = 333;
  const auto dy = test::random_values<T>(rows * n, 1);
  const auto run = [&](int threads) {
    const test::ScopedThreads scope(threads);
    std::vector<T> dbias(static_cast<std::size_t>(n));
    ops::bias_backward({}, view_of(dy.data(), {rows, n}), view_of(dbias.data(), {n}));
    return dbias;
  };
  EXPECT_EQ(run(1), run(2));
  EXPECT_EQ(run(1), run(7));
}

TEST(ElementwiseOps, FillCopyCast) {
  on_every_level([] {
    for (std::int64_t size : kSizes) {
      std::vector<float> f(static_cast<std::size_t>(size));
      std::vector<double> d(f.size());
      std::vector<std::int32_t> i(f.size());
      std::vector<std::int64_t> l(f.size());
      ops::fill({}, view_of(f.data(), {size}), 1.5);
      ops::fill({}, view_of(d.data(), {size}), -2.5);
      ops::fill({}, view_of(i.data(), {size}), -1);
      ops::fill({}, view_of(l.data(), {size}), 1e12);
      EXPECT_EQ(f, std::vector<float>(f.size(), 1.5F));
      EXPECT_EQ(d, std::vector<double>(f.size(), -2.5));
      EXPECT_EQ(i, std::vector<std::int32_t>(f.size(), -1));
      EXPECT_EQ(l, std::vector<std::int64_t>(f.size(), 1'000'000'000'000));

      const auto source = test::random_values<double>(size, 5);
      ops::cast({}, view_of(source.data(), {size}), view_of(f.data(), {size}));
      for (std::size_t j = 0; j < f.size(); ++j) ASSERT_EQ(f[j], static_cast<float>(source[j]));
      ops::cast({}, view_of(f.data(), {size}), view_of(d.data(), {size}));
      for (std::size_t j = 0; j < f.size(); ++j) ASSERT_EQ(d[j], static_cast<double>(f[j]));
      ops::cast({}, view_of(source.data(), {size}), view_of(d.data(), {size}));
      EXPECT_EQ(d, source);
      std::vector<float> other(f.size());
      ops::copy({}, view_of(f.data(), {size}), view_of(other.data(), {size}));
      EXPECT_EQ(other, f);
    }
  });
}

TEST(ElementwiseOps, ACudaTensorInACpuBuildIsAUserError) {
  const Context cuda{{DeviceType::kCuda, 0}, {}};
  TensorView x{nullptr, {0}, DType::kFloat32, {DeviceType::kCuda, 0}};
  try {
    ops::fill(cuda, x, 0.0);
    FAIL() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("built without CUDA"), std::string::npos);
  }
}

}  // namespace
}  // namespace witan
