// A tensor of a safetensors file as floats, and the relative distance of two.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "launch/checkpoint/safetensors.h"

namespace witan::test {

inline std::vector<float> floats_of(const SafetensorsReader& file, const std::string& name) {
  const StTensor* tensor = file.find(name);
  EXPECT_NE(tensor, nullptr) << file.path() << ": " << name;
  if (tensor == nullptr) return {};
  EXPECT_EQ(tensor->dtype, StDType::kF32) << name;
  std::vector<float> values(tensor->bytes / sizeof(float));
  std::memcpy(values.data(), file.data(*tensor), tensor->bytes);
  return values;
}

inline double norm_of(const std::vector<float>& a) {
  double sum = 0.0;
  for (const float x : a) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  if (a.size() != b.size()) return HUGE_VAL;
  std::vector<float> difference(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return norm_of(difference);
}

}  // namespace witan::test
