// The subcommands of `witan`. Each adds itself to the parser; when it was given on the command
// line, `run` is set to what it does and returns the exit code: 0 done, 1 failed, 2 a mistake in
// the command line, config, data or checkpoint.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace witan {

using RunCommand = std::function<int()>;

void register_train(CLI::App& app, RunCommand& run);
void register_eval(CLI::App& app, RunCommand& run);
void register_generate(CLI::App& app, RunCommand& run);
void register_logits(CLI::App& app, RunCommand& run);
void register_prepare(CLI::App& app, RunCommand& run);
void register_inspect(CLI::App& app, RunCommand& run);
void register_convert(CLI::App& app, RunCommand& run);
void register_grow(CLI::App& app, RunCommand& run);
void register_profile(CLI::App& app, RunCommand& run);
void register_verify(CLI::App& app, RunCommand& run);
void register_bench(CLI::App& app, RunCommand& run);
void register_plan(CLI::App& app, RunCommand& run);

}  // namespace witan
