// expert_choice: each expert takes its C = min(T, ceil(T capacity_factor k / E)) best tokens of one
// rank's micro-batch by their scores (Zhou et al. 2022); ties go to the earlier token. With fewer
// tokens that may use it, an expert takes those. A token's choice depends on the other tokens.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/model/router.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

class ExpertChoiceRouter final : public Router {
 public:
  ExpertChoiceRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), config_(config.expert_choice()) {}

  std::int64_t top_k() const override { return place().experts; }

 protected:
  void select(const Context&, const SelectionInput& in, const TensorView& indices) const override {
    const std::int64_t tokens = in.s.rows();
    const std::int64_t experts = in.s.cols();
    const double share = config_.capacity_factor() * static_cast<double>(config_.k() * tokens) /
                         static_cast<double>(experts);
    const std::int64_t capacity =
        std::min(tokens, static_cast<std::int64_t>(std::ceil(share - 1e-9)));
    auto* index = indices.as<std::int32_t>();
    std::fill_n(index, indices.size(), ops::kNoChoice);
    chosen_.assign(static_cast<std::size_t>(tokens), 0);
    order_.resize(static_cast<std::size_t>(tokens));
    dispatch_float(in.s.dtype, "expert choice", [&](auto zero) {
      using T = decltype(zero);
      const T* s = in.ranked.as<T>();
      for (std::int64_t e = 0; e < experts; ++e) {
        std::iota(order_.begin(), order_.end(), 0);
        std::partial_sort(order_.begin(), order_.begin() + capacity, order_.end(),
                          [&](std::int64_t a, std::int64_t b) {
                            const auto left = s[a * experts + e];
                            const auto right = s[b * experts + e];
                            return left != right ? left > right : a < b;
                          });
        for (std::int64_t i = 0; i < capacity; ++i) {
          const std::int64_t token = order_[static_cast<std::size_t>(i)];
          if (s[token * experts + e] == -std::numeric_limits<T>::infinity()) break;
          std::int64_t& count = chosen_[static_cast<std::size_t>(token)];
          index[token * experts + count++] = static_cast<std::int32_t>(e);
        }
      }
    });
  }

 private:
  configs::ExpertChoiceSelection config_;
  mutable std::vector<std::int64_t> order_, chosen_;  // keep their capacity
};

}  // namespace

std::unique_ptr<Router> make_expert_choice_router(const configs::RouterConfig& config,
                                                  const RouterPlace& place) {
  return std::make_unique<ExpertChoiceRouter>(config, place);
}

}  // namespace witan
