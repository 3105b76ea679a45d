// hash: a fixed table from token id to experts (Roller et al. 2021). The ids are permuted and dealt
// out in turn over the experts that the token may use, so that each of them owns as many ids as any
// other.
#include <numeric>
#include <span>
#include <vector>

#include "core/base/rng.h"
#include "core/model/router.h"

namespace witan {
namespace {

class HashRouter final : public Router {
 public:
  HashRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), top_k_(config.hash().k()) {
    const auto layer = static_cast<std::uint64_t>(place.layer);
    const Permutation permutation(config.hash().seed(), "hash router", layer,
                                  static_cast<std::uint64_t>(place.vocab));
    rank_.reserve(static_cast<std::size_t>(place.vocab));
    for (std::int64_t id = 0; id < place.vocab; ++id) {
      rank_.push_back(static_cast<std::int64_t>(permutation(static_cast<std::uint64_t>(id))));
    }
    all_.resize(static_cast<std::size_t>(place.experts));
    std::iota(all_.begin(), all_.end(), 0);
  }

  std::int64_t top_k() const override { return top_k_; }

 protected:
  void select(const Context&, const SelectionInput& in, const TensorView& indices) const override {
    const ExpertMask& mask = place().mask;
    const auto* token = in.batch.tokens_on_host().as<std::int32_t>();
    const auto* tag = mask.empty() ? nullptr : in.batch.tags.as<std::int32_t>();
    auto* index = indices.as<std::int32_t>();
    for (std::int64_t t = 0; t < indices.rows(); ++t) {
      const std::span<const std::int32_t> experts = tag == nullptr ? all_ : mask.experts(tag[t]);
      const std::int64_t first = rank_.at(static_cast<std::size_t>(token[t])) * top_k_;
      for (std::int64_t j = 0; j < top_k_; ++j) {
        const std::size_t place = static_cast<std::size_t>(first + j) % experts.size();
        index[t * top_k_ + j] = experts[place];
      }
    }
  }

 private:
  std::int64_t top_k_;
  std::vector<std::int64_t> rank_;  // [vocab] of each id in the permutation
  std::vector<std::int32_t> all_;   // [experts]
};

}  // namespace

std::unique_ptr<Router> make_hash_router(const configs::RouterConfig& config,
                                         const RouterPlace& place) {
  return std::make_unique<HashRouter>(config, place);
}

}  // namespace witan
