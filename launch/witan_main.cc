// The program: parses the command line, runs one subcommand, and is the only place that catches.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "core/base/error.h"
#include "launch/commands/commands.h"
#include "launch/mpi_session.h"
#include "launch/version.h"

namespace {

// One readable message, then the end of every rank: a rank that failed alone must not leave the
// others waiting.
int fail(const char* message, int code) {
  std::fflush(stdout);
  std::fprintf(stderr, "witan: %s\n", message);
  std::fflush(stderr);
  if (witan::mpi_session_active() && witan::mpi_session().size() > 1) {
    witan::MpiEnvironment::abort(code);
  }
  return code;
}

int run(int argc, char** argv) {
  CLI::App app{
      "Witan trains Mixture-of-Experts models with expert parallelism.\n"
      "Start several ranks with mpirun or srun: mpirun -n 4 witan train CONFIG"};
  app.set_version_flag("--version", witan::version_text());
  app.require_subcommand(1);
  witan::RunCommand command;
  witan::register_train(app, command);
  witan::register_eval(app, command);
  witan::register_generate(app, command);
  witan::register_logits(app, command);
  witan::register_prepare(app, command);
  witan::register_inspect(app, command);
  witan::register_convert(app, command);
  witan::register_grow(app, command);
  witan::register_profile(app, command);
  witan::register_verify(app, command);
  witan::register_bench(app, command);
  witan::register_plan(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const int code = command();
  witan::finish_mpi_session();
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const witan::UserError& error) {
    return fail(error.what(), 2);
  } catch (const std::exception& error) {
    return fail(error.what(), 1);
  }
}
