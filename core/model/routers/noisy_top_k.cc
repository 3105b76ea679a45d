// noisy_top_k: in training the logits get noise, which enters selection and weights. LEARNED: a
// standard normal times softplus(x W_noise) (Shazeer et al. 2017); FIXED: times 1 / experts (V-MoE,
// Riquelme et al. 2021). The draws are addressed by seed, step, layer, global token and expert.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "core/base/rng.h"
#include "core/model/router.h"
#include "core/ops/elementwise.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

template <class T>
T softplus(T x) {
  return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)));
}
// d softplus / dx, from softplus(x).
template <class T>
T slope(T softplus_of_x) {
  return -std::expm1(-softplus_of_x);
}

// The numbers first, first + 1, ... of an addressed sequence of normals, two of which are made at a
// time.
class NormalRow {
 public:
  NormalRow(const Random& random, std::uint64_t first) : random_(random), index_(first) {
    if (first % 2 != 0) pair_ = random_.normal_pair(first / 2);
  }
  double next() {
    if (index_ % 2 == 0) pair_ = random_.normal_pair(index_ / 2);
    return pair_[index_++ % 2];
  }

 private:
  const Random& random_;
  std::uint64_t index_;
  std::array<double, 2> pair_{};
};

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
                     const RouterArenas& arenas, RouterSaved& saved) const override {
    if (!batch.training) return;
    const TensorView& z = saved.z;
    Arena& arena = arenas.decision;
    saved.noise_scale = arena.allocate(z.shape, z.dtype, "router");
    saved.clean_z = arena.allocate(z.shape, z.dtype, "router");
    ops::copy({}, z, saved.clean_z);
    if (learned_) {
      saved.noise = arena.allocate(z.shape, z.dtype, "router");
      product(ctx, saved.x, params.noise, {}, saved.noise_scale, arenas.scratch);
    }
    const Random random = draws(batch);
    const std::uint64_t first = first_draw(batch);
    dispatch_float(z.dtype, "router noise", [&](auto zero) {
      using T = decltype(zero);
      T* logit = z.as<T>();
      T* scale = saved.noise_scale.as<T>();
      T* noise = learned_ ? saved.noise.as<T>() : nullptr;
      const T fixed = T{1} / static_cast<T>(place().experts);
      const std::int64_t experts = z.cols();
#pragma omp parallel for schedule(static)
      for (std::int64_t t = 0; t < z.rows(); ++t) {
        NormalRow draws(random, first + static_cast<std::uint64_t>(t * experts));
        for (std::int64_t i = t * experts; i < (t + 1) * experts; ++i) {
          const auto draw = static_cast<T>(draws.next());
          scale[i] = learned_ ? softplus(scale[i]) : fixed;
          if (noise != nullptr) noise[i] = draw;
          logit[i] += scale[i] * draw;
        }
      }
    });
  }

  void logits_backward(const Context& ctx, const RouterParams& params, const Batch& batch,
                       const RouterSaved& saved, const TensorView& dz,
                       const TensorView& dnoise_scale, const TensorView& dx, Arena& scratch,
                       Arena& host_scratch) const override {
    if (!learned_ || !batch.training) return;
    ArenaScope scope(host_scratch);
    const TensorView dlogits = host_scratch.allocate(dz.shape, dz.dtype, "router backward");
    dispatch_float(dz.dtype, "router noise", [&](auto zero) {
      using T = decltype(zero);
      const T* gradient = dz.as<T>();
      const T* noise = saved.noise.as<T>();
      const T* scale = saved.noise_scale.as<T>();
      const T* more = dnoise_scale.empty() ? nullptr : dnoise_scale.as<T>();
      T* out = dlogits.as<T>();
#pragma omp parallel for schedule(static)
      for (std::int64_t i = 0; i < dz.size(); ++i) {
        const T dscale = gradient[i] * noise[i] + (more == nullptr ? T{0} : more[i]);
        out[i] = dscale * slope(scale[i]);
      }
    });
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
