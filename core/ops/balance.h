// What losses that balance the experts are made of, where the router's tensors lie. Definitions:
// docs/numerics.md, section "Balancing".
//
// s, x, ds, dx: float32 or float64. Sums over tokens are float64 and taken in a fixed order. loss
// [1] float64 accumulates; nothing waits.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// loss += factor sum_t H_t, H_t the entropy of s_t / sum s_t; ds (s-shaped) += gradient_factor
// sum_t dH_t / ds. s [tokens, experts].
void entropy_loss(const Context& ctx, double factor, double gradient_factor, const TensorView& s,
                  const TensorView& ds, const TensorView& loss);

// sums [experts] float64, overwritten, of what each expert has of x: its column of x [tokens,
// experts], or with indices [tokens, top_k] (int32) the elements of x [tokens, top_k] whose choice
// it is.
void importance(const Context& ctx, const TensorView& x, const TensorView& indices,
                const TensorView& sums);
// dx += factor gradient_e, e being the expert that an element belongs to. gradient [experts]
// float64.
void importance_backward(const Context& ctx, double factor, const TensorView& gradient,
                         const TensorView& indices, const TensorView& dx);

// loss += factor CV^2, (standard deviation / mean)^2 of sums [experts] (0 where the mean is 0).
// sums [experts + 1] float64 has the number of tokens of the sums behind them; it becomes the
// gradient of the CV^2 times that number.
void cv2_loss(const Context& ctx, double factor, const TensorView& sums, const TensorView& loss);

// Factors of a loss on the load: of the first `computing_experts`, and of the others.
struct LoadFactors {
  double computing;
  double others;
  std::int64_t computing_experts;
};

// f [experts] float64 = factor_e times expert e's share of the choices in indices [tokens, top_k];
// coefficient [experts] (float32 or float64) = f gradient_factor. Both overwritten.
void load_factors(const Context& ctx, const LoadFactors& factors, double gradient_factor,
                  const TensorView& indices, const TensorView& f, const TensorView& coefficient);

}  // namespace witan::ops
