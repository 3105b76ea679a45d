// witan bench: how fast this machine is, and how near to that the program comes.
#include <cstdio>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "launch/bench/layer_bench.h"
#include "launch/bench/limits_bench.h"
#include "launch/commands/commands.h"
#include "launch/mpi_session.h"
#include "launch/run_config.h"

namespace witan {
namespace {

struct Arguments {
  std::vector<std::string> sections = {"all"};
  std::string config;
  std::vector<std::string> overrides;
  int repeat = 11;
};

struct Section {
  const char* name;
  std::function<void()> run;
};

class Bench {
 public:
  Bench(const Arguments& arguments, const BenchSession& session, std::vector<LayerShape> layers)
      : arguments_(arguments), session_(session), layers_(std::move(layers)) {}

  void run() {
    const Section sections[] = {{"limits", [&] { report(bench_limits(session_)); }},
                                {"layer", [&] { layer(); }}};
    std::set<std::string> wanted(arguments_.sections.begin(), arguments_.sections.end());
    for (const Section& section : sections) {
      if (wanted.count("all") + wanted.count(section.name) > 0) section.run();
    }
  }

 private:
  void layer() {
    for (const LayerShape& shape : layers_) report(bench_layer(session_, shape));
  }

  void report(const std::vector<BenchResult>& results) {
    if (!session_.leader() || results.empty()) return;
    std::fputs(text_table(results, results.front().section).c_str(), stdout);
    std::fflush(stdout);
  }

  const Arguments& arguments_;
  const BenchSession& session_;
  std::vector<LayerShape> layers_;
};

int run_bench(const Arguments& arguments) {
  const MpiEnvironment& mpi = mpi_session();
  const auto world = mpi.world(0.0);
  configs::RunConfig run;
  std::vector<LayerShape> layers = standard_layers();
  if (!arguments.config.empty()) {
    const RunConfigResult result = read_run_config(arguments.config, arguments.overrides, *world);
    if (!result.ok) return 2;
    run = result.config.run;
    layers = {layer_of(run, world->size())};
  }
  const BenchSession session{mpi, *world, start_runtime(run.runtime(), mpi), arguments.repeat};
  if (session.leader()) {
    std::printf("%s, %d ranks with %d threads\n", session.runtime.kernels.c_str(), world->size(),
                session.runtime.threads);
  }
  Bench(arguments, session, std::move(layers)).run();
  return 0;
}

}  // namespace

void register_bench(CLI::App& app, RunCommand& run) {
  CLI::App* command = app.add_subcommand(
      "bench", "Measure this machine's limits, and how near to them Witan comes");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("sections", arguments->sections, "What to measure")
      ->check(CLI::IsMember({"limits", "layer", "all"}));
  command
      ->add_option("--config", arguments->config,
                   "Measure the model of this config instead of the standard shapes")
      ->type_name("FILE");
  command->add_option("--set", arguments->overrides, "Override a field of --config: path=value")
      ->allow_extra_args(false);
  command->add_option("--repeat", arguments->repeat, "Measurements of each thing")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command->callback([arguments, &run] { run = [arguments] { return run_bench(*arguments); }; });
}

}  // namespace witan
