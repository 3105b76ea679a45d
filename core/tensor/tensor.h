// A tensor that owns its memory. Move-only.
#pragma once

#include <string>
#include <utility>

#include "core/tensor/allocator.h"
#include "core/tensor/tensor_view.h"

namespace witan {

class Tensor {
 public:
  Tensor() = default;
  // Uninitialised memory.
  Tensor(const Shape& shape, DType dtype, Device device = {}) {
    view_ = {nullptr, shape, dtype, device};
    view_.data = device_allocate(device, view_.bytes());
  }
  // `what` it is for stands in the message where there is not enough memory.
  Tensor(const Shape& shape, DType dtype, Device device, const std::string& what) {
    view_ = {nullptr, shape, dtype, device};
    view_.data = allocate_for(what, device, view_.bytes());
  }
  // Zero-filled; CPU only (use ops::fill elsewhere).
  static Tensor zeros(const Shape& shape, DType dtype);

  Tensor(Tensor&& other) noexcept : view_(std::exchange(other.view_, {})) {}
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(view_, other.view_);
    return *this;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor() { device_free(view_.device, view_.data, view_.bytes()); }

  const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }  // NOLINT(google-explicit-constructor)
  const Shape& shape() const { return view_.shape; }
  bool empty() const { return view_.empty(); }
  template <class T>
  T* as() const {
    return view_.as<T>();
  }

 private:
  TensorView view_;
};

}  // namespace witan
