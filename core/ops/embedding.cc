#include "core/ops/embedding.h"

#include "core/ops/cpu/row_kernels.h"
#include "core/ops/cuda/embedding.h"
#include "core/ops/cuda/permute.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements per thread below which threads do not pay
constexpr std::int64_t kLine = 16;      // elements of a cache line: no two threads write one

void check_embedding(const Context& ctx, const char* op, const TensorView& tokens,
                     const char* w_name, const TensorView& w, const char* y_name,
                     const TensorView& y) {
  check_float(op, w_name, w, 2);
  check_operand(ctx, op, w_name, w, w.dtype, w.shape);
  check_operand(ctx, op, "tokens", tokens, DType::kInt32, {y.rows()});
  check_operand(ctx, op, y_name, y, w.dtype, {y.rows(), w.cols()});
  if (ctx.device.is_cpu()) check_indices(op, "tokens", tokens, 0, w.rows());
}

}  // namespace

void embedding(const Context& ctx, const TensorView& tokens, const TensorView& w,
               const TensorView& y) {
  check_embedding(ctx, "embedding", tokens, "w", w, "y", y);
  if (ctx.device.is_cuda()) return cuda::permute(ctx, w, tokens, y);
  const std::int64_t d = w.cols();
  dispatch_float(w.dtype, "embedding", [&](auto type) {
    using T = decltype(type);
    const T* table = w.as<T>();
    const auto* token = tokens.as<std::int32_t>();
    T* output = y.as<T>();
    parallel_ranges(y.rows(), kGrain / (d + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(gather_rows<T>, table, token + begin, output + begin * d, end - begin, d);
    });
  });
}

void embedding_backward(const Context& ctx, const TensorView& tokens, const TensorView& dy,
                        const TensorView& dw) {
  check_embedding(ctx, "embedding_backward", tokens, "dw", dw, "dy", dy);
  if (ctx.device.is_cuda()) return cuda::embedding_backward(ctx, tokens, dy, dw);
  const std::int64_t d = dw.cols();
  const std::int64_t rows = dy.rows();
  dispatch_float(dw.dtype, "embedding_backward", [&](auto type) {
    using T = decltype(type);
    const auto* token = tokens.as<std::int32_t>();
    const T* grad = dy.as<T>();
    T* table = dw.as<T>();
    // Threads take columns, so that every element is summed in the order of the tokens.
    parallel_ranges(
        d, kGrain / (rows + 1) + 1,
        [&](std::int64_t begin, std::int64_t end) {
          WITAN_CALL_ISA(scatter_add_rows<T>, grad + begin, token, table + begin, rows, d,
                         end - begin);
        },
        kLine);
  });
}

}  // namespace witan::ops
