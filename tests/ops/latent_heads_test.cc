// Rotation and joining of the heads of latent attention, against their definitions.
#include "core/ops/latent_heads.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/op_case.h"

namespace witan {
namespace {

using test::Values;

const ops::LatentShape kShape = {3, 4, 6, 5, true, 100.0, {}};
constexpr std::int64_t kTokens = 7;

TEST(LatentHeads, RotateAsTheDefinitionSays) {
  const std::vector<std::int32_t> positions = test::random_indices(kTokens, 40, 1);
  for (const bool interleaved : {true, false}) {
    for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
      ops::LatentShape shape = kShape;
      shape.interleaved = interleaved;
      const Values before = test::random_normal(kTokens * 31, 2);
      const Tensor x = test::tensor_of(before, {kTokens, 31}, dtype);
      const Tensor at = test::tensor_of(positions, {kTokens});
      ops::rotate_heads({}, shape, x, 1, 3, 10, at, ops::Rotation::kForward);
      const Values after = test::values_of(x);
      Values expected = before;
      for (std::size_t t = 0; t < kTokens; ++t) {
        for (std::size_t h = 0; h < 3; ++h) {
          for (std::size_t i = 0; i < 3; ++i) {
            const std::size_t head = t * 31 + 1 + h * 10;
            const std::size_t first = head + (interleaved ? 2 * i : i);
            const std::size_t second = first + (interleaved ? 1 : 3);
            const double angle = positions[t] * std::pow(100.0, -2.0 * double(i) / 6.0);
            expected[first] = before[first] * std::cos(angle) - before[second] * std::sin(angle);
            expected[second] = before[second] * std::cos(angle) + before[first] * std::sin(angle);
          }
        }
      }
      test::expect_close("rotated", after, expected, dtype == DType::kFloat64 ? 1e-14 : 1e-6);
      ops::rotate_heads({}, shape, x, 1, 3, 10, at, ops::Rotation::kBack);
      test::expect_close("and back", test::values_of(x), before,
                         dtype == DType::kFloat64 ? 1e-14 : 1e-6);
    }
  }
}

TEST(LatentHeads, JoinAndItsTranspose) {
  const std::int64_t qk = 3 * 10, kv = 3 * 9, width = 2 * qk + 3 * 5;
  const Values q = test::random_normal(kTokens * qk, 1),
               keys = test::random_normal(kTokens * kv, 2);
  const Values rope = test::random_normal(kTokens * 6, 3);
  const Tensor joined = test::unwritten({kTokens, width}, DType::kFloat64);
  ops::join_latent_heads({}, kShape, test::tensor_of(q, {kTokens, qk}, DType::kFloat64),
                         test::tensor_of(keys, {kTokens, kv}, DType::kFloat64),
                         test::tensor_of(rope, {kTokens, 6}, DType::kFloat64), joined);
  const Values out = test::values_of(joined);
  const auto at = [&](std::int64_t t, std::int64_t column) {
    return out[static_cast<std::size_t>(t * width + column)];
  };
  for (std::int64_t t = 0; t < kTokens; ++t) {
    const auto part = [t](const Values& of, std::int64_t cols, std::int64_t column) {
      return of[static_cast<std::size_t>(t * cols + column)];
    };
    for (std::int64_t c = 0; c < qk; ++c) EXPECT_EQ(at(t, c), part(q, qk, c));
    for (std::int64_t h = 0; h < 3; ++h) {
      for (std::int64_t c = 0; c < 4; ++c)
        EXPECT_EQ(at(t, qk + h * 10 + c), part(keys, kv, h * 9 + c));
      for (std::int64_t c = 0; c < 6; ++c) EXPECT_EQ(at(t, qk + h * 10 + 4 + c), part(rope, 6, c));
      for (std::int64_t c = 0; c < 5; ++c) {
        EXPECT_EQ(at(t, 2 * qk + h * 5 + c), part(keys, kv, h * 9 + 4 + c));
      }
    }
  }
  // <dqkv, join(q, kv, k_rope)> = <the backward of dqkv, (q, kv, k_rope)>: the join is linear.
  const Values grad = test::random_normal(kTokens * width, 4);
  const Tensor dq = test::unwritten({kTokens, qk}, DType::kFloat64);
  const Tensor dkv = test::unwritten({kTokens, kv}, DType::kFloat64);
  const Tensor drope = test::unwritten({kTokens, 6}, DType::kFloat64);
  ops::join_latent_heads_backward(
      {}, kShape, test::tensor_of(grad, {kTokens, width}, DType::kFloat64), dq, dkv, drope);
  const auto dot = [](const Values& a, const Values& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  EXPECT_NEAR(dot(grad, out),
              dot(test::values_of(dq), q) + dot(test::values_of(dkv), keys) +
                  dot(test::values_of(drope), rope),
              1e-11);
}

TEST(LatentHeads, RefuseWhatDoesNotFit) {
  const Tensor x = test::tensor_of(Values(20, 0.0), {2, 10}, DType::kFloat64);
  const std::vector<std::int32_t> positions = {0, 1};
  const Tensor at = test::tensor_of(positions, {2});
  EXPECT_THROW(ops::rotate_heads({}, kShape, x, 5, 1, 0, at, ops::Rotation::kForward), Error);
  ops::LatentShape odd = kShape;
  odd.rope_dim = 3;
  EXPECT_THROW(ops::rotate_heads({}, odd, x, 0, 1, 0, at, ops::Rotation::kForward), Error);
}

}  // namespace
}  // namespace witan
