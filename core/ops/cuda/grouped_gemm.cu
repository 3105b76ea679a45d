#include "core/ops/cuda/grouped_gemm.h"

#include <vector>

#include "core/ops/cuda/product.h"
#include "core/ops/cuda/words.h"

namespace witan::ops::cuda {
namespace {

// One group's product, as element offsets into the three operands.
struct GroupProduct {
  ProductShape shape;
  std::int64_t a, b, c;
};

// Lists of one call, kept between calls, so that a step allocates nothing once the largest has been
// seen.
struct Lists {
  std::vector<GroupProduct> products;
  std::vector<std::int64_t> addresses;  // of all first operands, then all second, then all results
  std::vector<cublasOperation_t> first, second;
  std::vector<int> m, n, k, ld_first, ld_second, ld_result, group_size;
  std::vector<float> alpha, beta;
};
thread_local Lists lists;

// The products that have work to do, and zeros where a result is a sum over no rows.
const std::vector<GroupProduct>& list_products(const Context& ctx, GemmLayout layout,
                                               std::span<const std::int64_t> offsets,
                                               const TensorView& a, const TensorView& c,
                                               bool accumulate) {
  lists.products.clear();
  const bool over_rows = layout == GemmLayout::kTN;
  const std::int64_t columns = over_rows ? c.shape[2] : c.cols();
  const std::int64_t inner = a.cols();  // kTN: the rows of each result
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    const std::int64_t first = offsets[g];
    const std::int64_t rows = offsets[g + 1] - first;
    const auto matrix = static_cast<std::int64_t>(g) * inner * columns;
    if (over_rows && rows == 0 && !accumulate) {
      const TensorView result = c.slice_rows(static_cast<std::int64_t>(g), 1);
      zero_bytes(ctx, result.data, result.bytes());
    }
    if (rows == 0) continue;
    lists.products.push_back(
        over_rows
            ? GroupProduct{{layout, inner, columns, rows}, first * inner, first * columns, matrix}
            : GroupProduct{{layout, rows, columns, inner}, first * inner, matrix, first * columns});
  }
  return lists.products;
}

const void* at(const TensorView& x, std::int64_t element) {
  return static_cast<const std::byte*>(x.data) +
         static_cast<std::size_t>(element) * size_of(x.dtype);
}

void run_batched(const Context& ctx, const ProductTypes& types,
                 const std::vector<GroupProduct>& products, const TensorView& a,
                 const TensorView& b, const TensorView& c, bool accumulate) {
  Lists& l = lists;
  const std::size_t count = products.size();
  for (auto* list : {&l.m, &l.n, &l.k, &l.ld_first, &l.ld_second, &l.ld_result}) list->clear();
  l.first.clear();
  l.second.clear();
  l.addresses.resize(3 * count);
  l.alpha.assign(count, 1.0F);
  l.beta.assign(count, accumulate ? 1.0F : 0.0F);
  l.group_size.assign(count, 1);
  for (std::size_t i = 0; i < count; ++i) {
    const GroupProduct& product = products[i];
    const ColumnMajor p = column_major(product.shape);
    l.first.push_back(p.first);
    l.second.push_back(p.second);
    l.m.push_back(p.m);
    l.n.push_back(p.n);
    l.k.push_back(p.k);
    l.ld_first.push_back(p.ld_first);
    l.ld_second.push_back(p.ld_second);
    l.ld_result.push_back(p.ld_result);
    l.addresses[i] = reinterpret_cast<std::intptr_t>(at(b, product.b));
    l.addresses[count + i] = reinterpret_cast<std::intptr_t>(at(a, product.a));
    l.addresses[2 * count + i] = reinterpret_cast<std::intptr_t>(at(c, product.c));
  }
  const Cublas blas = use_cublas(ctx, l.addresses.size() * sizeof(std::int64_t));
  upload_words(ctx, l.addresses, reinterpret_cast<std::int64_t*>(blas.scratch));
  auto* table = reinterpret_cast<void**>(blas.scratch);
  WITAN_CUBLAS_CHECK(
      cublasGemmGroupedBatchedEx(
          blas.handle, l.first.data(), l.second.data(), l.m.data(), l.n.data(), l.k.data(),
          l.alpha.data(), table, types.operand, l.ld_first.data(), table + count, types.operand,
          l.ld_second.data(), l.beta.data(), table + 2 * count, types.result, l.ld_result.data(),
          static_cast<int>(count), l.group_size.data(), types.compute),
      "grouped product of ", count, " groups");
}

// A product a group; a and b as cuBLAS reads them.
void run_loop(cublasHandle_t handle, const ProductTypes& types,
              const std::vector<GroupProduct>& products, const void* a, const void* b,
              const TensorView& c, bool accumulate) {
  const auto operand_bytes = types.operand == CUDA_R_16BF ? 2 : size_of(c.dtype);
  const auto operand = [&](const void* of, std::int64_t element) {
    return static_cast<const std::byte*>(of) + static_cast<std::size_t>(element) * operand_bytes;
  };
  for (const GroupProduct& p : products) {
    multiply(handle, types, p.shape, operand(a, p.a), operand(b, p.b), accumulate,
             const_cast<void*>(at(c, p.c)));
  }
}

}  // namespace

GroupedKernel choose_grouped_kernel(DType dtype, Products products) {
  return dtype == DType::kFloat32 && products == Products::kFull ? GroupedKernel::kBatched
                                                                 : GroupedKernel::kLoop;
}

void grouped_gemm(const Context& ctx, GemmLayout layout, std::span<const std::int64_t> offsets,
                  const TensorView& a, const TensorView& b, const TensorView& c,
                  Accumulate accumulate) {
  if (c.size() == 0) return;
  const bool add = accumulate == Accumulate::kYes;
  const std::vector<GroupProduct>& products = list_products(ctx, layout, offsets, a, c, add);
  if (products.empty()) return;
  if (a.cols() == 0) {  // kNT and kNN: sums over nothing
    const std::int64_t first = offsets.front();
    const TensorView rows = c.slice_rows(first, offsets.back() - first);
    return zero_bytes(ctx, rows.data, rows.bytes());
  }
  const ProductTypes types = product_types(a.dtype, ctx.products);
  if (choose_grouped_kernel(a.dtype, ctx.products) == GroupedKernel::kBatched) {
    run_batched(ctx, types, products, a, b, c, add);
  } else if (types.operand == CUDA_R_16BF) {
    const RoundedOperands rounded(ctx, {a, b});
    run_loop(rounded.handle(), types, products, rounded[0], rounded[1], c, add);
  } else {
    run_loop(use_cublas(ctx, 0).handle, types, products, a.data, b.data, c, add);
  }
}

void grouped_gemm_backward(const Context& ctx, const TensorView& dy,
                           std::span<const std::int64_t> offsets, const TensorView& x,
                           const TensorView& w, const TensorView& dx, const TensorView& dw,
                           Accumulate accumulate_dw) {
  const ProductTypes types = product_types(dy.dtype, ctx.products);
  const bool work = offsets.back() > offsets.front() && dw.size() > 0;
  if (types.operand != CUDA_R_16BF || !work) {
    grouped_gemm(ctx, GemmLayout::kTN, offsets, dy, x, dw, accumulate_dw);
    grouped_gemm(ctx, GemmLayout::kNN, offsets, dy, w, dx, Accumulate::kNo);
    return;
  }
  const bool add = accumulate_dw == Accumulate::kYes;
  const RoundedOperands rounded(ctx, {dy, x, w});
  run_loop(rounded.handle(), types, list_products(ctx, GemmLayout::kTN, offsets, dy, dw, add),
           rounded[0], rounded[1], dw, add);
  run_loop(rounded.handle(), types, list_products(ctx, GemmLayout::kNN, offsets, dy, dx, false),
           rounded[0], rounded[2], dx, false);
}

}  // namespace witan::ops::cuda
