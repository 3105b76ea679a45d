// MoE layers and routings against numbers that other frameworks' tests publish.
#include <gtest/gtest.h>

#include <string>

#include "tests/model/layer_golden.h"

namespace witan::test {
namespace {

nlohmann::json fixture(const std::string& name) {
  return read_json(std::string(WITAN_SOURCE_DIR) + "/tests/model/fixtures/" + name);
}

TEST(PublishedLayers, OnnxRuntimeReluTop1) { check_relu_top1(fixture("ort_relu_top1.json")); }
TEST(PublishedLayers, OnnxRuntimeSwigluWithOffset) {
  check_swiglu_offset(fixture("ort_swiglu_beta1.json"));
}
TEST(PublishedLayers, MaxTextGroups) { check_group_limited(fixture("maxtext_group_limited.json")); }

}  // namespace
}  // namespace witan::test
