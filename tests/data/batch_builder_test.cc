#include "launch/data/batch_builder.h"

#include <algorithm>

#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using Column = std::vector<std::int32_t>;
constexpr std::int32_t kEnd = 9;

Column column(const TensorView& view) {
  const auto* data = view.as<std::int32_t>();
  return {data, data + view.size()};
}

// A batch of the given windows (seq_len + 1 tokens each); sequence i has the tag 10 + i.
void build(const configs::DataConfig& data, const std::vector<Column>& windows,
           BatchBuffers& buffers, std::int64_t first_sequence = 0) {
  build_batch(
      data, static_cast<std::int64_t>(windows.at(0).size()) - 1, kEnd,
      static_cast<std::int64_t>(windows.size()), first_sequence,
      [&](std::int64_t i, std::span<std::int32_t> window) {
        std::copy(windows[static_cast<std::size_t>(i)].begin(),
                  windows[static_cast<std::size_t>(i)].end(), window.begin());
        return 10 + static_cast<int>(i);
      },
      buffers);
}

TEST(BatchBuilderTest, TargetsAreTheNextTokens) {
  BatchBuffers buffers;
  build({}, {{1, 2, kEnd, 4}, {5, 6, 7, 8}}, buffers, 6);
  const Batch& batch = buffers.batch;
  EXPECT_EQ(batch.sequences, 2);
  EXPECT_EQ(batch.seq_len, 3);
  EXPECT_EQ(batch.first_token, 18);
  EXPECT_EQ(batch.loss_tokens, 6);
  EXPECT_EQ(column(batch.tokens), (Column{1, 2, kEnd, 5, 6, 7}));
  EXPECT_EQ(column(batch.targets), (Column{2, kEnd, 4, 6, 7, 8}));
  EXPECT_EQ(column(batch.positions), (Column{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(column(batch.first_key), (Column{0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(column(batch.tags), (Column{10, 10, 10, 11, 11, 11}));
}

TEST(BatchBuilderTest, DocumentsStartAnew) {
  configs::DataConfig data;
  data.set_reset_at_document(true);
  BatchBuffers buffers;
  // Two end-of-document tokens in a row, one at the start of a sequence, one at its end.
  build(data, {{1, 2, kEnd, 4, kEnd, kEnd, 7}, {kEnd, 2, 3, 4, 5, kEnd, 7}}, buffers);
  EXPECT_EQ(column(buffers.batch.positions), (Column{0, 1, 2, 0, 1, 0, 0, 0, 1, 2, 3, 4}));
  EXPECT_EQ(column(buffers.batch.first_key), (Column{0, 0, 0, 3, 3, 5, 0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(buffers.batch.loss_tokens, 12);
}

TEST(BatchBuilderTest, FirstTokensOfDocumentsAreMasked) {
  configs::DataConfig data;
  data.set_mask_document_start(true);
  BatchBuffers buffers;
  build(data, {{1, 2, kEnd, 4, kEnd}, {kEnd, 2, 3, kEnd, 5}}, buffers);
  EXPECT_EQ(column(buffers.batch.targets), (Column{2, kEnd, -1, kEnd, -1, 3, kEnd, -1}));
  EXPECT_EQ(buffers.batch.loss_tokens, 5);
  EXPECT_EQ(column(buffers.batch.first_key), Column(8, 0));  // masking alone resets nothing
}

TEST(BatchBuilderTest, BeyondTheEndNothingCounts) {
  BatchBuffers buffers;
  build({}, {{1, 2, 3, -1, -1}, {4, 5, -1, -1, -1}}, buffers);
  EXPECT_EQ(column(buffers.batch.tokens), (Column{1, 2, 3, 0, 4, 5, 0, 0}));
  EXPECT_EQ(column(buffers.batch.targets), (Column{2, 3, -1, -1, 5, -1, -1, -1}));
  EXPECT_EQ(buffers.batch.loss_tokens, 3);
}

TEST(BatchBuilderTest, NoSequencesIsAnOrdinaryBatch) {
  BatchBuffers buffers;
  build({}, {{1, 2, 3}}, buffers);
  const auto no_sample = [](std::int64_t, std::span<std::int32_t>) -> int {
    throw Error("no sample was asked for");
  };
  build_batch({}, 2, kEnd, 0, 5, no_sample, buffers);
  EXPECT_EQ(buffers.batch.sequences, 0);
  EXPECT_EQ(buffers.batch.rows(), 0);
  EXPECT_EQ(buffers.batch.loss_tokens, 0);
  EXPECT_EQ(buffers.batch.tokens.size(), 0);
}

TEST(BatchBuilderTest, BuffersAreReused) {
  BatchBuffers buffers;
  build({}, {{1, 2, 3}, {4, 5, 6}}, buffers);
  const void* before = buffers.batch.tokens.data;
  build({}, {{7, 8, 9}}, buffers);
  build({}, {{1, 2, 3}, {4, 5, 6}}, buffers);
  EXPECT_EQ(buffers.batch.tokens.data, before);
}

}  // namespace
}  // namespace witan
