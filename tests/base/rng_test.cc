// Addressed random numbers: known answers of Philox, moments, independence of the order of calls.
#include "core/base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace witan {
namespace {

// The lines "philox4x32 10" of kat_vectors in Random123 1.14 (Salmon et al., SC 2011).
TEST(Rng, PhiloxGivesTheKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Philox4{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U}));
  constexpr std::uint32_t kOnes = 0xffffffffU;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Philox4{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU}));
  EXPECT_EQ(
      philox4x32({0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}, {0xa4093822U, 0x299f31d0U}),
      (Philox4{0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U}));
}

TEST(Rng, NumbersDependOnEveryPartOfTheirAddress) {
  const std::set<std::uint64_t> bits = {
      Random(1, "init", "a", 0).bits(0), Random(2, "init", "a", 0).bits(0),
      Random(1, "data", "a", 0).bits(0), Random(1, "init", "b", 0).bits(0),
      Random(1, "init", "a", 1).bits(0), Random(1, "init", "a", 0).bits(1)};
  EXPECT_EQ(bits.size(), 6U);
  EXPECT_EQ(Random(1, "init", "a", 0).bits(7), Random(1, "init", "a", 0).bits(7));
}

struct Moments {
  double mean = 0.0, variance = 0.0;
};
Moments moments(const std::vector<double>& x) {
  Moments result;
  for (const double value : x) result.mean += value / static_cast<double>(x.size());
  for (const double value : x) {
    result.variance +=
        (value - result.mean) * (value - result.mean) / static_cast<double>(x.size());
  }
  return result;
}

// Five standard errors of 200,000 numbers.
TEST(Rng, NormalsHaveTheirMomentsAndPairsAreIndependent) {
  constexpr std::uint64_t kCount = 200000;
  const double error = 5.0 / std::sqrt(static_cast<double>(kCount));
  const Random random(3, "test");
  std::vector<double> single, first, second, product;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    single.push_back(random.normal(i));
    const auto [a, b] = random.normal_pair(i);
    first.push_back(a);
    second.push_back(b);
    product.push_back(a * b);
  }
  for (const std::vector<double>* x : {&single, &first, &second}) {
    EXPECT_NEAR(moments(*x).mean, 0.0, error);
    EXPECT_NEAR(moments(*x).variance, 1.0, std::sqrt(2.0) * error);
  }
  EXPECT_NEAR(moments(product).mean, 0.0, error);
}

TEST(Rng, BelowIsEvenAndAPermutationHitsEveryNumberOnce) {
  const Random random(4, "test");
  std::vector<int> hits(7, 0);
  for (std::uint64_t i = 0; i < 70000; ++i) ++hits[random.below(i, 7)];
  for (const int count : hits) EXPECT_NEAR(count, 10000, 500);
  for (const std::uint64_t size : {1U, 2U, 3U, 100U, 1023U}) {
    const Permutation permutation(5, "test", 1, size);
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < size; ++i) seen.insert(permutation(i));
    EXPECT_EQ(seen.size(), size);
    EXPECT_LT(*seen.rbegin(), size);
  }
}

}  // namespace
}  // namespace witan
