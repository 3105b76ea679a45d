// Experts without a matrix product (core/ops/zero_experts.h; MoE++, Jin et al. 2024), held by every
// rank, so that their tokens travel nowhere. Among the choices they follow the experts that
// compute: first zero, then copy, then constant.
#pragma once

#include <cstdint>

#include "configs/schema/model.pb.h"
#include "core/base/context.h"
#include "core/model/param_store.h"
#include "core/ops/zero_experts.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor_view.h"

namespace witan {

class ZeroComputation {
 public:
  ZeroComputation(const configs::MoeConfig& moe, const ParamStore& params, int layer);

  std::int64_t size() const { return experts_.zero + experts_.copy + experts_.constant; }

  // y_t += sum over the choices i of these experts of weights_ti f_i(x_t). x, y [tokens, d] on
  // ctx.device; indices int32 and weights [tokens, top_k] there or in host memory.
  void forward(const Context& ctx, const TensorView& indices, const TensorView& weights,
               const TensorView& x, const TensorView& y, Arena& scratch) const;
  // dx [tokens, d] and the parameters' gradients accumulate; dweights [tokens, top_k], which lies
  // beside weights, is overwritten for the choices of these experts, and only for them.
  void backward(const Context& ctx, const TensorView& indices, const TensorView& weights,
                const TensorView& x, const TensorView& dy, const TensorView& dx,
                const TensorView& dweights, Arena& scratch) const;

 private:
  ops::ZeroExperts experts_;
  ops::ConstantExperts params_, gradients_;
};

}  // namespace witan
