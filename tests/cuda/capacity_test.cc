// Who finds a place at an expert: the same pairs on either device, ties included.
#include "core/ops/capacity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "core/ops/topk.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

constexpr ops::Priority kPriorities[] = {ops::Priority::kTokenMajor, ops::Priority::kChoiceMajor,
                                         ops::Priority::kWeight, ops::Priority::kBestScore};

template <class T>
class CapacityCuda : public CudaTest {
 protected:
  // Scores of few different values, so that many weights and best scores are equal; `none`: every
  // so many choices are none.
  static std::vector<Tensor> operands(std::int64_t tokens, std::int64_t experts, std::int64_t top_k,
                                      std::int64_t values, std::int64_t none) {
    const Random random(5, "test scores");
    std::vector<T> scores(static_cast<std::size_t>(tokens * experts));
    for (std::size_t i = 0; i < scores.size(); ++i) {
      scores[i] = static_cast<T>(random.below(i, static_cast<std::uint64_t>(values))) / T{8};
    }
    std::vector<std::int32_t> chosen(static_cast<std::size_t>(tokens * top_k));
    std::vector<T> weights(chosen.size());
    const TensorView s = view_of(scores.data(), {tokens, experts});
    const TensorView indices = view_of(chosen.data(), {tokens, top_k});
    ops::topk({}, s, {}, indices);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      if (none > 0 && i % static_cast<std::size_t>(none) == 0) chosen[i] = ops::kNoChoice;
    }
    ops::route_weights({}, ops::RouteWeights::kAsIs, 1.0, s, indices,
                       view_of(weights.data(), {tokens, top_k}));
    std::vector<Tensor> tensors;
    tensors.push_back(with_values(chosen, {tokens, top_k}));
    tensors.push_back(with_values(weights, {tokens, top_k}));
    tensors.push_back(with_values(scores, {tokens, experts}));
    tensors.push_back(unwritten({tokens, top_k}, DType::kInt32));
    return tensors;
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CapacityCuda, Types);

struct Case {
  std::int64_t tokens, experts, top_k;
  std::int64_t unlimited;  // experts, of the last ones, that have room for all
  std::int64_t each;       // places
  std::int64_t values;     // different scores
  std::int64_t none;
};
// Within one tile of the counting sort and over several; more columns than threads of a block; all
// scores the same, a few and none; places for nobody, for some and for all.
constexpr Case kCases[] = {{0, 4, 2, 0, 3, 6, 0},    {1, 3, 3, 0, 1, 1, 0},
                           {40, 4, 2, 0, 0, 6, 0},   {40, 4, 2, 0, 7, 1, 0},
                           {40, 4, 2, 0, 20, 6, 3},  {50, 9, 3, 2, 6, 1 << 20, 4},
                           {12, 90, 8, 0, 1, 4, 0},  {100, 3, 3, 1, 1000, 6, 0},
                           {300, 5, 1, 0, 40, 6, 0}, {110, 5, 3, 1, 33, 9, 5}};

TYPED_TEST(CapacityCuda, KeepsThePairsOfTheCpu) {
  for (const Case& c : kCases) {
    for (const ops::Priority priority : kPriorities) {
      SCOPED_TRACE(testing::Message()
                   << c.tokens << " tokens, top " << c.top_k << " of " << c.experts << ", priority "
                   << static_cast<int>(priority) << ", " << c.each << " places");
      const ops::ExpertPlaces places{priority, c.each, c.experts - c.unlimited};
      this->expect_twins(this->operands(c.tokens, c.experts, c.top_k, c.values, c.none), 0.0,
                         [&](const Context& ctx, const std::vector<TensorView>& t) {
                           ops::keep_places(ctx, places, t[0], t[1], t[2], t[3]);
                         });
    }
  }
}

// What the CPU twin is held against elsewhere, on the device alone: no expert gets more than it has
// places, and none is left empty that somebody wanted.
TYPED_TEST(CapacityCuda, PlacesAreNeitherExceededNorLeft) {
  constexpr std::int64_t kTokens = 110, kExperts = 5, kTopK = 3, kPlaces = 40;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  const std::vector<Tensor> start = this->operands(kTokens, kExperts, kTopK, 9, 7);
  const auto* chosen = start[0].as<std::int32_t>();
  for (const ops::Priority priority : kPriorities) {
    std::vector<Tensor> t;
    for (const Tensor& tensor : start) t.push_back(transferred(ctx, tensor, kCuda));
    ops::keep_places(ctx, {priority, kPlaces, kExperts}, t[0], t[1], t[2], t[3]);
    const std::vector<std::int32_t> kept = to_host<std::int32_t>(ctx, t[3]);
    std::int64_t dropped = 0;
    for (std::int32_t e = 0; e < kExperts; ++e) {
      const auto wanted = std::count(chosen, chosen + kept.size(), e);
      const auto found = std::count(kept.begin(), kept.end(), e);
      EXPECT_EQ(found, std::min<std::int64_t>(wanted, kPlaces));
      dropped += wanted - found;
    }
    EXPECT_GT(dropped, 0);
  }
  witan::cuda::release_scratch(ctx);
}

TYPED_TEST(CapacityCuda, RefusesOperandsThatDoNotFit) {
  const std::vector<Tensor> t = this->operands(4, 5, 2, 9, 0);
  const auto keep = [&](std::int64_t experts, const TensorView& kept) {
    ops::keep_places({}, {ops::Priority::kWeight, 1, experts}, t[0], t[1], t[2], kept);
  };
  EXPECT_THROW(keep(6, t[3]), Error);
  EXPECT_THROW(keep(0, t[3]), Error);
  EXPECT_THROW(keep(5, t[0]), Error);
  EXPECT_THROW(keep(5, t[1]), Error);
}

}  // namespace
}  // namespace witan::test
