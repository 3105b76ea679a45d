// Parameters and FLOPs of published models, and against the counts of training.
#include "launch/plan/counts.h"

#include <map>
#include <utility>

#include "configs/load.h"
#include "launch/engine.h"
#include "tests/plan/plan_case.h"

namespace witan::test {
namespace {

struct Published {
  const char* model;
  std::int64_t total, active;
};

class Counts : public testing::TestWithParam<Published> {};

TEST_P(Counts, ToTheLastDigit) {
  const PlanSubject subject(planned_run(GetParam().model));
  const ParameterCounts counts = count_parameters(subject);
  EXPECT_EQ(counts.total, GetParam().total);
  EXPECT_EQ(counts.active, GetParam().active);
}

INSTANTIATE_TEST_SUITE_P(Models, Counts,
                         testing::Values(Published{kMixtral8x7B, 46'702'792'704, 12'879'925'248},
                                         Published{kMixtral8x22B, 140'620'634'112, 39'152'031'744},
                                         Published{kQwenMoe, 14'315'784'192, 2'689'173'504}));

// The presets that are shipped. DeepSeek-V3 has 14,848 expert biases besides.
TEST(Counts, Presets) {
  const std::map<std::string, std::pair<std::int64_t, std::int64_t>> published = {
      {"mixtral_8x7b", {46'702'792'704, 12'879'925'248}},
      {"mixtral_8x22b", {140'620'634'112, 39'152'031'744}},
      {"qwen1_5_moe_a2_7b", {14'315'784'192, 2'689'173'504}},
      {"deepseek_v3", {671'026'404'352, 0}}};
  for (const auto& [name, expected] : published) {
    const configs::LoadedConfig config = configs::load_file(
        std::string(WITAN_SOURCE_DIR "/configs/presets/") + name + ".textproto", {});
    ASSERT_TRUE(config.errors.empty()) << name;
    const ParameterCounts counts = count_parameters(PlanSubject(config.run));
    EXPECT_EQ(counts.total, expected.first) << name;
    if (name == "deepseek_v3") {
      EXPECT_EQ(counts.state, 14'848);
      EXPECT_NEAR(static_cast<double>(counts.active), 37.55e9, 0.005e9);
      EXPECT_NEAR(static_cast<double>(counts.active - 129'280LL * 7168), 36.6e9, 0.05e9);
    } else {
      EXPECT_EQ(counts.active, expected.second) << name;
    }
  }
}

TEST(Flops, ByHandForMixtral8x7B) {
  const PlanSubject subject(planned_run(kMixtral8x7B, "data { seq_len: 4096 }"));
  const Flops flops = count_flops(subject);
  const double attention = 32.0 * 4096 * (4096 + 2 * 1024 + 4096);
  const double experts = 32.0 * 2 * 3 * 4096 * 14336;
  const double router = 32.0 * 8 * 4096;
  const double head = 32000.0 * 4096;
  EXPECT_EQ(flops.attention, 32.0 * 2 * 4096 * 32 * 128);
  EXPECT_EQ(flops.training(), 6.0 * (attention + experts + router + head) + 3.0 * flops.attention);
  EXPECT_EQ(dense_forward_flops(subject) - flops.forward(), 2.0 * 3.0 * experts);
}

// Token i sees min(i, W) keys: on average W - W^2 / (2 S) where S / 2 are seen without a window.
TEST(Flops, OfAWindow) {
  const std::string model = "vocab_size: 99 d_model: 12 layers: 2 ffn { d_ff: 20 } ";
  const auto attention = [&](const std::string& text) {
    return count_flops(PlanSubject(planned_run(model + text, "data { seq_len: 64 }"))).attention;
  };
  const double all = attention("attention { heads: 3 }");
  EXPECT_DOUBLE_EQ(attention("attention { heads: 3 sliding_window: 64 }"), all);
  EXPECT_DOUBLE_EQ(attention("attention { heads: 3 sliding_window: 16 }"), all * 14.0 / 32.0);
}

// What metrics.jsonl and witan bench count.
TEST(Flops, SameAsInTraining) {
  for (const char* model :
       {kMixtral8x7B, kQwenMoe,
        "vocab_size: 99 d_model: 12 layers: 3 attention { heads: 3 } tied_head: true"
        " ffn { d_ff: 20 } mtp { depth: 2 }"
        " moe { experts: 4 d_ff: 8 pattern { first: 1 } router { top_k { k: 3 } } }",
        "vocab_size: 99 d_model: 12 layers: 3 attention { heads: 3 }"
        "tied_head: true ffn { d_ff: 20 } norm { kind: LAYERNORM }"
        "moe { experts: 4 d_ff: 8 pattern { first: 1 }"
        "  router { bias: true top_k { k: 3 } } }"}) {
    const configs::RunConfig run = planned_run(model, "data { seq_len: 77 }");
    EXPECT_DOUBLE_EQ(count_flops(PlanSubject(run)).training(),
                     training_flops_per_token(run.model(), 77));
  }
}

TEST(Counts, OfARank) {
  const PlanSubject subject(planned_run(kMixtral8x7B));
  PlanLayout layout;
  EXPECT_EQ(parameters_per_rank(subject, layout), 46'702'792'704);
  layout.ranks = layout.expert_parallel = 8;
  const std::int64_t experts = 32LL * 8 * 3 * 4096 * 14336;
  EXPECT_EQ(parameters_per_rank(subject, layout), 46'702'792'704 - experts + experts / 8);
}

}  // namespace
}  // namespace witan::test
