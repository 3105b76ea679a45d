#include "launch/data/batch_builder.h"

#include "core/base/error.h"
#include "core/tensor/transfer.h"

namespace witan {
namespace {

// Row `begin` and those after it: one sequence, cut from out.window.
void add_sequence(const configs::DataConfig& data, std::int32_t end_of_document, int tag,
                  std::size_t begin, BatchBuffers& out) {
  const std::vector<std::int32_t>& window = out.window;  // [seq_len + 1]
  std::int32_t document_begin = 0;
  for (std::size_t i = 0; i + 1 < window.size(); ++i) {
    const auto position = static_cast<std::int32_t>(i);
    const bool beyond_end = window[i] < 0;
    const bool ends_document = window[i] == end_of_document;
    const bool counts =
        !beyond_end && window[i + 1] >= 0 && !(data.mask_document_start() && ends_document);
    out.tokens[begin + i] = beyond_end ? 0 : window[i];
    out.targets[begin + i] = counts ? window[i + 1] : -1;
    out.positions[begin + i] = position - document_begin;
    out.first_key[begin + i] = document_begin;
    out.tags[begin + i] = tag;
    if (counts) ++out.batch.loss_tokens;
    // The end-of-document token still belongs to the document it ends.
    if (data.reset_at_document() && ends_document) document_begin = position + 1;
  }
}

}  // namespace

void place_batch(const Context& ctx, BatchBuffers& buffers) {
  if (ctx.device.is_cpu()) return;
  Batch& batch = buffers.batch;
  constexpr std::int64_t kColumns = 5;
  if (buffers.placed.empty() || buffers.placed.view().size() < kColumns * batch.rows()) {
    buffers.placed = Tensor({kColumns * batch.rows()}, DType::kInt32, ctx.device);
  }
  batch.host_tokens = batch.tokens;
  batch.host_targets = batch.targets;
  batch.host_tags = batch.tags;
  std::int64_t begin = 0;
  for (TensorView* column :
       {&batch.tokens, &batch.targets, &batch.positions, &batch.first_key, &batch.tags}) {
    if (column->shape.rank() == 0) continue;  // not set, as in decoding
    const TensorView there = buffers.placed.view().slice_rows(begin, batch.rows());
    transfer(ctx, *column, there);
    *column = there;
    begin += batch.rows();
  }
}

void build_batch(const configs::DataConfig& data, std::int64_t seq_len,
                 std::int32_t end_of_document, std::int64_t count, std::int64_t first_sequence,
                 const std::function<int(std::int64_t, std::span<std::int32_t>)>& sample,
                 BatchBuffers& out) {
  WITAN_CHECK(seq_len > 0 && count >= 0, "a batch of ", count, " sequences of ", seq_len,
              " tokens");
  const auto rows = static_cast<std::size_t>(count * seq_len);
  out.window.resize(static_cast<std::size_t>(seq_len) + 1);
  for (auto* column : {&out.tokens, &out.targets, &out.positions, &out.first_key, &out.tags})
    column->resize(rows);

  const auto view = [&](std::vector<std::int32_t>& column) {
    return view_of(column.data(), {static_cast<std::int64_t>(rows)});
  };
  out.batch = {.sequences = count,
               .seq_len = seq_len,
               .first_token = first_sequence * seq_len,
               .loss_tokens = 0,
               .tokens = view(out.tokens),
               .targets = view(out.targets),
               .positions = view(out.positions),
               .first_key = view(out.first_key),
               .tags = view(out.tags),
               .host_tokens = {},
               .host_targets = {},
               .host_tags = {}};
  for (std::int64_t i = 0; i < count; ++i) {
    const int tag = sample(i, out.window);
    add_sequence(data, end_of_document, tag, static_cast<std::size_t>(i * seq_len), out);
  }
}

}  // namespace witan
