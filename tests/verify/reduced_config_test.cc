// What `witan verify` keeps of a config and what it makes smaller.
#include "launch/verify/reduced_config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "core/model/param_table.h"
#include "tests/verify/verify_case.h"

namespace witan::test {
namespace {

using configs::RunConfig;

RunConfig large_config(const std::string& change = "") {
  const char* text =
      "name: 'large' model { vocab_size: 129280 d_model: 7168 layers: 61 norm { kind: LAYERNORM }"
      "  attention { heads: 128 kv_heads: 16 head_dim: 128 qkv_bias: true } ffn { d_ff: 18432 }"
      "  moe { experts: 256 d_ff: 2048 shared_d_ff: 2048 expert_kind: SILU pattern { first: 3 }"
      "    router { score: SIGMOID top_k { k: 8 } routed_scaling_factor: 2.5 }"
      "    balance { expert_bias { rate: 0.001 } }"
      "    balance { switch_aux { coefficient: 1e-4 scope: SEQUENCE } }"
      "    balance { switch_aux { coefficient: 1e-3 } } } }"
      " data { train { name: 'web' path: 'web' weight: 3 } train { name: 'code' path: 'code' }"
      "  seq_len: 4096 } train { global_batch: 1024 micro_batch: 1 recompute: MOE_LAYER"
      "  steps: 500000 init_from: 'there' output: 'here' routing { record: 'choices' } }"
      " optimizer { zero1: true rule { pattern: 'layers.60.*' factor: 0 }"
      "  rule { pattern: 'embedding' factor: 0.5 } } parallel { expert: 64 }";
  RunConfig run, changes;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &run)) << text;
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(change, &changes)) << change;
  run.MergeFrom(changes);
  return run;
}

const Reduction* change_of(const ReducedRun& reduced, const std::string& field) {
  const auto found = std::find_if(reduced.changes.begin(), reduced.changes.end(),
                                  [&](const Reduction& r) { return r.field == field; });
  return found == reduced.changes.end() ? nullptr : &*found;
}

TEST(ReducedConfig, KeepsWhatIsChecked) {
  const RunConfig before = large_config();
  const RunConfig after = reduce_config(before, 4, true, "/scratch").run;
  EXPECT_EQ(after.model().moe().router().DebugString(),
            before.model().moe().router().DebugString());
  EXPECT_EQ(after.model().moe().expert_kind(), configs::MoeConfig::SILU);
  EXPECT_GT(after.model().moe().shared_d_ff(), 0);
  EXPECT_EQ(after.model().moe().balance_size(), 3);
  EXPECT_EQ(after.model().norm().kind(), configs::NormConfig::LAYERNORM);
  EXPECT_TRUE(after.model().attention().qkv_bias());
  EXPECT_EQ(after.train().recompute(), configs::TrainConfig::MOE_LAYER);
  EXPECT_TRUE(after.optimizer().zero1());
  EXPECT_EQ(after.data().train(0).weight(), 3.0);
}

TEST(ReducedConfig, KeepsDenseAndMoeLayersInTheirOrder) {
  const auto layers = [](const std::string& change) {
    return ModelDims(reduce_config(large_config(change), 1, true, "/scratch").run.model()).is_moe;
  };
  EXPECT_EQ(layers(""), (std::vector<bool>{false, false, false, true, true}));
  EXPECT_EQ(layers("model { moe { pattern { first: 50 } } }"),
            (std::vector<bool>{false, false, false, false, true}));
  EXPECT_EQ(layers("model { moe { pattern { first: 1 every: 2 } } }"),
            (std::vector<bool>{false, true, false, true, false}));
  EXPECT_EQ(layers("model { moe { pattern { first: 0 every: 1 } } }"),
            (std::vector<bool>(5, true)));
}

TEST(ReducedConfig, IsSmall) {
  const ReducedRun reduced = reduce_config(large_config(), 4, true, "/scratch");
  const ParamTable table(reduced.run.model());
  EXPECT_LT(table.total_parameters(), 3'000'000);
  const configs::AttentionConfig& attention = reduced.run.model().attention();
  EXPECT_EQ(attention.heads() % attention.kv_heads(), 0);
  EXPECT_GT(attention.heads(), attention.kv_heads()) << "grouped queries stay grouped";
  EXPECT_GE(reduced.run.model().moe().experts(), 2 * 8);
  EXPECT_EQ(reduced.run.model().moe().experts() % 4, 0) << "divides over the ranks";
  EXPECT_FALSE(reduced.run.parallel().has_expert()) << "64 ranks are not there";
  EXPECT_FALSE(reduced.run.train().has_init_from());
  EXPECT_FALSE(reduced.run.train().routing().has_record());
  ASSERT_EQ(reduced.run.optimizer().rule_size(), 1) << "layer 60 is not there";
  EXPECT_EQ(reduced.run.optimizer().rule(0).pattern(), "embedding");
}

TEST(ReducedConfig, AccumulationStaysAndItsCountsBecomeExplicit) {
  const RunConfig several = reduce_config(large_config(), 4, true, "/scratch").run;
  EXPECT_EQ(several.train().global_batch(), 2 * several.train().micro_batch() * 4);
  EXPECT_EQ(several.model().moe().balance(2).switch_aux().counts(),
            configs::SwitchAux::PREVIOUS_STEP);
  EXPECT_FALSE(several.model().moe().balance(1).switch_aux().has_counts()) << "not of this scope";
  const RunConfig one = reduce_config(verify_config(), 4, true, "/scratch").run;
  EXPECT_EQ(one.train().global_batch(), one.train().micro_batch() * 4);
  EXPECT_EQ(one.model().moe().balance(0).switch_aux().counts(), configs::SwitchAux::EXACT);
}

TEST(ReducedConfig, DataThatDoesNotFitTheVocabularyIsSynthetic) {
  const ReducedRun large = reduce_config(large_config(), 1, true, "/scratch");
  EXPECT_FALSE(large.own_data) << "a vocabulary of 129280 is too large";
  EXPECT_EQ(large.run.data().train(1).path(), "/scratch/synthetic-1");
  EXPECT_TRUE(reduce_config(verify_config(), 1, true, "/scratch").own_data);
  EXPECT_FALSE(reduce_config(verify_config(), 1, false, "/scratch").own_data);
}

TEST(ReducedConfig, SaysWhatItChanged) {
  const ReducedRun reduced = reduce_config(large_config(), 1, true, "/scratch");
  const Reduction* width = change_of(reduced, "model.d_model");
  ASSERT_NE(width, nullptr);
  EXPECT_EQ(width->from, "7168");
  EXPECT_EQ(width->to, std::to_string(reduced.run.model().d_model()));
  ASSERT_NE(change_of(reduced, "train.init_from"), nullptr);
  EXPECT_EQ(change_of(reduced, "train.init_from")->to, "absent");
  EXPECT_EQ(change_of(reduced, "model.moe.router.score"), nullptr);
}

}  // namespace
}  // namespace witan::test
