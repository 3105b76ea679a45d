// What a folder holds, which folders stay, and every way in which a folder can be wrong.
#include "launch/checkpoint/checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "launch/checkpoint/output_file.h"
#include "launch/checkpoint/safetensors.h"
#include "tests/checkpoint/checkpoint_case.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/thrown.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

class CheckpointTest : public testing::Test {
 protected:
  std::string at(std::int64_t step) const { return checkpoint_folder(scratch_.path(), step); }

  void save(const configs::RunConfig& run, std::int64_t step, int keep_last = 100,
            DType dtype = DType::kFloat32) {
    RankState state(run, mesh_, dtype);
    state.fill(static_cast<std::uint64_t>(step));
    save_checkpoint(at(step), run, state.params(), &state.optimizer(), some_state(step), mesh_,
                    keep_last);
  }

  std::string load_error(const configs::RunConfig& run, std::int64_t step) {
    RankState state(run, mesh_);
    return user_error_of(
        [&] { load_checkpoint(at(step), run, state.params(), state.optimizer(), mesh_); });
  }

  // Rewrites the shard of weights with the tensors that `edit` makes of its own, and the manifest
  // with its new checksum.
  template <class Edit>
  void edit_weights(std::int64_t step, Edit&& edit) {
    const std::string name = "model-00001-of-00001.safetensors";
    const std::string path = at(step) + "/" + name;
    std::vector<StTensor> tensors;
    std::string data;
    {
      const SafetensorsReader reader(path);
      for (const auto& [tensor_name, tensor] : reader.tensors()) {
        StTensor changed = tensor;
        edit(changed);
        if (changed.name.empty()) continue;
        std::size_t bytes = size_of(changed.dtype);
        for (const std::int64_t extent : changed.shape) bytes *= static_cast<std::size_t>(extent);
        tensors.push_back(changed);
        data += std::string(reinterpret_cast<const char*>(reader.data(tensor)),
                            std::min(bytes, tensor.bytes));
        data.resize(data.size() + bytes - std::min(bytes, tensor.bytes));
      }
    }
    SafetensorsWriter writer(path, tensors);
    writer.write(data.data(), data.size());
    const FileDigest digest = writer.finish();
    nlohmann::json manifest = nlohmann::json::parse(read_text_file(at(step) + "/witan.json"));
    std::ostringstream hex;
    hex << std::hex << digest.xxh3;
    manifest["files"][name] = {{"bytes", digest.bytes}, {"xxh3", hex.str()}};
    write_text_file(at(step) + "/witan.json", manifest.dump());
  }

  Mesh mesh_ = Mesh::self();
  ScratchFolder scratch_;
};

TEST_F(CheckpointTest, FilesOfAFolder) {
  save(mixed_run(), 12);
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(at(12))) {
    names.insert(entry.path().filename().string());
  }
  EXPECT_EQ(names, (std::set<std::string>{"buffers.safetensors", "model-00001-of-00001.safetensors",
                                          "model.safetensors.index.json", "run.textproto",
                                          "state-00001-of-00001.safetensors",
                                          "state.safetensors.index.json", "witan.json"}));
  save(mixtral_run(), 13);
  EXPECT_TRUE(fs::exists(at(13) + "/config.json"));
  EXPECT_EQ(fs::path(at(13)).filename(), "step-00000013");
}

TEST_F(CheckpointTest, ManifestSaysWhatWasSaved) {
  const configs::RunConfig run = mixed_run();
  save(run, 12);
  const CheckpointInfo info = read_manifest(at(12));
  EXPECT_EQ(info.run.SerializeAsString(), run.SerializeAsString());
  expect_equal(info.state, some_state(12));
  EXPECT_EQ(info.world, 1);
  EXPECT_EQ(read_model_config(at(12)).SerializeAsString(), run.model().SerializeAsString());
}

TEST_F(CheckpointTest, Float64KeepsEveryBit) {
  const configs::RunConfig run = mixed_run();
  save(run, 1, 100, DType::kFloat64);
  RankState loaded(run, mesh_, DType::kFloat64);
  load_checkpoint(at(1), run, loaded.params(), loaded.optimizer(), mesh_);
  loaded.expect_weights(1);
  loaded.expect_buffers(1);
  loaded.expect_moments(1);
  const std::string message = load_error(run, 1);  // in float32
  EXPECT_TRUE(contains(message, "runtime.precision")) << message;
}

TEST_F(CheckpointTest, NewestIgnoresWhatIsNotComplete) {
  EXPECT_EQ(newest_checkpoint(scratch_.path()), std::nullopt);
  save(llama_run(), 9);
  save(llama_run(), 10);
  fs::create_directories(at(11));           // no manifest
  fs::create_directories(at(12) + ".tmp");  // killed
  fs::create_directories(scratch_ / "checkpoints/step-99x");
  std::ofstream(scratch_ / "checkpoints/step-00000013") << "a file";
  EXPECT_EQ(newest_checkpoint(scratch_.path()), at(10));
}

TEST_F(CheckpointTest, KeepsTheNewest) {
  fs::create_directories(at(2) + ".tmp");
  for (int step = 1; step <= 4; ++step) save(llama_run(), step, 2);
  EXPECT_FALSE(fs::exists(at(1)));
  EXPECT_FALSE(fs::exists(at(2)));
  EXPECT_FALSE(fs::exists(at(2) + ".tmp"));
  EXPECT_TRUE(fs::exists(at(3)));
  EXPECT_TRUE(fs::exists(at(4)));
  save(llama_run(), 2, 1);  // an older step than those there: what was just written stays
  EXPECT_TRUE(fs::exists(at(2)));
  EXPECT_TRUE(fs::exists(at(4)));
  EXPECT_FALSE(fs::exists(at(3)));
}

TEST_F(CheckpointTest, ReplacesACheckpointOfTheSameStep) {
  save(llama_run(), 5);
  std::ofstream(at(5) + "/left-over") << "x";
  save(llama_run(), 5);
  EXPECT_FALSE(fs::exists(at(5) + "/left-over"));
  EXPECT_FALSE(fs::exists(at(5) + ".tmp"));
  EXPECT_EQ(newest_checkpoint(scratch_.path()), at(5));
}

TEST_F(CheckpointTest, FullDiskLeavesNothingBehindWhereverItStrikes) {
  save(mixtral_run(), 1);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  // In the weights' header, in the weights, in the moments.
  const auto weights = fs::file_size(at(1) + "/model-00001-of-00001.safetensors");
  for (const rlim_t bytes : {std::uintmax_t{100}, weights / 2, weights + 1000}) {
    const rlimit small = {bytes, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const std::string message = user_error_of([&] { save(mixtral_run(), 2); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_TRUE(contains(message, "File too large")) << message;
    EXPECT_TRUE(contains(message, "-00001-of-00001.safetensors")) << message;
    EXPECT_FALSE(fs::exists(at(2)));
    EXPECT_FALSE(fs::exists(at(2) + ".tmp"));
    EXPECT_EQ(newest_checkpoint(scratch_.path()), at(1));
  }
  ::signal(SIGXFSZ, handler);
}

TEST_F(CheckpointTest, FolderThatCannotBeMade) {
  std::ofstream(scratch_ / "file") << "x";
  RankState state(llama_run(), mesh_);
  EXPECT_USER_ERROR(save_checkpoint(scratch_ / "file/step-00000001", llama_run(), state.params(),
                                    nullptr, some_state(1), mesh_, 1),
                    "cannot make the folder");
}

TEST_F(CheckpointTest, WithoutOptimizerStateThereIsNoResume) {
  const configs::RunConfig run = llama_run();
  RankState state(run, mesh_);
  state.fill(4);
  save_checkpoint(at(1), run, state.params(), nullptr, some_state(1), mesh_, 1);
  EXPECT_TRUE(contains(load_error(run, 1), "no optimizer state"));
  RankState loaded(run, mesh_);
  load_weights(at(1), loaded.params(), mesh_);
  loaded.expect_weights(4);
}

TEST_F(CheckpointTest, AnotherModelIsNamedFieldByField) {
  save(mixed_run(), 1);
  configs::RunConfig other = mixed_run();
  other.mutable_model()->mutable_moe()->set_experts(16);
  other.mutable_model()->set_init_std(0.02);  // the default, written out: no difference
  other.mutable_model()->mutable_attention()->clear_qk_norm();
  other.mutable_model()->mutable_moe()->mutable_balance(0)->mutable_z_loss();
  const std::string message = load_error(other, 1);
  EXPECT_TRUE(contains(message, "model.moe.experts: 16 in this run, 12 in the checkpoint"))
      << message;
  EXPECT_TRUE(contains(message, "model.attention.qk_norm: false in this run, true")) << message;
  EXPECT_TRUE(contains(message, "model.moe.balance[0].expert_bias: (absent) in this run"))
      << message;
  EXPECT_FALSE(contains(message, "init_std")) << message;
}

TEST_F(CheckpointTest, ABitThatFlippedNamesItsFile) {
  for (const char* name : {"model-00001-of-00001.safetensors", "state-00001-of-00001.safetensors",
                           "buffers.safetensors"}) {
    save(mixed_run(), 1);
    std::string bytes = read_text_file(at(1) + "/" + name);
    bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 1);
    write_text_file(at(1) + "/" + name, bytes);
    const std::string message = load_error(mixed_run(), 1);
    EXPECT_TRUE(contains(message, std::string(name) + ": corrupt: its checksum")) << message;
    fs::remove(at(1) + "/" + name);
    EXPECT_TRUE(contains(load_error(mixed_run(), 1), "No such file"));
  }
}

TEST_F(CheckpointTest, TensorsThatDoNotFitAreAllNamed) {
  save(mixtral_run(), 1);
  edit_weights(1, [](StTensor& tensor) {
    if (tensor.name == "lm_head.weight") tensor.name = "";
    if (tensor.name == "model.norm.weight") tensor.shape = {17};
    if (tensor.name == "model.embed_tokens.weight") tensor.dtype = StDType::kI32;
    if (tensor.name == "model.layers.0.block_sparse_moe.experts.3.w2.weight") {
      tensor.name = "model.layers.0.block_sparse_moe.experts.12.w2.weight";
    }
  });
  const std::string message = load_error(mixtral_run(), 1);
  EXPECT_TRUE(contains(message, "tensor lm_head.weight: not in model-00001")) << message;
  EXPECT_TRUE(contains(message, "tensor model.norm.weight: shape [17], expected [16]")) << message;
  EXPECT_TRUE(contains(message, "tensor model.embed_tokens.weight: dtype I32")) << message;
  EXPECT_TRUE(contains(message, "experts.12.w2.weight: in model-00001")) << message;
  EXPECT_TRUE(contains(message, "experts.3.w2.weight: not in model-00001")) << message;
}

TEST_F(CheckpointTest, NarrowFormatsAreWidened) {
  save(llama_run(), 1);
  edit_weights(1, [](StTensor& tensor) {
    if (tensor.name == "model.norm.weight") tensor.dtype = StDType::kBF16;
    if (tensor.name == "model.layers.0.input_layernorm.weight") tensor.dtype = StDType::kF16;
    if (tensor.name == "model.layers.1.input_layernorm.weight") tensor.dtype = StDType::kF64;
  });
  RankState loaded(llama_run(), mesh_);
  EXPECT_NO_THROW(load_weights(at(1), loaded.params(), mesh_));
}

TEST_F(CheckpointTest, BrokenManifests) {
  save(llama_run(), 1);
  const std::string path = at(1) + "/witan.json";
  const nlohmann::json good = nlohmann::json::parse(read_text_file(path));
  const auto error_with = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json changed = good;
    changed[key] = value;
    write_text_file(path, changed.dump());
    return load_error(llama_run(), 1);
  };
  EXPECT_TRUE(contains(error_with("format", "other"), "not the manifest of a checkpoint"));
  EXPECT_TRUE(contains(error_with("version", 2), "version 2 of the checkpoint format"));
  EXPECT_TRUE(contains(error_with("step", "one"), "witan.json: malformed"));
  EXPECT_TRUE(contains(error_with("files", {{"a", {{"bytes", 1}, {"xxh3", "zz"}}}}), "malformed"));
  EXPECT_TRUE(contains(error_with("dtype", "int8"), "dtype: expected"));
  write_text_file(path, "{");
  EXPECT_TRUE(contains(load_error(llama_run(), 1), "witan.json: not JSON"));
  write_text_file(path, good.dump());
  write_text_file(at(1) + "/run.textproto", "name: \"x\" model { nonsense: 1 }");
  EXPECT_TRUE(contains(load_error(llama_run(), 1), "nonsense"));
  fs::remove(at(1) + "/run.textproto");
  EXPECT_TRUE(contains(load_error(llama_run(), 1), "run.textproto"));
}

TEST_F(CheckpointTest, ForeignFolders) {
  EXPECT_USER_ERROR(read_model_config(scratch_ / "none"), "there is no such folder");
  EXPECT_USER_ERROR(read_model_config(scratch_.path()), "neither a checkpoint");
  RankState state(llama_run(), mesh_);
  EXPECT_USER_ERROR(load_weights(scratch_.path(), state.params(), mesh_),
                    "holds neither model.safetensors.index.json nor model.safetensors");
  write_text_file(scratch_ / "model.safetensors.index.json", "{}");
  EXPECT_USER_ERROR(load_weights(scratch_.path(), state.params(), mesh_), "weight_map is missing");
  for (const char* file : {"../x.safetensors", "/etc/passwd", ""}) {
    const nlohmann::json index = {{"weight_map", {{"t", file}}}};
    write_text_file(scratch_ / "model.safetensors.index.json", index.dump());
    EXPECT_USER_ERROR(load_weights(scratch_.path(), state.params(), mesh_),
                      "expected the name of a file in this folder");
  }
  write_text_file(scratch_ / "model.safetensors.index.json",
                  R"({"weight_map": {"model.norm.weight": "gone.safetensors"}})");
  const std::string message =
      user_error_of([&] { load_weights(scratch_.path(), state.params(), mesh_); });
  EXPECT_TRUE(contains(message, "gone.safetensors: cannot open")) << message;
  EXPECT_TRUE(contains(message, "tensor model.embed_tokens.weight: missing")) << message;
}

}  // namespace
}  // namespace witan
