#include "core/ops/cross_entropy.h"

#include "core/ops/cpu/cross_entropy_kernels.h"
#include "core/ops/cuda/cross_entropy.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/parallel.h"

namespace witan::ops {

void cross_entropy(const Context& ctx, const TensorView& logits, const TensorView& targets,
                   const TensorView& loss, const TensorView& dlogits) {
  check_float("cross_entropy", "logits", logits, 2);
  check_operand(ctx, "cross_entropy", "logits", logits, logits.dtype, logits.shape);
  check_operand(ctx, "cross_entropy", "targets", targets, DType::kInt32, {logits.rows()});
  check_operand(ctx, "cross_entropy", "loss", loss, logits.dtype, {logits.rows()});
  if (!dlogits.empty()) {
    check_operand(ctx, "cross_entropy", "dlogits", dlogits, logits.dtype, logits.shape);
  }
  if (ctx.device.is_cuda()) return cuda::cross_entropy(ctx, logits, targets, loss, dlogits);
  const std::int64_t vocab = logits.cols();
  check_indices("cross_entropy", "targets", targets, -1, vocab);
  constexpr std::int64_t kGrain = 4096;  // elements per thread below which threads do not pay
  dispatch_float(logits.dtype, "cross_entropy", [&](auto type) {
    using T = decltype(type);
    const T* z = logits.as<T>();
    const auto* target = targets.as<std::int32_t>();
    T* value = loss.as<T>();
    T* dz = dlogits.empty() ? nullptr : dlogits.as<T>();
    parallel_ranges(
        logits.rows(), kGrain / (vocab + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
          WITAN_CALL_ISA(cross_entropy<T>, z + begin * vocab, target + begin, value + begin,
                         dz == nullptr ? nullptr : dz + begin * vocab, end - begin, vocab);
        });
  });
}

}  // namespace witan::ops
