#include "core/base/cuda/built_without_cuda.h"
#include "core/ops/permute_cuda.h"

namespace witan::ops::cuda {

using witan::cuda::throw_built_without_cuda;

void permute(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("permute");
}

void permute_backward(const Context&, const TensorView&, const TensorView&, const TensorView&) {
  throw_built_without_cuda("permute_backward");
}

void unpermute_sum(const Context&, const TensorView&, const TensorView&, const TensorView&,
                   const TensorView&, bool) {
  throw_built_without_cuda("unpermute_sum");
}

}  // namespace witan::ops::cuda
