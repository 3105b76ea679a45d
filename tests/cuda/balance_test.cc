// Noise of routers and what balancing losses are made of, on CUDA against their CPU twins.
#include "core/ops/balance.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/ops/elementwise.h"
#include "core/ops/router_noise.h"
#include "core/ops/smooth_load.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

using ops::NoiseScale;

template <class T>
class BalanceCuda : public CudaTest {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 3e-6 : 3e-14;
  static constexpr DType kType = dtype_of<T>::value;

  static std::vector<T> positive(std::int64_t size, const std::string& name) {
    std::vector<T> values = normal_values<T>(size, name);
    for (T& value : values) value = std::abs(value) + T{0.1F};
    return values;
  }
  // Distinct choices of each token, some of them none.
  static Tensor choices(std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
    std::vector<std::int32_t> indices;
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t j = 0; j < top_k; ++j) {
        const bool absent = j > 0 && (t + j) % 4 == 0;
        indices.push_back(absent ? -1 : static_cast<std::int32_t>((3 * t * t + j) % experts));
      }
    }
    return with_values(indices, {tokens, top_k});
  }
  static Tensor zero_loss() { return with_values(std::vector<double>{0.25}, {1}); }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(BalanceCuda, Types);

// Fewer experts than lanes, as many, more; tokens beyond a block of rows.
const Shape kShapes[] = {{0, 4}, {1, 1}, {5, 8}, {150, 6}, {6, 32}, {3, 70}};

// The same draws as on the CPU, whatever the piece a rank has of the tokens: also where it begins
// with the second number of a pair. Fixed noise with learned noise on top.
TYPED_TEST(BalanceCuda, RouterNoiseEqualsTheCpuTwin) {
  using T = TypeParam;
  const RandomAddress random{{1u, 2u}, {3u, 4u}};
  for (const NoiseScale kind : {NoiseScale::kFixed, NoiseScale::kLearned}) {
    const bool learned = kind == NoiseScale::kLearned;
    for (const Shape& shape : {Shape{0, 4}, Shape{3, 5}, Shape{4, 64}}) {
      for (const std::uint64_t first : {std::uint64_t{0}, (std::uint64_t{1} << 32) + 1}) {
        std::vector<Tensor> tensors;
        std::vector<T> scale = normal_values<T>(shape.size(), "scale");
        if (scale.size() > 2) scale[1] = T{-40}, scale[2] = T{40};
        tensors.push_back(normal<T>("z", shape));
        tensors.push_back(unwritten(shape, this->kType));
        tensors.push_back(learned ? with_values(scale, shape) : unwritten(shape, this->kType));
        tensors.push_back(unwritten(shape, this->kType));
        tensors.push_back(normal<T>("dz", shape));
        tensors.push_back(normal<T>("dscale", shape));
        tensors.push_back(unwritten(shape, this->kType));
        tensors.push_back(unwritten(shape, this->kType));
        this->expect_twins(
            tensors, this->kTolerance, [&](const Context& ctx, const std::vector<TensorView>& t) {
              if (!learned) {
                ops::add_router_noise(ctx, kind, random, first, {t[0], t[1], t[2], {}});
              }
              ops::add_router_noise(ctx, NoiseScale::kLearned, random, first,
                                    {t[0], t[1], t[2], t[3]});
              ops::router_noise_backward(ctx, t[4], t[5], t[3], t[2], t[6]);
              ops::router_noise_backward(ctx, t[4], {}, t[3], t[2], t[7]);
            });
      }
    }
  }
}

TYPED_TEST(BalanceCuda, EntropyEqualsTheCpuTwin) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.to_string());
    std::vector<TypeParam> s = this->positive(shape.size(), "s");
    if (s.size() > 3) s[3] = 0;
    std::vector<Tensor> tensors;
    tensors.push_back(with_values(s, shape));
    tensors.push_back(normal<TypeParam>("ds", shape));
    tensors.push_back(this->zero_loss());
    this->expect_twins(tensors, this->kTolerance,
                       [](const Context& ctx, const std::vector<TensorView>& t) {
                         ops::entropy_loss(ctx, 0.5, 0.75, t[0], t[1], t[2]);
                       });
  }
}

TYPED_TEST(BalanceCuda, Cv2OfScoresAndOfChosenWeightsEqualTheCpuTwins) {
  using T = TypeParam;
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.to_string());
    const std::int64_t experts = shape[1];
    const Shape chosen{shape[0], std::min<std::int64_t>(experts, 3)};
    std::vector<Tensor> tensors;
    tensors.push_back(with_values(this->positive(shape.size(), "s"), shape));
    tensors.push_back(normal<T>("ds", shape));
    tensors.push_back(with_values(this->positive(chosen.size(), "weights"), chosen));
    tensors.push_back(normal<T>("dweights", chosen));
    tensors.push_back(this->choices(shape[0], experts, chosen[1]));
    for (int i = 0; i < 2; ++i) {
      tensors.push_back(with_values(std::vector<double>(static_cast<std::size_t>(experts) + 1, 7.0),
                                    {experts + 1}));
    }
    tensors.push_back(this->zero_loss());
    this->expect_twins(
        tensors, this->kTolerance, [&](const Context& ctx, const std::vector<TensorView>& t) {
          for (const bool weights : {false, true}) {
            const TensorView indices = weights ? t[4] : TensorView{};
            const TensorView& sums = t[weights ? 6 : 5];
            const TensorView of_experts = sums.slice_rows(0, experts);
            ops::importance(ctx, t[weights ? 2 : 0], indices, of_experts);
            ops::cv2_loss(ctx, 0.5, sums, t[7]);
            ops::importance_backward(ctx, 0.75, of_experts, indices, t[weights ? 3 : 1]);
          }
        });
  }
}

TYPED_TEST(BalanceCuda, LoadFactorsEqualTheCpuTwin) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.to_string());
    const std::int64_t experts = shape[1];
    std::vector<Tensor> tensors;
    tensors.push_back(this->choices(shape[0], experts, std::min<std::int64_t>(experts, 3)));
    tensors.push_back(unwritten({experts}, DType::kFloat64));
    tensors.push_back(unwritten({experts}, this->kType));
    this->expect_twins(tensors, this->kTolerance,
                       [&](const Context& ctx, const std::vector<TensorView>& t) {
                         ops::load_factors(ctx, {1.5, 0.5, experts / 2}, 0.75, t[0], t[1], t[2]);
                       });
  }
}

TYPED_TEST(BalanceCuda, SmoothLoadEqualsTheCpuTwin) {
  using T = TypeParam;
  for (const NoiseScale kind : {NoiseScale::kFixed, NoiseScale::kLearned}) {
    for (const Shape& shape : kShapes) {
      for (const std::int64_t k : {std::int64_t{1}, std::int64_t{3}, shape[1]}) {
        if (k > shape[1] || (shape[0] > 100 && k != 3)) continue;
        SCOPED_TRACE(testing::Message() << shape.to_string() << " top " << k);
        std::vector<T> z = normal_values<T>(shape.size(), "z");
        for (T& logit : z) logit = std::round(logit * T{2}) / T{2};  // ties
        if (shape[1] > 4 && k <= 3) {  // experts that tokens may not use, down to k of them
          for (std::int64_t t = 0; t < shape[0]; t += 2) {
            for (std::int64_t e = k; e < shape[1] - t; ++e) {
              z[static_cast<std::size_t>(t * shape[1] + (e + t) % shape[1])] =
                  -std::numeric_limits<T>::max();  // infinite when doubled
            }
          }
        }
        std::vector<Tensor> tensors;
        tensors.push_back(with_values(z, shape));
        tensors.push_back(normal<T>("clean", shape));
        tensors.push_back(with_values(this->positive(shape.size(), "scale"), shape));
        tensors.push_back(unwritten({shape[1]}, DType::kFloat64));
        tensors.push_back(normal<double>("gradient", {shape[1]}));
        for (const char* name : {"dz", "dclean", "dscale"}) {
          tensors.push_back(normal<T>(name, shape));
        }
        this->expect_twins(
            tensors, 10 * this->kTolerance,
            [&](const Context& ctx, const std::vector<TensorView>& t) {
              const Tensor noisy(shape, t[0].dtype, ctx.device);
              ops::copy(ctx, t[0], noisy);
              ops::scale(ctx, noisy, 2.0);
              const ops::NoisyLogits logits{noisy, t[1], t[2], {}};
              ops::smooth_load(ctx, {kind, k}, logits, t[3]);
              ops::smooth_load_backward(ctx, {kind, k}, 0.5, logits, t[4], t[5], t[6], t[7]);
            });
      }
    }
  }
}

}  // namespace
}  // namespace witan::test
