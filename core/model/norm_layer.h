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

  // x, y [rows, d].
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
