#include "core/model/rank_group.h"

namespace witan {
namespace {

class Alone final : public RankGroup {
 public:
  int size() const override { return 1; }
  int rank() const override { return 0; }
  void sum(const Context&, const TensorView&) override {}
  Gathered gather(const Context&, const TensorView& x, bool) override { return {x, 0}; }
};

}  // namespace

RankGroup& RankGroup::alone() {
  static Alone group;  // without state
  return group;
}

}  // namespace witan
