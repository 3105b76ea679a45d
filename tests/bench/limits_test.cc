#include "core/ops/limits.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "core/base/error.h"
#include "core/ops/parallel.h"

namespace witan {
namespace {

class LimitsAtEveryLevel : public testing::TestWithParam<CpuIsa> {
 protected:
  void SetUp() override {
    if (GetParam() > best_cpu_isa()) GTEST_SKIP() << "this CPU lacks " << name_of(GetParam());
    force_cpu_isa(GetParam());
  }
  void TearDown() override { force_cpu_isa(best_cpu_isa()); }
};

TEST_P(LimitsAtEveryLevel, MultiplyAddsAreCounted) {
  const double once = ops::run_multiply_adds(100);
  EXPECT_GT(once, 0.0);
  EXPECT_DOUBLE_EQ(ops::run_multiply_adds(300), 3.0 * once);
  // 2 operations, lanes of 128, 256 or 512 bits, 12 chains.
  const double lanes = 4 << static_cast<int>(GetParam());
  EXPECT_DOUBLE_EQ(once, 2.0 * lanes * 12 * 100 * ops::available_threads());
}

TEST_P(LimitsAtEveryLevel, EveryElementIsRead) {
  for (const std::size_t size : {0, 1, 1000, 1024, 5001, 100'000}) {
    std::vector<float> x(size);
    for (std::size_t i = 0; i < size; ++i) x[i] = static_cast<float>(i % 7);
    const double sum = std::accumulate(x.begin(), x.end(), 0.0);
    EXPECT_DOUBLE_EQ(ops::read_memory(x, 1), sum) << size;
    EXPECT_DOUBLE_EQ(ops::read_memory(x, 3), 3.0 * sum) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, LimitsAtEveryLevel,
                         testing::Values(CpuIsa::kBaseline, CpuIsa::kAvx2, CpuIsa::kAvx512),
                         [](const auto& level) { return name_of(level.param); });

TEST(Bf16Limits, RunOnTheUnitsThatThereAre) {
  for (const CpuBf16 unit : {CpuBf16::kNone, CpuBf16::kDot, CpuBf16::kAmx}) {
    if (unit == CpuBf16::kNone || unit > best_cpu_bf16()) {
      EXPECT_THROW(ops::run_bf16_products(unit, 1), Error);
    } else {
      const double once = ops::run_bf16_products(unit, 10);
      EXPECT_GT(once, 0.0);
      EXPECT_DOUBLE_EQ(ops::run_bf16_products(unit, 30), 3.0 * once);
    }
  }
}

}  // namespace
}  // namespace witan
