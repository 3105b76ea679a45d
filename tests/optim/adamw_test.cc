// The AdamW update against float64 and against PyTorch.
#include "core/ops/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/threads.h"
#include "tests/support/tolerance.h"

namespace witan {
namespace {

ops::AdamWStep step_of(int step) {  // from 1
  ops::AdamWStep s;
  s.lr = 0.01;
  s.beta1 = 0.9;
  s.beta2 = 0.95;
  s.eps = 1e-8;
  s.weight_decay = 0.1;
  s.bias_correction1 = 1 - std::pow(s.beta1, step);
  s.bias_correction2 = 1 - std::pow(s.beta2, step);
  s.grad_scale = 0.5;
  return s;
}

// The algorithm as it is written in the paper, one element in float64.
struct Element {
  double w, m = 0, v = 0;
  void update(const ops::AdamWStep& s, double dw) {
    const double g = s.grad_scale * dw;
    w -= s.lr * s.weight_decay * w;
    m = s.beta1 * m + (1 - s.beta1) * g;
    v = s.beta2 * v + (1 - s.beta2) * g * g;
    w -= s.lr * (m / s.bias_correction1) / (std::sqrt(v / s.bias_correction2) + s.eps);
  }
};

template <class T>
class AdamW : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(AdamW, Types);

template <class T>
void compare_with_float64(std::int64_t n, int threads) {
  const test::ScopedThreads scoped(threads);
  const Random random(1, "test", "adamw");
  const auto at = [](std::int64_t i) { return static_cast<std::uint64_t>(i); };
  std::vector<Element> expected(n);
  std::vector<T> w(n), dw(n), m(n, T{0}), v(n, T{0});
  for (std::int64_t i = 0; i < n; ++i) {
    w[i] = static_cast<T>(random.normal(at(i)));
    expected[i].w = static_cast<double>(w[i]);
  }
  const auto view = [n](std::vector<T>& data) { return view_of(data.data(), {n}); };
  for (int step = 1; step <= 3; ++step) {
    for (std::int64_t i = 0; i < n; ++i) {
      dw[i] = static_cast<T>(random.normal(at(i + step * n)));
      expected[i].update(step_of(step), static_cast<double>(dw[i]));
    }
    ops::adamw({}, step_of(step), view(w), view(dw), view(m), view(v));
  }
  for (std::int64_t i = 0; i < n; ++i) {
    // About ten roundings a step, relative to the magnitude of what is added.
    const double tolerance = 30 * test::kEpsilon<T>;
    EXPECT_NEAR(w[i], expected[i].w, tolerance * (1 + std::abs(expected[i].w))) << i;
    EXPECT_NEAR(m[i], expected[i].m, tolerance) << i;
    EXPECT_NEAR(v[i], expected[i].v, tolerance) << i;
  }
}

TYPED_TEST(AdamW, AgreesWithFloat64) {
  for (const CpuIsa isa : test::executable_isas()) {
    SCOPED_TRACE(name_of(isa));
    const test::ScopedIsa scoped(isa);
    for (const std::int64_t n : {0, 1, 7, 16, 33, 1000}) compare_with_float64<TypeParam>(n, 1);
    compare_with_float64<TypeParam>(100003, 2);
  }
}

// Source: torch.optim.AdamW of PyTorch 2.13.0 in float64, lr 0.01, betas (0.9, 0.95), eps 1e-8,
// weight_decay 0.1.
TEST(AdamWAgainstTorch, ThreeSteps) {
  const std::vector<std::vector<double>> gradients{
      {0.5, -0.25, 1e-3, 0.0, 3.0}, {-1.0, -0.25, 2e-3, 0.0, 1e-9}, {0.125, 4.0, -1e-3, 0.0, -2.0}};
  const std::vector<std::vector<double>> expected{
      {0.9890000002, -0.48950000039999997, 0.23975009999900002, 1.998, -0.009999999966666666},
      {0.9916447396589594, -0.47901050079959995, 0.22993055133181292, 1.996002,
       -0.01677647740491134},
      {0.992765823931823, -0.484077620864357, 0.22549883706919938, 1.994005998,
       -0.01752939101527384}};
  std::vector<double> w{1.0, -0.5, 0.25, 2.0, 0.0}, m(5, 0.0), v(5, 0.0);
  for (int step = 0; step < 3; ++step) {
    ops::AdamWStep factors = step_of(step + 1);
    factors.grad_scale = 1.0;
    ops::adamw({}, factors, view_of(w.data(), {5}), view_of(gradients[step].data(), {5}),
               view_of(m.data(), {5}), view_of(v.data(), {5}));
    for (int i = 0; i < 5; ++i) EXPECT_NEAR(w[i], expected[step][i], 1e-15) << step << " " << i;
  }
}

TYPED_TEST(AdamW, NaNReachesTheWeightAndNothingElse) {
  std::vector<TypeParam> w(20, 1), dw(20, 1), m(20, 0), v(20, 0);
  dw[3] = std::numeric_limits<TypeParam>::quiet_NaN();
  ops::adamw({}, step_of(1), view_of(w.data(), {20}), view_of(dw.data(), {20}),
             view_of(m.data(), {20}), view_of(v.data(), {20}));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(w[i]), i == 3);
}

TYPED_TEST(AdamW, RefusesOperandsThatDoNotMatch) {
  std::vector<TypeParam> data(8, 0);
  const TensorView eight = view_of(data.data(), {8});
  const TensorView four = view_of(data.data(), {4});
  EXPECT_THROW(ops::adamw({}, step_of(1), eight, four, eight, eight), Error);
  std::vector<int> ints(8, 0);
  EXPECT_THROW(ops::adamw({}, step_of(1), eight, eight, view_of(ints.data(), {8}), eight), Error);
}

}  // namespace
}  // namespace witan
