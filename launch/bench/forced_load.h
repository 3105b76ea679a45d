// Routing with a load that is forced: the hottest experts get (1 + MaxVio) times the mean, the
// others share the rest evenly. Choices of a token are different experts, and which experts meet in
// a token is random. Every rank's tokens have the same load.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/router.h"

namespace witan {

class ForcedLoad final : public RoutingHook {
 public:
  struct Load {
    std::int64_t experts = 0;
    std::int64_t top_k = 0;
    double max_vio = 0.0;  // at most experts / top_k - 1: no expert can get more than every token
    std::int64_t hot = 1;  // experts 0 .. hot - 1 are the hottest
  };
  // For `tokens` tokens on this rank; UserError for a MaxVio that cannot be.
  ForcedLoad(const Load& load, std::int64_t tokens, std::uint64_t seed);

  void on_route(int layer, const Batch& batch, const TensorView& indices,
                std::int64_t experts) override;

  const std::vector<std::int64_t>& counts() const { return counts_; }  // [experts], of this rank

 private:
  void deal(const Load& load, std::int64_t tokens);
  void shuffle(std::int64_t top_k, std::uint64_t seed);
  bool chosen_twice(std::int64_t token, std::int64_t top_k) const;

  std::vector<std::int64_t> counts_;
  std::vector<std::int32_t> indices_;  // [tokens, top_k]
};

// The shares of the experts [experts] that a load asks for; they add up to 1.
std::vector<double> expert_shares(const ForcedLoad::Load& load);

}  // namespace witan
