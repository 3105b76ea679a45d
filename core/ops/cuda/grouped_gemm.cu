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

void run_loop(const Context& ctx, const ProductTypes& types,
              const std::vector<GroupProduct>& products, const TensorView& a, const TensorView& b,
              const TensorView& c, bool accumulate) {
  if (types.operand != CUDA_R_16BF) {
    const Cublas blas = use_cublas(ctx, 0);
    for (const GroupProduct& p : products) {
      multiply(blas.handle, types, p.shape, at(a, p.a), at(b, p.b), accumulate,
               const_cast<void*>(at(c, p.c)));
    }
    return;
  }
  const Cublas blas = use_cublas(ctx, bfloat16_bytes(a.size()) + bfloat16_bytes(b.size()));
  auto* a_rounded = reinterpret_cast<std::uint16_t*>(blas.scratch);
  auto* b_rounded = reinterpret_cast<std::uint16_t*>(blas.scratch + bfloat16_bytes(a.size()));
  narrow_operand(ctx, a.as<float>(), a.size(), a_rounded);
  narrow_operand(ctx, b.as<float>(), b.size(), b_rounded);
  for (const GroupProduct& p : products) {
    multiply(blas.handle, types, p.shape, a_rounded + p.a, b_rounded + p.b, accumulate,
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
  } else {
    run_loop(ctx, types, products, a, b, c, add);
  }
}

}  // namespace witan::ops::cuda
