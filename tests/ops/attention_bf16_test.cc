// Attention whose products multiply operands rounded to bfloat16, by every kernel that can compute
// them here, against float64 attention of the rounded operands.
#include <gtest/gtest.h>

#include <bit>

#include "tests/ops/attention_case.h"
#include "tests/support/bf16_kernels.h"
#include "tests/support/threads.h"

namespace witan {
namespace {

using test::AttentionCase;

// Beyond those of the tiles of 64: around tiles of 32 queries and 128 keys, heads that fill no
// tile, and scores so sharp that the shift of the softmax follows them.
std::vector<AttentionCase> cases() {
  std::vector<AttentionCase> all = test::small_cases();
  for (const AttentionCase& c : test::tile_cases()) all.push_back(c);
  all.push_back({1, 96, 2, 2, 48, false});
  all.push_back({1, 129, 4, 1, 64, true, 1.0, 96});
  all.push_back({1, 160, 1, 1, 192, false, 1.0, 128});
  all.push_back({1, 300, 2, 2, 33, false, 2.0, 47});
  return all;
}

AttentionCase rounded(AttentionCase c) {
  for (test::Values* values : {&c.qkv, &c.projection}) {
    for (double& x : *values) x = static_cast<double>(test::rounded(static_cast<float>(x)));
  }
  return c;
}

TEST(AttentionBf16, EveryKernelMatchesFloat64) {
  for (const AttentionCase& exact : cases()) {
    AttentionCase c = rounded(exact);
    const test::Outputs expected = c.run(DType::kFloat64);
    c.products = Products::kBfloat16;
    for (const test::Bf16Kernel& kernel : test::bf16_kernels()) {
      SCOPED_TRACE(test::name_of(kernel));
      const test::ScopedBf16 forced(kernel);
      const test::Outputs found = c.run(DType::kFloat32);
      for (std::size_t i = 0; i < found.size(); ++i) {
        // lse is of unrounded probabilities; in dqkv the rounding of out shows as well.
        const double tolerance = found[i].name == "lse"   ? test::kFloat32AttentionTolerance
                                 : found[i].name == "out" ? test::kBfloat16AttentionTolerance
                                                          : 2 * test::kBfloat16AttentionTolerance;
        test::expect_close(found[i].name, found[i].values, expected[i].values, tolerance);
      }
      for (int threads : {1, 3}) {
        const test::ScopedThreads scope(threads);
        const test::Outputs again = c.run(DType::kFloat32);
        for (std::size_t i = 0; i < found.size(); ++i) {
          ASSERT_TRUE(test::same_bits(again[i].values, found[i].values))
              << found[i].name << " differs at " << threads << " threads";
        }
      }
    }
  }
}

// What is rounded is the same whatever multiplies: kernels differ by far less than by a rounding
// step, but for the few elements where it falls the other way.
TEST(AttentionBf16, KernelsAgreeOnAverage) {
  AttentionCase c = rounded({1, 200, 2, 1, 64, true});
  c.products = Products::kBfloat16;
  const std::vector<test::Bf16Kernel> kernels = test::bf16_kernels();
  test::Outputs first;
  for (const test::Bf16Kernel& kernel : kernels) {
    SCOPED_TRACE(test::name_of(kernel));
    const test::ScopedBf16 forced(kernel);
    const test::Outputs found = c.run(DType::kFloat32);
    if (first.empty()) first = found;
    for (std::size_t i = 0; i < found.size(); ++i) {
      double difference = 0.0;
      double size = 0.0;
      for (std::size_t j = 0; j < found[i].values.size(); ++j) {
        difference += std::abs(found[i].values[j] - first[i].values[j]);
        size += std::abs(first[i].values[j]);
      }
      EXPECT_LE(difference, 2e-4 * size) << found[i].name;
    }
  }
}

}  // namespace
}  // namespace witan
