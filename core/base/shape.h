// Extents of a row-major tensor, at most 4 of them, without heap memory.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/base/error.h"

namespace witan {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) {
    WITAN_CHECK(extents.size() <= kMaxRank, "a shape has at most ", kMaxRank, " axes, found ",
                extents.size());
    for (std::int64_t extent : extents) {
      WITAN_CHECK(extent >= 0, "a negative extent in a shape: ", extent);
      extents_[rank_++] = extent;
    }
  }

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return extents_[axis]; }
  std::int64_t size() const {
    std::int64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis) product *= extents_[axis];
    return product;
  }
  // The same shape with another first extent.
  Shape with_rows(std::int64_t rows) const {
    Shape result = *this;
    result.extents_[0] = rows;
    return result;
  }
  std::string to_string() const {
    std::string text = "[";
    for (int axis = 0; axis < rank_; ++axis) {
      if (axis > 0) text += ", ";
      text += std::to_string(extents_[axis]);
    }
    return text + "]";
  }
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace witan
