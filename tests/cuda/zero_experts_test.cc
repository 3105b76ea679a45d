// Experts without a matrix product on CUDA against their CPU twins.
#include "core/ops/zero_experts.h"

#include <gtest/gtest.h>

#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class ZeroExpertsCuda : public CudaTest {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 1e-5 : 1e-13;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ZeroExpertsCuda, Types);

// Distinct choices among `experts`, some of them none.
std::vector<std::int32_t> choices(std::int64_t tokens, std::int64_t top_k, std::int64_t experts) {
  std::vector<std::int32_t> indices;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t j = 0; j < top_k; ++j) {
      indices.push_back(
          j > 0 && (t + j) % 5 == 0 ? -1 : static_cast<std::int32_t>((2 * t + 3 * j) % experts));
    }
  }
  return indices;
}

TYPED_TEST(ZeroExpertsCuda, EqualTheCpuTwins) {
  using T = TypeParam;
  constexpr std::int64_t kTopK = 3;
  for (const ops::ZeroExperts& experts :
       {ops::ZeroExperts{4, 1, 1, 2}, ops::ZeroExperts{5, 0, 3, 0}, ops::ZeroExperts{6, 2, 0, 0},
        ops::ZeroExperts{0, 0, 0, 7}}) {
    for (const auto& [tokens, d] :
         {std::pair<std::int64_t, std::int64_t>{0, 8}, {7, 5}, {150, 40}}) {
      SCOPED_TRACE(testing::Message() << experts.constant << " constant, " << tokens << " tokens");
      const std::int64_t all = experts.first + experts.zero + experts.copy + experts.constant;
      std::vector<Tensor> tensors;
      tensors.push_back(normal<T>("mix", {2 * experts.constant, d}));
      tensors.push_back(normal<T>("vector", {experts.constant, d}));
      tensors.push_back(with_values(choices(tokens, kTopK, all), {tokens, kTopK}));
      tensors.push_back(normal<T>("weights", {tokens, kTopK}));
      tensors.push_back(normal<T>("x", {tokens, d}));
      for (const char* name : {"y", "dy", "dx"}) tensors.push_back(normal<T>(name, {tokens, d}));
      tensors.push_back(normal<T>("dweights", {tokens, kTopK}));
      tensors.push_back(normal<T>("dmix", {2 * experts.constant, d}));
      tensors.push_back(normal<T>("dvector", {experts.constant, d}));
      tensors.push_back(unwritten({tokens, kTopK}, DType::kInt32));
      this->expect_twins(tensors, this->kTolerance,
                         [&](const Context& ctx, const std::vector<TensorView>& t) {
                           ops::zero_experts(ctx, experts, {t[0], t[1]}, t[2], t[3], t[4], t[5]);
                           ops::zero_experts_backward(ctx, experts, {t[0], t[1]}, t[2], t[3], t[4],
                                                      t[6], t[7], t[8], {t[9], t[10]});
                           ops::keep_choices_below(ctx, experts.first, t[2], t[11]);
                         });
    }
  }
}

}  // namespace
}  // namespace witan::test
