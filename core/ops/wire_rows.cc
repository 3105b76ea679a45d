#include "core/ops/wire_rows.h"

#include <algorithm>
#include <cstring>

#include "core/ops/cpu/row_kernels.h"
#include "core/ops/cpu/wire_kernels.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/permute.h"
#include "core/ops/cuda/wire_rows.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements per thread below which threads do not pay

template <class F>
void parallel_rows(std::int64_t rows, std::int64_t d, const F& f) {
  parallel_ranges(rows, kGrain / (d + 1) + 1, f);
}

std::int64_t bfloat16_pitch(std::int64_t d) { return d + d % 2; }

void check_format(const char* op, WireFormat format, DType dtype) {
  WITAN_CHECK(format == WireFormat::kAsIs || dtype == DType::kFloat32, op,
              ": expected float32 rows to send as bfloat16, found ", name_of(dtype));
}

// pack() into device memory.
void pack_on_cuda(const Context& ctx, const TensorView& x, const TensorView& index,
                  std::int64_t rows, WireFormat format, std::byte* to) {
  if (rows == 0) return;
  if (format == WireFormat::kBfloat16) {
    const auto* row = index.empty() ? nullptr : index.as<std::int32_t>();
    return cuda::narrow_rows(ctx, x, row, rows, bfloat16_pitch(x.cols()), to);
  }
  const TensorView packed{to, {rows, x.cols()}, x.dtype, ctx.device};
  if (index.empty()) return cuda::copy(ctx, x.reshape(packed.shape), packed);
  cuda::permute(ctx, x.reshape({x.rows(), x.cols()}), index, packed);
}

// Rows x[row[r]], or x[r] where there is no `row`.
void pack(const Context& ctx, const char* op, const TensorView& x, const std::int32_t* row,
          std::int64_t rows, WireFormat format, std::byte* to) {
  const std::int64_t d = x.cols();
  check_operand(ctx, op, "x", x, x.dtype, x.shape);
  check_format(op, format, x.dtype);
  if (format == WireFormat::kBfloat16) {
    const std::int64_t pitch = bfloat16_pitch(d);
    auto* narrow = reinterpret_cast<std::uint16_t*>(to);
    parallel_rows(rows, d, [&](std::int64_t begin, std::int64_t end) {
      const float* from = x.as<float>() + (row == nullptr ? begin * d : 0);
      WITAN_CALL_ISA(narrow_rows, from, row == nullptr ? nullptr : row + begin,
                     narrow + begin * pitch, end - begin, d, pitch);
    });
    return;
  }
  dispatch_float(x.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* from = x.as<T>();
    T* out = reinterpret_cast<T*>(to);
    parallel_rows(rows, d, [&](std::int64_t begin, std::int64_t end) {
      if (row == nullptr) {
        std::copy(from + begin * d, from + end * d, out + begin * d);
      } else {
        WITAN_CALL_ISA(gather_rows<T>, from, row + begin, out + begin * d, end - begin, d);
      }
    });
  });
}

}  // namespace

std::int64_t wire_row_bytes(WireFormat format, DType dtype, std::int64_t d) {
  check_format("wire_row_bytes", format, dtype);
  return format == WireFormat::kBfloat16 ? 2 * bfloat16_pitch(d)
                                         : d * static_cast<std::int64_t>(size_of(dtype));
}

void pack_rows(const Context& ctx, const TensorView& x, const TensorView& index, WireFormat format,
               std::byte* to) {
  const char* op = "pack_rows";
  check_operand(ctx, op, "index", index, DType::kInt32, {index.size()});
  if (ctx.device.is_cuda()) {
    check_operand(ctx, op, "x", x, x.dtype, x.shape);
    check_format(op, format, x.dtype);
    return pack_on_cuda(ctx, x, index, index.size(), format, to);
  }
  check_indices(op, "index", index, 0, x.rows());
  pack(ctx, op, x, index.as<std::int32_t>(), index.size(), format, to);
}

void pack_all_rows(const Context& ctx, const TensorView& x, WireFormat format, std::byte* to) {
  const char* op = "pack_all_rows";
  if (ctx.device.is_cuda()) {
    check_operand(ctx, op, "x", x, x.dtype, x.shape);
    check_format(op, format, x.dtype);
    return pack_on_cuda(ctx, x, {}, x.rows(), format, to);
  }
  pack(ctx, op, x, nullptr, x.rows(), format, to);
}

void unpack_rows(const Context& ctx, const std::byte* from, WireFormat format,
                 const TensorView& y) {
  const char* op = "unpack_rows";
  const std::int64_t d = y.cols();
  check_operand(ctx, op, "y", y, y.dtype, y.shape);
  check_format(op, format, y.dtype);
  if (ctx.device.is_cuda()) {
    if (format == WireFormat::kBfloat16) {
      return cuda::widen_rows(ctx, from, bfloat16_pitch(d), y);
    }
    const TensorView packed{const_cast<std::byte*>(from), y.shape, y.dtype, ctx.device};
    return cuda::copy(ctx, packed, y);
  }
  parallel_rows(y.rows(), d, [&](std::int64_t begin, std::int64_t end) {
    const TensorView part = y.slice_rows(begin, end - begin);
    const std::byte* source = from + begin * wire_row_bytes(format, y.dtype, d);
    if (format == WireFormat::kBfloat16) {
      WITAN_CALL_ISA(widen_rows, reinterpret_cast<const std::uint16_t*>(source), part.as<float>(),
                     end - begin, d, bfloat16_pitch(d));
    } else if (part.bytes() > 0) {
      std::memcpy(part.data, source, part.bytes());
    }
  });
}

void sum_wire_rows(const Context& ctx, std::span<const void* const> rows,
                   std::span<const std::uint8_t> narrow, const TensorView& begin,
                   const TensorView& index, const TensorView& y) {
  const char* op = "sum_wire_rows";
  require_cpu(ctx, op);
  const std::int64_t d = y.cols();
  check_float(op, "y", y, 2);
  check_operand(ctx, op, "y", y, y.dtype, y.shape);
  check_format(op, narrow.empty() ? WireFormat::kAsIs : WireFormat::kBfloat16, y.dtype);
  WITAN_CHECK(narrow.empty() || narrow.size() == rows.size(), op, ": narrow: expected ",
              rows.size(), " flags, found ", narrow.size());
  check_operand(ctx, op, "begin", begin, DType::kInt32, {y.rows() + 1});
  check_operand(ctx, op, "index", index, DType::kInt32, {index.size()});
  check_lists(op, begin, index.size());
  check_indices(op, "index", index, 0, static_cast<std::int64_t>(rows.size()));
  const auto* list = begin.as<std::int32_t>();
  const auto* row = index.as<std::int32_t>();
  dispatch_float(y.dtype, op, [&](auto type) {
    using T = decltype(type);
    parallel_rows(y.rows(), d, [&](std::int64_t first, std::int64_t end) {
      if (narrow.empty()) {
        WITAN_CALL_ISA(sum_rows<T>, rows.data(), list + first, row, y.as<T>() + first * d,
                       end - first, d);
      } else {
        WITAN_CALL_ISA(sum_mixed_rows, rows.data(), narrow.data(), list + first, row,
                       y.as<float>() + first * d, end - first, d);
      }
    });
  });
}

}  // namespace witan::ops
