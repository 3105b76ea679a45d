// The presets of known models: each parses, has the published number of parameters, and its tiny
// twin has the same parts and trains.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "launch/checkpoint/output_file.h"
#include "launch/run_config.h"
#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

namespace fs = std::filesystem;

struct Known {
  const char* name;
  std::int64_t total;   // trained
  std::int64_t active;  // 0: no published figure to the last digit
};

// moe_math section 5 and the model cards; Switch-C and the guess: what their sizes make.
constexpr Known kKnown[] = {
    {"mixtral_8x7b", 46'702'792'704, 12'879'925'248},
    {"mixtral_8x22b", 140'620'634'112, 39'152'031'744},
    {"deepseek_v3", 671'026'404'352, 37'552'282'624},
    {"deepseek_v2_lite", 15'706'484'224, 0},
    {"deepseek_moe_16b", 16'375'728'128, 0},
    {"qwen1_5_moe_a2_7b", 14'315'784'192, 2'689'173'504},
    {"olmoe_1b_7b", 6'919'161'856, 0},
    {"switch_c", 1'571'000'000'000, 0},
    {"gpt4_guess", 1'833'372'914'688, 0},
    {"mistral_7b", 7'241'732'096, 7'241'732'096},
    {"llama_2_13b", 13'015'864'320, 13'015'864'320},
    {"qwen1_5_1_8b", 1'836'828'672, 1'836'828'672},
    {"deepseek_llm_7b", 6'910'365'696, 6'910'365'696},
};

configs::RunConfig preset(const std::string& name) {
  const std::string file = std::string(WITAN_PRESETS) + "/" + name + ".textproto";
  const configs::LoadedConfig loaded =
      configs::load(read_text_file(file), file, {}, run_config_checks(world().size()));
  for (const configs::ConfigError& error : loaded.errors) {
    ADD_FAILURE() << name << ": " << error.field << ": " << error.message;
  }
  EXPECT_EQ(loaded.run.name(), name);
  return loaded.run;
}

TEST(Presets, HaveThePublishedNumbersOfParameters) {
  for (const Known& known : kKnown) {
    SCOPED_TRACE(known.name);
    const ParamTable table(preset(known.name).model());
    // A published figure in round numbers holds to a thousandth.
    const double tolerance = known.total % 1'000'000'000 == 0 ? 1e-3 : 0.0;
    EXPECT_NEAR(static_cast<double>(table.total_parameters()), static_cast<double>(known.total),
                tolerance * static_cast<double>(known.total));
    if (known.active > 0) {
      EXPECT_EQ(table.active_parameters(), known.active);
    }
  }
}

TEST(Presets, DeepseekV3HasItsExpertBiases) {
  const ParamTable table(preset("deepseek_v3").model());
  std::int64_t state = 0;
  for (const ParamInfo& info : table.params()) state += info.trained() ? 0 : info.shape.size();
  EXPECT_EQ(state, 14'848);
  EXPECT_EQ(table.total_parameters() + state, 671'026'419'200);
}

// 11.6e9 in its module, which shares embedding and head; an option of the preset.
TEST(Presets, DeepseekV3WithMultiTokenPrediction) {
  for (const char* name : {"deepseek_v3", "deepseek_v3_tiny"}) {
    configs::ModelConfig model = preset(name).model();
    const std::int64_t without = ParamTable(model).total_parameters();
    model.mutable_mtp()->set_depth(1);
    const ParamTable table(model);
    if (std::string(name) == "deepseek_v3") {
      EXPECT_EQ(table.total_parameters(), 682'636'472'320);
    }
    EXPECT_GT(table.total_parameters(), without);
    EXPECT_GE(table.find("layers." + std::to_string(model.layers()) + ".moe.experts.down"), 0);
  }
}

// Names of tensors without the number of the layer.
std::set<std::string> kinds_of_tensors(const configs::ModelConfig& model) {
  std::set<std::string> kinds;
  const ParamTable table(model);
  for (const ParamInfo& info : table.params()) {
    const std::size_t layer = info.layer < 0 ? 0 : info.name.find('.', 7) + 1;
    kinds.insert(info.name.substr(layer));
  }
  return kinds;
}

class TinyPresets : public ::testing::TestWithParam<Known> {};

TEST_P(TinyPresets, HasTheSamePartsAndTrains) {
  const Corpus corpus;
  const std::string name = GetParam().name;
  configs::RunConfig run = preset(name + "_tiny");
  EXPECT_EQ(kinds_of_tensors(run.model()), kinds_of_tensors(preset(name).model()));
  EXPECT_EQ(run.model().moe().router().selection_case(),
            preset(name).model().moe().router().selection_case());

  run.mutable_data()->mutable_train(0)->set_path(corpus.folder / "a");
  run.mutable_data()->set_seq_len(16);
  run.mutable_train()->set_global_batch(kGlobalBatch);
  run.mutable_train()->set_steps(30);
  run.mutable_optimizer()->mutable_schedule()->set_warmup_steps(1);
  const Mesh alone = Mesh::self();
  const Mesh mesh = mesh_of(run.model().has_moe() ? world().size() : 1);
  Session session(run, mesh);
  const double first = session.trainer().step(false).loss;
  if (!run.model().moe().has_capacity()) {  // which drops by rank
    Session whole(run, alone);
    EXPECT_NEAR(first, whole.trainer().step(false).loss, 1e-5 * first);
  }
  double last = first;
  for (int step = 1; step < 12; ++step) last = session.trainer().step(false).loss;
  EXPECT_LT(last, 0.9 * first);
}

INSTANTIATE_TEST_SUITE_P(Known, TinyPresets, ::testing::ValuesIn(kKnown),
                         [](const auto& known) { return std::string(known.param.name); });

// No twin without its model, and no model that this test does not know.
TEST(Presets, ComeInPairs) {
  std::set<std::string> known;
  for (const Known& one : kKnown) known.insert({one.name, std::string(one.name) + "_tiny"});
  for (const char* run : {"quickstart", "shakespeare", "shakespeare_dense"}) known.insert(run);
  for (const auto& entry : fs::directory_iterator(WITAN_PRESETS)) {
    if (!entry.is_regular_file()) continue;
    EXPECT_EQ(known.erase(entry.path().stem().string()), 1U) << entry.path();
  }
  EXPECT_TRUE(known.empty()) << *known.begin();
}

}  // namespace
}  // namespace witan::test
