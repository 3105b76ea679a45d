// How a micro-batch is cut into rounds. One rank here; several in tests/launch/trainer_bounds_test.
#include "core/model/rounds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/ops/topk.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

std::vector<std::int64_t> cut(std::vector<std::int32_t> indices, std::int64_t top_k,
                              std::int64_t max_rows) {
  const auto tokens = static_cast<std::int64_t>(indices.size()) / top_k;
  std::vector<std::int64_t> begins;
  cut_rounds(view_of(indices.data(), {tokens, top_k}), 4, max_rows, RankGroup::alone(), begins);
  return begins;
}

using Begins = std::vector<std::int64_t>;

TEST(Rounds, OneWhereTheRowsFit) {
  EXPECT_EQ(cut({0, 1, 2, 3, 0, 1}, 2, 6), (Begins{0, 3}));
  EXPECT_EQ(cut({}, 2, 6), (Begins{0, 0}));
}

TEST(Rounds, FilledUpTokenByToken) {
  EXPECT_EQ(cut({0, 1, 2, 3, 0, 1}, 2, 5), (Begins{0, 2, 3}));
  EXPECT_EQ(cut({0, 1, 2, 3, 0, 1}, 2, 2), (Begins{0, 1, 2, 3}));
  // Choices that a token does not make take no room.
  constexpr std::int32_t kNone = ops::kNoChoice;
  EXPECT_EQ(cut({0, kNone, kNone, kNone, 0, kNone, 1, 2}, 2, 2), (Begins{0, 3, 4}));
}

TEST(Rounds, ALimitBelowOneTokenIsAnError) {
  EXPECT_EQ(fewest_max_rows(2, 4, 1), 2);
  EXPECT_EQ(fewest_max_rows(8, 12, 4), 12) << "a rank has only 3 experts for a token";
  EXPECT_THROW(cut({0, 1}, 2, 1), Error);
}

// Ranks with what they say to each other written down beforehand: nobody has to run at the same
// time.
class Scripted final : public RankGroup {
 public:
  Scripted(int rank, std::vector<std::vector<double>> sums) : rank_(rank), sums_(std::move(sums)) {}
  int size() const override { return 3; }
  int rank() const override { return rank_; }
  void sum(const Context&, const TensorView& x) override {
    ASSERT_EQ(static_cast<std::size_t>(x.size()), sums_.at(call_).size());
    for (std::size_t i = 0; i < sums_[call_].size(); ++i) x.as<double>()[i] += sums_[call_][i];
    ++call_;
  }
  Gathered gather(const Context&, const TensorView& x, bool) override { return {x, 0}; }

 private:
  int rank_;
  std::vector<std::vector<double>> sums_;
  std::size_t call_ = 0;
};

// Rank 1 of three has 6 tokens for rank 0, whose other sources send 0 and 18: of 9 places each
// source gets one, and of the other 6 by what it sends.
TEST(Rounds, RoomIsSharedByWhatEachRankSends) {
  std::vector<std::int32_t> indices(6, 0);
  std::vector<std::int64_t> begins;
  Scripted group(1, {{0, 0, 0, 0, 0, 0, 18, 0, 0}, {2, 0, 4}});
  cut_rounds(view_of(indices.data(), {6, 1}), 3, 9, group, begins);
  // 1 + 6 * 6 / 24 = 2 at a time, and as many rounds as rank 2 has.
  EXPECT_EQ(begins, (Begins{0, 2, 4, 6, 6}));
}

}  // namespace
}  // namespace witan::test
