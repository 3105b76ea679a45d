// A typed window on memory that somebody else owns: row-major, contiguous.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/device.h"
#include "core/base/dtype.h"
#include "core/base/shape.h"

namespace witan {

struct TensorView {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::kFloat32;
  Device device;

  bool empty() const { return data == nullptr; }  // "no tensor here" (an absent bias, ...)
  std::int64_t size() const { return shape.size(); }
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * size_of(dtype); }
  std::int64_t rows() const { return shape[0]; }
  // Elements per row: the product of all extents but the first.
  std::int64_t cols() const {
    std::int64_t product = 1;
    for (int axis = 1; axis < shape.rank(); ++axis) product *= shape[axis];
    return product;
  }

  template <class T>
  T* as() const {
    WITAN_CHECK(dtype == dtype_of<T>::value, "tensor: expected ", name_of(dtype_of<T>::value),
                ", found ", name_of(dtype));
    return static_cast<T*>(data);
  }

  // Rows [begin, begin + count) along the first axis.
  TensorView slice_rows(std::int64_t begin, std::int64_t count) const {
    WITAN_CHECK(begin >= 0 && count >= 0 && begin + count <= rows(), "rows [", begin, ", ",
                begin + count, ") of a tensor of shape ", shape.to_string());
    TensorView view = *this;
    view.shape = shape.with_rows(count);
    view.data =
        static_cast<std::byte*>(data) + static_cast<std::size_t>(begin * cols()) * size_of(dtype);
    return view;
  }

  TensorView reshape(const Shape& to) const {
    WITAN_CHECK(to.size() == size(), "reshape ", shape.to_string(), " to ", to.to_string());
    TensorView view = *this;
    view.shape = to;
    return view;
  }
};

// A view of CPU memory: view_of(vector.data(), {rows, cols}).
template <class T>
TensorView view_of(T* data, const Shape& shape) {
  return {const_cast<std::remove_const_t<T>*>(data), shape, dtype_of<std::remove_const_t<T>>::value,
          Device{}};
}

}  // namespace witan
