// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/error.h"

namespace witan {

enum class DType : std::uint8_t { kFloat32, kFloat64, kInt32, kInt64 };

constexpr std::size_t size_of(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kInt32 ? 4 : 8;
}

constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kInt32: return "int32";
    case DType::kInt64: return "int64";
  }
  return "?";
}

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct dtype_of<std::int64_t> {
  static constexpr DType value = DType::kInt64;
};

// Calls f(float{}) or f(double{}); anything else is an error that names `what`.
template <class F>
void dispatch_float(DType dtype, const char* what, F&& f) {
  if (dtype == DType::kFloat32) {
    f(float{});
  } else if (dtype == DType::kFloat64) {
    f(double{});
  } else {
    WITAN_CHECK(false, what, ": expected float32 or float64, found ", name_of(dtype));
  }
}

}  // namespace witan
