#include "launch/bench/layer_bench.h"

#include "launch/bench/layer_run.h"
#include "launch/bench/peak_probe.h"
#include "launch/bench/stopwatch.h"

namespace witan {
namespace {

constexpr const char* kForward = "forward";
constexpr const char* kBackward = "backward";

int expert_parallel_of(const LayerShape& shape, int ranks) {
  configs::RunConfig run;
  *run.mutable_model() = shape.model;
  return resolve_expert_parallel(run, ranks);
}

}  // namespace

std::vector<BenchResult> bench_layer(const BenchSession& session, const LayerShape& shape) {
  Communicator& world = session.world;
  const Mesh mesh(session.mpi, expert_parallel_of(shape, world.size()), 0.0);
  LayerRun run(shape, mesh, session.runtime, {shape.experts(), shape.top_k()});
  PeakProbe peak(session);
  run.forward();
  run.backward();

  Stopwatch stopwatch(world);
  for (int i = 0; i < session.repeat; ++i) {
    peak.sample(stopwatch);
    stopwatch.time(kForward, [&] { run.forward(); });
    stopwatch.time(kBackward, [&] { run.backward(); });
  }

  const std::string subject = detail::concat(shape.name(), ", ", name_of(session.runtime.dtype),
                                             ", EP ", mesh.expert_parallel());
  const double limit = peak.gflops(stopwatch);
  std::vector<BenchResult> results = peak.results(stopwatch, "layer", subject);
  const auto add = [&](const char* what, const Spread& seconds, double flop, double bytes) {
    BenchResult result{"layer", subject, what, seconds};
    result.flop = sum_over_ranks(world, flop);
    result.bytes = sum_over_ranks(world, bytes);
    result.ratios.push_back({"of peak", result.gflops() / limit});
    results.push_back(std::move(result));
  };
  add(kForward, stopwatch.seconds(kForward), run.forward_flop(), run.forward_bytes());
  add(kBackward, stopwatch.seconds(kBackward), run.backward_flop(), run.backward_bytes());
  add("forward + backward", stopwatch.seconds_of_sum({kForward, kBackward}),
      run.forward_flop() + run.backward_flop(), run.forward_bytes() + run.backward_bytes());
  results.back().ratios.back().bar = shape.bar;
  return results;
}

}  // namespace witan
