// The CUDA twins of core/ops/topk.h; operands have been checked by topk.cc. Unlike the CPU twins,
// these do not look at the values of an index tensor. count_experts waits for ctx.stream.
#pragma once

#include "core/base/context.h"
#include "core/ops/topk.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void router_score(const Context& ctx, Score score, const TensorView& z, const TensorView& s,
                  const TensorView& lse);
void topk(const Context& ctx, const TensorView& s, const TensorView& bias,
          const TensorView& indices);
void group_topk(const Context& ctx, const ExpertGroups& groups, const TensorView& s,
                const TensorView& bias, const TensorView& indices);
void keep_mass(const Context& ctx, double mass, const TensorView& s, const TensorView& indices);
void route_weights(const Context& ctx, RouteWeights kind, double scale, const TensorView& s,
                   const TensorView& indices, const TensorView& weights);
void table_choices(const Context& ctx, const TensorView& tokens, const TensorView& table,
                   std::int64_t experts, const TensorView& indices);
void router_backward(const Context& ctx, Score score, RouteWeights kind, double scale,
                     const TensorView& z, const TensorView& s, const TensorView& lse,
                     const TensorView& indices, const TensorView& weights,
                     const TensorView& dweights, const TensorView& ds_extra, double z_loss_scale,
                     const TensorView& dz);
void count_experts(const Context& ctx, const TensorView& indices, const TensorView& counts);
void router_probability_sums(const Context& ctx, Score score, const TensorView& s,
                             const TensorView& p_sum);
void router_probability_backward(const Context& ctx, Score score, const TensorView& s,
                                 const TensorView& coefficient, const TensorView& ds);

void add_router_figures(const Context& ctx, bool masked, const TensorView& z, const TensorView& lse,
                        const TensorView& weights, const TensorView& sums);

}  // namespace witan::ops::cuda
