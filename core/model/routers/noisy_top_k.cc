// noisy_top_k: in training the logits get noise, which enters selection and weights. LEARNED: a
// standard normal times softplus(x W_noise) (Shazeer et al. 2017); FIXED: times 1 / experts (V-MoE,
// Riquelme et al. 2021). The draws are addressed by seed, step, layer, global token and expert.
#include <string>

#include "core/base/rng.h"
#include "core/model/router.h"
#include "core/ops/router_noise.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

class NoisyTopKRouter final : public Router {
 public:
  NoisyTopKRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place),
        top_k_(config.noisy_top_k().k()),
        learned_(config.noisy_top_k().noise() == configs::NoisyTopKSelection::LEARNED) {}

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return top_k_; }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    ops::topk(ctx, in.ranked, in.expert_bias, indices);
  }

  void finish_logits(const Context& ctx, const RouterParams& params, const Batch& batch,
                     const RouterArenas& arenas, RouterSaved& saved) const override {
    if (!batch.training) return;
    const TensorView& z = saved.z;
    Arena& arena = arenas.decision;
    saved.noise_scale = arena.allocate(z.shape, z.dtype, "router");
    saved.clean_z = arena.allocate(z.shape, z.dtype, "router");
    if (learned_) {
      saved.noise = arena.allocate(z.shape, z.dtype, "router");
      product(ctx, saved.x, params.noise, {}, saved.noise_scale, arenas.scratch);
    }
    ops::add_router_noise(context_at(ctx, z.device),
                          learned_ ? ops::NoiseScale::kLearned : ops::NoiseScale::kFixed,
                          draws(batch).address(), first_draw(batch),
                          {z, saved.clean_z, saved.noise_scale, saved.noise});
  }

  void logits_backward(const Context& ctx, const RouterParams& params, const Batch& batch,
                       const RouterSaved& saved, const TensorView& dz,
                       const TensorView& dnoise_scale, const TensorView& dx, Arena& scratch,
                       Arena& decision_scratch) const override {
    if (!learned_ || !batch.training) return;
    ArenaScope scope(decision_scratch);
    const TensorView dlogits = decision_scratch.allocate(dz.shape, dz.dtype, "router backward");
    ops::router_noise_backward(context_at(ctx, dz.device), dz, dnoise_scale, saved.noise,
                               saved.noise_scale, dlogits);
    product_backward(ctx, dlogits, saved.x, params.noise, params.dnoise, {}, dx, scratch);
  }

 private:
  Random draws(const Batch& batch) const {
    return {batch.seed, "router noise", std::to_string(place().layer),
            static_cast<std::uint64_t>(batch.step)};
  }
  std::uint64_t first_draw(const Batch& batch) const {
    return static_cast<std::uint64_t>(batch.first_token * place().experts);
  }

  std::int64_t top_k_;
  bool learned_;
};

}  // namespace

std::unique_ptr<Router> make_noisy_top_k_router(const configs::RouterConfig& config,
                                                const RouterPlace& place) {
  return std::make_unique<NoisyTopKRouter>(config, place);
}

}  // namespace witan
