// Experts that choose their tokens: the same choices on either device, ties included.
#include "core/ops/expert_choice.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "core/ops/topk.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class ExpertChoiceCuda : public CudaTest {
 protected:
  // Of few different values or of all, of either sign; `barred`: every so many are minus infinity.
  static std::vector<T> scores(const Shape& shape, std::int64_t values, std::int64_t barred) {
    const Random random(9, "test scores");
    std::vector<T> scores(static_cast<std::size_t>(shape.size()));
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const auto draw = static_cast<std::int64_t>(random.below(i, 2 * values));
      scores[i] = static_cast<T>(draw - values) / T{8};
      if (draw == values && i % 2 == 0) scores[i] = -T{0};  // equal to 0
      if (barred > 0 && i % static_cast<std::size_t>(barred) == 0) {
        scores[i] = -std::numeric_limits<T>::infinity();
      }
    }
    return scores;
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ExpertChoiceCuda, Types);

struct Case {
  std::int64_t tokens, experts, each;
  std::int64_t values;  // different scores, twice as many
  std::int64_t barred;
  std::int64_t first, own;  // tokens that are listed
};
// No token at all, none of its own, one; one expert and more than a warp has lanes; all scores the
// same and all different; no choice, some, all; more tokens than threads; fewer than an expert may
// take; a part of the tokens.
constexpr Case kCases[] = {
    {0, 3, 0, 4, 0, 0, 0},     {5, 3, 2, 4, 0, 5, 0},         {1, 1, 1, 4, 0, 0, 1},
    {7, 1, 3, 1, 0, 0, 7},     {40, 6, 0, 4, 0, 0, 40},       {40, 6, 9, 1, 0, 0, 40},
    {33, 34, 33, 4, 0, 0, 33}, {20, 5, 5, 1 << 20, 7, 0, 20}, {300, 5, 90, 3, 4, 0, 300},
    {64, 4, 60, 6, 2, 0, 64},  {600, 3, 450, 2, 0, 250, 110}, {30, 5, 11, 2, 3, 17, 13}};

TYPED_TEST(ExpertChoiceCuda, TakesTheTokensOfTheCpu) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message()
                 << c.experts << " experts take " << c.each << " of " << c.tokens << " tokens");
    const Shape shape{c.tokens, c.experts};
    std::vector<Tensor> tensors;
    tensors.push_back(with_values(this->scores(shape, c.values, c.barred), shape));
    tensors.push_back(unwritten({c.own, c.experts}, DType::kInt32));
    this->expect_twins(tensors, 0.0, [&](const Context& ctx, const std::vector<TensorView>& t) {
      ops::expert_choice(ctx, t[0], c.each, c.first, t[1]);
    });
  }
}

// Worked out by hand, on the device alone.
TYPED_TEST(ExpertChoiceCuda, TiesGoToTheEarlierToken) {
  using T = TypeParam;
  const T none = -std::numeric_limits<T>::infinity();
  const std::vector<T> s = {1, none, 5, 2, 5, none, 5, none, 0, none};
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  const Tensor scores = on_cuda(ctx, s, {5, 2});
  const Tensor indices({5, 2}, DType::kInt32, kCuda);
  ops::expert_choice(ctx, scores, 2, 0, indices);
  EXPECT_EQ(to_host<std::int32_t>(ctx, indices),
            (std::vector<std::int32_t>{-1, -1, 0, 1, 0, -1, -1, -1, -1, -1}));
  witan::cuda::release_scratch(ctx);
}

TYPED_TEST(ExpertChoiceCuda, RefusesWhatDoesNotFit) {
  const Tensor s = normal<TypeParam>("s", {4, 3});
  const Tensor indices({2, 3}, DType::kInt32);
  EXPECT_THROW(ops::expert_choice({}, s, 5, 0, indices), Error);
  EXPECT_THROW(ops::expert_choice({}, s, -1, 0, indices), Error);
  EXPECT_THROW(ops::expert_choice({}, s, 1, 3, indices), Error);
  EXPECT_THROW(ops::expert_choice({}, s, 1, 0, s), Error);
}

}  // namespace
}  // namespace witan::test
