#include "core/ops/slot_weights.h"

#include "core/base/error.h"
#include "core/ops/cuda/slot_weights.h"
#include "core/ops/dispatch.h"
#include "core/ops/elementwise.h"
#include "core/ops/index_check.h"
#include "core/ops/topk.h"

namespace witan::ops {

void move_weights(const Context& ctx, const TensorView& x, const TensorView& from,
                  const TensorView& y, const TensorView& to) {
  const char* op = "move_weights";
  const std::int64_t entries = weights_moved(from, to);
  check_float(op, "x", x, x.shape.rank());
  check_operand(ctx, op, "x", x, x.dtype, x.shape);
  check_operand(ctx, op, "y", y, x.dtype, y.shape);
  for (const TensorView& list : {from, to}) {
    if (list.empty()) continue;
    check_operand(ctx, op, "index", list, DType::kInt32, {entries});
  }
  WITAN_CHECK(!from.empty() || x.size() >= entries, op, ": ", entries, " of ", x.size(),
              " weights");
  WITAN_CHECK(!to.empty() || y.size() >= entries, op, ": ", entries, " to ", y.size(), " weights");
  if (ctx.device.is_cuda()) return cuda::move_weights(ctx, x, from, y, to);
  if (!from.empty()) check_indices(op, "from", from, kNoChoice, x.size());
  if (!to.empty()) check_indices(op, "to", to, kNoChoice, y.size());
  fill(ctx, y, 0.0);
  const std::int32_t* source = from.empty() ? nullptr : from.as<std::int32_t>();
  const std::int32_t* target = to.empty() ? nullptr : to.as<std::int32_t>();
  dispatch_float(x.dtype, op, [&](auto type) {
    const auto* weight = x.as<decltype(type)>();
    auto* moved = y.as<decltype(type)>();
    for (std::int64_t i = 0; i < entries; ++i) {
      const std::int64_t source_i = source == nullptr ? i : source[i];
      const std::int64_t target_i = target == nullptr ? i : target[i];
      if (source_i != kNoChoice && target_i != kNoChoice) moved[target_i] = weight[source_i];
    }
  });
}

}  // namespace witan::ops
