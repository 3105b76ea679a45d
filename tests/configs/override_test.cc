// --set PATH=VALUE.
#include <gtest/gtest.h>

#include "configs/load.h"
#include "tests/configs/config_text.h"

namespace witan::configs {
namespace {

RunConfig with(const std::vector<std::string>& overrides) {
  const LoadedConfig config = load(kGoodConfig, "a.textproto", overrides);
  for (const ConfigError& error : config.errors) ADD_FAILURE() << error.to_string();
  return config.run;
}

std::string error_of(const std::string& override) {
  const LoadedConfig config = load(kGoodConfig, "a.textproto", {override});
  EXPECT_EQ(config.errors.size(), 1U) << override;
  return config.errors.empty() ? "" : config.errors.front().to_string();
}

TEST(Override, Scalars) {
  const RunConfig run = with({"train.steps=12", "model.attention.heads=2", "optimizer.lr=3e-4",
                              "optimizer.zero1=false", "device=CUDA", "train.steps=13"});
  EXPECT_EQ(run.train().steps(), 13);  // in order
  EXPECT_EQ(run.model().attention().heads(), 2);
  EXPECT_EQ(run.optimizer().lr(), 3e-4);
  EXPECT_FALSE(run.optimizer().zero1());
  EXPECT_EQ(run.device(), CUDA);
}

TEST(Override, StringsNeedNoQuotes) {
  EXPECT_EQ(with({"train.output=runs/x"}).train().output(), "runs/x");
  EXPECT_EQ(with({"train.output=\"runs/x\""}).train().output(), "runs/x");
  EXPECT_EQ(with({"train.output=a \"b\"\\c=d # e"}).train().output(), "a \"b\"\\c=d # e");
  EXPECT_EQ(with({"train.output="}).train().output(), "");
}

TEST(Override, EntriesOfLists) {
  RunConfig run = with({"model.moe.balance[0].switch_aux.coefficient=0.5",
                        "model.moe.balance[2].expert_bias.rate=0.25"});
  ASSERT_EQ(run.model().moe().balance_size(), 3);  // an index equal to the size appends
  EXPECT_EQ(run.model().moe().balance(0).switch_aux().coefficient(), 0.5);
  EXPECT_EQ(run.model().moe().balance(2).expert_bias().rate(), 0.25);
  run = with({"model.moe.pattern.list=[0, 1]", "model.moe.pattern.list[0]=2",
              "model.moe.pattern.list[2]=3"});
  ASSERT_EQ(run.model().moe().pattern().list_size(), 3);
  EXPECT_EQ(run.model().moe().pattern().list(0), 2);
  EXPECT_EQ(run.model().moe().pattern().list(1), 1);
  EXPECT_EQ(run.model().moe().pattern().list(2), 3);
}

TEST(Override, BlocksAndListsReplace) {
  EXPECT_EQ(with({"model.moe.balance=[]"}).model().moe().balance_size(), 0);
  EXPECT_EQ(with({"model.moe.balance={ z_loss {} }"}).model().moe().balance_size(), 1);
  const RunConfig run = with({"optimizer.schedule={ kind: WSD min_ratio: 0 }",
                              "model.moe.balance[0]=z_loss { coefficient: 2 }"});
  EXPECT_EQ(run.optimizer().schedule().kind(), LrSchedule::WSD);
  EXPECT_EQ(run.model().moe().balance(0).z_loss().coefficient(), 2);
  EXPECT_EQ(run.model().moe().balance_size(), 2);
}

TEST(Override, ChoosesAnotherMemberOfAChoice) {
  const LoadedConfig config =
      load(kGoodConfig, "a.textproto", {"model.moe.balance[0].z_loss.coefficient=1e-3"});
  EXPECT_TRUE(config.errors.empty());
  EXPECT_TRUE(config.run.model().moe().balance(0).has_z_loss());
  EXPECT_EQ(config.origins.count("model.moe.balance[0].switch_aux.coefficient"), 0U);
}

TEST(Override, Origins) {
  const LoadedConfig config =
      load(kGoodConfig, "a.textproto", {"model.layers=3", "optimizer.schedule={ min_ratio: 0 }"});
  EXPECT_EQ(config.origins.at("model.layers").kind, Origin::Kind::kOverride);
  EXPECT_EQ(config.origins.at("optimizer.schedule.min_ratio").kind, Origin::Kind::kOverride);
  EXPECT_EQ(config.origins.at("model.d_model").kind, Origin::Kind::kFile);
}

TEST(Override, MayFillWhatTheFileLeavesOut) {
  const LoadedConfig config = load(good_config_with("name: \"tiny\"", ""), "a.textproto",
                                   {"name=tiny", "data.train[0].name=a", "data.train[0].path=b"});
  EXPECT_TRUE(config.errors.empty());
  EXPECT_EQ(config.run.data().train(0).path(), "b");
}

TEST(Override, Mistakes) {
  EXPECT_EQ(error_of("model.atention.heads=2"),
            "--set: model.atention: unknown field; did you mean attention?");
  EXPECT_EQ(error_of("model.layers=0"),
            "--set: model.layers: 0 is out of range: expected an integer in [1, 4096]");
  EXPECT_EQ(error_of("model.layers=two"), "--set: model.layers: expected an integer, found two");
  EXPECT_EQ(error_of("device=cuda"),
            "--set: device: expected one of CPU, CUDA, found cuda; did you mean CUDA?");
  EXPECT_EQ(error_of("model.layers.x=2"), "--set: model.layers: is an integer; it has no fields");
  EXPECT_EQ(error_of("model.layers[0]=2"),
            "--set: model.layers: is not a list: leave out the index");
  EXPECT_EQ(error_of("model.moe.balance.z_loss={}"),
            "--set: model.moe.balance: is a list: say which entry, as in model.moe.balance[0]");
  EXPECT_EQ(error_of("model.moe.balance[5].z_loss={}"),
            "--set: model.moe.balance[5]: the list has 2 entries; [2] appends one");
  EXPECT_EQ(error_of("model.moe.balance[2]={}"),
            "--set: model.moe.balance[2].kind: missing: expected one of switch_aux, z_loss, "
            "expert_bias, importance_cv2, load_cv2, device_balance, entropy, none");
  EXPECT_EQ(error_of("optimizer.schedule={ kind: CUSINE }"),
            "--set: optimizer.schedule.kind: expected one of COSINE, LINEAR, CONSTANT, WSD, found "
            "CUSINE; did you mean COSINE?");
  EXPECT_EQ(error_of("optimizer.schedule={ kind: WSD"),
            "--set: optimizer.schedule: expected a field name or }, found the end");
  EXPECT_EQ(error_of("model.moe.pattern.list=[1, 2"),
            "--set: model.moe.pattern.list: expected , or ], found the end");
}

TEST(Override, BadForm) {
  for (const char* text : {"train.steps", "=3", "train..steps=3", ".train=3", "train.=3", "a[=3",
                           "a[]=3", "a[x]=3", "a[1=3", "a[-1]=3", "a b=3", "a[99999999]=3"}) {
    EXPECT_EQ(error_of(text),
              std::string("--set: expected PATH=VALUE with a dotted path, such as train.steps=100 "
                          "or model.moe.balance[0].z_loss.coefficient=1e-3, found ") +
                  text);
  }
}

}  // namespace
}  // namespace witan::configs
