// Dense SwiGLU feed-forward network: y = down(silu(gate x) * up x). Also the shared expert of an
// MoE layer.
#pragma once

#include <string>

#include "core/model/model_context.h"
#include "core/model/param_store.h"

namespace witan {

class Ffn {
 public:
  // `name`: "layers.0.ffn" or "layers.0.moe.shared".
  Ffn(const ParamStore& params, const std::string& name);

  struct Saved {
    TensorView gate_up;  // [tokens, 2 ff]
    TensorView h;        // [tokens, ff]
  };

  // x, y [tokens, d]; `saved` is allocated in `arena`.
  void forward(const Context& ctx, const TensorView& x, const TensorView& y, Arena& arena,
               Saved& saved) const;
  // dx overwritten; parameter gradients accumulate; saved.gate_up is overwritten.
  void backward(const Context& ctx, const TensorView& dy, const TensorView& x, const Saved& saved,
                const TensorView& dx, Arena& scratch) const;

 private:
  TensorView gate_up_, down_, dgate_up_, ddown_;
};

}  // namespace witan
