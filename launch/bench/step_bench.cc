#include "launch/bench/step_bench.h"

#include "launch/bench/peak_probe.h"
#include "launch/bench/phase_times.h"
#include "launch/bench/step_run.h"

namespace witan {
namespace {
constexpr const char* kSection = "step";
constexpr const char* kStep = "step";
}  // namespace

std::vector<BenchResult> bench_step(const BenchSession& session, const StepShape& shape) {
  const int ranks = session.world.size();
  const Mesh mesh = session.mesh(resolve_expert_parallel(shape.run, ranks));
  StepRun run(shape.run, mesh, session.runtime);
  PeakProbe peak(session);
  Stopwatch stopwatch = session.stopwatch();
  PhaseTimes phases;
  run.step();
  for (int turn = 0; turn < session.repeat; ++turn) {
    peak.sample(stopwatch);
    stopwatch.time(kStep, [&] { run.step(); });
    // Of what a GPU does they would show the enqueuing.
    if (!session.on_cuda()) phases.record([&] { run.step(); });
  }

  const std::string subject =
      detail::concat(shape.name, ", ", session.precision(), ", EP ", mesh.expert_parallel());
  std::vector<BenchResult> results{peak.peak(stopwatch, kSection, subject)};
  const double limit = results.front().gflops();
  BenchResult step{kSection, subject, kStep, stopwatch.seconds(kStep)};
  step.flop = run.flop();
  step.bytes = sum_over_ranks(session.world, run.bytes());
  step.ratios.push_back({"of peak", step.gflops() / limit});
  step.tokens = static_cast<double>(run.tokens());
  results.push_back(step);
  for (const PhaseTimes::Phase& phase : phases.phases()) {
    results.push_back({kSection, subject, "phase: " + phase.name, phase.seconds});
    results.back().ratios.push_back({"of the phases", phase.share});
  }
  return results;
}

}  // namespace witan
