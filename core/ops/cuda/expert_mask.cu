// Experts that tokens may use by their tag, on CUDA. The table is small and stays in caches.
#include "core/ops/cuda/expert_mask.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/topk.h"

namespace witan::ops::cuda {
namespace {

struct Table {
  const std::int32_t* order;  // [tags, experts]
  const std::int32_t* count;  // [tags]
  std::int64_t experts;
  const std::int32_t* tags;  // [tokens]
};

Table table_of(const TagExperts& table, const TensorView& tags) {
  return {table.order.as<std::int32_t>(), table.count.as<std::int32_t>(), table.order.cols(),
          tags.as<std::int32_t>()};
}

// 4 bytes of float32 an element that is masked
template <class T>
__global__ void mask_experts_kernel(Table table, std::int64_t n, T* z) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    const std::int64_t token = i / table.experts;
    const std::int64_t place = i % table.experts;
    const std::int32_t tag = table.tags[token];
    if (place < table.count[tag]) continue;
    const std::int32_t expert = table.order[tag * table.experts + place];
    z[token * table.experts + expert] = -static_cast<T>(INFINITY);
  }
}

// 4 bytes of float32 an element, and as many again where it is masked
template <class Z, class T>
__global__ void mask_like_kernel(const Z* z, std::int64_t n, T* x) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    if (z[i] == -static_cast<Z>(INFINITY)) x[i] = -static_cast<T>(INFINITY);
  }
}

// Integers.
__global__ void tag_choices_kernel(Table table, const std::int32_t* tokens,
                                   const std::int32_t* ranks, std::int64_t top_k, std::int64_t n,
                                   std::int32_t* indices) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    const std::int64_t token = i / top_k;
    const std::int64_t j = i % top_k;
    const std::int32_t tag = table.tags[token];
    const std::int64_t count = table.count[tag];
    const std::int64_t first = ranks == nullptr ? 0 : ranks[tokens[token]] * top_k;
    indices[i] = j < count ? table.order[tag * table.experts + (first + j) % count] : kNoChoice;
  }
}

}  // namespace

void mask_experts(const Context& ctx, const TagExperts& table, const TensorView& tags,
                  const TensorView& z) {
  if (z.size() == 0) return;
  dispatch_float(z.dtype, "mask_experts", [&](auto zero) {
    using T = decltype(zero);
    launch(mask_experts_kernel<T>, flat_grid(z.size()), dim3(kFlatThreads), 0, ctx.stream,
           table_of(table, tags), z.size(), z.as<T>());
  });
}

void mask_like(const Context& ctx, const TensorView& z, const TensorView& x) {
  if (z.size() == 0) return;
  dispatch_float(z.dtype, "mask_like", [&](auto of_z) {
    using Z = decltype(of_z);
    dispatch_float(x.dtype, "mask_like", [&](auto of_x) {
      using T = decltype(of_x);
      launch(mask_like_kernel<Z, T>, flat_grid(z.size()), dim3(kFlatThreads), 0, ctx.stream,
             z.as<Z>(), z.size(), x.as<T>());
    });
  });
}

void tag_choices(const Context& ctx, const TagExperts& table, const TensorView& tags,
                 const TensorView& tokens, const TensorView& ranks, const TensorView& indices) {
  if (indices.size() == 0) return;
  const bool ranked = !ranks.empty();
  launch(tag_choices_kernel, flat_grid(indices.size()), dim3(kFlatThreads), 0, ctx.stream,
         table_of(table, tags), ranked ? tokens.as<std::int32_t>() : nullptr,
         ranked ? ranks.as<std::int32_t>() : nullptr, indices.cols(), indices.size(),
         indices.as<std::int32_t>());
}

}  // namespace witan::ops::cuda
