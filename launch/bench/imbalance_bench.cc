#include "launch/bench/imbalance_bench.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "launch/bench/layer_run.h"
#include "launch/bench/step_run.h"

namespace witan {
namespace {

constexpr const char* kSection = "imbalance";
constexpr const char* kLayer = "one MoE layer by itself";
constexpr double kBar = 1.15;

struct Case {
  std::string what;
  ForcedLoad::Load load;
  double busiest = 1.0;  // rows of the busiest rank over the mean
};

double busiest_rank(const ForcedLoad::Load& load, int ranks) {
  const std::vector<double> shares = expert_shares(load);
  const auto local = static_cast<std::ptrdiff_t>(load.experts / ranks);
  double busiest = 0.0;
  for (auto part = shares.begin(); part != shares.end(); part += local) {
    busiest = std::max(busiest, std::accumulate(part, part + local, 0.0));
  }
  return busiest * ranks;
}

std::vector<Case> cases_of(const LayerShape& shape, int ranks) {
  const std::int64_t experts = shape.experts();
  const auto most = static_cast<double>(experts) / static_cast<double>(shape.top_k());
  std::vector<Case> cases;
  const auto add = [&](double max_vio, std::int64_t hot) {
    Case added{detail::concat("MaxVio ", max_vio,
                              hot == 1 ? ", one hot expert"
                                       : detail::concat(", ", hot, " hot experts on rank 0")),
               {experts, shape.top_k(), max_vio, hot}};
    added.busiest = busiest_rank(added.load, ranks);
    cases.push_back(added);
  };
  cases.push_back({"MaxVio 0", {experts, shape.top_k()}, 1.0});
  for (const double max_vio : {1.0, 4.0}) {
    if (1.0 + max_vio > most) continue;
    add(max_vio, 1);
    // All of the load on the hottest experts, as far as rank 0 holds them.
    const auto together = static_cast<std::int64_t>(static_cast<double>(experts) / (1.0 + max_vio));
    const std::int64_t hot = std::min(together, experts / ranks);
    if (ranks > 1 && hot > 1) add(max_vio, hot);
  }
  return cases;
}

std::string subject_of(const std::string& name, const BenchSession& session, const Mesh& mesh) {
  return detail::concat(name, ", ", session.precision(), ", EP ", mesh.expert_parallel());
}

Ratio against_bound(const Case& each, double seconds, double bound) {
  return {detail::concat("of the bound with ", each.busiest, " x the rows on the busiest rank"),
          seconds / bound, kBar, true};
}

}  // namespace

std::vector<BenchResult> bench_imbalance(const BenchSession& session, const LayerShape& shape) {
  const Mesh mesh(session.mpi, expert_parallel_of(shape, session.world.size()), 0.0);
  const std::vector<Case> cases = cases_of(shape, mesh.expert_parallel());
  std::vector<std::unique_ptr<LayerRun>> runs;
  for (const Case& each : cases) {
    runs.push_back(std::make_unique<LayerRun>(shape, mesh, session.runtime, each.load));
  }
  Stopwatch stopwatch = session.stopwatch();
  for (int turn = -1; turn < session.repeat; ++turn) {
    if (turn == 0) stopwatch = session.stopwatch();  // the first one warmed up
    for (std::size_t i = 0; i < cases.size(); ++i) {
      stopwatch.time(cases[i].what, [&] { runs[i]->forward_backward(); });
    }
  }

  const double balanced = stopwatch.seconds(cases.front().what).median;
  std::vector<BenchResult> results;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& each = cases[i];
    BenchResult result{kSection, subject_of(shape.name(), session, mesh), each.what,
                       stopwatch.seconds(each.what)};
    result.flop = sum_over_ranks(session.world, runs[i]->forward_flop() + runs[i]->backward_flop());
    if (i > 0) {
      result.ratios.push_back(against_bound(each, result.seconds.median, balanced * each.busiest));
    }
    results.push_back(std::move(result));
  }
  return results;
}

std::vector<BenchResult> bench_step_imbalance(const BenchSession& session, const StepShape& shape) {
  const int ranks = session.world.size();
  const std::optional<LayerShape> layer = layer_of(shape.run, ranks);
  if (!layer) return {};
  const Mesh mesh(session.mpi, expert_parallel_of(*layer, ranks), 0.0);
  const std::vector<Case> cases = cases_of(*layer, mesh.expert_parallel());
  StepRun step(shape.run, mesh, session.runtime);
  LayerRun one_layer(*layer, mesh, session.runtime, cases.front().load);
  Stopwatch stopwatch = session.stopwatch();
  for (int turn = -1; turn < session.repeat; ++turn) {
    if (turn == 0) stopwatch = session.stopwatch();  // the first one warmed up
    for (const Case& each : cases) {
      step.force_load(each.load);
      stopwatch.time(each.what, [&] { step.step(); });
    }
    stopwatch.time(kLayer, [&] { one_layer.forward_backward(); });
  }

  const Spread one = stopwatch.seconds(kLayer);
  const double micro_batches =
      static_cast<double>(step.tokens()) / static_cast<double>(layer->tokens);
  const double layers = one.median * ModelDims(shape.run.model()).moe_layers() * micro_batches;
  const double balanced = stopwatch.seconds(cases.front().what).median;
  const std::string subject = subject_of("step, " + shape.name, session, mesh);
  std::vector<BenchResult> results{{kSection, subject, kLayer, one}};
  for (const Case& each : cases) {
    BenchResult result{kSection, subject, each.what, stopwatch.seconds(each.what)};
    result.tokens = static_cast<double>(step.tokens());
    if (&each != &cases.front()) {
      result.ratios.push_back(
          against_bound(each, result.seconds.median, balanced + (each.busiest - 1.0) * layers));
    }
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace witan
