// Rows on their way between ranks, in the memory of the context's device: as they are, or in
// bfloat16 (half the bytes; rounded to nearest, ties to even). Tensors are float32 or float64,
// bfloat16 only for float32; memory on the way is aligned to 4 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

enum class WireFormat { kAsIs, kBfloat16 };

// Bytes of a row of d elements, a multiple of 4.
std::int64_t wire_row_bytes(WireFormat format, DType dtype, std::int64_t d);

// Rows x[index[r]] to `to`: index [rows].
void pack_rows(const Context& ctx, const TensorView& x, const TensorView& index, WireFormat format,
               std::byte* to);

// All rows of x, in order, to `to`.
void pack_all_rows(const Context& ctx, const TensorView& x, WireFormat format, std::byte* to);

// The rows of y from `from`.
void unpack_rows(const Context& ctx, const std::byte* from, WireFormat format, const TensorView& y);

// y[t] = sum over j in [begin[t], begin[t + 1]) of the row at rows[index[j]], j ascending: y
// [tokens, d], begin [tokens + 1], index [entries]. CPU only: `rows` are host memory. Row r has the
// type of y, or is bfloat16 where narrow[r] is not 0; without `narrow` none is.
void sum_wire_rows(const Context& ctx, std::span<const void* const> rows,
                   std::span<const std::uint8_t> narrow, const TensorView& begin,
                   const TensorView& index, const TensorView& y);

}  // namespace witan::ops
