// The noise of noisy routers (Shazeer et al. 2017; V-MoE, Riquelme et al. 2021): every logit plus a
// standard normal times a scale.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/base/philox.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

enum class NoiseScale {
  kFixed,   // 1 / experts
  kLearned  // softplus of what the caller computed
};

// All [tokens, experts], of one type, float32 or float64.
struct NoisyLogits {
  TensorView z;        // in: the logits; out: with noise
  TensorView clean_z;  // out: the logits
  TensorView scale;    // out; kLearned, in: what softplus is taken of
  TensorView noise;    // kLearned, out: the normals; else empty
};

// z_i += scale_i n_i, n_i being number first + i of the normals of `random` (core/base/rng.h).
void add_router_noise(const Context& ctx, NoiseScale kind, const RandomAddress& random,
                      std::uint64_t first, const NoisyLogits& logits);

// The gradient with respect to what softplus was taken of: dy = (dz noise + dscale) (1 -
// exp(-scale)), overwritten. dz: of the noisy logits; dscale (may be empty): more of the scale's.
void router_noise_backward(const Context& ctx, const TensorView& dz, const TensorView& dscale,
                           const TensorView& noise, const TensorView& scale, const TensorView& dy);

}  // namespace witan::ops
