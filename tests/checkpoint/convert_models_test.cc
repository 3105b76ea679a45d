// `witan convert` on small models that transformers saved: there and back, fp8, multi-token
// prediction, and folders that are not whole.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "launch/checkpoint/convert.h"
#include "launch/checkpoint/tensor_reader.h"
#include "tests/checkpoint/checkpoint_case.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/thrown.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Stored {
  StTensor tensor;
  std::string bytes;
};
using Stock = std::map<std::string, Stored>;

Stock read_file(const std::string& path) {
  const SafetensorsReader reader(path);
  Stock stock;
  for (const auto& [name, tensor] : reader.tensors()) {
    const auto* data = reinterpret_cast<const char*>(reader.data(tensor));
    stock[name] = {tensor, {data, tensor.bytes}};
  }
  return stock;
}

void write_file(const std::string& path, const Stock& stock) {
  std::vector<StTensor> tensors;
  for (const auto& [name, stored] : stock) {
    tensors.push_back(stored.tensor);
    tensors.back().name = name;
  }
  SafetensorsWriter writer(path, tensors);
  for (const auto& [name, stored] : stock) writer.write(stored.bytes.data(), stored.bytes.size());
  writer.finish();
}

class ConvertModelsTest : public testing::Test {
 protected:
  // A copy of a fixture that may be changed.
  std::string copy_of(const std::string& name) {
    const std::string folder = scratch_ / name;
    fs::create_directories(folder);
    for (const char* file : {"config.json", "model.safetensors"}) {
      fs::copy_file(std::string(WITAN_FIXTURES) + "/" + name + "/" + file, folder + "/" + file,
                    fs::copy_options::overwrite_existing);
    }
    return folder;
  }
  template <class F>
  void change(const std::string& folder, F&& f) {
    Stock stock = read_file(folder + "/model.safetensors");
    f(stock);
    write_file(folder + "/model.safetensors", stock);
  }
  std::string refusal(const std::string& folder, const ConvertOptions& options = {}) {
    const std::string message =
        user_error_of([&] { convert_folder(folder, scratch_ / "refused", options); });
    EXPECT_FALSE(fs::exists(scratch_ / "refused"));
    EXPECT_FALSE(fs::exists(scratch_ / "refused.tmp"));
    return message;
  }

  ScratchFolder scratch_;
};

TEST_F(ConvertModelsTest, ThereAndBackBitByBit) {
  for (const char* name : {"mistral", "qwen2_moe", "olmoe", "deepseek_v2", "deepseek_v3"}) {
    SCOPED_TRACE(name);
    const std::string folder = copy_of(name);
    const std::string checkpoint = folder + "-checkpoint";
    const std::string back = folder + "-back";
    ConvertOptions options;
    EXPECT_EQ(convert_folder(folder, checkpoint, options).parameters,
              ParamTable(read_model_config(folder)).total_parameters());
    options.architecture = name;
    convert_folder(checkpoint, back, options);
    const Stock before = read_file(folder + "/model.safetensors");
    const Stock after = read_file(back + "/model.safetensors");
    ASSERT_EQ(before.size(), after.size());
    for (const auto& [tensor, stored] : before) {
      ASSERT_EQ(after.count(tensor), 1U) << tensor;
      EXPECT_EQ(after.at(tensor).bytes, stored.bytes) << tensor;
    }
    EXPECT_EQ(json::parse(read_text_file(back + "/config.json"))["model_type"], name);
  }
}

// The bias of the choice is state: it is loaded from the weights' file, saved there, and rounded by
// nothing.
TEST_F(ConvertModelsTest, ExpertBiasesStandAmongTheWeights) {
  const std::string folder = copy_of("deepseek_v3");
  configs::RunConfig run;
  run.set_name("deepseek");
  *run.mutable_model() = read_model_config(folder);
  const Mesh mesh = Mesh::self();
  RankState state(run, mesh);
  load_weights(folder, state.params(), mesh);
  const std::string theirs = "model.layers.1.mlp.gate.e_score_correction_bias";
  const TensorView bias = state.params().value("layers.1.moe.router.expert_bias");
  const Stock stock = read_file(folder + "/model.safetensors");
  ASSERT_EQ(bias.bytes(), stock.at(theirs).bytes.size());
  EXPECT_EQ(std::memcmp(bias.data, stock.at(theirs).bytes.data(), bias.bytes()), 0);

  const std::string saved = checkpoint_folder(scratch_.path(), 1);
  save_checkpoint(saved, run, state.params(), &state.optimizer(), some_state(1), mesh, 2);
  EXPECT_FALSE(fs::exists(saved + "/buffers.safetensors"));
  EXPECT_EQ(read_file(saved + "/model-00001-of-00001.safetensors").at(theirs).bytes,
            stock.at(theirs).bytes);
  ConvertOptions options;
  options.dtype = StDType::kBF16;
  convert_folder(saved, scratch_ / "bf16", options);
  EXPECT_EQ(read_file(scratch_ / "bf16/model.safetensors").at(theirs).bytes,
            stock.at(theirs).bytes);
  RankState again(run, mesh);
  load_checkpoint(saved, run, again.params(), again.optimizer(), mesh);
  const TensorView loaded = again.params().value("layers.1.moe.router.expert_bias");
  EXPECT_EQ(std::memcmp(loaded.data, bias.data, bias.bytes()), 0);
}

// What an e4m3 byte stands for, computed from its parts.
double e4m3(unsigned byte) {
  const double sign = byte >= 128 ? -1.0 : 1.0;
  const unsigned exponent = byte % 128 / 8;
  const double mantissa = byte % 8;
  return sign * (exponent == 0 ? mantissa / 8 * std::pow(2.0, -6)
                               : (1 + mantissa / 8) * std::pow(2.0, double(exponent) - 7));
}

Stored stored_floats(const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
  Stored stored = {{"", StDType::kF32, shape}, std::string(values.size() * sizeof(float), '\0')};
  std::memcpy(stored.bytes.data(), values.data(), stored.bytes.size());
  return stored;
}

TEST_F(ConvertModelsTest, Fp8WithBlockScales) {
  // Blocks that end inside a matrix: 300 x 140 with 3 x 2 scales.
  constexpr std::int64_t kRows = 300, kCols = 140;
  Stock stock;
  std::string bytes(kRows * kCols, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const unsigned byte = static_cast<unsigned>(i * 7 % 256);
    bytes[i] = static_cast<char>(byte % 128 == 127 ? 0 : byte);  // no NaN
  }
  stock["w"] = {{"w", StDType::kF8E4M3, {kRows, kCols}}, bytes};
  const std::vector<float> scales = {0.5F, 2.0F, 0.25F, 1e-3F, 3.0F, 7.0F};
  stock["w_scale_inv"] = stored_floats({3, 2}, scales);
  write_file(scratch_ / "model.safetensors", stock);
  WeightFiles files(scratch_.path(), "model");
  const TensorReader reader(files, "w");
  std::vector<double> values(kRows * kCols);
  reader.read(1000, kRows * kCols - 1000, StDType::kF64, values.data());
  for (std::size_t i = 1000; i < bytes.size(); ++i) {
    const std::size_t row = i / kCols, col = i % kCols;
    const double expected = static_cast<float>(e4m3(static_cast<unsigned char>(bytes[i]))) *
                            scales[row / 128 * 2 + col / 128];
    ASSERT_NEAR(values[i - 1000], expected, 1e-7 * std::abs(expected)) << i;
  }
}

TEST_F(ConvertModelsTest, Fp8FolderBecomesBfloat16) {
  const std::string folder = copy_of("deepseek_v3");
  const std::string name = "model.layers.1.self_attn.kv_b_proj.weight";
  change(folder, [&](Stock& stock) {
    Stored& weight = stock.at(name);
    weight.tensor.dtype = StDType::kF8E4M3;
    weight.bytes.assign(weight.bytes.size() / 4, '\x38');  // 1
    stock[name + "_scale_inv"] = stored_floats({1, 1}, {0.75F});
  });
  const std::string checkpoint = scratch_ / "checkpoint";
  convert_folder(folder, checkpoint, {});
  const Stored converted = read_file(checkpoint + "/model.safetensors").at(name);
  EXPECT_EQ(converted.tensor.dtype, StDType::kBF16);
  EXPECT_EQ(converted.bytes.substr(0, 4), std::string("\x40\x3f\x40\x3f"));  // 0.75
  // The folder itself opens too.
  configs::RunConfig run;
  run.set_name("fp8");
  *run.mutable_model() = read_model_config(folder);
  const Mesh mesh = Mesh::self();
  RankState state(run, mesh);
  load_weights(folder, state.params(), mesh);
  EXPECT_EQ(state.params().value("layers.1.attention.kv_up").as<float>()[5], 0.75F);

  change(folder, [&](Stock& stock) { stock[name + "_scale_inv"] = stored_floats({2}, {1, 1}); });
  EXPECT_TRUE(contains(refusal(folder), "F32 of shape [2], expected a float for each block"));
  change(folder, [&](Stock& stock) { stock.erase(name + "_scale_inv"); });
  EXPECT_TRUE(contains(refusal(folder), name + "_scale_inv: missing"));
}

TEST_F(ConvertModelsTest, MultiTokenPredictionIsLeftOutWhenAskedFor) {
  const std::string folder = copy_of("deepseek_v3");
  ConvertOptions skip;
  skip.mtp = MtpTensors::kSkip;
  EXPECT_TRUE(contains(refusal(folder, skip), "--mtp skip: "));
  change(folder, [](Stock& stock) {
    stock["model.layers.3.eh_proj.weight"] = stored_floats({1, 2}, {1, 2});
    stock["model.layers.3.self_attn.o_proj.weight"] = stored_floats({1, 2}, {1, 2});
  });
  const std::string message = refusal(folder);
  EXPECT_TRUE(contains(message, "model.layers.3.eh_proj.weight: unknown")) << message;
  EXPECT_TRUE(contains(message, "--mtp skip leaves them out")) << message;
  convert_folder(folder, scratch_ / "checkpoint", skip);
  const Stock stock = read_file(scratch_ / "checkpoint/model.safetensors");
  EXPECT_EQ(stock.count("model.layers.3.eh_proj.weight"), 0U);
  EXPECT_EQ(stock.count("model.layers.2.self_attn.o_proj.weight"), 1U);
}

TEST_F(ConvertModelsTest, MultiTokenPredictionComesInAndGoesOut) {
  const std::string folder = copy_of("deepseek_v3_mtp");
  const std::string checkpoint = scratch_ / "checkpoint";
  EXPECT_TRUE(contains(refusal(folder), "--mtp keep takes them over"));
  ConvertOptions keep, skip;
  keep.mtp = MtpTensors::kKeep;
  skip.mtp = MtpTensors::kSkip;
  convert_folder(folder, checkpoint, keep);
  const configs::ModelConfig model = read_model_config(checkpoint);
  EXPECT_EQ(model.mtp().depth(), 2);
  const Stock stored = read_file(checkpoint + "/model.safetensors");
  EXPECT_EQ(stored.count("model.layers.3.eh_proj.weight"), 1U);
  EXPECT_EQ(stored.count("model.layers.3.embed_tokens.weight"), 0U) << "it is shared";

  EXPECT_TRUE(contains(refusal(checkpoint), "--mtp keep writes them"));
  convert_folder(checkpoint, scratch_ / "back", keep);
  const Stock before = read_file(folder + "/model.safetensors");
  const Stock after = read_file(scratch_ / "back/model.safetensors");
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [tensor, value] : before) {
    ASSERT_EQ(after.count(tensor), 1U) << tensor;
    EXPECT_EQ(after.at(tensor).bytes, value.bytes) << tensor;
  }
  EXPECT_EQ(json::parse(read_text_file(scratch_ / "back/config.json"))["num_nextn_predict_layers"],
            2);
  convert_folder(checkpoint, scratch_ / "plain", skip);
  EXPECT_EQ(json::parse(read_text_file(scratch_ / "plain/config.json"))["num_nextn_predict_layers"],
            0);
  EXPECT_EQ(read_file(scratch_ / "plain/model.safetensors").count("model.layers.2.enorm.weight"),
            0U);
}

TEST_F(ConvertModelsTest, MultiTokenPredictionThatDoesNotFitIsNamed) {
  ConvertOptions keep;
  keep.mtp = MtpTensors::kKeep;
  EXPECT_TRUE(contains(refusal(copy_of("mistral"), keep), "--mtp keep: "));
  const std::string folder = copy_of("deepseek_v3_mtp");
  change(folder, [](Stock& stock) {
    stock.at("model.layers.3.embed_tokens.weight").bytes[2] ^= 1;
    stock.erase("model.layers.2.enorm.weight");
  });
  const std::string message = refusal(folder, keep);
  for (const char* part : {"model.layers.3.embed_tokens.weight: differs from model.embed_tokens",
                           "model.layers.2.enorm.weight: missing"}) {
    EXPECT_TRUE(contains(message, part)) << part << "\n" << message;
  }
  EXPECT_FALSE(contains(message, "model.layers.2.embed_tokens.weight")) << message;
  json config = json::parse(read_text_file(folder + "/config.json"));
  config["num_nextn_predict_layers"] = 17;
  write_text_file(folder + "/config.json", config.dump());
  EXPECT_TRUE(contains(refusal(folder, keep), "num_nextn_predict_layers: found 17; expected 1"));
}

TEST_F(ConvertModelsTest, WhatIsMissingUnknownOrOfAnotherTypeIsNamedAllAtOnce) {
  const std::string folder = copy_of("deepseek_v3");
  change(folder, [](Stock& stock) {
    stock.erase("model.layers.2.mlp.gate.e_score_correction_bias");
    stock.erase("model.layers.0.self_attn.q_a_layernorm.weight");
    stock["model.layers.1.mlp.extra"] = stored_floats({1}, {1});
    stock.at("model.layers.1.mlp.experts.3.up_proj.weight").tensor.dtype = StDType::kI32;
    stock.at("model.norm.weight").tensor.shape = {11, 2};
  });
  const std::string message = refusal(folder);
  for (const char* part : {"model.layers.2.mlp.gate.e_score_correction_bias: missing",
                           "model.layers.0.self_attn.q_a_layernorm.weight: missing",
                           "model.layers.1.mlp.extra: unknown to this model",
                           "model.layers.1.mlp.experts.3.up_proj.weight: dtype I32",
                           "model.norm.weight: shape [11, 2], expected [22]"}) {
    EXPECT_TRUE(contains(message, part)) << part << "\n" << message;
  }
}

TEST_F(ConvertModelsTest, ShardsThatAreMissingOrCutAreNamed) {
  ConvertOptions small;
  small.max_shard_bytes = 20000;
  convert_folder(copy_of("olmoe"), scratch_ / "checkpoint", small);
  convert_folder(scratch_ / "checkpoint", scratch_ / "sharded", small);
  const std::string folder = scratch_ / "sharded";
  std::vector<std::string> shards;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") shards.push_back(entry.path());
  }
  ASSERT_GT(shards.size(), 2U);
  fs::resize_file(shards[0], fs::file_size(shards[0]) - 3);
  EXPECT_TRUE(contains(refusal(folder), shards[0]));
  fs::remove(shards[1]);
  EXPECT_TRUE(contains(refusal(folder), shards[1]));
}

}  // namespace
}  // namespace witan
