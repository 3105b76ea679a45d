// The ranks of a communicator as the model sees them.
#pragma once

#include <optional>
#include <vector>

#include "core/model/rank_group.h"
#include "core/tensor/arena.h"
#include "parallel/communicator.h"

namespace witan {

class CommunicatorRankGroup final : public RankGroup {
 public:
  // `group` must outlive this.
  explicit CommunicatorRankGroup(Communicator& group) : group_(group) {}

  int size() const override { return group_.size(); }
  int rank() const override { return group_.rank(); }
  using RankGroup::sum;
  void sum(const Context& ctx, const TensorView& x) override;
  Gathered gather(const Context& ctx, const TensorView& x, bool even) override;
  std::size_t buffer_bytes() const { return buffer_ ? buffer_->bytes_reserved() : 0; }

 private:
  Communicator& group_;
  std::vector<std::int64_t> rows_;  // [ranks]
  std::optional<Arena> buffer_;     // on the device of what was gathered last
};

}  // namespace witan
