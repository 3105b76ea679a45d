// The public matrix products by layout, on vectors.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ops/gemm.h"
#include "core/ops/gemm_kernel.h"
#include "core/tensor/allocator.h"

namespace witan::test {

inline constexpr ops::GemmLayout kLayouts[] = {ops::GemmLayout::kNN, ops::GemmLayout::kNT,
                                               ops::GemmLayout::kTN};

// C [m, n] (+)= op(a) op(b), through the public op of the layout.
template <class T>
void product(const Context& ctx, ops::GemmLayout layout, std::int64_t m, std::int64_t n,
             std::int64_t k, const std::vector<T>& a, const std::vector<T>& b, std::vector<T>& c,
             ops::Accumulate accumulate) {
  const TensorView out = view_of(c.data(), {m, n});
  switch (layout) {
    case ops::GemmLayout::kNN:
      ops::gemm_nn(ctx, view_of(a.data(), {m, k}), view_of(b.data(), {k, n}), out, accumulate);
      break;
    case ops::GemmLayout::kNT:
      ops::gemm_nt(ctx, view_of(a.data(), {m, k}), view_of(b.data(), {n, k}), out, accumulate);
      break;
    case ops::GemmLayout::kTN:
      ops::gemm_tn(ctx, view_of(a.data(), {k, m}), view_of(b.data(), {k, n}), out, accumulate);
      break;
  }
}

}  // namespace witan::test
