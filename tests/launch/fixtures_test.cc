// `witan logits` against what transformers computed: tests/fixtures/, made by
// tests/interop/make_fixtures.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "launch/checkpoint/output_file.h"
#include "launch/checkpoint/safetensors.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/launch/float_file.h"
#include "tests/launch/program_case.h"

namespace witan {
namespace {

// In norms. float32 sums in another order.
constexpr double kTolerance = 2e-4;
// Of the norm of all gradients: what is smaller is rounding.
constexpr double kGradientFloor = 1e-4;

class FixturesTest : public ::testing::TestWithParam<std::tuple<std::string, int>> {};

// `witan logits` of a folder against what the fixture holds.
void expect_agreement(const std::string& fixture, const std::string& folder, int ranks) {
  const ScratchFolder scratch;
  test::output_of(
      ranks, {"logits", folder, "--tokens", fixture + "/tokens.safetensors", "--out",
              scratch / "logits.safetensors", "--gradients", scratch / "gradients.safetensors"});

  const SafetensorsReader expected(fixture + "/logits.safetensors");
  const SafetensorsReader found(scratch / "logits.safetensors");
  EXPECT_EQ(found.find("logits")->shape, expected.find("logits")->shape);
  const std::vector<float> logits = test::floats_of(expected, "logits");
  EXPECT_LT(test::distance(test::floats_of(found, "logits"), logits),
            kTolerance * test::norm_of(logits));
  const float loss = test::floats_of(expected, "loss").at(0);
  EXPECT_NEAR(test::floats_of(found, "loss").at(0), loss, kTolerance * loss);

  const SafetensorsReader gradients(fixture + "/gradients.safetensors");
  const SafetensorsReader own(scratch / "gradients.safetensors");
  EXPECT_EQ(own.tensors().size(), gradients.tensors().size());
  std::vector<float> all;
  for (const auto& [tensor, info] : gradients.tensors()) {
    const std::vector<float> values = test::floats_of(gradients, tensor);
    all.insert(all.end(), values.begin(), values.end());
  }
  const double floor = kGradientFloor * test::norm_of(all);
  EXPECT_GT(floor, 0.0);
  for (const auto& [tensor, info] : gradients.tensors()) {
    ASSERT_NE(own.find(tensor), nullptr) << tensor;
    EXPECT_EQ(own.find(tensor)->shape, info.shape) << tensor;
    const std::vector<float> values = test::floats_of(gradients, tensor);
    EXPECT_LE(test::distance(test::floats_of(own, tensor), values),
              kTolerance * std::max(test::norm_of(values), floor))
        << tensor;
  }
}

TEST_P(FixturesTest, LogitsLossAndEveryGradientAgreeWithTransformers) {
  const auto& [name, ranks] = GetParam();
  const std::string fixture = std::string(WITAN_FIXTURES) + "/" + name;
  expect_agreement(fixture, fixture, ranks);
}

// Two modules of multi-token prediction made of the layers of transformers: the gradients are those
// of the loss that is trained.
TEST(FixturesMtpTest, LogitsLossAndEveryGradientAgreeWithLayersOfTransformers) {
  const std::string fixture = std::string(WITAN_FIXTURES) + "/deepseek_v3_mtp";
  const ScratchFolder scratch;
  test::output_of(1, {"convert", fixture, scratch / "checkpoint", "--mtp", "keep"});
  for (const int ranks : {1, 2}) {
    SCOPED_TRACE(ranks);
    expect_agreement(fixture, scratch / "checkpoint", ranks);
  }
}

// Decoding with a cache, of plain or latent keys, chooses what their logits say.
TEST_P(FixturesTest, TheFirstGreedyTokenIsTheMostLikelyOfTransformers) {
  const auto& [name, ranks] = GetParam();
  const std::string fixture = std::string(WITAN_FIXTURES) + "/" + name;
  const ScratchFolder scratch;
  const SafetensorsReader file(fixture + "/tokens.safetensors");
  const StTensor& tokens = *file.find("input_ids");
  const auto length = static_cast<std::size_t>(tokens.shape[1]);
  std::string prompt;
  for (std::size_t i = 0; i < length; ++i) {
    std::int64_t id = 0;
    std::memcpy(&id, file.data(tokens) + i * sizeof id, sizeof id);
    prompt += (i > 0 ? "," : "") + std::to_string(id);
  }
  test::output_of(ranks, {"generate", fixture, "--prompt-ids", prompt, "--greedy", "--max-tokens",
                          "1", "--json", scratch / "generated.json"});
  const std::vector<float> logits =
      test::floats_of(SafetensorsReader(fixture + "/logits.safetensors"), "logits");
  const std::size_t vocab = logits.size() / static_cast<std::size_t>(tokens.shape[0]) / length;
  const auto last = logits.begin() + static_cast<std::ptrdiff_t>((length - 1) * vocab);
  const auto best = std::max_element(last, last + static_cast<std::ptrdiff_t>(vocab)) - last;
  const auto json = nlohmann::json::parse(read_text_file(scratch / "generated.json"));
  EXPECT_EQ(json["samples"][0]["ids"][0], best);
}

std::string name_of_case(const ::testing::TestParamInfo<FixturesTest::ParamType>& fixture) {
  const auto& [name, ranks] = fixture.param;
  return name + "At" + std::to_string(ranks);
}

INSTANTIATE_TEST_SUITE_P(
    All, FixturesTest,
    ::testing::Combine(::testing::Values("mixtral", "llama", "mistral", "mistral_window",
                                         "qwen2_moe", "olmoe", "deepseek_v2", "deepseek_v3"),
                       ::testing::Values(1, 2)),
    name_of_case);

}  // namespace
}  // namespace witan
