#include "core/tensor/tensor.h"

#include <cstring>

namespace witan {

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor tensor(shape, dtype);
  std::memset(tensor.view_.data, 0, tensor.view_.bytes());
  return tensor;
}

}  // namespace witan
