// hash: a fixed table from token id to experts (Roller et al. 2021). The ids are permuted and dealt
// out in turn, so that every expert owns as many ids as any other.
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
    first_expert_.reserve(static_cast<std::size_t>(place.vocab));
    for (std::int64_t id = 0; id < place.vocab; ++id) {
      const auto rank = static_cast<std::int64_t>(permutation(static_cast<std::uint64_t>(id)));
      first_expert_.push_back(rank * top_k_ % place.experts);
    }
  }

  std::int64_t top_k() const override { return top_k_; }

 protected:
  void select(const Context&, const SelectionInput& in, const TensorView& indices) const override {
    const auto* token = in.batch.tokens.as<std::int32_t>();
    auto* index = indices.as<std::int32_t>();
    for (std::int64_t t = 0; t < indices.rows(); ++t) {
      const std::int64_t first = first_expert_.at(static_cast<std::size_t>(token[t]));
      for (std::int64_t j = 0; j < top_k_; ++j) {
        index[t * top_k_ + j] = static_cast<std::int32_t>((first + j) % place().experts);
      }
    }
  }

 private:
  std::int64_t top_k_;
  std::vector<std::int64_t> first_expert_;  // [vocab]; the others follow it
};

}  // namespace

std::unique_ptr<Router> make_hash_router(const configs::RouterConfig& config,
                                         const RouterPlace& place) {
  return std::make_unique<HashRouter>(config, place);
}

}  // namespace witan
