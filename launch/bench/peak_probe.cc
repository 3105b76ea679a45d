#include "launch/bench/peak_probe.h"

#include <algorithm>
#include <array>

#include "core/ops/elementwise.h"
#include "core/ops/gemm_kernel.h"
#include "core/ops/grouped_gemm.h"
#include "core/ops/limits.h"
#include "core/ops/parallel.h"

namespace witan {
namespace {

constexpr std::int64_t kRounds = 1'000'000;  // of multiply-adds: some milliseconds
constexpr const char* kFma = "multiply-adds";

// A size at which matrix products are fast on every CPU seen.
constexpr std::int64_t kRows = 512;
constexpr std::int64_t kN = 1024;
constexpr std::int64_t kK = 512;

struct Gemm {
  const char* name;
  ops::GemmChoice kernel;
  bool nt;
};
constexpr std::array kGemms = {
    Gemm{"own kernel, NT", ops::GemmChoice::kOwn, true},
    Gemm{"own kernel, NN", ops::GemmChoice::kOwn, false},
    Gemm{"oneDNN, NT", ops::GemmChoice::kOneDnn, true},
    Gemm{"oneDNN, NN", ops::GemmChoice::kOneDnn, false},
};

}  // namespace

PeakProbe::PeakProbe(const BenchSession& session) : world_(session.world) {
  if (session.on_cuda()) {
    on_device_.emplace(session.runtime.ctx, session.runtime.dtype);
    on_device_->run();
    gemm_flop_ = sum_over_ranks(world_, on_device_->flop());
    return;
  }
  const std::int64_t threads = ops::available_threads();
  for (std::int64_t t = 0; t <= threads; ++t) offsets_.push_back(t * kRows);
  x_ = Tensor::zeros({threads * kRows, kK}, DType::kFloat32);
  w_ = Tensor::zeros({threads, kN, kK}, DType::kFloat32);
  y_ = Tensor::zeros({threads * kRows, kN}, DType::kFloat32);
  Stopwatch warm_up = session.stopwatch();
  sample(warm_up);
  fma_flop_ = sum_over_ranks(world_, ops::run_multiply_adds(kRounds));
  gemm_flop_ = sum_over_ranks(world_, 2.0 * static_cast<double>(threads * kRows * kN * kK));
}

void PeakProbe::sample(Stopwatch& stopwatch) {
  if (on_device_) return stopwatch.time(on_device_->name(), [&] { on_device_->run(); });
  stopwatch.time(kFma, [] { ops::run_multiply_adds(kRounds); });
  const ops::GemmChoice chosen = ops::forced_gemm_kernel();
  for (const Gemm& gemm : kGemms) {
    ops::force_gemm_kernel(gemm.kernel);
    stopwatch.time(gemm.name, [&] {
      if (gemm.nt) {
        ops::grouped_gemm_nt({}, x_, offsets_, w_, y_);
      } else {
        ops::grouped_gemm_nn({}, y_, offsets_, w_, x_);
      }
    });
  }
  ops::force_gemm_kernel(chosen);
}

std::vector<BenchResult> PeakProbe::results(const Stopwatch& stopwatch, const std::string& section,
                                            const std::string& subject) const {
  std::vector<BenchResult> results;
  if (on_device_) {
    const std::string what = on_device_->name();
    return {{section, subject, what, stopwatch.seconds(what), gemm_flop_}};
  }
  results.push_back({section, subject, kFma, stopwatch.seconds(kFma), fma_flop_});
  for (const Gemm& gemm : kGemms) {
    results.push_back({section, subject, gemm.name, stopwatch.seconds(gemm.name), gemm_flop_});
  }
  return results;
}

BenchResult PeakProbe::peak(const Stopwatch& stopwatch, const std::string& section,
                            const std::string& subject) const {
  const std::vector<BenchResult> probes = results(stopwatch, section, subject);
  BenchResult best = *std::max_element(
      probes.begin(), probes.end(),
      [](const BenchResult& a, const BenchResult& b) { return a.gflops() < b.gflops(); });
  best.what = "peak";
  return best;
}

}  // namespace witan
