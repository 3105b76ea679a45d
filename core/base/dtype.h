// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/error.h"

namespace witan {

// kBfloat16 is how operands of matrix products are stored where they would be rounded to it anyway
// (docs/numerics.md): ops that make or multiply them take it and say so, nothing else does.
enum class DType : std::uint8_t { kFloat32, kFloat64, kInt32, kInt64, kBfloat16 };

constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kBfloat16: return 2;
    case DType::kFloat32:
    case DType::kInt32: return 4;
    default: return 8;
  }
}

constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kInt32: return "int32";
    case DType::kInt64: return "int64";
    case DType::kBfloat16: return "bfloat16";
  }
  return "?";
}

// The upper half of a float's bits.
struct Bfloat16 {
  std::uint16_t bits;
};

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

template <>
struct dtype_of<Bfloat16> {
  static constexpr DType value = DType::kBfloat16;
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
