// Two gates on CUDA against their CPU twins. Choices must be the same, ties included.
#include "core/ops/two_gates.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <vector>

#include "core/ops/topk.h"
#include "tests/cuda/cuda_case.h"
#include "tests/support/gradient_check.h"

namespace witan::test {
namespace {

template <class T>
class TwoGatesCuda : public CudaTest {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 2e-6 : 2e-14;
  static constexpr DType kType = dtype_of<T>::value;

  // Of few different values, so that there are ties; `size`: of a group of experts, one of which
  // in each row is barred.
  static std::vector<T> logits(const std::string& name, const Shape& shape, std::int64_t size = 0) {
    std::vector<T> values = normal_values<T>(shape.size(), name);
    for (T& value : values) value = std::round(value * T{2}) / T{2};
    for (std::int64_t t = 0; size > 0 && shape[1] > size && t < shape[0]; ++t) {
      const auto begin = values.begin() + t * shape[1] + t * size % shape[1];
      std::fill(begin, begin + size, -std::numeric_limits<T>::infinity());
    }
    return values;
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(TwoGatesCuda, Types);

struct Case {
  std::int64_t tokens;
  ops::TwoGates gates;
  std::int64_t size;  // experts of a group
};
// No token; one expert; one group; groups of one; more groups and experts than a warp has lanes.
constexpr Case kCases[] = {{0, {2, 1, 1}, 3}, {3, {1, 1, 1}, 1},  {9, {1, 1, 2}, 4},
                           {5, {6, 3, 1}, 1}, {70, {4, 2, 2}, 3}, {6, {3, 2, 3}, 40},
                           {7, {40, 3, 2}, 2}};

TYPED_TEST(TwoGatesCuda, ChoosesAndWeighsAsTheCpu) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.gates.groups << " groups of " << c.size);
    const Shape shape{c.tokens, c.gates.groups * c.size};
    const Shape groups{c.tokens, c.gates.groups};
    const Shape chosen{c.tokens, c.gates.keep * c.gates.k};
    std::vector<Tensor> tensors;
    tensors.push_back(with_values(this->logits("v", shape), shape));
    tensors.push_back(with_values(this->logits("u", groups), groups));
    // With a group that the token may not use.
    tensors.push_back(with_values(this->logits("z", shape, c.size), shape));
    tensors.push_back(unwritten(chosen, DType::kInt32));
    tensors.push_back(unwritten(chosen, this->kType));
    this->expect_twins(tensors, this->kTolerance,
                       [&](const Context& ctx, const std::vector<TensorView>& t) {
                         ops::join_gates(ctx, t[1], t[0]);
                         ops::gate_choices(ctx, c.gates, t[2], t[1], t[3]);
                         ops::gate_weights(ctx, c.gates, 1.5, t[2], t[3], t[4]);
                       });
  }
}

// With all choices, and with those that a capacity has left: a group keeps some, none, all. The
// gradient of a weight that is not used is NaN, and stays unread.
TYPED_TEST(TwoGatesCuda, BackwardEqualsTheCpuTwins) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    for (const bool dropped : {false, true}) {
      SCOPED_TRACE(testing::Message() << c.gates.groups << " groups of " << c.size);
      const Shape shape{c.tokens, c.gates.groups * c.size};
      const Shape groups{c.tokens, c.gates.groups};
      const Shape chosen{c.tokens, c.gates.keep * c.gates.k};
      const std::vector<T> z = this->logits("z", shape, c.gates.keep < c.gates.groups ? c.size : 0);
      std::vector<std::int32_t> indices(static_cast<std::size_t>(chosen.size()));
      std::vector<T> dweights = normal_values<T>(chosen.size(), "dweights");
      ops::gate_choices({}, c.gates, view_of(z.data(), shape), normal<T>("u", groups),
                        view_of(indices.data(), chosen));
      for (std::size_t i = 0; dropped && i < indices.size(); ++i) {
        if (i % 5 > 2) continue;
        indices[i] = ops::kNoChoice;
        dweights[i] = std::numeric_limits<T>::quiet_NaN();
      }
      std::vector<Tensor> tensors;
      tensors.push_back(with_values(z, shape));
      tensors.push_back(with_values(indices, chosen));
      tensors.push_back(unwritten(chosen, this->kType));
      tensors.push_back(normal<T>("dz", shape));
      tensors.push_back(unwritten(groups, this->kType));
      const Tensor gradients = with_values(dweights, chosen);
      this->expect_twins(tensors, 4 * this->kTolerance,
                         [&](const Context& ctx, const std::vector<TensorView>& t) {
                           const Tensor dw = transferred(ctx, gradients, ctx.device);
                           ops::gate_weights(ctx, c.gates, 1.5, t[0], t[1], t[2]);
                           ops::gate_weights_backward(ctx, c.gates, 1.5, t[0], t[1], dw, t[3]);
                           ops::join_gates_backward(ctx, t[0], t[3], t[4]);
                           synchronize(ctx);
                         });
    }
  }
}

// Of the CPU twins, from the logits of both gates through a choice that stays, a part of which a
// capacity has dropped.
TEST(TwoGates, BackwardMatchesCentralDifferences) {
  constexpr std::int64_t kTokens = 4, kSize = 3, kChoices = 4;
  const ops::TwoGates gates{3, 2, 2};
  const Shape shape{kTokens, gates.groups * kSize}, groups{kTokens, gates.groups};
  const Shape chosen{kTokens, kChoices};
  std::vector<double> v = normal_values<double>(shape.size(), "v");
  std::vector<double> u = normal_values<double>(groups.size(), "u");
  const std::vector<double> dweights = normal_values<double>(chosen.size(), "dweights");
  std::vector<double> z = v, weights(dweights.size());
  const TensorView logits = view_of(z.data(), shape);
  ops::join_gates({}, view_of(u.data(), groups), logits);
  std::vector<std::int32_t> indices(dweights.size());
  const TensorView choice = view_of(indices.data(), chosen);
  ops::gate_choices({}, gates, logits, view_of(u.data(), groups), choice);
  indices[1] = indices[4] = indices[5] = ops::kNoChoice;  // one of a group, and a whole group

  std::vector<double> dv(v.size(), 0.0), du(u.size());
  ops::gate_weights_backward({}, gates, 1.5, logits, choice, view_of(dweights.data(), chosen),
                             view_of(dv.data(), shape));
  ops::join_gates_backward({}, logits, view_of(dv.data(), shape), view_of(du.data(), groups));
  const auto loss = [&] {
    z = v;
    ops::join_gates({}, view_of(u.data(), groups), logits);
    ops::gate_weights({}, gates, 1.5, logits, choice, view_of(weights.data(), chosen));
    return std::inner_product(weights.begin(), weights.end(), dweights.begin(), 0.0);
  };
  expect_gradient("v", v, dv, loss);
  expect_gradient("u", u, du, loss);
}

TYPED_TEST(TwoGatesCuda, RefusesWhatDoesNotFit) {
  const Tensor z = normal<TypeParam>("z", {2, 6});
  const Tensor u = normal<TypeParam>("u", {2, 4});
  const Tensor indices({2, 4}, DType::kInt32);
  EXPECT_THROW(ops::join_gates({}, u, z), Error) << "6 experts in 4 groups";
  EXPECT_THROW(ops::gate_choices({}, {2, 1, 4}, z, u, indices), Error) << "4 of 3 experts";
  EXPECT_THROW(ops::gate_choices({}, {3, 4, 1}, z, u, indices), Error) << "4 of 3 groups";
}

}  // namespace
}  // namespace witan::test
