// witan plan: what a config costs, before anything is allocated.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "configs/load.h"
#include "configs/load_machine.h"
#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "core/tensor/device_memory.h"
#include "launch/checkpoint/output_file.h"
#include "launch/commands/commands.h"
#include "launch/plan/plan.h"
#include "launch/run_config.h"

namespace witan {
namespace {

constexpr const char* kFooter = R"(
Counts come from the table of tensors: nothing is allocated and no MPI is started. Memory is that
of the busiest rank (with device: CUDA of its GPU), sent bytes the mean. With a machine, layouts of all its ranks are compared:
EP x DP x micro-batch x recompute at the config's train.global_batch. What the figures are made of
and how far they are off: docs/plan.md. Fields of a machine: docs/config_reference.md.

Examples:
  witan plan configs/presets/quickstart.textproto
  witan plan configs/presets/quickstart.textproto --ranks 4 --imbalance 1.5
  witan plan run.textproto --set device=CUDA --ranks 8 --device-memory 80GiB
  witan plan run.textproto --machine configs/machines/h100.textproto --ranks 64 --json plan.json
  witan bench limits --json limits.json && witan plan run.textproto --measured limits.json
  witan plan --table configs/presets/*.textproto

Keys of --json: docs/plan.md.
Exit codes: 0 done (also when nothing fits), 1 failed, 2 a mistake in the command line, the config
or the machine.)";

struct Arguments {
  std::vector<std::string> configs, overrides;
  std::string machine_file, measured_file, json_file;
  std::uint64_t device_memory = 0;  // 0: that of the GPU that is there
  int ranks = 0;                    // 0: the machine's, or 1
  double imbalance = 1.0;
  int layouts = 5;
  bool table = false;
};

// Nothing: a mistake, which is printed.
template <class Loaded>
bool good(const Loaded& loaded) {
  for (const configs::ConfigError& error : loaded.errors) {
    std::fprintf(stderr, "%s\n", error.to_string().c_str());
  }
  return loaded.errors.empty();
}

// False: a mistake in the file. Nothing in `machine`: none was asked for.
bool load_machine_of(const Arguments& arguments, std::optional<configs::MachineConfig>& machine) {
  if (!arguments.machine_file.empty()) {
    configs::LoadedMachine loaded =
        configs::load_machine_file(arguments.machine_file, arguments.ranks);
    if (!good(loaded)) return false;
    machine = std::move(loaded.machine);
  }
  if (!arguments.measured_file.empty()) {
    machine = measured_machine(arguments.measured_file, machine);
  }
  return true;
}

// The GPU of each rank, where the config is for GPUs: what --device-memory says, or the first one
// of this computer; nothing where neither is there.
std::optional<PlannedGpu> gpu_of(const Arguments& arguments, const configs::RunConfig& run) {
  if (run.device() != configs::CUDA) {
    if (arguments.device_memory == 0) return std::nullopt;
    throw_user_error("--device-memory is for device: CUDA; this config's device is CPU");
  }
  PlannedGpu gpu;
  const Device here{DeviceType::kCuda, 0};
  const bool present = cuda::device_count() > 0;
  if (present) {
    gpu.compute_capability_major = cuda::compute_capability_major(here);
    gpu.bytes = static_cast<std::int64_t>(device_memory(here).total);
    gpu.of = "GPU 0 of this computer";
  }
  if (arguments.device_memory > 0) {
    gpu.bytes = static_cast<std::int64_t>(arguments.device_memory);
    gpu.of = "--device-memory";
  }
  if (gpu.bytes == 0) return std::nullopt;
  return gpu;
}

void write(const Arguments& arguments, const std::string& text, const std::string& json) {
  std::fputs(text.c_str(), stdout);
  if (!arguments.json_file.empty()) write_text_file(arguments.json_file, json);
}

int run_table(const Arguments& arguments) {
  std::vector<Plan> plans;
  bool all_good = true;
  for (const std::string& file : arguments.configs) {
    const configs::LoadedConfig config =
        configs::load_file(file, arguments.overrides, model_checks());
    if (!good(config)) {
      all_good = false;
      continue;
    }
    configs::RunConfig run = config.run;
    run.clear_parallel();  // counts of the model alone
    plans.push_back(make_plan(run, std::nullopt, 1, 1.0));
  }
  if (!all_good) return 2;
  write(arguments, comparison_text(plans), comparison_json(plans));
  return 0;
}

int run_plan(const Arguments& arguments) {
  if (arguments.table) return run_table(arguments);
  if (arguments.configs.size() > 1) {
    throw_user_error("witan plan takes one config, found ", arguments.configs.size(),
                     "; --table compares several");
  }
  std::optional<configs::MachineConfig> machine;
  if (!load_machine_of(arguments, machine)) return 2;
  const int ranks = machine ? static_cast<int>(machine->ranks()) : std::max(1, arguments.ranks);
  const configs::LoadedConfig config =
      configs::load_file(arguments.configs.front(), arguments.overrides, planning_checks(ranks));
  if (!good(config)) return 2;
  const Plan plan = make_plan(config.run, machine, ranks, arguments.imbalance,
                              machine ? std::nullopt : gpu_of(arguments, config.run));
  write(arguments, plan_text(plan, static_cast<std::size_t>(arguments.layouts)), plan_json(plan));
  return 0;
}

}  // namespace

void register_plan(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand(
      "plan", "Parameters, FLOPs, memory, traffic and step time of a config, beforehand");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("config", arguments->configs,
                   "Config in Protobuf text format (docs/config_reference.md)")
      ->required();
  command
      ->add_option("--set", arguments->overrides,
                   "Override a field of the config: path=value (repeatable)")
      ->allow_extra_args(false);
  CLI::Option* machine =
      command->add_option("--machine", arguments->machine_file, "Machine description");
  machine->type_name("FILE");
  CLI::Option* measured = command->add_option(
      "--measured", arguments->measured_file,
      "Limits that `witan bench limits --json` wrote: over the figures of --machine, or alone");
  measured->type_name("FILE");
  command->add_option("--ranks", arguments->ranks, "Ranks; absent: the machine's, or 1")
      ->check(CLI::Range(1, 1 << 20))
      ->excludes(measured);
  command
      ->add_option(
          "--device-memory", arguments->device_memory,
          "Memory of each rank's GPU with device: CUDA, like 80GiB or 80GB (1e9 bytes): whether "
          "the run fits, and what would; absent: that of GPU 0 of this computer, if there is one")
      ->transform(CLI::AsSizeValue(true))
      ->excludes(machine)
      ->excludes(measured);
  command
      ->add_option("--imbalance", arguments->imbalance,
                   "Load of the busiest rank over the mean; 1 is balanced")
      ->check(CLI::Range(1.0, 1e6));
  command->add_option("--layouts", arguments->layouts, "How many of the best layouts to list")
      ->check(CLI::Range(1, 1000));
  command
      ->add_flag("--table", arguments->table,
                 "Compare the models of several configs: total, active, FLOPs against dense")
      ->excludes(machine)
      ->excludes(measured);
  command->add_option("--json", arguments->json_file, "Write the figures to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([arguments, &run] { run = [arguments] { return run_plan(*arguments); }; });
}

}  // namespace witan
