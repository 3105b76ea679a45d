// witan train: a training run from a config file.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/base/cuda/stream_cuda.h"
#include "core/ops/cuda/cublas_workspace.h"
#include "core/tensor/device_memory.h"
#include "launch/commands/commands.h"
#include "launch/mpi_session.h"
#include "launch/plan/memory_advice.h"
#include "launch/run_config.h"
#include "launch/train_run.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  bool print_config = false;
  TrainOptions options;
};

int run_train(const Arguments& arguments) {
  const MpiEnvironment& mpi = mpi_session();
  RunConfigResult result;
  {
    const auto world = mpi.world(0.0);
    result = read_run_config(arguments.config, arguments.overrides, *world);
  }
  if (!result.ok) return 2;
  if (arguments.print_config) {
    if (mpi.rank() == 0) std::fputs(configs::print_effective(result.config).c_str(), stdout);
    return 0;
  }
  try {
    return train(result.config, arguments.options, mpi);
  } catch (const OutOfDeviceMemory& error) {
    PlanSubject subject(result.config.run);
    subject.cublas_workspace = static_cast<std::int64_t>(
        ops::cuda::cublas_workspace_bytes(cuda::compute_capability_major({DeviceType::kCuda, 0})));
    const PlanLayout layout = configured_layout(result.config.run, mpi.size(), mpi.local_size());
    const std::string advice =
        memory_advice(subject, layout, 1.0, static_cast<std::int64_t>(error.budget()));
    throw OutOfDeviceMemory(detail::concat(error.what(), "\nby `witan plan` ", advice),
                            error.budget());
  }
}

}  // namespace

void register_train(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand("train", "Train a model from a config file");
  auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("config", arguments->config,
                   "Config in Protobuf text format (docs/config_reference.md)")
      ->required();
  command
      ->add_option("--set", arguments->overrides,
                   "Override a field: path=value, for example optimizer.lr=3e-4 (repeatable)")
      ->allow_extra_args(false);
  command->add_flag("--print-config", arguments->print_config,
                    "Print the effective config, and where each value comes from, and exit");
  command->add_option(
      "--resume", arguments->options.resume,
      "auto: the newest complete checkpoint of the run folder, else a fresh start; or "
      "a checkpoint folder");
  command
      ->add_option("--profile", arguments->options.profile,
                   "Record a profile of these steps: FIRST:LAST, both included and numbered as in "
                   "metrics.jsonl, or a number of steps, behind a warm-up of 3; see witan profile")
      ->type_name("STEPS");
  command->add_option("--json", arguments->options.json_file,
                      "Write the closing summary to this file (keys: docs/metrics.md)");
  command->footer(
      "Examples:\n"
      "  witan train configs/presets/quickstart.textproto\n"
      "  mpirun -n 4 witan train configs/presets/quickstart.textproto --set optimizer.lr=3e-4 "
      "--set "
      "parallel.expert=4\n"
      "  mpirun -n 4 witan train run.textproto --resume auto\n"
      "  mpirun -n 4 witan train run.textproto --profile 10:20, then witan profile runs/NAME\n"
      "SIGUSR1 to mpirun or srun stops gracefully: the step is finished, a checkpoint written, "
      "exit code "
      "0.\n"
      "Exit codes: 0 done or stopped gracefully, 1 failed, 2 a mistake in the command line, "
      "config, data "
      "or checkpoint.");
  command->callback([arguments, &run] { run = [arguments] { return run_train(*arguments); }; });
}

}  // namespace witan
