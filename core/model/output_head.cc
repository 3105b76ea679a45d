#include "core/model/output_head.h"

#include <algorithm>

#include "core/base/profile.h"
#include "core/model/head_chunk.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/ops/reduce.h"

namespace witan {

void OutputHead::logits(const Context& ctx, const TensorView& hidden,
                        const TensorView& logits) const {
  ops::gemm_nt(ctx, hidden, weight_, logits);
}

double OutputHead::losses(const Context& ctx, const TensorView& hidden, const TensorView& targets,
                          const TensorView& loss, Arena& scratch) const {
  const ProfileScope profile("head and loss");
  const std::int64_t vocab = weight_.rows();
  const std::int64_t chunk = head_chunk(vocab);
  for (std::int64_t begin = 0; begin < hidden.rows(); begin += chunk) {
    const std::int64_t count = std::min(chunk, hidden.rows() - begin);
    ArenaScope scope(scratch);
    const TensorView z = scratch.allocate({count, vocab}, hidden.dtype, "head");
    logits(ctx, hidden.slice_rows(begin, count), z);
    ops::cross_entropy(ctx, z, targets.slice_rows(begin, count), loss.slice_rows(begin, count), {});
  }
  return ops::sum(ctx, loss);
}

double OutputHead::backward(const Context& ctx, const TensorView& hidden, const TensorView& targets,
                            double weight, const TensorView& dhidden, Arena& scratch) const {
  const ProfileScope profile("head and loss");
  const std::int64_t vocab = weight_.rows();
  const std::int64_t chunk = head_chunk(vocab);
  double total = 0.0;
  for (std::int64_t begin = 0; begin < hidden.rows(); begin += chunk) {
    const std::int64_t count = std::min(chunk, hidden.rows() - begin);
    ArenaScope scope(scratch);
    const TensorView z = scratch.allocate({count, vocab}, hidden.dtype, "head");
    const TensorView loss = scratch.allocate({count}, hidden.dtype, "head");
    logits(ctx, hidden.slice_rows(begin, count), z);
    ops::cross_entropy(ctx, z, targets.slice_rows(begin, count), loss, z);
    total += ops::sum(ctx, loss);
    if (weight != 1.0) ops::scale(ctx, z, weight);
    ops::gemm_backward(ctx, z, hidden.slice_rows(begin, count), weight_,
                       dhidden.slice_rows(begin, count), dweight_);
  }
  return total;
}

}  // namespace witan
