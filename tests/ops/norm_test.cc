#include "core/ops/norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/elementwise.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_case.h"

namespace witan {
namespace {

using test::Values;

constexpr double kEps = 1e-5;

// Either norm: RMSNorm has no bias and no mean.
struct NormCase {
  bool layer;
  std::int64_t rows;
  std::int64_t d;
  ops::Accumulate accumulate = ops::Accumulate::kNo;

  Values x = test::random_normal(rows * d, 1);
  Values w = test::random_normal(d, 2);
  Values b = test::random_normal(d, 3);
  Values projection = test::random_normal(rows * d, 4);
  Values dx_before = test::random_normal(rows * d, 5);
  Values dw_before = test::random_normal(d, 6);

  Values forward() const {
    const Tensor y = test::unwritten({rows, d}, DType::kFloat64);
    run_forward(y, test::unwritten({rows}, DType::kFloat64),
                test::unwritten({rows}, DType::kFloat64));
    return test::values_of(y);
  }

  void run_forward(const Tensor& y, const Tensor& mean, const Tensor& rstd) const {
    const DType dtype = y.view().dtype;
    const Tensor input = test::tensor_of(x, {rows, d}, dtype);
    const Tensor weight = test::tensor_of(w, {d}, dtype);
    if (layer) {
      ops::layernorm({}, input, weight, test::tensor_of(b, {d}, dtype), kEps, y, mean, rstd);
    } else {
      ops::rmsnorm({}, input, weight, kEps, y, rstd);
    }
  }

  test::Outputs run(DType dtype) const {
    const Tensor y = test::unwritten({rows, d}, dtype);
    const Tensor mean = test::unwritten({rows}, dtype);
    const Tensor rstd = test::unwritten({rows}, dtype);
    run_forward(y, mean, rstd);
    const Tensor dy = test::tensor_of(projection, {rows, d}, dtype);
    const Tensor input = test::tensor_of(x, {rows, d}, dtype);
    const Tensor weight = test::tensor_of(w, {d}, dtype);
    const bool add = accumulate == ops::Accumulate::kYes;
    const Tensor dx =
        add ? test::tensor_of(dx_before, {rows, d}, dtype) : test::unwritten({rows, d}, dtype);
    const Tensor dw = test::tensor_of(dw_before, {d}, dtype);
    const Tensor db = test::tensor_of(dw_before, {d}, dtype);
    test::Outputs outputs = {{"y", test::values_of(y)}, {"rstd", test::values_of(rstd)}};
    if (layer) {
      ops::layernorm_backward({}, dy, input, weight, mean, rstd, dx, accumulate, dw, db);
      outputs.push_back({"mean", test::values_of(mean)});
      outputs.push_back({"db", test::values_of(db)});
    } else {
      ops::rmsnorm_backward({}, dy, input, weight, rstd, dx, accumulate, dw);
    }
    outputs.push_back({"dx", test::values_of(dx)});
    outputs.push_back({"dw", test::values_of(dw)});
    return outputs;
  }
};

Values minus(Values a, const Values& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

std::vector<NormCase> cases() {
  std::vector<NormCase> all;
  for (bool layer : {false, true}) {
    for (ops::Accumulate add : {ops::Accumulate::kNo, ops::Accumulate::kYes}) {
      all.push_back({layer, 0, 6, add});
      all.push_back({layer, 1, 3, add});
      all.push_back({layer, 7, 19, add});
      all.push_back({layer, 40, 16, add});
    }
  }
  return all;
}

TEST(Norm, BackwardMatchesCentralDifferences) {
  for (NormCase c : cases()) {
    const test::Outputs outputs = c.run(DType::kFloat64);
    const auto loss = [&] { return test::project(c.forward(), c.projection); };
    Values dx = outputs[outputs.size() - 2].values;
    if (c.accumulate == ops::Accumulate::kYes) dx = minus(dx, c.dx_before);
    test::expect_gradient("dx", c.x, dx, loss);
    test::expect_gradient("dw", c.w, minus(outputs.back().values, c.dw_before), loss);
    if (c.layer) test::expect_gradient("db", c.b, minus(outputs[3].values, c.dw_before), loss);
  }
}

TEST(Norm, EveryLevelMatchesFloat64) {
  std::vector<NormCase> all = cases();
  all.push_back({false, 301, 129});
  all.push_back({true, 301, 129, ops::Accumulate::kYes});
  all.push_back({false, 2500, 33});
  for (const NormCase& c : all) {
    test::check_op([&](DType dtype) { return c.run(dtype); }, test::kFloat32RowTolerance);
  }
}

TEST(Norm, ASumAndItsNormInOnePassHaveTheSameBits) {
  for (const std::int64_t d : {1, 33, 1024, 5000}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      const std::int64_t rows = 19;
      const Tensor a = test::tensor_of(test::random_normal(rows * d, 1), {rows, d}, dtype);
      const Tensor b = test::tensor_of(test::random_normal(rows * d, 2), {rows, d}, dtype);
      const Tensor w = test::tensor_of(test::random_normal(d, 3), {d}, dtype);
      const Tensor sum = test::unwritten({rows, d}, dtype);
      const Tensor y[2] = {test::unwritten({rows, d}, dtype), test::unwritten({rows, d}, dtype)};
      const Tensor mean = test::unwritten({rows}, dtype);
      const Tensor rstd = test::unwritten({rows}, dtype);
      ops::add({}, a, b, sum);
      ops::rmsnorm({}, sum, w, kEps, y[0], rstd);
      const Tensor fused = test::unwritten({rows, d}, dtype);
      ops::add_rmsnorm({}, a, b, w, kEps, fused, y[1], rstd);
      EXPECT_EQ(test::values_of(fused), test::values_of(sum));
      EXPECT_EQ(test::values_of(y[1]), test::values_of(y[0]));
      ops::layernorm({}, sum, w, w, kEps, y[0], mean, rstd);
      ops::add_layernorm({}, a, b, w, w, kEps, b, y[1], mean, rstd);  // in place
      EXPECT_EQ(test::values_of(b), test::values_of(sum));
      EXPECT_EQ(test::values_of(y[1]), test::values_of(y[0]));
    }
  }
}

TEST(Norm, MatchesTheDefinition) {
  const NormCase rms = {false, 3, 21};
  const NormCase layer = {true, 3, 21};
  const Values y_rms = rms.forward();
  const Values y_layer = layer.forward();
  for (std::size_t row = 0; row < 3; ++row) {
    double sum = 0.0;
    double squares = 0.0;
    for (std::size_t i = 0; i < 21; ++i) {
      sum += rms.x[row * 21 + i];
      squares += rms.x[row * 21 + i] * rms.x[row * 21 + i];
    }
    const double mean = sum / 21.0;
    const double variance = squares / 21.0 - mean * mean;
    for (std::size_t i = 0; i < 21; ++i) {
      const double x = rms.x[row * 21 + i];
      EXPECT_NEAR(y_rms[row * 21 + i], x / std::sqrt(squares / 21.0 + kEps) * rms.w[i], 1e-12);
      EXPECT_NEAR(y_layer[row * 21 + i],
                  (x - mean) / std::sqrt(variance + kEps) * layer.w[i] + layer.b[i], 1e-12);
    }
  }
}

// A large common offset: the variance must not be computed as a difference of large numbers.
TEST(Norm, LayerNormSurvivesALargeMean) {
  NormCase c = {true, 4, 65};
  for (double& value : c.x) value = static_cast<float>(value + 1000.0);
  const Tensor y = test::unwritten({4, 65}, DType::kFloat32);
  c.run_forward(y, test::unwritten({4}, DType::kFloat32), test::unwritten({4}, DType::kFloat32));
  // The inputs carry a rounding error of 6e-5 of their spread; nothing is added to it.
  test::expect_close("y", test::values_of(y), c.forward(), 1e-4);
}

}  // namespace
}  // namespace witan
