// hash: a fixed table from token id to experts (Roller et al. 2021). The ids are permuted and dealt
// out in turn over the experts that the token may use, so that each of them owns as many ids as any
// other.
#include <vector>

#include "core/base/rng.h"
#include "core/model/router.h"
#include "core/ops/expert_mask.h"
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
    const TensorView ranks = ranks_at(ctx);
    const TensorView& tokens = ctx.device.is_cpu() ? in.batch.tokens_on_host() : in.batch.tokens;
    const ExpertMask& mask = place().mask;
    if (mask.empty()) return ops::table_choices(ctx, tokens, ranks, place().experts, indices);
    ops::tag_choices(ctx, mask.table(ctx), in.batch.tags_at(ctx.device), tokens, ranks, indices);
  }

 private:
  TensorView ranks_at(const Context& ctx) const {
    const TensorView ranks = view_of(rank_.data(), {static_cast<std::int64_t>(rank_.size())});
    if (ctx.device.is_cpu()) return ranks;
    if (device_rank_.empty()) device_rank_ = transferred(ctx, ranks, ctx.device);
    return device_rank_;
  }

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
