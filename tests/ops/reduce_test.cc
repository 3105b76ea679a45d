#include "core/ops/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/cpu_kernels.h"
#include "tests/support/float64_gemm.h"
#include "tests/support/threads.h"
#include "tests/support/tolerance.h"

namespace witan {
namespace {

template <class T>
class Reduce : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Reduce, Types);

TYPED_TEST(Reduce, AgreesWithLongDouble) {
  using T = TypeParam;
  for (CpuIsa isa : test::executable_isas()) {
    SCOPED_TRACE(name_of(isa));
    const test::ScopedIsa level(isa);
    for (std::int64_t size : {0, 1, 3, 31, 33, 8191, 8193, 300'001}) {
      const auto x = test::random_values<T>(size, 1);
      long double sum = 0, squares = 0, magnitude = 0;
      for (T value : x) {
        sum += value;
        magnitude += std::abs(value);
        squares += static_cast<long double>(value) * value;
      }
      const TensorView view = view_of(x.data(), {size});
      EXPECT_NEAR(ops::sum({}, view), static_cast<double>(sum),
                  test::kDoubleSumTolerance * static_cast<double>(magnitude));
      EXPECT_NEAR(ops::sum_of_squares({}, view), static_cast<double>(squares),
                  test::kDoubleSumTolerance * static_cast<double>(squares));
    }
  }
}

TYPED_TEST(Reduce, SameBitsAtAnyNumberOfThreads) {
  using T = TypeParam;
  // More than one round of blocks.
  const auto x = test::random_values<T>(9'000'001, 1);
  const TensorView view = view_of(x.data(), {std::ssize(x)});
  const auto run = [&](int threads) {
    const test::ScopedThreads scope(threads);
    return std::pair(ops::sum({}, view), ops::sum_of_squares({}, view));
  };
  EXPECT_EQ(run(1), run(2));
  EXPECT_EQ(run(1), run(5));
}

TYPED_TEST(Reduce, NotANumberAndInfinityPropagate) {
  using T = TypeParam;
  auto x = test::random_values<T>(1000, 1);
  x[537] = std::numeric_limits<T>::infinity();
  EXPECT_TRUE(std::isinf(ops::sum_of_squares({}, view_of(x.data(), {1000}))));
  x[999] = std::numeric_limits<T>::quiet_NaN();
  EXPECT_TRUE(std::isnan(ops::sum_of_squares({}, view_of(x.data(), {1000}))));
  EXPECT_TRUE(std::isnan(ops::sum({}, view_of(x.data(), {1000}))));
}

}  // namespace
}  // namespace witan
