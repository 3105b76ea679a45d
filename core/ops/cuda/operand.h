// Optional operands of kernels.
#pragma once

#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

template <class T>
T* data_or_null(const TensorView& x) {
  return x.empty() ? nullptr : x.as<T>();
}

}  // namespace witan::ops::cuda
