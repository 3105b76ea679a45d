// The matrix product as its definition says it, in float64, with the sum of magnitudes that its
// rounding error is measured against.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/ops/gemm_kernel.h"
#include "tests/support/tolerance.h"

namespace witan::test {

template <class T>
std::vector<T> random_values(std::int64_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = static_cast<T>(uniform(generator));
  return values;
}

// op(a) op(b), C [m, n] summed over k.
class Product {
 public:
  template <class T>
  Product(ops::GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
          const T* b)
      : m_(m), n_(n), k_(k), sums_(static_cast<std::size_t>(m * n)), magnitudes_(sums_.size()) {
    const bool a_transposed = layout == ops::GemmLayout::kTN;
    const bool b_transposed = layout == ops::GemmLayout::kNT;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0.0;
        double magnitude = 0.0;
        for (std::int64_t p = 0; p < k; ++p) {
          const double left = a_transposed ? a[p * m + i] : a[i * k + p];
          const double right = b_transposed ? b[j * k + p] : b[p * n + j];
          sum += left * right;
          magnitude += std::abs(left * right);
        }
        sums_[static_cast<std::size_t>(i * n + j)] = sum;
        magnitudes_[static_cast<std::size_t>(i * n + j)] = magnitude;
      }
    }
  }

  // Expects c to be the product, added to `before` unless that is null.
  template <class T>
  void expect_near(const T* c, const T* before) const {
    for (std::int64_t index = 0; index < m_ * n_; ++index) {
      const double start = before == nullptr ? 0.0 : before[index];
      const double magnitude = magnitudes_[static_cast<std::size_t>(index)] + std::abs(start);
      const double expected = sums_[static_cast<std::size_t>(index)] + start;
      // Also false for NaN.
      if (std::abs(c[index] - expected) <= sum_tolerance<T>(k_ + 1) * magnitude) continue;
      FAIL() << "row " << index / n_ << ", column " << index % n_ << " of m " << m_ << ", n " << n_
             << ", k " << k_ << ": expected " << expected << ", found " << c[index];
    }
  }

 private:
  std::int64_t m_, n_, k_;
  std::vector<double> sums_, magnitudes_;
};

}  // namespace witan::test
