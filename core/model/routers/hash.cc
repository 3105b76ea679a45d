// hash: a fixed table from token id to experts (Roller et al. 2021). The ids are permuted and dealt
// out in turn over the experts that the token may use, so that each of them owns as many ids as any
// other.
#include <span>
#include <vector>

#include "core/base/rng.h"
#include "core/model/router.h"
#include "core/ops/topk.h"
#include "core/tensor/transfer.h"

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
      rank_.push_back(static_cast<std::int32_t>(permutation(static_cast<std::uint64_t>(id))));
    }
  }

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return top_k_; }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    const TensorView table = view_of(rank_.data(), {static_cast<std::int64_t>(rank_.size())});
    if (!ctx.device.is_cpu()) {
      if (device_rank_.empty()) device_rank_ = transferred(ctx, table, ctx.device);
      return ops::table_choices(ctx, in.batch.tokens, device_rank_, place().experts, indices);
    }
    const TensorView& tokens = in.batch.tokens_on_host();
    const ExpertMask& mask = place().mask;
    if (mask.empty()) return ops::table_choices(ctx, tokens, table, place().experts, indices);
    const auto* token = tokens.as<std::int32_t>();
    const auto* tag = in.batch.tags.as<std::int32_t>();
    auto* index = indices.as<std::int32_t>();
    for (std::int64_t t = 0; t < indices.rows(); ++t) {
      const std::span<const std::int32_t> experts = mask.experts(tag[t]);
      const std::int64_t first = rank_.at(static_cast<std::size_t>(token[t])) * top_k_;
      for (std::int64_t j = 0; j < top_k_; ++j) {
        const std::size_t place = static_cast<std::size_t>(first + j) % experts.size();
        index[t * top_k_ + j] = experts[place];
      }
    }
  }

 private:
  std::int64_t top_k_;
  std::vector<std::int32_t> rank_;  // [vocab] of each id in the permutation
  mutable Tensor device_rank_;      // its copy for a model on a device, made at the first use
};

}  // namespace

std::unique_ptr<Router> make_hash_router(const configs::RouterConfig& config,
                                         const RouterPlace& place) {
  return std::make_unique<HashRouter>(config, place);
}

}  // namespace witan
