// Compares a backward pass with central differences, in float64.
//
//   loss = sum of outputs weighted by a fixed random projection; its gradient with respect to an
//   input is what the backward gives when it is handed the projection as dy.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace witan::test {

// Relative to the largest element of the gradient. With a step of 1e-5 the truncation error is
// about 1e-10 and the rounding error about 1e-11 of the loss; a wrong term is of order 1.
constexpr double kGradientTolerance = 1e-6;

inline double project(const std::vector<double>& output, const std::vector<double>& projection) {
  double sum = 0.0;
  for (std::size_t i = 0; i < output.size(); ++i) sum += output[i] * projection[i];
  return sum;
}

// `gradient` is claimed to be d loss() / d x; loss() reads x, which is perturbed and restored.
template <class Loss>
void expect_gradient(const char* name, std::vector<double>& x, const std::vector<double>& gradient,
                     const Loss& loss) {
  constexpr double kStep = 1e-5;
  ASSERT_EQ(x.size(), gradient.size()) << name;
  double largest = 1e-3;  // a gradient that is 0 everywhere is compared absolutely
  for (double g : gradient) largest = std::max(largest, std::abs(g));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    x[i] = value + kStep;
    const double above = loss();
    x[i] = value - kStep;
    const double below = loss();
    x[i] = value;
    const double numeric = (above - below) / (2.0 * kStep);
    ASSERT_LE(std::abs(numeric - gradient[i]), kGradientTolerance * largest)
        << name << "[" << i << "]: numeric " << numeric << ", by hand " << gradient[i];
  }
}

}  // namespace witan::test
