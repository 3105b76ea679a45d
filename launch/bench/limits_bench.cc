#include "launch/bench/limits_bench.h"

#include <cmath>
#include <span>

#include "core/ops/limits.h"
#include "core/ops/parallel.h"
#include "core/tensor/tensor.h"
#include "launch/bench/device_limits.h"
#include "launch/bench/memory_levels.h"
#include "launch/bench/peak_probe.h"
#include "launch/bench/stopwatch.h"
#include "launch/bench/transfer_limits.h"

namespace witan {
namespace {

constexpr const char* kSection = "limits";
constexpr double kBytesPerTurn = 256e6;  // of one thread: some milliseconds in a cache

struct Level {
  std::string what;
  std::int64_t floats = 0;  // of this rank
  std::int64_t times = 1;
};

std::vector<Level> levels_of(int rank_threads, int machine_threads) {
  std::vector<Level> levels;
  for (const MemoryLevel& level : memory_levels(machine_threads)) {
    const double turns = kBytesPerTurn / static_cast<double>(level.bytes_per_thread);
    levels.push_back(
        {detail::concat("read ", level.name, ", ", level.bytes_per_thread / 1024, " KiB a thread"),
         level.bytes_per_thread / 4 * rank_threads,
         std::max<std::int64_t>(1, std::llround(turns))});
  }
  return levels;
}

// What multiplies bfloat16, and for how long: some milliseconds.
struct Unit {
  const char* what;
  CpuBf16 unit;
  std::int64_t rounds;
};

std::vector<Unit> bf16_units() {
  std::vector<Unit> units;
  if (best_cpu_bf16() >= CpuBf16::kDot) {
    units.push_back({"vdpbf16ps", CpuBf16::kDot, 500'000});
  }
  if (best_cpu_bf16() >= CpuBf16::kAmx) units.push_back({"AMX bf16", CpuBf16::kAmx, 100'000});
  return units;
}

}  // namespace

std::vector<BenchResult> bench_limits(const BenchSession& session) {
  if (session.on_cuda()) return bench_device_limits(session);
  const int threads = ops::available_threads();
  const std::vector<Level> levels = levels_of(threads, threads * session.mpi.local_size());
  const Tensor memory = Tensor::zeros({levels.back().floats}, DType::kFloat32);
  const auto read = [&](const Level& level) {
    ops::read_memory({memory.as<float>(), static_cast<std::size_t>(level.floats)}, level.times);
  };
  for (const Level& level : levels) read(level);

  const std::vector<Unit> units = bf16_units();
  PeakProbe peak(session);
  Stopwatch stopwatch = session.stopwatch();
  for (int i = 0; i < session.repeat; ++i) {
    peak.sample(stopwatch);
    for (const Unit& unit : units) {
      stopwatch.time(unit.what, [&] { ops::run_bf16_products(unit.unit, unit.rounds); });
    }
    for (const Level& level : levels) stopwatch.time(level.what, [&] { read(level); });
  }

  const std::string subject =
      detail::concat(session.world.size(), " ranks with ", threads, " threads");
  std::vector<BenchResult> results = peak.results(stopwatch, kSection, subject);
  for (const Unit& unit : units) {
    BenchResult result{kSection, subject, unit.what, stopwatch.seconds(unit.what)};
    result.flop = sum_over_ranks(session.world, ops::run_bf16_products(unit.unit, unit.rounds));
    results.push_back(std::move(result));
  }
  for (const Level& level : levels) {
    BenchResult result{kSection, subject, level.what, stopwatch.seconds(level.what)};
    result.bytes =
        sum_over_ranks(session.world, 4.0 * static_cast<double>(level.floats * level.times));
    results.push_back(std::move(result));
  }
  const std::vector<BenchResult> transfers = bench_transfers(session);
  results.insert(results.end(), transfers.begin(), transfers.end());
  return results;
}

}  // namespace witan
