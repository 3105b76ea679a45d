#include "core/ops/columns.h"

#include <cstring>

#include "core/ops/cuda/columns.h"
#include "core/ops/parallel.h"

namespace witan::ops {

void copy_columns(const Context& ctx, const TensorView& from, std::int64_t from_begin,
                  const TensorView& to, std::int64_t to_begin, std::int64_t count) {
  WITAN_CHECK(from.device == ctx.device && to.device == ctx.device,
              "copy_columns: a tensor of another device than the context's");
  WITAN_CHECK(from.dtype == to.dtype && from.rows() == to.rows(), "copy_columns: ", from.rows(),
              " rows of ", name_of(from.dtype), " into ", to.rows(), " of ", name_of(to.dtype));
  WITAN_CHECK(count >= 0 && from_begin >= 0 && from_begin + count <= from.cols() && to_begin >= 0 &&
                  to_begin + count <= to.cols(),
              "copy_columns: ", count, " columns from ", from_begin, " of ", from.cols(), " to ",
              to_begin, " of ", to.cols());
  if (ctx.device.is_cuda()) {
    return cuda::copy_columns(ctx, from, from_begin, to, to_begin, count);
  }
  constexpr std::int64_t kGrain = 16384;  // elements below which threads do not pay
  const std::size_t element = size_of(from.dtype);
  const std::size_t bytes = static_cast<std::size_t>(count) * element;
  const std::size_t from_stride = static_cast<std::size_t>(from.cols()) * element;
  const std::size_t to_stride = static_cast<std::size_t>(to.cols()) * element;
  const auto* source =
      static_cast<const std::byte*>(from.data) + static_cast<std::size_t>(from_begin) * element;
  auto* target = static_cast<std::byte*>(to.data) + static_cast<std::size_t>(to_begin) * element;
  parallel_ranges(from.rows(), kGrain / (count + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto r = static_cast<std::size_t>(begin); r < static_cast<std::size_t>(end); ++r) {
      std::memcpy(target + r * to_stride, source + r * from_stride, bytes);
    }
  });
}

}  // namespace witan::ops
