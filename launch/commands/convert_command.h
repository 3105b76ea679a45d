// `witan convert`: Hugging Face folders to checkpoints and back.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace witan {

// Adds the subcommand to `app`; when it is on the command line, parsing sets `run` to what returns
// its exit code.
void register_convert(CLI::App& app, std::function<int()>& run);

}  // namespace witan
