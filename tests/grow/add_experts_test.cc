// New experts leave what the model computes for the old tags as it is, bit for bit; what is
// refused.
#include "launch/grow/add_experts.h"

#include <set>

#include "core/model/expert_mask.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/thrown.h"
#include "tests/grow/grow_case.h"

namespace witan::test {
namespace {

configs::RunConfig moe_run(const std::string& router, const std::string& more = {}) {
  return run_config(
      "name: 'moe' model { vocab_size: 61 d_model: 16 layers: 2 init_std: 0.3"
      "  attention { heads: 2 } ffn { d_ff: 8 }"
      "  moe { experts: 6 d_ff: 12 pattern { first: 1 } " +
      more + " router { " + router +
      " } } }"
      "data { train { name: 'old' path: 'old' } tokenizer: 'none' }");
}

AddExpertsOptions options_of(std::int64_t add, std::int64_t copy_of, const std::string& tag) {
  AddExpertsOptions options;
  options.add = add;
  options.copy_of = copy_of;
  options.tag = tag;
  options.noise = 0.3;
  return options;
}

struct AddExperts : testing::Test {
  ScratchFolder scratch;
};

TEST_F(AddExperts, KeepsEveryBitForTheOldTags) {
  const std::vector<configs::RunConfig> runs = {
      moe_run("top_k { k: 2 }"),
      moe_run("score: SIGMOID bias: true top_k { k: 2 }",
              "balance { expert_bias {} } expert_bias_terms: true shared_d_ff: 5"),
      moe_run("score: SQRT_SOFTPLUS weights: AS_IS top_p { p: 0.6 k_max: 4 }", "expert_kind: GELU"),
      moe_run("group_limited { k: 2 n_group: 2 topk_group: 1 }"),
      moe_run("noisy_top_k { k: 2 }"),
      moe_run("weights: UNIFORM all {}"),
      moe_run("top_k { k: 3 }",
              "balance { expert_bias {} } zero_computation { zero: 1 copy: 1 constant: 1 }"),
  };
  for (std::size_t i = 0; i < runs.size(); ++i) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      const std::string name = std::to_string(i) + name_of(dtype);
      save_model(runs[i], dtype, scratch / name);
      add_experts(scratch / name, scratch / (name + "-grown"), options_of(3, 4, "new"));
      const std::vector<double> old = logits_of(scratch / name, dtype);
      EXPECT_EQ(logits_of(scratch / (name + "-grown"), dtype, 0, 2), old) << name;
      EXPECT_NE(logits_of(scratch / (name + "-grown"), dtype, 1, 2), old)
          << name << ": no token of the new tag goes to a new expert";
    }
  }
}

TEST_F(AddExperts, CopiesTheRowsOfOneExpert) {
  save_model(moe_run("score: SIGMOID top_k { k: 2 }", "balance { expert_bias {} }"),
             DType::kFloat32, scratch / "old");
  AddExpertsOptions options = options_of(2, 4, "new");
  options.noise = 0.0;
  add_experts(scratch / "old", scratch / "grown", options);
  ModelInMemory model(read_model_config(scratch / "grown"), DType::kFloat32, 2);
  load_weights(scratch / "grown", model.engine.params(), model.mesh);
  const ParamTable& table = model.engine.table();
  int checked = 0;
  for (int id = 0; id < table.size(); ++id) {
    if (table[id].role == ParamRole::kDense) continue;
    const TensorView value = model.engine.params().value(id);
    ASSERT_EQ(value.shape[0], 8) << table[id].name;
    const std::int64_t row = value.size() / 8;
    const auto* data = value.as<float>();
    for (std::int64_t i = 0; i < row; ++i) {
      ASSERT_EQ(data[6 * row + i], data[4 * row + i]) << table[id].name;
      ASSERT_EQ(data[7 * row + i], data[4 * row + i]) << table[id].name;
    }
    ++checked;
  }
  EXPECT_EQ(checked, 4);  // router, expert bias, gate and up, down
}

TEST_F(AddExperts, AgainForAThirdDomain) {
  save_model(moe_run("top_k { k: 2 }"), DType::kFloat32, scratch / "old");
  add_experts(scratch / "old", scratch / "grown", options_of(3, 0, "new"));
  AddExpertsOptions options = options_of(2, 7, "third");
  options.allow = "0-1,9-10";
  const GrowReport report = add_experts(scratch / "grown", scratch / "twice", options);
  EXPECT_EQ(report.experts, 11);
  const configs::AllowedExperts allowed =
      read_model_config(scratch / "twice").moe().allowed_experts();
  ASSERT_EQ(allowed.tag_size(), 3);
  EXPECT_EQ(allowed.tag(0).name(), "old");
  EXPECT_EQ(allowed.tag(0).experts(), "0-5");
  EXPECT_EQ(allowed.tag(1).experts(), "0-8");
  EXPECT_EQ(allowed.tag(2).experts(), "0-1,9-10");
  for (const int tag : {0, 1}) {
    EXPECT_EQ(logits_of(scratch / "twice", DType::kFloat32, tag, 3),
              logits_of(scratch / "grown", DType::kFloat32, tag, 2));
  }
}

TEST_F(AddExperts, Refusals) {
  const std::string to = scratch / "to";
  const auto save = [&](const std::string& name, const configs::RunConfig& run) {
    save_model(run, DType::kFloat32, scratch / name);
    return scratch / name;
  };
  const AddExpertsOptions good = options_of(3, 0, "new");
  const std::string old = save("old", moe_run("top_k { k: 2 }"));
  EXPECT_USER_ERROR(add_experts(old, old, good), "exists already");
  EXPECT_USER_ERROR(add_experts(old, to, options_of(3, 6, "new")),
                    "copy-of: found 6; the model has the experts 0 to 5");
  EXPECT_USER_ERROR(add_experts(old, to, options_of(3, 0, "old")),
                    "tag: found \"old\", which the model knows already");
  EXPECT_USER_ERROR(add_experts(old, to, options_of(70000, 0, "new")), "model.moe.experts");
  AddExpertsOptions options = good;
  options.allow = "8";  // the selection takes two
  EXPECT_USER_ERROR(add_experts(old, to, options), "may use 1 experts; the selection needs 2");
  options.allow = "0-9";
  EXPECT_USER_ERROR(add_experts(old, to, options), "the last expert is 8");
  EXPECT_USER_ERROR(add_experts(save("hash", moe_run("hash { k: 1 }")), to, good),
                    "the selection hash deals the token ids out");
  EXPECT_USER_ERROR(add_experts(save("choice", moe_run("weights: AS_IS expert_choice { k: 1 } "
                                                       "allow_non_causal: true")),
                                to, good),
                    "with expert_choice");
  EXPECT_USER_ERROR(
      add_experts(save("two gates", moe_run("hierarchical { k: 1 n_group: 3 topk_group: 2 }")), to,
                  good),
      "with hierarchical");
  EXPECT_USER_ERROR(
      add_experts(save("groups", moe_run("group_limited { k: 2 n_group: 3 topk_group: 1 }")), to,
                  good),
      "add: found 3; the experts are chosen by groups of 2");
  configs::RunConfig dense = moe_run("top_k { k: 2 }");
  dense.mutable_model()->clear_moe();
  EXPECT_USER_ERROR(add_experts(save("dense", dense), to, good), "is dense");
  configs::RunConfig without_data = moe_run("top_k { k: 2 }");
  without_data.mutable_data()->clear_train();
  const std::string untagged = save("untagged", without_data);
  EXPECT_USER_ERROR(add_experts(untagged, to, good), "name them with --old-tag");
  options = good;
  options.old_tags = {"first", "second"};
  add_experts(untagged, scratch / "tagged", options);
  EXPECT_EQ(tag_names(read_model_config(scratch / "tagged")),
            (std::vector<std::string>{"first", "second", "new"}));
  EXPECT_USER_ERROR(add_experts(scratch / "tagged", to, options), "has a table of tags already");
  EXPECT_FALSE(std::filesystem::exists(to));
}

}  // namespace
}  // namespace witan::test
