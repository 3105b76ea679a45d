#include "core/ops/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/gradient_check.h"
#include "tests/support/op_case.h"

namespace witan {
namespace {

using test::Values;

struct RopeCase {
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
  bool normed;
  std::int64_t most_positions = 50;
  bool norm_whole = false;

  std::int64_t width = (heads + 2 * kv_heads) * head_dim;
  Values qkv = test::random_normal(tokens * width, 1);
  Values q_norm = test::random_normal(normed ? shape().q_norm_size() : 0, 2);
  Values k_norm = test::random_normal(normed ? shape().k_norm_size() : 0, 3);
  Values projection = test::random_normal(tokens * width, 4);
  std::vector<std::int32_t> positions = test::random_indices(tokens, most_positions, 5);

  ops::RopeShape shape() const {
    return {heads, kv_heads, head_dim, 10000.0, 1e-6, {}, norm_whole};
  }

  Tensor norm(const Values& values, DType dtype) const {
    return normed ? test::tensor_of(values, {static_cast<std::int64_t>(values.size())}, dtype)
                  : Tensor();
  }

  Values forward() const {
    const Tensor out = test::unwritten({tokens, width}, DType::kFloat64);
    forward(out, test::unwritten({tokens, shape().norms()}, DType::kFloat64));
    return test::values_of(out);
  }

  void forward(const Tensor& out, const Tensor& rstd) const {
    const DType dtype = out.view().dtype;
    ops::rope({}, shape(), test::tensor_of(qkv, {tokens, width}, dtype),
              test::tensor_of(positions, {tokens}), norm(q_norm, dtype), norm(k_norm, dtype), out,
              rstd);
  }

  test::Outputs run(DType dtype) const {
    const Tensor out = test::unwritten({tokens, width}, dtype);
    const Tensor rstd = test::unwritten({tokens, shape().norms()}, dtype);
    forward(out, rstd);
    const Tensor grad = test::tensor_of(projection, {tokens, width}, dtype);
    const Tensor dqkv = test::unwritten({tokens, width}, dtype);
    const Tensor dq_norm = norm(Values(q_norm.size(), 0.0), dtype);
    const Tensor dk_norm = norm(Values(k_norm.size(), 0.0), dtype);
    ops::rope_backward({}, shape(), grad, test::tensor_of(positions, {tokens}),
                       test::tensor_of(qkv, {tokens, width}, dtype), norm(q_norm, dtype),
                       norm(k_norm, dtype), rstd, dqkv, dq_norm, dk_norm);
    test::Outputs outputs = {{"out", test::values_of(out)}, {"dqkv", test::values_of(dqkv)}};
    if (normed) {
      outputs.push_back({"dq_norm", test::values_of(dq_norm)});
      outputs.push_back({"dk_norm", test::values_of(dk_norm)});
      outputs.push_back({"rstd", test::values_of(rstd)});
    }
    return outputs;
  }
};

std::vector<RopeCase> cases() {
  return {{0, 2, 1, 4, true},          {1, 1, 1, 2, false},  {5, 3, 1, 6, false},
          {5, 4, 2, 10, true},         {37, 2, 2, 14, true}, {6, 2, 1, 8, true, 100'000},
          {5, 4, 2, 6, true, 50, true}};
}

TEST(Rope, BackwardMatchesCentralDifferences) {
  for (RopeCase c : cases()) {
    const test::Outputs outputs = c.run(DType::kFloat64);
    const auto loss = [&] { return test::project(c.forward(), c.projection); };
    test::expect_gradient("dqkv", c.qkv, outputs[1].values, loss);
    if (!c.normed) continue;
    test::expect_gradient("dq_norm", c.q_norm, outputs[2].values, loss);
    test::expect_gradient("dk_norm", c.k_norm, outputs[3].values, loss);
  }
}

TEST(Rope, EveryLevelMatchesFloat64) {
  std::vector<RopeCase> all = cases();
  all.push_back({400, 3, 1, 34, false, 2000});
  all.push_back({400, 3, 1, 34, true, 2000});
  all.push_back({400, 4, 2, 34, true, 2000, true});
  for (const RopeCase& c : all) {
    test::check_op([&](DType dtype) { return c.run(dtype); }, test::kFloat32RowTolerance);
  }
}

// Element i pairs with element i + head_dim / 2; the angle is position * theta^(-2 i / head_dim).
TEST(Rope, MatchesTheDefinition) {
  for (std::int64_t most : {600, 200'000}) {  // a kept table of angles, and angles per token
    const RopeCase c = {9, 2, 1, 6, false, most};
    const Values out = c.forward();
    for (std::size_t t = 0; t < 9; ++t) {
      for (std::size_t head = 0; head < 4; ++head) {
        const std::size_t at = t * 24 + head * 6;
        for (std::size_t i = 0; i < 3; ++i) {
          const double angle = head == 3  // the value head passes through
                                   ? 0.0
                                   : c.positions[t] * std::pow(10000.0, -2.0 * double(i) / 6.0);
          const double first = c.qkv[at + i];
          const double second = c.qkv[at + i + 3];
          EXPECT_NEAR(out[at + i], first * std::cos(angle) - second * std::sin(angle), 1e-12);
          EXPECT_NEAR(out[at + i + 3], second * std::cos(angle) + first * std::sin(angle), 1e-12);
        }
      }
    }
  }
}

TEST(Rope, MayRotateInPlace) {
  const RopeCase c = {7, 2, 1, 10, false};
  const Tensor x = test::tensor_of(c.qkv, {7, c.width}, DType::kFloat64);
  const Tensor positions = test::tensor_of(c.positions, {7});
  ops::rope({}, c.shape(), x, positions, {}, {}, x, {});
  EXPECT_EQ(test::values_of(x), c.forward());
  ops::rope_backward({}, c.shape(), x, positions, {}, {}, {}, {}, x, {}, {});
  test::expect_close("rotated back", test::values_of(x), c.qkv, 1e-14);
}

TEST(Rope, TheAngleTableFollowsThetaAndGrows) {
  RopeCase c = {5, 1, 1, 4, false, 10};
  const Values small = c.forward();
  RopeCase far = c;
  for (auto& position : far.positions) position += 3000;
  far.forward();
  EXPECT_EQ(c.forward(), small);
  const Tensor out = test::unwritten({5, c.width}, DType::kFloat64);
  ops::RopeShape other = c.shape();
  other.theta = 500.0;
  ops::rope({}, other, test::tensor_of(c.qkv, {5, c.width}, DType::kFloat64),
            test::tensor_of(c.positions, {5}), {}, {}, out, {});
  EXPECT_NE(test::values_of(out), small);
}

TEST(Rope, RefusesWhatItCannotDo) {
  RopeCase odd = {2, 1, 1, 3, false};
  EXPECT_THROW(odd.forward(), Error);
  RopeCase negative = {2, 1, 1, 4, false};
  negative.positions[1] = -1;
  EXPECT_THROW(negative.forward(), Error);
  const RopeCase normed = {2, 1, 1, 4, true};
  const Tensor x = test::tensor_of(normed.qkv, {2, normed.width}, DType::kFloat64);
  const Tensor w = normed.norm(normed.q_norm, DType::kFloat64);
  const Tensor rstd({2, 2}, DType::kFloat64);
  EXPECT_THROW(
      ops::rope({}, normed.shape(), x, test::tensor_of(normed.positions, {2}), w, w, x, rstd),
      Error);
}

}  // namespace
}  // namespace witan
