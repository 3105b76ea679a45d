// The ranks of a communicator as the model sees them.
#pragma once

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
  Gathered gather(const TensorView& x) override;
  std::size_t buffer_bytes() const { return buffer_.bytes_reserved(); }

 private:
  Communicator& group_;
  std::vector<std::int64_t> rows_;  // [ranks]
  Arena buffer_{Device{}, "gathered scores"};
};

}  // namespace witan
