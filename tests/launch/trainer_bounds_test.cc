// What bounds the rows of the experts without changing a number: padding to capacity, and rounds.
// At 1 to 4 ranks against the same step on one rank without them; the memory bound itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "core/model/rounds.h"
#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

constexpr double kTolerance = 1e-12;  // float64

constexpr const char* kBias = "balance { expert_bias { rate: 0 } }";  // there to be set

// Every token to experts 0 and 1 of every layer.
void collapse(Session& session) {
  for (const char* layer : {"1", "2"}) {
    const TensorView bias =
        session.value(std::string("layers.") + layer + ".moe.router.expert_bias");
    std::fill_n(bias.as<double>(), 2, 9.0);
  }
}

std::string max_rows(std::int64_t rows) {
  return "parallel { exchange { max_rows: " + std::to_string(rows) + " } } ";
}

void expect_same_step(Session& part, Session& whole) {
  const StepMetrics expected = whole.trainer().gradients(false);
  const StepMetrics metrics = part.trainer().gradients(false);
  expect_metrics_near(metrics, expected, kTolerance);
  for (std::size_t i = 0; i < metrics.layers.size(); ++i) {
    EXPECT_EQ(metrics.layers[i].dropped, expected.layers[i].dropped);
  }
  expect_gradients_near(part, whole, kTolerance);
}

TEST(TrainerBounds, RoundsGiveTheStepOfOneRank) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const std::string change = "runtime { precision: FLOAT64 } ";
  const configs::RunConfig run = run_config(corpus, invariant_balance(true), change);
  const std::int64_t pairs = kGlobalBatch * 9 * 2;
  for (const bool collapsed : {false, true}) {
    Session whole(run, alone);
    if (collapsed) collapse(whole);
    for (const int ep : expert_parallel_sizes(run)) {
      const std::int64_t fewest = fewest_max_rows(2, run.model().moe().experts(), ep);
      const Mesh mesh = mesh_of(ep);
      // One token at a time takes long where it is an exchange of its own.
      const std::int64_t few = ep == 1 ? fewest : fewest + pairs / 8;
      for (const std::string& rounds :
           {max_rows(few), max_rows(fewest + pairs / 4) + several_micro_batches() +
                               "train { recompute: LAYER } "}) {
        SCOPED_TRACE((collapsed ? "collapsed, EP " : "EP ") + std::to_string(ep) + ", " + rounds);
        Session part(run_config(corpus, invariant_balance(true), change + rounds), mesh);
        if (collapsed) collapse(part);
        expect_same_step(part, whole);
      }
    }
  }
}

TEST(TrainerBounds, RoundsOverEveryTransport) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const std::string change = "runtime { precision: FLOAT64 } " + max_rows(60);
  Session whole(run_config(corpus, kBias, "runtime { precision: FLOAT64 } "), alone);
  collapse(whole);
  const Mesh mesh = mesh_of(world().size());
  for (const char* transport : {"SHARED_WINDOWS", "ALL_TO_ALL"}) {
    for (const char* rows : {"PER_RANK", "PER_CHOICE"}) {
      SCOPED_TRACE(std::string(transport) + " " + rows);
      Session part(run_config(corpus, kBias,
                              change + "parallel { exchange { transport: " + transport +
                                  " rows: " + rows + " } } "),
                   mesh);
      collapse(part);
      expect_same_step(part, whole);
      EXPECT_GT(part.trainer().gradients(false).layers.front().rounds, 1.0);
    }
  }
}

// What a step takes at most, of what lives within it.
std::size_t activation_bytes(Session& session) {
  session.trainer().step(false);
  const ModelArenas& arenas = session.engine().model().arenas();
  return arenas.saved.bytes_high_water() + arenas.scratch.bytes_high_water() +
         arenas.choice.bytes_high_water();
}

// Wide experts, so that memory is rows of theirs: what a collapsed router needs under a limit is no
// more than what an even one needs without.
TEST(TrainerBounds, MemoryIsBoundedByMaxRows) {
  const Corpus corpus;
  const int ranks = world().size();
  const Mesh mesh = mesh_of(ranks);
  const std::string change =
      "runtime { precision: FLOAT64 } optimizer { lr: 0 } model { moe { d_ff: 300 shared_d_ff: 0 "
      "} } ";
  const auto bytes_of = [&](const std::string& more, bool collapsed) {
    Session session(run_config(corpus, kBias, change + more), mesh);
    if (collapsed) collapse(session);
    return activation_bytes(session);
  };
  const std::int64_t even_rows = kGlobalBatch * 9 * 2 / ranks;
  const std::size_t even = bytes_of("train { routing { force_balanced: true } } ", false);
  const std::size_t limited = bytes_of(max_rows(even_rows), true);
  EXPECT_LE(limited, even);
  const std::size_t quarter = bytes_of(max_rows(std::max<std::int64_t>(even_rows / 4, 16)), true);
  const std::size_t unlimited = bytes_of("", true);
  if (world().rank() > 0) return;  // rank 0 holds experts 0 and 1, the others get nothing
  EXPECT_LT(quarter, limited);
  EXPECT_GT(unlimited, ranks > 1 ? limited : quarter);
  EXPECT_GE(unlimited, even);
}

TEST(TrainerBounds, PaddingGivesTheStepOfTheSameCapacity) {
  const Corpus corpus;
  const Mesh alone = Mesh::self();
  const std::string per_rank =
      "train { micro_batch: " + std::to_string(kGlobalBatch / world().size()) + " } ";
  for (const char* factor : {"0.7", "2"}) {
    const auto change = [&](const char* padding) {
      return std::string(
                 "runtime { precision: FLOAT64 } model { moe { expert_bias_terms: true "
                 "capacity { factor: ") +
             factor + padding + " } } } ";
    };
    Session whole(run_config(corpus, invariant_balance(false), change("") + per_rank), alone);
    const configs::RunConfig run = run_config(
        corpus, invariant_balance(false),
        change(" pad_to_capacity: true") + "parallel { exchange { rows: PER_CHOICE } } ");
    for (const int ep : expert_parallel_sizes(run)) {
      SCOPED_TRACE(std::string(factor) + ", EP " + std::to_string(ep));
      const Mesh mesh = mesh_of(ep);
      Session part(run, mesh);
      expect_same_step(part, whole);
    }
  }
}

}  // namespace
}  // namespace witan::test
