// Biases of experts on CUDA against their CPU twins.
#include "core/ops/grouped_bias.h"

#include <gtest/gtest.h>

#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class GroupedBiasCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(GroupedBiasCuda, Types);

TYPED_TEST(GroupedBiasCuda, ForwardAndBackwardEqualTheCpuTwins) {
  using T = TypeParam;
  std::vector<std::int64_t> many{0};  // more offsets than one launch carries
  for (int g = 0; g < 300; ++g) many.push_back(many.back() + g % 2);
  for (const std::vector<std::int64_t>& offsets :
       {std::vector<std::int64_t>{0, 3, 3, 10, 10}, {0, 150}, {0, 0}, {2, 5, 6}, many}) {
    for (const std::int64_t n : {1, 40}) {
      for (const bool weighted : {false, true}) {
        const auto groups = static_cast<std::int64_t>(offsets.size()) - 1;
        const std::int64_t rows = offsets.back() + 1;
        SCOPED_TRACE(testing::Message() << groups << " groups of " << rows << " rows of " << n);
        std::vector<Tensor> tensors;
        tensors.push_back(normal<T>("y", {rows, n}));
        tensors.push_back(normal<T>("weight", {rows}));
        tensors.push_back(normal<T>("bias", {groups, n}));
        tensors.push_back(normal<T>("dbias", {groups, n}));
        tensors.push_back(normal<T>("dweight", {rows}));
        // The CPU sums dbias in T.
        this->expect_twins(tensors, std::is_same_v<T, float> ? 1e-5 : 1e-13,
                           [&](const Context& ctx, const std::vector<TensorView>& t) {
                             const TensorView weight = weighted ? t[1] : TensorView{};
                             const TensorView dweight = weighted ? t[4] : TensorView{};
                             ops::grouped_add_bias(ctx, t[0], offsets, weight, t[2]);
                             ops::grouped_bias_backward(ctx, t[0], offsets, weight, t[2], t[3],
                                                        dweight);
                           });
      }
    }
  }
}

}  // namespace
}  // namespace witan::test
