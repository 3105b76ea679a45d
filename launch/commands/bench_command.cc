// witan bench: how fast this machine is, and how near to that the program comes.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "launch/bench/decode_bench.h"
#include "launch/bench/exchange_bench.h"
#include "launch/bench/gemm_bench.h"
#include "launch/bench/imbalance_bench.h"
#include "launch/bench/layer_bench.h"
#include "launch/bench/limits_bench.h"
#include "launch/bench/report.h"
#include "launch/bench/routing_bench.h"
#include "launch/bench/step_bench.h"
#include "launch/checkpoint/output_file.h"
#include "launch/commands/commands.h"
#include "launch/mpi_session.h"
#include "launch/run_config.h"
#include "launch/version.h"

namespace witan {
namespace {

constexpr const char* kFooter = R"(
Sections:
  limits     multiply-adds, matrix products, bfloat16 units, reading memory by level, MPI, shared memory
  gemm       the matrix products of the experts, by layout, rows and kernel
  layer      the MoE layer, forward and backward, balanced routing
  routing    every selection: router, permutation and its way back as a share of the layer
  step       whole training steps on random tokens
  exchange   rows to their experts and back, against MPI_Alltoallv (several ranks)
  decode     one token at a time, against the speed of reading the weights, and a sparse model against
             dense ones of as many active and of as many parameters
  imbalance  the layer with hot experts (MaxVio 0, 1, 4), against the busiest rank's bound

Every figure is a median; behind it stands the distance of the quartiles in percent. What is
compared is measured in turns. Phases are those of rank 0, each without the phases inside it. With several ranks, the time is that of the slowest one, work that
of all. "peak" is the faster of multiply-adds on registers and the best matrix product of that run.

On GPUs (--device cuda, or device: CUDA in the config) there are limits (copying memory, dense products
of cuBLAS in each precision, the all-to-all between GPUs), gemm, layer, step and decode. Times are those
between two events on the stream; "peak" is a dense product in the precision of the run, with operands
that lie ready for it. That has run on a stand-in for GPUs only: no figure of it is of a GPU so far.

Examples:
  witan bench
  witan bench layer --repeat 21 --json now.json --compare before.json
  mpirun -n 2 witan bench layer step
  witan bench limits layer step --device cuda --precision bf16
  witan bench layer step --config configs/presets/quickstart.textproto --set runtime.threads=1

Keys of --json: format, machine {version, cpu, gpu, kernels, ranks, threads (of each), nodes, precision,
  repeat, clock}, results [section, subject, what, seconds (median), seconds_quartiles [low, high],
  samples, flop, gflops, bytes (moved), gigabytes_per_second, tokens, tokens_per_second, ratios [of,
  value, at_least or at_most (what it should reach), holds]]

Exit codes: 0 done, 1 failed, or slower than --compare by more than the threshold, 2 a mistake in
the command line or config.)";

struct Arguments {
  std::vector<std::string> sections = {"all"};
  std::string config, json_file, compare_file, precision, device, clock = "wall";
  std::vector<std::string> overrides;
  int repeat = 11;
  double threshold = 1.1;
};

// The standard sizes, or those of a config.
struct Sizes {
  std::vector<LayerShape> layers;
  std::vector<StepShape> steps;
  std::vector<LayerShape> routing;
};

class Bench {
 public:
  Bench(const BenchSession& session, Sizes sizes) : session_(session), sizes_(std::move(sizes)) {}

  void limits() { add(bench_limits(session_)); }
  void gemm() { for_each(sizes_.layers, bench_gemm); }
  void layer() { for_each(sizes_.layers, bench_layer); }
  void routing() { for_each(sizes_.routing, bench_routing); }
  void step() { for_each(sizes_.steps, bench_step); }
  void exchange() { for_each(sizes_.layers, bench_exchange); }
  void imbalance() {
    for_each(sizes_.layers, bench_imbalance);
    for_each(sizes_.steps, bench_step_imbalance);
  }
  void decode() { for_each(sizes_.steps, bench_decode); }

  const std::vector<BenchResult>& results() const { return results_; }

 private:
  template <class Shape>
  void for_each(const std::vector<Shape>& shapes,
                std::vector<BenchResult> (*measure)(const BenchSession&, const Shape&)) {
    for (const Shape& shape : shapes) add(measure(session_, shape));
  }

  // Printed at once: the next section may take a while.
  void add(const std::vector<BenchResult>& results) {
    if (session_.leader()) std::fputs(text_table(results).c_str(), stdout);
    std::fflush(stdout);
    results_.insert(results_.end(), results.begin(), results.end());
  }

  const BenchSession& session_;
  Sizes sizes_;
  std::vector<BenchResult> results_;
};

struct Section {
  const char* name;
  void (Bench::*run)();
  bool of_layer;  // measures a MoE layer
  bool on_cuda;   // measures GPUs as well
};
constexpr Section kSections[] = {
    {"limits", &Bench::limits, false, true}, {"gemm", &Bench::gemm, true, true},
    {"layer", &Bench::layer, true, true},    {"routing", &Bench::routing, true, false},
    {"step", &Bench::step, false, true},     {"exchange", &Bench::exchange, true, false},
    {"decode", &Bench::decode, false, true}, {"imbalance", &Bench::imbalance, true, false}};

std::map<std::string, std::string> machine_of(const BenchSession& session,
                                              const Arguments& arguments) {
  std::map<std::string, std::string> machine = {
      {"version", version_text().substr(0, version_text().find('\n'))},
      {"cpu", cpu_name()},
      {"kernels", session.runtime.kernels},
      {"ranks", std::to_string(session.world.size())},
      {"threads", std::to_string(session.runtime.threads)},
      {"nodes", std::to_string(session.mpi.nodes())},
      {"precision", session.precision()},
      {"repeat", std::to_string(session.repeat)},
      {"clock", session.on_cuda() ? "events" : arguments.clock}};
  if (session.on_cuda()) {
    machine.emplace("gpu", cuda::device_properties(session.runtime.ctx.device).name);
  }
  return machine;
}

// Rank 0 alone; its exit code.
int finish(const Arguments& arguments, const BenchReport& report,
           const std::optional<BenchReport>& before) {
  if (!arguments.json_file.empty()) write_text_file(arguments.json_file, to_json(report));
  if (!before) return 0;
  const BenchComparison comparison = compare(*before, report, arguments.threshold);
  std::printf("against %s:\n%s", arguments.compare_file.c_str(), comparison.text.c_str());
  return comparison.slower.empty() ? 0 : 1;
}

bool wanted(const Arguments& arguments, const char* section) {
  return std::any_of(arguments.sections.begin(), arguments.sections.end(),
                     [&](const std::string& name) { return name == "all" || name == section; });
}

// A model without MoE layers has steps alone, and sections of layers that are asked for by name are
// a mistake.
Sizes sizes_of(const configs::RunConfig& run, int ranks, const Arguments& arguments) {
  Sizes sizes{{}, {step_of(run)}, {}};
  if (const std::optional<LayerShape> layer = layer_of(run, ranks))
    sizes.layers = sizes.routing = {*layer};
  for (const Section& section : kSections) {
    const auto& asked = arguments.sections;
    const bool named = std::find(asked.begin(), asked.end(), section.name) != asked.end();
    if (section.of_layer && named && sizes.layers.empty()) {
      throw_user_error(
          arguments.config, ": model.moe: \"", section.name,
          "\" measures a MoE layer with as many experts for every token, and this model has none");
    }
  }
  return sizes;
}

// What cannot be measured on GPUs, asked for by name.
void check_cuda(const Arguments& arguments) {
  if (!cuda::built_with_cuda()) {
    throw_user_error(
        "--device: found cuda, but this witan was built without it; configure with "
        "-DWITAN_CUDA=ON, or use cpu");
  }
  if (arguments.clock == "cpu") {
    throw_user_error("--clock: cpu counts the time of threads; on GPUs leave it out");
  }
  for (const Section& section : kSections) {
    const auto& asked = arguments.sections;
    if (section.on_cuda || std::find(asked.begin(), asked.end(), section.name) == asked.end()) {
      continue;
    }
    throw_user_error(
        "sections: \"", section.name,
        "\" measures the CPU only; on GPUs there are limits, gemm, layer, step, decode");
  }
}

void set_precision(const std::string& name, configs::RuntimeConfig& runtime) {
  if (name == "f32") runtime.set_precision(configs::RuntimeConfig::FLOAT32);
  if (name == "bf16") runtime.set_precision(configs::RuntimeConfig::BF16);
  if (name == "f64") runtime.set_precision(configs::RuntimeConfig::FLOAT64);
}

int run_bench(const Arguments& arguments) {
  const MpiEnvironment& mpi = mpi_session();
  const auto world = mpi.world(0.0);
  // A file that cannot be read is said before the time is spent.
  std::optional<BenchReport> before;
  if (!arguments.compare_file.empty() && world->rank() == 0) {
    before = read_report(arguments.compare_file);
  }
  configs::RunConfig run;
  Sizes sizes{standard_layers(), standard_steps(), {many_experts_layer()}};
  if (!arguments.config.empty()) {
    std::vector<std::string> overrides = arguments.overrides;
    if (!arguments.device.empty()) {
      overrides.emplace_back(arguments.device == "cuda" ? "device=CUDA" : "device=CPU");
    }
    const RunConfigResult result = read_run_config(arguments.config, overrides, *world);
    if (!result.ok) return 2;
    run = result.config.run;
    sizes = sizes_of(run, world->size(), arguments);
  }
  if (arguments.config.empty() && arguments.device == "cuda") run.set_device(configs::CUDA);
  set_precision(arguments.precision, *run.mutable_runtime());
  const bool on_cuda = run.device() == configs::CUDA;
  if (on_cuda) check_cuda(arguments);
  const RawMpi raw_mpi(mpi);
  const BenchSession session{mpi,
                             *world,
                             raw_mpi,
                             start_runtime(run.runtime(), mpi, run.device()),
                             arguments.repeat,
                             arguments.clock == "cpu" ? BenchClock::kCpu : BenchClock::kWall,
                             device_transport(run)};
  const BenchReport header{machine_of(session, arguments), {}};
  if (session.leader()) {
    for (const auto& [name, value] : header.machine) {
      std::printf("%s: %s\n", name.c_str(), value.c_str());
    }
  }
  Bench bench(session, std::move(sizes));
  for (const Section& section : kSections) {
    if (!wanted(arguments, section.name)) continue;
    if (!on_cuda || section.on_cuda) {
      (bench.*section.run)();
    } else if (session.leader()) {
      std::printf("%s: left out, since it measures the CPU only\n", section.name);
    }
  }
  if (!session.leader()) return 0;
  return finish(arguments, {header.machine, bench.results()}, before);
}

void add_options(CLI::App& command, Arguments& arguments) {
  std::vector<std::string> names = {"all"};
  for (const Section& section : kSections) names.emplace_back(section.name);
  command.add_option("sections", arguments.sections, "What to measure; nothing: all")
      ->check(CLI::IsMember(names));
  auto* config =
      command
          .add_option("--config", arguments.config,
                      "Measure the model and batch of this config, not the standard ones")
          ->type_name("FILE");
  command.add_option("--set", arguments.overrides, "Override a field of --config: path=value")
      ->needs(config)
      ->allow_extra_args(false);
  command
      .add_option(
          "--precision", arguments.precision,
          "f32, bf16 (beside f32, where both are measured) or f64; default: what --config says")
      ->check(CLI::IsMember({"f32", "bf16", "f64"}));
  command
      .add_option("--device", arguments.device,
                  "cpu, or cuda: a GPU for each rank; default: what --config says")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command.add_option("--repeat", arguments.repeat, "Measurements of each thing")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command
      .add_option(
          "--clock", arguments.clock,
          "wall; cpu: the time that the threads were given, for a machine that others use; "
          "blind to threads that wait asleep (start it with OMP_WAIT_POLICY=passive, so that "
          "all of them do)")
      ->capture_default_str()
      ->check(CLI::IsMember({"wall", "cpu"}));
  command.add_option("--json", arguments.json_file, "Write the figures to this file")
      ->type_name("FILE");
  auto* compared = command
                       .add_option("--compare", arguments.compare_file,
                                   "Compare with an earlier --json file; exit code 1 if slower")
                       ->type_name("FILE");
  command
      .add_option("--threshold", arguments.threshold,
                  "Factor above which --compare calls it slower")
      ->needs(compared)
      ->capture_default_str()
      ->check(CLI::Range(1.0, 1000.0));
}

}  // namespace

void register_bench(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand(
      "bench", "Measure this machine's limits, and how near to them Witan comes");
  auto arguments = std::make_shared<Arguments>();
  add_options(*command, *arguments);
  command->footer(kFooter);
  command->callback([arguments, &run] { run = [arguments] { return run_bench(*arguments); }; });
}

}  // namespace witan
