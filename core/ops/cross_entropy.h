// Cross-entropy of next tokens: loss_t = logsumexp(logits_t) - logits_t[target_t]; targets [rows]
// int32, -1 = not counted.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// loss [rows] in the logits' type, 0 where the target is -1. If `dlogits` is given (it may alias
// logits) it receives the gradient of the *sum* of the losses, softmax - onehot (0 where not
// counted). logits [rows, vocab].
void cross_entropy(const Context& ctx, const TensorView& logits, const TensorView& targets,
                   const TensorView& loss, const TensorView& dlogits);

}  // namespace witan::ops
