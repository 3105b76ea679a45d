// witan profile: the tables of a profile that `witan train --profile` recorded, and one trace of
// all ranks.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "launch/checkpoint/output_file.h"
#include "launch/commands/commands.h"
#include "launch/profile/summary.h"
#include "launch/profile/trace_file.h"

namespace witan {
namespace {

constexpr const char* kFooter = R"(
witan train CONFIG --profile 10:20 writes RUN_FOLDER/profile/rank-00000.json, one file a rank. This
command prints where the time went, by phase, layer and collective, and merges the files into one
trace for Perfetto (https://ui.perfetto.dev) or chrome://tracing. A rank is a process there; phases
and waits stand on its thread "step", collectives on threads of their own. Clocks of different
nodes are aligned.

The time of a phase is its own: what runs inside it counts for what runs inside. Waiting for
collectives is part of the phase that waits. Bytes are what one rank sends to others: an all_reduce
counts as a ring sends it, 2 (n - 1) / n of the buffer.

Examples:
  witan train configs/presets/quickstart.textproto --profile 10:20
  witan profile runs/quickstart
  witan profile runs/quickstart --output trace.json --json profile.json

Keys of --json: docs/metrics.md.
Exit codes: 0 done, 1 failed, 2 a mistake in the command line or no such profile.)";

struct Arguments {
  std::string run_folder, output, json_file;
};

int run_profile(const Arguments& arguments) {
  const std::vector<RankTrace> traces = read_traces(arguments.run_folder);
  const ProfileSummary summary = summarize_profile(traces);
  std::fputs(profile_text(summary).c_str(), stdout);
  const std::string output = arguments.output.empty()
                                 ? profile_folder(arguments.run_folder) + "/trace.json"
                                 : arguments.output;
  write_merged_trace(output, traces);
  std::printf("\ntrace of all ranks: %s\n", output.c_str());
  if (!arguments.json_file.empty()) write_text_file(arguments.json_file, profile_json(summary));
  return 0;
}

}  // namespace

void register_profile(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand(
      "profile", "Where the time of profiled steps went; merge the traces of all ranks");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("run_folder", arguments->run_folder, "A run with a folder `profile`")
      ->required();
  command
      ->add_option("-o,--output", arguments->output,
                   "Write the trace of all ranks to this file; absent: "
                   "RUN_FOLDER/profile/trace.json")
      ->type_name("FILE");
  command->add_option("--json", arguments->json_file, "Write the figures to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([arguments, &run] { run = [arguments] { return run_profile(*arguments); }; });
}

}  // namespace witan
