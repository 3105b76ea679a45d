// The exchange's arithmetic against the golden files themselves (exchange_plan_test.cc holds copies
// of their numbers).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/parallel/exchange_cases.h"

namespace witan {
namespace {

using Json = nlohmann::json;

// Null if the file is not there.
Json golden(const std::string& name) {
  const std::string path = std::string(WITAN_SOURCE_DIR) + "/../shared/golden/" + name;
  std::ifstream file(path);
  return file ? Json::parse(file) : Json();
}

TEST(ExchangeGoldenTest, TorchtitanPermute) {
  const Json json = golden("torchtitan_permute.json");
  if (json.is_null()) GTEST_SKIP() << "../shared/golden/torchtitan_permute.json is absent";
  ASSERT_FALSE(json.at("cases").empty());
  for (const Json& example : json.at("cases")) {
    check_permute_case({.ranks = example.at("ranks"),
                        .rank_major_counts = example.at("rank_major_counts"),
                        .permuted_indices = example.at("permuted_indices"),
                        .tokens_per_expert = example.at("tokens_per_expert")});
  }
}

TEST(ExchangeGoldenTest, MaxTextAllToAll) {
  const Json json = golden("maxtext_routing.json");
  if (json.is_null()) GTEST_SKIP() << "../shared/golden/maxtext_routing.json is absent";
  const Json& example = json.at("all_to_all");
  check_all_to_all_case({.sizes_src_by_dst = example.at("sizes_src_by_dst"),
                         .input_offsets = example.at("input_offsets"),
                         .send_sizes = example.at("send_sizes"),
                         .output_offsets = example.at("output_offsets"),
                         .recv_sizes = example.at("recv_sizes")});
}

}  // namespace
}  // namespace witan
