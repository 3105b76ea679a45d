#include "core/ops/cuda/wire_rows.h"

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/bfloat16.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {
namespace {

// Pairs of elements, since pitch is even: 4 bytes out, and 8 in, a pair.
__global__ void narrow_rows_kernel(const float* x, const std::int32_t* index, std::int64_t rows,
                                   std::int64_t d, std::int64_t pairs, std::uint16_t* to) {
  for_each_piece<1>(rows * pairs, [&](std::int64_t i, auto) {
    const std::int64_t row = i / pairs;
    const std::int64_t column = i % pairs * 2;
    const float* from = x + (index == nullptr ? row : index[row]) * d + column;
    Pack<std::uint16_t, 2> pair;
    pair.value[0] = to_bfloat16(from[0]);
    pair.value[1] = column + 1 < d ? to_bfloat16(from[1]) : std::uint16_t{0};
    store_pack<2>(to + i * 2, pair);
  });
}

// 2 bytes in and 4 out an element
__global__ void widen_rows_kernel(const std::uint16_t* from, std::int64_t rows, std::int64_t d,
                                  std::int64_t pairs, float* y) {
  for_each_piece<1>(rows * pairs, [&](std::int64_t i, auto) {
    const std::int64_t row = i / pairs;
    const std::int64_t column = i % pairs * 2;
    const Pack<std::uint16_t, 2> pair = load_pack<2>(from + i * 2);
    y[row * d + column] = from_bfloat16(pair.value[0]);
    if (column + 1 < d) y[row * d + column + 1] = from_bfloat16(pair.value[1]);
  });
}

}  // namespace

void narrow_rows(const Context& ctx, const TensorView& x, const std::int32_t* index,
                 std::int64_t rows, std::int64_t pitch, std::byte* to) {
  if (rows == 0 || pitch == 0) return;
  launch(narrow_rows_kernel, flat_grid(rows * pitch / 2), dim3(kFlatThreads), 0, ctx.stream,
         x.as<float>(), index, rows, x.cols(), pitch / 2, reinterpret_cast<std::uint16_t*>(to));
}

void widen_rows(const Context& ctx, const std::byte* from, std::int64_t pitch,
                const TensorView& y) {
  if (y.size() == 0) return;
  launch(widen_rows_kernel, flat_grid(y.rows() * pitch / 2), dim3(kFlatThreads), 0, ctx.stream,
         reinterpret_cast<const std::uint16_t*>(from), y.rows(), y.cols(), pitch / 2,
         y.as<float>());
}

}  // namespace witan::ops::cuda
