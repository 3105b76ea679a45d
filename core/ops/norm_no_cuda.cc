#include "core/base/cuda/built_without_cuda.h"
#include "core/ops/norm_cuda.h"

namespace witan::ops::cuda {

using witan::cuda::throw_built_without_cuda;

void rmsnorm(const Context&, const TensorView&, const TensorView&, double, const TensorView&,
             const TensorView&) {
  throw_built_without_cuda("rmsnorm");
}

void rmsnorm_backward(const Context&, const TensorView&, const TensorView&, const TensorView&,
                      const TensorView&, const TensorView&, Accumulate, const TensorView&) {
  throw_built_without_cuda("rmsnorm_backward");
}

}  // namespace witan::ops::cuda
