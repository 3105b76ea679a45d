// `witan convert` and `witan inspect`.
#include "launch/checkpoint/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "launch/checkpoint/float_convert.h"
#include "launch/commands/convert_command.h"
#include "launch/commands/inspect_command.h"
#include "tests/checkpoint/checkpoint_case.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/thrown.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class ConvertTest : public testing::Test {
 protected:
  std::string save(const configs::RunConfig& run) {
    RankState state(run, mesh_);
    state.fill(1);
    std::string folder = checkpoint_folder(scratch_.path(), 1);
    save_checkpoint(folder, run, state.params(), &state.optimizer(), some_state(1), mesh_, 2);
    return folder;
  }
  void expect_same_weights(const configs::RunConfig& run, const std::string& folder) {
    RankState state(run, mesh_);
    load_weights(folder, state.params(), mesh_);
    state.expect_weights(1);
  }
  // Runs a command line; what it writes to --json, which is added.
  json run(std::vector<std::string> arguments) {
    CLI::App app;
    std::function<int()> command;
    register_convert(app, command);
    register_inspect(app, command);
    const std::string file = scratch_ / "out.json";
    arguments.insert(arguments.end(), {"--json", file});
    std::reverse(arguments.begin(), arguments.end());
    app.parse(arguments);
    EXPECT_EQ(command(), 0);
    return json::parse(read_text_file(file));
  }

  Mesh mesh_ = Mesh::self();
  ScratchFolder scratch_;
};

TEST_F(ConvertTest, ToHuggingFaceAndBack) {
  for (const configs::RunConfig& run : {mixtral_run(), llama_run()}) {
    const std::string checkpoint = save(run);
    const std::string hf = scratch_ / (run.name() + "-hf"),
                      back = scratch_ / (run.name() + "-back");
    const ConvertReport there = convert_folder(checkpoint, hf, {});
    EXPECT_FALSE(there.to_checkpoint);
    EXPECT_EQ(there.files, 1);
    EXPECT_EQ(there.parameters, ParamTable(run.model()).total_parameters());
    EXPECT_TRUE(fs::exists(hf + "/config.json"));
    EXPECT_TRUE(fs::exists(hf + "/model.safetensors"));
    EXPECT_FALSE(fs::exists(hf + "/witan.json"));
    expect_same_weights(run, hf);
    EXPECT_TRUE(convert_folder(hf, back + "/", {}).to_checkpoint);
    expect_same_weights(run, back);
    EXPECT_EQ(read_manifest(back).state.step, 0);
    EXPECT_EQ(hf_config_json(read_model_config(back)), hf_config_json(run.model()));
  }
}

TEST_F(ConvertTest, Shards) {
  const std::string checkpoint = save(mixtral_run());
  const std::string hf = scratch_ / "hf";
  ConvertOptions options;
  options.max_shard_bytes = 3000;
  const ConvertReport report = convert_folder(checkpoint, hf, options);
  EXPECT_GT(report.files, 3);
  std::int64_t shards = 0;
  for (const auto& entry : fs::directory_iterator(hf)) {
    if (entry.path().extension() != ".safetensors") continue;
    ++shards;
    const SafetensorsReader reader(entry.path().string());
    std::size_t bytes = 0;
    for (const auto& [name, tensor] : reader.tensors()) bytes += tensor.bytes;
    EXPECT_TRUE(bytes <= 3000 || reader.tensors().size() == 1) << entry.path();
  }
  EXPECT_EQ(shards, report.files);
  const json index = json::parse(read_text_file(hf + "/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], report.bytes);
  EXPECT_EQ(index["weight_map"].size(), static_cast<std::size_t>(report.tensors));
  expect_same_weights(mixtral_run(), hf);
  fs::remove(hf + "/model-00002-of-" + std::string(5 - std::to_string(shards).size(), '0') +
             std::to_string(shards) + ".safetensors");
  EXPECT_USER_ERROR(expect_same_weights(mixtral_run(), hf), "model-00002-of");
}

TEST_F(ConvertTest, Bfloat16RoundsAndLoads) {
  const configs::RunConfig run = llama_run();
  const std::string checkpoint = save(run), hf = scratch_ / "hf";
  ConvertOptions options;
  options.dtype = StDType::kBF16;
  convert_folder(checkpoint, hf, options);
  EXPECT_EQ(json::parse(read_text_file(hf + "/config.json"))["torch_dtype"], "bfloat16");
  RankState exact(run, mesh_), rounded(run, mesh_);
  exact.fill(1);
  load_weights(hf, rounded.params(), mesh_);
  const TensorView a = exact.params().flat_values(ParamGroup::kDense);
  const TensorView b = rounded.params().flat_values(ParamGroup::kDense);
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const float right = a.as<float>()[i];
    std::uint16_t bits = 0;
    convert_floats(StDType::kF32, &right, StDType::kBF16, &bits, 1);
    float expected = 0.0F;
    convert_floats(StDType::kBF16, &bits, StDType::kF32, &expected, 1);
    ASSERT_EQ(b.as<float>()[i], expected);
  }
}

TEST_F(ConvertTest, TiedHeadThatIsStoredAllTheSame) {
  const std::string checkpoint = save(llama_run()), hf = scratch_ / "hf";
  convert_folder(checkpoint, hf, {});
  const auto rewrite = [&](float change) {
    std::vector<StTensor> tensors;
    std::string data;
    const std::string path = hf + "/model.safetensors";
    {
      const SafetensorsReader reader(path);
      for (const auto& [name, tensor] : reader.tensors()) {
        if (name == "lm_head.weight") continue;
        tensors.push_back(tensor);
        data.append(reinterpret_cast<const char*>(reader.data(tensor)), tensor.bytes);
      }
      StTensor head = *reader.find("model.embed_tokens.weight");
      std::string bytes(reinterpret_cast<const char*>(reader.data(head)), head.bytes);
      float first = 0.0F;
      std::memcpy(&first, bytes.data(), 4);
      first += change;
      std::memcpy(bytes.data(), &first, 4);
      head.name = "lm_head.weight";
      tensors.push_back(head);
      data += bytes;
    }
    SafetensorsWriter writer(path, tensors);
    writer.write(data.data(), data.size());
    writer.finish();
  };
  rewrite(0.0F);
  expect_same_weights(llama_run(), hf);
  rewrite(1.0F);
  EXPECT_USER_ERROR(expect_same_weights(llama_run(), hf),
                    "tensor lm_head.weight: unknown to this model");
}

TEST_F(ConvertTest, Refusals) {
  const std::string mixed = save(mixed_run());
  const std::string message = user_error_of([&] { convert_folder(mixed, scratch_ / "hf", {}); });
  EXPECT_TRUE(contains(message, "model.norm.kind is not RMSNORM")) << message;
  EXPECT_TRUE(contains(message, "expert_bias")) << message;
  EXPECT_FALSE(fs::exists(scratch_ / "hf"));
  const std::string mixtral = save(mixtral_run());
  EXPECT_USER_ERROR(convert_folder(mixtral, scratch_.path(), {}), "exists already");
  const std::string shard = mixtral + "/model-00001-of-00001.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  EXPECT_USER_ERROR(convert_folder(mixtral, scratch_ / "hf", {}), "corrupt");
  EXPECT_FALSE(fs::exists(scratch_ / "hf.tmp"));
}

TEST_F(ConvertTest, Commands) {
  const std::string checkpoint = save(mixtral_run()), hf = scratch_ / "hf";
  const json converted =
      run({"convert", checkpoint, hf, "--dtype", "bf16", "--max-shard-size", "10KB"});
  EXPECT_EQ(converted["direction"], "to_hugging_face");
  EXPECT_GT(converted["files"], 1);
  const ParamTable table(mixtral_run().model());
  EXPECT_EQ(converted["parameters"], table.total_parameters());

  const json folder = run({"inspect", hf});
  EXPECT_EQ(folder["kind"], "hugging_face");
  EXPECT_EQ(folder["parameters_total"], table.total_parameters());
  EXPECT_EQ(folder["parameters_active"], table.active_parameters());
  EXPECT_EQ(folder["files"].size(), converted["files"]);
  EXPECT_EQ(folder["tensors"][0]["dtype"], "BF16");

  const json inspected = run({"inspect", checkpoint, "--verify"});
  EXPECT_EQ(inspected["kind"], "checkpoint");
  EXPECT_EQ(inspected["step"], 1);
  EXPECT_EQ(inspected["verified"], true);
  EXPECT_EQ(inspected["tensors"].size(), static_cast<std::size_t>(table.size()));
  EXPECT_EQ(inspected["tensors"][0]["name"], "embedding");

  const json file = run({"inspect", checkpoint + "/model-00001-of-00001.safetensors"});
  EXPECT_EQ(file["kind"], "safetensors");
  EXPECT_EQ(file["metadata"]["format"], "pt");
  EXPECT_EQ(file["tensors"].size(), converted["tensors"]);

  EXPECT_USER_ERROR(run({"inspect", scratch_ / "nothing"}), "expected a checkpoint");
  EXPECT_USER_ERROR(run({"inspect", hf, "--verify"}), "only checkpoints hold checksums");
}

}  // namespace
}  // namespace witan
