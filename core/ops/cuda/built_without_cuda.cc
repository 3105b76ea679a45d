// The CUDA twins of the ops in a build without CUDA. Only functions that the .cu files define may
// stand here: where the tests link those files' objects, they take the place of this one whole.
#include "core/base/cuda/built_without_cuda.h"

#include "core/ops/cuda/norm.h"
#include "core/ops/cuda/permute.h"

namespace witan::ops::cuda {

using witan::cuda::throw_built_without_cuda;

// norm.h

void rmsnorm(const Context&, const TensorView&, const TensorView&, double, const TensorView&,
             const TensorView&) {
  throw_built_without_cuda("rmsnorm");
}

void rmsnorm_backward(const Context&, const TensorView&, const TensorView&, const TensorView&,
                      const TensorView&, const TensorView&, Accumulate, const TensorView&) {
  throw_built_without_cuda("rmsnorm_backward");
}

// permute.h

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
