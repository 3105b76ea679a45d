// Training on GPUs, which the stand-in executes, against the same run on the CPU at the same
// layout. In float64 the two agree but for the order of sums; float32 and bf16 as far as rounding
// allows.
#include <gtest/gtest.h>

#include <string>

#include "core/model/check_model.h"
#include "core/model/router.h"
#include "core/tensor/allocator.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/evaluator.h"
#include "tests/cuda/trainer_cuda_case.h"

namespace witan::test {
namespace {

using CudaTrainer = OnGpus;

constexpr double kStepTolerance = 1e-11;  // float64: gradients and figures of one step

// One step's gradients and figures at the largest expert parallelism.
void expect_same_gradients(const Corpus& corpus, const std::string& balance,
                           const std::string& change) {
  const configs::RunConfig run =
      run_config(corpus, balance, "runtime { precision: FLOAT64 } " + change);
  const int ep = expert_parallel_sizes(run).back();
  const Mesh mesh = mesh_of(ep);
  Session expected(run, mesh);
  CudaSession found(run, ep, DeviceTransport::kAuto);
  const StepMetrics metrics = expected.trainer().gradients(false);
  expect_metrics_near(found->trainer().gradients(false), metrics, kStepTolerance);
  expect_tensors_near(*found, expected, true, kStepTolerance);
}

// The router of an entry, with what it needs besides.
std::string router_of(const RouterEntry& entry) {
  std::string example = entry.example;
  std::string score = "SQRT_SOFTPLUS";
  if (entry.selection == configs::RouterConfig::kHierarchical) {
    example = "hierarchical { k: 2 n_group: 2 topk_group: 1 }";
    score = "SOFTMAX";
  }
  if (entry.selection == configs::RouterConfig::kExpertChoice) score = "SOFTMAX weights: AS_IS";
  if (entry.selection == configs::RouterConfig::kTopP) example = "top_p { p: 0.6 k_max: 3 }";
  if (entry.selection == configs::RouterConfig::kGroupLimited) {
    example = "group_limited { k: 2 n_group: 2 topk_group: 1 }";
  }
  return "model { moe { router { " + example +
         " input_jitter: 0.1 allow_non_causal: true score: " + score + " } } } ";
}

bool accepted(const configs::ModelConfig& model) {
  bool good = true;
  check_model(model, [&](const std::string&, const std::string&) { good = false; });
  return good;
}

struct Precision {
  const char* name;
  double figures, weights;  // relative tolerance after 20 steps
};

TEST_F(CudaTrainer, TwentyStepsAsOnTheCpu) {
  constexpr Precision kPrecisions[] = {
      {"FLOAT64", 1e-9, 1e-8}, {"FLOAT32", 1e-3, 1e-2}, {"BF16", 1e-2, 5e-2}};
  const Corpus corpus;
  for (const Precision& precision : kPrecisions) {
    const configs::RunConfig run =
        run_config(corpus, invariant_balance(false),
                   std::string("optimizer { zero1: true } runtime { precision: ") + precision.name +
                       " } " + several_micro_batches());
    for (const int ep : expert_parallel_sizes(run)) {
      const Mesh mesh = mesh_of(ep);
      Session expected(run, mesh);
      std::vector<StepMetrics> steps;
      for (int step = 0; step < 20; ++step) steps.push_back(expected.trainer().step(false));
      for (const DeviceTransport transport : transports()) {
        SCOPED_TRACE(std::string(precision.name) + ", EP " + std::to_string(ep) + ", transport " +
                     std::to_string(static_cast<int>(transport)));
        CudaSession found(run, ep, transport);
        for (const StepMetrics& step : steps) {
          const StepMetrics metrics = found->trainer().step(false);
          expect_near("loss", metrics.loss, step.loss, precision.figures);
          expect_near("router loss", metrics.router_loss, step.router_loss, precision.figures);
          EXPECT_FALSE(metrics.skipped);
        }
        expect_tensors_near(*found, expected, false, precision.weights);
        if (ep < expert_parallel_sizes(run).back()) break;  // one transport will do
      }
    }
  }
}

TEST_F(CudaTrainer, EveryRouter) {
  const Corpus corpus;
  const std::string balance =
      "balance { switch_aux { coefficient: 0.3 scope: SEQUENCE } }"
      "balance { z_loss { coefficient: 0.05 } }";
  const std::string by_tag =
      "model { moe { allowed_experts { tag { name: 'a' experts: '0-3' } "
      "tag { name: 'b' experts: '4-7' } } } } ";
  const std::string zero_computation =
      "model { moe { zero_computation { zero: 1 copy: 1 constant: 2 } } } ";
  int combinations = 0;
  for (const RouterEntry& entry : registered_routers()) {
    for (const std::string& more : {std::string(), by_tag, zero_computation}) {
      const std::string change = router_of(entry) + more;
      if (!accepted(run_config(corpus, balance, change).model())) continue;
      SCOPED_TRACE(std::string(entry.name) + " " + more);
      expect_same_gradients(corpus, balance, change);
      ++combinations;
    }
  }
  EXPECT_GE(combinations, static_cast<int>(registered_routers().size()) + 8);
}

TEST_F(CudaTrainer, EveryBalancer) {
  const Corpus corpus;
  for (const BalancerEntry& entry : registered_balancers()) {
    SCOPED_TRACE(entry.name);
    const bool load = entry.kind == configs::BalancerConfig::kLoadCv2;
    std::string example = entry.example;
    if (entry.kind == configs::BalancerConfig::kDeviceBalance) {
      example = "device_balance { coefficient: 0.5 groups: 2 }";
    }
    expect_same_gradients(
        corpus, "balance { " + example + " }",
        load ? "model { moe { router { noisy_top_k { k: 2 } score: SOFTMAX } } }" : "");
  }
}

TEST_F(CudaTrainer, EveryWayToSaveMemoryAndToSendRows) {
  const Corpus corpus;
  for (const char* change : {
           "train { recompute: MOE_ACTIVATION }",
           "train { recompute: MOE_LAYER } parallel { exchange { chunks: 3 } }",
           "train { recompute: LAYER } parallel { exchange { rows: PER_CHOICE } }",
           "parallel { exchange { max_rows: 40 } }",
           "model { moe { capacity { factor: 1.25 pad_to_capacity: true } } } "
           "parallel { exchange { rows: PER_CHOICE } }",
           "model { moe { capacity { factor: 1 renormalize_after_drop: true } } }",
       }) {
    SCOPED_TRACE(change);
    expect_same_gradients(corpus, invariant_balance(true), change);
  }
}

TEST_F(CudaTrainer, EveryKindOfLayer) {
  const Corpus corpus;
  for (const char* change : {
           "model { norm { kind: LAYERNORM } moe { expert_kind: GELU expert_bias_terms: true } }",
           "model { moe { shared_gate: true } attention { qkv_bias: true out_bias: true } }",
           "model { attention { qk_norm: false latent { kv_lora_rank: 6 q_lora_rank: 5 "
           "nope_head_dim: 4 "
           "rope_head_dim: 2 v_head_dim: 5 } } }",
       }) {
    SCOPED_TRACE(change);
    expect_same_gradients(corpus, "", change);
  }
}

// Files are the same whatever wrote them.
TEST_F(CudaTrainer, CheckpointsGoFromOneDeviceToTheOther) {
  const Corpus corpus;
  const configs::RunConfig run =
      run_config(corpus, invariant_balance(false),
                 "optimizer { zero1: true } runtime { precision: FLOAT64 } ");
  const int ep = expert_parallel_sizes(run).back();
  const Mesh mesh = mesh_of(ep);
  const auto save = [&](Session& session, const Mesh& of, const std::string& name) {
    save_checkpoint(corpus.folder / name, run, session.engine().params(),
                    &session.trainer().optimizer(), session.trainer().state(), of, 1);
  };
  const auto load = [&](Session& session, const Mesh& of, const std::string& name) {
    session.trainer().restore(load_checkpoint(corpus.folder / name, run, session.engine().params(),
                                              session.trainer().optimizer(), of));
  };
  Session on_cpu(run, mesh);
  CudaSession on_gpu(run, ep, DeviceTransport::kAuto);
  for (int step = 0; step < 3; ++step) {
    on_cpu.trainer().step(false);
    on_gpu->trainer().step(false);
  }
  save(on_cpu, mesh, "step-00000003-cpu");
  save(*on_gpu, on_gpu.mesh(), "step-00000003-gpu");
  Session resumed_on_cpu(run, mesh);
  CudaSession resumed_on_gpu(run, ep, DeviceTransport::kAuto);
  load(resumed_on_cpu, mesh, "step-00000003-gpu");
  load(*resumed_on_gpu, resumed_on_gpu.mesh(), "step-00000003-cpu");
  for (int step = 0; step < 3; ++step) {
    const double expected = on_cpu.trainer().step(false).loss;
    expect_near("resumed on the CPU", resumed_on_cpu.trainer().step(false).loss, expected, 1e-10);
    expect_near("resumed on a GPU", resumed_on_gpu->trainer().step(false).loss, expected, 1e-10);
  }
  expect_tensors_near(*resumed_on_gpu, resumed_on_cpu, false, 1e-10);
}

TEST_F(CudaTrainer, Evaluation) {
  const Corpus corpus;
  const configs::RunConfig run = run_config(corpus, "", "runtime { precision: FLOAT64 } ");
  const int ep = expert_parallel_sizes(run).back();
  const Mesh mesh = mesh_of(ep);
  Session expected(run, mesh);
  CudaSession found(run, ep, DeviceTransport::kAuto);
  const auto losses = [&](Session& session) {
    std::vector<double> values;
    for (const EvalResult& result :
         evaluate(session.engine(), session.stream(), run.data(), 2, 8, nullptr, kEndOfDocument)) {
      values.push_back(result.loss);
    }
    return values;
  };
  const std::vector<double> on_cpu = losses(expected);
  const std::vector<double> on_gpu = losses(*found);
  ASSERT_EQ(on_gpu.size(), on_cpu.size());
  for (std::size_t i = 0; i < on_cpu.size(); ++i) {
    expect_near("validation loss", on_gpu[i], on_cpu[i], kStepTolerance);
  }
}

TEST_F(CudaTrainer, ASteadyStepAllocatesNoDeviceMemory) {
  const Corpus corpus;
  const configs::RunConfig run =
      run_config(corpus, invariant_balance(false),
                 "optimizer { zero1: true } train { routing { force_balanced: true } } ");
  for (const DeviceTransport transport : transports()) {
    CudaSession session(run, expert_parallel_sizes(run).back(), transport);
    for (int step = 0; step < 2; ++step) session->trainer().step(false);
    const std::int64_t before = allocation_stats(DeviceType::kCuda).allocations;
    for (int step = 0; step < 2; ++step) session->trainer().step(false);
    EXPECT_EQ(allocation_stats(DeviceType::kCuda).allocations, before);
  }
}

}  // namespace
}  // namespace witan::test
