// Experts that a token may use, on CUDA against the CPU twins.
#include "core/ops/expert_mask.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "core/ops/topk.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class ExpertMaskCuda : public CudaTest {
 protected:
  static constexpr std::int64_t kExperts = 5;
  // Of three tags over five experts: two experts, all, one.
  static Tensor order() {
    return with_values(std::vector<std::int32_t>{1, 3, 0, 2, 4, 0, 1, 2, 3, 4, 4, 0, 1, 2, 3},
                       {3, kExperts});
  }
  static Tensor count() { return with_values(std::vector<std::int32_t>{2, 5, 1}, {3}); }
  // [tokens]: first + i step, modulo `end`.
  static Tensor ids(std::int64_t tokens, std::int64_t step, std::int64_t end) {
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < tokens; ++t) {
      ids.push_back(static_cast<std::int32_t>(t * step % end));
    }
    return with_values(ids, {tokens});
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ExpertMaskCuda, Types);

TYPED_TEST(ExpertMaskCuda, MasksTheLogitsOfTheCpu) {
  using T = TypeParam;
  for (const std::int64_t tokens : {0, 1, 300}) {
    std::vector<Tensor> tensors;
    tensors.push_back(this->order());
    tensors.push_back(this->count());
    tensors.push_back(this->ids(tokens, 2, 3));
    tensors.push_back(normal<T>("z", {tokens, this->kExperts}));
    tensors.push_back(normal<float>("float", {tokens, this->kExperts}));
    tensors.push_back(normal<double>("double", {tokens, this->kExperts}));
    this->expect_twins(tensors, 0.0, [&](const Context& ctx, const std::vector<TensorView>& t) {
      ops::mask_experts(ctx, {t[0], t[1]}, t[2], t[3]);
      ops::mask_like(ctx, t[3], t[4]);
      ops::mask_like(ctx, t[3], t[5]);
    });
  }
}

TYPED_TEST(ExpertMaskCuda, ChoosesByTheTableAsTheCpu) {
  for (const std::int64_t tokens : {0, 1, 70}) {
    std::vector<Tensor> tensors;
    tensors.push_back(this->order());
    tensors.push_back(this->count());
    tensors.push_back(this->ids(tokens, 2, 3));
    tensors.push_back(this->ids(tokens, 5, 9));  // tokens of a vocabulary of 9
    tensors.push_back(this->ids(9, 4, 9));
    tensors.push_back(unwritten({tokens, 2}, DType::kInt32));
    tensors.push_back(unwritten({tokens, this->kExperts}, DType::kInt32));
    this->expect_twins(tensors, 0.0, [&](const Context& ctx, const std::vector<TensorView>& t) {
      ops::tag_choices(ctx, {t[0], t[1]}, t[2], t[3], t[4], t[5]);
      ops::tag_choices(ctx, {t[0], t[1]}, t[2], {}, {}, t[6]);
    });
  }
}

// Worked out by hand: tag 0 has experts 1 and 3, tag 2 has expert 4 alone.
TYPED_TEST(ExpertMaskCuda, TheTableSaysWhoMayGoWhere) {
  const std::vector<std::int32_t> tags = {0, 2};
  const std::vector<std::int32_t> tokens = {1, 0};
  const std::vector<std::int32_t> ranks = {0, 3};
  std::vector<std::int32_t> indices(4);
  const Tensor order = this->order();
  const Tensor count = this->count();
  const TensorView view = view_of(indices.data(), {2, 2});
  ops::tag_choices({}, {order, count}, view_of(tags.data(), {2}), view_of(tokens.data(), {2}),
                   view_of(ranks.data(), {2}), view);
  EXPECT_EQ(indices, (std::vector<std::int32_t>{1, 3, 4, ops::kNoChoice}));
  EXPECT_THROW(ops::tag_choices({}, {order, count}, {}, {}, {}, view), Error) << "no tags";
  const std::vector<std::int32_t> unknown = {0, 3};
  EXPECT_THROW(ops::tag_choices({}, {order, count}, view_of(unknown.data(), {2}), {}, {}, view),
               Error);
}

}  // namespace
}  // namespace witan::test
