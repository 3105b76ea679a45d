#include "core/ops/embedding.h"

#include <gtest/gtest.h>

#include "tests/support/op_case.h"

namespace witan {
namespace {

using test::Values;

constexpr std::int64_t kVocab = 11;

struct EmbeddingCase {
  std::int64_t rows;
  std::int64_t d;
  std::vector<std::int32_t> tokens = test::random_indices(rows, kVocab, 1);
  Values w = test::random_normal(kVocab * d, 2);
  Values dy = test::random_normal(rows * d, 3);
  Values dw_before = test::random_normal(kVocab * d, 4);

  test::Outputs run(DType dtype) const {
    const Tensor index = test::tensor_of(tokens, {rows});
    const Tensor y = test::unwritten({rows, d}, dtype);
    ops::embedding({}, index, test::tensor_of(w, {kVocab, d}, dtype), y);
    const Tensor dw = test::tensor_of(dw_before, {kVocab, d}, dtype);
    ops::embedding_backward({}, index, test::tensor_of(dy, {rows, d}, dtype), dw);
    return {{"y", test::values_of(y)}, {"dw", test::values_of(dw)}};
  }
};

const EmbeddingCase kCases[] = {{0, 5}, {1, 1}, {7, 3}, {40, 37}, {900, 130}};

TEST(Embedding, MatchesALoopOverTokens) {
  for (const EmbeddingCase& c : kCases) {
    Values y(c.dy.size());
    Values dw = c.dw_before;
    for (std::size_t r = 0; r < c.tokens.size(); ++r) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(c.d); ++i) {
        const std::size_t at = static_cast<std::size_t>(c.tokens[r] * c.d) + i;
        y[r * static_cast<std::size_t>(c.d) + i] = c.w[at];
        dw[at] += c.dy[r * static_cast<std::size_t>(c.d) + i];
      }
    }
    const test::Outputs found = c.run(DType::kFloat64);
    EXPECT_EQ(found[0].values, y);
    EXPECT_EQ(found[1].values, dw);  // the same order of additions: the same bits
  }
}

TEST(Embedding, EveryLevelMatchesFloat64) {
  for (const EmbeddingCase& c : kCases) {
    test::check_op([&](DType dtype) { return c.run(dtype); }, test::kFloat32RowTolerance);
  }
}

TEST(Embedding, RefusesATokenOutsideTheVocabulary) {
  EmbeddingCase c = {3, 4};
  c.tokens[2] = kVocab;
  EXPECT_THROW(c.run(DType::kFloat32), Error);
}

}  // namespace
}  // namespace witan
