#include "core/ops/index_check.h"

namespace witan::ops {

void check_indices(const char* op, const char* name, const TensorView& x, std::int64_t begin,
                   std::int64_t end) {
  const auto* values = x.as<std::int32_t>();
  const std::int64_t size = x.size();
  std::int64_t outside = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    outside += static_cast<std::int64_t>(values[i] < begin) + (values[i] >= end);
  }
  if (outside == 0) return;
  for (std::int64_t i = 0; i < size; ++i) {
    WITAN_CHECK(values[i] >= begin && values[i] < end, op, ": ", name, "[", i, "] is ", values[i],
                ", outside of [", begin, ", ", end, ")");
  }
}

}  // namespace witan::ops
