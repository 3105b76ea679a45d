#include "launch/bench/layer_bench.h"

#include <memory>
#include <optional>

#include "core/base/cpu_isa.h"
#include "launch/bench/layer_run.h"
#include "launch/bench/peak_probe.h"
#include "launch/bench/phase_times.h"

namespace witan {
namespace {

constexpr const char* kSection = "layer";
constexpr const char* kForward = "forward";
constexpr const char* kBackward = "backward";
constexpr const char* kBoth = "forward + backward";
constexpr const char* kFull = "the same in float32";
constexpr const char* kEvaluation = "forward where nothing trains";
constexpr const char* kAlone = "one rank, all threads";

class LayerBench {
 public:
  LayerBench(const BenchSession& session, const LayerShape& shape)
      : session_(session),
        shape_(shape),
        mesh_(session.mesh(expert_parallel_of(shape, session.world.size()))),
        alone_mesh_(Mesh::self()),
        peak_(session),
        run_(shape, mesh_, session.runtime, {shape.experts(), shape.top_k()}),
        stopwatch_(session.stopwatch()) {
    if (session.in_bf16()) {
      full_.emplace(shape, mesh_, full_precision(session.runtime), run_.load());
      // Reads weights that were rounded once; training on a CPU rounds them as it reads them.
      if (!session.on_cuda()) {
        evaluation_.emplace(shape, mesh_, session.runtime, run_.load(), false);
      }
    }
    if (mesh_.world_size() > 1 && session.leader_may_take_all()) {
      compare_alone_ = true;
      if (session.leader()) alone_.emplace(shape, alone_mesh_, session.runtime, run_.load());
    }
  }

  std::vector<BenchResult> operator()() {
    for (int turn = -1; turn < session_.repeat; ++turn) {
      peak_.sample(stopwatch_);
      stopwatch_.time(kForward, [&] { run_.forward(); });
      stopwatch_.time(kBackward, [&] { run_.backward(); });
      if (full_) time_full();
      if (evaluation_) stopwatch_.time(kEvaluation, [&] { evaluation_->forward(); });
      if (compare_alone_) time_alone();
      session_.world.barrier();  // a rank that wakes up late would show as a wait
      // Of what a GPU does they would show the enqueuing.
      if (!session_.on_cuda()) phases_.record([&] { run_.forward_backward(); });
      if (turn < 0) forget_warm_up();
    }
    return results();
  }

 private:
  void time_full() {
    stopwatch_.time(kFull, [&] { full_->forward_backward(); });
  }

  void time_alone() {
    stopwatch_.time_alone(kAlone, session_.all_threads(), session_.raw_mpi,
                          [&] { alone_->forward_backward(); });
  }

  void forget_warm_up() {
    stopwatch_ = session_.stopwatch();
    phases_ = {};
  }

  BenchResult result(const std::string& what, const Spread& seconds, double flop, double bytes) {
    BenchResult result{kSection, subject(), what, seconds};
    result.flop = sum_over_ranks(session_.world, flop);
    result.bytes = sum_over_ranks(session_.world, bytes);
    result.ratios.push_back({"of peak", result.gflops() / peak_gflops_});
    return result;
  }

  std::vector<BenchResult> results() {
    std::vector<BenchResult> results;
    results.push_back(peak_.peak(stopwatch_, kSection, subject()));
    peak_gflops_ = results.back().gflops();
    const double flop = run_.forward_flop() + run_.backward_flop();
    results.push_back(
        result(kForward, stopwatch_.seconds(kForward), run_.forward_flop(), run_.forward_bytes()));
    results.push_back(result(kBackward, stopwatch_.seconds(kBackward), run_.backward_flop(),
                             run_.backward_bytes()));
    const Spread both = stopwatch_.seconds_of_sum({kForward, kBackward});
    BenchResult main = result(kBoth, both, flop, run_.forward_bytes() + run_.backward_bytes());
    if (full_) {
      const Spread full = stopwatch_.seconds(kFull);
      main.ratios.push_back({"against float32", full.median / both.median, bf16_bar()});
      results.push_back(result(kFull, full, flop, 0.0));
      // On GPUs the peak is one of bfloat16 products.
      if (session_.on_cuda()) results.back().ratios.clear();
    } else {
      if (!session_.on_cuda()) main.ratios.back().bar = shape_.bar;
    }
    if (evaluation_) {
      results.push_back(result(kEvaluation, stopwatch_.seconds(kEvaluation), run_.forward_flop(),
                               evaluation_->forward_bytes()));
    }
    if (compare_alone_) {
      const Spread alone = stopwatch_.seconds(kAlone);
      main.ratios.push_back({"of one rank with all threads", alone.median / both.median, 0.9});
      results.push_back(result(kAlone, alone, flop, 0.0));
    }
    results.push_back(std::move(main));
    for (const PhaseTimes::Phase& phase : phases_.phases()) {
      results.push_back({kSection, subject(), "phase: " + phase.name, phase.seconds});
      results.back().ratios.push_back({"of the phases", phase.share});
    }
    return results;
  }

  std::optional<double> bf16_bar() const {
    if (!shape_.bf16_bar || session_.on_cuda()) return std::nullopt;
    return best_cpu_bf16() == CpuBf16::kAmx ? shape_.bf16_bar_amx : shape_.bf16_bar;
  }

  std::string subject() const {
    return detail::concat(shape_.name(), ", ", session_.precision(), ", EP ",
                          mesh_.expert_parallel());
  }

  const BenchSession& session_;
  const LayerShape& shape_;
  Mesh mesh_, alone_mesh_;
  PeakProbe peak_;
  LayerRun run_;
  std::optional<LayerRun> full_;        // where run_ rounds to bfloat16
  std::optional<LayerRun> evaluation_;  // there too, on CPUs
  bool compare_alone_ = false;
  std::optional<LayerRun> alone_;  // rank 0 only
  Stopwatch stopwatch_;
  PhaseTimes phases_;  // of this rank
  double peak_gflops_ = 0.0;
};

}  // namespace

std::vector<BenchResult> bench_layer(const BenchSession& session, const LayerShape& shape) {
  return LayerBench(session, shape)();
}

}  // namespace witan
