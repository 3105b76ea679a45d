#include "core/ops/activation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/bfloat16.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_case.h"

namespace witan {
namespace {

using ops::Activation;
using test::Values;

struct ActivationCase {
  Activation kind;
  std::int64_t rows;
  std::int64_t ff;
  bool weighted;
  ops::SwigluOptions options = {};

  Values in = test::random_normal(rows * ops::input_factor(kind) * ff, 1);
  Values weight = test::random_normal(weighted ? rows : 0, 2);
  Values projection = test::random_normal(rows * ff, 3);

  Values forward(DType dtype = DType::kFloat64) const {
    const Tensor x = test::tensor_of(in, {rows, ops::input_factor(kind) * ff}, dtype);
    const Tensor w = weighted ? test::tensor_of(weight, {rows}, dtype) : Tensor();
    const Tensor h = test::unwritten({rows, ff}, dtype);
    ops::activation({}, kind, x, w, h, options);
    return test::values_of(h);
  }

  test::Outputs run(DType dtype, bool alias = false) const {
    const Tensor x = test::tensor_of(in, {rows, ops::input_factor(kind) * ff}, dtype);
    const Tensor w = weighted ? test::tensor_of(weight, {rows}, dtype) : Tensor();
    const Tensor dh = test::tensor_of(projection, {rows, ff}, dtype);
    const Tensor own = test::unwritten({rows, ops::input_factor(kind) * ff}, dtype);
    const Tensor dw = weighted ? test::unwritten({rows}, dtype) : Tensor();
    const TensorView din = alias ? x.view() : own.view();
    ops::activation_backward({}, kind, x, w, dh, din, dw, options);
    test::Outputs outputs = {{"h", forward(dtype)}, {"din", test::values_of(din)}};
    if (weighted) outputs.push_back({"drow_weight", test::values_of(dw)});
    return outputs;
  }
};

std::vector<ActivationCase> cases() {
  std::vector<ActivationCase> all;
  for (Activation kind : {Activation::kSwiglu, Activation::kSilu, Activation::kRelu,
                          Activation::kGelu, Activation::kGeluTanh}) {
    all.push_back({kind, 0, 5, true});
    all.push_back({kind, 1, 1, true});
    all.push_back({kind, 3, 7, false});
    all.push_back({kind, 5, 37, true});
  }
  all.push_back({Activation::kSwiglu, 3, 19, true, {.up_offset = 1.0}});
  all.push_back({Activation::kSwiglu, 4, 21, true, {1.0, 1.702, 0.8}});
  return all;
}

TEST(Activation, BackwardMatchesCentralDifferences) {
  for (ActivationCase c : cases()) {
    const test::Outputs outputs = c.run(DType::kFloat64);
    const auto loss = [&] { return test::project(c.forward(), c.projection); };
    test::expect_gradient("din", c.in, outputs[1].values, loss);
    if (c.weighted) test::expect_gradient("drow_weight", c.weight, outputs[2].values, loss);
  }
}

TEST(Activation, EveryLevelMatchesFloat64) {
  std::vector<ActivationCase> all = cases();
  all.push_back({Activation::kSwiglu, 131, 257, true});
  all.push_back({Activation::kRelu, 131, 257, true});
  for (const ActivationCase& c : all) {
    test::check_op([&](DType dtype) { return c.run(dtype); }, test::kFloat32ElementTolerance);
  }
}

TEST(Activation, GradientMayOverwriteTheInput) {
  for (const ActivationCase& c : cases()) {
    EXPECT_EQ(c.run(DType::kFloat32, true)[1].values, c.run(DType::kFloat32)[1].values);
  }
}

// For products in bfloat16 both results are stored so; of SwiGLU, din where dh was.
TEST(Activation, RoundsWhatItStoresInBfloat16) {
  constexpr Context kBf16{{}, {}, Products::kBfloat16};
  for (const ActivationCase& c : cases()) {
    for (CpuIsa isa : test::executable_isas()) {
      const test::ScopedIsa level(isa);
      const std::int64_t width = ops::input_factor(c.kind) * c.ff;
      const Tensor x = test::tensor_of(c.in, {c.rows, width}, DType::kFloat32);
      const Tensor w = c.weighted ? test::tensor_of(c.weight, {c.rows}, DType::kFloat32) : Tensor();
      const auto stored = [](const Values& values) {
        std::vector<std::uint16_t> bits;
        for (const double value : values) {
          bits.push_back(test::stored(static_cast<float>(value)).bits);
        }
        return bits;
      };
      const test::Outputs expected = c.run(DType::kFloat32);

      std::vector<Bfloat16> h(static_cast<std::size_t>(c.rows * c.ff));
      ops::activation(kBf16, c.kind, x, w, view_of(h.data(), {c.rows, c.ff}), c.options);
      EXPECT_EQ(test::bits_of(h), stored(expected[0].values));

      const Tensor dh = test::tensor_of(c.projection, {c.rows, c.ff}, DType::kFloat32);
      std::vector<Bfloat16> own(static_cast<std::size_t>(c.rows * width));
      TensorView din = view_of(own.data(), {c.rows, width});
      const Tensor dw = c.weighted ? test::unwritten({c.rows}, DType::kFloat32) : Tensor();
      if (din.bytes() == dh.view().bytes()) din.data = dh.view().data;
      ops::activation_backward(kBf16, c.kind, x, w, dh, din, dw, c.options);
      const auto* found = din.as<Bfloat16>();
      EXPECT_EQ(test::bits_of({found, found + din.size()}), stored(expected[1].values));
      if (c.weighted) {
        EXPECT_EQ(test::values_of(dw), expected[2].values);
      }
    }
  }
}

TEST(Activation, SaturatesWithoutNan) {
  Values in = {-200.0, 200.0, -1e30, 1e30, 0.0, -88.5};
  const Tensor x = test::tensor_of(in, {1, 6}, DType::kFloat32);
  const Tensor h = test::unwritten({1, 6}, DType::kFloat32);
  for (CpuIsa isa : test::executable_isas()) {
    const test::ScopedIsa level(isa);
    ops::activation({}, Activation::kSilu, x, {}, h);
    const Values found = test::values_of(h);
    EXPECT_EQ(found[0], 0.0);
    EXPECT_EQ(found[1], 200.0);
    EXPECT_EQ(found[2], 0.0);
    EXPECT_EQ(found[3], static_cast<double>(1e30F));
    EXPECT_EQ(found[4], 0.0);
    EXPECT_NEAR(found[5], 0.0, 1e-35);
  }
}

// microsoft/onnxruntime (fork tianleiwu/onnxruntime), onnxruntime/test/contrib_ops/moe_test.cc,
// MoECpuTest_BasicSwiGLU (MIT): hidden size 4, 8 units, all weights 0.1, h = silu(z) (z + 1).
TEST(Activation, MatchesOnnxRuntimeSwigluWithOffset) {
  constexpr std::int64_t kUnits = 8;
  const double expected[] = {1.169694, 6.970291};
  const double input_sum[] = {1 + 2 + 3 + 4, 5 + 6 + 7 + 8};
  for (std::size_t row = 0; row < 2; ++row) {
    const Values z(2 * kUnits, 0.1 * input_sum[row]);  // gate and up alike
    const Tensor h = test::unwritten({1, kUnits}, DType::kFloat64);
    ops::activation({}, Activation::kSwiglu, test::tensor_of(z, {1, 2 * kUnits}, DType::kFloat64),
                    {}, h, {.up_offset = 1.0});
    EXPECT_NEAR(test::project(test::values_of(h), Values(kUnits, 0.1)), expected[row], 1e-6);
  }
}

TEST(Activation, RefusesAWrongShape) {
  const Tensor x({2, 5}, DType::kFloat32);
  const Tensor h({2, 2}, DType::kFloat32);
  EXPECT_THROW(ops::activation({}, Activation::kSwiglu, x, {}, h), Error);
  EXPECT_THROW(ops::activation({}, Activation::kSilu, x, {}, h), Error);
}

}  // namespace
}  // namespace witan
