// Router arithmetic on CUDA against its CPU twins. Choices must be the same, ties included.
#include "core/ops/topk.h"

#include <gtest/gtest.h>

#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

using ops::RouteWeights;
using ops::Score;

template <class T>
class TopkCuda : public CudaTest {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 3e-6 : 3e-14;
  static constexpr DType kType = dtype_of<T>::value;

  // Few different values, so that there are ties, and a NaN.
  static std::vector<T> scores_with_ties(const Shape& shape) {
    std::vector<T> values = normal_values<T>(shape.size(), "s");
    for (T& value : values) value = std::round(value * T{2}) / T{2};
    if (values.size() > 5) values[5] = std::numeric_limits<T>::quiet_NaN();
    return values;
  }
  // Distinct choices of each token, some of them kNoChoice.
  static std::vector<std::int32_t> choices(std::int64_t tokens, std::int64_t experts,
                                           std::int64_t top_k) {
    std::vector<std::int32_t> indices;
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t j = 0; j < top_k; ++j) {
        const bool absent = j > 0 && (t + j) % 4 == 0;
        indices.push_back(absent ? ops::kNoChoice
                                 : static_cast<std::int32_t>((3 * t + j) % experts));
      }
    }
    return indices;
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(TopkCuda, Types);

constexpr Score kScores[] = {Score::kSoftmax, Score::kSigmoid, Score::kSqrtSoftplus};
constexpr RouteWeights kWeights[] = {RouteWeights::kAsIs, RouteWeights::kRenormalized,
                                     RouteWeights::kSoftmaxOfScores, RouteWeights::kUniform};
// Fewer experts than lanes, as many, more; tokens that do not fill a block.
const Shape kShapes[] = {{0, 4}, {1, 1}, {5, 8}, {6, 32}, {3, 70}};

TYPED_TEST(TopkCuda, ScoresEqualTheCpuTwins) {
  using T = TypeParam;
  for (const Score score : kScores) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(shape.to_string());
      std::vector<T> z = normal_values<T>(shape.size(), "z");
      if (z.size() > 3) z[3] = -90;  // underflows
      std::vector<Tensor> tensors;
      tensors.push_back(with_values(z, shape));
      tensors.push_back(unwritten(shape, this->kType));
      tensors.push_back(unwritten({shape[0]}, this->kType));
      this->expect_twins(tensors, this->kTolerance,
                         [&](const Context& ctx, const std::vector<TensorView>& t) {
                           ops::router_score(ctx, score, t[0], t[1], t[2]);
                         });
    }
  }
}

TYPED_TEST(TopkCuda, ChoicesEqualTheCpuTwins) {
  for (const Shape& shape : kShapes) {
    for (const bool biased : {false, true}) {
      SCOPED_TRACE(shape.to_string());
      const std::int64_t top_k = std::min<std::int64_t>(shape[1], 6);
      const Tensor s = with_values(this->scores_with_ties(shape), shape);
      const Tensor bias = with_values(this->scores_with_ties({shape[1], 1}), {shape[1]});
      const DeviceStream stream(kCuda);
      const Context& ctx = stream.context();
      std::vector<std::int32_t> expected(static_cast<std::size_t>(shape[0] * top_k));
      ops::topk(Context{}, s, biased ? bias.view() : TensorView{},
                view_of(expected.data(), {shape[0], top_k}));
      for (int order = 0; order < kOrders; ++order) {
        this->choose_order(order);
        const Tensor device = transferred(ctx, s, kCuda);
        const Tensor device_bias = transferred(ctx, bias, kCuda);
        const Tensor indices({shape[0], top_k}, DType::kInt32, kCuda);
        ops::topk(ctx, device, biased ? device_bias.view() : TensorView{}, indices);
        EXPECT_EQ(to_host<std::int32_t>(ctx, indices), expected);
      }
    }
  }
}

TYPED_TEST(TopkCuda, ChoicesAmongGroupsEqualTheCpuTwins) {
  using T = TypeParam;
  struct Case {
    std::int64_t experts;
    ops::ExpertGroups groups;
    std::int64_t top_k;
  };
  for (const Case& c : {Case{8, {4, 2, 2}, 3}, Case{64, {8, 2, 4}, 6}, Case{80, {40, 1, 3}, 4},
                        Case{6, {1, 6, 1}, 6}}) {
    SCOPED_TRACE(c.experts);
    const Shape shape{5, c.experts};
    std::vector<T> s = this->scores_with_ties(shape);
    std::vector<Tensor> tensors;
    s[5] = 1;
    tensors.push_back(with_values(s, shape));
    tensors.push_back(normal<T>("bias", {c.experts}));
    tensors.push_back(unwritten({5, c.top_k}, DType::kInt32));
    tensors.push_back(unwritten({5, c.top_k}, DType::kInt32));
    this->expect_twins(tensors, 0.0, [&](const Context& ctx, const std::vector<TensorView>& t) {
      ops::group_topk(ctx, c.groups, t[0], t[1], t[2]);
      ops::group_topk(ctx, c.groups, t[0], {}, t[3]);
    });
  }
}

TYPED_TEST(TopkCuda, KeepMassAndWeightsEqualTheCpuTwins) {
  using T = TypeParam;
  for (const RouteWeights kind : kWeights) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(shape.to_string());
      const std::int64_t top_k = std::min<std::int64_t>(shape[1], 5);
      std::vector<Tensor> tensors;
      tensors.push_back(normal<T>("z", shape));
      tensors.push_back(unwritten(shape, this->kType));
      tensors.push_back(unwritten({shape[0]}, this->kType));
      tensors.push_back(unwritten({shape[0], top_k}, DType::kInt32));
      tensors.push_back(unwritten({shape[0], top_k}, this->kType));
      this->expect_twins(tensors, this->kTolerance,
                         [&](const Context& ctx, const std::vector<TensorView>& t) {
                           ops::router_score(ctx, Score::kSigmoid, t[0], t[1], t[2]);
                           ops::topk(ctx, t[1], {}, t[3]);
                           ops::keep_mass(ctx, 0.4, t[1], t[3]);
                           ops::route_weights(ctx, kind, 1.5, t[1], t[3], t[4]);
                         });
    }
  }
}

TYPED_TEST(TopkCuda, BackwardEqualsTheCpuTwin) {
  using T = TypeParam;
  for (const Score score : kScores) {
    for (const RouteWeights kind : kWeights) {
      for (const bool extras : {false, true}) {
        SCOPED_TRACE(testing::Message() << "score " << static_cast<int>(score) << ", weights "
                                        << static_cast<int>(kind) << ", extras " << extras);
        const Shape shape{5, 37};
        const Shape chosen{5, 4};
        std::vector<Tensor> tensors;
        tensors.push_back(normal<T>("z", shape));
        tensors.push_back(unwritten(shape, this->kType));
        tensors.push_back(unwritten({5}, this->kType));
        tensors.push_back(with_values(this->choices(5, 37, 4), chosen));
        tensors.push_back(unwritten(chosen, this->kType));
        tensors.push_back(normal<T>("dweights", chosen));
        tensors.push_back(normal<T>("ds", shape));
        tensors.push_back(unwritten(shape, this->kType));
        this->expect_twins(tensors, 4 * this->kTolerance,
                           [&](const Context& ctx, const std::vector<TensorView>& t) {
                             ops::router_score(ctx, score, t[0], t[1], t[2]);
                             ops::route_weights(ctx, kind, 2.0, t[1], t[3], t[4]);
                             ops::router_backward(ctx, score, kind, 2.0, t[0], t[1], t[2], t[3],
                                                  t[4], t[5], extras ? t[6] : TensorView{},
                                                  extras ? 1e-2 : 0.0, t[7]);
                           });
      }
    }
  }
}

TYPED_TEST(TopkCuda, ProbabilitySumsAndTheirBackwardEqualTheCpuTwins) {
  using T = TypeParam;
  for (const Score score : kScores) {
    for (const Shape& shape : {Shape{0, 4}, Shape{3, 5}, Shape{150, 34}}) {
      SCOPED_TRACE(shape.to_string());
      std::vector<Tensor> tensors;
      tensors.push_back(normal<T>("z", shape));
      tensors.push_back(unwritten(shape, this->kType));
      tensors.push_back(unwritten({shape[0]}, this->kType));
      tensors.push_back(unwritten({shape[1]}, this->kType));
      tensors.push_back(normal<T>("coefficient", {shape[1]}));
      tensors.push_back(normal<T>("ds", shape));
      this->expect_twins(tensors, this->kTolerance,
                         [&](const Context& ctx, const std::vector<TensorView>& t) {
                           ops::router_score(ctx, score, t[0], t[1], t[2]);
                           ops::router_probability_sums(ctx, score, t[1], t[3]);
                           ops::router_probability_backward(ctx, score, t[1], t[4], t[5]);
                         });
    }
  }
}

TYPED_TEST(TopkCuda, CountsEqualTheCpuTwin) {
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const std::int64_t tokens : {0, 1, 400}) {
    const auto indices = this->choices(tokens, 7, 3);
    std::vector<std::int64_t> expected(7, -1);
    std::vector<std::int64_t> found(7, -1);
    ops::count_experts(Context{}, view_of(indices.data(), {tokens, 3}),
                       view_of(expected.data(), {7}));
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const Tensor device = on_cuda(ctx, indices, {tokens, 3});
      ops::count_experts(ctx, device, view_of(found.data(), {7}));
      EXPECT_EQ(found, expected);
    }
  }
  witan::cuda::release_scratch(ctx);
}

}  // namespace
}  // namespace witan::test
