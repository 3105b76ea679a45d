// The expert that every token passes: y = ffn(x), or with a gate y = sigmoid(x w) ffn(x)
// (Qwen1.5-MoE).
#pragma once

#include "core/model/ffn.h"

namespace witan {

class SharedExpert {
 public:
  SharedExpert(const ParamStore& params, int layer);

  struct Saved {
    Ffn::Saved ffn;
    TensorView gate;  // [tokens] sigmoid(x w); empty without a gate,
    TensorView out;   // as is [tokens, d] ffn(x)
  };

  // x, y [tokens, d]; `saved` is allocated in `arena`.
  void forward(const Context& ctx, const TensorView& x, const TensorView& y, Arena& arena,
               Saved& saved) const;
  // dx overwritten; parameter gradients accumulate; `saved` is used up.
  void backward(const Context& ctx, const TensorView& dy, const TensorView& x, const Saved& saved,
                const TensorView& dx, Arena& scratch) const;

 private:
  Ffn ffn_;
  TensorView gate_, dgate_;  // [1, d]
};

}  // namespace witan
