// Experts without a matrix product (MoE++, Jin et al. 2024), held by every rank, so that their
// tokens travel nowhere:
//   zero      f(x) = 0
//   copy      f(x) = x
//   constant  f(x) = a x + b v with (a, b) = softmax(W x), W [2, d] and v [d] trained
// Among the choices they follow the experts that compute: first zero, then copy, then constant.
#pragma once

#include <cstdint>
#include <vector>

#include "configs/schema/model.pb.h"
#include "core/base/context.h"
#include "core/model/param_store.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor_view.h"

namespace witan {

class ZeroComputation {
 public:
  ZeroComputation(const configs::MoeConfig& moe, const ParamStore& params, int layer);

  std::int64_t size() const { return zero_ + copy_ + constant_; }

  // The choices that travel: indices [tokens, top_k] int32 without those of these experts.
  void travelling(const TensorView& indices, const TensorView& travel) const;

  // y_t += sum over the choices i of these experts of weights_ti f_i(x_t). x, y [tokens, d];
  // indices int32, weights [tokens, top_k]. The host does it: x, y and dx of a model on a GPU make
  // the way there and back (`host_scratch`); indices, weights and dweights are in host memory.
  void forward(const Context& ctx, const TensorView& indices, const TensorView& weights,
               const TensorView& x, const TensorView& y, Arena& host_scratch);
  // dx [tokens, d] and the parameters' gradients accumulate; dweights [tokens, top_k] is
  // overwritten for the choices of these experts, and only for them.
  void backward(const Context& ctx, const TensorView& indices, const TensorView& weights,
                const TensorView& x, const TensorView& dy, const TensorView& dx,
                const TensorView& dweights, Arena& host_scratch);

 private:
  // What the gradients of constant experts' parameters take from one choice.
  struct ConstantGradient {
    std::int64_t expert = -1;  // among the constant ones; -1: the choice is of another kind
    double dlogit = 0.0;       // of the first row of W x; that of the second is its negative
    double share_of_v = 0.0;   // times the routing weight
  };

  template <class T>
  void token_forward(const std::int32_t* chosen, const T* weights, std::int64_t top_k, const T* x,
                     T* y, std::int64_t d) const;
  template <class T>
  void token_backward(const std::int32_t* chosen, const T* weights, std::int64_t top_k, const T* x,
                      const T* dy, T* dx, T* dweights, ConstantGradient* gradients,
                      std::int64_t d) const;
  template <class T>
  void parameter_gradients(const TensorView& x, const TensorView& dy, std::int64_t top_k) const;
  // a of (a, b) = softmax(W x); b = 1 - a.
  template <class T>
  double share_of_x(std::int64_t expert, const T* x, std::int64_t d) const;

  std::int64_t experts_, zero_, copy_, constant_;
  struct Constants {
    TensorView mix, vector;  // [2 constant, d], [constant, d]
    TensorView dmix, dvector;
  };
  Constants params_;                         // where the model is
  Constants here_;                           // on the host, during a forward or backward
  std::vector<ConstantGradient> gradients_;  // [tokens, top_k] of a micro-batch; keeps its capacity
};

}  // namespace witan
