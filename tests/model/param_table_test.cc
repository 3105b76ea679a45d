// Parameter counts of published models, and what the table says of each tensor.
#include "core/model/param_table.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "configs/load.h"
#include "core/model/param_store.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

// Mistral's published dimensions.
TEST(ParamTable, Mixtral8x7B) {
  const ParamTable table(
      model_config("vocab_size: 32000 d_model: 4096 layers: 32 attention { heads: 32 kv_heads: 8 }"
                   "moe { experts: 8 d_ff: 14336 router { top_k { k: 2 } } }"));
  EXPECT_EQ(table.total_parameters(), 46'702'792'704);
  EXPECT_EQ(table.active_parameters(), 12'879'925'248);
}

TEST(ParamTable, Mixtral8x22B) {
  const ParamTable table(
      model_config("vocab_size: 32000 d_model: 6144 layers: 56 attention { heads: 48 kv_heads: 8 }"
                   "moe { experts: 8 d_ff: 16384 router { top_k { k: 2 } } }"));
  EXPECT_EQ(table.total_parameters(), 140'620'634'112);
  EXPECT_EQ(table.active_parameters(), 39'152'031'744);
}

// Fine-grained experts hold and use as many parameters; the router has a row for each of them.
TEST(ParamTable, GranularityKeepsTheExpertsParameters) {
  const auto table_of = [](const std::vector<std::string>& overrides) {
    return ParamTable(
        configs::load("name: 'm' model { vocab_size: 9 d_model: 6 layers: 2 attention { heads: 1 }"
                      "moe { experts: 8 d_ff: 12 shared_d_ff: 5 router { top_k { k: 2 } } } }",
                      "m.textproto", overrides)
            .run.model());
  };
  const ParamTable coarse = table_of({});
  const ParamTable fine = table_of({"model.moe.granularity=4"});
  const std::int64_t router_rows = 2 * (32 - 8) * 6;  // layers, rows, d_model
  EXPECT_EQ(fine.total_parameters(), coarse.total_parameters() + router_rows);
  EXPECT_EQ(fine.active_parameters(), coarse.active_parameters() + router_rows);
}

configs::ModelConfig everything() {
  return model_config(
      "vocab_size: 9 d_model: 6 layers: 2 ffn { d_ff: 4 } norm { kind: LAYERNORM }"
      "attention { heads: 2 head_dim: 4 kv_heads: 1 qkv_bias: true out_bias: true qk_norm: true }"
      "moe { experts: 4 d_ff: 3 shared_d_ff: 5 pattern { list: 1 }"
      "  router { top_k { k: 2 } bias: true } balance { expert_bias {} } }");
}

TEST(ParamTable, RolesDecayAndNames) {
  const ParamTable table(everything());
  std::set<std::string> names, hf_names;
  for (const ParamInfo& info : table.params()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name << " is there twice";
    EXPECT_EQ(table[table.find(info.name)].name, info.name);
    EXPECT_EQ(info.decay, info.shape.rank() > 1) << info.name << ": matrices decay, vectors do not";
    EXPECT_EQ(info.role == ParamRole::kExpert, info.name.find(".experts.") != std::string::npos)
        << info.name;
    EXPECT_EQ(info.trained(), info.name.find("expert_bias") == std::string::npos) << info.name;
    std::int64_t rows = 0;
    for (const HfPart& part : info.hf) {
      EXPECT_TRUE(hf_names.insert(part.name).second) << part.name << " is there twice";
      EXPECT_EQ(part.row_begin, rows) << part.name;
      rows += part.rows;
      EXPECT_EQ(part.name.find("{expert}") != std::string::npos, info.role == ParamRole::kExpert);
    }
    if (info.trained()) {
      EXPECT_EQ(rows, info.shape[info.role == ParamRole::kExpert ? 1 : 0]);
    }
  }
  EXPECT_EQ(table.find("layers.0.moe.router.weight"), -1);
  EXPECT_GE(table.find("layers.0.ffn.down"), 0);
  EXPECT_GE(table.find("layers.1.moe.shared.down"), 0);
  EXPECT_EQ(table[table.find("layers.1.moe.router.bias")].role, ParamRole::kRouter);
  EXPECT_EQ(ParamTable(model_config("vocab_size: 9 d_model: 6 layers: 1 tied_head: true"
                                    " attention { heads: 1 } ffn { d_ff: 2 }"))
                .find("head"),
            -1);
}

TEST(ParamStore, AnyShardHoldsTheSameValues) {
  const ParamTable table(everything());
  ParamStore::Layout all;
  all.local_experts = 4;
  ParamStore whole(table, all, DType::kFloat32, {}, false);
  whole.initialize(7);
  for (std::int64_t first = 0; first < 4; first += 2) {
    ParamStore::Layout half;
    half.first_expert = first;
    half.local_experts = 2;
    half.dense_ranks = 3;
    ParamStore part(table, half, DType::kFloat64, {}, false);
    part.initialize(7);
    for (int id = 0; id < table.size(); ++id) {
      const TensorView found = part.value(id);
      TensorView expected = whole.value(id);
      if (table[id].role == ParamRole::kExpert) expected = expected.slice_rows(first, 2);
      ASSERT_EQ(found.shape, expected.shape) << table[id].name;
      for (std::int64_t i = 0; i < found.size(); ++i) {
        ASSERT_EQ(found.as<double>()[i], static_cast<double>(expected.as<float>()[i]))
            << table[id].name;
      }
    }
  }
}

}  // namespace
}  // namespace witan::test
