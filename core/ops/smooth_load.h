// The load of noisy routers in expectation (Shazeer et al. 2017, appendix A; V-MoE, Riquelme et al.
// 2021): what each expert would get if its noise were drawn once more.
//
// P_te: the probability that a standard normal is below x_te = (clean z_te - threshold) / scale_te.
// kFixed: the threshold is the token's k-th largest noisy logit; kLearned: the k-th largest of the
// other experts. P = 1 where no other expert could take the place. Noisy logits of minus infinity
// (experts that the token may not use) are passed over; at least k of a token's must be finite.
#pragma once

#include "core/base/context.h"
#include "core/ops/router_noise.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// How the choice is made; z, clean_z and scale of `logits` are read.
struct NoisyChoice {
  NoiseScale kind;
  std::int64_t top_k;  // 1 .. experts
};

// sums [experts] float64, overwritten: of P over the tokens.
void smooth_load(const Context& ctx, const NoisyChoice& choice, const NoisyLogits& logits,
                 const TensorView& sums);

// dz, dclean_z, dscale [tokens, experts] accumulate the gradients of factor sum_e gradient_e sum_t
// P_te with respect to the noisy logits, the clean ones and the scale. gradient [experts] float64.
void smooth_load_backward(const Context& ctx, const NoisyChoice& choice, double factor,
                          const NoisyLogits& logits, const TensorView& gradient,
                          const TensorView& dz, const TensorView& dclean_z,
                          const TensorView& dscale);

}  // namespace witan::ops
