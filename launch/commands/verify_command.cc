// witan verify: whether what is computed for a config is right, on this machine and at this number
// of ranks.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "launch/checkpoint/output_file.h"
#include "launch/commands/commands.h"
#include "launch/mpi_session.h"
#include "launch/run_config.h"
#include "launch/verify/verify.h"

namespace witan {
namespace {

constexpr const char* kFooter = R"(
The config is reduced first, so that everything takes less than a minute: narrower, shorter, fewer
layers; router, balancers, kind of experts, shared experts, recompute and the order of layers stay
as they are. What was changed is printed. Without the config's data the tokens are synthetic.

  gradients        every tensor's gradient, written by hand, against central differences of the
                   loss, in float64, with the routing held
  expert_parallel  losses and gradients at every expert-parallel size of these ranks against one
  accumulation     micro-batches and ranks against one batch on one rank
  resume           steps, checkpoint, resume: the same bits as without
  reshape          a checkpoint saved at one layout and loaded at others: the same bits
  kernels          float32, bf16 and every level of this CPU against float64
  devices          with device: CUDA: gradients and steps on the GPUs against the same on the CPU,
                   in float64 and in the config's precision

With device: CUDA all of it is computed on GPUs, and "kernels" compares the precisions of the
device. That has run on a stand-in for GPUs only, on no GPU so far.

Examples:
  witan verify configs/presets/quickstart.textproto
  mpirun -n 4 witan verify configs/presets/quickstart.textproto --set parallel.expert=2
  mpirun -n 2 witan verify run.textproto --check gradients --check resume --json verify.json
  witan verify run.textproto --set device=CUDA --check devices

Keys of --json, tolerances: docs/verify.md.
Exit codes: 0 everything agrees, 4 something does not, 1 failed, 2 a mistake in the command line or
config.)";

struct Arguments {
  std::string config, json_file;
  std::vector<std::string> overrides;
  VerifyOptions options;
};

void print_start(const VerifyReport& report) {
  std::printf("%d ranks, EP %d, %d threads each; %s\n", report.ranks, report.expert_parallel,
              report.threads, report.kernels.c_str());
  std::printf("tokens: %s\nreduced:\n",
              report.reduced.own_data ? "the config's data" : "synthetic");
  for (const Reduction& change : report.reduced.changes) {
    std::printf("  %-44s %s -> %s\n", change.field.c_str(), change.from.c_str(), change.to.c_str());
  }
  std::printf("\n");
  std::fflush(stdout);
}

void print_result(const CheckResult& result) {
  std::printf("%s\n", result_line(result).c_str());
  std::fflush(stdout);
}

int run_verify(const Arguments& arguments) {
  const MpiEnvironment& mpi = mpi_session();
  RunConfigResult config;
  {
    const auto world = mpi.world(0.0);
    config = read_run_config(arguments.config, arguments.overrides, *world, verify_checks());
  }
  if (!config.ok) return 2;
  VerifyReport report =
      verify(config.config.run, arguments.options, {print_start, print_result}, mpi);
  report.config = arguments.config;
  const bool passed = all_passed(report.results);
  if (mpi.rank() == 0) {
    std::printf("\n%s, %.0f s\n",
                passed ? "everything agrees" : "SOMETHING DOES NOT AGREE: see FAILED above",
                report.seconds);
    if (!arguments.json_file.empty()) write_text_file(arguments.json_file, report_json(report));
  }
  return passed ? 0 : kDisagreementExitCode;
}

}  // namespace

void register_verify(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand(
      "verify", "Check gradients, parallelism, checkpoints and kernels on a config, reduced");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("config", arguments->config,
                   "Config in Protobuf text format (docs/config_reference.md)")
      ->required();
  command
      ->add_option("--set", arguments->overrides,
                   "Override a field of the config, before it is reduced: path=value (repeatable)")
      ->allow_extra_args(false);
  command
      ->add_option("--check", arguments->options.checks,
                   "Do this check only (repeatable); absent: all")
      ->type_name("NAME")
      ->allow_extra_args(false);
  command
      ->add_option("--folder", arguments->options.folder,
                   "Make temporary files in this folder, which all ranks see; absent: TMPDIR or "
                   "/tmp")
      ->type_name("DIR");
  command->add_option("--json", arguments->json_file, "Write the results to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([arguments, &run] { run = [arguments] { return run_verify(*arguments); }; });
}

}  // namespace witan
