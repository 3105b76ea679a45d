#include "core/ops/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/gradient_check.h"
#include "tests/support/op_case.h"

namespace witan {
namespace {

using test::Values;

struct LossCase {
  std::int64_t rows;
  std::int64_t vocab;
  Values logits = test::random_normal(rows * vocab, 1, 3.0);
  std::vector<std::int32_t> targets = test::random_indices(rows, vocab, 2);

  double total() const {
    const Tensor loss = test::unwritten({rows}, DType::kFloat64);
    ops::cross_entropy({}, test::tensor_of(logits, {rows, vocab}, DType::kFloat64),
                       test::tensor_of(targets, {rows}), loss, {});
    return test::project(test::values_of(loss), Values(static_cast<std::size_t>(rows), 1.0));
  }

  test::Outputs run(DType dtype, bool alias = false) const {
    const Tensor z = test::tensor_of(logits, {rows, vocab}, dtype);
    const Tensor loss = test::unwritten({rows}, dtype);
    const Tensor own = test::unwritten({rows, vocab}, dtype);
    const TensorView dz = alias ? z.view() : own.view();
    ops::cross_entropy({}, z, test::tensor_of(targets, {rows}), loss, dz);
    return {{"loss", test::values_of(loss)}, {"dlogits", test::values_of(dz)}};
  }
};

std::vector<LossCase> cases() {
  std::vector<LossCase> all = {{0, 4}, {1, 1}, {5, 3}, {9, 67}};
  all.back().targets[3] = -1;
  all.back().targets[8] = -1;
  return all;
}

TEST(CrossEntropy, GradientMatchesCentralDifferences) {
  for (LossCase c : cases()) {
    const Values gradient = c.run(DType::kFloat64)[1].values;
    test::expect_gradient("dlogits", c.logits, gradient, [&] { return c.total(); });
  }
}

TEST(CrossEntropy, EveryLevelMatchesFloat64) {
  std::vector<LossCase> all = cases();
  all.push_back({65, 9001});
  for (const LossCase& c : all) {
    test::check_op([&](DType dtype) { return c.run(dtype); }, test::kFloat32RowTolerance);
    EXPECT_EQ(c.run(DType::kFloat32, true)[1].values, c.run(DType::kFloat32)[1].values);
  }
}

TEST(CrossEntropy, UncountedRowsAreZero) {
  LossCase c = {3, 33};
  c.targets = {4, -1, 32};
  const test::Outputs found = c.run(DType::kFloat32);
  EXPECT_EQ(found[0].values[1], 0.0);
  for (std::size_t i = 33; i < 66; ++i) EXPECT_EQ(found[1].values[i], 0.0);
  EXPECT_GT(found[0].values[0], 0.0);
}

TEST(CrossEntropy, LargeLogitsDoNotOverflow) {
  LossCase c = {2, 5};
  c.logits = {1e4, 0, 0, 0, -1e4, -3e4, -1e4, -1e4, -3e4, -3e4};
  c.targets = {0, 0};
  for (CpuIsa isa : test::executable_isas()) {
    const test::ScopedIsa level(isa);
    const test::Outputs found = c.run(DType::kFloat32);
    EXPECT_EQ(found[0].values[0], 0.0);
    EXPECT_NEAR(found[0].values[1], 2e4 + std::log(2.0), 2e-3);
    EXPECT_NEAR(found[1].values[6], 0.5, 1e-6);
  }
}

// A diverged model must be seen, not averaged away.
TEST(CrossEntropy, NanReachesTheLoss) {
  for (CpuIsa isa : test::executable_isas()) {
    const test::ScopedIsa level(isa);
    for (std::size_t at : {0, 20, 36}) {
      LossCase c = {1, 37};
      c.logits[at] = std::numeric_limits<double>::quiet_NaN();
      EXPECT_TRUE(std::isnan(c.run(DType::kFloat32)[0].values[0])) << at;
    }
  }
}

TEST(CrossEntropy, RefusesATargetOutsideTheVocabulary) {
  for (std::int32_t wrong : {7, -2}) {
    LossCase c = {3, 7};
    c.targets[1] = wrong;
    try {
      c.run(DType::kFloat32);
      FAIL() << "accepted target " << wrong;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("targets[1]"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace witan
