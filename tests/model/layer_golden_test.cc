// The same cases as published_layers_test.cc, from the golden files themselves.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/model/layer_golden.h"

namespace witan::test {
namespace {

void check_golden(const std::string& name, void (*check)(const nlohmann::json&)) {
  const std::string path = std::string(WITAN_SOURCE_DIR) + "/../shared/golden/" + name;
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "../shared/golden is absent";
  check(read_json(path));
}

TEST(LayerGolden, OnnxRuntimeReluTop1) { check_golden("ort_relu_top1.json", check_relu_top1); }
TEST(LayerGolden, OnnxRuntimeSwigluWithOffset) {
  check_golden("ort_swiglu_beta1.json", check_swiglu_offset);
}
TEST(LayerGolden, MaxTextGroups) { check_golden("maxtext_routing.json", check_group_limited); }

}  // namespace
}  // namespace witan::test
