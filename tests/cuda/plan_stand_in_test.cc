// The memory that `witan plan` says a rank on a GPU needs, against what a run takes from the
// stand-in.
#include <gtest/gtest.h>

#include <map>

#include "launch/bench/step_run.h"
#include "launch/plan/memory_advice.h"
#include "tests/cuda/trainer_cuda_case.h"
#include "tests/plan/plan_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

constexpr double kTolerance = 0.10;
constexpr std::int64_t kFirstBlock = std::int64_t{1} << 20;  // of an arena
// Of pinned memory: choices and figures of routing on their way to the host.
constexpr std::int64_t kSmallCopies = std::int64_t{1} << 16;
constexpr const char* kModel =
    "vocab_size: 256 d_model: 128 layers: 2 attention { heads: 2 }"
    "moe { experts: 4 d_ff: 128 shared_d_ff: 64 router { top_k { k: 2 } } }";

// A run after a step, and its plan.
class Planned {
 public:
  Planned(const std::string& more, DeviceTransport transport)
      : config_(run_of(more)), mesh_(mesh_of(world().size())), subject_(config_) {
    runtime_.dtype = DType::kFloat32;
    open_stream(gpu_of_rank(mpi().local_rank()), runtime_);
    if (config_.runtime().precision() == configs::RuntimeConfig::BF16) {
      runtime_.ctx.products = Products::kBfloat16;
    }
    mesh_.use_device(runtime_.ctx, transport, kWatchdogSeconds);
    run_.emplace(config_, mesh_, runtime_);
    run_->step();
    subject_.cublas_workspace = std::int64_t{4} << 20;  // of the stand-in's GPUs
  }
  ~Planned() {
    run_.reset();
    world().barrier();
  }
  Planned(const Planned&) = delete;
  Planned& operator=(const Planned&) = delete;

  MemoryPlan plan() const {
    return plan_memory(subject_, configured_layout(config_, world().size(), world().size()), 1.0);
  }
  StepRun& run() { return *run_; }

 private:
  static configs::RunConfig run_of(const std::string& more) {
    const std::string batch = std::to_string(4 * world().size());
    configs::RunConfig run = planned_run(
        kModel, "data { seq_len: 48 } train { global_batch: " + batch + " } device: CUDA", more);
    run.mutable_parallel()->set_expert(world().size());
    return run;
  }

  configs::RunConfig config_;
  Mesh mesh_;
  PlanSubject subject_;
  Runtime runtime_;
  std::optional<StepRun> run_;
};

void expect_near(const char* what, std::int64_t planned, std::int64_t found) {
  EXPECT_NEAR(static_cast<double>(planned), static_cast<double>(found),
              static_cast<double>(found) * kTolerance)
      << what;
}

void check_memory(const std::string& more, DeviceTransport transport) {
  SCOPED_TRACE(more);
  const std::int64_t before = allocation_stats(DeviceType::kCuda).bytes_in_use;
  const auto pinned_before = static_cast<std::int64_t>(cuda_on_cpu::pinned_memory_in_use());
  Planned planned(more, transport);
  const MemoryPlan plan = planned.plan();
  std::map<std::string, std::int64_t> found;
  for (const MemoryPart& part : planned.run().engine().memory_parts()) {
    found[part.name] = part.bytes;
  }
  EXPECT_EQ(plan.weights, found["weights"]);
  EXPECT_EQ(plan.rounded, found["weights in bf16"]);
  EXPECT_EQ(plan.gradients, found["gradients"]);
  EXPECT_EQ(plan.optimizer,
            static_cast<std::int64_t>(planned.run().trainer().optimizer().state_bytes()));
  const ModelArenas& arenas = planned.run().engine().model().arenas();
  expect_near("activations", plan.activations,
              static_cast<std::int64_t>(arenas.saved.bytes_high_water()));
  expect_near("scratch", plan.scratch,
              static_cast<std::int64_t>(arenas.scratch.bytes_high_water()));
  // Two arenas of the exchange and the one of the indices are smaller than an arena's first block.
  std::int64_t planned_bytes = plan.total() - plan.exchange - plan.routing + kFirstBlock;
  if (world().size() > 1) planned_bytes += 2 * kFirstBlock;
  ASSERT_LT(plan.exchange + plan.routing, kFirstBlock);
  // An arena that grows in the first step doubles.
  const auto spare = [](const Arena& arena) {
    return static_cast<std::int64_t>(arena.bytes_reserved() - arena.bytes_high_water());
  };
  expect_near("total", planned_bytes,
              allocation_stats(DeviceType::kCuda).bytes_in_use - before - spare(arenas.saved) -
                  spare(arenas.scratch));
  const std::int64_t pinned =
      static_cast<std::int64_t>(cuda_on_cpu::pinned_memory_in_use()) - pinned_before;
  EXPECT_GE(pinned, plan.pinned / 2);
  EXPECT_LE(pinned, 2 * plan.pinned + (plan.pinned > 0 ? 2 * kFirstBlock : 0) + kSmallCopies);
}

class PlanOnGpus : public OnGpus {};

TEST_F(PlanOnGpus, MemoryOfARank) {
  check_memory("", DeviceTransport::kAuto);
  if (world().size() > 2) return;
  check_memory("train { micro_batch: 2 recompute: LAYER }", DeviceTransport::kAuto);
  if (world().size() > 1) GTEST_SKIP() << "one rank is enough";
  check_memory("runtime { precision: BF16 } train { recompute: MOE_LAYER }",
               DeviceTransport::kAuto);
}

TEST_F(PlanOnGpus, StagedThroughPinnedMemory) {
  if (world().size() != 2) GTEST_SKIP() << "one rank stages nothing, four no more than two";
  check_memory("parallel { device_transport: STAGED_MPI } optimizer { zero1: true }",
               DeviceTransport::kStagedMpi);
}

}  // namespace
}  // namespace witan::test
