// expert_choice: each expert takes its C = min(T, ceil(T capacity_factor k / E)) best tokens by
// their scores (Zhou et al. 2022), of one rank's micro-batch or of those of the whole
// expert-parallel group, whose scores are gathered; ties go to the earlier token. With fewer tokens
// that may use it, an expert takes those. A token's choice depends on the other tokens.
#include "core/ops/expert_choice.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/model/router.h"

namespace witan {
namespace {

using configs::ExpertChoiceSelection;

class ExpertChoiceRouter final : public Router {
 public:
  ExpertChoiceRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), config_(config.expert_choice()) {}

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return place().experts; }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    const bool group = config_.scope() == ExpertChoiceSelection::EXPERT_GROUP;
    const RankGroup::Gathered all = group ? in.expert_ranks.gather(ctx, in.ranked, in.batch.even)
                                          : RankGroup::Gathered{in.ranked, 0};
    ops::expert_choice(ctx, all.rows, capacity(all.rows.rows(), in.s.cols()), all.first, indices);
  }

 private:
  std::int64_t capacity(std::int64_t tokens, std::int64_t experts) const {
    const double share = config_.capacity_factor() * static_cast<double>(config_.k() * tokens) /
                         static_cast<double>(experts);
    return std::min(tokens, static_cast<std::int64_t>(std::ceil(share - 1e-9)));
  }

  ExpertChoiceSelection config_;
};

}  // namespace

std::unique_ptr<Router> make_expert_choice_router(const configs::RouterConfig& config,
                                                  const RouterPlace& place) {
  return std::make_unique<ExpertChoiceRouter>(config, place);
}

}  // namespace witan
