// Rotary embedding and the heads of latent attention on CUDA against their CPU twins.
#include "core/ops/rope.h"

#include <gtest/gtest.h>

#include "core/ops/latent_heads.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"
#include "tests/support/tolerance.h"

namespace witan::test {
namespace {

template <class T>
class RopeCuda : public CudaTest {
 protected:
  // Angles are rounded to T alike; float32 rows are normed and rotated in a few steps.
  static constexpr double kTolerance =
      std::is_same_v<T, float> ? kFloat32ElementTolerance : kDoubleSumTolerance;
  static constexpr double kToleranceDw =
      std::is_same_v<T, float> ? kFloat32RowTolerance : kDoubleSumTolerance;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RopeCuda, Types);

enum class Norm { kNone, kHead, kWhole };

struct Case {
  std::int64_t tokens, heads, kv_heads, head_dim;
  Norm norm;
  ops::RopeScaling scaling = {};

  ops::RopeShape shape() const {
    return {heads, kv_heads, head_dim, 10000.0, 1e-6, scaling, norm == Norm::kWhole};
  }
  std::int64_t width() const { return (heads + 2 * kv_heads) * head_dim; }
};

std::vector<Case> cases() {
  const ops::RopeScaling yarn = {ops::RopeScaling::Kind::kYarn, 4.0, 64.0, 32.0, 1.0, true, 1.1};
  return {{0, 2, 1, 4, Norm::kHead},   {5, 1, 1, 2, Norm::kNone},       {3, 4, 2, 66, Norm::kHead},
          {35, 3, 1, 6, Norm::kWhole}, {3, 9, 3, 8, Norm::kNone, yarn}, {70, 2, 2, 8, Norm::kHead}};
}

std::vector<std::int32_t> positions_of(std::int64_t tokens) {
  std::vector<std::int32_t> positions(static_cast<std::size_t>(tokens));
  for (std::size_t t = 0; t < positions.size(); ++t) {
    positions[t] = static_cast<std::int32_t>(t * 997 % 5000);
  }
  return positions;
}

// Operands and results of both directions, by the CPU twin or by the one on CUDA.
template <class T>
struct Results {
  std::vector<T> out, rstd, dqkv, dq_norm, dk_norm;
  bool operator==(const Results&) const = default;
};

template <class T>
Results<T> run(const Context& ctx, const Case& c, bool in_place) {
  const ops::RopeShape shape = c.shape();
  const bool normed = c.norm != Norm::kNone;
  const Device device = ctx.device;
  const DType dtype = dtype_of<T>::value;
  const Shape rows{c.tokens, c.width()};
  const auto put = [&](const auto& values, const Shape& of) {
    return transferred(ctx, view_of(values.data(), of), device);
  };
  const auto norm = [&](std::int64_t size, const char* name) {
    return normed ? put(normal_values<T>(size, name), {size}) : Tensor();
  };
  const Tensor positions = put(positions_of(c.tokens), {c.tokens});
  const Tensor qkv = put(normal_values<T>(rows.size(), "qkv"), rows);
  const Tensor q_norm = norm(shape.q_norm_size(), "q");
  const Tensor k_norm = norm(shape.k_norm_size(), "k");
  const Tensor dq_norm = norm(shape.q_norm_size(), "dq");
  const Tensor dk_norm = norm(shape.k_norm_size(), "dk");
  const Tensor rstd = normed ? Tensor({c.tokens, shape.norms()}, dtype, device) : Tensor();
  const Tensor dout = put(normal_values<T>(rows.size(), "dout"), rows);
  const Tensor apart(rows, dtype, device);
  const TensorView out = in_place && !normed ? qkv.view() : apart.view();
  Results<T> results;
  ops::rope(ctx, shape, qkv, positions, q_norm, k_norm, out, rstd);
  results.out = to_host<T>(ctx, out);
  const TensorView dqkv = in_place ? dout.view() : apart.view();
  ops::rope_backward(ctx, shape, dout, positions, qkv, q_norm, k_norm, rstd, dqkv, dq_norm,
                     dk_norm);
  results.dqkv = to_host<T>(ctx, dqkv);
  if (normed) {
    results.rstd = to_host<T>(ctx, rstd);
    results.dq_norm = to_host<T>(ctx, dq_norm);
    results.dk_norm = to_host<T>(ctx, dk_norm);
  }
  return results;
}

TYPED_TEST(RopeCuda, BothDirectionsEqualTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.shape().norm_whole ? "norm of all heads" : "");
    SCOPED_TRACE(Shape({c.tokens, c.heads, c.kv_heads, c.head_dim}).to_string());
    const Results<T> expected = run<T>({}, c, false);
    Results<T> first;
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const Results<T> found = run<T>(ctx, c, order == 1);
      expect_close(found.out, expected.out, this->kTolerance, "out");
      expect_close(found.rstd, expected.rstd, this->kTolerance, "rstd");
      expect_close(found.dqkv, expected.dqkv, this->kTolerance, "dqkv");
      expect_close(found.dq_norm, expected.dq_norm, this->kToleranceDw, "dq_norm");
      expect_close(found.dk_norm, expected.dk_norm, this->kToleranceDw, "dk_norm");
      if (order == 0) first = found;
      EXPECT_TRUE(found == first) << "other bits in another order, or in place";
    }
  }
  witan::cuda::release_scratch(ctx);
}

template <class T>
using LatentHeadsCuda = RopeCuda<T>;
TYPED_TEST_SUITE(LatentHeadsCuda, Types);

TYPED_TEST(LatentHeadsCuda, EqualTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const std::int64_t tokens = 5;
  for (const ops::LatentShape& shape :
       {ops::LatentShape{3, 8, 4, 12}, ops::LatentShape{2, 5, 6, 3, false}}) {
    const std::int64_t nope_v = shape.nope_dim + shape.v_dim;
    const auto results_on = [&](const Context& ctx) {
      const auto put = [&](const char* name, std::int64_t cols) {
        const auto values = normal_values<T>(tokens * cols, name);
        return transferred(ctx, view_of(values.data(), {tokens, cols}), ctx.device);
      };
      const auto positions_host = positions_of(tokens);
      const Tensor positions =
          transferred(ctx, view_of(positions_host.data(), {tokens}), ctx.device);
      const Tensor q = put("q", shape.heads * shape.qk_dim());
      const Tensor kv = put("kv", shape.heads * nope_v);
      const Tensor k_rope = put("k_rope", shape.rope_dim);
      const Tensor qkv = put("qkv", shape.heads * (2 * shape.qk_dim() + shape.v_dim));
      std::vector<std::vector<T>> results;
      ops::join_latent_heads_backward(ctx, shape, qkv, q, kv, k_rope);
      for (const Tensor* x : {&q, &kv, &k_rope}) results.push_back(to_host<T>(ctx, *x));
      ops::rotate_heads(ctx, shape, q, shape.nope_dim, shape.heads, shape.qk_dim(), positions,
                        ops::Rotation::kForward);
      ops::rotate_heads(ctx, shape, k_rope, 0, 1, 0, positions, ops::Rotation::kBack);
      ops::join_latent_heads(ctx, shape, q, kv, k_rope, qkv);
      results.push_back(to_host<T>(ctx, qkv));
      return results;
    };
    const auto expected = results_on({});
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const auto found = results_on(stream.context());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        expect_close(found[i], expected[i], this->kTolerance, "result " + std::to_string(i));
      }
    }
  }
}

}  // namespace
}  // namespace witan::test
