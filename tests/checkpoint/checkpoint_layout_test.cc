// Saved at one EP x DP, loaded at any other: the same tensors bit for bit. Failures of one rank are
// everyone's.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstring>
#include <optional>

#include "launch/checkpoint/safetensors.h"
#include "tests/checkpoint/checkpoint_case.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/thrown.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

Mesh mesh_of(int expert_parallel) { return Mesh(mpi(), expert_parallel, 60.0); }

std::vector<int> ep_sizes() {
  std::vector<int> sizes;
  for (int ep = 1; ep <= mpi().size(); ++ep) {
    if (mpi().size() % ep == 0) sizes.push_back(ep);
  }
  return sizes;
}

// One folder for all ranks.
class CheckpointLayoutTest : public testing::Test {
 protected:
  CheckpointLayoutTest() : mesh_(mesh_of(1)) {
    if (mpi().rank() == 0) folder_.emplace();
    if (folder_) path_ = folder_->path();
    mesh_.world().broadcast_bytes(path_, 0);
  }
  ~CheckpointLayoutTest() override { mesh_.world().barrier(); }
  std::string at(std::int64_t step) const { return checkpoint_folder(path_, step); }

  Mesh mesh_;
  std::optional<ScratchFolder> folder_;
  std::string path_;
};

TEST_F(CheckpointLayoutTest, SavedAtOneLayoutLoadedAtEveryOther) {
  std::uint64_t seed = 0;
  for (const configs::RunConfig& run : {mixtral_run(), mixed_run(), llama_run()}) {
    const std::vector<int> sizes = run.model().has_moe() ? ep_sizes() : std::vector<int>{1};
    for (const int save_ep : sizes) {
      ++seed;
      const std::string folder = at(static_cast<std::int64_t>(seed));
      const TrainState state = some_state(static_cast<std::int64_t>(seed));
      {
        const Mesh mesh = mesh_of(save_ep);
        RankState saved(run, mesh);
        saved.fill(seed);
        save_checkpoint(folder, run, saved.params(), &saved.optimizer(), state, mesh, 2);
        EXPECT_EQ(read_manifest(folder).expert_parallel, save_ep);
        EXPECT_EQ(read_manifest(folder).world, mpi().size());
      }
      for (const int load_ep : sizes) {
        SCOPED_TRACE(run.name() + ": EP " + std::to_string(save_ep) + " to " +
                     std::to_string(load_ep));
        const Mesh mesh = mesh_of(load_ep);
        RankState loaded(run, mesh);
        expect_equal(load_checkpoint(folder, run, loaded.params(), loaded.optimizer(), mesh),
                     state);
        loaded.expect_weights(seed);
        loaded.expect_buffers(seed);
        loaded.expect_moments(seed);
      }
    }
  }
}

TEST_F(CheckpointLayoutTest, LoadedByOneRankAlone) {
  const configs::RunConfig run = mixed_run();
  const Mesh mesh = mesh_of(mpi().size());
  RankState saved(run, mesh);
  saved.fill(7);
  save_checkpoint(at(1), run, saved.params(), &saved.optimizer(), some_state(1), mesh, 2);
  const Mesh self = Mesh::self();
  RankState loaded(run, self);
  load_checkpoint(at(1), run, loaded.params(), loaded.optimizer(), self);
  loaded.expect_weights(7);
  loaded.expect_buffers(7);
  loaded.expect_moments(7);
}

TEST_F(CheckpointLayoutTest, SavedByOneRankAlone) {
  const configs::RunConfig run = mixed_run();
  if (mpi().rank() == 0) {
    const Mesh self = Mesh::self();
    RankState saved(run, self);
    saved.fill(8);
    save_checkpoint(at(1), run, saved.params(), &saved.optimizer(), some_state(1), self, 2);
  }
  mesh_.world().barrier();
  for (const int ep : ep_sizes()) {
    const Mesh mesh = mesh_of(ep);
    RankState loaded(run, mesh);
    load_checkpoint(at(1), run, loaded.params(), loaded.optimizer(), mesh);
    loaded.expect_weights(8);
    loaded.expect_buffers(8);
    loaded.expect_moments(8);
  }
}

// The last writer of the group runs into a limit; nobody hangs, and what was there stays.
TEST_F(CheckpointLayoutTest, FailureOfOneRankIsEveryones) {
  const configs::RunConfig run = mixtral_run();
  const Mesh mesh = mesh_of(mpi().size());
  const int last = mpi().size() - 1;
  RankState saved(run, mesh);
  saved.fill(1);
  save_checkpoint(at(1), run, saved.params(), &saved.optimizer(), some_state(1), mesh, 2);

  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {4096, before.rlim_max};
  if (mpi().rank() == last) ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = user_error_of([&] {
    save_checkpoint(at(2), run, saved.params(), &saved.optimizer(), some_state(2), mesh, 2);
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);

  EXPECT_TRUE(contains(message, "File too large")) << message;
  EXPECT_TRUE(contains(message, "step-00000002")) << message;
  if (mpi().size() > 1) {
    EXPECT_TRUE(contains(message, "rank " + std::to_string(last) + ":")) << message;
  }
  EXPECT_FALSE(fs::exists(at(2)));
  EXPECT_FALSE(fs::exists(at(2) + ".tmp"));
  EXPECT_EQ(newest_checkpoint(path_), at(1));
  RankState loaded(run, mesh);
  load_checkpoint(at(1), run, loaded.params(), loaded.optimizer(), mesh);
  loaded.expect_moments(1);
}

TEST_F(CheckpointLayoutTest, DamageIsReportedByEveryRank) {
  const configs::RunConfig run = mixtral_run();
  const Mesh mesh = mesh_of(mpi().size());
  RankState saved(run, mesh);
  saved.fill(1);
  save_checkpoint(at(1), run, saved.params(), &saved.optimizer(), some_state(1), mesh, 2);
  std::string victim;
  if (mpi().rank() == 0) {
    for (const auto& entry : fs::directory_iterator(at(1))) {
      const std::string name = entry.path().filename().string();
      if (name.rfind("state-", 0) == 0 && name > victim && entry.path().extension() != ".json") {
        victim = name;
      }
    }
    fs::resize_file(fs::path(at(1)) / victim, 100);
  }
  mesh.world().broadcast_bytes(victim, 0);
  RankState loaded(run, mesh);
  const std::string message = user_error_of(
      [&] { load_checkpoint(at(1), run, loaded.params(), loaded.optimizer(), mesh); });
  EXPECT_TRUE(contains(message, victim + ": corrupt: 100 bytes")) << message;
}

TEST_F(CheckpointLayoutTest, GradientsGatheredFromAllRanks) {
  const configs::RunConfig run = mixtral_run();
  for (const int ep : ep_sizes()) {
    const Mesh mesh = mesh_of(ep);
    RankState state(run, mesh);
    state.fill(3);
    for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
      const TensorView values = state.params().flat_values(group);
      std::memcpy(state.params().flat_grads(group).data, values.data, values.bytes());
    }
    const std::string path = path_ + "/gradients.safetensors";
    save_gradients(path, state.params(), 2.0, mesh);

    const Mesh self = Mesh::self();
    RankState whole(run, self);
    whole.fill(3);
    const SafetensorsReader reader(path);
    const std::string prefix = "model.layers.1.block_sparse_moe.experts.11.";
    const StTensor* up = reader.find(prefix + "w3.weight");
    ASSERT_NE(up, nullptr);
    EXPECT_EQ(up->shape, (std::vector<std::int64_t>{10, 16}));
    std::vector<float> found(160);
    std::memcpy(found.data(), reader.data(*up), up->bytes);
    const TensorView gate_up = whole.params().value("layers.1.moe.experts.gate_up");
    const float* right = gate_up.as<float>() + 11 * 320 + 160;
    for (std::size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i], 2.0F * right[i]) << i;
    EXPECT_NE(reader.find("lm_head.weight"), nullptr);
    mesh.world().barrier();
  }
}

}  // namespace
}  // namespace witan
