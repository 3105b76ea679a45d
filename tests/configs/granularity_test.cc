// moe.granularity: what it makes of a config, and what it refuses.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "configs/load.h"
#include "tests/configs/config_text.h"

namespace witan::configs {
namespace {

LoadedConfig load_with(const std::vector<std::string>& overrides) {
  return load(kGoodConfig, "a.textproto", overrides);
}

TEST(Granularity, MultipliesExpertsAndChoicesAndDividesTheWidth) {
  const LoadedConfig config = load_with({"model.moe.granularity=4"});
  ASSERT_TRUE(config.errors.empty()) << config.errors.front().to_string();
  const MoeConfig& moe = config.run.model().moe();
  EXPECT_EQ(moe.experts(), 32);
  EXPECT_EQ(moe.d_ff(), 4);
  EXPECT_EQ(moe.router().top_k().k(), 8);
  EXPECT_FALSE(moe.has_granularity());
}

TEST(Granularity, OfOneChangesNothing) {
  EXPECT_EQ(load_with({"model.moe.granularity=1"}).run.SerializeAsString(),
            load_with({}).run.SerializeAsString());
}

TEST(Granularity, ReachesTheChoicesOfEverySelection) {
  const std::string path = "model.moe.router.";
  const auto router = [&](const std::string& selection) {
    const LoadedConfig config = load_with({"model.moe.granularity=2", path + selection});
    EXPECT_TRUE(config.errors.empty()) << config.errors.front().to_string();
    return config.run.model().moe().router();
  };
  EXPECT_EQ(router("group_limited={ k: 2 n_group: 4 topk_group: 2 }").group_limited().k(), 4);
  EXPECT_EQ(router("group_limited={ k: 2 n_group: 4 topk_group: 2 }").group_limited().n_group(), 4);
  EXPECT_EQ(router("top_p={ p: 0.5 k_max: 3 }").top_p().k_max(), 6);
  EXPECT_EQ(router("expert_choice={ k: 2 }").expert_choice().k(), 4);
  EXPECT_EQ(router("noisy_top_k={ k: 2 }").noisy_top_k().k(), 4);
  EXPECT_EQ(router("hash={ k: 1 }").hash().k(), 2);
  EXPECT_EQ(router("sinkhorn={ k: 2 }").sinkhorn().k(), 4);
  EXPECT_TRUE(router("all={}").has_all());
}

TEST(Granularity, EffectiveConfigShowsTheResultAndReadsAgain) {
  const LoadedConfig first = load_with({"model.moe.granularity=4"});
  const std::string text = print_effective(first);
  EXPECT_NE(text.find("experts: 32  # a.textproto:8, 8 times granularity 4\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("d_ff: 4  # a.textproto:9, 16 divided by granularity 4\n"),
            std::string::npos);
  EXPECT_NE(text.find("k: 8  # a.textproto:10, 2 times granularity 4\n"), std::string::npos);
  EXPECT_NE(text.find("granularity: 1  # default\n"), std::string::npos);
  const LoadedConfig second = load(text, "b.textproto", {});
  ASSERT_TRUE(second.errors.empty()) << second.errors.front().to_string();
  EXPECT_EQ(second.run.model().moe().experts(), 32);
  EXPECT_EQ(load(print_explicit(first.run), "c.textproto", {}).run.SerializeAsString(),
            first.run.SerializeAsString());
}

TEST(Granularity, Refusals) {
  const auto errors = [](const std::vector<std::string>& overrides) {
    std::string all;
    for (const ConfigError& error : load_with(overrides).errors) all += error.to_string() + "\n";
    return all;
  };
  EXPECT_EQ(errors({"model.moe.granularity=3"}),
            "--set: model.moe.granularity: found 3; it must divide model.moe.d_ff = 16\n");
  EXPECT_EQ(errors({"model.moe.granularity=1024", "model.moe.d_ff=1024"}),
            "--set: model.moe.granularity: found 1024; model.moe.router.top_k.k = 2 times "
            "granularity 1024 is out of range: expected an integer in [1, 1024]\n");
  EXPECT_EQ(errors({"model.moe.granularity=16", "model.moe.experts=65536"}),
            "--set: model.moe.granularity: found 16; model.moe.experts = 65536 times granularity "
            "16 is out of range: expected an integer in [1, 65536]\n");
}

}  // namespace
}  // namespace witan::configs
