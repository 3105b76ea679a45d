// The router's fused kernel, its figures and its jitter on CUDA against their CPU twins; small
// tables on their way to the device.
#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/ops/jitter.h"
#include "core/ops/reduce.h"
#include "core/ops/topk.h"
#include "core/ops/upload.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/host_copy.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

using ops::RouteWeights;
using ops::Score;

template <class T>
class RouteCuda : public CudaTest {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 3e-6 : 3e-14;
  static constexpr DType kType = dtype_of<T>::value;

  // z, bias, then room for s, lse, indices, weights.
  static std::vector<Tensor> operands(std::int64_t tokens, std::int64_t experts,
                                      std::int64_t top_k) {
    std::vector<T> z = normal_values<T>(tokens * experts, "z");
    for (T& logit : z) logit = std::round(logit * T{2}) / T{2};  // ties
    std::vector<Tensor> tensors;
    tensors.push_back(with_values(z, {tokens, experts}));
    tensors.push_back(normal<T>("bias", {experts}));
    tensors.push_back(unwritten({tokens, experts}, kType));
    tensors.push_back(unwritten({tokens}, kType));
    tensors.push_back(unwritten({tokens, top_k}, DType::kInt32));
    tensors.push_back(unwritten({tokens, top_k}, kType));
    return tensors;
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RouteCuda, Types);

struct Case {
  std::int64_t tokens, experts, top_k;
};
// Fewer experts than lanes to several a lane; what the fused kernel leaves to the separate ones.
constexpr Case kCases[] = {{0, 4, 2},   {1, 1, 1},    {5, 8, 8},   {6, 32, 4}, {3, 70, 6},
                           {3, 256, 8}, {2, 300, 32}, {2, 80, 33}, {2, 600, 3}};
constexpr ops::RouteKind kKinds[] = {
    {Score::kSoftmax, RouteWeights::kRenormalized, 1.0},
    {Score::kSoftmax, RouteWeights::kSoftmaxOfScores, 2.5},
    {Score::kSigmoid, RouteWeights::kRenormalized, 2.5},
    {Score::kSqrtSoftplus, RouteWeights::kAsIs, 0.5},
    {Score::kSigmoid, RouteWeights::kUniform, 1.0},
};

TYPED_TEST(RouteCuda, EqualsTheCpuTwin) {
  for (const Case& c : kCases) {
    for (const ops::RouteKind& kind : kKinds) {
      for (const bool biased : {false, true}) {
        SCOPED_TRACE(testing::Message() << c.experts << " experts, top " << c.top_k << ", score "
                                        << static_cast<int>(kind.score) << ", weights "
                                        << static_cast<int>(kind.weights) << ", biased " << biased);
        // Equal logits have equal scores on either side, so the choices are the same ones.
        this->expect_twins(this->operands(c.tokens, c.experts, c.top_k), this->kTolerance,
                           [&](const Context& ctx, const std::vector<TensorView>& t) {
                             ops::route_topk(ctx, kind, t[0], biased ? t[1] : TensorView{}, t[2],
                                             t[3], t[4], t[5]);
                           });
      }
    }
  }
}

// A recompute keeps the choice and makes scores and weights by the separate ops.
TYPED_TEST(RouteCuda, HasTheBitsOfTheSeparateKernels) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Case& c : kCases) {
    for (const ops::RouteKind& kind : kKinds) {
      std::vector<std::vector<T>> scores, sums, weights;
      std::vector<std::vector<std::int32_t>> choices;
      for (const bool fused : {false, true}) {
        std::vector<Tensor> t;
        for (const Tensor& tensor : this->operands(c.tokens, c.experts, c.top_k)) {
          t.push_back(transferred(ctx, tensor, kCuda));
        }
        if (fused) {
          ops::route_topk(ctx, kind, t[0], t[1], t[2], t[3], t[4], t[5]);
        } else {
          ops::router_score(ctx, kind.score, t[0], t[2], t[3]);
          ops::topk(ctx, t[2], t[1], t[4]);
          ops::route_weights(ctx, kind.weights, kind.scale, t[2], t[4], t[5]);
        }
        scores.push_back(to_host<T>(ctx, t[2]));
        sums.push_back(to_host<T>(ctx, t[3]));
        choices.push_back(to_host<std::int32_t>(ctx, t[4]));
        weights.push_back(to_host<T>(ctx, t[5]));
      }
      EXPECT_EQ(scores[0], scores[1]);
      EXPECT_EQ(sums[0], sums[1]);
      EXPECT_EQ(choices[0], choices[1]);
      EXPECT_EQ(weights[0], weights[1]);
    }
  }
  witan::cuda::release_scratch(ctx);
}

TYPED_TEST(RouteCuda, FiguresAddUpAsOnTheCpu) {
  using T = TypeParam;
  for (const std::int64_t tokens : {0, 5, 300}) {
    std::vector<Tensor> tensors;
    std::vector<T> z = normal_values<T>(tokens * 9, "z");
    for (std::size_t i = 0; i < z.size(); i += 4) z[i] = -std::numeric_limits<T>::infinity();
    tensors.push_back(normal<T>("z", {tokens, 9}));
    tensors.push_back(normal<T>("lse", {tokens}));
    tensors.push_back(normal<T>("weights", {tokens, 3}));
    tensors.push_back(with_values(std::vector<double>{1.0, 2.0, 3.0, 4.0}, {4}));
    tensors.push_back(with_values(std::vector<double>{7.0}, {1}));
    tensors.push_back(with_values(z, {tokens, 9}));
    tensors.push_back(with_values(std::vector<double>{1.0, 2.0, 3.0, 4.0}, {4}));
    this->expect_twins(tensors, 1e-14, [&](const Context& ctx, const std::vector<TensorView>& t) {
      ops::add_router_figures(ctx, false, t[0], t[1], t[2], t[3]);
      ops::add_router_figures(ctx, false, t[0], t[1], t[2], t[3]);
      ops::add_router_figures(ctx, true, t[5], t[1], t[2], t[6]);
      ops::add_dot(ctx, 0.5, t[1], t[1], t[4]);
    });
  }
}

// The same numbers as on the CPU, whatever the piece a rank has of the tokens.
TYPED_TEST(RouteCuda, JitterEqualsTheCpuTwin) {
  using T = TypeParam;
  const RandomAddress random{{1u, 2u}, {3u, 4u}};
  for (const Shape& shape : {Shape{0, 4}, Shape{3, 5}, Shape{4, 64}}) {
    for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{1} << 32}) {
      std::vector<Tensor> tensors;
      tensors.push_back(normal<T>("x", shape));
      tensors.push_back(unwritten(shape, this->kType));
      tensors.push_back(normal<T>("dx", shape));
      this->expect_twins(
          tensors, this->kTolerance, [&](const Context& ctx, const std::vector<TensorView>& t) {
            ops::jitter(ctx, random, first, 0.1, t[0], t[1], ops::JitterInto::kOverwrite);
            ops::jitter(ctx, random, first, 0.1, t[0], t[2], ops::JitterInto::kAdd);
          });
    }
  }
}

TYPED_TEST(RouteCuda, SmallTablesArriveAndComeBack) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  HostCopy copy;
  for (const std::int64_t size : {0, 3, 700}) {
    std::vector<T> table = normal_values<T>(size, "table");
    const std::vector<T> expected = table;
    const Tensor device({size}, this->kType, kCuda);
    ops::upload(ctx, view_of(table.data(), {size}), device);
    table.assign(table.size(), T{0});  // free again
    copy.begin(ctx, device);
    ops::fill(ctx, device, 0.0);
    const TensorView& found = copy.wait();
    ASSERT_EQ(found.size(), size);
    for (std::int64_t i = 0; i < size; ++i) {
      EXPECT_EQ(found.template as<T>()[i], expected[static_cast<std::size_t>(i)]);
    }
    synchronize(ctx);
  }
}

}  // namespace
}  // namespace witan::test
