// One step at 1 to 4 ranks, in every mesh, against the same step on one rank: losses, balancing
// losses, gradient norm and the gradient of every parameter; accumulation traded for ranks.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "launch/data/batch_builder.h"
#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

constexpr double kFloat32Tolerance = 1e-5;
constexpr double kFloat64Tolerance = 1e-12;

struct Precision {
  const char* name;
  double tolerance;
};
// An activation that differs in its last bit may be rounded to the next bfloat16.
constexpr double kBf16Tolerance = 5e-3;
constexpr Precision kPrecisions[] = {
    {"FLOAT32", kFloat32Tolerance}, {"FLOAT64", kFloat64Tolerance}, {"BF16", kBf16Tolerance}};

std::string precision(const Precision& p) {
  return std::string("runtime { precision: ") + p.name + " } ";
}

void expect_same_step(Session& found, Session& whole, double tolerance) {
  const StepMetrics expected = whole.trainer().gradients(false);
  const StepMetrics metrics = found.trainer().gradients(false);
  expect_metrics_near(metrics, expected, tolerance);
  EXPECT_GT(expected.router_loss, 0.0);
  EXPECT_EQ(found.trainer().loss_tokens(), whole.trainer().loss_tokens());
  expect_gradients_near(found, whole, tolerance);
  const double divisor = whole.trainer().loss_tokens();
  EXPECT_LT(divisor, kGlobalBatch * 9) << "some targets must be masked, or a factor hides";
  expect_near("gradient norm", found.trainer().optimizer().gradient_norm(divisor).value,
              whole.trainer().optimizer().gradient_norm(divisor).value, tolerance);
}

TEST(TrainerParity, EveryMeshAndAccumulationGivesTheStepOfOneRank) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  for (const Precision& p : kPrecisions) {
    for (const bool exact : {true, false}) {
      // The previous step's counts need a step before; it must not move the weights, whose first
      // Adam step is the sign of the gradient.
      const std::string change = precision(p) + "optimizer { lr: 0 } ";
      const configs::RunConfig run = run_config(corpus, invariant_balance(exact), change);
      Session whole(run, alone);
      whole.trainer().step(false);
      for (const int ep : expert_parallel_sizes(run)) {
        const Mesh mesh = mesh_of(ep);
        for (const std::string& micro : {std::string(), several_micro_batches()}) {
          SCOPED_TRACE(std::string(p.name) + (exact ? ", exact" : ", previous step") + ", EP " +
                       std::to_string(ep) + ", " + micro);
          Session part(run_config(corpus, invariant_balance(exact), change + micro), mesh);
          part.trainer().step(false);
          expect_same_step(part, whole, p.tolerance);
        }
      }
    }
  }
}

// Modules of multi-token prediction, two of them with experts of their own, on fewer tokens.
TEST(TrainerParity, MultiTokenPredictionGivesTheStepOfOneRank) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  for (const char* recompute : {"NONE", "LAYER"}) {
    const std::string change = std::string("runtime { precision: FLOAT64 } optimizer { lr: 0 } ") +
                               "model { mtp { depth: 2 } } train { recompute: " + recompute + " } ";
    Session whole(run_config(corpus, invariant_balance(true), change), alone);
    EXPECT_EQ(whole.engine().model().moe_layers().size(), 4u);
    for (const int ep : expert_parallel_sizes(whole.run())) {
      const Mesh mesh = mesh_of(ep);
      for (const std::string& micro : {std::string(), several_micro_batches()}) {
        SCOPED_TRACE("EP " + std::to_string(ep) + ", " + micro);
        Session part(run_config(corpus, invariant_balance(true), change + micro), mesh);
        expect_same_step(part, whole, kFloat64Tolerance);
        const StepMetrics metrics = part.trainer().gradients(false);
        ASSERT_EQ(metrics.mtp_losses.size(), 2u);
        EXPECT_GT(metrics.mtp_losses[1], 1.0);
        EXPECT_GT(metrics.mtp_loss, 0.0);
        std::int64_t choices = 0;
        for (const std::int64_t n : metrics.layers.back().counts) choices += n;
        EXPECT_EQ(choices, kGlobalBatch * (9 - 2) * 2);
      }
    }
  }
}

// Eight bits of mantissa, 2^-9 of rounding error in every operand: near float32, and not equal to
// it.
TEST(TrainerParity, Bf16IsNearFloat32) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const std::string path = corpus.folder / "bf16.routing";
  const auto run = [&](const char* type, const char* mode) {
    return run_config(corpus, invariant_balance(true),
                      std::string("runtime { precision: ") + type + " } train { routing { " + mode +
                          ": '" + path + std::to_string(world().rank()) + "' } } ");
  };
  Session full(run("FLOAT32", "record"), alone);
  const StepMetrics expected = full.trainer().gradients(false);
  Session rounded(run("BF16", "replay"), alone);
  const StepMetrics metrics = rounded.trainer().gradients(false);
  EXPECT_NE(metrics.loss, expected.loss);
  expect_near("loss", metrics.loss, expected.loss, 5e-3);
  expect_gradients_near(rounded, full, 5e-2);
}

// With products in bfloat16 the experts' operands are stored in it, unless experts have biases,
// here all zero: rounding where a value is written gives the bits of rounding it wherever it is
// read.
TEST(TrainerParity, OperandsStoredInBfloat16GiveTheBitsOfThoseInFloat32) {
  const Corpus corpus;
  const std::string bf16 = "runtime { precision: BF16 } ";
  for (const std::string& change :
       {std::string(), std::string("train { recompute: MOE_ACTIVATION } "),
        std::string("train { recompute: MOE_LAYER } parallel { exchange { chunks: 3 } } "),
        std::string("train { recompute: LAYER } model { moe { expert_kind: GELU } } "),
        std::string("parallel { exchange { max_rows: 40 } } "),
        std::string("model { moe { capacity { factor: 1.5 pad_to_capacity: true } } } "
                    "parallel { exchange { rows: PER_CHOICE } } ")}) {
    const configs::RunConfig run = run_config(corpus, invariant_balance(true), bf16 + change);
    for (const int ep : expert_parallel_sizes(run)) {
      SCOPED_TRACE("EP " + std::to_string(ep) + ", " + change);
      const Mesh mesh = mesh_of(ep);
      Session rounded(run, mesh);
      Session full(run_config(corpus, invariant_balance(true),
                              bf16 + change + "model { moe { expert_bias_terms: true } } "),
                   mesh);
      EXPECT_EQ(rounded.trainer().gradients(false).loss, full.trainer().gradients(false).loss);
      const ParamTable& table = rounded.engine().table();
      for (int id = 0; id < table.size(); ++id) {
        if (!table[id].trained()) continue;
        const std::string& name = table[id].name;
        expect_norm_near(name, rounded.engine().params().grad(id),
                         full.engine().params().grad(name), 0.0);
      }
    }
  }
}

// However the rows travel, and in however many parts.
TEST(TrainerParity, EveryExchangeGivesTheStepOfOneRank) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const std::string change = "runtime { precision: FLOAT64 } optimizer { lr: 0 } ";
  Session whole(run_config(corpus, invariant_balance(true), change), alone);
  whole.trainer().step(false);
  const Mesh mesh = mesh_of(expert_parallel_sizes(whole.run()).back());
  for (const char* transport : {"SHARED_WINDOWS", "ALL_TO_ALL"}) {
    for (const char* rows : {"PER_RANK", "PER_CHOICE"}) {
      for (const char* chunks : {"1", "3"}) {
        // Chunks also where dispatch and experts are done again.
        const char* recompute = *chunks == '3' ? "MOE_LAYER" : "NONE";
        const std::string exchange = std::string("parallel { exchange { transport: ") + transport +
                                     " rows: " + rows + " chunks: " + chunks +
                                     " } } train { recompute: " + recompute + " } ";
        SCOPED_TRACE(exchange);
        Session part(run_config(corpus, invariant_balance(true), change + exchange), mesh);
        part.trainer().step(false);
        expect_same_step(part, whole, kFloat64Tolerance);
      }
    }
  }
}

// What the gradients are of: the loss and the balancing losses that the step reports, each divided
// by its own count. Only a router sees all of them.
TEST(TrainerParity, GradientsAreThoseOfTheReportedLosses) {
  const Corpus corpus;
  const configs::RunConfig run =
      run_config(corpus, invariant_balance(true), "runtime { precision: FLOAT64 } ");
  const Mesh mesh = mesh_of(expert_parallel_sizes(run).back());
  Session session(run, mesh);
  const auto loss = [&] {
    const StepMetrics metrics = session.trainer().gradients(false);
    return metrics.loss + metrics.router_loss;
  };
  const StepMetrics metrics = session.trainer().gradients(false);
  EXPECT_GT(metrics.router_loss, 0.1 * metrics.loss);
  for (const char* name : {"layers.1.moe.router.weight", "layers.2.moe.router.weight"}) {
    const TensorView value = session.value(name);
    const TensorView grad = session.engine().params().grad(name);
    const std::vector<double> gradient(grad.as<double>(), grad.as<double>() + grad.size());
    for (const std::int64_t at : {std::int64_t{0}, value.size() - 1}) {
      constexpr double kStep = 1e-5;
      double* element = value.as<double>() + at;
      const double before = *element;
      *element = before + kStep;
      const double above = loss();
      *element = before - kStep;
      const double below = loss();
      *element = before;
      const double numeric = (above - below) / (2.0 * kStep);
      const double by_hand =
          gradient[static_cast<std::size_t>(at)] / session.trainer().loss_tokens();
      EXPECT_NEAR(by_hand, numeric, 1e-8) << name << "[" << at << "]";
      EXPECT_GT(std::abs(numeric), 1e-5) << name << "[" << at << "] says nothing";
    }
  }
}

// The definition contains the micro-batch: the same partition on one rank.
TEST(TrainerParity, MicroBatchScopeDependsOnThePartitionOnly) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const char* balance = "balance { switch_aux { coefficient: 0.4 scope: MICRO_BATCH } }";
  const std::string one =
      "train { micro_batch: " + std::to_string(kGlobalBatch / world().size()) + " } ";
  for (const std::string& micro : {one, several_micro_batches()}) {
    const configs::RunConfig run =
        run_config(corpus, balance, "runtime { precision: FLOAT64 } " + micro);
    Session whole(run, alone);
    for (const int ep : expert_parallel_sizes(run)) {
      SCOPED_TRACE("EP " + std::to_string(ep) + ", " + micro);
      const Mesh mesh = mesh_of(ep);
      Session part(run, mesh);
      expect_same_step(part, whole, kFloat64Tolerance);
    }
  }
}

TEST(TrainerParity, EveryRecomputeGivesTheStepOfOneRank) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const configs::RunConfig run =
      run_config(corpus, invariant_balance(true), "runtime { precision: FLOAT64 } ");
  Session whole(run, alone);
  const Mesh mesh = mesh_of(expert_parallel_sizes(run).back());
  for (const char* recompute : {"MOE_ACTIVATION", "MOE_LAYER", "LAYER"}) {
    SCOPED_TRACE(recompute);
    Session part(run_config(corpus, invariant_balance(true),
                            "runtime { precision: FLOAT64 } train { recompute: " +
                                std::string(recompute) + " }"),
                 mesh);
    expect_same_step(part, whole, kFloat64Tolerance);
  }
}

// Every token to experts 0 and 1: the other ranks of an expert-parallel group receive nothing.
TEST(TrainerParity, RanksWhoseExpertsGetNoToken) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  for (const Precision& p : kPrecisions) {
    const configs::RunConfig run = run_config(corpus, invariant_balance(true), precision(p));
    const auto collapse = [](Session& session) {
      for (const char* layer : {"1", "2"}) {
        const TensorView bias =
            session.value(std::string("layers.") + layer + ".moe.router.expert_bias");
        dispatch_float(bias.dtype, "bias", [&](auto zero) {
          bias.as<decltype(zero)>()[0] = decltype(zero){9};
          bias.as<decltype(zero)>()[1] = decltype(zero){8};
        });
      }
    };
    Session whole(run, alone);
    collapse(whole);
    for (const int ep : expert_parallel_sizes(run)) {
      SCOPED_TRACE(std::string(p.name) + ", EP " + std::to_string(ep));
      const Mesh mesh = mesh_of(ep);
      Session part(run, mesh);
      collapse(part);
      expect_same_step(part, whole, p.tolerance);
      const StepMetrics metrics = part.trainer().gradients(false);
      for (const LayerMetrics& layer : metrics.layers) {
        EXPECT_EQ(layer.counts[0] + layer.counts[1], kGlobalBatch * 9 * 2);
      }
    }
  }
}

// All sequences on the last rank; the others take part with none.
TEST(TrainerParity, RanksWithoutSequences) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const configs::RunConfig run =
      run_config(corpus, "balance { switch_aux { coefficient: 0.3 scope: SEQUENCE } }",
                 "runtime { precision: FLOAT64 } ");
  Session whole(run, alone);
  for (const int ep : expert_parallel_sizes(run)) {
    SCOPED_TRACE("EP " + std::to_string(ep));
    const Mesh mesh = mesh_of(ep);
    Session part(run, mesh);
    const auto forward_backward = [&](Session& session, std::int64_t sequences) {
      BatchBuffers buffers;
      build_batch(
          run.data(), run.data().seq_len(), kEndOfDocument, sequences, 0,
          [&](std::int64_t i, std::span<std::int32_t> window) {
            return session.stream().train_sample(i, window);
          },
          buffers);
      session.trainer().optimizer().zero_gradients();
      session.engine().model().forward_train(buffers.batch);
      double loss = session.engine().model().backward(buffers.batch, 0.5);
      for (const ParamGroup group : {ParamGroup::kExpert, ParamGroup::kDense}) {
        session.trainer().optimizer().reduce_begin(group);
        session.trainer().optimizer().reduce_end(group);
      }
      session.engine().mesh().world().all_reduce(view_of(&loss, {1}), ReduceOp::kSum).wait();
      return loss;
    };
    const bool last = world().rank() + 1 == world().size();
    const double expected = forward_backward(whole, 5);
    expect_near("loss", forward_backward(part, last ? 5 : 0), expected, kFloat64Tolerance);
    expect_gradients_near(part, whole, kFloat64Tolerance);
  }
}

// Several whole steps: the biases move in the same steps by the same amounts.
TEST(TrainerParity, ExpertBiasesMoveAlike) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  for (const bool exact : {true, false}) {
    const std::string change = "runtime { precision: FLOAT64 } ";
    const configs::RunConfig run =
        run_config(corpus, invariant_balance(exact), change + "optimizer { zero1: true }");
    std::vector<std::vector<double>> biases;
    std::vector<double> losses;
    const auto bias_of = [](Session& session) {
      const TensorView bias = session.value("layers.2.moe.router.expert_bias");
      return std::vector<double>(bias.as<double>(), bias.as<double>() + bias.size());
    };
    Session whole(run, alone);
    for (int step = 0; step < 4; ++step) {
      losses.push_back(whole.trainer().step(false).loss);
      biases.push_back(bias_of(whole));
    }
    EXPECT_EQ(biases[0], biases[1]);
    EXPECT_NE(biases[1], biases[2]);
    EXPECT_EQ(biases[3], biases[2]);
    for (const int ep : expert_parallel_sizes(run)) {
      SCOPED_TRACE("EP " + std::to_string(ep));
      const Mesh mesh = mesh_of(ep);
      const configs::RunConfig accumulated =
          run_config(corpus, invariant_balance(exact),
                     change + "optimizer { zero1: true }" + several_micro_batches());
      for (const configs::RunConfig& config : {run, accumulated}) {
        Session part(config, mesh);
        for (std::size_t step = 0; step < losses.size(); ++step) {
          expect_near("loss", part.trainer().step(false).loss, losses[step], 1e-9);
          EXPECT_EQ(bias_of(part), biases[step]) << "after step " << step + 1;
        }
      }
    }
  }
}

TEST(Trainer, AStopAskedOfOneRankIsTheAnswerOnAll) {
  const Corpus corpus;
  const configs::RunConfig run = run_config(corpus, "");
  const Mesh mesh = mesh_of(expert_parallel_sizes(run).back());
  Session session(run, mesh);
  EXPECT_FALSE(session.trainer().step(false).stop);
  EXPECT_TRUE(session.trainer().step(world().rank() + 1 == world().size()).stop);
}

// One NaN in one expert of one rank: every rank sees it, and nothing is changed by the step.
TEST(Trainer, ANonfiniteLossChangesNothing) {
  const Corpus corpus;
  const configs::RunConfig run = run_config(corpus, invariant_balance(false));
  const Mesh mesh = mesh_of(expert_parallel_sizes(run).back());
  Session session(run, mesh);
  Session untouched(run, mesh);
  session.trainer().step(false);
  untouched.trainer().step(false);
  const TensorView down = session.value("layers.1.moe.experts.down");
  const bool holds_expert_0 = session.engine().params().layout().first_expert == 0;
  const float before = down.as<float>()[0];
  if (holds_expert_0) down.as<float>()[0] = std::nanf("");
  const StepMetrics metrics = session.trainer().step(false);
  EXPECT_EQ(metrics.nonfinite, "loss");
  EXPECT_TRUE(metrics.skipped);
  if (holds_expert_0) down.as<float>()[0] = before;
  expect_same_values(session, untouched);
  EXPECT_EQ(session.trainer().state().counts, untouched.trainer().state().counts);
  EXPECT_TRUE(session.trainer().step(false).nonfinite.empty());
}

}  // namespace
}  // namespace witan::test
