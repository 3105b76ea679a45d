// Every GEMM kernel on every CPU level, against float64, over shapes with tails in all directions.
#include "core/ops/gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "core/ops/gemm_kernel.h"
#include "core/tensor/allocator.h"
#include "core/tensor/tensor.h"
#include "tests/ops/gemm_case.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/float64_gemm.h"
#include "tests/support/threads.h"

namespace witan {
namespace {

using ops::Accumulate;
using ops::GemmChoice;
using ops::GemmLayout;
using test::kLayouts;

// A kernel that can be forced, and a level to force it at.
struct Forced {
  GemmChoice choice;
  CpuIsa isa;
};

// Every kernel that can run here: own on each level, oneDNN, and what the table picks.
template <class T>
std::vector<Forced> all_kernels() {
  std::vector<Forced> kernels;
  for (CpuIsa isa : test::executable_isas()) kernels.push_back({GemmChoice::kOwn, isa});
  kernels.push_back({GemmChoice::kAuto, best_cpu_isa()});
  if (std::is_same_v<T, float>) kernels.push_back({GemmChoice::kOneDnn, best_cpu_isa()});
  return kernels;
}

template <class T>
void check(GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k) {
  const auto a = test::random_values<T>(m * k, 1);
  const auto b = test::random_values<T>(k * n, 2);
  const auto before = test::random_values<T>(m * n, 3);
  const test::Product expected(layout, m, n, k, a.data(), b.data());
  for (const Forced& kernel : all_kernels<T>()) {
    SCOPED_TRACE(std::string("kernel ") + std::to_string(static_cast<int>(kernel.choice)) + " at " +
                 name_of(kernel.isa));
    const test::ScopedGemm choice(kernel.choice);
    const test::ScopedIsa level(kernel.isa);
    std::vector<T> c(before.size(), std::numeric_limits<T>::quiet_NaN());
    test::product({}, layout, m, n, k, a, b, c, Accumulate::kNo);
    ASSERT_NO_FATAL_FAILURE(expected.expect_near(c.data(), static_cast<const T*>(nullptr)));
    c = before;
    test::product({}, layout, m, n, k, a, b, c, Accumulate::kYes);
    ASSERT_NO_FATAL_FAILURE(expected.expect_near(c.data(), before.data()));
  }
}

template <class T>
class GemmOf : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(GemmOf, Types);

TYPED_TEST(GemmOf, OddShapes) {
  using T = TypeParam;
  for (GemmLayout layout : kLayouts) {
    SCOPED_TRACE(static_cast<int>(layout));
    for (std::int64_t m : {0, 1, 3, 14, 17, 33, 130}) {
      for (std::int64_t n : {0, 1, 3, 16, 17, 33, 130}) {
        for (std::int64_t k : {0, 1, 3, 17, 33, 130}) {
          ASSERT_NO_FATAL_FAILURE(check<T>(layout, m, n, k));
        }
      }
    }
  }
}

// Several blocks of the cache blocking in each direction.
TYPED_TEST(GemmOf, SeveralBlocks) {
  using T = TypeParam;
  for (GemmLayout layout : kLayouts) {
    SCOPED_TRACE(static_cast<int>(layout));
    ASSERT_NO_FATAL_FAILURE(check<T>(layout, 201, 45, 790));
    ASSERT_NO_FATAL_FAILURE(check<T>(layout, 3, 1100, 500));
    ASSERT_NO_FATAL_FAILURE(check<T>(layout, 5, 1100, 500));
    ASSERT_NO_FATAL_FAILURE(check<T>(layout, 47, 333, 790));
    ASSERT_NO_FATAL_FAILURE(check<T>(layout, 61, 100, 520));
    ASSERT_NO_FATAL_FAILURE(check<T>(layout, 190, 1070, 20));
  }
}

// Every number of rows that a register tile can have, at every width.
TYPED_TEST(GemmOf, EveryTileSize) {
  using T = TypeParam;
  for (GemmLayout layout : kLayouts) {
    SCOPED_TRACE(static_cast<int>(layout));
    for (std::int64_t m = 1; m <= 30; ++m) ASSERT_NO_FATAL_FAILURE(check<T>(layout, m, 40, 9));
    for (std::int64_t n = 1; n <= 70; ++n) ASSERT_NO_FATAL_FAILURE(check<T>(layout, 5, n, 9));
    for (std::int64_t k = 1; k <= 40; ++k) ASSERT_NO_FATAL_FAILURE(check<T>(layout, 3, 33, k));
  }
}

template <class T>
std::vector<T> result(GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k) {
  const auto a = test::random_values<T>(m * k, 1);
  const auto b = test::random_values<T>(k * n, 2);
  std::vector<T> c(static_cast<std::size_t>(m * n));
  test::product({}, layout, m, n, k, a, b, c, Accumulate::kNo);
  return c;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// A large gradient that is overwritten goes past the cache where it lies at whole vectors.
TYPED_TEST(GemmOf, SameBitsWhereverALargeGradientLies) {
  using T = TypeParam;
  const test::ScopedGemm own(GemmChoice::kOwn);
  const test::ScopedThreads one(1);  // a part for another thread may be too small
  const auto width = static_cast<std::int64_t>(64 / sizeof(T));
  for (const std::int64_t k : {1, 33, 256, 257}) {
    for (const std::int64_t n : {22 * width, 9 * width, 300 * width / 16}) {  // whole tiles or not
      const std::int64_t m = 601;
      const auto a = test::random_values<T>(k * m, 1);
      const auto b = test::random_values<T>(k * n, 2);
      const Tensor memory({m * n + 2 * width}, dtype_of<T>::value);
      const auto gradient = [&](std::int64_t first) {
        T* c = memory.view().template as<T>();
        std::fill_n(c, m * n + 2 * width, T{7});
        const TensorView out = view_of(c + first, {m, n});
        ops::gemm_tn({}, view_of(a.data(), {k, m}), view_of(b.data(), {k, n}), out,
                     Accumulate::kNo);
        EXPECT_EQ(std::count(c, c + first, T{7}), first);
        EXPECT_EQ(std::count(c + first + m * n, c + m * n + 2 * width, T{7}), 2 * width - first);
        return std::vector<T>(c + first, c + first + m * n);
      };
      for (CpuIsa isa : test::executable_isas()) {
        const test::ScopedIsa level(isa);
        EXPECT_TRUE(same_bits(gradient(width), gradient(1)))
            << name_of(isa) << ", " << k << " " << n;
      }
    }
  }
}

TEST(Gemm, OwnKernelHasTheSameBitsAtAnyNumberOfThreads) {
  const test::ScopedGemm own(GemmChoice::kOwn);
  for (CpuIsa isa : test::executable_isas()) {
    const test::ScopedIsa level(isa);
    for (GemmLayout layout : kLayouts) {
      const test::ScopedThreads one(1);
      const auto expected = result<float>(layout, 133, 215, 700);
      const auto expected64 = result<double>(layout, 133, 215, 700);
      for (int threads : {2, 3, 4, 7}) {
        const test::ScopedThreads several(threads);
        EXPECT_TRUE(same_bits(result<float>(layout, 133, 215, 700), expected)) << threads;
        EXPECT_TRUE(same_bits(result<double>(layout, 133, 215, 700), expected64)) << threads;
      }
    }
  }
}

TEST(Gemm, OwnKernelHasTheSameBitsOnLevelsWithFusedMultiplyAdd) {
  if (best_cpu_isa() < CpuIsa::kAvx512) GTEST_SKIP() << "this CPU has one such level at most";
  const test::ScopedGemm own(GemmChoice::kOwn);
  for (GemmLayout layout : kLayouts) {
    std::vector<float> expected;
    {
      const test::ScopedIsa level(CpuIsa::kAvx512);
      expected = result<float>(layout, 61, 83, 700);
    }
    const test::ScopedIsa level(CpuIsa::kAvx2);
    EXPECT_TRUE(same_bits(result<float>(layout, 61, 83, 700), expected));
  }
}

// A row's bits do not depend on how many rows come with it: what a token computes does not depend
// on where the exchange put it.
TEST(Gemm, OwnKernelRowsDoNotDependOnTheNumberOfRows) {
  const test::ScopedGemm own(GemmChoice::kOwn);
  const std::int64_t m = 300, n = 75, k = 600;
  const auto x = test::random_values<float>(m * k, 1);
  const auto w = test::random_values<float>(n * k, 2);
  std::vector<float> all(m * n);
  test::product({}, GemmLayout::kNT, m, n, k, x, w, all, Accumulate::kNo);
  for (std::int64_t rows : {1, 2, 13, 29, 200}) {
    for (std::int64_t first : {0, 5, 100}) {
      const std::vector<float> part_x(x.begin() + first * k, x.begin() + (first + rows) * k);
      std::vector<float> part(static_cast<std::size_t>(rows * n));
      test::product({}, GemmLayout::kNT, rows, n, k, part_x, w, part, Accumulate::kNo);
      const std::vector<float> expected(all.begin() + first * n, all.begin() + (first + rows) * n);
      EXPECT_TRUE(same_bits(part, expected)) << rows << " rows from " << first;
    }
  }
}

TEST(Gemm, SameBitsRunToRun) {
  for (GemmChoice choice : {GemmChoice::kOwn, GemmChoice::kOneDnn}) {
    const test::ScopedGemm kernel(choice);
    for (GemmLayout layout : kLayouts) {
      const auto first = result<float>(layout, 70, 40, 3000);
      for (int run = 0; run < 3; ++run) {
        EXPECT_TRUE(same_bits(result<float>(layout, 70, 40, 3000), first));
      }
    }
  }
}

TEST(Gemm, AllocatesNothingOnceWarm) {
  const test::ScopedGemm own(GemmChoice::kOwn);
  result<double>(GemmLayout::kNT, 5, 5, 5);
  result<double>(GemmLayout::kNT, 200, 200, 200);
  const auto before = allocation_stats(DeviceType::kCpu).allocations;
  for (GemmLayout layout : kLayouts) {
    result<double>(layout, 300, 700, 500);
    result<float>(layout, 300, 700, 500);
  }
  EXPECT_EQ(allocation_stats(DeviceType::kCpu).allocations, before);
}

TEST(Gemm, NotANumberPropagates) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (GemmChoice choice : {GemmChoice::kOwn, GemmChoice::kOneDnn}) {
    const test::ScopedGemm kernel(choice);
    auto x = test::random_values<float>(4 * 20, 1);
    const std::vector<float> w(20 * 6, 0.0F);
    std::vector<float> y(4 * 6);
    x[2 * 20 + 7] = nan;
    test::product({}, GemmLayout::kNT, 4, 6, 20, x, w, y, Accumulate::kNo);
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 6; ++j) EXPECT_EQ(y[i * 6 + j] != y[i * 6 + j], i == 2);
    }
  }
}

std::string message_of(const Context& ctx, const TensorView& x, const TensorView& w,
                       const TensorView& y) {
  try {
    ops::gemm_nt(ctx, x, w, y);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Gemm, RefusesWrongOperands) {
  std::vector<float> x(6), w(12), y(8);
  std::vector<double> w64(12);
  const TensorView xv = view_of(x.data(), {2, 3});
  const TensorView wv = view_of(w.data(), {4, 3});
  EXPECT_NE(message_of({}, xv, wv, view_of(y.data(), {4, 2})).find("y: expected shape [2, 4]"),
            std::string::npos);
  EXPECT_NE(message_of({}, xv, view_of(w.data(), {3, 4}), view_of(y.data(), {2, 4}))
                .find("w: expected shape [3, 3], found [3, 4]"),
            std::string::npos);
  EXPECT_NE(message_of({}, xv, view_of(w64.data(), {4, 3}), view_of(y.data(), {2, 4}))
                .find("w: expected float32, found float64"),
            std::string::npos);
  const Context cuda{{DeviceType::kCuda, 0}, {}};
  EXPECT_NE(message_of(cuda, xv, wv, view_of(y.data(), {2, 4})).find("expected on CUDA"),
            std::string::npos);
}

TEST(Gemm, DescribesItsKernels) {
  const std::string text = ops::describe_kernels();
  EXPECT_NE(text.find(name_of(cpu_isa())), std::string::npos) << text;
  EXPECT_NE(text.find("oneDNN "), std::string::npos) << text;
}

}  // namespace
}  // namespace witan
