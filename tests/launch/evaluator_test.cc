// Evaluation: every position of the validation data once, whatever the ranks and the micro-batch.
#include "launch/evaluator.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "launch/data/batch_builder.h"
#include "tests/launch/trainer_case.h"

namespace witan::test {
namespace {

configs::RunConfig eval_config(const Corpus& corpus) {
  return run_config(corpus, "",
                    "data { validation_share: 0.2 } runtime { precision: FLOAT64 }"
                    "data { reset_at_document: false mask_document_start: false }");
}

struct Expected {
  std::int64_t tokens = 0;
  double loss_sum = 0.0;
};

// One window after the other, on one rank.
Expected window_by_window(const configs::RunConfig& run, int set) {
  const Mesh alone = Mesh::self();
  Session session(run, alone);
  Expected expected;
  BatchBuffers buffers;
  std::vector<double> losses(static_cast<std::size_t>(run.data().seq_len()));
  for (std::int64_t n = 0; n < session.stream().validation_windows(set); ++n) {
    build_batch(
        run.data(), run.data().seq_len(), kEndOfDocument, 1, 0,
        [&](std::int64_t, std::span<std::int32_t> window) {
          return session.stream().validation_sample(set, n, window);
        },
        buffers);
    session.engine().model().forward(buffers.batch);
    session.engine().model().losses(buffers.batch, view_of(losses.data(), {run.data().seq_len()}));
    expected.loss_sum += std::accumulate(losses.begin(), losses.end(), 0.0);
    expected.tokens += buffers.batch.loss_tokens;
  }
  return expected;
}

TEST(Evaluator, EveryPositionOnceAtAnyRanksAndMicroBatch) {
  const Corpus corpus;
  const configs::RunConfig run = eval_config(corpus);
  const std::vector<Expected> expected = {window_by_window(run, 0), window_by_window(run, 1)};
  for (const int ep : expert_parallel_sizes(run)) {
    const Mesh mesh = mesh_of(ep);
    Session session(run, mesh);
    for (const std::int64_t micro_batch : {2, 5, 64}) {
      SCOPED_TRACE("EP " + std::to_string(ep) + ", micro-batch " + std::to_string(micro_batch));
      const std::vector<EvalResult> results = evaluate(
          session.engine(), session.stream(), run.data(), micro_batch, 0, nullptr, kEndOfDocument);
      ASSERT_EQ(results.size(), 2u);
      EXPECT_EQ(results[0].name, "a");
      EXPECT_EQ(results[1].name, "b");
      for (int set = 0; set < 2; ++set) {
        const EvalResult& result = results[static_cast<std::size_t>(set)];
        const Expected& want = expected[static_cast<std::size_t>(set)];
        EXPECT_EQ(result.tokens, session.stream().validation_tokens(set));
        EXPECT_EQ(result.tokens, want.tokens);
        EXPECT_NE(result.tokens % run.data().seq_len(), 0) << "the last window should be short";
        expect_near("loss", result.loss, want.loss_sum / static_cast<double>(want.tokens), 1e-12);
        EXPECT_EQ(result.bytes, 0);
        ASSERT_EQ(result.layers.size(), 2u);
      }
    }
  }
}

TEST(Evaluator, AtMostSoManyWindows) {
  const Corpus corpus;
  const configs::RunConfig run = eval_config(corpus);
  const Mesh mesh = mesh_of(1);
  Session session(run, mesh);
  const std::vector<EvalResult> results =
      evaluate(session.engine(), session.stream(), run.data(), 2, 3, nullptr, kEndOfDocument);
  for (const EvalResult& result : results) EXPECT_EQ(result.tokens, 3 * run.data().seq_len());
}

// An evaluation between two steps leaves no trace in the training.
TEST(Evaluator, LeavesTheTrainingAlone) {
  const Corpus corpus;
  const configs::RunConfig run =
      run_config(corpus, invariant_balance(false), "data { validation_share: 0.2 }");
  const Mesh mesh = mesh_of(expert_parallel_sizes(run).back());
  Session with(run, mesh);
  Session without(run, mesh);
  for (int step = 0; step < 2; ++step) {
    const StepMetrics a = with.trainer().step(false);
    const StepMetrics b = without.trainer().step(false);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.router_loss, b.router_loss);
    EXPECT_EQ(a.layers[0].counts, b.layers[0].counts);
    evaluate(with.engine(), with.stream(), run.data(), 3, 0, nullptr, kEndOfDocument);
  }
  expect_same_values(with, without);
}

}  // namespace
}  // namespace witan::test
