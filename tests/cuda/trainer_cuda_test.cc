// Training on GPUs, which the stand-in executes, against the same run on the CPU at the same
// layout. In float64 the two agree but for the order of sums; float32 and bf16 as far as rounding
// allows.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "core/ops/rounded_weights.h"
#include "core/tensor/allocator.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/evaluator.h"
#include "tests/cuda/trainer_cuda_case.h"

namespace witan::test {
namespace {

using CudaTrainer = OnGpus;

// The losses of `steps` steps, and the weights behind them.
void expect_same_steps(const Corpus& corpus, const char* precision, int ep,
                       DeviceTransport transport, int steps, double figures, double weights,
                       const std::string& change = "") {
  SCOPED_TRACE(std::string(precision) + ", EP " + std::to_string(ep) + ", transport " +
               std::to_string(static_cast<int>(transport)));
  const configs::RunConfig run = run_config(
      corpus, invariant_balance(false),
      std::string("optimizer { zero1: true } runtime { precision: ") + precision + " } " + change);
  const Mesh mesh = mesh_of(ep);
  Session expected(run, mesh);
  CudaSession found(run, ep, transport);
  for (int step = 0; step < steps; ++step) {
    const StepMetrics on_cpu = expected.trainer().step(false);
    const StepMetrics on_gpu = found->trainer().step(false);
    expect_near("loss", on_gpu.loss, on_cpu.loss, figures);
    expect_near("router loss", on_gpu.router_loss, on_cpu.router_loss, figures);
    EXPECT_FALSE(on_gpu.skipped);
  }
  expect_tensors_near(*found, expected, false, weights);
}

TEST_F(CudaTrainer, TwentyStepsAsOnTheCpu) {
  const Corpus corpus;
  for (const int ep : expert_parallel_sizes(run_config(corpus, ""))) {
    expect_same_steps(corpus, "FLOAT64", ep, DeviceTransport::kAuto, 20, 1e-9, 1e-8);
  }
}

// Who keeps a place is decided on the device, and the exchange knows its sizes beforehand. Jitter
// sets equal tokens apart, whose weights differ by rounding errors only.
TEST_F(CudaTrainer, StepsWithExpertsPaddedToTheirCapacity) {
  const Corpus corpus;
  for (const int ep : expert_parallel_sizes(run_config(corpus, ""))) {
    for (const DeviceTransport transport : transports()) {
      expect_same_steps(corpus, "FLOAT64", ep, transport, 4, 1e-10, 1e-9,
                        several_micro_batches() +
                            "model { moe { capacity { factor: 0.9 pad_to_capacity: true "
                            "renormalize_after_drop: true policy: PROBABILITY } "
                            "router { input_jitter: 0.1 allow_non_causal: true } } } "
                            "parallel { exchange { rows: PER_CHOICE } }");
    }
  }
}

TEST_F(CudaTrainer, EveryPrecisionAndTransport) {
  const Corpus corpus;
  const int ep = expert_parallel_sizes(run_config(corpus, "")).back();
  expect_same_steps(corpus, "FLOAT32", ep, DeviceTransport::kAuto, 4, 1e-4, 1e-3);
  expect_same_steps(corpus, "BF16", ep, DeviceTransport::kAuto, 4, 1e-2, 5e-2);
  for (const DeviceTransport transport : transports()) {
    expect_same_steps(corpus, "FLOAT64", ep, transport, 3, 1e-10, 1e-9);
  }
}

// Several micro-batches: gradients accumulate.
TEST_F(CudaTrainer, MicroBatches) {
  const Corpus corpus;
  expect_same_gradients(corpus, invariant_balance(true), several_micro_batches());
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

// Copies of the weights in bfloat16: used in a step, new after each, and never those of weights
// that have been written since.
TEST_F(CudaTrainer, RoundedWeightsFollowTheWeights) {
  const Corpus corpus;
  const configs::RunConfig run =
      run_config(corpus, "", "optimizer { zero1: true } runtime { precision: BF16 } ");
  const int ep = expert_parallel_sizes(run).back();
  CudaSession session(run, ep, DeviceTransport::kAuto);
  const char* const names[] = {"embedding", "layers.0.ffn.down", "layers.1.moe.experts.gate_up"};
  std::vector<TensorView> views;  // to look for their copies: asking again makes those stale
  for (const char* name : names) views.push_back(session->value(name));
  EXPECT_GT(session->engine().params().rounded_bytes(), 0u);
  const auto all_found = [&](bool found) {
    for (std::size_t i = 0; i < views.size(); ++i) {
      EXPECT_EQ(ops::find_rounded(views[i]) != nullptr, found) << names[i];
    }
  };
  const auto write = [&](Session& to) {
    for (const char* name : names) {
      const HostTwin twin(to.engine().params().context(), to.value(name));
      auto* values = twin.read().view().as<float>();
      for (std::int64_t i = 0; i < twin.view().size(); ++i) values[i] *= 1.5F;
      twin.write_back();
    }
  };
  all_found(false);
  const double before = session->trainer().gradients(false).loss;
  all_found(true);
  session->trainer().step(false);
  all_found(false);  // the optimizer wrote
  const double after = session->trainer().gradients(false).loss;
  all_found(true);
  EXPECT_NE(after, before);

  CudaSession early(run, ep, DeviceTransport::kAuto);
  CudaSession late(run, ep, DeviceTransport::kAuto);
  write(*early);
  const double expected = early->trainer().gradients(false).loss;
  EXPECT_EQ(late->trainer().gradients(false).loss, before);
  write(*late);
  EXPECT_EQ(late->trainer().gradients(false).loss, expected);
  EXPECT_NE(expected, before);
}

// Every second call of a graph's part at least was a launch of what had been captured before; in
// the first steps arenas grow, and what was captured is captured again.
void expect_often_launched(const GraphSegment* graph, int calls) {
  ASSERT_NE(graph, nullptr);
  const GraphSegment::Counts counts = graph->counts();
  EXPECT_EQ(counts.run + counts.launched, calls);
  EXPECT_GE(counts.launched, calls / 2);
  EXPECT_GE(counts.launched, counts.captured);
}

// The attention of a layer, and its experts where they are padded, as graphs: the same bits, and
// half of the time a launch, although the routing, and with it the rows of experts, changes from
// step to step; also with more micro-batches than a segment keeps graphs.
TEST_F(CudaTrainer, GraphsGiveTheSameBits) {
  const Corpus corpus;
  constexpr int kMicroBatches = 6;
  const std::string many =
      "train { micro_batch: 1 global_batch: " + std::to_string(kMicroBatches * world().size()) +
      " } ";
  const std::string padded =
      "model { moe { capacity { factor: 1 pad_to_capacity: true } } } "
      "parallel { exchange { rows: PER_CHOICE } } ";
  for (const std::string& change :
       {std::string("runtime { precision: BF16 } "), many + padded,
        padded + "runtime { precision: FLOAT32 } train { recompute: LAYER } ",
        padded + "runtime { precision: BF16 } train { recompute: MOE_LAYER }"}) {
    SCOPED_TRACE(change);
    const configs::RunConfig plain = run_config(corpus, invariant_balance(false), change);
    configs::RunConfig run = plain;
    run.mutable_runtime()->set_cuda_graphs(true);
    const int ep = expert_parallel_sizes(run).back();
    CudaSession expected(plain, ep, DeviceTransport::kAuto);
    CudaSession found(run, ep, DeviceTransport::kAuto);
    const bool is_many = change.rfind(many, 0) == 0;
    const int micro_batches = is_many ? kMicroBatches : 1;
    const int steps = is_many ? 2 : 5;
    for (int step = 0; step < steps; ++step) {
      EXPECT_EQ(found->trainer().step(false).loss, expected->trainer().step(false).loss);
    }
    const int times = steps * micro_batches;
    const bool twice = run.train().recompute() == configs::TrainConfig::LAYER;
    for (const auto& layer : found->engine().model().layers()) {
      expect_often_launched(layer->forward_graph(), twice ? 2 * times : times);
      expect_often_launched(layer->backward_graph(), times);
      if (layer->moe() == nullptr) continue;
      if (change.find("pad_to_capacity") == std::string::npos) {
        EXPECT_EQ(layer->moe()->forward_graph(), nullptr);
        continue;
      }
      expect_often_launched(layer->moe()->forward_graph(), twice ? 2 * times : times);
      expect_often_launched(layer->moe()->backward_graph(), times);
    }
    for (int id = 0; id < found->engine().table().size(); ++id) {
      const HostTwin weights(found->engine().params().context(),
                             found->engine().params().value(id));
      const HostTwin others(expected->engine().params().context(),
                            expected->engine().params().value(id));
      const TensorView here = weights.read().view();
      EXPECT_EQ(std::memcmp(here.data, others.read().view().data, here.bytes()), 0)
          << found->engine().table()[id].name;
    }
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
