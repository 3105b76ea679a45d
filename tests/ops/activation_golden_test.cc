// The same comparison as Activation.MatchesOnnxRuntimeSwigluWithOffset, with the numbers read from
// the file they were copied from.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/ops/activation.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_case.h"

namespace witan {
namespace {

TEST(ActivationGolden, OnnxRuntimeSwigluWithOffset) {
  const auto path =
      std::filesystem::path(WITAN_SOURCE_DIR).parent_path() / "shared/golden/ort_swiglu_beta1.json";
  std::ifstream file(path);
  if (!file) GTEST_SKIP() << path << " is absent";
  const auto golden = nlohmann::json::parse(file);
  const auto units = golden["inter"].get<std::int64_t>();
  const auto weight = golden["all_weights"].get<double>();
  for (std::size_t row = 0; row < golden["expected"].size(); ++row) {
    double z = 0.0;
    for (double x : golden["input"][row]) z += weight * x;
    const Tensor in = test::tensor_of(test::Values(static_cast<std::size_t>(2 * units), z),
                                      {1, 2 * units}, DType::kFloat64);
    const Tensor h = test::unwritten({1, units}, DType::kFloat64);
    ops::activation({}, ops::Activation::kSwiglu, in, {}, h, {.up_offset = 1.0});
    const test::Values down(static_cast<std::size_t>(units), weight);
    EXPECT_NEAR(test::project(test::values_of(h), down), golden["expected"][row].get<double>(),
                1e-6);
  }
}

}  // namespace
}  // namespace witan
