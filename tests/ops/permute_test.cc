#include "core/ops/permute.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/support/bfloat16.h"
#include "tests/support/op_case.h"

namespace witan {
namespace {

using test::Values;

// A dispatch in small: every token's row is copied to top_k slots in a shuffled order.
struct PermuteCase {
  std::int64_t tokens;
  std::int64_t top_k;
  std::int64_t d;

  std::int64_t slots = tokens * top_k;
  Values x = test::random_normal(tokens * d, 1);
  Values rows = test::random_normal(slots * d, 2);
  Values y_before = test::random_normal(tokens * d, 3);
  std::vector<std::int32_t> choice_of_slot = shuffled();

  std::vector<std::int32_t> shuffled() const {
    std::vector<std::int32_t> order;
    const auto size = static_cast<std::uint64_t>(slots);
    for (std::uint64_t i = 0; i < size; ++i) {
      order.push_back(static_cast<std::int32_t>(Permutation(7, "slots", 0, size)(i)));
    }
    return order;
  }

  test::Outputs run(DType dtype) const {
    std::vector<std::int32_t> token_of_slot;
    std::vector<std::int32_t> slot_of_choice(choice_of_slot.size());
    for (std::size_t slot = 0; slot < choice_of_slot.size(); ++slot) {
      token_of_slot.push_back(static_cast<std::int32_t>(choice_of_slot[slot] / top_k));
      slot_of_choice[static_cast<std::size_t>(choice_of_slot[slot])] =
          static_cast<std::int32_t>(slot);
    }
    const Tensor sent = test::unwritten({slots, d}, dtype);
    ops::permute({}, test::tensor_of(x, {tokens, d}, dtype),
                 test::tensor_of(token_of_slot, {slots}), sent);
    const Tensor scattered = test::unwritten({slots, d}, dtype);
    ops::permute_backward({}, test::tensor_of(rows, {slots, d}, dtype),
                          test::tensor_of(choice_of_slot, {slots}), scattered);
    const Tensor y = test::unwritten({tokens, d}, dtype);
    const Tensor added = test::tensor_of(y_before, {tokens, d}, dtype);
    const Tensor from = test::tensor_of(rows, {slots, d}, dtype);
    std::vector<std::int32_t> lists;
    for (std::int64_t token = 0; token <= tokens; ++token) {
      lists.push_back(static_cast<std::int32_t>(token * top_k));
    }
    const Tensor begin = test::tensor_of(lists, {tokens + 1});
    const Tensor of_choice = test::tensor_of(slot_of_choice, {slots});
    ops::unpermute_sum({}, from, begin, of_choice, y);
    ops::unpermute_sum({}, from, begin, of_choice, added, true);
    return {{"sent", test::values_of(sent)},
            {"scattered", test::values_of(scattered)},
            {"y", test::values_of(y)},
            {"y added", test::values_of(added)}};
  }
};

const PermuteCase kCases[] = {{0, 2, 5}, {1, 1, 1}, {5, 2, 3}, {33, 3, 40}, {700, 2, 67}};

TEST(Permute, MatchesALoopOverSlots) {
  for (const PermuteCase& c : kCases) {
    const auto d = static_cast<std::size_t>(c.d);
    const test::Outputs found = c.run(DType::kFloat64);
    Values y(c.x.size(), 0.0);
    for (std::size_t slot = 0; slot < c.choice_of_slot.size(); ++slot) {
      const auto choice = static_cast<std::size_t>(c.choice_of_slot[slot]);
      const std::size_t token = choice / static_cast<std::size_t>(c.top_k);
      for (std::size_t i = 0; i < d; ++i) {
        ASSERT_EQ(found[0].values[slot * d + i], c.x[token * d + i]);
        ASSERT_EQ(found[1].values[choice * d + i], c.rows[slot * d + i]);
        y[token * d + i] += c.rows[slot * d + i];
      }
    }
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_NEAR(found[2].values[i], y[i], 1e-12);
      EXPECT_NEAR(found[3].values[i], y[i] + c.y_before[i], 1e-12);
    }
  }
}

// Rows of two tensors, counted one after the other, are those of the two joined.
TEST(Permute, OfTwoTensors) {
  for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
    for (const std::int64_t first : {0, 1, 40}) {
      const std::int64_t n = 40, d = 67, rows = 90;
      const Tensor x = test::tensor_of(test::random_normal(n * d, 1), {n, d}, dtype);
      std::vector<std::int32_t> order;
      for (std::int64_t r = 0; r < rows; ++r) order.push_back(static_cast<std::int32_t>(r * 7 % n));
      const Tensor index = test::tensor_of(order, {rows});
      const Tensor joined = test::unwritten({rows, d}, dtype);
      const Tensor y = test::unwritten({rows, d}, dtype);
      ops::permute({}, x, index, joined);
      ops::permute({}, x.view().slice_rows(0, first), x.view().slice_rows(first, n - first), index,
                   y);
      EXPECT_EQ(test::values_of(y), test::values_of(joined));
    }
  }
  const Tensor x = test::tensor_of(Values{1.0, 2.0}, {2, 1}, DType::kFloat64);
  const Tensor y = test::unwritten({1, 1}, DType::kFloat64);
  EXPECT_THROW(ops::permute({}, x, x, test::tensor_of(std::vector<std::int32_t>{4}, {1}), y),
               Error);
}

TEST(Permute, EveryLevelMatchesFloat64) {
  for (const PermuteCase& c : kCases) {
    test::check_op([&](DType dtype) { return c.run(dtype); }, test::kFloat32ElementTolerance);
  }
}

// The order of the sum is part of the contract: choices ascending.
TEST(Permute, SumsChoicesInOrder) {
  const Tensor x = test::tensor_of(Values{1e8, 1.0, -1e8}, {3, 1}, DType::kFloat32);
  const Tensor y = test::unwritten({2, 1}, DType::kFloat32);
  ops::unpermute_sum({}, x, test::tensor_of(std::vector<std::int32_t>{0, 3, 6}, {3}),
                     test::tensor_of(std::vector<std::int32_t>{0, 1, 2, 0, 2, 1}, {6}), y);
  EXPECT_EQ(test::values_of(y), (Values{0.0, 1.0}));
}

TEST(Permute, SumsListsOfAnyLength) {
  const Tensor x = test::tensor_of(Values{1.0, 2.0, 4.0}, {3, 1}, DType::kFloat64);
  const Tensor y = test::unwritten({4, 1}, DType::kFloat64);
  ops::unpermute_sum({}, x, test::tensor_of(std::vector<std::int32_t>{0, 0, 3, 4, 4}, {5}),
                     test::tensor_of(std::vector<std::int32_t>{2, 0, 1, 1}, {4}), y);
  EXPECT_EQ(test::values_of(y), (Values{0.0, 7.0, 2.0, 0.0}));
}

TEST(Permute, RefusesListsThatDoNotFit) {
  const Tensor x({3, 2}, DType::kFloat32);
  const Tensor y({2, 2}, DType::kFloat32);
  const Tensor index = test::tensor_of(std::vector<std::int32_t>{0, 1, 2}, {3});
  for (const std::vector<std::int32_t>& begin :
       {std::vector<std::int32_t>{0, 1, 2}, {0, 4, 3}, {1, 2, 3}, {0, 2, 4}}) {
    EXPECT_THROW(ops::unpermute_sum({}, x, test::tensor_of(begin, {3}), index, y), Error);
  }
}

// For products in bfloat16 rows are stored so; from one tensor and from two.
TEST(Permute, RoundsWhatItStoresInBfloat16) {
  constexpr Context kBf16{{}, {}, Products::kBfloat16};
  constexpr std::int64_t kRows = 7;
  for (const std::int64_t d : {1, 16, 37}) {
    std::vector<float> x;
    for (const double value : test::random_normal(kRows * d, 4)) {
      x.push_back(static_cast<float>(value));
    }
    x[0] = std::numeric_limits<float>::infinity();
    x[1] = 1.00390625F;                        // a tie, to even: 1
    x[2] = -1.01171875F;                       // and here upwards in size
    x[3] = std::bit_cast<float>(0x7FFFFFFFU);  // a NaN that must not become something else
    const std::vector<std::int32_t> index = {3, 0, 6, 6, 1};
    for (const std::int64_t split : {kRows, std::int64_t{2}}) {
      for (CpuIsa isa : test::executable_isas()) {
        const test::ScopedIsa level(isa);
        const TensorView all = view_of(x.data(), {kRows, d});
        const TensorView second =
            split == kRows ? TensorView{} : all.slice_rows(split, kRows - split);
        std::vector<Bfloat16> y(index.size() * static_cast<std::size_t>(d));
        ops::permute(kBf16, all.slice_rows(0, split), second,
                     test::tensor_of(index, {std::ssize(index)}),
                     view_of(y.data(), {std::ssize(index), d}));
        for (std::size_t i = 0; i < y.size(); ++i) {
          const auto at = static_cast<std::int64_t>(i);
          const float from =
              x[static_cast<std::size_t>(index[static_cast<std::size_t>(at / d)] * d + at % d)];
          if (std::isnan(from)) {
            EXPECT_TRUE(std::isnan(std::bit_cast<float>(std::uint32_t{y[i].bits} << 16)));
          } else {
            EXPECT_EQ(y[i].bits, test::stored(from).bits) << from << " at " << i;
          }
        }
      }
    }
  }
}

TEST(Permute, RefusesAnIndexOutOfRange) {
  const Tensor x({3, 2}, DType::kFloat32);
  const Tensor y({2, 2}, DType::kFloat32);
  for (std::int32_t wrong : {3, -1}) {
    const Tensor index = test::tensor_of(std::vector<std::int32_t>{0, wrong}, {2});
    EXPECT_THROW(ops::permute({}, x, index, y), Error);
    EXPECT_THROW(ops::permute_backward({}, y, index, y), Error);
    const Tensor begin = test::tensor_of(std::vector<std::int32_t>{0, 1, 2}, {3});
    EXPECT_THROW(ops::unpermute_sum({}, x, begin, index, y), Error);
  }
}

}  // namespace
}  // namespace witan
