#include "launch/plan/machine.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "core/base/error.h"
#include "launch/bench/report.h"

namespace witan {
namespace {

bool begins(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }

// The figures of the section "limits", of all ranks.
class Limits {
 public:
  Limits(const std::string& path, const BenchReport& report) {
    for (const BenchResult& result : report.results) {
      if (result.section != "limits") continue;
      if (result.what == "multiply-adds") peak = result.gflops();
      const bool product = begins(result.what, "own kernel") || begins(result.what, "oneDNN");
      if (product && result.what.ends_with("NT")) best_nt = std::max(best_nt, result.gflops());
      if (product && result.what.ends_with("NN")) best_nn = std::max(best_nn, result.gflops());
      if (begins(result.what, "read memory")) memory = result.gigabytes_per_second();
      if (result.what == "vdpbf16ps" || result.what == "AMX bf16") {
        bf16 = std::max(bf16, result.gflops());
      }
      if (begins(result.what, "shared windows")) {  // the largest messages come last
        windows = result.gigabytes_per_second();
      }
      if (begins(result.what, "MPI_Alltoallv")) mpi = result.gigabytes_per_second();
    }
    if (peak == 0.0 || best_nt == 0.0 || best_nn == 0.0 || memory == 0.0) {
      throw_user_error(path, ": holds no limits; it is made by `witan bench limits --json ", path,
                       "`");
    }
  }

  double peak = 0.0, best_nt = 0.0, best_nn = 0.0, bf16 = 0.0;  // GFLOP/s
  double memory = 0.0, windows = 0.0, mpi = 0.0;                // GB/s
};

double memory_of_this_computer() {
  return static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<double>(sysconf(_SC_PAGE_SIZE)) * 1e-9;
}

int number_of(const BenchReport& report, const std::string& path, const char* key) {
  const auto found = report.machine.find(key);
  const int number = found == report.machine.end() ? 0 : std::atoi(found->second.c_str());
  if (number < 1) throw_user_error(path, ": machine.", key, " is missing");
  return number;
}

}  // namespace

double peak_flops(const configs::MachineConfig& machine,
                  configs::RuntimeConfig::Precision precision) {
  const double f32 = machine.f32_tflops() * 1e12;
  if (precision == configs::RuntimeConfig::FLOAT64) return f32 / 2.0;
  const bool bf16 = precision == configs::RuntimeConfig::BF16 && machine.has_bf16_tflops();
  return bf16 ? machine.bf16_tflops() * 1e12 : f32;
}

configs::MachineConfig measured_machine(const std::string& path,
                                        const std::optional<configs::MachineConfig>& base) {
  const BenchReport report = read_report(path);
  const Limits limits(path, report);
  const int ranks = number_of(report, path, "ranks");
  const int per_node = std::max(1, ranks / number_of(report, path, "nodes"));
  configs::MachineConfig machine = base.value_or(configs::MachineConfig{});
  if (!base) {
    machine.set_name("measured");
    machine.set_memory(memory_of_this_computer() / per_node);
  }
  machine.set_ranks(ranks);
  machine.set_ranks_per_node(per_node);
  // Products may be faster than the loop of multiply-adds on a machine that others use too.
  const double product = 2.0 / (1.0 / limits.best_nt + 1.0 / limits.best_nn);
  const double peak = std::max({limits.peak, limits.best_nt, limits.best_nn});
  machine.set_f32_tflops(peak / ranks * 1e-3);
  machine.set_matrix_efficiency(product / peak);
  if (limits.bf16 > 0.0) machine.set_bf16_tflops(limits.bf16 / ranks * 1e-3);
  machine.set_memory_bandwidth(limits.memory / ranks);
  if (limits.windows > 0.0) machine.mutable_intra_node()->set_bandwidth(limits.windows / ranks);
  if (limits.mpi > 0.0 && per_node < ranks) {
    machine.mutable_inter_node()->set_bandwidth(limits.mpi / ranks);
  }
  return machine;
}

}  // namespace witan
