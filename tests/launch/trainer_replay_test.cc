// Routing that does not come from the router: recorded and replayed choices, forced balance; the
// loss curves of every mesh with the choices of one rank, which accumulates.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "launch/metrics/load_figures.h"
#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

constexpr int kCurveSteps = 50;

std::string routing(const char* mode, const std::string& path) {
  return std::string("train { routing { ") + mode + ": '" + path + "' } } ";
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// Losses of a run alone on rank 0, recorded to `path`; the same on every rank. Collective.
std::vector<double> record_alone(const configs::RunConfig& run, int steps) {
  std::vector<double> losses(static_cast<std::size_t>(steps), 0.0);
  if (world().rank() == 0) {
    const Mesh alone = Mesh::self();
    Session session(run, alone);
    for (double& loss : losses) loss = session.trainer().step(false).loss;
  }
  world().broadcast(view_of(losses.data(), {steps}), 0).wait();
  return losses;
}

TEST(TrainerReplay, CurvesOfEveryMeshFollowTheRunOfOneRank) {
  const Corpus corpus;
  const std::string path = corpus.folder / "curve.routing";
  const std::vector<double> expected =
      record_alone(run_config(corpus, invariant_balance(false),
                              routing("record", path) + "train { micro_batch: 3 }"),
                   kCurveSteps);
  EXPECT_LT(expected.back(), 0.9 * expected.front()) << "it should learn";
  for (const int ep : expert_parallel_sizes(run_config(corpus, ""))) {
    SCOPED_TRACE("EP " + std::to_string(ep));
    const Mesh mesh = mesh_of(ep);
    Session session(run_config(corpus, invariant_balance(false),
                               routing("replay", path) + "optimizer { zero1: true } " +
                                   several_micro_batches()),
                    mesh);
    for (const double loss : expected) {
      expect_near("loss", session.trainer().step(false).loss, loss, 1e-4);
    }
  }
}

TEST(TrainerReplay, EveryMeshRecordsTheSameFile) {
  const Corpus corpus;
  constexpr int kSteps = 3;
  const char* wide = "runtime { precision: FLOAT64 } ";
  const std::string alone = corpus.folder / "alone.routing";
  record_alone(run_config(corpus, invariant_balance(true), wide + routing("record", alone)),
               kSteps);
  const std::string expected = content_of(alone);
  for (const int ep : expert_parallel_sizes(run_config(corpus, ""))) {
    SCOPED_TRACE("EP " + std::to_string(ep));
    const std::string path = corpus.folder / ("ep" + std::to_string(ep) + ".routing");
    const Mesh mesh = mesh_of(ep);
    Session session(run_config(corpus, invariant_balance(true),
                               wide + routing("record", path) + several_micro_batches()),
                    mesh);
    for (int step = 0; step < kSteps; ++step) session.trainer().step(false);
    world().barrier();
    EXPECT_EQ(content_of(path) == expected, true) << path;
  }
}

TEST(TrainerReplay, AFileOfAnotherShapeIsRefused) {
  const Corpus corpus;
  const std::string path = corpus.folder / "two.routing";
  record_alone(run_config(corpus, "", routing("record", path)), 2);
  const Mesh mesh = mesh_of(1);
  const std::string replay = routing("replay", path);
  try {
    Session session(run_config(corpus, "", replay + "model { moe { experts: 24 } }"), mesh);
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("train.routing.replay: " + path), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("\"experts\":24"), std::string::npos) << error.what();
  }
  Session session(run_config(corpus, "", replay), mesh);
  session.trainer().step(false);
  session.trainer().step(false);
  try {
    session.trainer().step(false);
    FAIL() << "expected a UserError: only two steps were recorded";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("step 3"), std::string::npos) << error.what();
  }
}

TEST(TrainerReplay, AResumedRunGoesOnInItsRecording) {
  const Corpus corpus;
  const std::string path = corpus.folder / "resumed.routing";
  const Mesh mesh = mesh_of(1);
  const auto record = run_config(corpus, "", routing("record", path));
  const auto run_from = [&](std::int64_t first, int steps) {
    Session session(record, mesh);
    TrainState state;
    state.step = first;
    session.trainer().restore(state);
    for (int step = 0; step < steps; ++step) session.trainer().step(false);
    world().barrier();
  };
  run_from(0, 3);
  const std::string three = content_of(path);
  const std::size_t bytes_per_step = (three.size() - 4096) / 3;
  world().barrier();
  run_from(2, 2);
  const std::string four = content_of(path);
  EXPECT_EQ(four.size(), three.size() + bytes_per_step);
  const std::size_t kept = 4096 + 2 * bytes_per_step;
  EXPECT_EQ(four.substr(0, kept) == three.substr(0, kept), true);
  world().barrier();
  run_from(0, 1);
  EXPECT_EQ(content_of(path).size(), 4096 + bytes_per_step) << "a new run begins anew";
}

TEST(TrainerReplay, ARecordingDoesNotOverwriteAnotherFile) {
  const Corpus corpus;
  const std::string path = corpus.folder / "notes.txt";
  if (world().rank() == 0) std::ofstream(path) << "mine";
  world().barrier();
  const Mesh alone = Mesh::self();
  EXPECT_THROW(Session(run_config(corpus, "", routing("record", path)), alone), UserError);
  EXPECT_EQ(content_of(path), "mine");
}

TEST(ForcedBalance, EveryExpertGetsTheSame) {
  const Corpus corpus;
  for (const int ep : expert_parallel_sizes(run_config(corpus, ""))) {
    const Mesh mesh = mesh_of(ep);
    Session session(
        run_config(corpus, invariant_balance(true),
                   several_micro_batches() + "train { routing { force_balanced: true } }"),
        mesh);
    for (int step = 0; step < 2; ++step) {
      for (const LayerMetrics& layer : session.trainer().step(false).layers) {
        const LoadFigures figures = load_figures(layer.counts, ep);
        EXPECT_EQ(figures.max_vio, 0.0);
        EXPECT_EQ(figures.rank_max_vio, 0.0);
        EXPECT_EQ(figures.dead, 0);
      }
    }
  }
}

}  // namespace
}  // namespace witan::test
