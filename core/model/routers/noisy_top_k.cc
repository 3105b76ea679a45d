// noisy_top_k: in training the logits get noise, which enters selection and weights. LEARNED: a
// standard normal times softplus(x W_noise) (Shazeer et al. 2017); FIXED: times 1 / experts (V-MoE,
// Riquelme et al. 2021). The draws are addressed by seed, step, layer, global token and expert.
#include <algorithm>
#include <cmath>
#include <string>

#include "core/base/rng.h"
#include "core/model/router.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

class NoisyTopKRouter final : public Router {
 public:
  NoisyTopKRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place),
        top_k_(config.noisy_top_k().k()),
        learned_(config.noisy_top_k().noise() == configs::NoisyTopKSelection::LEARNED) {}

  std::int64_t top_k() const override { return top_k_; }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    ops::topk(ctx, in.ranked, in.expert_bias, indices);
  }

  void finish_logits(const Context& ctx, const RouterParams& params, const Batch& batch,
                     Arena& arena, RouterSaved& saved) const override {
    if (!batch.training) return;
    const TensorView& z = saved.z;
    saved.noise_scale = arena.allocate(z.shape, z.dtype, "router");
    saved.clean_z = arena.allocate(z.shape, z.dtype, "router");
    ops::copy(ctx, z, saved.clean_z);
    if (learned_) {
      saved.noise_logits = arena.allocate(z.shape, z.dtype, "router");
      ops::gemm_nt(ctx, saved.x, params.noise, saved.noise_logits);
    }
    const Random random = draws(batch);
    const std::uint64_t first = first_draw(batch);
    dispatch_float(z.dtype, "router noise", [&](auto zero) {
      using T = decltype(zero);
      T* logit = z.as<T>();
      T* scale = saved.noise_scale.as<T>();
      const T* learned = learned_ ? saved.noise_logits.as<T>() : nullptr;
      const double fixed = 1.0 / static_cast<double>(place().experts);
#pragma omp parallel for schedule(static)
      for (std::int64_t i = 0; i < z.size(); ++i) {
        const double size = learned_ ? softplus(static_cast<double>(learned[i])) : fixed;
        scale[i] = static_cast<T>(size);
        logit[i] += static_cast<T>(size * random.normal(first + static_cast<std::uint64_t>(i)));
      }
    });
  }

  void logits_backward(const Context& ctx, const RouterParams& params, const Batch& batch,
                       const RouterSaved& saved, const TensorView& dz,
                       const TensorView& dnoise_scale, const TensorView& dx,
                       Arena& scratch) const override {
    if (!learned_ || !batch.training) return;
    ArenaScope scope(scratch);
    const TensorView dlogits = scratch.allocate(dz.shape, dz.dtype, "router backward");
    const Random random = draws(batch);
    const std::uint64_t first = first_draw(batch);
    dispatch_float(dz.dtype, "router noise", [&](auto zero) {
      using T = decltype(zero);
      const T* gradient = dz.as<T>();
      const T* logit = saved.noise_logits.as<T>();
      const T* more = dnoise_scale.empty() ? nullptr : dnoise_scale.as<T>();
      T* out = dlogits.as<T>();
#pragma omp parallel for schedule(static)
      for (std::int64_t i = 0; i < dz.size(); ++i) {
        const double noise = random.normal(first + static_cast<std::uint64_t>(i));
        const double dscale = static_cast<double>(gradient[i]) * noise +
                              (more == nullptr ? 0.0 : static_cast<double>(more[i]));
        out[i] = static_cast<T>(dscale * sigmoid(static_cast<double>(logit[i])));
      }
    });
    ops::gemm_tn(ctx, dlogits, saved.x, params.dnoise);
    ops::gemm_nn(ctx, dlogits, params.noise, dx, ops::Accumulate::kYes);
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
