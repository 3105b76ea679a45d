#include "core/ops/grouped_gemm.h"

#include <algorithm>
#include <vector>

#include "core/ops/cuda/grouped_gemm.h"
#include "core/ops/dispatch.h"
#include "core/ops/gemm_cpu.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

// One thread's share: rows [row, row + rows) of C of one group.
struct Item {
  std::int64_t group;
  std::int64_t row;
  std::int64_t rows;
  std::int64_t work;
};

// Kept between calls, so that a step allocates nothing once the largest list has been seen. Groups
// given to threads as a whole have a list of their own, since products inside them make theirs.
thread_local std::vector<Item> item_list;
thread_local std::vector<Item> group_list;

// The rows of x above which a group is cut, so that no thread is left idle behind a large group.
std::int64_t cut_above(std::span<const std::int64_t> offsets, GemmKernel kernel) {
  const std::int64_t total_rows = offsets.back() - offsets.front();
  // oneDNN's bits may depend on the shape it is given, so its cuts must not depend on the threads.
  constexpr std::int64_t kOneDnnPart = 1024;
  if (kernel == GemmKernel::kOneDnn) return kOneDnnPart;
  // With four parts a thread the last one to finish keeps the others waiting for little.
  constexpr std::int64_t kPartsPerThread = 4;
  constexpr std::int64_t kSmallestPart = 64;  // less, and packing the weights dominates
  const std::int64_t threads = available_threads();
  if (threads == 1) return std::max<std::int64_t>(1, total_rows);
  return std::max(kSmallestPart, total_rows / (threads * kPartsPerThread));
}

// Of a group with so many rows of x; one with up to half more than `limit` is left whole.
std::int64_t parts_of(std::int64_t rows, std::int64_t limit) { return (rows + limit / 2) / limit; }

// Fills `list`: whole groups, largest first; a group with too many rows of x is cut into parts by
// the rows of its C, of which it has rows_of_c(group). Groups without rows are left out unless
// `keep_empty`.
template <class RowsOfC>
const std::vector<Item>& make_items(std::vector<Item>& list, std::span<const std::int64_t> offsets,
                                    std::int64_t limit, bool keep_empty, const RowsOfC& rows_of_c) {
  const std::int64_t groups = std::ssize(offsets) - 1;
  list.clear();
  for (std::int64_t group = 0; group < groups; ++group) {
    const auto g = static_cast<std::size_t>(group);
    const std::int64_t rows = offsets[g + 1] - offsets[g];
    if (rows == 0 && !keep_empty) continue;
    const std::int64_t c_rows = rows_of_c(group);
    const std::int64_t parts = std::clamp<std::int64_t>(parts_of(rows, limit), 1, c_rows);
    for (std::int64_t part = 0; part < parts; ++part) {
      const std::int64_t begin = c_rows * part / parts;
      const std::int64_t end = c_rows * (part + 1) / parts;
      list.push_back({group, begin, end - begin, rows / parts});
    }
  }
  std::sort(list.begin(), list.end(), [](const Item& a, const Item& b) {
    if (a.work != b.work) return a.work > b.work;
    return a.group != b.group ? a.group < b.group : a.row < b.row;
  });
  return list;
}

void check_offsets(const char* op, std::span<const std::int64_t> offsets, std::int64_t groups,
                   std::int64_t rows) {
  WITAN_CHECK(std::ssize(offsets) == groups + 1, op, ": expected ", groups + 1, " offsets for ",
              groups, " groups, found ", offsets.size());
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    WITAN_CHECK(offsets[g] <= offsets[g + 1], op, ": offsets must not decrease, found ", offsets[g],
                " before ", offsets[g + 1], " at group ", g);
  }
  WITAN_CHECK(offsets.front() >= 0 && offsets.back() <= rows, op, ": offsets ", offsets.front(),
              " .. ", offsets.back(), " leave the ", rows, " rows");
}

// Throws unless dy [rows, n], w [groups, n, k] and dx [rows, k] fit.
void check_nn(const Context& ctx, const char* op, const TensorView& dy,
              std::span<const std::int64_t> offsets, const TensorView& w, const TensorView& dx) {
  check_float(op, "dx", dx, 2);
  check_factor(ctx, op, "dy", dy, dx.dtype, {dy.rows(), dy.cols()});
  check_factor(ctx, op, "w", w, dx.dtype, {w.rows(), dy.cols(), dx.cols()});
  check_operand(ctx, op, "dx", dx, dx.dtype, {dy.rows(), dx.cols()});
  check_offsets(op, offsets, w.rows(), dy.rows());
}

// Throws unless dy [rows, n], x [rows, k] and dw [groups, n, k] fit.
void check_tn(const Context& ctx, const char* op, const TensorView& dy,
              std::span<const std::int64_t> offsets, const TensorView& x, const TensorView& dw) {
  check_float(op, "dw", dw, 3);
  check_factor(ctx, op, "dy", dy, dw.dtype, {dy.rows(), dy.cols()});
  check_factor(ctx, op, "x", x, dw.dtype, {dy.rows(), x.cols()});
  check_operand(ctx, op, "dw", dw, dw.dtype, {dw.rows(), dy.cols(), x.cols()});
  check_offsets(op, offsets, dw.rows(), dy.rows());
}

// y_g [rows_g, n] = x_g [rows_g, k] times the matrix of group g: transposed [n, k] or [k, n].
template <class A, class B>
void times_weights(const Context& ctx, GemmLayout layout, const A* x,
                   std::span<const std::int64_t> offsets, const B* w, const TensorView& out,
                   std::int64_t k) {
  using T = SumOf<A>;
  T* y = out.as<T>();
  const std::int64_t n = out.cols();
  if (n == 0 || offsets.size() == 1) return;
  const auto rows_of = [&](std::int64_t g) {
    return offsets[static_cast<std::size_t>(g) + 1] - offsets[static_cast<std::size_t>(g)];
  };
  // One kernel for all groups, whatever each of them got.
  const std::int64_t mean = (offsets.back() - offsets.front()) / (std::ssize(offsets) - 1);
  const GemmKernel kernel =
      choose_gemm_kernel(layout, dtype_of<T>::value, ctx.products, mean, n, k);
  const std::vector<Item>& items =
      make_items(item_list, offsets, cut_above(offsets, kernel), false, rows_of);
  parallel_for_dynamic(std::ssize(items), [&](std::int64_t index) {
    const Item& item = items[static_cast<std::size_t>(index)];
    const std::int64_t first = offsets[static_cast<std::size_t>(item.group)];
    const std::int64_t rows = rows_of(item.group);
    const auto task =
        gemm_task(layout, rows, n, k, x + first * k, w + item.group * n * k, y + first * n, false);
    run_gemm(kernel, gemm_part(task, item.row, item.rows, 0, n));
  });
}

void times_weights(const Context& ctx, GemmLayout layout, const TensorView& x,
                   std::span<const std::int64_t> offsets, const TensorView& w,
                   const TensorView& y) {
  const TensorView weights = as_read(ctx, w);
  dispatch_operands(x, weights, [&](auto a, auto b) {
    times_weights(ctx, layout, x.as<decltype(a)>(), offsets, weights.as<decltype(b)>(), y,
                  x.cols());
  });
}

}  // namespace

void grouped_gemm_nt(const Context& ctx, const TensorView& x, std::span<const std::int64_t> offsets,
                     const TensorView& w, const TensorView& y) {
  check_float("grouped_gemm_nt", "y", y, 2);
  WITAN_CHECK(w.shape.rank() == 3, "grouped_gemm_nt: w: expected 3 axes, found shape ",
              w.shape.to_string());
  const std::int64_t rows = x.rows();
  const std::int64_t k = x.cols();
  const std::int64_t groups = w.rows();
  const std::int64_t n = w.shape[1];
  check_factor(ctx, "grouped_gemm_nt", "x", x, y.dtype, {rows, k});
  check_factor(ctx, "grouped_gemm_nt", "w", w, y.dtype, {groups, n, k});
  check_operand(ctx, "grouped_gemm_nt", "y", y, y.dtype, {rows, n});
  check_offsets("grouped_gemm_nt", offsets, groups, rows);
  if (ctx.device.is_cuda()) {
    return cuda::grouped_gemm(ctx, GemmLayout::kNT, offsets, x, w, y, Accumulate::kNo);
  }
  times_weights(ctx, GemmLayout::kNT, x, offsets, w, y);
}

void grouped_gemm_nn(const Context& ctx, const TensorView& dy,
                     std::span<const std::int64_t> offsets, const TensorView& w,
                     const TensorView& dx) {
  check_nn(ctx, "grouped_gemm_nn", dy, offsets, w, dx);
  if (ctx.device.is_cuda()) {
    return cuda::grouped_gemm(ctx, GemmLayout::kNN, offsets, dy, w, dx, Accumulate::kNo);
  }
  times_weights(ctx, GemmLayout::kNN, dy, offsets, w, dx);
}

void grouped_gemm_tn(const Context& ctx, const TensorView& dy,
                     std::span<const std::int64_t> offsets, const TensorView& x,
                     const TensorView& dw, Accumulate accumulate) {
  check_tn(ctx, "grouped_gemm_tn", dy, offsets, x, dw);
  if (ctx.device.is_cuda()) {
    return cuda::grouped_gemm(ctx, GemmLayout::kTN, offsets, dy, x, dw, accumulate);
  }
  const std::int64_t n = dy.cols();
  const std::int64_t k = x.cols();
  const std::int64_t groups = dw.rows();
  if (n == 0 || k == 0 || groups == 0) return;
  dispatch_operands(dy, x, [&](auto a, auto b) {
    using T = SumOf<decltype(a)>;
    const auto* dy_data = dy.as<decltype(a)>();
    const auto* x_data = x.as<decltype(b)>();
    T* dw_data = dw.as<T>();
    const std::int64_t mean = (offsets.back() - offsets.front()) / groups;
    const GemmKernel kernel =
        choose_gemm_kernel(GemmLayout::kTN, dtype_of<T>::value, ctx.products, n, k, mean);
    const bool add = accumulate == Accumulate::kYes;
    const std::vector<Item>& items = make_items(item_list, offsets, cut_above(offsets, kernel),
                                                !add, [n](std::int64_t) { return n; });
    parallel_for_dynamic(std::ssize(items), [&](std::int64_t index) {
      const Item& item = items[static_cast<std::size_t>(index)];
      const std::int64_t first = offsets[static_cast<std::size_t>(item.group)];
      const std::int64_t count = offsets[static_cast<std::size_t>(item.group) + 1] - first;
      const auto task = gemm_task(GemmLayout::kTN, n, k, count, dy_data + first * n,
                                  x_data + first * k, dw_data + item.group * n * k, add);
      run_gemm(kernel, gemm_part(task, item.row, item.rows, 0, k));
    });
  });
}

bool keeps_groups_whole(std::span<const std::int64_t> offsets) {
  const std::int64_t limit = cut_above(offsets, GemmKernel::kOwn);
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    if (parts_of(offsets[g + 1] - offsets[g], limit) > 1) return false;
  }
  return true;
}

void for_each_group(std::span<const std::int64_t> offsets, bool empty_too,
                    const std::function<void(std::int64_t)>& f) {
  const std::vector<Item>& items =
      make_items(group_list, offsets, std::max<std::int64_t>(1, offsets.back()), empty_too,
                 [](std::int64_t) { return 1; });
  parallel_for_dynamic(std::ssize(items), [&](std::int64_t index) {
    f(items[static_cast<std::size_t>(index)].group);
  });
}

void grouped_gemm_backward(const Context& ctx, const TensorView& dy,
                           std::span<const std::int64_t> offsets, const TensorView& x,
                           const TensorView& w, const TensorView& dx, const TensorView& dw,
                           Accumulate accumulate_dw) {
  if (ctx.device.is_cuda()) {
    check_nn(ctx, "grouped_gemm_backward", dy, offsets, w, dx);
    check_tn(ctx, "grouped_gemm_backward", dy, offsets, x, dw);
    return cuda::grouped_gemm_backward(ctx, dy, offsets, x, w, dx, dw, accumulate_dw);
  }
  grouped_gemm_tn(ctx, dy, offsets, x, dw, accumulate_dw);
  grouped_gemm_nn(ctx, dy, offsets, w, dx);
}

}  // namespace witan::ops
