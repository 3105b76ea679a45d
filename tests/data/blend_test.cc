#include "launch/data/blend.h"

#include <cmath>

#include "tests/data/data_test_support.h"

namespace witan {
namespace {

std::vector<std::string> names(std::size_t count) {
  std::vector<std::string> result;
  for (std::size_t d = 0; d < count; ++d) result.push_back(detail::concat("d", d));
  return result;
}

// Over every stretch from 0, each dataset is at most one cycle's rounding away from its share, and
// its indices count up by one.
void check(const std::vector<double>& weights, std::int64_t samples, double tolerance) {
  const Blend blend(names(weights.size()), weights);
  double sum = 0;
  for (const double weight : weights) sum += weight;
  std::vector<std::int64_t> drawn(weights.size(), 0);
  for (std::int64_t n = 0; n < samples; ++n) {
    const auto draw = blend(n);
    auto& count = drawn[static_cast<std::size_t>(draw.dataset)];
    ASSERT_EQ(draw.index, count) << "sample " << n;
    ++count;
    for (std::size_t d = 0; d < weights.size(); ++d) {
      const double expected = static_cast<double>(n + 1) * weights[d] / sum;
      ASSERT_LE(std::abs(static_cast<double>(drawn[d]) - expected),
                static_cast<double>(weights.size()) + tolerance * expected)
          << "dataset " << d << " after sample " << n;
    }
  }
}

TEST(BlendTest, ProportionsHoldOverEveryStretch) {
  check({1}, 100, 0);
  check({1, 1}, 100, 0);
  check({0.5, 0.3, 0.2}, 1000, 0);
  check({3, 1}, 1000, 0);
  check({1, 2, 3, 4, 5, 6, 7}, 2000, 0);
  check({std::sqrt(2.0), 1, std::acos(-1.0)}, 20000, 1.0 / 256);
  check({1, 0.001}, 20000, 0);
  check({1000, 0.37}, 300000, 1.0 / 256);
}

TEST(BlendTest, ExactCyclesAreShort) {
  EXPECT_EQ(Blend(names(1), {5}).cycle(), 1);
  EXPECT_EQ(Blend(names(3), {0.5, 0.3, 0.2}).cycle(), 10);
  EXPECT_EQ(Blend(names(2), {2, 1}).cycle(), 3);
}

TEST(BlendTest, AWeightTooSmallToEverBeDrawnIsRefused) {
  const std::string message = test::user_error([] { Blend(names(2), {1, 1e-9}); });
  EXPECT_CONTAINS(message, "data.train[1].weight");
  EXPECT_CONTAINS(message, "d1");
}

}  // namespace
}  // namespace witan
