// The output head and its cross-entropy, a chunk of rows at a time, so that [rows, vocab] never
// exists whole.
#pragma once

#include "core/base/context.h"
#include "core/tensor/arena.h"

namespace witan {

class OutputHead {
 public:
  // weight [vocab, d]; dweight empty: no backward.
  OutputHead(const TensorView& weight, const TensorView& dweight)
      : weight_(weight), dweight_(dweight) {}

  // logits [rows, vocab] of hidden [rows, d].
  void logits(const Context& ctx, const TensorView& hidden, const TensorView& logits) const;

  // The loss of each of targets [rows] into `loss` [rows], 0 where it is -1; returns the sum.
  double losses(const Context& ctx, const TensorView& hidden, const TensorView& targets,
                const TensorView& loss, Arena& scratch) const;

  // Forward and backward together. Returns the sum of the losses; the gradients are those of
  // `weight` times that sum. dhidden [rows, d] is overwritten, the head's gradient accumulates.
  double backward(const Context& ctx, const TensorView& hidden, const TensorView& targets,
                  double weight, const TensorView& dhidden, Arena& scratch) const;

 private:
  TensorView weight_, dweight_;
};

}  // namespace witan
