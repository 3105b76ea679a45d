#include "core/ops/index_check.h"

#include <algorithm>

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

void check_lists(const char* op, const TensorView& begin, std::int64_t entries) {
  const auto* first = begin.as<std::int32_t>();
  const std::int64_t lists = begin.size() - 1;
  const bool ends_fit = first[0] == 0 && first[lists] == entries;
  WITAN_CHECK(ends_fit && std::is_sorted(first, first + lists + 1), op,
              ": begin: expected to ascend from 0 to ", entries);
}

}  // namespace witan::ops
