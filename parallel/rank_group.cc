#include "parallel/rank_group.h"

namespace witan {

void CommunicatorRankGroup::sum(const Context& ctx, const TensorView& x) {
  group_.all_reduce(x, ReduceOp::kSum).wait_on(ctx);
}

RankGroup::Gathered CommunicatorRankGroup::gather(const Context& ctx, const TensorView& x,
                                                  bool even) {
  if (size() == 1) return {x, 0};
  std::int64_t own = x.rows();
  rows_.assign(static_cast<std::size_t>(size()), own);
  if (!even) group_.all_gather(view_of(&own, {1}), view_of(rows_.data(), {size()})).wait();
  Gathered gathered;
  std::int64_t total = 0;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) gathered.first = total;
    total += rows_[static_cast<std::size_t>(peer)];
  }
  if (buffer_ && buffer_->device() == x.device) {
    buffer_->reset();
  } else {
    buffer_.emplace(x.device, "gathered scores");
  }
  gathered.rows = buffer_->allocate(x.shape.with_rows(total), x.dtype, "gathered scores");
  group_.all_gather_v(x, gathered.rows, rows_).wait_on(ctx);
  return gathered;
}

}  // namespace witan
