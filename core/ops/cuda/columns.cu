#include "core/ops/cuda/columns.h"

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"

namespace witan::ops::cuda {
namespace {

// to[r, 0 .. pieces) = from[r, 0 .. pieces), rows that begin every from_pitch and to_pitch pieces:
// reads and writes the bytes of the block of columns, once each.
template <class Piece>
__global__ void copy_columns_kernel(const Piece* from, std::int64_t from_pitch, std::int64_t rows,
                                    std::int64_t pieces, std::int64_t to_pitch, Piece* to) {
  for (std::int64_t i = first_index(); i < rows * pieces; i += index_stride()) {
    to[i / pieces * to_pitch + i % pieces] = from[i / pieces * from_pitch + i % pieces];
  }
}

}  // namespace

void copy_columns(const Context& ctx, const TensorView& from, std::int64_t from_begin,
                  const TensorView& to, std::int64_t to_begin, std::int64_t count) {
  if (count == 0 || from.rows() == 0) return;
  const auto bytes_of = [&](std::int64_t columns) {
    return static_cast<std::size_t>(columns) * size_of(from.dtype);
  };
  const auto* source = static_cast<const std::byte*>(from.data) + bytes_of(from_begin);
  auto* target = static_cast<std::byte*>(to.data) + bytes_of(to_begin);
  dispatch_piece({bytes_of(count), bytes_of(from.cols()), bytes_of(to.cols())}, {source, target},
                 [&](auto zero) {
                   using Piece = decltype(zero);
                   const auto pieces_of = [&](std::int64_t columns) {
                     return static_cast<std::int64_t>(bytes_of(columns) / sizeof(Piece));
                   };
                   const std::int64_t pieces = pieces_of(count);
                   launch(copy_columns_kernel<Piece>, flat_grid(from.rows() * pieces),
                          dim3(kFlatThreads), 0, ctx.stream, reinterpret_cast<const Piece*>(source),
                          pieces_of(from.cols()), from.rows(), pieces, pieces_of(to.cols()),
                          reinterpret_cast<Piece*>(target));
                 });
}

}  // namespace witan::ops::cuda
