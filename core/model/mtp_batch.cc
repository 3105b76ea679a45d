#include "core/model/mtp_batch.h"

#include <algorithm>

#include "core/ops/columns.h"
#include "core/tensor/twin.h"

namespace witan {
namespace {

// column[sequence, i] = from[sequence, i + shift] for the first `kept` positions.
void shift_column(const TensorView& from, const Batch& main, std::int64_t kept, std::int64_t shift,
                  std::vector<std::int32_t>& column) {
  column.resize(static_cast<std::size_t>(main.sequences * kept));
  const auto* value = from.as<std::int32_t>();
  auto to = column.begin();
  for (std::int64_t sequence = 0; sequence < main.sequences; ++sequence) {
    const std::int32_t* first = value + sequence * main.seq_len + shift;
    to = std::copy(first, first + kept, to);
  }
}

// The first `kept` positions of every sequence.
TensorView first_positions(const Context& ctx, Arena& arena, const TensorView& column,
                           const Batch& main, std::int64_t kept) {
  const TensorView first =
      arena.allocate({main.sequences * kept}, column.dtype, "multi-token prediction");
  ops::copy_columns(ctx, column.reshape({main.sequences, main.seq_len}), 0,
                    first.reshape({main.sequences, kept}), 0, kept);
  return first;
}

}  // namespace

void MtpBatch::cut(const Context& ctx, Arena& arena, const Batch& main, std::int64_t depth) {
  WITAN_CHECK(main.seq_len > depth, "multi-token prediction at depth ", depth,
              " needs longer sequences than ", main.seq_len, " tokens");
  const std::int64_t kept = main.seq_len - depth;
  shift_column(main.tokens_on_host(), main, kept, depth, tokens);
  shift_column(main.targets_on_host(), main, kept, depth, targets);
  if (!main.tags.empty()) shift_column(main.tags_on_host(), main, kept, depth, tags);

  batch = main;
  batch.seq_len = kept;
  batch.first_token = main.first_token / main.seq_len * kept;
  batch.loss_tokens = 0;
  const auto* target = main.targets_on_host().as<std::int32_t>();
  for (std::int64_t row = 0; row < batch.rows(); ++row) {
    const std::int32_t* first = target + row / kept * main.seq_len + row % kept;
    bool counts = true;
    for (std::int64_t i = 0; i <= depth; ++i) counts = counts && first[i] >= 0;
    if (!counts) targets[static_cast<std::size_t>(row)] = -1;
    batch.loss_tokens += counts ? 1 : 0;
  }
  const auto view = [&](std::vector<std::int32_t>& column) {
    return view_of(column.data(), {batch.rows()});
  };
  batch.host_tokens = view(tokens);
  batch.host_targets = view(targets);
  batch.tokens = copy_in(ctx, arena, batch.host_tokens, "multi-token prediction");
  batch.targets = copy_in(ctx, arena, batch.host_targets, "multi-token prediction");
  batch.positions = first_positions(ctx, arena, main.positions, main, kept);
  batch.first_key = first_positions(ctx, arena, main.first_key, main, kept);
  if (main.tags.empty()) return;
  batch.host_tags = view(tags);
  batch.tags = copy_in(ctx, arena, batch.host_tags, "multi-token prediction");
}

}  // namespace witan
