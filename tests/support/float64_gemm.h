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

// Expects c == op(a) op(b) (+ before, if accumulating), C [m, n] summed over k.
template <class T>
void expect_product(ops::GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
                    const T* a, const T* b, const T* before, const T* c) {
  const bool a_transposed = layout == ops::GemmLayout::kTN;
  const bool b_transposed = layout == ops::GemmLayout::kNT;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = before == nullptr ? 0.0 : before[i * n + j];
      double magnitude = std::abs(sum);
      for (std::int64_t p = 0; p < k; ++p) {
        const double left = a_transposed ? a[p * m + i] : a[i * k + p];
        const double right = b_transposed ? b[j * k + p] : b[p * n + j];
        sum += left * right;
        magnitude += std::abs(left * right);
      }
      ASSERT_NEAR(c[i * n + j], sum, sum_tolerance<T>(k + 1) * magnitude)
          << "row " << i << ", column " << j << " of m " << m << ", n " << n << ", k " << k;
    }
  }
}

}  // namespace witan::test
