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
constexpr const char* kFma = "peak: multiply-adds";

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
    Gemm{"peak: own kernel, NT", ops::GemmChoice::kOwn, true},
    Gemm{"peak: own kernel, NN", ops::GemmChoice::kOwn, false},
    Gemm{"peak: oneDNN, NT", ops::GemmChoice::kOneDnn, true},
    Gemm{"peak: oneDNN, NN", ops::GemmChoice::kOneDnn, false},
};

}  // namespace

PeakProbe::PeakProbe(const BenchSession& session) : world_(session.world) {
  const std::int64_t threads = ops::available_threads();
  for (std::int64_t t = 0; t <= threads; ++t) offsets_.push_back(t * kRows);
  x_ = Tensor::zeros({threads * kRows, kK}, DType::kFloat32);
  w_ = Tensor::zeros({threads, kN, kK}, DType::kFloat32);
  y_ = Tensor::zeros({threads * kRows, kN}, DType::kFloat32);
  Stopwatch warm_up(world_);
  sample(warm_up);
  fma_flop_ = sum_over_ranks(world_, ops::run_multiply_adds(kRounds));
  gemm_flop_ = sum_over_ranks(world_, 2.0 * static_cast<double>(threads * kRows * kN * kK));
}

void PeakProbe::sample(Stopwatch& stopwatch) {
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
  results.push_back({section, subject, kFma, stopwatch.seconds(kFma), fma_flop_});
  for (const Gemm& gemm : kGemms) {
    results.push_back({section, subject, gemm.name, stopwatch.seconds(gemm.name), gemm_flop_});
  }
  return results;
}

double PeakProbe::gflops(const Stopwatch& stopwatch) const {
  double peak = 0.0;
  for (const BenchResult& result : results(stopwatch, "", "")) {
    peak = std::max(peak, result.gflops());
  }
  return peak;
}

}  // namespace witan
