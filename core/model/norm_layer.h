// RMSNorm or LayerNorm with its parameters.
#pragma once

#include <string>

#include "core/model/param_store.h"
#include "core/ops/norm.h"
#include "core/tensor/arena.h"

namespace witan {

class NormLayer {
 public:
  // `name`: "layers.0.attention_norm".
  NormLayer(const configs::NormConfig& config, const ParamStore& params, const std::string& name);

  struct Saved {
    TensorView mean, rstd;  // [rows]; mean with LayerNorm only
  };

  // What a forward of x keeps.
  void allocate(const TensorView& x, Arena& arena, Saved& saved) const;
  // y = norm(x) [rows, d], into an allocated `saved`.
  void forward(const Context& ctx, const TensorView& x, const TensorView& y,
               const Saved& saved) const;
  // sum = a + b, y = norm(sum), in one pass; sum may alias a or b.
  void forward_sum(const Context& ctx, const TensorView& a, const TensorView& b,
                   const TensorView& sum, const TensorView& y, const Saved& saved) const;
  // Both: x, y [rows, d].
  void forward(const Context& ctx, const TensorView& x, const TensorView& y, Arena& arena,
               Saved& saved) const;
  // dx overwritten or accumulated; parameter gradients accumulate.
  void backward(const Context& ctx, const TensorView& dy, const TensorView& x, const Saved& saved,
                const TensorView& dx, ops::Accumulate accumulate) const;

 private:
  bool layer_norm_;
  double eps_;
  TensorView weight_, bias_, dweight_, dbias_;
};

}  // namespace witan
