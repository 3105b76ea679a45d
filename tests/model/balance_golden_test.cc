// The same cases as balance_test.cc, from the golden files themselves.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/model/balance_golden.h"
#include "tests/model/capacity_golden.h"

namespace witan::test {
namespace {

std::string golden(const std::string& name) {
  return std::string(WITAN_SOURCE_DIR) + "/../shared/golden/" + name;
}

TEST(BalanceGolden, SwitchLosses) {
  const std::string path = golden("switch_losses.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "../shared/golden is absent";
  check_switch_losses(read_json(path));
}

TEST(BalanceGolden, VMoeLosses) {
  const std::string path = golden("vmoe_losses.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "../shared/golden is absent";
  check_vmoe_losses(read_json(path));
}

TEST(CapacityGolden, DeepSpeedTopK) {
  const std::string path = golden("deepspeed_topk.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "../shared/golden is absent";
  check_deepspeed_topk(read_json(path));
}

TEST(BalanceGolden, MaxTextBiasUpdate) {
  const std::string path = golden("maxtext_routing.json");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "../shared/golden is absent";
  check_bias_update(read_json(path));
}

}  // namespace
}  // namespace witan::test
