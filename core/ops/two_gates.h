// Two gates, of groups and of the experts in each (Shazeer et al. 2017, appendix B, without its
// noise), on matrices of float32 or float64. Definitions: docs/numerics.md, section "Router".
//
// With u [tokens, groups] and v [tokens, experts], logits of either gate,
//   z_i = u_g + v_i - logsumexp of v over the group g of expert i
// has softmax(z)_i = softmax(u)_g * softmax(v within g)_i, and logsumexp of z over a group is its
// u_g again: so z says all of both gates. Groups are neighbouring experts of equal number; minus
// infinity bars an expert, and may bar a whole group. Ties go to the lower index.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

struct TwoGates {
  std::int64_t groups;
  std::int64_t keep;  // groups that a token chooses
  std::int64_t k;     // experts that it chooses in each
};

// z [tokens, experts] holds v and becomes z.
void join_gates(const Context& ctx, const TensorView& u, const TensorView& z);

// indices [tokens, keep * k] int32: the k best experts of each of the `keep` best groups, groups
// and experts in descending order. A group is barred if its first expert is.
void gate_choices(const Context& ctx, const TwoGates& gates, const TensorView& z,
                  const TensorView& u, const TensorView& indices);

// weights [tokens, keep * k] = scale * softmax of u over the chosen groups * softmax of z over the
// chosen experts of each. Of `indices`, choices j k .. (j + 1) k are of one group; those that are
// kNoChoice get 0 and leave the softmax, and so does a group of nothing else.
void gate_weights(const Context& ctx, const TwoGates& gates, double scale, const TensorView& z,
                  const TensorView& indices, const TensorView& weights);

// dz [tokens, experts] accumulates the gradient through the weights, from dweights [tokens, keep *
// k].
void gate_weights_backward(const Context& ctx, const TwoGates& gates, double scale,
                           const TensorView& z, const TensorView& indices,
                           const TensorView& dweights, const TensorView& dz);

// The backward of join_gates: dz [tokens, experts] becomes dv; du [tokens, groups] is overwritten.
void join_gates_backward(const Context& ctx, const TensorView& z, const TensorView& dz,
                         const TensorView& du);

}  // namespace witan::ops
