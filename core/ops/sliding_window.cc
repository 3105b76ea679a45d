#include "core/ops/sliding_window.h"

#include <algorithm>

#include "core/ops/cuda/sliding_window.h"
#include "core/ops/dispatch.h"

namespace witan::ops {

void narrow_to_window(const Context& ctx, std::int64_t window, std::int64_t seq_len,
                      const TensorView& first_key, const TensorView& narrowed) {
  const char* op = "narrow_to_window";
  WITAN_CHECK(window > 0 && seq_len > 0, op, ": a window of ", window, " in sequences of ",
              seq_len);
  WITAN_CHECK(first_key.size() % seq_len == 0, op, ": ", first_key.size(),
              " tokens in sequences of ", seq_len);
  check_operand(ctx, op, "first_key", first_key, DType::kInt32, {first_key.size()});
  check_operand(ctx, op, "narrowed", narrowed, DType::kInt32, {first_key.size()});
  if (ctx.device.is_cuda()) {
    return cuda::narrow_to_window(ctx, window, seq_len, first_key, narrowed);
  }
  const auto* first = first_key.as<std::int32_t>();
  auto* begin = narrowed.as<std::int32_t>();
  for (std::int64_t t = 0; t < first_key.size(); ++t) {
    begin[t] = std::max(
        first[t], static_cast<std::int32_t>(std::max<std::int64_t>(t % seq_len - window + 1, 0)));
  }
}

}  // namespace witan::ops
